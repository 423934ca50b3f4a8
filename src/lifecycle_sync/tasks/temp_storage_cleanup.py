"""The clean-ups of temporary storage as Celery tasks, and how an application takes them in.

    from lifecycle_sync.tasks.temp_storage_cleanup import configure_cleanup

    configure_cleanup(app, make_service)

`make_service` is called in each worker process, once, and gives a `TempStorageCleanupService`.
Tasks go to the queue `maintenance` with a low priority: 2 of 9 where the highest number is first
(RabbitMQ), and what comes to the same where 0 is first (Redis). They are acknowledged late, so one
whose worker died is delivered again; being done twice changes nothing, for each looks at what is
there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery import Celery, Task, shared_task
from celery.schedules import crontab
from kombu.entity import Queue

from lifecycle_sync.errors import LifecycleError, UsageError
from lifecycle_sync.service.temp.cleanup import TempStorageCleanupService, check_age
from lifecycle_sync.service.temp.core import TempCleanup
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from lifecycle_sync.service.temp.tally import CleanupTrigger

QUEUE = "maintenance"
PRIORITY = 2
_PRIORITY_MAX = 9
# Where 0 comes first.
_REVERSED = ("redis", "rediss", "sentinel", "valkey", "valkeys")
_FACTORY = "lifecycle_cleanup_factory"
_BEAT = "lifecycle-temp-storage"

ServiceFactory = Callable[[], TempStorageCleanupService | TempCleanup]


class _CleanupTask(Task):
    """At most three retries, with growing and random waits; acknowledged when it is done."""

    abstract = True
    queue = QUEUE
    acks_late = True
    reject_on_worker_lost = True
    max_retries = 3
    autoretry_for = (OSError, LifecycleError)
    dont_autoretry_for = (UsageError,)
    retry_backoff = 2
    retry_backoff_max = 120
    retry_jitter = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        if options.get("priority") is None:
            options["priority"] = priority_for(self.app)
        if not {"queue", "exchange", "routing_key"} & options.keys():
            # Celery 6 will not look at the attribute.
            options["queue"] = self.queue
        return super().apply_async(args, kwargs, **options)


def priority_for(app: Celery) -> int:
    """The number that means "2 of 9, 9 first" to the application's broker."""
    scheme = str(app.conf.broker_url or "").partition(":")[0].partition("+")[0]
    return _PRIORITY_MAX - PRIORITY if scheme in _REVERSED else PRIORITY


@shared_task(base=_CleanupTask, bind=True, rate_limit="6/m")
def task_scheduled_cleanup(self: Task) -> dict[str, Any]:
    """All of it in one; see `TempCleanup.scheduled`."""
    return _cleanup(self.app).scheduled()


@shared_task(base=_CleanupTask, bind=True, rate_limit="6/m")
def task_emergency_cleanup(self: Task, only_if_needed: bool = False) -> dict[str, Any]:
    """Down to the low watermark; with `only_if_needed` only from the high one on."""
    cleanup = _cleanup(self.app)
    if only_if_needed and not cleanup.is_emergency():
        return cleanup.nothing(CleanupTrigger.EMERGENCY_THRESHOLD)
    return cleanup.emergency()


@shared_task(base=_CleanupTask, bind=True, rate_limit="6/m")
def task_cleanup_orphaned_files(self: Task, max_age_hours: float | None = None) -> dict[str, Any]:
    """Orphans of at least that age."""
    check_age(max_age_hours)
    return _cleanup(self.app).orphaned(max_age_hours)


@shared_task(base=_CleanupTask, bind=True, rate_limit="60/m")
def task_cleanup_after_crash(self: Task, job_id: int | str | None = None) -> dict[str, Any]:
    """The files of one job that is over, or (None, or 0) of all that failed."""
    return _cleanup(self.app).after_crash(job_id)


@shared_task(base=_CleanupTask, bind=True, rate_limit="600/m")
def task_cleanup_after_chunk(
    self: Task, job_id: int | str, chunk_id: int | str, completed_files: list[str]
) -> dict[str, Any]:
    """The temporary files of a chunk's completed ones."""
    return _cleanup(self.app).after_chunk(job_id, chunk_id, completed_files)


TASKS = (
    task_scheduled_cleanup,
    task_emergency_cleanup,
    task_cleanup_orphaned_files,
    task_cleanup_after_crash,
    task_cleanup_after_chunk,
)


def configure_cleanup(
    app: Celery,
    factory: ServiceFactory | None = None,
    *,
    beat: bool = True,
    settings: TempStorageCleanupSettings | None = None,
) -> None:
    """Take the tasks into an application: how their service is made, their queue, their schedule.

    Without `factory` the settings are read from the environment and all jobs count as live. A
    worker has to consume the queue: `celery -A app worker -Q celery,maintenance`.
    """
    app.conf[_FACTORY] = factory
    _made.pop(id(app), None)
    if priority_for(app) == PRIORITY:
        # RabbitMQ knows priorities only of a queue that was made for them.
        queues = list(app.conf.task_queues or [Queue(app.conf.task_default_queue)])
        if not any(getattr(queue, "name", queue) == QUEUE for queue in queues):
            queues.append(Queue(QUEUE, queue_arguments={"x-max-priority": _PRIORITY_MAX}))
        app.conf.task_queues = queues
    if beat:
        schedule = dict(app.conf.beat_schedule or {})
        schedule.update(beat_schedule(settings))
        app.conf.beat_schedule = schedule


def beat_schedule(settings: TempStorageCleanupSettings | None = None) -> dict[str, Any]:
    """Scheduled: hourly, at minute 0. Emergency check: every 5 minutes. Orphans: every 6 hours, at
    minute 30. Other intervals in the settings count from the start of beat."""
    settings = settings or TempStorageCleanupSettings()
    hourly: Any = crontab(minute="0")
    checks: Any = crontab(minute="*/5")
    if settings.scheduled_cleanup_interval_minutes != 60:
        hourly = timedelta(minutes=settings.scheduled_cleanup_interval_minutes)
    if settings.emergency_check_interval_minutes != 5:
        checks = timedelta(minutes=settings.emergency_check_interval_minutes)
    return {
        f"{_BEAT}-scheduled": {"task": task_scheduled_cleanup.name, "schedule": hourly},
        f"{_BEAT}-emergency-check": {
            "task": task_emergency_cleanup.name,
            "schedule": checks,
            "kwargs": {"only_if_needed": True},
        },
        f"{_BEAT}-orphaned": {
            "task": task_cleanup_orphaned_files.name,
            "schedule": crontab(minute="30", hour="*/6"),
        },
    }


# By application: the process that made it, and what it made. A forked worker makes its own.
_made: dict[int, tuple[int, TempCleanup]] = {}


def _cleanup(app: Celery) -> TempCleanup:
    made = _made.get(id(app))
    if made is None or made[0] != os.getpid():
        factory = app.conf.get(_FACTORY)
        service = TempCleanup() if factory is None else factory()
        core = service.core if isinstance(service, TempStorageCleanupService) else service
        made = _made[id(app)] = (os.getpid(), core)
    return made[1]
