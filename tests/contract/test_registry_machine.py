from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.memory_registry import MemoryRegistry
from lifecycle_sync.testing.registry_machine_acts import RegistryActMachine

FAST = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class MemoryMachine(RegistryActMachine):
    persistent = False

    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return MemoryRegistry(clock)


class SqliteMachine(RegistryActMachine):
    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return SqliteRegistry.open(folder / "registry.db", clock=clock)


TestMemoryRegistryLives = MemoryMachine.TestCase
TestSqliteRegistryLives = SqliteMachine.TestCase
TestMemoryRegistryLives.settings = FAST
TestSqliteRegistryLives.settings = FAST
