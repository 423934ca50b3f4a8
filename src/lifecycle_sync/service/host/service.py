"""`CleanupService`: what is past its time, what nobody knows, and what was downloaded long ago."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, SteadyClock, from_datetime, to_datetime
from lifecycle_sync.errors import BusyError, ConfigError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.host.protocols import (
    AgeingBackend,
    FileRepository,
    StorageBackend,
)

_log = logging.getLogger("lifecycle_sync.cleanup")

_MIN_AGE_SECONDS = 120.0
_JOIN_SECONDS = 5.0
# Both units of a line have to be exceeded for so many orphans to wait for a person.
_MASS_LIMITS = ((0.10, 100), (0.50, 20))
_NS = 1_000_000_000


class CleanupService:
    """Cleans up after an application, in the background or when it is called.

    `app` is a Flask application (its context is entered) or anything else, None too. Times without
    a zone are local. One file that fails is logged and stops nothing. `start` and `stop` react at
    once; several processes with the same `lock_file` take turns: while one cleans up, the others
    leave that cycle out.
    """

    def __init__(
        self,
        app: Any,
        storage_backend: StorageBackend,
        file_repository: FileRepository,
        interval_minutes: float = 60,
        *,
        old_files_days: float = 7,
        enabled: bool = True,
        lock_file: str | os.PathLike[str] | None = None,
        dry_run: bool = False,
        witness: Callable[[str, str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        _positive("interval_minutes", interval_minutes)
        _positive("old_files_days", old_files_days)
        self.app = app
        self.storage = storage_backend
        self.file_repo = file_repository
        self.interval = interval_minutes * 60
        self.old_files_days = old_files_days
        self.enabled = enabled
        self.dry_run = dry_run
        self.running = False
        self.thread: threading.Thread | None = None
        self.stats: dict[str, Any] = {
            "total_cycles": 0,
            "expired_files_removed": 0,
            "orphaned_files_removed": 0,
            "old_records_removed": 0,
            "last_run": None,
            "last_duration": 0,
        }
        self._witness = witness or (lambda _what, _why: None)
        self._clock = clock or SteadyClock()
        self._fs = FileOps()
        self._lock_file = None if lock_file is None else os.fspath(lock_file)
        self._stop = CancelToken()
        self._starting = threading.Lock()
        self._one_at_a_time = threading.RLock()
        # Of a storage that does not know ages: when a name was first seen without a row.
        self._seen: dict[str, float] = {}
        self._failures = 0
        # The last of their messages.
        self.failures: deque[str] = deque(maxlen=1000)
        # Whether the application's times bear a zone.
        self._aware = False

    @classmethod
    def from_environment(
        cls,
        app: Any,
        storage_backend: StorageBackend,
        file_repository: FileRepository,
        environment: Mapping[str, str] | None = None,
        **how: Any,
    ) -> CleanupService:
        """With `CLEANUP_ENABLED`, `CLEANUP_INTERVAL_MINUTES` and `CLEANUP_OLD_FILES_DAYS`. Raises
        `ConfigError` with all that is wrong in them."""
        settings = read_environment(os.environ if environment is None else environment)
        return cls(app, storage_backend, file_repository, **{**settings, **how})

    # -- the three tasks -------------------------------------------------------------------

    def cleanup_expired_files(self) -> int:
        """Delete the files whose `expiry_at` has come, and mark them as expired; how many."""
        return self._task("expired files", self._expired)

    def _expired(self) -> int:
        removed = 0
        now_ns = self._clock.now_ns()
        for row in self.file_repo.get_all_active():
            if self._stopping:
                break
            try:
                done = self._expire(row, now_ns)
            except Exception as error:  # noqa: BLE001 - somebody's storage, somebody's table
                self._failed(f"the file {_id(row)} could not be cleaned up: {error}")
                continue
            removed += done
            self.stats["expired_files_removed"] += done
        _log.log(20 if removed else 10, "%d expired files removed", removed)
        return removed

    def _expire(self, row: Mapping[str, Any], now_ns: int) -> int:
        expiry = row.get("expiry_at")
        if not expiry:
            return 0
        moment_ns = self._moment(expiry)
        if moment_ns is None:
            self._failed(f"the file {_id(row)} has no valid expiry_at: {expiry!r}; it is kept")
            return 0
        if now_ns < moment_ns:
            return 0
        if self.dry_run:
            self._witness(str(row["path"]), f"expired at {expiry}")
            return 1
        try:
            if self.storage.delete(row["path"]) is False:
                raise OSError("the storage did not delete it")
        except FileNotFoundError:
            pass  # a cycle before was stopped right here
        self.file_repo.mark_expired(row["id"])
        self._witness(str(row["path"]), f"expired at {expiry}")
        _log.info("removed the expired file %s (expired at %s)", row["id"], expiry)
        return 1

    def cleanup_orphaned_files(
        self, *, min_age_seconds: float = 0.0, confirm_mass: bool = False
    ) -> int:
        """Delete the files in a local storage that have no row; how many.

        A file that is younger than `min_age_seconds` may be an upload whose row is still to come;
        where the storage does not know ages, it counts from when it was first seen here. Nothing is
        an orphan while the table is empty. Over 10 % and over 100 files, or over half and over 20,
        wait for `confirm_mass`: more likely the table is the wrong one.
        """
        if self.storage.backend_type != "local":
            return 0
        return self._task("orphaned files", lambda: self._orphaned(min_age_seconds, confirm_mass))

    def _orphaned(self, min_age_seconds: float, confirm_mass: bool) -> int:
        # The storage first: what comes meanwhile is not in it, and what has a row is no orphan.
        names = set(self.storage.list_files())
        known = self._known_names()
        orphans = names - known
        self._seen = {name: at for name, at in self._seen.items() if name in orphans}
        if not orphans:
            _log.debug("no orphaned files")
            return 0
        if self._is_empty(known, len(names)):
            return 0
        share = len(orphans) / len(names)
        if not confirm_mass and any(
            share > part and len(orphans) > count for part, count in _MASS_LIMITS
        ):
            self._failed(
                f"{len(orphans)} of {len(names)} files have no row: nothing is removed until"
                " cleanup_orphaned_files(confirm_mass=True) says that this is right"
            )
            return 0
        _log.info("found %d orphaned files", len(orphans))
        return self._remove_orphans(sorted(orphans), min_age_seconds)

    def _remove_orphans(self, orphans: list[str], min_age_seconds: float) -> int:
        old = [name for name in orphans if self._old_enough(name, min_age_seconds)]
        # Once more, right before: a row may have come.
        known = self._known_names() if old else set()
        if old and self._is_empty(known, len(old)):
            return 0
        removed = 0
        for name in old:
            if self._stopping:
                break
            if name in known:
                continue
            try:
                if not self.dry_run and self.storage.delete_by_name(name) is False:
                    raise OSError("the storage did not delete it")
                removed += 1
                self._witness(name, "it has no row")
                _log.info("removed the orphaned file %s", name)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - somebody's storage
                self._failed(f"the orphaned file {name} could not be removed: {error}")
        self.stats["orphaned_files_removed"] += removed
        return removed

    def _is_empty(self, known: set[str], count: int) -> bool:
        """The *empty source* guard: a table without a row says nothing of any file."""
        if not known:
            self._failed(
                f"the table of files is empty, so none of {count} files is taken for an orphan"
            )
        return not known

    def _known_names(self) -> set[str]:
        return {str(row["path"]).rpartition("/")[2] for row in self.file_repo.get_all()}

    def _old_enough(self, name: str, seconds: float) -> bool:
        if seconds <= 0:
            return True
        if isinstance(self.storage, AgeingBackend):
            modified_ns = self.storage.modified_ns(name)
            return modified_ns is not None and (self._clock.now_ns() - modified_ns >= seconds * _NS)
        now = time.monotonic()
        return now - self._seen.setdefault(name, now) >= seconds

    def cleanup_old_downloaded_files(self, days: float = 7) -> int:
        """Delete the rows of files that were downloaded over `days` ago; how many."""
        _positive("days", days)
        return self._task("old records", lambda: self._old_records(days))

    def _old_records(self, days: float) -> int:
        cutoff = self._kind_of_time(to_datetime(self._clock.now_ns()) - timedelta(days=days))
        removed = 0
        for row in self.file_repo.get_downloaded_before(cutoff):
            if self._stopping:
                break
            try:
                if not self.dry_run:
                    self.file_repo.delete(row["id"])
            except Exception as error:  # noqa: BLE001 - somebody's table
                self._failed(f"the record {_id(row)} could not be removed: {error}")
                continue
            removed += 1
            self.stats["old_records_removed"] += 1
            when = row.get("downloaded_at")
            self._witness(f"record {row['id']}", f"downloaded at {when}")
            _log.info("removed the record %s (downloaded at %s)", row["id"], when)
        _log.log(20 if removed else 10, "%d old records removed", removed)
        return removed

    # -- a cycle ---------------------------------------------------------------------------

    def run_cleanup_cycle(self) -> int:
        """All three, one after the other; how many failures there were. Orphans have to be two
        minutes old. Raises `BusyError` while another process cleans up (with a `lock_file`)."""
        with self._one_at_a_time, self._locked():
            began, before = time.monotonic(), self._failures
            self.stats["total_cycles"] += 1
            self.stats["last_run"] = self._kind_of_time(to_datetime(self._clock.now_ns()))
            self.cleanup_expired_files()
            if not self._stopping:
                self.cleanup_orphaned_files(min_age_seconds=_MIN_AGE_SECONDS)
            if not self._stopping:
                self.cleanup_old_downloaded_files(days=self.old_files_days)
            self.stats["last_duration"] = time.monotonic() - began
            _log.info("clean-up cycle ended after %.2f s", self.stats["last_duration"])
            return self._failures - before

    def get_stats(self) -> dict[str, Any]:
        """A copy of the statistics since this was made."""
        return self.stats.copy()

    # -- in the background -----------------------------------------------------------------

    def start(self) -> None:
        """Run a cycle now, and one each interval. Does nothing where it runs, or is not enabled."""
        with self._starting:
            if not self.enabled:
                _log.info("the clean-up is not enabled")
                return
            if self.running and self.thread is not None and self.thread.is_alive():
                _log.warning("the clean-up runs already")
                return
            self._stop = CancelToken()
            self.running = True
            self.thread = threading.Thread(
                target=self._loop, args=(self._stop,), name="lifecycle-cleanup", daemon=True
            )
            self.thread.start()

    def stop(self) -> None:
        """End it: after the file that it is at."""
        with self._starting:
            if not self.running:
                _log.warning("the clean-up does not run")
                return
            self.running = False
            self._stop.cancel()
            if self.thread is not None and self.thread is not threading.current_thread():
                self.thread.join(_JOIN_SECONDS)

    def _loop(self, stop: CancelToken) -> None:
        while not stop.cancelled:
            try:
                self.run_cleanup_cycle()
            except BusyError as error:
                _log.info("%s", error)
            except Exception:  # noqa: BLE001 - the next cycle comes
                _log.exception("the clean-up cycle failed")
            if stop.wait(self.interval):
                return

    @property
    def _stopping(self) -> bool:
        """Whether the background is to end; what is called by hand goes on."""
        return self._stop.cancelled and threading.current_thread() is self.thread

    # -- what they share -------------------------------------------------------------------

    def _task(self, what: str, work: Callable[[], int]) -> int:
        """In the application's context, one at a time; a failure of the whole is logged."""
        enter = getattr(self.app, "app_context", None)
        context: AbstractContextManager[Any] = nullcontext() if enter is None else enter()
        with self._one_at_a_time:
            try:
                with context:
                    return work()
            except Exception as error:  # noqa: BLE001 - somebody's storage, somebody's table
                self._failures += 1
                self.failures.append(f"the clean-up of {what} failed: {error}")
                _log.exception("the clean-up of %s failed", what)
                return 0

    def _failed(self, message: str) -> None:
        self._failures += 1
        self.failures.append(message)
        _log.error("%s", message)

    def _moment(self, value: Any) -> int | None:
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            self._aware = moment.tzinfo is not None
            return from_datetime(moment)
        except (ValueError, OverflowError, OSError):
            return None

    def _kind_of_time(self, moment: datetime) -> datetime:
        """As the application's own times are: naive ones are local."""
        return moment if self._aware else moment.astimezone().replace(tzinfo=None)

    @contextmanager
    def _locked(self) -> Any:
        if self._lock_file is None:
            yield
            return
        fd = self._fs.open_lock_file(os.path.abspath(self._lock_file))
        try:
            if not self._fs.lock(fd, wait=False):
                raise BusyError(
                    "another process cleans up",
                    operation="clean up",
                    subject=self._lock_file,
                    remedy="its cycle counts for this one, too",
                )
            yield
        finally:
            self._fs.close(fd)


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `CleanupService` that the environment, or a configuration of text, sets."""
    faults: list[str] = []

    def number(name: str, default: float) -> float:
        text = str(environment.get(name, "")).strip()
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            faults.append(f"{name}: it must be a number over 0 (it is {text!r})")
        return int(value) if value == int(value) else value

    text = str(environment.get("CLEANUP_ENABLED", "true")).strip().lower()
    if text not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
        faults.append(f"CLEANUP_ENABLED: it must be true or false (it is {text!r})")
    settings = {
        "enabled": text in {"true", "1", "yes", "on"},
        "interval_minutes": number("CLEANUP_INTERVAL_MINUTES", 60),
        "old_files_days": number("CLEANUP_OLD_FILES_DAYS", 7),
    }
    if faults:
        raise ConfigError(faults, subject="clean-up")
    return settings


def _positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise UsageError(f"{name} must be over 0, not {value!r}", operation="clean up")


def _id(row: Mapping[str, Any]) -> Any:
    return row.get("id", "without an id")
