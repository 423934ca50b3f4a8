"""The clean-up of a host application as a Celery task, hourly.

from lifecycle_sync.tasks.host_cleanup import configure_host_cleanup

configure_host_cleanup(app, make_service)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from celery import Celery, Task, shared_task

from lifecycle_sync.errors import BusyError
from lifecycle_sync.service.host.service import CleanupService

_FACTORY = "lifecycle_host_cleanup_factory"
_HOUR = 3600.0


@shared_task(bind=True, acks_late=True, reject_on_worker_lost=True)
def cleanup_expired_files(self: Task) -> dict[str, Any]:
    """One cycle, and the statistics after it; `status` is "done", "failed" or "busy"."""
    service = _service(self.app)
    try:
        failures = service.run_cleanup_cycle()
    except BusyError:
        return {"status": "busy", "failures": 0}
    stats = service.get_stats()
    stats["last_run"] = stats["last_run"].isoformat()
    return {"status": "failed" if failures else "done", "failures": failures, **stats}


def configure_host_cleanup(
    app: Celery, factory: Callable[[], CleanupService], *, seconds: float = _HOUR
) -> None:
    """`factory` makes the service, once in each worker process; beat runs it each `seconds`."""
    app.conf[_FACTORY] = factory
    _made.pop(id(app), None)
    schedule = dict(app.conf.beat_schedule or {})
    schedule["cleanup-every-hour"] = {"task": cleanup_expired_files.name, "schedule": seconds}
    app.conf.beat_schedule = schedule


_made: dict[int, tuple[int, CleanupService]] = {}


def _service(app: Celery) -> CleanupService:
    made = _made.get(id(app))
    if made is None or made[0] != os.getpid():
        made = _made[id(app)] = (os.getpid(), app.conf[_FACTORY]())
    return made[1]
