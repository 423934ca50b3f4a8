"""What passes between an act and the registry: what it may work on, intends, and has done.

These are the hot paths of acts over many files, so all of them are tuples.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from lifecycle_sync.model.file import TRANSITIONS, Kind, LifecycleState
from lifecycle_sync.model.observation import Fingerprint

# The file is not where it was because an act took it away: facts, whatever the record had become.
DONE_BY_ACT = frozenset({LifecycleState.ARCHIVED, LifecycleState.DELETED})
_COMPLETE = LifecycleState.BACKUP_COMPLETE
# By these words, which are the reasons of its events, a vault tells which act it was.
DONE_WORDS = {"undelete": "undeleted", "recall": "recalled", "restore": "restored"}
PURGED = "purged from the trash"


class Unset(Enum):
    """The type of `UNSET`: "leave it as it is", where None is a value."""

    UNSET = 0


UNSET: Final = Unset.UNSET


class Intent(NamedTuple):
    """One act on one file, before it is done. `details` is JSON text."""

    operation_id: bytes
    file_id: bytes
    verb: str
    details: str | None = None


class VersionRow(NamedTuple):
    """A version of a file that lies in a vault.

    `number` grows with each version of a file; `checksum` is None for a symlink. `size` is bytes,
    times are nanoseconds since 1970 UTC. `location` is the vault's id in hexadecimal, a slash and
    the name of the manifest that tells of the version; the id alone where that is not known.
    """

    version_id: bytes
    number: int
    algorithm: str
    checksum: bytes | None
    size: int
    mtime_ns: int
    created_ns: int
    location: str | None = None


class Attributes(NamedTuple):
    """What a record has of a file beside its tuple; `mode` as `lstat` gives it."""

    mode: int
    uid: int
    gid: int
    nlink: int


class RecordChange(NamedTuple):
    """What an act has made of a record. What is None, or `UNSET`, stays as it is.

    `expected` is the tuple that the act worked on: where the record has another one by now (a scan
    saw a change), `state`, `fingerprint`, `attributes` and `checksum` are left out; not so for the
    states ARCHIVED and DELETED, which are what the act did. `path` is where the file lies now,
    relative to the root. A `checksum` (with its `algorithm`) is that of the file as it is, which is
    not due to be hashed then. Flags are those of `FileFlag`.
    """

    file_id: bytes
    state: LifecycleState | None = None
    expected: Fingerprint | None = None
    fingerprint: Fingerprint | None = None
    attributes: Attributes | None = None
    checksum: bytes | None = None
    algorithm: str = "sha256"
    backup_path: str | Unset | None = UNSET
    archive_path: str | Unset | None = UNSET
    version: VersionRow | None = None
    set_flags: int = 0
    clear_flags: int = 0
    path: bytes | None = None


class ActOutcome(NamedTuple):
    """What came of an intent: "completed", "failed" or "skipped". `details` is JSON text, None to
    keep those of the intent. A change may come with any of them."""

    operation_id: bytes
    status: str
    details: str | None = None
    change: RecordChange | None = None


class ActFile(NamedTuple):
    """A record as an act needs it. `row_id` is the registry's own number, for paging alone.

    `last_*` are of its newest version; `last_number` is 0 where there is none.
    """

    row_id: int
    file_id: bytes
    path: bytes
    kind: Kind
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    state: LifecycleState
    flags: int
    algorithm: str
    checksum: bytes | None
    hash_due: bool
    policy_name: str
    policy_explicit: bool
    last_number: int
    last_algorithm: str
    last_checksum: bytes | None

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.kind, self.size, self.mtime_ns, self.ctime_ns, self.inode)


def may_finish(old: LifecycleState, new: LifecycleState) -> bool:
    """Whether an act may leave a record that is `old` as `new`."""
    if new in DONE_BY_ACT or old == new:
        return True
    steps = TRANSITIONS[old]
    # A backup is pending while it is made.
    return new in steps or (new is _COMPLETE and LifecycleState.BACKUP_PENDING in steps)
