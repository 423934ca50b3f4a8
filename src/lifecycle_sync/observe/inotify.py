"""The kernel's inotify: watches on directories, and the events that they give. Linux only.

Three calls through ctypes. Names stay bytes, a directory is watched by its descriptor (so that
neither a symlink nor the length of a path matters), and a full queue is an event like any other,
which the usual libraries do not let one see.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
from functools import cache
from typing import Any, NamedTuple

MODIFY = 0x00000002
ATTRIB = 0x00000004
CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
UNMOUNT = 0x00002000
Q_OVERFLOW = 0x00004000
IGNORED = 0x00008000
_ONLYDIR = 0x01000000
_EXCL_UNLINK = 0x04000000
ISDIR = 0x40000000

# Never OPEN, ACCESS or CLOSE_NOWRITE: our own reading must cause no event.
DIRECTORY_MASK = (
    MODIFY
    | ATTRIB
    | CLOSE_WRITE
    | MOVED_FROM
    | MOVED_TO
    | CREATE
    | DELETE
    | DELETE_SELF
    | MOVE_SELF
    | _ONLYDIR
    | _EXCL_UNLINK
)
NAMES_MASK = CREATE | MOVED_TO | _ONLYDIR
_HEADER = struct.Struct("iIII")
_BUFFER_BYTES = 256 << 10
LIMITS = "/proc/sys/fs/inotify"


class RawEvent(NamedTuple):
    """One event: `wd` names the watch (-1 for a queue that was full), `name` the entry in it."""

    wd: int
    mask: int
    cookie: int
    name: bytes


class Inotify:
    """One queue with its watches. Raises `OSError`: EMFILE where no more queues can be had, ENOSYS
    where the platform has none. `watch` raises ENOSPC at the limit of watches."""

    def __init__(self) -> None:
        libc = _libc()
        if libc is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._libc = libc
        self._fd = _checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            os.close(self._fd)
            raise
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)

    def close(self) -> None:
        """Give up the queue and all its watches."""
        for fd in (self._fd, self._wake_read, self._wake_write):
            os.close(fd)

    def watch(self, dir_fd: int, mask: int = DIRECTORY_MASK) -> int:
        """Watch an open directory; the number of its watch, the old one where it has one."""
        # The descriptor was opened without following a symlink; this opens just it.
        path = b"/proc/self/fd/%d" % dir_fd
        return _checked(self._libc.inotify_add_watch(self._fd, path, mask))

    def unwatch(self, wd: int) -> None:
        """Give up a watch; IGNORED follows. One that is gone already is passed over."""
        self._libc.inotify_rm_watch(self._fd, wd)

    def wait(self, seconds: float | None) -> bool:
        """Whether there are events; waits for them, for `wake` or until the time is over."""
        ready = self._poll.poll(None if seconds is None else max(0, int(seconds * 1000)))
        for fd, _ in ready:
            if fd == self._wake_read:
                try:
                    os.read(fd, 4096)
                except BlockingIOError:
                    pass
        return any(fd == self._fd for fd, _ in ready)

    def wake(self) -> None:
        """End a `wait` in another thread."""
        try:
            os.write(self._wake_write, b"\0")  # noqa: TID251 - a pipe
        except BlockingIOError:
            pass  # awake already

    def read(self) -> list[RawEvent]:
        """The events that are there, in their order; up to a buffer of them."""
        try:
            data = os.read(self._fd, _BUFFER_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        events = []
        at = 0
        while at < len(data):
            wd, mask, cookie, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            name = data[at : at + length].rstrip(b"\0") if length else b""
            at += length
            events.append(RawEvent(wd, mask, cookie, name))
        return events


def kernel_limit(name: str) -> int | None:
    """One of the kernel's limits ("max_user_watches"); None where it cannot be read."""
    try:
        with open(f"{LIMITS}/{name}", encoding="ascii") as told:
            return int(told.read())
    except (OSError, ValueError):
        return None


def available() -> bool:
    """Whether this platform has inotify at all."""
    return _libc() is not None


@cache
def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return libc if hasattr(libc, "inotify_init1") else None


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
