"""Files moved into a batch of the trash, each checked at the moment it is moved.

A rename is all that happens to a file: its inode, and with it owner, mode, times, attributes and
other names, stays what it is. Nothing is copied, so what lies on another filesystem is skipped.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from lifecycle_sync.act.breaker import OF_THE_DISK
from lifecycle_sync.clock import NS_MAX, NS_MIN
from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.trash import BATCH_MAX, TrashBatch, TrashEntry, TrashOutcome

TAKEN = TrashOutcome(True)
_NAMES = tuple(b"%d" % number for number in range(BATCH_MAX))
_CAUSES = {
    errno.ENOENT: "it is not there",
    errno.ENOTDIR: "its folder is not there: something else has that name",
    errno.ELOOP: "its folder is not there: a symlink has that name",
    errno.EXDEV: "it lies on another filesystem than the trash",
    errno.EPERM: "not permitted (immutable, or in a folder where only its owner may move it)",
}

# A directory's descriptor and a name in it.
Place = tuple[int, bytes]


class MovedLinks:
    """Files with several names of which one was moved: that gives the file, and with it all of its
    names, another ctime, which is then no reason to leave the others."""

    def __init__(self) -> None:
        # By inode: the ctime before the first move, and after the last.
        self._ctimes: dict[int, tuple[int, int]] = {}

    def note(self, arrived: os.stat_result, print_: Fingerprint) -> None:
        """A file lies in the trash that was as `print_` says."""
        if arrived.st_nlink > 1:
            self._ctimes[arrived.st_ino] = (print_.ctime_ns, arrived.st_ctime_ns)

    def explain(self, found: os.stat_result, print_: Fingerprint) -> bool:
        """Whether our own moves, and nobody else, made a file's ctime another one."""
        return self._ctimes.get(found.st_ino) == (print_.ctime_ns, found.st_ctime_ns)


