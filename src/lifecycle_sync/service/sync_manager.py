"""`SyncManager`: repositories by UUID, watched, and reconciled at an interval."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import CancelledError, LifecycleError, NotFoundError, UsageError
from lifecycle_sync.model.file import FileRecord, FileType, LifecycleState
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.service.cookies import sync_to_now
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.outcome import outcome_of
from lifecycle_sync.service.sync_records import (
    SyncFileRecord,
    SyncManagerConfig,
    SyncRun,
    SyncStatus,
    file_record,
    run_record,
)
from lifecycle_sync.service.watch_health import WatchMode
from lifecycle_sync.service.watch_keeper import FollowOptions
from lifecycle_sync.service.watching import Watching

_log = logging.getLogger(__name__)

_PAGE = 1_000
_GONE = {LifecycleState.DELETED}
RepositoryId = uuid.UUID | str


class SyncManager:
    """Keeps the records of repositories in step with their folders. A context manager; its methods
    may be called from any thread.

    `database` is the path of a registry, or `sqlite:///` and one; it is made when it is not there.
    Repositories that it knows already are followed from `start` on. Raises `ConfigError` for wrong
    settings, `RegistryError` for a database that cannot be used.
    """

    def __init__(
        self, database: str | os.PathLike[str], config: SyncManagerConfig | None = None
    ) -> None:
        self._config = config = config or SyncManagerConfig()
        config.check()
        path = _database_path(database)
        reconciliation = config.reconciliation_config
        self._engine = Engine.open(
            Settings(
                database_path=path,
                local_storage_path=None,
                archive_path=path.parent / "archive",
                backup_path=path.parent / "vault",
                ignore=config.patterns(),
                worker_threads=reconciliation.max_concurrency,
                calculate_hashes=reconciliation.calculate_hashes,
                max_concurrency=reconciliation.max_concurrency,
                batch_size=reconciliation.batch_size,
            )
        )
        self._lock = threading.RLock()
        self._cancel = CancelToken()
        self._watching: Watching | None = None
        self._held: dict[bytes, ExitStack] = {}
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SyncManager:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- its life --------------------------------------------------------------------------

    def start(self) -> None:
        """Follow all repositories: each is looked at as a whole, then watched. Idempotent. Raises
        `BusyError` when another process follows one of them."""
        with self._lock:
            if self._watching is not None:
                return
            self._cancel = CancelToken()
            debounce = self._config.file_watcher_config.debounce_interval
            self._watching = Watching(
                self._engine, FollowOptions(debounce_seconds=debounce.total_seconds())
            )
            known = [it for it in self._engine.roots.all() if it.kind is RepositoryKind.ROOT]
            try:
                with ThreadPoolExecutor(self._config.reconciliation_config.max_concurrency) as pool:
                    reports = list(pool.map(self._follow, known))
            except BaseException:
                self.stop()
                raise
            for report in reports:
                self._log_failure(report)
            self._thread = threading.Thread(
                target=self._reconcile, name="lifecycle-reconcile", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Follow none any more; records can still be read. Idempotent."""
        self._cancel.cancel()
        with self._lock:
            watching, self._watching = self._watching, None
            thread, self._thread = self._thread, None
        if watching is not None:
            watching.stop()
        if thread is not None:
            thread.join()
        with self._lock:
            for lock in self._held.values():
                lock.close()
            self._held.clear()

    def close(self) -> None:
        """`stop`, and close the database. Idempotent; nothing can be asked afterwards."""
        self.stop()
        self._engine.close()

    # -- repositories ----------------------------------------------------------------------

    def add_repository(
        self, repository_id: RepositoryId, path: str | os.PathLike[str], user_area: str = ""
    ) -> SyncRun:
        """Take a folder under management, or what lies in its `user_area`, and look at all of it;
        once started, follow it. The run of that look.

        Idempotent for the same id and path. Raises `RootError` for what cannot be a root,
        `UsageError` for an id or a path that another repository has, and what kept the look from
        being done.
        """
        wanted = _id_of(repository_id)
        repository = self._engine.roots.add(
            os.path.join(path, user_area), enforce=True, root_id=wanted
        ).repository
        if repository.user_area != os.fsencode(user_area):
            repository = repository.evolve(user_area=os.fsencode(user_area))
            self._engine.registry.update_repository(repository)
        with self._lock:
            report = self._follow(repository)
        if report is None:
            report = self._look(repository, RunType.STARTUP)
        return self._run_of(report)

    def remove_repository(self, repository_id: RepositoryId) -> None:
        """Stop following a repository and forget its records; the files stay. Idempotent."""
        wanted = _id_of(repository_id)
        with self._lock:
            if self._watching is not None:
                self._watching.unfollow(wanted)
            lock = self._held.pop(wanted, None)
        if lock is not None:
            lock.close()
        known = self._engine.registry.repository(wanted)
        if known is not None:
            self._engine.roots.remove(known)

    def trigger_reconciliation(
        self, repository_id: RepositoryId, path: str | os.PathLike[str] | None = None
    ) -> SyncRun:
        """Look at a whole repository now, or at a folder of it and all below that: `path` is the
        repository's own, or one in its user area. Raises `NotFoundError`, `UsageError` for a path
        that is neither, and what kept it from being done."""
        repository = self._repository(repository_id)
        below = b"" if path is None else _below(repository, path)
        if not below:
            return self._run_of(self._look(repository, RunType.RECONCILIATION))
        report = self._engine.cycle.sync(
            repository,
            RunType.RECONCILIATION,
            hashes=self._config.reconciliation_config.calculate_hashes,
            below=below,
            cancel=self._cancel if self._watching is not None else None,
            wait_seconds=60.0,
        )
        return self._run_of(report)

    def sync_to_now(self, repository_id: RepositoryId, timeout_seconds: float = 60.0) -> None:
        """Wait until all that happened in a repository before this call is recorded (hashes may
        come later). Raises `BusyError` when that takes longer."""
        repository = self._repository(repository_id)
        watching = self._watching
        here = watching is not None and watching.follower(repository.repository_id) is not None
        if not sync_to_now(
            self._engine, repository, timeout_seconds=timeout_seconds, followed_here=here
        ):
            self._run_of(self._look(repository, RunType.RECONCILIATION))

    # -- asking ----------------------------------------------------------------------------

    def get_sync_status(self, repository_id: RepositoryId) -> SyncStatus:
        """Where a repository stands. Raises `NotFoundError`."""
        repository = self._repository(repository_id)
        runs = self._engine.registry.runs(repository.repository_id, 1)
        watching = self._watching
        follower = None if watching is None else watching.follower(repository.repository_id)
        health = None if follower is None else follower.health()
        return SyncStatus(
            repository_id=str(uuid.UUID(bytes=repository.repository_id)),
            total_files=self._engine.registry.live_count(repository.repository_id),
            is_watching=health is not None and health.mode is not WatchMode.OFFLINE,
            last_sync_operation=run_record(runs[0]) if runs else None,
            health=health,
        )

    def list_file_records(
        self, repository_id: RepositoryId, file_types: Iterable[FileType | str] = ()
    ) -> list[SyncFileRecord]:
        """All files of a repository that are there, or those of some types, by path. Raises
        `NotFoundError`."""
        repository = self._repository(repository_id)
        query = FileQuery(
            repository_id=repository.repository_id,
            types=frozenset(FileType(it) for it in file_types),
        )
        found: list[SyncFileRecord] = []
        cursor: str | None = None
        while True:
            page = self._engine.registry.find(query, cursor, _PAGE)
            found += map(file_record, page.records)
            cursor = page.next_cursor
            if cursor is None:
                return found

    def get_file_record(
        self, repository_id: RepositoryId, file_path: str | os.PathLike[str]
    ) -> SyncFileRecord | None:
        """The file at a path relative to the user area; None when none is there. Raises
        `NotFoundError` for an unknown repository."""
        repository = self._repository(repository_id)
        found = self._engine.registry.file_at(repository.repository_id, os.fsencode(file_path))
        return None if found is None or found.state in _GONE else file_record(found)

    def get_sync_operations(self, repository_id: RepositoryId, limit: int = 10) -> list[SyncRun]:
        """The last runs, newest first. Raises `NotFoundError`."""
        repository = self._repository(repository_id)
        return [
            run_record(it) for it in self._engine.registry.runs(repository.repository_id, limit)
        ]

    def changes(self, since: int = 0, limit: int = 1_000) -> list[FileRecord]:
        """Records that changed after the change numbered `since`, in the order of their changes;
        the `seq` of the last one is where the next call goes on. Each stands there once, as it is
        now, with what is gone as DELETED."""
        return self._engine.changes(since, limit)

    # -- within ----------------------------------------------------------------------------

    def _follow(self, repository: Repository) -> SyncReport | None:
        """Follow one, if this is started and it is not followed yet."""
        watching = self._watching
        if watching is None or watching.follower(repository.repository_id) is not None:
            return None
        lock = ExitStack()
        lock.enter_context(
            self._engine.locks.hold("run", repository.repository_id, repository.path)
        )
        self._held[repository.repository_id] = lock
        try:
            return watching.follow(repository, cancel=self._cancel)
        except CancelledError:
            raise
        except LifecycleError as error:
            return SyncReport(repository, error=error)

    def _look(self, repository: Repository, run_type: RunType) -> SyncReport:
        watching = self._watching
        follower = None if watching is None else watching.follower(repository.repository_id)
        if follower is not None:
            return follower.look_at_all(run_type, wait_seconds=60.0)
        hashes = self._config.reconciliation_config.calculate_hashes
        return self._engine.cycle.sync(repository, run_type, hashes=hashes, wait_seconds=60.0)

    def _reconcile(self) -> None:
        interval = self._config.reconciliation_interval.total_seconds()
        while not self._cancel.wait(interval):
            known = [it for it in self._engine.roots.all() if it.kind is RepositoryKind.ROOT]
            with ThreadPoolExecutor(self._config.reconciliation_config.max_concurrency) as pool:
                for report in pool.map(self._reconciled, known):
                    self._log_failure(report)

    def _reconciled(self, repository: Repository) -> SyncReport | None:
        try:
            return self._look(repository, RunType.RECONCILIATION)
        except CancelledError:
            return None
        except LifecycleError as error:
            return SyncReport(repository, error=error)

    def _log_failure(self, report: SyncReport | None) -> None:
        failure = None if report is None else outcome_of(self._engine, report).failure
        if failure is not None and report is not None:
            _log.warning("%s: %s", os.fsdecode(report.repository.path), failure)

    def _run_of(self, report: SyncReport) -> SyncRun:
        """The run of a look; raises why there is none."""
        failure = outcome_of(self._engine, report).failure
        if report.run is None or (failure is not None and not report.scanned):
            assert failure is not None, "what has no run has failed"
            raise failure
        return run_record(report.run)

    def _repository(self, repository_id: RepositoryId) -> Repository:
        found = self._engine.registry.repository(_id_of(repository_id))
        if found is None:
            raise NotFoundError(
                "no such repository",
                operation="find repository",
                subject=str(repository_id),
                remedy="`add_repository` makes one",
            )
        return found


