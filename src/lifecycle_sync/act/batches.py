"""The directory of the trash: its batches made, listed, read and taken away when they are empty.

One directory a batch, named by its id, with the sidecar and the files in it. Everything is opened
from the root down without following a symlink, for whoever can write into the root can put
anything here. What cannot be read as a batch is reported and left alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from lifecycle_sync.act.sidecar import SIDECAR_MAX_BYTES, decode, encode
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import LifecycleError, StorageFullError, TrashError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.ids import from_text, to_text
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY
from lifecycle_sync.model.trash import SIDECAR_NAME, TRASH_DIRECTORY, TrashBatch, TrashEntry

TRASH_PATH = PRIVATE_DIRECTORY + b"/" + TRASH_DIRECTORY
_FULL = {errno.ENOSPC, errno.EDQUOT}
# Begun so long ago and still empty: its writer is dead.
_LEFT_OVER_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class DamagedBatch:
    """A thing in the trash that cannot be read as a batch. It is left alone."""

    name: bytes
    error: LifecycleError


def path_of(batch_id: bytes) -> bytes:
    """The directory of a batch, relative to the root."""
    return TRASH_PATH + b"/" + to_text(batch_id).encode()


def close_quietly(fs: FileOps, fd: int) -> None:
    """Close a directory: nothing was written through it, so an error means nothing."""
    try:
        fs.close(fd)
    except OSError:
        pass


class Batches:
    """The batches of one root. `root` names it in errors; `descent` starts there."""

    def __init__(self, fs: FileOps, descent: Descent, root: bytes) -> None:
        self._fs = fs
        self._descent = descent
        self._root = root
        # The batch used last: its directory, what still lies in it, and the names by path.
        self._id = b""
        self._fd = -1
        self._left: set[bytes] = set()
        self._names: dict[bytes, bytes] = {}

    def close(self) -> None:
        fd = self._fd
        # Forgotten first: closed twice, the number may be somebody else's.
        self._id, self._fd, self._left, self._names = b"", -1, set(), {}
        if fd >= 0:
            close_quietly(self._fs, fd)

    def make(self, batch: TrashBatch) -> int:
        """A descriptor of the new directory of a batch, its sidecar in it, durable.

        Raises `TrashError` where the trash cannot be used, `StorageFullError` for a full disk; then
        nothing has changed. `ValueError` for paths that no sidecar can hold.
        """
        text = encode(batch)
        if len(text) > SIDECAR_MAX_BYTES:
            raise ValueError("paths too long for one batch")
        try:
            return self._make(to_text(batch.batch_id).encode(), text)
        except OSError as error:
            raise self.unusable(error) from error

    def _make(self, name: bytes, text: bytes) -> int:
        fs = self._fs
        new: list[bytes] = []
        trash_fd = self._descent.make(TRASH_PATH, made=lambda path, _: new.append(path))
        fs.mkdir(name, trash_fd)
        fd = -1
        try:
            fd = fs.open_directory(name, trash_fd)
            if fs.fstat(fd).st_dev != self._descent.device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            fs.write_file(SIDECAR_NAME, text, fd)
            fs.fsync(trash_fd)
            for path in reversed(new):
                fs.fsync(self._descent.open(path.rpartition(b"/")[0]))
        except BaseException:
            self._undo(name, fd)
            raise
        return fd

    def _undo(self, name: bytes, fd: int) -> None:
        """Take an unused batch away; what cannot be, `sweep` takes later. Raises no `OSError`."""
        if fd >= 0:
            try:
                self._fs.unlink(SIDECAR_NAME, fd)
            except OSError:
                pass
            close_quietly(self._fs, fd)
        try:
            self._fs.rmdir(name, self._descent.open(TRASH_PATH))
        except OSError:
            pass

    def unusable(self, error: OSError) -> LifecycleError:
        """What to tell a person of a trash that cannot be used."""
        cause = os.strerror(error.errno or 0)
        where = os.path.join(self._root, TRASH_PATH)
        if error.errno in _FULL:
            return StorageFullError(
                cause, operation="use trash", subject=where, remedy="free some space there"
            )
        if error.errno == errno.EXDEV:
            cause = "it lies on another filesystem than the root"
        return TrashError(
            cause,
            operation="use trash",
            subject=where,
            remedy="it must be a folder on the root's own filesystem that can be written to",
        )

    # -- reading ---------------------------------------------------------------------------

    def read_all(self) -> Iterator[TrashBatch | DamagedBatch]:
        """Oldest first. Raises `TrashError` where the trash itself cannot be read."""
        for name in self._listed():
            found = self._read(name)
            if found is not None:
                yield found

    def read(self, batch_id: bytes) -> TrashBatch | DamagedBatch | None:
        """One of them, by its id."""
        return self._read(to_text(batch_id).encode())

    def _listed(self) -> list[bytes]:
        try:
            names = self._fs.listdir(self._descent.open(TRASH_PATH))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self.unusable(error) from error
        return sorted(os.fsencode(name) for name in names)

    def _read(self, name: bytes) -> TrashBatch | DamagedBatch | None:
        """None for one that went meanwhile, and for one that was never begun."""
        subject = os.fsdecode(os.path.join(self._root, TRASH_PATH, name))
        try:
            batch_id = _id_of(name)
            fd = self._descent.open(TRASH_PATH + b"/" + name)
            try:
                data = self._sidecar(fd)
            except FileNotFoundError:
                # Its writer is about to write the sidecar, or died before it did.
                if all(_is_torn(it) for it in self._fs.listdir(fd)):
                    return None
                raise ValueError("it has no sidecar") from None
            batch = decode(data, subject)
            if batch.batch_id != batch_id:
                raise ValueError("its sidecar is that of another batch")
        except FileNotFoundError:
            return None
        except LifecycleError as error:
            return DamagedBatch(name, error)
        except (OSError, ValueError) as error:
            cause = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            return DamagedBatch(
                name,
                TrashError(
                    cause,
                    operation="read trash",
                    subject=subject,
                    remedy="it is left alone; look at it, and move or delete it by hand",
                ),
            )
        return batch

    def _sidecar(self, fd: int) -> bytes:
        sidecar_fd, status = self._fs.open_read_stat(SIDECAR_NAME, fd)
        try:
            if status.st_size > SIDECAR_MAX_BYTES:
                raise ValueError("a sidecar of that size is not ours")
            return self._fs.pread(sidecar_fd, status.st_size + 1, 0)
        finally:
            self._fs.close(sidecar_fd)

    # -- one batch -------------------------------------------------------------------------

    def place(self, batch: TrashBatch, entry: TrashEntry) -> tuple[int, bytes]:
        """Where an entry's file lies, or lay: a directory, valid until another batch is asked for,
        and the name in it. Raises `OSError`, and `ValueError` for an entry of another batch."""
        if self._id != batch.batch_id:
            self._open(batch)
        name = self._names.get(entry.path)
        if name is None:
            raise ValueError("not an entry of this batch")
        return self._fd, name

    def _open(self, batch: TrashBatch) -> None:
        self.close()
        name = to_text(batch.batch_id).encode()
        fd = self._fs.open_directory(name, self._descent.open(TRASH_PATH))
        try:
            if self._fs.fstat(fd).st_dev != self._descent.device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            names = self._fs.listdir(fd)
        except BaseException:
            close_quietly(self._fs, fd)
            raise
        self._id, self._fd = batch.batch_id, fd
        self._left = {os.fsencode(it) for it in names} - {SIDECAR_NAME}
        self._names = {entry.path: b"%d" % n for n, entry in enumerate(batch.entries)}

    def left(self, batch: TrashBatch) -> list[TrashEntry]:
        """The entries whose files still lie there, by a fresh look. Raises `OSError`."""
        try:
            self._open(batch)
        except FileNotFoundError:
            return []
        return [entry for entry in batch.entries if self._names[entry.path] in self._left]

    def gone(self, batch: TrashBatch, name: bytes) -> None:
        """A file has left a batch; the batch goes with the last one. Raises no `OSError`."""
        if self._id == batch.batch_id:
            self._left.discard(name)
            if not self._left:
                self.tidy(batch.batch_id)

    def tidy(self, batch_id: bytes) -> bool:
        """Take a batch away if nothing but its sidecar is left in it; whether it is gone.

        The sidecar goes last, and only when it is certain that the files are gone: without it they
        could not be told apart. Raises no `OSError`.
        """
        fs = self._fs
        self.close()
        try:
            trash_fd = self._descent.open(TRASH_PATH)
            name = to_text(batch_id).encode()
            fd = fs.open_directory(name, trash_fd)
            try:
                names = fs.listdir(fd)
                if not _only_ours(names):
                    return False
                fs.fsync(fd)
                for it in names:
                    fs.unlink(it, fd)
                fs.rmdir(name, trash_fd)
            finally:
                close_quietly(fs, fd)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _is_empty(self, name: bytes) -> bool:
        try:
            return _only_ours(self._fs.listdir(self._descent.open(TRASH_PATH + b"/" + name)))
        except OSError:
            return False

    def sweep(self, now_ns: int | None) -> int:
        """Take away what dead writers left empty, if it is old by `now_ns` (None: of any age); how
        many batches that were. Only what can be read as a batch, or was never described."""
        swept = 0
        for name in self._listed():
            try:
                batch_id = _id_of(name)
            except ValueError:
                continue
            # The first six bytes are when it was made, in milliseconds.
            made_ns = int.from_bytes(batch_id[:6], "big") * 1_000_000
            old = now_ns is None or made_ns + _LEFT_OVER_NS <= now_ns
            if old and self._is_empty(name):
                readable = not isinstance(self._read(name), DamagedBatch)
                swept += readable and self.tidy(batch_id)
        return swept


def _id_of(name: bytes) -> bytes:
    """Of the name of a batch's directory. Raises `ValueError` unless it is exactly one."""
    try:
        batch_id = from_text(name.decode("ascii"))
    except ValueError:
        batch_id = b""
    if not batch_id or to_text(batch_id).encode() != name:
        raise ValueError("it is no batch")
    return batch_id


def _is_torn(name: str) -> bool:
    """Whether this is a sidecar that was never finished."""
    return os.fsencode(name).startswith(b"." + SIDECAR_NAME + b".")


def _only_ours(names: list[str]) -> bool:
    """Whether a batch holds nothing but its sidecar."""
    return all(os.fsencode(name) == SIDECAR_NAME or _is_torn(name) for name in names)
