"""Where files are made before they get their place: a private directory on the same filesystem.

What a killed process left in it is removed by the next one to hold it: a flock on the directory
says whether anybody does.
"""

from __future__ import annotations

import os

from lifecycle_sync.errors import BusyError, LifecycleError, StorageFullError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY

NAME = b"tmp"
_FULL = {28, 122}  # ENOSPC, EDQUOT


class Staging:
    """The directory `.lifecycle/tmp` below `root_fd`, made and held. A context manager.

    Raises `BusyError` when another process makes files there, `LifecycleError` where it cannot be
    made. On leaving it is removed, as is `.lifecycle` when nothing else is in it.
    """

    def __init__(self, fs: FileOps, root_fd: int, root: bytes) -> None:
        self._fs = fs
        self._root_fd = root_fd
        self._number = 0
        try:
            self._private_fd = self._make(PRIVATE_DIRECTORY, root_fd)
            try:
                self.fd = self._make(NAME, self._private_fd)
            except BaseException:
                fs.close(self._private_fd)
                raise
        except OSError as error:
            kind = StorageFullError if error.errno in _FULL else LifecycleError
            raise kind(
                f"cannot be written to ({(error.strerror or str(error)).lower()})",
                operation="restore",
                subject=root,
                remedy="check its permissions and free space, or name another place with --to",
            ) from error
        if not fs.lock(self.fd, wait=False):
            fs.close(self.fd)
            fs.close(self._private_fd)
            raise BusyError(
                "another process restores to it",
                operation="restore",
                subject=root,
                remedy="wait for it to end",
            )
        self.sweep()

    def _make(self, name: bytes, dir_fd: int) -> int:
        try:
            self._fs.mkdir(name, dir_fd, 0o700)
        except FileExistsError:
            pass
        return self._fs.open_directory(name, dir_fd)

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.sweep()
            for name, dir_fd in ((NAME, self._private_fd), (PRIVATE_DIRECTORY, self._root_fd)):
                try:
                    self._fs.rmdir(name, dir_fd)
                except OSError:
                    # Not empty: a root's marker, a trash.
                    break
        finally:
            self._fs.close(self.fd)
            self._fs.close(self._private_fd)

    def sweep(self) -> None:
        """Remove everything in it: none of it has got its place, and never will."""
        for name in self._fs.listdir(self.fd):
            try:
                self._fs.unlink(os.fsencode(name), self.fd)
            except OSError:
                # A directory, or one made immutable: not ours.
                continue

    def new_name(self) -> bytes:
        """A name that nothing in it has."""
        self._number += 1
        return b"%d-%s" % (self._number, os.urandom(4).hex().encode())


def sweep_left_over(fs: FileOps, root_fd: int, root: bytes) -> None:
    """Remove a staging directory that a killed process left below `root_fd`, if there is one."""
    try:
        fs.stat(PRIVATE_DIRECTORY + b"/" + NAME, dir_fd=root_fd, follow_symlinks=False)
    except OSError:
        return
    try:
        with Staging(fs, root_fd, root):
            pass
    except BusyError:
        # It is in use: whoever uses it removes it.
        pass
