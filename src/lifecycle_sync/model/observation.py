"""What a look at the disk yields: whole directories as columns, and their signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(slots=True)
class Columns:
    """The files and symlinks of one directory, one list a field, sorted by the bytes of the name.

    Times are nanoseconds since 1970 UTC clamped to 64 bits, sizes bytes, inodes the 64-bit number
    as a signed integer (SQLite has no other). `kinds` are values of `Kind` (8 regular, 10
    symlink). `racy` are the positions whose tuple proves nothing (see `decide.differences`).
    """

    names: Sequence[bytes] = ()
    kinds: Sequence[int] = ()
    sizes: Sequence[int] = ()
    mtimes_ns: Sequence[int] = ()
    ctimes_ns: Sequence[int] = ()
    inodes: Sequence[int] = ()
    modes: Sequence[int] = ()
    uids: Sequence[int] = ()
    gids: Sequence[int] = ()
    nlinks: Sequence[int] = ()
    atimes_ns: Sequence[int] = ()
    btimes_ns: Sequence[int | None] = ()
    racy: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.names)


class Listing(Protocol):
    """One directory, listed. Cheap until `columns` is asked for.

    `path` is relative to the root, bytes, empty for the root itself. `error` says why the listing
    failed ("permission denied", "another filesystem"): then nothing else is meaningful and no row
    below it may be removed. `signature` is None where an entry is racy.
    """

    @property
    def path(self) -> bytes: ...
    @property
    def inode(self) -> int: ...
    @property
    def error(self) -> str | None: ...
    @property
    def signature(self) -> bytes | None: ...
    @property
    def file_count(self) -> int: ...
    @property
    def byte_count(self) -> int: ...
    @property
    def ignored_count(self) -> int: ...
    @property
    def special_count(self) -> int: ...
    @property
    def columns(self) -> Columns: ...


@dataclass(frozen=True, slots=True)
class DirectoryListing:
    """A `Listing` that already has everything; for doubles and for roots observed by name."""

    path: bytes
    inode: int = 0
    error: str | None = None
    signature: bytes | None = None
    ignored_count: int = 0
    special_count: int = 0
    columns: Columns = field(default_factory=Columns)

    @property
    def file_count(self) -> int:
        return len(self.columns.names)

    @property
    def byte_count(self) -> int:
        return sum(self.columns.sizes)


class Fingerprint(NamedTuple):
    """The tuple that says whether a file may have changed; compared with `!=`, never `<`."""

    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
