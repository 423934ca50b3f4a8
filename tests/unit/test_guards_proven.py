"""The guards that `make guard-proof` takes out stand where it looks for them."""

from __future__ import annotations

import pytest

from scripts.guard import Proof
from scripts.guard_proof import check
from scripts.guards import PROOFS


@pytest.mark.parametrize("proof", PROOFS, ids=lambda it: it.name)
def test_the_text_of_a_guard_stands_in_the_code_once(proof: Proof):
    assert check(proof) == ""
