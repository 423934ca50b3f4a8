"""A storage in a local directory.

A file is written under an exclusive temporary name, synced, read back and hashed, renamed, and the
directory synced: in that order, because a name must never stand for bytes that a power cut can
still take away. A temporary file is locked while its writer lives (the kernel gives the lock back
when it dies), so that anybody can tell litter from work. Nothing below the directory is reached
through a symlink.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from lifecycle_sync.errors import (
    LifecycleError,
    StorageError,
    StorageFullError,
    StorageMissingError,
    StorageReadOnlyError,
)
from lifecycle_sync.fileops import FileOps, NotRegularFileError

TEMPORARY_PREFIX = ".tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_PIECE = 1 << 18
_COMPONENT = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,255}")


class LocalStorage:
    """`Storage` in the directory at `path`, which must be there. Thread-safe."""

    def __init__(self, path: str, fs: FileOps) -> None:
        self.path = path
        self._fs = fs
        self._mutex = threading.Lock()
        # Folders whose own entry in their parent is known to be durable.
        self._durable: set[str] = set()
        self._held: dict[str, int] = {}
        with self._translated("open storage", ""):
            # Only here may the last component be a symlink: it is the user's own path.
            self._root = fs.open_directory(os.path.realpath(path))

    # -- reading ---------------------------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        return [name for name in self._list(folder) if not name.startswith(TEMPORARY_PREFIX)]

    def litter(self, folders: tuple[str, ...]) -> list[str]:
        return [
            f"{folder}/{name}" if folder else name
            for folder in folders
            for name in self._list(folder)
            if name.startswith(TEMPORARY_PREFIX)
        ]

    def _list(self, folder: str) -> list[str]:
        try:
            with self._folder(folder, "list") as fd:
                return self._fs.listdir(fd)
        except StorageMissingError:
            return []

    def size(self, name: str) -> int | None:
        folder, _, leaf = name.rpartition("/")
        try:
            with self._folder(folder, "look at") as fd, self._translated("look at", name):
                return self._fs.stat(leaf, dir_fd=fd, follow_symlinks=False).st_size
        except StorageMissingError:
            return None

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return b"".join(self.pieces(name, offset, length))

    def pieces(
        self, name: str, offset: int = 0, length: int | None = None, piece: int = _PIECE
    ) -> Iterator[bytes]:
        folder, _, leaf = name.rpartition("/")
        with self._folder(folder, "read") as parent, self._translated("read", name):
            fd = self._fs.open_read(leaf, parent)
        try:
            while length is None or length > 0:
                wanted = piece if length is None else min(piece, length)
                with self._translated("read", name):
                    data = self._fs.pread(fd, wanted, offset)
                if not data:
                    return
                offset += len(data)
                if length is not None:
                    length -= len(data)
                yield data
        finally:
            close_quietly(self._fs, fd)

    def drop_cache(self, name: str) -> None:
        folder, _, leaf = name.rpartition("/")
        try:
            with self._folder(folder, "read") as parent, self._translated("read", name):
                fd = self._fs.open_read(leaf, parent)
                try:
                    self._fs.drop_cache(fd)
                finally:
                    close_quietly(self._fs, fd)
        except StorageError:
            pass

    # -- writing ---------------------------------------------------------------------------

    def upload(self, folder: str) -> LocalUpload:
        fd = self._make_folder(folder)
        try:
            with self._translated("write to", folder):
                while True:
                    name = TEMPORARY_PREFIX + os.urandom(8).hex()
                    file = self._create_locked(name, fd)
                    if file is not None:
                        return LocalUpload(self, self._fs, fd, file, name)
        except BaseException:
            close_quietly(self._fs, fd)
            raise

    def _create_locked(self, name: str, folder_fd: int) -> int | None:
        """A new file, locked; None when somebody who sweeps came between the two."""
        fd = self._fs.create(name, folder_fd)
        try:
            self._fs.lock(fd, wait=True)
            if self._fs.fstat(fd).st_nlink:
                return fd
        except BaseException:
            try:
                self._fs.unlink(name, folder_fd)
            finally:
                close_quietly(self._fs, fd)
            raise
        close_quietly(self._fs, fd)
        return None

    def remove(self, name: str) -> None:
        folder, _, leaf = name.rpartition("/")
        try:
            with self._folder(folder, "remove") as fd, self._translated("remove", name):
                self._fs.unlink(leaf, fd)
                self._fs.fsync(fd)
        except StorageMissingError:
            pass

    def move(self, name: str, to: str) -> bool:
        folder, _, leaf = name.rpartition("/")
        to_folder, _, to_leaf = to.rpartition("/")
        if not _COMPONENT.fullmatch(to_leaf):
            raise StorageError("no name of a file", operation="move", subject=to)
        target = self._make_folder(to_folder)
        try:
            with self._folder(folder, "move") as source, self._translated("move", name):
                try:
                    self._fs.rename_noreplace(leaf, to_leaf, source, target)
                except FileExistsError:
                    return False
                # Where it lies now comes first: it must not be in neither place.
                self._fs.fsync(target)
                self._fs.fsync(source)
        finally:
            close_quietly(self._fs, target)
        return True

    def sweep(self, folders: tuple[str, ...]) -> list[str]:
        removed = []
        for path in self.litter(folders):
            folder, _, leaf = path.rpartition("/")
            with self._folder(folder, "clean up") as parent:
                try:
                    fd = self._fs.open_read(leaf, parent)
                except OSError:
                    # Gone, or nothing that we made.
                    continue
                try:
                    if self._fs.lock(fd, wait=False):
                        with self._translated("clean up", path):
                            self._fs.unlink(leaf, parent)
                        removed.append(path)
                finally:
                    close_quietly(self._fs, fd)
        return removed

    # -- folders ---------------------------------------------------------------------------

    @contextmanager
    def _folder(self, folder: str, operation: str) -> Iterator[int]:
        with self._translated(operation, folder):
            fd = self._open_folder(folder)
            try:
                yield fd
            finally:
                close_quietly(self._fs, fd)

    def _open_folder(self, folder: str) -> int:
        """Component by component, so that no symlink in between is followed."""
        return self._descend(folder, lambda parent, name: self._fs.open_directory(name, parent))

    def _make_folder(self, folder: str) -> int:
        """A descriptor of a folder whose entry, and those above it, are durable."""
        done: list[str] = []

        def enter(parent: int, name: str) -> int:
            done.append(name)
            path = "/".join(done)
            if path in self._durable:
                return self._fs.open_directory(name, parent)
            try:
                self._fs.mkdir(name, parent)
            except FileExistsError:
                # Whoever made it may have died before its sync.
                pass
            self._fs.fsync(parent)
            fd = self._fs.open_directory(name, parent)
            self._durable.add(path)
            return fd

        with self._translated("make folder", folder):
            return self._descend(folder, enter)

    def _descend(self, folder: str, enter: Callable[[int, str], int]) -> int:
        fd = self._fs.open_directory(".", self._root)
        for name in folder.split("/") if folder else ():
            if not _COMPONENT.fullmatch(name):
                close_quietly(self._fs, fd)
                raise StorageError("no name of a folder", operation="use storage", subject=folder)
            try:
                below = enter(fd, name)
            finally:
                close_quietly(self._fs, fd)
            fd = below
        return fd

    # -- ends ------------------------------------------------------------------------------

    def close(self) -> None:
        with self._mutex:
            if self._root >= 0:
                close_quietly(self._fs, self._root)
                self._root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _translated(self, operation: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, operation, f"{self.path}/{name}".rstrip("/")) from error


class LocalUpload:
    """`Upload` into a locked temporary file; owns both descriptors."""

    def __init__(
        self, storage: LocalStorage, fs: FileOps, folder_fd: int, fd: int, temporary: str
    ) -> None:
        self._storage = storage
        self._fs = fs
        self._folder_fd = folder_fd
        self._fd = fd
        self._temporary = temporary
        self._over = False

    def write(self, data: bytes | memoryview) -> None:
        with self._storage._translated("write to", self._temporary):
            self._fs.write(self._fd, data)

    def publish(self, name: str, sha256: bytes, *, replace: bool = True) -> bool:
        storage, fs = self._storage, self._fs
        folder, _, leaf = name.rpartition("/")
        if not _COMPONENT.fullmatch(leaf):
            raise StorageError("no name of a file", operation="write to", subject=name)
        try:
            with storage._translated("write to", name):
                fs.fsync(self._fd)
                if self._hash() != sha256:
                    raise StorageError(
                        "what was read back is not what was written",
                        operation="write to",
                        subject=f"{storage.path}/{name}",
                        remedy="the disk or the memory of this machine fails: look at its logs",
                    )
            target = storage._make_folder(folder)
            try:
                with storage._translated("write to", name):
                    if replace:
                        fs.rename(self._temporary, leaf, self._folder_fd, target)
                    else:
                        try:
                            fs.rename_noreplace(self._temporary, leaf, self._folder_fd, target)
                        except FileExistsError:
                            return False
                    self._over = True
                    fs.fsync(target)
            finally:
                close_quietly(fs, target)
            return True
        finally:
            self.discard()

    def _hash(self) -> bytes:
        digest = hashlib.sha256()
        offset = 0
        while data := self._fs.pread(self._fd, _PIECE, offset):
            digest.update(data)
            offset += len(data)
        return digest.digest()

    def discard(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        if not self._over:
            try:
                self._fs.unlink(self._temporary, self._folder_fd)
            except OSError:
                # Whoever opens the storage next removes it: its lock is free then.
                pass
        close_quietly(self._fs, fd)
        close_quietly(self._fs, self._folder_fd)


def close_quietly(fs: FileOps, fd: int) -> None:
    """Close what was read, or was synced already: then an error says nothing of the bytes."""
    try:
        fs.close(fd)
    except OSError:
        pass


def storage_error(error: OSError, operation: str, subject: str) -> LifecycleError:
    """An error of the system as one of ours, with its remedy."""
    cause = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFullError(
            "no space left",
            operation=operation,
            subject=subject,
            remedy="free some space and run again: what was committed stays",
        )
    if isinstance(error, FileNotFoundError):
        return StorageMissingError("is not there", operation=operation, subject=subject)
    if isinstance(error, NotRegularFileError):
        return StorageError("is no regular file", operation=operation, subject=subject)
    if error.errno in _READ_ONLY:
        return StorageReadOnlyError(
            cause,
            operation=operation,
            subject=subject,
            remedy="check the permissions, and whether the filesystem is mounted read-only",
        )
    return StorageError(
        cause, operation=operation, subject=subject, remedy="check the disk and its cables"
    )
