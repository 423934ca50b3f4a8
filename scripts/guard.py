"""A guard of the code, and what proves it: see `guard_proof`."""

from __future__ import annotations

from typing import NamedTuple


class Proof(NamedTuple):
    """One guard, where it stands, what the code is without it, and a test that fails then."""

    name: str
    file: str
    old: str
    new: str
    test: str
