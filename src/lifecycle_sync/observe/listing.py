"""One directory, read from its open descriptor: names, what they are, and the signature.

This is the inner loop of a walk, so it works on whole columns; the only call a file is its `stat`.
A directory is read in blocks of names. Of a directory of one block the `stat` results are kept for
the columns that are seldom asked for; of a larger one those columns are packed block by block,
because a `stat` result takes ten times the room.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.observation import Columns
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY
from lifecycle_sync.observe.ignore import NOTHING, IgnoreRules, Sifted
from lifecycle_sync.observe.signature import (
    OtherEntry,
    clamped,
    directory_signature,
    pack_tuples,
)

BLOCK = 8192
_TUPLE_COLUMNS = 4  # sizes, mtimes, ctimes, inodes
_REST_COLUMNS = 5  # modes, uids, gids, nlinks, atimes
_DIRECTORY, _REGULAR, _SYMLINK = int(Kind.DIRECTORY), int(Kind.REGULAR), int(Kind.SYMLINK)
# Selectors: from a kind to 1 or 0.
_IS_FILE = bytes(kind in {_REGULAR, _SYMLINK} for kind in range(256))
_IS_OTHER = bytes(1 - flag for flag in _IS_FILE)


@dataclass(slots=True, eq=False)
class ReadListing:
    """A `Listing` read from the disk. Everything is in memory; `columns` are made when asked for.

    Columns of numbers are arrays of int64. Birth times are not known: `os.stat` has none on Linux.
    """

    path: bytes
    inode: int
    signature: bytes | None
    file_count: int
    byte_count: int
    ignored_count: int
    special_count: int
    _names: list[bytes]
    _kinds: bytes
    _tuples: bytes
    _rest: Sequence[os.stat_result] | bytes
    _racy: Sequence[int]
    error: str | None = None
    _columns: Columns | None = None

    @property
    def columns(self) -> Columns:
        if self._columns is None:
            rest = self._rest if isinstance(self._rest, bytes) else _pack_rest(self._rest)
            sizes, mtimes, ctimes, inodes = map(_numbers, _split(self._tuples, _TUPLE_COLUMNS))
            modes, uids, gids, nlinks, atimes = map(_numbers, _split(rest, _REST_COLUMNS))
            self._columns = Columns(
                names=self._names,
                kinds=self._kinds,
                sizes=sizes,
                mtimes_ns=mtimes,
                ctimes_ns=ctimes,
                inodes=inodes,
                modes=modes,
                uids=uids,
                gids=gids,
                nlinks=nlinks,
                atimes_ns=atimes,
                btimes_ns=[None] * len(self._names),
                racy=frozenset(self._racy),
            )
        return self._columns


def packed(listing: ReadListing, *, columns: bool) -> tuple[Any, ...]:
    """A listing as plain data that marshal takes, with its columns or without."""
    rest = listing._rest
    return (
        listing.path,
        listing.inode,
        listing.signature,
        listing.file_count,
        listing.byte_count,
        listing.ignored_count,
        listing.special_count,
        b"\0".join(listing._names) if columns else None,
        listing._kinds if columns else None,
        listing._tuples if columns else None,
        (rest if isinstance(rest, bytes) else _pack_rest(rest)) if columns else None,
        list(listing._racy),
    )


def unpacked(data: tuple[Any, ...]) -> ReadListing:
    """A listing from what `packed` made of it with its columns."""
    path, inode, signature, files, size, ignored, special, joined, kinds, tuples, rest, racy = data
    return ReadListing(
        path,
        inode,
        signature,
        files,
        size,
        ignored,
        special,
        joined.split(b"\0") if kinds else [],
        kinds,
        tuples,
        rest,
        racy,
    )


class _Seen(NamedTuple):
    """Some consecutive names of a directory, looked at; `joined` are `names` with NULs between,
    `racy` positions among them."""

    names: list[bytes]
    joined: bytes
    kinds: bytes = b""
    tuples: bytes = b""
    stats: Sequence[os.stat_result] = ()
    byte_count: int = 0
    racy: Sequence[int] = ()
    others: Sequence[OtherEntry] = ()
    ignored_count: int = 0


class DirectoryReader:
    """Reads directories; holds what is the same for all of one walk (see `walker.walk`)."""

    def __init__(
        self,
        rules: IgnoreRules,
        *,
        fs: FileOps,
        clock: Clock,
        cancel: CancelToken,
        margin_ns: int,
        own: frozenset[tuple[int, int]],
        stable_inodes: bool,
    ) -> None:
        self._rules = rules
        self._fs = fs
        self._clock = clock
        self._cancel = cancel
        self._margin_ns = margin_ns
        self._own = own
        self._own_inodes = frozenset(inode for _, inode in own)
        self._stable_inodes = stable_inodes

    def read(self, fd: int, path: bytes, inode: int) -> tuple[ReadListing, list[OtherEntry]]:
        """The listing of the directory open on `fd`, and its subdirectories by name.

        Raises `OSError` as the listing or a `stat` does; an entry that vanishes is left out.
        """
        # Before the names are read: what changes from now on has a time that is not older.
        trusted_ns = self._clock.now_ns() - self._margin_ns
        names, joined = self._names(fd, path)
        rest: Sequence[os.stat_result] | bytes
        if len(names) <= BLOCK:
            seen = self._look(fd, path, names, joined, trusted_ns)
            rest = seen.stats
        else:
            seen, rest = self._look_in_blocks(fd, path, names, trusted_ns)
        names, joined, kinds, tuples, _, byte_count, racy, others, ignored_count = seen
        signature = None
        if not racy:
            signature = directory_signature(
                self._rules.hash,
                len(names),
                (joined, kinds, tuples),
                others,
                stable_inodes=self._stable_inodes,
            )
        subdirectories: list[OtherEntry] = []
        if others:
            subdirectories = [other for other in others if other.kind == _DIRECTORY]
        listing = ReadListing(
            path,
            signed_inode(inode),
            signature,
            len(names),
            byte_count,
            ignored_count,
            len(others) - len(subdirectories),
            names,
            kinds,
            tuples,
            rest,
            racy,
        )
        return listing, subdirectories

    def _names(self, fd: int, path: bytes) -> tuple[list[bytes], bytes]:
        """The names sorted as bytes, and the same joined by NULs."""
        entries = self._fs.listdir(fd)
        if not entries and self._fs.fstat(fd).st_nlink == 0:
            # The C library shows a removed directory as an empty one.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        # A file that is replaced while the directory is read may be told twice.
        if len(set(entries)) < len(entries):
            entries = list(set(entries))
        # Text sorts faster than bytes, and in ASCII to the same order.
        entries.sort()
        joined = os.fsencode("\0".join(entries))
        del entries
        names = joined.split(b"\0") if joined else []
        if not joined.isascii():
            names.sort()
            joined = b"\0".join(names)
        if not path and PRIVATE_DIRECTORY in names:
            names.remove(PRIVATE_DIRECTORY)
            joined = b"\0".join(names)
        return names, joined

    def _look(
        self, fd: int, path: bytes, names: list[bytes], joined: bytes, trusted_ns: int
    ) -> _Seen:
        sifted = self._rules.sift(path, names, joined)
        ignored_count = 0
        present = names
        if sifted.always:
            # Not even stat'ed: an error there is nobody's concern.
            present = [name for name in names if name not in sifted.always]
            ignored_count = len(names) - len(present)
        present, stats = self._stat_all(fd, present)
        if sifted is not NOTHING or self._own:
            present, stats, ignored = self._leave_out(sifted, present, stats)
            ignored_count += ignored
        if not present:
            return _Seen(present, b"", ignored_count=ignored_count)
        others: list[OtherEntry] = []
        modes, inodes, _, _, _, _, sizes, *_ = zip(*stats, strict=False)
        kinds = _kinds(modes)
        if kinds.count(_REGULAR) + kinds.count(_SYMLINK) != len(kinds):
            others = [
                OtherEntry(name, kind, status.st_ino, status.st_dev)
                for name, kind, status in compress(
                    zip(present, kinds, stats, strict=True), kinds.translate(_IS_OTHER)
                )
            ]
            files = kinds.translate(_IS_FILE)
            present = list(compress(present, files))
            stats = list(compress(stats, files))
            sizes = tuple(compress(sizes, files))
            inodes = tuple(compress(inodes, files))
            kinds = bytes(compress(kinds, files))
        if present is not names:
            joined = b"\0".join(present)
        mtimes = [status.st_mtime_ns for status in stats]
        ctimes = [status.st_ctime_ns for status in stats]
        racy: Sequence[int] = ()
        if present and (max(mtimes) > trusted_ns or max(ctimes) > trusted_ns):
            racy = [
                position
                for position, times in enumerate(zip(mtimes, ctimes, strict=True))
                if max(times) > trusted_ns
            ]
        tuples = pack_tuples(sizes, mtimes, ctimes, inodes)
        return _Seen(present, joined, kinds, tuples, stats, sum(sizes), racy, others, ignored_count)

    def _look_in_blocks(
        self, fd: int, path: bytes, names: list[bytes], trusted_ns: int
    ) -> tuple[_Seen, bytes]:
        """The same for a large directory, and its further columns packed."""
        present: list[bytes] = []
        kinds: list[bytes] = []
        tuples: list[list[bytes]] = []
        rest: list[list[bytes]] = []
        racy: list[int] = []
        others: list[OtherEntry] = []
        byte_count = ignored_count = 0
        for start in range(0, len(names), BLOCK):
            self._cancel.check()
            some = names[start : start + BLOCK]
            seen = self._look(fd, path, some, b"\0".join(some), trusted_ns)
            racy += [len(present) + position for position in seen.racy]
            present += seen.names
            kinds.append(seen.kinds)
            tuples.append(_split(seen.tuples, _TUPLE_COLUMNS))
            rest.append(_split(_pack_rest(seen.stats), _REST_COLUMNS))
            others += seen.others
            byte_count += seen.byte_count
            ignored_count += seen.ignored_count
        whole = _Seen(
            present,
            b"\0".join(present),
            b"".join(kinds),
            _join(tuples),
            byte_count=byte_count,
            racy=racy,
            others=others,
            ignored_count=ignored_count,
        )
        return whole, _join(rest)

    def _stat_all(self, fd: int, names: list[bytes]) -> tuple[list[bytes], list[os.stat_result]]:
        """Every name that is still there, with its status."""
        stat = self._fs.stat
        try:
            return names, [stat(name, dir_fd=fd, follow_symlinks=False) for name in names]
        except FileNotFoundError:
            pass
        present: list[bytes] = []
        stats: list[os.stat_result] = []
        for name in names:
            try:
                status = stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            present.append(name)
            stats.append(status)
        return present, stats

    def _leave_out(
        self, sifted: Sifted, names: list[bytes], stats: list[os.stat_result]
    ) -> tuple[list[bytes], list[os.stat_result], int]:
        """Without our own and those that are ignored for what they are, and how many the latter."""
        of_kind = sifted.unless_directory or sifted.if_directory
        if not of_kind and self._own_inodes.isdisjoint([status.st_ino for status in stats]):
            return names, stats, 0
        kept: list[bytes] = []
        kept_stats: list[os.stat_result] = []
        ignored_count = 0
        for name, status in zip(names, stats, strict=True):
            if (status.st_dev, status.st_ino) in self._own:
                continue
            is_directory = status.st_mode >> 12 == _DIRECTORY
            if name in (sifted.if_directory if is_directory else sifted.unless_directory):
                ignored_count += 1
                continue
            kept.append(name)
            kept_stats.append(status)
        return kept, kept_stats, ignored_count


def signed_inode(inode: int) -> int:
    """The 64 bits of an inode number as a signed integer, as rows and columns have it."""
    return inode - 2**64 if inode >= 2**63 else inode


def _kinds(modes: tuple[int, ...]) -> bytes:
    if len(set(modes)) == 1:
        return bytes([modes[0] >> 12]) * len(modes)
    return bytes([mode >> 12 for mode in modes])


def _pack_rest(stats: Sequence[os.stat_result]) -> bytes:
    columns = (
        [status.st_mode for status in stats],
        [status.st_uid for status in stats],
        [status.st_gid for status in stats],
        [status.st_nlink for status in stats],
        clamped(status.st_atime_ns for status in stats),
    )
    return b"".join(struct.pack(f"<{len(column)}q", *column) for column in columns)


def _split(packed: bytes, columns: int) -> list[bytes]:
    length = len(packed) // columns
    return [packed[start * length : (start + 1) * length] for start in range(columns)]


def _join(blocks: list[list[bytes]]) -> bytes:
    """Blocks of columns as whole columns, one after the other."""
    return b"".join(b"".join(column) for column in zip(*blocks, strict=True))


def _numbers(packed: bytes) -> array[int]:
    column = array("q")
    column.frombytes(packed)
    if sys.byteorder == "big":
        column.byteswap()
    return column
