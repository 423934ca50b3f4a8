"""What a vault may tell of a root and its files, for tests that have a registry learn it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from lifecycle_sync.model.content import ContentKey, Metadata
from lifecycle_sync.model.event import (
    AssignmentEvent,
    RepositoryEvent,
    StateEvent,
    VersionEvent,
)
from lifecycle_sync.model.file import FileRecord, Kind, LifecycleState
from lifecycle_sync.model.repository import RepositoryKind
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.testing.registry_contract_base import MANY, START_NS, House

_S = LifecycleState
OTHER_REGISTRY = b"another registry"


def hours(number: float) -> int:
    """A time of before the registry was made, which was at hour 100."""
    return START_NS + int((number - 100) * 3600 * 1_000_000_000)


@dataclass
class Story:
    """What a vault may tell of one root and its files, in few words."""

    house: House
    root: bytes
    path: bytes = b"/srv/lost"
    ids: dict[str, bytes] = field(default_factory=dict)

    def id(self, name: str) -> bytes:
        """The id that a name stands for."""
        return self.ids.setdefault(name, self.house.ids.one())

    def repository(self, at: float = 1, **fields: Any) -> RepositoryEvent:
        event = RepositoryEvent(
            self.root, self.path, RepositoryKind.ROOT, False, OTHER_REGISTRY, hours(at)
        )
        return replace(event, **fields)

    def metadata(self, size: int = 7, **fields: Any) -> Metadata:
        data = Metadata(Kind.REGULAR, size, 0o640, 5, 6, mtime_ns=hours(0), ctime_ns=hours(0))
        return replace(data, **{"inode": 77, "nlink": 2, "atime_ns": 3, **fields})

    def version(
        self, name: str, at: float, number: int = 1, path: bytes | None = None, **fields: Any
    ) -> VersionEvent:
        event = VersionEvent(
            file_id=self.id(name),
            repository_id=self.root,
            path=name.encode() if path is None else path,
            number=number,
            version_id=self.id(f"version {name} {number} {at}"),
            content=ContentKey("sha256", bytes([number % 256]) * 32),
            metadata=self.metadata(number),
            policy_name="documents",
            policy_explicit=False,
            state=_S.BACKUP_COMPLETE,
            at_ns=hours(at),
            operation_id=self.house.ids.one(),
        )
        return replace(event, **fields)

    def state(
        self, name: str, at: float, state: LifecycleState, path: bytes | None = None
    ) -> StateEvent:
        where = name.encode() if path is None else path
        return StateEvent(
            self.id(name), self.root, where, state, hours(at), self.house.ids.one(), "told"
        )

    def assignment(
        self, name: str, at: float, policy: str, *, explicit: bool = True
    ) -> AssignmentEvent:
        return AssignmentEvent(self.id(name), self.root, name.encode(), policy, explicit, hours(at))


def learned(registry: Registry, files: Iterable[bytes]) -> dict[str, Any]:
    """All that events can teach a registry, in words that do not depend on when it learned it."""
    return {
        "records": {record.file_id: without_traces(record) for record in registry.changes(0, MANY)},
        "versions": {file: registry.versions(file) for file in files},
        "journal": {file: registry.operations(file, MANY) for file in files},
        "copies": {record.file_id: record.backup_path for record in registry.changes(0, MANY)},
        "repositories": registry.repositories(),
        "policies": sorted(registry.policies(), key=lambda policy: policy.name),
        "holds": registry.holds(),
        "confirmations": {
            root.repository_id: registry.confirmations(root.repository_id)
            for root in registry.repositories()
        },
    }


def without_traces(record: FileRecord) -> FileRecord:
    """A record without what only says when it was written and looked at."""
    return replace(record, seq=0, changed_ns=0, scanned_ns=0, scan_generation=0)
