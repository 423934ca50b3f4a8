"""Lease files: which temporary files belong to which process, for whoever comes after it.

A process has one file a folder of temporary files, in `.lifecycle/leases/` there, and holds a flock
on it for as long as it lives; the kernel gives that back when it dies, in whatever container. The
file is a log of JSON lines: `["+", device, inode, path]` when a path is tracked, `["-", path]` when
it no longer is. A path that is tracked before there is anything at it is listed once there is: a
thread looks for a while, again and again. Whoever gets the lock of a lease file has found a dead
process's; only what still has the listed device and inode is that process's.

A lock is taken before the file has its name, so that nobody takes a new lease for a dead one. A log
that is mostly history is written anew under another name before the old one goes.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as quoted

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY

FORMAT = 1
_FOLDER = os.path.join(os.fsdecode(PRIVATE_DIRECTORY), "leases")
_SUFFIX = ".lease"
_NEW = ".new-"
# A log is written anew when it has this many lines that no longer count, and more than those do.
_HISTORY_MAX = 4096
_FIRST_LOOK_SECONDS = 0.02
_LOOK_SECONDS_MAX = 1.0
_LOOKS_AT_ONCE = 1000
_CHUNK = 1 << 20

_log = logging.getLogger("lifecycle_sync.temp")


class Lease:
    """This process's lease on files in, or declared from, one folder. Thread-safe.

    The file is made by the first path. Where it cannot be made or written, tracking goes on
    without it, and the log says so once.
    """

    def __init__(self, fs: FileOps, base: str) -> None:
        self._fs = fs
        self._folder = os.path.join(base, _FOLDER)
        self._lock = threading.RLock()
        self._fd = -1
        self._path = ""
        self._broken = False
        # True: the log has its device and inode.
        self._listed: dict[str, bool] = {}
        self._unseen: dict[str, None] = {}
        self._history = 0
        self._keeper: threading.Thread | None = None
        self._wake = threading.Event()

    def add(self, path: str) -> None:
        """List a path, at once if there is something at it."""
        with self._lock:
            if self._broken:
                return
            if self._listed.get(path):
                self._history += 1
            self._listed[path] = False
            if not self._look(path):
                self._unseen[path] = None
                self._watch()

    def drop(self, path: str) -> None:
        """List a path no longer."""
        with self._lock:
            listed = self._listed.pop(path, None)
            if listed is None:
                return
            self._unseen.pop(path, None)
            if listed:
                self._history += 2
                self._write(f'["-",{quoted(path)}]\n')
                if self._history > max(_HISTORY_MAX, 2 * len(self._listed)):
                    self._renew()

    def close(self) -> None:
        """Give the lease back. What is still listed is then a dead process's."""
        with self._lock:
            self._wake.set()
            self._unseen.clear()
            if self._fd >= 0:
                if not any(self._listed.values()):
                    self._unlink(self._path)
                self._close()
            self._listed.clear()

    def forget_after_fork(self) -> None:
        """In a child: its parent's lease is the parent's, and must not outlive it here."""
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._keeper = None
        self._listed, self._unseen, self._history = {}, {}, 0
        self._close()

    def _close(self) -> None:
        fd, self._fd, self._path = self._fd, -1, ""
        if fd >= 0:
            try:
                self._fs.close(fd)
            except OSError:
                pass  # closed all the same

    def _look(self, path: str) -> bool:
        """List what is at a path; False where nothing is."""
        try:
            found = self._fs.stat(path, follow_symlinks=False)
        except OSError:
            return False
        self._listed[path] = True
        self._write(f'["+",{found.st_dev},{found.st_ino},{quoted(path)}]\n')
        return True

    def _write(self, line: str) -> None:
        try:
            if self._fd < 0:
                self._begin()
            self._fs.write(self._fd, line.encode("ascii"))
        except OSError as error:
            self._give_up(error)

    def _begin(self) -> None:
        self._fs.make_directories(self._folder)
        name = f"{os.getpid()}-{os.urandom(8).hex()}{_SUFFIX}"
        path, new = os.path.join(self._folder, name), os.path.join(self._folder, _NEW + name)
        fd = self._fs.create(new)
        try:
            self._fs.lock(fd, wait=False)
            head = {"lifecycle_lease": FORMAT, "pid": os.getpid()}
            self._fs.write(fd, json.dumps(head).encode() + b"\n")
            self._fs.rename(new, path, None, None)
        except BaseException:
            self._fs.close(fd)
            self._unlink(new)
            raise
        self._fd, self._path = fd, path

    def _renew(self) -> None:
        old_fd, old_path = self._fd, self._path
        try:
            self._begin()
            for path, listed in list(self._listed.items()):
                if listed:
                    self._look(path)
        except OSError as error:
            self._give_up(error)
        self._history = 0
        # Only now: until here both lists count, and the old one knows what was dropped.
        try:
            self._fs.close(old_fd)
        except OSError:
            pass
        self._unlink(old_path)

    def _unlink(self, path: str) -> None:
        try:
            self._fs.unlink(path)
        except OSError:
            pass  # the next start finds it dead and empty

    def _give_up(self, error: OSError) -> None:
        self._broken = True
        self._listed.clear()
        self._unseen.clear()
        # It could no longer be told what is dropped, and would name files that are to stay.
        if self._fd >= 0:
            self._unlink(self._path)
            self._close()
        _log.warning(
            "no lease can be kept in %s (%s): should this process be killed, its temporary files"
            " are not found by the next start",
            self._folder,
            error.strerror,
        )

    # -- paths at which nothing is yet -----------------------------------------------------

    def _watch(self) -> None:
        if self._keeper is None or not self._keeper.is_alive():
            self._wake.clear()
            self._keeper = threading.Thread(
                target=self._keep_looking, name="lifecycle-lease", daemon=True
            )
            self._keeper.start()

    def _keep_looking(self) -> None:
        wake, seconds = self._wake, _FIRST_LOOK_SECONDS
        while not wake.wait(seconds):
            with self._lock:
                waiting = list(self._unseen)[:_LOOKS_AT_ONCE]
                found = [path for path in waiting if self._look(path)]
                for path in found:
                    del self._unseen[path]
                # What was looked at in vain goes to the end of the queue.
                for path in waiting:
                    if path in self._unseen:
                        del self._unseen[path]
                        self._unseen[path] = None
                if not self._unseen:
                    self._keeper = None
                    return
            seconds = _FIRST_LOOK_SECONDS if found else min(2 * seconds, _LOOK_SECONDS_MAX)


