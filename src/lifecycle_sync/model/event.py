"""What a vault's manifests tell: each event is something that must outlive the database.

Ids are 16 bytes, times nanoseconds since 1970 UTC, paths bytes relative to the root of their
repository (that of a `RepositoryEvent` is absolute).
"""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_sync.model.content import ContentKey, Metadata
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.repository import RepositoryKind


@dataclass(frozen=True, slots=True)
class VersionEvent:
    """A version of a file was kept: its content (None for a symlink) and all around it.

    `number` counts the versions of a file from 1; `state` is what the file became by it.
    """

    file_id: bytes
    repository_id: bytes
    path: bytes
    number: int
    version_id: bytes
    content: ContentKey | None
    metadata: Metadata
    policy_name: str
    policy_explicit: bool
    state: LifecycleState
    at_ns: int
    operation_id: bytes


@dataclass(frozen=True, slots=True)
class StateEvent:
    """A file became something without a new version: deleted, undeleted, recalled, purged."""

    file_id: bytes
    repository_id: bytes
    path: bytes
    state: LifecycleState
    at_ns: int
    operation_id: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DirectoryEvent:
    """What a directory was like; the root's own path is empty."""

    repository_id: bytes
    path: bytes
    metadata: Metadata
    at_ns: int


@dataclass(frozen=True, slots=True)
class RepositoryEvent:
    """A repository was added or moved, or its enforcement changed; `path` is absolute."""

    repository_id: bytes
    path: bytes
    kind: RepositoryKind
    enforce: bool
    registry_id: bytes
    at_ns: int


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """A policy was made or changed, or (`removed`) taken away."""

    policy: LifecyclePolicy
    removed: bool
    at_ns: int


@dataclass(frozen=True, slots=True)
class AssignmentEvent:
    """A file got a policy; `explicit` where a person or an application chose it."""

    file_id: bytes
    repository_id: bytes
    path: bytes
    policy_name: str
    explicit: bool
    at_ns: int


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """A hold was placed, or (`released_ns` set) released. It names one file or a query."""

    hold_id: bytes
    file_id: bytes | None
    query: str | None
    reason: str
    owner: str
    created_ns: int
    ends_ns: int | None = None
    released_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ConfirmationEvent:
    """A person confirmed what a guard held; `evidence` is what they were shown."""

    repository_id: bytes
    guard: str
    evidence: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class PrunedEvent:
    """Versions that are kept no longer: all that was told of them up to `at_ns` counts no more. One
    that is told again with a later time is there again."""

    version_ids: tuple[bytes, ...]
    at_ns: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CondemnedEvent:
    """Packs and objects, by the SHA-256 of their bytes, that will be deleted: what lies in them
    counts as not stored for whoever writes, and their names never count again."""

    packs: tuple[bytes, ...]
    objects: tuple[bytes, ...]
    at_ns: int


@dataclass(frozen=True, slots=True)
class GivenUpEvent:
    """Manifests, by their names, that are damaged or missing and that nobody waits for any more:
    what they told and nobody else does is lost. One that turns up again is read all the same."""

    manifests: tuple[str, ...]
    at_ns: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a newer writer, as its line stands: passed over, and kept in checkpoints."""

    raw: bytes


Event = (
    VersionEvent
    | StateEvent
    | DirectoryEvent
    | RepositoryEvent
    | PolicyEvent
    | AssignmentEvent
    | HoldEvent
    | ConfirmationEvent
    | PrunedEvent
    | CondemnedEvent
    | GivenUpEvent
    | UnknownEvent
)
