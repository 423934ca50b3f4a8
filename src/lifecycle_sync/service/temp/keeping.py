"""The temporary storage that `lifecycle run` keeps: the folders `temp_roots` of the settings.

Each is cleaned up at the interval of scheduled clean-ups by a loop like the others, and watched by
a thread of its own, so that no backup that takes its time keeps an emergency waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, SteadyClock
from lifecycle_sync.errors import GuardError, LifecycleError
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.temp.core import TempCleanup
from lifecycle_sync.service.temp.holds import RegistryHolds
from lifecycle_sync.service.temp.jobs import JobSource
from lifecycle_sync.service.temp.jobs_registry import RegistryJobs
from lifecycle_sync.service.temp.monitor import Monitor
from lifecycle_sync.service.temp.orders import need_sqlalchemy
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from lifecycle_sync.service.temp.trash_first import TrashFirst

REGISTRY = "registry"


class TempKeeping:
    """A context manager; on its way out it stops watching.

    Raises `ConfigError` for settings that cannot be, and `UsageError` for a folder that may not be
    cleaned or a database that cannot be asked.
    """

    def __init__(self, engine: Engine, cancel: CancelToken) -> None:
        settings, registry = engine.settings, engine.registry
        # A clock that is set ahead while this runs makes no file old.
        clock = SteadyClock(engine.clock)
        self._doubt = engine.clock_doubt.reason
        self._cancel = cancel
        self._monitors: list[Monitor] = []
        self._open = ExitStack()
        try:
            jobs = self._jobs(settings.temp_jobs, registry, clock) if settings.temp_roots else None
            held = RegistryHolds(registry, engine.clock)
            self._cleanups = [
                TempCleanup(
                    TempStorageCleanupSettings(temp_storage_path=folder),
                    jobs=jobs,
                    held=held,
                    trash=TrashFirst(engine),
                    clock=clock,
                )
                for folder in settings.temp_roots
            ]
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> TempKeeping:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._open.close()

    @property
    def interval_seconds(self) -> float | None:
        """Between two scheduled clean-ups; None where there is nothing to be cleaned."""
        if not self._cleanups:
            return None
        return self._cleanups[0].settings.scheduled_cleanup_interval_minutes * 60.0

    def watch(self, soon: Callable[[], None]) -> None:
        """Begin to look how full it is. A watermark that is crossed is acted on at once, in the
        thread that looks; where a forecast says that one will be, `soon` is called."""
        self._stop()
        for cleanup in self._cleanups:
            if cleanup.settings.enable_storage_monitoring:
                monitor = Monitor(cleanup, early=soon)
                monitor.start()
                self._monitors.append(monitor)

    def clean(self) -> None:
        """The scheduled clean-up of each folder. Raises `LifecycleError` where something could not
        be done, after all that could be, and `GuardError` while the clock is in doubt."""
        if doubt := self._doubt():
            raise GuardError(
                f"{doubt}: no file counts as old",
                guard="clock",
                operation="clean up temporary files",
                remedy="check the date; if it is right, `lifecycle confirm --guard clock`",
            )
        errors: list[str] = []
        for cleanup in self._cleanups:
            if not self._cancel.cancelled:
                errors += cleanup.scheduled(cancel=self._cancel)["errors"]
        if errors:
            more = f" (and {len(errors) - 1:,} more)" if len(errors) > 1 else ""
            raise LifecycleError(
                f"{errors[0]}{more}",
                operation="clean up temporary files",
                remedy="the log has each; the next clean-up tries again",
            )

    def _stop(self) -> None:
        for monitor in self._monitors:
            monitor.stop()
        self._monitors.clear()

    def _jobs(self, asked: str | None, registry: Registry, clock: Clock) -> JobSource | None:
        if asked is None:
            return None
        if asked == REGISTRY:
            return RegistryJobs(registry, clock=clock)
        need_sqlalchemy()
        from lifecycle_sync.service.temp.jobs_sql import jobs_at

        return self._open.enter_context(jobs_at(asked))