class Taking:
    """A batch that is being filled; a context manager, for one thread.

    Its sidecar is durable. What was taken is durable after `sync`. A batch into which nothing came
    is taken away when it is closed.
    """

    def __init__(
        self,
        fs: FileOps,
        descent: Descent,
        batch: TrashBatch,
        batch_fd: int,
        *,
        stable_inodes: bool,
        links: MovedLinks,
        close: Callable[[bool], None],
    ) -> None:
        """Owns `descent` and `batch_fd`. `close(empty)` is called at the end."""
        self.batch = batch
        self._fs = fs
        self._descent = descent
        self._batch_fd = batch_fd
        self._stable_inodes = stable_inodes
        self._links = links
        self._close = close
        self._names = {entry.path: _NAMES[n] for n, entry in enumerate(batch.entries)}
        # The folder that was opened last: its neighbours are likely to come next.
        self._folder: bytes | None = None
        self._folder_fd = -1
        self._changed: set[bytes] = set()
        self._empty = True

    def __enter__(self) -> Taking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Calling it again does nothing."""
        if self._batch_fd >= 0:
            fd, self._batch_fd = self._batch_fd, -1
            self._descent.__exit__()
            try:
                self._fs.close(fd)
            except OSError:
                pass  # nothing was written through it
            self._close(self._empty)

    def take(self, entry: TrashEntry) -> TrashOutcome:
        """Move one file of the batch into the trash, if it still is what the entry says.

        Another file that took its place between the look and the rename goes back; where that is
        taken by then, it is kept in the trash, with an alarm. Raises `ValueError` for an entry
        that is not of this batch, no `OSError`.
        """
        fs = self._fs
        path = entry.path
        name = self._names.get(path)
        if name is None:
            raise ValueError("not an entry of this batch")
        folder, _, source = path.rpartition(b"/")
        try:
            if folder != self._folder:
                self._enter(folder)
            found = fs.stat(source, dir_fd=self._folder_fd, follow_symlinks=False)
            print_ = entry.fingerprint
            if (
                found.st_mtime_ns != print_.mtime_ns
                or found.st_size != print_.size
                or found.st_ctime_ns != print_.ctime_ns
                or found.st_ino != print_.inode
                or found.st_mode >> 12 != print_.kind
            ):
                differing = differences(found, print_, inode=self._stable_inodes, ctime=True)
                if differing == ["ctime"] and self._links.explain(found, print_):
                    differing = []
                if differing:
                    return TrashOutcome(False, f"it changed: {', '.join(differing)}")
        except OSError as error:
            return refused(error)
        try:
            fs.rename_noreplace(source, name, self._folder_fd, self._batch_fd)
            arrived = fs.stat(name, dir_fd=self._batch_fd, follow_symlinks=False)
        except OSError as error:
            return self._failed(error, name, source)
        if (
            arrived.st_ino == found.st_ino
            and arrived.st_mtime_ns == found.st_mtime_ns
            and arrived.st_size == found.st_size
            and arrived.st_mode == found.st_mode
        ):
            self._empty = False
            self._links.note(arrived, print_)
            return TAKEN
        return give_back(
            fs,
            (self._batch_fd, name),
            (self._folder_fd, source),
            "it was changed or replaced at the last moment",
        )

    def _enter(self, folder: bytes) -> None:
        self._folder = None
        self._folder_fd = self._descent.open(folder)
        self._folder = folder
        self._changed.add(folder)

    def _failed(self, error: OSError, name: bytes, source: bytes) -> TrashOutcome:
        """After an error of the rename, or of the look at what came: whatever came goes back."""
        cause = refused(error)
        try:
            self._fs.stat(name, dir_fd=self._batch_fd, follow_symlinks=False)
        except FileNotFoundError:
            return cause
        except OSError:
            pass
        item = (self._batch_fd, name)
        return give_back(self._fs, item, (self._folder_fd, source), cause.reason)

    def sync(self) -> None:
        """Make everything taken so far durable. Raises `OSError`; then nothing of it is certain."""
        sync_names(self._fs, self._descent, self._batch_fd, self._changed)
        self._folder = None


def sync_names(fs: FileOps, descent: Descent, fd: int, folders: Iterable[bytes]) -> None:
    """Make changes of names durable: in the directory `fd`, and in `folders` below a root."""
    if fs.syncfs(fd):
        return
    for folder in folders:
        try:
            folder_fd = descent.open(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone with all its names
        fs.fsync(folder_fd)


def give_back(fs: FileOps, item: Place, home: Place, why: str) -> TrashOutcome:
    """Return what came into the trash, and should not have, to where it was; never ok."""
    try:
        fs.rename_noreplace(item[1], home[1], item[0], home[0])
    except FileNotFoundError:
        # Not there any more, or its folder is not: the next look tells.
        return TrashOutcome(False, why, alarm=True)
    except FileExistsError:
        kept = "its place was taken meanwhile"
    except OSError as error:
        kept = f"it could not go back: {os.strerror(error.errno or 0)}"
    else:
        return TrashOutcome(False, f"{why}; it went back")
    return TrashOutcome(False, f"{why}; it is kept in the trash, {kept}", alarm=True)


def differences(
    found: os.stat_result, print_: Fingerprint, *, inode: bool, ctime: bool = False
) -> list[str]:
    """In what a file is another than was meant. (In the trash it has another ctime: a rename
    moves it.) Numbers are compared as the registry keeps them, in 64 bits."""
    pairs = [
        ("kind", found.st_mode >> 12, print_.kind),
        ("size", found.st_size, print_.size),
        ("mtime", _clamped(found.st_mtime_ns), _clamped(print_.mtime_ns)),
    ]
    if ctime:
        pairs.append(("ctime", _clamped(found.st_ctime_ns), _clamped(print_.ctime_ns)))
    if inode:
        pairs.append(("inode", found.st_ino % 2**64, print_.inode % 2**64))
    return [name for name, one, other in pairs if one != other]


def _clamped(ns: int) -> int:
    return min(max(ns, NS_MIN), NS_MAX)


def refused(error: OSError | ValueError) -> TrashOutcome:
    """What an error means for one file."""
    if isinstance(error, OSError):
        code = error.errno or 0
        reason = _CAUSES.get(code, os.strerror(code))
        return TrashOutcome(False, reason, failed=code in OF_THE_DISK)
    return TrashOutcome(False, str(error))
