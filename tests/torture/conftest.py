"""What is told only to those who ask for it: `make torture`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("torture")
    group.addoption("--seed", type=int, help="only this seed of what is random")
    group.addoption("--seeds", type=int, help="so many seeds of what is random")


@pytest.fixture
def at_length(request: pytest.FixtureRequest) -> None:
    """For tests that `make test` has no time for."""
    if "torture" not in (request.config.getoption("markexpr") or ""):
        pytest.skip("takes long: `make torture`")
