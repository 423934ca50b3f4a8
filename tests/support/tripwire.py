"""File operations, and a registry, that do something at one chosen call, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.fileops import FileOpsWrapper, Proceed

if TYPE_CHECKING:
    from tests.support.house import House

# How a tree is changed.
CHANGES = frozenset({"create", "write", "fsync", "rename", "mkdir", "unlink"})
# How it is read. (`close` never fails on what was only read.)
READS = frozenset(
    {"listdir", "stat", "fstat", "open_directory", "open_read_stat", "pread", "preadv"}
)

Action = Callable[[], object]


class Tripwire(FileOpsWrapper):
    """`arm(action, nth)`: the action runs right before the nth read (or call of `methods`) from
    then on; without an action it is disarmed. `sprung` says whether it has run.
    """

    def __init__(self, inner: FileOps) -> None:
        self._action: Action | None = None
        self._methods = READS
        self._left = 0
        self.sprung = False

    def arm(
        self, action: Action | None = None, nth: int = 1, methods: frozenset[str] = READS
    ) -> None:
        self._action, self._left, self._methods = action, nth, methods
        self.sprung = False

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._action is not None and method in self._methods:
            self._left -= 1
            if self._left == 0:
                self.sprung = True
                action, self._action = self._action, None
                action()
        return proceed(*args, **kwargs)


class RegistryTripwire:
    """A registry that does something right before the nth call of its methods; see `Tripwire`.

    Calls that the action itself makes are not counted.
    """

    def __init__(self, registry: SqliteRegistry) -> None:
        self._registry = registry
        self._action: Action | None = None
        self._methods: frozenset[str] | None = None
        self._left = 0
        self.sprung = False

    def arm(
        self, action: Action | None = None, nth: int = 1, methods: frozenset[str] | None = None
    ) -> None:
        self._action, self._left, self._methods = action, nth, methods
        self.sprung = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._registry, name)
        if not callable(found) or self._action is None:
            return found

        def method(*args: Any, **kwargs: Any) -> Any:
            if self._action is not None and (self._methods is None or name in self._methods):
                self._left -= 1
                if self._left == 0:
                    self.sprung = True
                    action, self._action = self._action, None
                    action()
            return found(*args, **kwargs)

        return method


def passes(house: House, wire: Tripwire | RegistryTripwire, action: Action) -> Iterator[int]:
    """After each pass in which the action happened at another step, until there is none left."""
    for nth in count(1):
        wire.arm(action, nth)
        house.engine.sync([house.repository])
        if not wire.sprung:
            assert nth > 10
            return
        wire.arm()
        yield nth
