"""Jobs that are Celery tasks, asked of its result backend."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from celery import Celery

from lifecycle_sync.model.temp import UNKNOWN_JOB, Job, JobState
from lifecycle_sync.service.temp.jobs import moment_ns

_STATES = {
    "RECEIVED": JobState.LIVE,
    "STARTED": JobState.LIVE,
    "RETRY": JobState.LIVE,
    "SUCCESS": JobState.FINISHED,
    "FAILURE": JobState.FAILED,
    "REVOKED": JobState.FAILED,
}


class CeleryJobs:
    """Jobs whose ids are those of tasks of a Celery application.

    A backend knows a task only once something was stored of it, and forgets results after a while:
    PENDING says nothing, so such a job is unknown, and counts as live.
    """

    def __init__(self, app: Celery) -> None:
        self._backend: Any = app.backend

    def look(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        return {job_id: self._job(job_id) for job_id in job_ids}

    def _job(self, job_id: str) -> Job:
        told = self._backend.get_task_meta(job_id)
        state = _STATES.get(str(told.get("status")))
        if state is None:
            return UNKNOWN_JOB
        return Job(state, moment_ns(told.get("date_done")))
