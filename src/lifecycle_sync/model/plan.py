"""What is to happen to files: frozen data, which a dry run shows and an act is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lifecycle_sync.model.file import FileType, Kind, LifecycleState
from lifecycle_sync.model.ids import ID_BYTES
from lifecycle_sync.model.observation import Fingerprint

PLAN_FORMAT = 1


class Verb(StrEnum):
    """What a policy does to a file."""

    BACKUP = "backup"
    ARCHIVE = "archive"
    EXPIRE = "expire"
    DELETE = "delete"


# What takes a file from its place, or says that its time is over.
DESTRUCTIVE = frozenset({Verb.ARCHIVE, Verb.EXPIRE, Verb.DELETE})


class Subject(NamedTuple):
    """A record as far as deciding needs it. Times are nanoseconds since 1970 UTC; `row_id` is the
    registry's own number. `last_version_ns` is when the newest version was kept, None without one;
    `explicit` the policy that was chosen for the file, None where the rules choose;
    `downloaded_ns` when it was last noted as downloaded, None where it never was."""

    row_id: int
    seq: int
    file_id: bytes
    repository_id: bytes
    root: bytes
    path: bytes
    kind: Kind
    file_type: FileType
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    atime_ns: int
    uid: int
    registered_ns: int
    state: LifecycleState
    flags: int
    tracking: int
    missing: bool
    checksum: bytes | None
    hash_due: bool
    explicit: str | None
    last_version_ns: int | None
    has_archive: bool
    governed_by: str
    expiry_ns: int | None
    next_due_ns: int | None
    downloaded_ns: int | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.kind, self.size, self.mtime_ns, self.ctime_ns, self.inode)

    @property
    def place(self) -> str:
        """The absolute path as text, in which odd bytes stand as `\\xNN`."""
        return (self.root + b"/" + self.path).decode("utf-8", "backslashreplace")


class Decided(NamedTuple):
    """What is written back about a record: which policy governs it, and its dates."""

    row_id: int
    seq: int
    policy_name: str
    expiry_ns: int | None
    next_due_ns: int | None


class KeptVersion(NamedTuple):
    """A version in the vault that backups go to. `beyond_ns` is since when no rule is known to keep
    it, in nanoseconds since 1970 UTC; None where one does."""

    version_id: bytes
    number: int
    kept_ns: int
    size: int
    beyond_ns: int | None


class VersionMark(NamedTuple):
    """What is written back about a version: since when no rule keeps it, None where one does."""

    file_id: bytes
    version_id: bytes
    beyond_ns: int | None


class Beyond(NamedTuple):
    """A version that no rule keeps, and why it is that: it is marked for pruning, and nothing
    happens to it by this plan. `guard` and `waits` as for an action."""

    file_id: bytes
    repository_id: bytes
    path: bytes
    version_id: bytes
    number: int
    kept_ns: int
    size: int
    policy_name: str
    reason: str
    guard: str = ""
    waits: str = ""


class UnkeptFile(NamedTuple):
    """A file and those of its versions that no rule keeps: their numbers (text with commas), ids
    (hexadecimal, one after the other), bytes, and when the newest of them was kept."""

    file_id: bytes
    numbers: str
    version_ids: str
    size: int
    newest_ns: int

    @property
    def versions(self) -> int:
        return len(self.version_ids) // (2 * ID_BYTES)


class MarkedFile(NamedTuple):
    """A tracked file that is not suspect, and its versions that are marked as kept by no rule, told
    as by `UnkeptFile`. `kept` others are not marked; the oldest of these was kept at
    `kept_since_ns`. `explicit` is the policy that was set for the file."""

    file_id: bytes
    numbers: str
    version_ids: str
    size: int
    newest_ns: int
    kept: int
    kept_since_ns: int | None
    repository_id: bytes
    file_type: FileType
    explicit: str | None

    @property
    def versions(self) -> int:
        return len(self.version_ids) // (2 * ID_BYTES)


class MarkedKind(NamedTuple):
    """Files of one type with the same policy set for them, or none (None): of each the newest
    `kept` versions are kept, and no others. `why` is the end of a JSON object, which says by which
    rule and for what reason the others are not."""

    file_type: FileType
    explicit: str | None
    kept: int
    why: str


class MarkedPage(NamedTuple):
    """The files after one (None: from the first on) up to another, as far as they are of these
    kinds and have versions that are marked."""

    after: bytes | None
    last: bytes
    kinds: Sequence[MarkedKind]


class MarkedGoing(NamedTuple):
    """Files on a page whose intents stand in the journal, under ids from `first_id` to `last_id`:
    how many, and their versions that are to go, told as by `UnkeptFile`."""

    page: MarkedPage
    first_id: bytes
    last_id: bytes
    files: int
    version_ids: str
    size: int
    newest_ns: int

    @property
    def versions(self) -> int:
        return len(self.version_ids) // (2 * ID_BYTES)


class Unkept(NamedTuple):
    """Files of one root that have versions which no rule keeps, for the same reason: that of the
    newest of them. `alone`: they would have none left. `guard` and `waits` as for an action."""

    repository_id: bytes
    policy_name: str
    reason: str
    alone: bool
    guard: str
    waits: str
    files: list[UnkeptFile | MarkedFile]

    @property
    def versions(self) -> int:
        return sum([len(it.version_ids) for it in self.files]) // (2 * ID_BYTES)

    @property
    def size(self) -> int:
        """Bytes of what these versions hold, not compressed."""
        return sum([it.size for it in self.files])


@dataclass(frozen=True, slots=True)
class Action:
    """One act on one file, the rule that asks for it, why, and what it is expected to be.

    `guard` names what stands against it now, and `waits` says how; empty where nothing does.
    """

    verb: Verb
    file_id: bytes
    repository_id: bytes
    path: bytes
    policy_name: str
    reason: str
    due_ns: int
    size: int
    fingerprint: Fingerprint
    checksum: bytes | None
    state: LifecycleState
    guard: str = ""
    waits: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file to which nothing happens now: why, and when that changes."""

    file_id: bytes
    reason: str
    next_ns: int | None = None
    verb: None = None


@dataclass(frozen=True, slots=True)
class RootPlan:
    """What a plan says of one root as a whole. `guard` and `waits` as for an action: they stand
    against every destructive action in it. `files` are known in it, `deleted` were in the last 24
    hours, `deletions` are due and held by nothing else. `space` says why its disk needs room; then
    what lies in the trash and has a verified copy is purged before its grace ends."""

    repository_id: bytes
    path: bytes
    enforce: bool
    files: int = 0
    deleted: int = 0
    deletions: int = 0
    guard: str = ""
    waits: str = ""
    space: str = ""


class Total(NamedTuple):
    """How many files of a root are due for one act and meet one guard (empty: none), and what
    that says of them: not more than some different reasons."""

    repository_id: bytes
    verb: Verb
    guard: str
    files: int
    waits: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be done at a time, in the order of roots and paths.

    `seq` is the registry's last change, `policies_hash` tells of which rules it follows from.
    `more` actions are due beside these: the next plan has them. `kept` counts what was judged and
    stays as it is, by the reason. `versions` are those that no rule keeps; with `more_versions`
    there are others beside these. `totals` count all that is due; a plan in a file has none.
    """

    registry_id: bytes
    seq: int
    at_ns: int
    made_ns: int
    policies_hash: str
    roots: tuple[RootPlan, ...]
    actions: tuple[Action, ...]
    more: int
    kept: tuple[tuple[str, int], ...]
    versions: tuple[Beyond, ...] = ()
    more_versions: bool = False
    totals: tuple[Total, ...] = field(default=(), compare=False)