@dataclass(slots=True)
class DeadLease:
    """A lease whose process is gone; this one holds its lock now."""

    path: str
    fd: int
    # What the process had: path to (device, inode).
    entries: dict[str, tuple[int, int]] = field(default_factory=dict)


def dead_leases(fs: FileOps, base: str) -> Iterator[DeadLease]:
    """The leases of dead processes on a folder, one after the other.

    Each is this process's alone until the next is asked for. Then its file goes, if `entries` is
    empty by then; else the next start finds it again.
    """
    folder = os.path.join(base, _FOLDER)
    for name in _names(folder):
        path = os.path.join(folder, name)
        fd = _lock_of_the_dead(fs, path)
        if fd < 0:
            continue
        try:
            if name.startswith(_NEW):
                # Of one that was killed before its lease had a name: nothing was listed in it.
                fs.unlink(path)
                continue
            entries = _entries(fs, fd, path)
            if entries is None:
                continue
            lease = DeadLease(path, fd, entries)
            yield lease
            if not lease.entries:
                fs.unlink(path)
        except OSError as error:
            _log.warning("the lease %s cannot be settled: %s", path, error)
        finally:
            fs.close(fd)


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as somebody sees it who changes nothing. `process` is the number that it had, which
    in another container means another one."""

    process: int
    alive: bool
    entries: dict[str, tuple[int, int]]


def survey(fs: FileOps, base: str) -> list[LeaseState]:
    """All leases on a folder that are understood, of the living and of the dead."""
    folder = os.path.join(base, _FOLDER)
    found = []
    for name in _names(folder):
        path = os.path.join(folder, name)
        process = name.removeprefix(_NEW).partition("-")[0]
        try:
            fd = fs.open_read(path)
        except OSError:
            continue
        try:
            alive = not fs.lock(fd, wait=False, shared=True)
            entries = _entries(fs, fd, path)
        except OSError:
            continue
        finally:
            fs.close(fd)
        if entries is not None:
            found.append(LeaseState(int(process) if process.isdigit() else 0, alive, entries))
    return found


def leased(fs: FileOps, base: str, *, without: str = "") -> set[tuple[int, int]]:
    """(device, inode) of all that living processes have listed, this one too. `without` is the
    lease of a dead one, whose lock the caller has."""
    folder = os.path.join(base, _FOLDER)
    found: set[tuple[int, int]] = set()
    for name in _names(folder):
        path = os.path.join(folder, name)
        if path == without:
            continue
        try:
            fd = fs.open_read(path)
        except OSError:
            continue  # given back meanwhile
        try:
            # A shared lock is refused while its process lives.
            if not fs.lock(fd, wait=False, shared=True):
                found.update((_entries(fs, fd, path) or {}).values())
        except OSError as error:
            _log.warning("the lease %s cannot be read: %s", path, error)
        finally:
            fs.close(fd)
    return found


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(it.name for it in entries if it.name.endswith(_SUFFIX))
    except OSError:
        return []


def _lock_of_the_dead(fs: FileOps, path: str) -> int:
    """A descriptor that holds the lock; -1 where somebody else does, or the file is gone."""
    try:
        fd, status = fs.open_write(path)
    except OSError:
        return -1
    try:
        if fs.lock(fd, wait=False):
            now = fs.stat(path, follow_symlinks=False)
            if (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino):
                return fd
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOLCK):
            _log.warning("the lease %s cannot be looked at: %s", path, error)
    fs.close(fd)
    return -1


def _entries(fs: FileOps, fd: int, path: str) -> dict[str, tuple[int, int]] | None:
    """What a lease lists; None for one that is not understood, which is left alone."""
    if not stat.S_ISREG(fs.fstat(fd).st_mode):
        return None
    data = bytearray()
    while True:
        piece = fs.pread(fd, _CHUNK, len(data))
        if not piece:
            break
        data += piece
    lines = data.split(b"\n")
    try:
        version = json.loads(lines[0])["lifecycle_lease"]
    except (ValueError, KeyError, TypeError):
        # Killed, or out of space, before the first line was whole: nothing is listed.
        return {} if len(lines) == 1 else None
    if version != FORMAT:
        _log.warning("the lease %s is of a newer version (%s) and is left alone", path, version)
        return None
    entries: dict[str, tuple[int, int]] = {}
    for line in lines[1:]:
        try:
            match json.loads(line):
                case ["+", int(device), int(inode), str(tracked)]:
                    entries[tracked] = (device, inode)
                case ["-", str(tracked)]:
                    entries.pop(tracked, None)
                case _:
                    pass
        except ValueError:
            continue  # torn by a full disk
    return entries
