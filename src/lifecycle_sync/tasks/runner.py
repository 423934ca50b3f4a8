"""Clean-ups that the web door asks for, run by Celery's workers."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.result import AsyncResult

from lifecycle_sync.tasks.temp_storage_cleanup import (
    task_cleanup_after_crash,
    task_cleanup_orphaned_files,
    task_emergency_cleanup,
    task_scheduled_cleanup,
)

_KINDS = {
    "scheduled": task_scheduled_cleanup,
    "emergency": task_emergency_cleanup,
    "orphaned": task_cleanup_orphaned_files,
    "crash": task_cleanup_after_crash,
}


class CeleryRunner:
    """A `TaskRunner`; the application needs a result backend to tell what became of a task."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def start(self, kind: str, **arguments: Any) -> str:
        # By its name, so that it is this application's whatever the current one is.
        task = self._app.tasks[_KINDS[kind].name]
        return str(task.apply_async(kwargs=arguments).id)

    def status(self, task_id: str) -> dict[str, Any]:
        """A backend cannot tell an id that it does not know from a task that waits: PENDING."""
        asked = AsyncResult(task_id, app=self._app)
        status = str(asked.status)
        ended_well, failed = status == "SUCCESS", status == "FAILURE"
        return {
            "task_id": task_id,
            "status": status,
            "result": asked.result if ended_well else None,
            "error": str(asked.result) if failed else None,
        }