def _below(repository: Repository, path: str | os.PathLike[str]) -> bytes:
    """A path relative to the folder of a repository; empty for that itself, or for the folder that
    its user area is in. Raises `UsageError`."""
    for given in (os.path.join(path, os.fsdecode(repository.user_area)), path):
        real = os.path.realpath(os.fsencode(given))
        if real == repository.path:
            return b""
        if real.startswith(repository.path + b"/"):
            return real[len(repository.path) + 1 :]
    raise UsageError(
        "is neither the folder of this repository nor in it",
        operation="reconcile",
        subject=os.fspath(path),
        remedy=f"it is {os.fsdecode(repository.path)}",
    )


def _id_of(repository_id: RepositoryId) -> bytes:
    try:
        return uuid.UUID(str(repository_id)).bytes
    except ValueError as error:
        raise UsageError(
            "is no UUID",
            operation="find repository",
            subject=str(repository_id),
            remedy="repositories go by a UUID",
        ) from error


def _database_path(database: str | os.PathLike[str]) -> Path:
    text = os.fspath(database)
    scheme, mark, rest = text.partition("://")
    if mark and scheme != "sqlite":
        raise UsageError(
            f"{scheme} databases are not known to it",
            operation="open registry",
            subject=text,
            remedy="give the path of a SQLite database, or sqlite:/// and one",
        )
    if mark:
        text = rest.removeprefix("/") or rest
    return Path(os.path.abspath(text))
