"""Reads a file for a vault, and notices when it is not, or does not stay, what the record says.

Opened without following a symlink, fstat'ed, compared with the fingerprint, read to its end,
fstat'ed and lstat'ed again: the content counts only if all saw one and the same tuple.
"""

from __future__ import annotations

import os
import stat as stat_module
from typing import NamedTuple

from lifecycle_sync.act import metadata
from lifecycle_sync.act.site import Site
from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import NotRegularFileError
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.content import ContentKey, Metadata
from lifecycle_sync.model.file import Kind
from lifecycle_sync.vault.frames import key_of
from lifecycle_sync.vault.vault import VaultWriter

# Up to here a content is read at once and goes into a pack.
SMALL_BYTES = 1 << 20
_CHUNK_BYTES = 4 << 20
_INT64_MAX = 2**63 - 1


class NotAsRecorded(Exception):  # noqa: N818 - not a failure: a reason to leave a file alone
    """The file is not what the record says, or did not stay it while it was read."""


class Read(NamedTuple):
    """A content, and what belongs to it. `key` is None for a symlink; `data` has a small content,
    a large one is in the vault's writer already."""

    key: ContentKey | None
    metadata: Metadata
    data: bytes | None = None


class Reader:
    """Reads files of one root into a vault's writer. A context manager: it holds directories."""

    def __init__(self, site: Site, writer: VaultWriter) -> None:
        self._site = site
        self._fs = site.fs
        self._writer = writer
        self._descent = Descent(site.fs, site.root)
        # The folder that was opened last, and its descriptor.
        self._folder: bytes | None = None
        self._folder_fd = -1

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._descent.__exit__(*exc)

    def read(self, file: ActFile) -> Read:
        """Raises `NotAsRecorded`, `OSError` for a file that cannot be read, and what the writer
        raises."""
        folder, _, name = file.path.rpartition(b"/")
        try:
            if folder != self._folder:
                self._enter(folder)
            if file.kind is Kind.SYMLINK:
                return self._read_symlink(self._folder_fd, name, file)
            fd, status = self._fs.open_read_stat(name, self._folder_fd)
            try:
                self._check(file, status)
                self._settle(status)
                found = self._read_open(fd, status, self._folder_fd, name)
            finally:
                self._fs.close(fd)
        except (FileNotFoundError, NotADirectoryError):
            raise NotAsRecorded("is not there any more") from None
        except NotRegularFileError:
            raise NotAsRecorded("is no regular file any more") from None
        return found

    def _read_symlink(self, dir_fd: int, name: bytes, file: ActFile) -> Read:
        status = self._fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        self._check(file, status)
        found = metadata.capture_symlink(self._fs, dir_fd, name, status)
        again = self._fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if tuple_of(again) != tuple_of(status):
            raise NotAsRecorded("changed while it was read")
        return Read(None, found)

    def _enter(self, folder: bytes) -> None:
        """Files come folder by folder."""
        self._folder = None
        self._folder_fd = self._descent.open(folder)
        self._folder = folder

    def _check(self, file: ActFile, status: os.stat_result) -> None:
        if differs(file, status, stable_inodes=self._site.repository.identity.stable_inodes):
            raise NotAsRecorded("changed since it was last looked at; the next sync takes it up")

    def _settle(self, status: os.stat_result) -> None:
        """Let the clock's grain pass where the file was written just now: within it a second write
        may leave the tuple as it is."""
        newest = max(status.st_mtime_ns, status.st_ctime_ns)
        left = newest + self._site.margin_ns - self._site.now_ns()
        if 0 < left <= self._site.margin_ns:
            self._site.cancel.wait(left / 1e9)

    def _read_open(self, fd: int, status: os.stat_result, dir_fd: int, name: bytes) -> Read:
        found = metadata.capture(self._fs, fd, status, birth=status.st_size > SMALL_BYTES)
        if status.st_size <= SMALL_BYTES:
            data = self._all(fd, status.st_size)
            self._check_stayed(fd, status, dir_fd, name, len(data))
            return Read(key_of(self._site.algorithm, data), found, data)
        upload = self._writer.open_object(self._site.algorithm)
        try:
            position = 0
            # To one byte past its end: a file that grows is not read for ever.
            while chunk := self._fs.pread(
                fd, min(_CHUNK_BYTES, status.st_size + 1 - position), position
            ):
                self._site.cancel.check()
                upload.write(chunk)
                position += len(chunk)
                self._site.told.advance(0, len(chunk))
                if position > status.st_size:
                    break
            self._check_stayed(fd, status, dir_fd, name, position)
        except BaseException:
            upload.abort()
            raise
        return Read(upload.finish(), found)

    def _all(self, fd: int, size: int) -> bytes:
        data = self._fs.pread(fd, size + 1, 0)
        while 0 < len(data) < size:
            more = self._fs.pread(fd, size + 1 - len(data), len(data))
            if not more:
                break
            data += more
        self._site.told.advance(0, len(data))
        return data

    def _check_stayed(
        self, fd: int, status: os.stat_result, dir_fd: int, name: bytes, size: int
    ) -> None:
        wanted = tuple_of(status)
        if (
            size != status.st_size
            or tuple_of(self._fs.fstat(fd)) != wanted
            or tuple_of(self._fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)) != wanted
        ):
            raise NotAsRecorded("changed while it was read")


def tuple_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """What must stay the same while a file is read."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def differs(file: ActFile, status: os.stat_result, *, stable_inodes: bool) -> bool:
    """Whether what lies there is not what the record says."""
    inode = status.st_ino
    if (
        status.st_mtime_ns == file.mtime_ns
        and status.st_ctime_ns == file.ctime_ns
        and status.st_size == file.size
        and inode == file.inode
        and status.st_mode >> 12 == file.kind
    ):
        return False
    # SQLite's integers are signed, and times are kept within their range.
    if inode > _INT64_MAX:
        inode -= 2**64
    return (
        stat_module.S_IFMT(status.st_mode) >> 12 != file.kind
        or status.st_size != file.size
        or _clamp(status.st_mtime_ns) != file.mtime_ns
        or _clamp(status.st_ctime_ns) != file.ctime_ns
        or (stable_inodes and inode != file.inode)
    )


def _clamp(time_ns: int) -> int:
    return min(max(time_ns, -_INT64_MAX - 1), _INT64_MAX)
