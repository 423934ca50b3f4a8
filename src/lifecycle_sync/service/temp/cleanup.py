"""`TempStorageCleanupService` and `OrphanedFileDetector`: the clean-ups, awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.temp.core import References, TempCleanup
from lifecycle_sync.service.temp.jobs import CallableJobs, JobSource
from lifecycle_sync.service.temp.monitor import Monitor
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from lifecycle_sync.service.temp.sweep import Held
from lifecycle_sync.service.threads import in_thread

if TYPE_CHECKING:
    from lifecycle_sync.service.temp.trash_first import TrashFirst

_T = TypeVar("_T")


class TempStorageCleanupService:
    """Cleans up the temporary files of jobs, in all the ways that there are reasons for.

    `storage_provider` says how full the place is (`usage()`); of one that does not, the filesystem
    is asked. `session` says which jobs are alive: a `JobSource`, a function of an id, or a
    SQLAlchemy session or engine with the table `crawl_jobs` (`SqlJobs` for another); with None all
    jobs count as live. The folder is `settings.temp_storage_path`. What is `held` stays whatever
    happens, and `trash` goes first in an emergency (`RegistryHolds`, `TrashFirst`: a registry's).

    Every clean-up gives `trigger`, `start_time`, `end_time`, `duration_seconds`, `files_scanned`,
    `files_deleted`, `bytes_freed`, `storage_before_percent`, `storage_after_percent` and `errors`.
    A cancelled await stops at the next safe point, and what was not done is the next one's.
    """

    def __init__(
        self,
        storage_provider: Any,
        session: Any,
        settings: TempStorageCleanupSettings | None = None,
        *,
        references: References | None = None,
        held: Held | None = None,
        trash: TrashFirst | None = None,
        force: bool = False,
        fs: FileOps | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.core = TempCleanup(
            settings,
            provider=storage_provider,
            jobs=job_source(session),
            references=references,
            held=held,
            trash=trash,
            force=force,
            fs=fs,
            clock=clock,
        )
        self.monitor = Monitor(self.core)

    @property
    def settings(self) -> TempStorageCleanupSettings:
        """May be changed at any time."""
        return self.core.settings

    async def get_storage_stats(self) -> dict[str, Any]:
        """How full it is, and counts and sizes of files, jobs and orphans."""
        return await _do(self.core, self.core.stats)

    async def get_health(self) -> dict[str, Any]:
        """`status` (healthy, warning, critical), the usage, the watermarks, and whether it is being
        watched; with `forecast_seconds`, until the high watermark is reached, where that is seen
        coming."""
        usage = await _do(self.core, lambda _cancel: self.core.usage())
        status = await _do(self.core, lambda _cancel: self.core.health())
        return {
            "status": status.value,
            "storage_usage_percent": round(usage.percent, 2),
            "warning_threshold": self.settings.warning_threshold,
            "emergency_threshold": self.settings.emergency_cleanup_threshold,
            "monitoring": self.monitor.running,
            "forecast_seconds": self.monitor.forecast_seconds(),
        }

    async def cleanup_after_chunk_completion(
        self,
        job_id: int | str,
        chunk_id: int | str,
        completed_files: Iterable[str | os.PathLike[str]],
    ) -> dict[str, Any]:
        """See `TempCleanup.after_chunk`."""
        names = list(completed_files)
        return await _do(
            self.core,
            lambda cancel: self.core.after_chunk(job_id, chunk_id, names, cancel=cancel),
        )

    async def cleanup_after_crash(self, job_id: int | str | None = None) -> dict[str, Any]:
        """See `TempCleanup.after_crash`."""
        return await _do(self.core, lambda cancel: self.core.after_crash(job_id, cancel=cancel))

    async def cleanup_orphaned_files(self, max_age_hours: float | None = None) -> dict[str, Any]:
        """See `TempCleanup.orphaned`. Raises `UsageError` for an age of zero or less."""
        check_age(max_age_hours)
        return await _do(self.core, lambda cancel: self.core.orphaned(max_age_hours, cancel=cancel))

    async def emergency_cleanup(self) -> dict[str, Any]:
        """See `TempCleanup.emergency`."""
        return await _do(self.core, lambda cancel: self.core.emergency(cancel=cancel))

    async def scheduled_cleanup(self) -> dict[str, Any]:
        """See `TempCleanup.scheduled`."""
        return await _do(self.core, lambda cancel: self.core.scheduled(cancel=cancel))

    def start_monitoring(self) -> None:
        """Watch how full the storage is, in the background, if `enable_storage_monitoring`."""
        if self.settings.enable_storage_monitoring:
            self.monitor.start()

    async def stop_monitoring(self) -> None:
        """End that, and wait for the safe point of a clean-up that is running."""
        await in_thread(self.monitor.stop)


@dataclass(frozen=True, slots=True)
class OrphanedFile:
    """A file without an owner: which rule says so, and why."""

    path: str
    size_bytes: int
    rule: str
    reason: str
    job_id: str | None = None


class OrphanedFileDetector:
    """Finds orphans by the five rules, and deletes nothing. The arguments are those of
    `TempStorageCleanupService`."""

    def __init__(
        self,
        storage_provider: Any,
        session: Any,
        settings: TempStorageCleanupSettings | None = None,
        *,
        references: References | None = None,
        held: Held | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._core = TempCleanup(
            settings,
            provider=storage_provider,
            jobs=job_source(session),
            references=references,
            held=held,
            clock=clock,
        )

    async def detect_orphaned_files(self, max_age_hours: float | None = None) -> list[OrphanedFile]:
        """All orphans that are at least that old (None: `max_orphan_age_hours`)."""
        check_age(max_age_hours)
        core = self._core

        def work(cancel: CancelToken) -> list[OrphanedFile]:
            base = core.base
            return [
                OrphanedFile(
                    os.path.join(base, os.fsdecode(file.path)),
                    file.size,
                    verdict.rule.value,
                    verdict.reason,
                    file.job_id,
                )
                for file, verdict in core.find_orphans(max_age_hours, cancel)
                if verdict.rule is not None
            ]

        return await _do(core, work)


def check_age(hours: float | None) -> None:
    """Raises `UsageError` for what is no age."""
    if hours is not None and not hours > 0:
        raise UsageError(
            f"max_age_hours must be over 0, not {hours!r}",
            operation="clean temporary files",
            remedy="leave it out for the age that is set",
        )


def job_source(given: Any) -> JobSource | None:
    """Who knows the jobs, from what an application has to give. Raises `UsageError` for what is of
    no use."""
    if given is None or isinstance(given, JobSource):
        return given
    if type(given).__module__.split(".")[0] == "sqlalchemy" or _is_session(given):
        from lifecycle_sync.service.temp.jobs_sql import SqlJobs

        return SqlJobs(given)
    if callable(given):
        return CallableJobs(given)
    raise UsageError(
        f"a {type(given).__name__} cannot say which jobs are alive",
        operation="clean temporary files",
        remedy="give a JobSource, a function of a job's id, or a SQLAlchemy session or engine",
    )


def _is_session(given: Any) -> bool:
    """A subclass of one of SQLAlchemy's."""
    return any(
        base.__module__.split(".")[0] == "sqlalchemy" and base.__name__.endswith("Session")
        for base in type(given).__mro__
    )


async def _do(core: TempCleanup, work: Callable[[CancelToken], _T]) -> _T:
    serve = getattr(core.jobs, "serve", None)
    if serve is not None:
        serve(asyncio.get_running_loop())
    cancel = CancelToken()
    return await in_thread(lambda: work(cancel), cancel)
