"""What stands at the places that kept content is to come back to, and whether it gives way.

Looked at before anything is written, and once more where a place turns out to be taken at the
moment a file gets it. What is byte for byte what would come, with its times and mode, stays.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import Metadata
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.model.file import Kind
from lifecycle_sync.vault.frames import new_hasher

_THERE, THE_SAME = "something is there already", "the same is there already"
_NAME_MAX = 255
_PIECE = 1 << 20


class Conflict(StrEnum):
    """What to do where something stands at the place of a file."""

    SKIP = "skip"
    REPLACE = "replace"  # what stands there goes into the trash
    NEWEST = "newest"  # as REPLACE where what stands there is older, else as SKIP
    KEEP_BOTH = "keep-both"  # the restored file gets another name


class Wanted(NamedTuple):
    """A version, and where it is to lie: a path relative to the target."""

    version: VersionEvent
    to: bytes


class Displaces(Protocol):
    """Makes room: what stands in the way goes into a trash."""

    def take(self, paths: Sequence[bytes]) -> dict[bytes, str]:
        """Takes them all, durably; those that stay, with the reason."""
        ...

    def give_back(self, path: bytes) -> None:
        """Put back what was taken: nothing came in its place."""
        ...


class Occupied:
    """The places below one target, under one rule."""

    def __init__(self, fs: FileOps, descent: Descent, conflict: Conflict) -> None:
        self._fs = fs
        self._descent = descent
        self._conflict = conflict
        # The names in the folder that was looked into last.
        self._folder: bytes | None = None
        self._there: set[bytes] = set()

    def look_again(self) -> None:
        """Believe nothing that was seen before."""
        self._folder = None

    def is_there(self, path: bytes) -> bool:
        """Whether something stands at a place; what comes later is noticed when a file gets it."""
        folder, _, name = path.rpartition(b"/")
        if folder != self._folder:
            self._folder = folder
            try:
                names = self._fs.listdir(self._descent.open(folder))
            except OSError:
                names = []
            self._there = {os.fsencode(it) for it in names}
        return name in self._there

    def stays(self, wanted: Wanted) -> str | None:
        """Why what stands at the place of a file is left there; None where it is to give way."""
        if self._conflict is Conflict.SKIP:
            return _THERE
        folder, _, name = wanted.to.rpartition(b"/")
        meant = wanted.version.metadata
        try:
            dir_fd = self._descent.open(folder)
            found = self._fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if self._is_same(found, wanted, dir_fd, name):
                return THE_SAME
        except FileNotFoundError:
            return None
        except OSError as error:
            return (error.strerror or str(error)).lower()
        if self._conflict is Conflict.NEWEST and found.st_mtime_ns >= meant.mtime_ns:
            return "what is there is newer"
        return None

    def _is_same(self, found: os.stat_result, wanted: Wanted, dir_fd: int, name: bytes) -> bool:
        """Whether a file is what would come in its place: read, for bits rot and times do not."""
        content = wanted.version.content
        if content is None or not _looks_same(found, wanted.version.metadata):
            return False
        hasher = new_hasher(content.algorithm)
        fd = self._fs.open_read(name, dir_fd)
        try:
            offset = 0
            while data := self._fs.pread(fd, _PIECE, offset):
                hasher.update(data)
                offset += len(data)
        except OSError:
            # It cannot be read: all the more reason to bring it back.
            return False
        finally:
            self._fs.close(fd)
        return hasher.digest() == content.digest


def _looks_same(found: os.stat_result, meant: Metadata) -> bool:
    return (
        meant.kind is Kind.REGULAR
        and stat.S_ISREG(found.st_mode)
        and found.st_size == meant.size
        and found.st_mtime_ns == meant.mtime_ns
        and stat.S_IMODE(found.st_mode) == stat.S_IMODE(meant.mode)
        and (found.st_uid, found.st_gid) == (meant.uid, meant.gid)
    )


def stands(path: bytes, mtime_ns: int, conflict: Conflict) -> bool:
    """Whether something at a place would keep a file of `mtime_ns` from coming back to it; for
    looks ahead."""
    if conflict not in (Conflict.SKIP, Conflict.NEWEST):
        return False
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return conflict is Conflict.SKIP or found.st_mtime_ns >= mtime_ns


def beside(name: bytes, number: int) -> bytes:
    """The name of a file that is kept beside another: `report (restored 1).pdf`."""
    stem, dot, suffix = name.rpartition(b".")
    if not stem:
        stem, dot, suffix = name, b"", b""
    middle = b" (restored %d)" % number
    stem = stem[: _NAME_MAX - len(middle) - len(dot) - len(suffix)]
    return stem + middle + dot + suffix
