"""The files of a rebuild: the copy that is read, the new database, and the swap of old and new.

Everything is made in `<database>.rebuild/` and the old database stays in place until the new one is
whole. A note there, written before the swap, says what is being done, so that a rebuild that was
killed at any point goes on where it stood:

    note   new one in the folder   database in place   then
    yes    yes                     no                  put the new one in its place, then scan
    yes    no                      yes                 it is the new one: scan
    otherwise                                          start again

The old database is only ever renamed, together with its log, and never onto anything.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

from lifecycle_sync.clock import to_datetime
from lifecycle_sync.errors import BusyError, RegistryError, StorageFullError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.registry.database import lock_holder
from lifecycle_sync.registry.header import log_size

_LOCK_SECONDS = 2.0
_SUFFIXES = ("", "-wal", "-shm")
_NOTE = "note.json"
_NOTE_FORMAT = 1
_CHUNK = 1 << 20
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Note:
    """What a rebuild that has begun to change things is about.

    `set_aside` is the file name of the old database, empty where there was none; `registry_id` that
    of the new one, hexadecimal; `source` says where old records came from, `kept` how many of them
    each root has (by hexadecimal id), `lost` what is not among them, `origin` whose id the registry
    goes on with.
    """

    registry_id: str
    set_aside: str = ""
    source: str = ""
    origin: str = ""
    kept: dict[str, int] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


class RebuildFiles:
    """The files beside one database. `folder` is that for what is being made."""

    def __init__(self, fs: FileOps, database: str) -> None:
        self._fs = fs
        self.database = os.path.realpath(database)
        self.folder = self.database + ".rebuild"
        self.old_copy = os.path.join(self.folder, "old.db")
        self.new = os.path.join(self.folder, "new.db")
        self._parent, self._name = os.path.split(self.database)

    # -- alone -----------------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep everybody from opening and writing to the registry, and from scanning for it.

        Raises `BusyError`, naming the process, when somebody does.
        """
        with ExitStack() as held:
            for path in self._lock_files():
                fd = self._fs.open_lock_file(path)
                held.callback(self._fs.close, fd)
                self._take(fd)
            yield

    def _lock_files(self) -> list[str]:
        self._fs.make_directories(self._parent)
        locks = self.database + ".locks"
        try:
            names = sorted(os.listdir(locks))
        except FileNotFoundError:
            names = []
        return [self.database + ".lock", *(os.path.join(locks, name) for name in names)]

    def _take(self, fd: int) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not self._fs.lock(fd, wait=False):
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"in use by {lock_holder(fd)}",
                    operation="rebuild registry",
                    subject=self.database,
                    remedy="stop that process first",
                )
            time.sleep(0.02)

    # -- what is there ---------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether there is a database. Raises `RegistryError` for what is no file."""
        if not os.path.lexists(self.database):
            return False
        if not os.path.isfile(self.database):
            raise RegistryError(
                "is not a file",
                operation="rebuild registry",
                subject=self.database,
                remedy="name a file with --database",
            )
        return True

    def newest_set_aside(self) -> str:
        """The database that was set aside last; empty if there is none."""
        starts = (self._name + ".corrupt-", self._name + ".set-aside-")
        found = [
            self._beside(name)
            for name in os.listdir(self._parent)
            if name.startswith(starts) and not name.endswith(_SUFFIXES[1:])
        ]
        return max(found, key=lambda path: path.rpartition("-")[2], default="")

    def any(self) -> bool:
        """Whether there is a database, or the log of one."""
        return self._is_there(self._name) or log_size(self.database) > 0

    def begun(self) -> bool:
        """Whether the swap may have begun."""
        return self._read_note() is not None

    def set_aside(self, note: Note) -> str:
        """The path of the old database that a rebuild set aside; empty where there was none."""
        path = self._beside(note.set_aside)
        return path if note.set_aside and os.path.exists(path) else ""

    def unfinished(self) -> Note | None:
        """The note of a rebuild that was stopped and can go on, the swap now done.

        What a rebuild that cannot go on has left is removed.
        """
        note = self._read_note()
        if note is not None:
            in_folder, in_place = os.path.exists(self.new), self._is_there(self._name)
            if in_folder and not in_place:
                self._swap(note)
            if in_folder != in_place:
                return note
        self.clean()
        return None

    def _read_note(self) -> Note | None:
        try:
            fields = json.loads(self._fs.read_file(os.path.join(self.folder, _NOTE)))
            if fields.pop("format") != _NOTE_FORMAT:
                return None
            return Note(**{**fields, "lost": tuple(fields["lost"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _beside(self, name: str) -> str:
        return os.path.join(self._parent, name)

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(self._beside(name))

    # -- making ----------------------------------------------------------------------------

    def make_folder(self) -> None:
        """Make the folder for what is being made. Idempotent."""
        try:
            self._fs.make_directories(self.folder)
        except OSError as error:
            raise _disk_error(error, self.folder) from error

    def copy_old(self, source: str) -> None:
        """Copy a database and its log to `old_copy`; blocks that cannot be read become zeros.

        Raises `StorageFullError` and `RegistryError`.
        """
        self.clean()
        self.make_folder()
        try:
            for suffix in ("", "-wal"):
                if os.path.lexists(source + suffix):
                    self._copy(source + suffix, self.old_copy + suffix)
        except OSError as error:
            raise _disk_error(error, self.folder) from error

    def _copy(self, source: str, target: str) -> None:
        source_fd = self._fs.open_read(source)
        try:
            target_fd = self._fs.create(target)
            try:
                size = self._fs.fstat(source_fd).st_size
                for offset in range(0, size, _CHUNK):
                    self._fs.write(target_fd, self._read(source_fd, offset))
            finally:
                self._fs.close(target_fd)
        finally:
            self._fs.close(source_fd)

    def _read(self, fd: int, offset: int) -> bytes:
        try:
            return self._fs.pread(fd, _CHUNK, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        size = min(_CHUNK, self._fs.fstat(fd).st_size - offset)
        return b"".join(
            self._read_block(fd, start, min(_BLOCK, offset + size - start))
            for start in range(offset, offset + size, _BLOCK)
        )

    def _read_block(self, fd: int, offset: int, size: int) -> bytes:
        try:
            return self._fs.pread(fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return bytes(size)

    def free_name(self, kind: str, now_ns: int) -> str:
        """A name to set the database aside under; `kind` is "corrupt" or "set-aside"."""
        moment = to_datetime(now_ns).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        name = f"{self._name}.{kind}-{moment}"
        while any(self._is_there(name + suffix) for suffix in _SUFFIXES):
            number += 1
            name = f"{self._name}.{kind}-{moment}.{number}"
        return name

    def swap(self, note: Note) -> None:
        """Set the old database aside and put `new` in its place."""
        folder_fd = self._fs.open_directory(self.folder)
        try:
            text = json.dumps({"format": _NOTE_FORMAT, **asdict(note)}, indent=2)
            self._fs.write_file(_NOTE, text.encode(), folder_fd)
        except OSError as error:
            raise _disk_error(error, self.folder) from error
        finally:
            self._fs.close(folder_fd)
        self._swap(note)

    def _swap(self, note: Note) -> None:
        """Safe to be stopped and done again: each rename shows whether it was done."""
        parent_fd = self._fs.open_directory(self._parent)
        folder_fd = self._fs.open_directory(self.folder)
        try:
            # The database first: without it, nobody writes to the log that is left for a moment.
            for suffix in _SUFFIXES:
                name = self._name + suffix
                if not self._is_there(name):
                    continue
                if note.set_aside:
                    self._fs.rename_noreplace(name, note.set_aside + suffix, parent_fd, parent_fd)
                else:
                    # What a lost database left: an empty log and scratch memory.
                    self._fs.unlink(name, parent_fd)
            self._fs.fsync(parent_fd)
            self._fs.rename_noreplace(os.path.basename(self.new), self._name, folder_fd, parent_fd)
            self._fs.fsync(parent_fd)
            self._fs.fsync(folder_fd)
        except OSError as error:
            raise _disk_error(error, self.database) from error
        finally:
            self._fs.close(folder_fd)
            self._fs.close(parent_fd)

    def clean(self) -> None:
        """Remove the folder for what is being made. Idempotent."""
        try:
            folder_fd = self._fs.open_directory(self.folder)
        except FileNotFoundError:
            return
        try:
            # The note first: without the rest it would say that only the scan is left.
            for name in sorted(self._fs.listdir(folder_fd), key=lambda name: name != _NOTE):
                self._fs.unlink(name, folder_fd)
        finally:
            self._fs.close(folder_fd)
        self._fs.rmdir(self.folder)


def _disk_error(error: OSError, path: str) -> RegistryError | StorageFullError:
    cause = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFullError(
            cause,
            operation="rebuild registry",
            subject=path,
            remedy="free some space beside the database and run it again; nothing was lost",
        )
    return RegistryError(
        cause,
        operation="rebuild registry",
        subject=path,
        remedy="check the disk and the permissions of the folder",
    )
