"""An error at any operation of an act: the order ends with a clear one, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.support.points import ERRORS, Case
from tests.support.workloads import WORKLOADS


@pytest.mark.faults
@pytest.mark.parametrize("fault", ERRORS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_an_error_in_an_act_loses_nothing(workload, fault, part, try_case):
    try_case(Case(WORKLOADS[workload], fault), sample=1, part=part)
