"""What passes between a scan, the hasher and the registry: rows as known, and changes to them.

These are the hot paths, so rows are tuples and files are addressed by `row_id`, the registry's own
number, which is stable while a record lives and never shown to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lifecycle_sync.model.file import FileRecord, FileType, LifecycleState
from lifecycle_sync.model.observation import Columns

# For classes in which a field called `bytes` hides the type.
RelativePath = bytes


class StoredDirectory(NamedTuple):
    """A directory as last recorded; `scanned_ns` is when."""

    directory_id: int
    path: bytes
    signature: bytes | None
    scanned_ns: int
    ignored_count: int = 0


# In `StoredFile.flags`, beside what `FileFlag` has: the tuple came with a hash and is newer than
# mode, owner and links, which the next scan writes anew.
OUTDATED = 128


class StoredFile(NamedTuple):
    """What a scan compares: a record that is not DELETED, of whatever `tracking`."""

    row_id: int
    name: bytes
    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    flags: int
    tracking: int
    hashed: bool


@dataclass(slots=True)
class DirectoryChange:
    """One directory that differs from its row, or has none yet (`directory_id` None).

    `columns` are all its files now; `added` the positions without a record, `added_ids` their ids.
    `modified` are (row_id, position, content_changed): content_changed means size, mtime or kind
    differ, so the file becomes UPLOADED at once; otherwise only a new hash can tell.
    `settled` are row_ids whose tuple is the same and no longer racy but must be hashed again.
    `missing` are row_ids of names that are gone, `untracked` of those an ignore rule now hides,
    `returned` those that were missing or ignored and are here again (they are also in
    `modified` when they differ).
    With `error` set the listing failed: nothing below the path is touched but the error itself.
    A `partial` change speaks only of the files it names: an existing row of the directory keeps
    its sums and generation, and loses its signature, so that the next scan compares its files.
    """

    path: bytes
    directory_id: int | None
    inode: int = 0
    signature: bytes | None = None
    error: str | None = None
    partial: bool = False
    file_count: int = 0
    byte_count: int = 0
    ignored_count: int = 0
    special_count: int = 0
    columns: Columns = field(default_factory=Columns)
    added: Sequence[int] = ()
    added_ids: Sequence[bytes] = ()
    modified: Sequence[tuple[int, int, bool]] = ()
    settled: Sequence[int] = ()
    missing: Sequence[int] = ()
    untracked: Sequence[int] = ()
    returned: Sequence[int] = ()


@dataclass(slots=True)
class ScanBatch:
    """What one transaction records of a scan. `observed_ns` is when the look was taken."""

    observed_ns: int
    # Directories whose signature is that of their row: only the row's generation moves.
    unchanged: list[int] = field(default_factory=list)
    changes: list[DirectoryChange] = field(default_factory=list)


class MissingFile(NamedTuple):
    """A record whose file was not found; `last_seen_ns` is when it last was.

    `checksum` is that of the content the rest describes: None where it is due to be hashed.
    """

    row_id: int
    path: bytes
    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    checksum: bytes | None
    last_seen_ns: int
    nlink: int


class Move(NamedTuple):
    """The record `old_row_id` continues at the place of `new_row_id`, which goes.

    Not `certain`: the content decides; until it is hashed the old place is remembered, and another
    hash splits the two again.
    """

    old_row_id: int
    new_row_id: int
    certain: bool


class HashTask(NamedTuple):
    """A file to be hashed, with the tuple the registry has of it."""

    row_id: int
    directory: bytes
    name: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class HashResult(NamedTuple):
    """What came of a `HashTask`.

    `status` is "ok", "unstable" (changed while it was read), "vanished", "not_regular" or
    "unreadable" (with `error`). With "ok", `digest` belongs to exactly the tuple given here, which
    may be newer than the task's; `racy` says that the tuple proves nothing yet.
    """

    row_id: int
    status: str
    digest: bytes | None = None
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    racy: bool = False
    error: str | None = None


@dataclass(slots=True)
class HashCounts:
    """What `record_hashes` did with its results."""

    hashed: int = 0
    changed: int = 0
    suspect: int = 0
    unstable: int = 0
    failed: int = 0

    def plus(self, other: HashCounts) -> HashCounts:
        """The sum."""
        return HashCounts(
            self.hashed + other.hashed,
            self.changed + other.changed,
            self.suspect + other.suspect,
            self.unstable + other.unstable,
            self.failed + other.failed,
        )


@dataclass(frozen=True, slots=True)
class FileQuery:
    """A question about records; every field that is set must hold.

    Sizes are bytes, times nanoseconds since 1970 UTC. `under` is a directory relative to the root,
    `name_glob` a shell pattern on the last component. `order` is one of "path", "size" (largest
    first), "mtime" (oldest first) and "seq" (as they changed).
    """

    repository_id: bytes | None = None
    under: bytes = b""
    recursive: bool = True
    name_glob: bytes | None = None
    min_size: int | None = None
    max_size: int | None = None
    modified_before_ns: int | None = None
    modified_after_ns: int | None = None
    changed_since_ns: int | None = None
    states: frozenset[LifecycleState] = frozenset()
    types: frozenset[FileType] = frozenset()
    flags: int = 0
    include_deleted: bool = False
    order: str = "path"


@dataclass(frozen=True, slots=True)
class Page:
    """Some records and where the next page begins; `next_cursor` is None at the end."""

    records: tuple[FileRecord, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class TypeCount:
    """How many files of one state and type there are, and their bytes."""

    state: LifecycleState
    file_type: FileType
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DirectoryTotals:
    """Sums over the directories of a repository as last scanned.

    `ignored` entries are unprotected; `special` are sockets, FIFOs and devices; `failed` are the
    directories that could not be listed, with the reason.
    """

    directories: int = 0
    files: int = 0
    bytes: int = 0
    ignored: int = 0
    special: int = 0
    failed: tuple[tuple[RelativePath, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Records with one content. `size` is that of one of them, in bytes."""

    checksum: bytes
    size: int
    records: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class FolderTotal:
    """A folder with all below it."""

    path: bytes
    files: int
    bytes: int
