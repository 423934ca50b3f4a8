"""The walk of a root: every directory once, as a `Listing`, from the top down.

Depth first, directories by the bytes of their names, parents before children. Directories are
opened relative to the descriptor of their parent and never through a symlink, so nothing outside
the root is seen whatever is swapped meanwhile, and neither depth nor the length of a path has a
limit. A descriptor is closed when the last subdirectory has been opened through it; where a deep
and broad tree still asks for too many, those nearest to the root are given up and opened again,
component by component, when the walk comes back.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import DirectoryListing, Listing
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.listing import DirectoryReader, signed_inode
from lifecycle_sync.observe.signature import OtherEntry

MARGIN_NS = 20_000_000
_OPEN_MAX = 128
_CLOSED = -1

MOUNT_POINT = "another filesystem (mount point), not crossed"
SWAPPED = "changed while it was listed"


def walk(
    root: bytes,
    rules: IgnoreRules,
    *,
    fs: FileOps,
    clock: Clock,
    cancel: CancelToken,
    margin_ns: int = MARGIN_NS,
    own: frozenset[tuple[int, int]] = frozenset(),
    stable_inodes: bool = True,
) -> Generator[Listing, None, None]:
    """Yield a `Listing` for the directory `root` and each below it that is not ignored.

    Files and symlinks are columns, subdirectories are walked, sockets, FIFOs and devices counted
    and left alone. An entry whose newer time is not older than the look by `margin_ns` is racy.
    Entries whose (device, inode) is in `own`, and the directory of ours at the top, are left out.
    Without `stable_inodes` inode numbers take no part in signatures, and a directory is known again
    by its device alone. `signature.py` has the format of signatures.

    A directory that cannot be listed, that another filesystem is mounted on, or that is no longer
    what its parent's listing saw, is a `Listing` with `error`, and nothing below it is walked; one
    that vanished is left out. The root is always yielded. Raises `CancelledError` between two
    directories. Closing the iterator closes all descriptors.
    """
    reader = DirectoryReader(
        rules,
        fs=fs,
        clock=clock,
        cancel=cancel,
        margin_ns=margin_ns,
        own=own,
        stable_inodes=stable_inodes,
    )
    journey = _Journey(root, reader, fs, stable_inodes)
    try:
        cancel.check()
        yield journey.start()
        while (subdirectory := journey.next()) is not None:
            cancel.check()
            listing = journey.visit(subdirectory)
            if listing is not None:
                yield listing
            # Not kept while the next one is made.
            del listing
    finally:
        journey.end()


class _Frame:
    """A directory that has subdirectories still to be walked, or that is above one of these."""

    __slots__ = ("device", "fd", "inode", "lost", "name", "path_length", "pending")

    def __init__(
        self, name: bytes, status: os.stat_result, path: bytes, fd: int, pending: list[OtherEntry]
    ) -> None:
        self.name = name
        self.device = status.st_dev
        self.inode = status.st_ino
        self.path_length = len(path)
        self.fd = fd
        # The next one last.
        self.pending = pending
        # Why it cannot be opened again.
        self.lost: str | None = None


class _Journey:
    """Where a walk is: the directories from the root down to it, and their descriptors."""

    def __init__(
        self, root: bytes, reader: DirectoryReader, fs: FileOps, stable_inodes: bool
    ) -> None:
        self._root = root
        self._reader = reader
        self._fs = fs
        self._stable_inodes = stable_inodes
        self._frames: list[_Frame] = []
        self._open_count = 0
        # The path visited last. Those of all frames are beginnings of it and are not stored: deep
        # in a tree that would take the square of the depth.
        self._path = b""

    def start(self) -> Listing:
        try:
            return self._list(self._open(self._root, None), self._root, b"", None)
        except OSError as error:
            return _failed(b"", 0, _reason(error))

    def next(self) -> OtherEntry | None:
        """The next directory to visit, a child of the last frame; None at the end."""
        while self._frames:
            frame = self._frames[-1]
            if frame.pending:
                return frame.pending.pop()
            self._close(frame)
            self._frames.pop()
        return None

    def visit(self, entry: OtherEntry) -> Listing | None:
        """List the directory that `next` gave; None where it vanished."""
        parent = self._frames[-1]
        above = self._path[: parent.path_length]
        path = self._path = above + b"/" + entry.name if above else entry.name
        if entry.device != parent.device:
            return _failed(path, entry.inode, MOUNT_POINT)
        if parent.fd == _CLOSED:
            self._reopen()
            if parent.lost is not None:
                return _failed(path, entry.inode, parent.lost)
        try:
            fd = self._open(entry.name, parent)
        except FileNotFoundError:
            return None
        except OSError as error:
            swapped = error.errno in {errno.ELOOP, errno.ENOTDIR}
            return _failed(path, entry.inode, SWAPPED if swapped else _reason(error))
        if not parent.pending:
            self._close(parent)
        try:
            return self._list(fd, entry.name, path, entry)
        except FileNotFoundError:
            # Listing a directory that has been removed says so.
            return None
        except OSError as error:
            return _failed(path, entry.inode, _reason(error))

    def end(self) -> None:
        for frame in self._frames:
            self._close(frame)

    def _list(self, fd: int, name: bytes, path: bytes, expected: OtherEntry | None) -> Listing:
        """List the directory open on `fd`, which is kept where there is more to do in it."""
        pending: list[OtherEntry] = []
        try:
            status = self._fs.fstat(fd)
            if expected is not None:
                if status.st_dev != expected.device:
                    return _failed(path, expected.inode, MOUNT_POINT)
                if self._stable_inodes and status.st_ino != expected.inode:
                    return _failed(path, expected.inode, SWAPPED)
            listing, pending = self._read(fd, path, status.st_ino)
            if pending:
                pending.reverse()
                self._frames.append(_Frame(name, status, path, fd, pending))
                self._open_count += 1
            return listing
        finally:
            if not pending:
                self._fs.close(fd)

    def _read(self, fd: int, path: bytes, inode: int) -> tuple[Listing, list[OtherEntry]]:
        while True:
            try:
                return self._reader.read(fd, path, inode)
            except OSError as error:
                if not self._makes_room(error, None):
                    raise

    # -- descriptors -----------------------------------------------------------------------

    def _close(self, frame: _Frame) -> None:
        if frame.fd != _CLOSED:
            fd, frame.fd = frame.fd, _CLOSED
            self._open_count -= 1
            self._fs.close(fd)

    def _open(self, name: bytes, parent: _Frame | None) -> int:
        """Open a subdirectory, or the root where there is no parent."""
        if self._open_count >= _OPEN_MAX:
            self._spare(parent)
        while True:
            try:
                return self._fs.open_directory(name, None if parent is None else parent.fd)
            except OSError as error:
                if not self._makes_room(error, parent):
                    raise

    def _makes_room(self, error: OSError, needed: _Frame | None) -> bool:
        """Whether descriptors ran out and some of ours were given up: then it may go better."""
        return error.errno in {errno.EMFILE, errno.ENFILE} and self._spare(needed)

    def _spare(self, needed: _Frame | None) -> bool:
        """Close half of the open directories, those that are needed last, but not `needed`; False
        if there is none."""
        others = [frame for frame in self._frames if frame.fd != _CLOSED and frame is not needed]
        for frame in others[: (len(others) + 1) // 2]:
            self._close(frame)
        return bool(others)

    def _reopen(self) -> None:
        """Open the last frame again, or note in it why that is impossible."""
        last = self._frames[-1]
        if last.lost is None:
            try:
                last.lost = None if self._reopen_frames() else SWAPPED
            except OSError as error:
                last.lost = _reason(error)

    def _reopen_frames(self) -> bool:
        """Open the last frame from the nearest open one, or the root, component by component; False
        where one of them is not the directory that it was. Those on the way stay open as far as
        there is room, because the walk will soon come back to them."""
        start = len(self._frames) - 1
        while start > 0 and self._frames[start - 1].fd == _CLOSED:
            start -= 1
        for position in range(start, len(self._frames)):
            frame = self._frames[position]
            parent = self._frames[position - 1] if position else None
            frame.fd = self._open(frame.name, parent)
            self._open_count += 1
            status = self._fs.fstat(frame.fd)
            if status.st_dev != frame.device or (
                self._stable_inodes and status.st_ino != frame.inode
            ):
                self._close(frame)
                return False
            if parent is not None and not parent.pending:
                self._close(parent)
        return True


def _failed(path: bytes, inode: int, reason: str) -> DirectoryListing:
    return DirectoryListing(path, signed_inode(inode), error=reason)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
