"""What changes in a registry, line by line: the feed of changes read on from a cursor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import NamedTuple

from lifecycle_sync.model.file import FileRecord, LifecycleState, Tracking
from lifecycle_sync.service.engine import Engine

_PAGE = 1_000
_REMEMBERED = 10_000


class ChangeKind(StrEnum):
    ADDED = "added"
    UPDATED = "updated"
    MOVED = "moved"
    REMOVED = "removed"


class Change(NamedTuple):
    """A record as it is now, and what became of it since it was told last. `before` is where it was
    when it moved, where that is known."""

    kind: ChangeKind
    record: FileRecord
    before: bytes | None = None


class _Told(NamedTuple):
    path: bytes
    state: LifecycleState
    size: int
    mtime_ns: int
    ctime_ns: int


class Feed:
    """Changes from now on, or after the change numbered `since`, in those of `roots`, or in all.

    A file whose checksum alone has become known is not told. Not thread-safe.
    """

    def __init__(
        self,
        engine: Engine,
        roots: Collection[bytes] | None = None,
        *,
        since: int | None = None,
    ) -> None:
        self._engine = engine
        self._roots = None if roots is None else frozenset(roots)
        self.cursor = engine.registry.last_seq() if since is None else since
        self._begun_ns = engine.now_ns()
        # What was told of the files that were told last.
        self._told: OrderedDict[bytes, _Told] = OrderedDict()

    def read(self) -> Iterator[Change]:
        """All that changed since the last call."""
        while page := self._engine.changes(self.cursor, _PAGE):
            for record in page:
                if self._roots is None or record.repository_id in self._roots:
                    change = self._judge(record)
                    if change is not None:
                        yield change
            self.cursor = page[-1].seq

    def _judge(self, record: FileRecord) -> Change | None:
        if record.tracking is not Tracking.TRACKED:
            return None
        now = _Told(record.path, record.state, record.size, record.mtime_ns, record.ctime_ns)
        before = self._told.pop(record.file_id, None)
        self._told[record.file_id] = now
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        if record.state is LifecycleState.DELETED:
            return Change(ChangeKind.REMOVED, record)
        if before is None:
            new = record.registered_ns >= self._begun_ns
            if not new and max(record.ctime_ns, record.state_since_ns) < self._begun_ns:
                # Nothing happened to the file: its checksum has become known.
                return None
            return Change(ChangeKind.ADDED if new else ChangeKind.UPDATED, record)
        if before.path != record.path:
            return Change(ChangeKind.MOVED, record, before.path)
        return None if before == now else Change(ChangeKind.UPDATED, record)
