"""`FileCleanupManager`: the temporary files of one process, tracked and removed.

Tracked is a path, whatever lies there by the time it goes. Only tracked files are ever removed, and
those that dead processes have listed in their leases; everything else in the folder is left alone,
unless `include_untracked` is asked for. What this process still tracks when it ends is removed
then; a child that is forked, or a copy sent to another process, starts with nothing tracked.
"""

from __future__ import annotations

import atexit
import logging
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lifecycle_sync.act.disposal import Care
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_SECOND, Clock, SteadyClock
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.temp.leases import Lease
from lifecycle_sync.service.temp.places import temp_folder
from lifecycle_sync.service.temp.removing import Count, Removing
from lifecycle_sync.service.temp.sweep import Held
from lifecycle_sync.service.threads import in_thread

_MIB = 1 << 20
_HOUR_NS = 3600 * NS_PER_SECOND
_JOIN_SECONDS = 30.0

_log = logging.getLogger("lifecycle_sync.temp")


class FileCleanupManager:
    """Tracks temporary files and removes them: by name, by age, or all.

    `default_ttl_hours` is the age (by mtime alone) from which `cleanup_old_files` removes, the
    interval that of the periodic clean-up. `base_temp_dir` is made when it is missing; `/`, a home
    directory itself and what lies in a root under management raise `UsageError` unless `force` is
    set. Without `leases` nothing is written to the disk, and what a killed process leaves stays.
    What is `held` stays whatever happens (`RegistryHolds` asks a registry).

    All methods may be called from any thread. Those that are awaited work in a thread.
    """

    def __init__(
        self,
        base_temp_dir: str | os.PathLike[str],
        default_ttl_hours: float = 24,
        cleanup_interval_minutes: float = 30,
        *,
        leases: bool = True,
        include_untracked: bool = False,
        held: Held | None = None,
        force: bool = False,
        fs: FileOps | None = None,
        clock: Clock | None = None,
    ) -> None:
        _positive("default_ttl_hours", default_ttl_hours)
        _positive("cleanup_interval_minutes", cleanup_interval_minutes)
        self.base_temp_dir = Path(base_temp_dir)
        self.default_ttl_hours = default_ttl_hours
        self.cleanup_interval_minutes = cleanup_interval_minutes
        self.include_untracked = include_untracked
        self._held = held
        self._force = force
        self._fs = fs or FileOps()
        self._clock = clock or SteadyClock()
        self._given = os.path.abspath(base_temp_dir)
        self._base = temp_folder(base_temp_dir, force=force)
        try:
            self._fs.make_directories(self._base)
        except OSError as error:
            raise UsageError(
                f"cannot be made ({error.strerror})",
                operation="clean temporary files",
                subject=base_temp_dir,
                remedy="name a folder, or a place where this user may make one",
            ) from error
        self._lock = threading.RLock()
        # Somebody waits for a claimed path: what is being removed right now.
        self._freed = threading.Condition(self._lock)
        self._claimed: set[str] = set()
        self._tracked: dict[str, None] = {}
        self._lease = Lease(self._fs, self._base) if leases else None
        self._thread: threading.Thread | None = None
        self._stop = CancelToken()
        _managers.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # To another process go the settings, not the files of this one.
        settings = {
            "base_temp_dir": self._given,
            "default_ttl_hours": self.default_ttl_hours,
            "cleanup_interval_minutes": self.cleanup_interval_minutes,
            "leases": self._lease is not None,
            "include_untracked": self.include_untracked,
            "force": self._force,
        }
        return (_copy, (settings,))

    # -- tracking --------------------------------------------------------------------------

    def track_file(self, file_path: str | os.PathLike[str]) -> None:
        """Remember a file, or a folder with all in it, for a later clean-up; it need not exist."""
        path = self._key(file_path)
        with self._lock:
            while path in self._claimed:
                self._freed.wait()
            if not self._tracked:
                _active.add(self)
            self._tracked[path] = None
            if self._lease is not None:
                self._lease.add(path)

    def untrack_file(self, file_path: str | os.PathLike[str]) -> None:
        """Forget a file: it was moved, or is to stay. Once this returns it is not removed."""
        path = self._key(file_path)
        with self._lock:
            while path in self._claimed:
                self._freed.wait()
            self._forget(path)

    def _key(self, path: str | os.PathLike[str]) -> str:
        """Absolute; what lies in the base begins with the base's real path."""
        text = os.path.abspath(path)
        if self._given != self._base and text.startswith(self._given + "/"):
            return self._base + text[len(self._given) :]
        return text

    def _forget(self, path: str) -> None:
        if path in self._tracked:
            del self._tracked[path]
            if self._lease is not None:
                self._lease.drop(path)

    def _tracked_below(self, folder: str) -> set[str]:
        """Tracked paths below a folder, relative to it."""
        prefix = folder + "/"
        with self._lock:
            return {it[len(prefix) :] for it in self._tracked if it.startswith(prefix)}

    def _is_tracked(self, path: str) -> bool:
        with self._lock:
            return path in self._tracked

    # -- clean-up --------------------------------------------------------------------------

    async def cleanup_file(self, file_path: str | os.PathLike[str]) -> bool:
        """Remove one file and forget it; True when it was removed. A failure is logged."""
        path = self._key(file_path)

        def work() -> bool:
            with self._removing() as removing, self._claim(path):
                done = removing.file(path, None)
                if done.removed or done.missing:
                    self._forget(path)
            if done.reason and not done.missing:
                _log.error("%s could not be removed: %s", path, done.reason)
            return done.removed

        return await in_thread(work)

    async def cleanup_directory(
        self, directory: str | os.PathLike[str], recursive: bool = True
    ) -> bool:
        """Remove a folder and what is in it, and forget the files; True when that was done.

        Without `recursive` a folder with folders in it stays, emptied of its files; the base itself
        stays as well. Nothing is done through symlinks, nor on another filesystem. Raises
        `UsageError` for `/`, a home directory itself and what lies in a root, unless `force`.
        """
        path = self._key(directory)
        if path != self._base and not path.startswith(self._base + "/"):
            temp_folder(path, force=self._force)

        def work() -> bool:
            with self._removing() as removing:
                whole, gone = removing.folder(path, recursive)
            with self._lock:
                for place in [*gone, path] if whole else gone:
                    self._forget(place)
                if whole:
                    for name in self._tracked_below(path):
                        self._forget(os.path.join(path, name))
            return whole

        return await in_thread(work)

    async def cleanup_old_files(
        self, max_age_hours: float | None = None, *, include_untracked: bool | None = None
    ) -> dict[str, Any]:
        """Remove the tracked files whose mtime is over `max_age_hours` ago (None: the default),
        the folders that are left empty by it, and, however young, what killed processes left.

        A file that somebody has open for writing stays, where the system can say that. With
        `include_untracked` every old file in the folder goes that no living process tracks, and of
        which it is certain that nobody writes it. Gives `removed_count`, `removed_size_bytes`,
        `removed_size_mb` (2^20 bytes), `errors` and `tracked_files_remaining`.
        """
        hours = self.default_ttl_hours if max_age_hours is None else max_age_hours
        _positive("max_age_hours", hours)
        also = self.include_untracked if include_untracked is None else include_untracked
        cancel = CancelToken()
        return await in_thread(lambda: self.clean(hours, also, cancel), cancel)

    async def cleanup_all_tracked(self) -> dict[str, Any]:
        """Remove all tracked files and folders, whatever their age; the result is that of
        `cleanup_old_files`."""
        cancel = CancelToken()
        return await in_thread(lambda: self._clean_all(cancel), cancel)

    def clean(
        self, hours: float, include_untracked: bool, cancel: CancelToken | None = None
    ) -> dict[str, Any]:
        """`cleanup_old_files`, not awaited. When `cancel` is set it ends after the file that it is
        at, with the result until then."""
        care = Care(self._clock.now_ns() - int(hours * _HOUR_NS))
        with self._removing(cancel) as removing:
            removing.dead()
            # This process said of them that they may go: where nobody can say who writes (network
            # filesystems, macOS) that is enough.
            self._clean_tracked(removing, care._replace(writers_unknown=True))
            if include_untracked and not removing.count.cancelled:
                with self._lock:
                    mine = set(self._tracked)
                removing.untracked(care, mine)
            removing.emptied(self._is_tracked)
        return self._result(removing.count)

    def _clean_all(self, cancel: CancelToken | None = None) -> dict[str, Any]:
        with self._removing(cancel) as removing:
            self._clean_tracked(removing, None)
        return self._result(removing.count)

    def _clean_tracked(self, removing: Removing, care: Care | None) -> None:
        with self._lock:
            paths = list(self._tracked)
        # What lies in a tracked folder before that folder.
        for path in sorted(paths, reverse=True):
            if removing.count.cancelled:
                return
            with self._claim(path):
                # It may have been forgotten since.
                if not self._is_tracked(path):
                    continue
                done = removing.tracked(path, care, self._tracked_below)
                if done.removed or done.missing:
                    self._forget(path)

    def _removing(self, cancel: CancelToken | None = None) -> Removing:
        return Removing(self._fs, self._base, Count(cancel), self._held)

    @contextmanager
    def _claim(self, path: str) -> Iterator[None]:
        """While this lasts, whoever tracks or forgets that path waits."""
        with self._lock:
            while path in self._claimed:
                self._freed.wait()
            self._claimed.add(path)
        try:
            yield
        finally:
            with self._lock:
                self._claimed.discard(path)
                self._freed.notify_all()

    def _result(self, count: Count) -> dict[str, Any]:
        with self._lock:
            remaining = len(self._tracked)
        return {
            "removed_count": count.removed,
            "removed_size_bytes": count.size,
            "removed_size_mb": count.size / _MIB,
            "errors": count.errors,
            "tracked_files_remaining": remaining,
        }

    # -- periodic --------------------------------------------------------------------------

    def start_periodic_cleanup(self) -> None:
        """Clean up in the background, first what killed processes left, then what is old once an
        interval. A second call does nothing."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop = CancelToken()
            self._thread = threading.Thread(
                target=self._periodically, args=(self._stop,), name="lifecycle-temp", daemon=True
            )
            self._thread.start()

    async def stop_periodic_cleanup(self) -> None:
        """End the background clean-up and wait for the file that it is at."""
        await in_thread(self._stop_thread)

    def _stop_thread(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.cancel()
        if thread is not None:
            thread.join(_JOIN_SECONDS)

    def _periodically(self, stop: CancelToken) -> None:
        try:
            with self._removing(stop) as removing:
                removing.dead()
                removing.emptied(self._is_tracked)
        except Exception:  # noqa: BLE001 - the periodic clean-up goes on
            _log.exception("what killed processes left in %s could not be removed", self._base)
        while not stop.wait(self.cleanup_interval_minutes * 60):
            try:
                self.clean(self.default_ttl_hours, self.include_untracked, stop)
            except Exception:  # noqa: BLE001 - it goes on
                _log.exception("the clean-up of %s failed", self._base)

    def get_stats(self) -> dict[str, Any]:
        """`tracked_files`, `total_size_bytes` and `total_size_mb` of those that exist (folders
        with what is in them), `periodic_cleanup_running`, `default_ttl_hours` and
        `cleanup_interval_minutes`."""
        with self._lock:
            paths = list(self._tracked)
            running = self._thread is not None and self._thread.is_alive()
        size = sum(self._size(path) for path in paths)
        return {
            "tracked_files": len(paths),
            "total_size_bytes": size,
            "total_size_mb": size / _MIB,
            "periodic_cleanup_running": running,
            "default_ttl_hours": self.default_ttl_hours,
            "cleanup_interval_minutes": self.cleanup_interval_minutes,
        }

    def _size(self, path: str) -> int:
        try:
            found = self._fs.stat(path, follow_symlinks=False)
        except OSError:
            return 0
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size
        others = self._tracked_below(path)
        with os.scandir(path) as entries:
            names = [it.name for it in entries if it.name not in others]
        return sum(self._size(os.path.join(path, name)) for name in names)

    # -- the end of the process, and forks -------------------------------------------------

    def close(self) -> None:
        """End the background clean-up, remove all that is tracked and give the lease back; done by
        itself when the interpreter ends. What could not be removed is the next start's."""
        self._stop_thread()
        self._clean_all()
        with self._lock:
            self._tracked.clear()
            if self._lease is not None:
                self._lease.close()
        _active.discard(self)

    def forget_after_fork(self) -> None:
        """In a child: the files are its parent's."""
        self._lock = threading.RLock()
        self._freed = threading.Condition(self._lock)
        self._claimed, self._tracked = set(), {}
        self._thread, self._stop = None, CancelToken()
        if self._lease is not None:
            self._lease.forget_after_fork()


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise UsageError(
            f"{name} must be over 0, not {value!r}",
            operation="clean temporary files",
            remedy="to remove all tracked files at once, use cleanup_all_tracked",
        )


def _copy(settings: dict[str, Any]) -> FileCleanupManager:
    return FileCleanupManager(**settings)


_managers: weakref.WeakSet[FileCleanupManager] = weakref.WeakSet()
# Those with files, which are not to be forgotten before these are removed.
_active: set[FileCleanupManager] = set()


@atexit.register
def _at_exit() -> None:
    for manager in list(_active):
        try:
            manager.close()
        except Exception:  # noqa: BLE001 - the others are still to come
            _log.exception("temporary files could not be removed at the end of the process")


def _after_fork() -> None:
    _active.clear()
    for manager in list(_managers):
        manager.forget_after_fork()


os.register_at_fork(after_in_child=_after_fork)
