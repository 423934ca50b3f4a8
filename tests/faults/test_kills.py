"""A process that is killed before or after any change of a file, or any commit, loses nothing.

Whoever comes next recovers, and then the registry tells what lies there; a second recovery finds
nothing; the order, given again, comes to the end that it would have come to at once.
"""

from __future__ import annotations

import pytest

from tests.support.points import Case
from tests.support.workloads import RECOVERIES, WORKLOADS


@pytest.mark.faults
@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_kill_in_an_act_loses_nothing(workload, try_case):
    try_case(Case(WORKLOADS[workload]))


@pytest.mark.faults
@pytest.mark.parametrize("workload", RECOVERIES)
def test_a_kill_in_recovery_loses_nothing(workload, try_case):
    try_case(Case(RECOVERIES[workload]), sample=1)
