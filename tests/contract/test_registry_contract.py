from __future__ import annotations

from pathlib import Path

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.memory_registry import MemoryRegistry
from lifecycle_sync.testing.registry_contract import RegistryContract


class TestMemoryRegistry(RegistryContract):
    persistent = False

    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return MemoryRegistry(clock)


class TestSqliteRegistry(RegistryContract):
    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return SqliteRegistry.open(folder / "registry.db", clock=clock)


def test_no_part_of_the_contract_hides_a_test_of_another():
    names = [
        name for part in RegistryContract.__mro__ for name in vars(part) if name.startswith("test_")
    ]
    assert len(names) == len(set(names)) > 100
