"""Fixtures of the tests that work on real trees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lifecycle_sync.fileops import FileOps
from tests.support.house import House
from tests.support.tripwire import RegistryTripwire, Tripwire


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    """An empty root and an engine on it."""
    made = House(tmp_path)
    yield made
    made.engine.close()


@pytest.fixture(params=["reads", "registry"])
def wired(request, tmp_path) -> Iterator[tuple[House, Tripwire | RegistryTripwire]]:
    """A root, and what can interrupt a pass over it: at any read of it, or at any call of its
    registry."""
    if request.param == "reads":
        reads = Tripwire(FileOps())
        house = House(tmp_path, fs=reads)
        yield house, reads
    else:
        house = House(tmp_path)
        yield house, house.wire_registry()
    house.engine.close()
