"""The clean-ups of temporary storage as a FastAPI router, to be mounted in one's own application:

    app.include_router(cleanup_router(service, authenticate=current_admin))

The routes stand under `/api/v1/cleanup`. What takes long is answered at once with 202 and the id of
a task. `authenticate` is the application's own dependency, and there is no router without one.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Path
from pydantic import BaseModel, Field

from lifecycle_sync.errors import BusyError, UsageError
from lifecycle_sync.service.temp.cleanup import TempStorageCleanupService
from lifecycle_sync.service.temp.running import HereRunner, TaskRunner
from lifecycle_sync.service.threads import in_thread

PREFIX = "/api/v1/cleanup"


class StorageStats(BaseModel):
    """How full the storage is, and what lies there."""

    storage_usage_percent: float
    emergency_threshold: float
    temp_files_count: int
    temp_files_size_bytes: int
    active_jobs_count: int
    failed_jobs_count: int
    orphaned_files_count: int
    orphaned_files_size_bytes: int
    cleanup_needed: bool


class Started(BaseModel):
    """A clean-up that was begun."""

    task_id: str
    status: str


class TaskStatus(BaseModel):
    """What became of it."""

    task_id: str
    status: str
    result: dict[str, Any] | None = None
    error: str | None = None


class Health(BaseModel):
    """healthy, warning or critical."""

    status: str
    storage_usage_percent: float
    warning_threshold: float
    emergency_threshold: float
    monitoring: bool
    forecast_seconds: float | None = None


class OrphanRequest(BaseModel):
    """`max_age_hours`: left out, what is set."""

    max_age_hours: float | None = Field(default=None, gt=0, le=1_000_000, allow_inf_nan=False)


def cleanup_router(
    service: TempStorageCleanupService,
    *,
    authenticate: Any,
    runner: TaskRunner | None = None,
    prefix: str = PREFIX,
) -> APIRouter:
    """The routes. `authenticate` is a dependency (a function, as `Depends` takes it) that raises
    for whoever may not clean up; without one this raises `UsageError`. `runner` runs what takes
    long: by default threads of this process, or a `tasks.runner.CeleryRunner`."""
    if not callable(authenticate):
        raise UsageError(
            "there is no dependency that authenticates",
            operation="mount the clean-up routes",
            remedy="give cleanup_router(..., authenticate=...) the one of your other admin routes",
        )
    router = APIRouter(
        prefix=prefix,
        tags=["cleanup"],
        dependencies=[Depends(authenticate)],
        responses={401: {"description": "Not authenticated"}, 403: {"description": "Not allowed"}},
    )
    tasks: TaskRunner = runner or HereRunner(service.core)

    async def start(kind: str, **arguments: Any) -> Started:
        try:
            task_id = await in_thread(lambda: tasks.start(kind, **arguments))
        except BusyError as error:
            raise HTTPException(503, str(error), {"Retry-After": "60"}) from error
        return Started(task_id=task_id, status="started")

    @router.get("/stats")
    async def stats() -> StorageStats:
        """Counts and sizes; reads the whole folder."""
        return StorageStats(**await service.get_storage_stats())

    @router.get("/health")
    async def health() -> Health:
        """How full it is, and what that means."""
        return Health(**await service.get_health())

    @router.post("/emergency", status_code=202)
    async def emergency() -> Started:
        """Delete until the low watermark is reached."""
        return await start("emergency")

    @router.post("/orphaned", status_code=202)
    async def orphaned(
        request: Annotated[OrphanRequest | None, Body()] = None,
    ) -> Started:
        """Delete orphans of at least that age."""
        hours = None if request is None else request.max_age_hours
        return await start("orphaned", max_age_hours=hours)

    @router.post("/crash/{job_id}", status_code=202)
    async def crash(
        job_id: Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^/\x00]+$")],
    ) -> Started:
        """Delete the files of a job that is over; 0: of all that failed."""
        return await start("crash", job_id=job_id)

    @router.post("/scheduled", status_code=202)
    async def scheduled() -> Started:
        """All of it in one."""
        return await start("scheduled")

    @router.get("/task/{task_id}/status", responses={404: {"description": "No such task"}})
    async def task_status(task_id: Annotated[str, Path(max_length=200)]) -> TaskStatus:
        """What became of a clean-up."""
        told = await in_thread(lambda: tasks.status(task_id))
        if told is None:
            raise HTTPException(404, f"there is no task {task_id}")
        return TaskStatus(**told)

    return router
