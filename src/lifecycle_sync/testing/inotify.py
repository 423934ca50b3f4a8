"""A queue of the kernel's whose limits can be set, and which can be kept from being read."""

from __future__ import annotations

import errno
import os
import threading

from lifecycle_sync.observe.inotify import DIRECTORY_MASK, Inotify


class QueueFaults:
    """What goes wrong with the queues that `queue` makes: at most `watch_limit` watches in all of
    them, none to be had while `exhausted`, nothing read while `suspended`."""

    def __init__(self, watch_limit: int | None = None) -> None:
        self.watch_limit = watch_limit
        self.exhausted = False
        self._running = threading.Event()
        self._running.set()
        self.watches: set[tuple[int, int]] = set()

    def queue(self) -> Inotify:
        """A new queue. Raises `OSError` (EMFILE) while exhausted."""
        if self.exhausted:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return _FaultyInotify(self)

    def suspend(self) -> None:
        """Let events pile up."""
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    @property
    def running(self) -> threading.Event:
        return self._running


class _FaultyInotify(Inotify):
    def __init__(self, faults: QueueFaults) -> None:
        self._faults = faults
        self._watched: dict[tuple[int, int], int] = {}
        super().__init__()

    def close(self) -> None:
        self._faults.watches = {it for it in self._faults.watches if it[0] != id(self)}
        super().close()

    def watch(self, dir_fd: int, mask: int = DIRECTORY_MASK) -> int:
        # As the kernel does it: what is refused makes no watch, and so no event.
        status = os.fstat(dir_fd)
        inode = status.st_dev, status.st_ino
        limit = self._faults.watch_limit
        watches = self._faults.watches
        known = (id(self), self._watched.get(inode, -1)) in watches
        if limit is not None and not known and len(watches) >= limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        wd = self._watched[inode] = super().watch(dir_fd, mask)
        watches.add((id(self), wd))
        return wd

    def unwatch(self, wd: int) -> None:
        self._faults.watches.discard((id(self), wd))
        super().unwatch(wd)

    def wait(self, seconds: float | None) -> bool:
        if not self._faults.running.is_set():
            self._faults.running.wait()
        return super().wait(seconds)
