"""Jobs in a table of the application's own, in any database that SQLAlchemy knows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, bindparam, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.temp import Job, JobState
from lifecycle_sync.service.temp.jobs import STATUSES, job_of

if TYPE_CHECKING:
    # Needs a library (greenlet) that only asynchronous applications have.
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

CRAWL_JOBS = "SELECT id AS job_id, status AS status, updated_at AS since FROM crawl_jobs"
# Databases bound the number of parameters of a statement.
_IDS_AT_ONCE = 500
_SECONDS = 60.0


class SqlJobs:
    """Asks `query`, a SELECT that gives the columns `job_id`, `status` and `since` (when the job
    came into that status; NULL where that is not known) of all jobs.

    `bind` is a SQLAlchemy session or engine, synchronous or not. A synchronous one is used through
    connections of our own, so what its transaction has not committed is not seen. A table without
    any row says nothing of any job. `statuses` maps the application's words, in lower case.
    """

    def __init__(
        self,
        bind: Session | AsyncSession | Engine | AsyncEngine,
        query: str = CRAWL_JOBS,
        statuses: Mapping[str, JobState] = STATUSES,
    ) -> None:
        self._bind = bind
        self._statuses = statuses
        # As text, whatever the column is: file names are text.
        self._ids = text(
            f"SELECT CAST(job_id AS VARCHAR(255)), status, since FROM ({query}) AS lifecycle_jobs"  # noqa: S608
            " WHERE CAST(job_id AS VARCHAR(255)) IN :job_ids"
        ).bindparams(bindparam("job_ids", expanding=True))
        self._any = text(f"SELECT 1 FROM ({query}) AS lifecycle_jobs LIMIT 1")  # noqa: S608
        self._counted = text(
            f"SELECT status, count(*) FROM ({query}) AS lifecycle_jobs GROUP BY status"  # noqa: S608
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say in which loop an asynchronous session lives; called from within it."""
        self._loop = loop

    def look(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        ids = [str(it) for it in job_ids]
        found: dict[str, Job] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            for job_id, status, since in self._rows(self._ids, {"job_ids": some}):
                found[str(job_id)] = job_of((status, since), self._statuses)
        if len(found) < len(ids) and (found or self._rows(self._any, {})):
            absent = Job(JobState.ABSENT)
            found.update((job_id, absent) for job_id in ids if job_id not in found)
        return found

    def counts(self) -> tuple[int, int]:
        live = failed = 0
        for status, count in self._rows(self._counted, {}):
            state = job_of(status, self._statuses).state
            live += count if state in (JobState.LIVE, JobState.UNKNOWN) else 0
            failed += count if state is JobState.FAILED else 0
        return live, failed

    def _rows(self, statement: Any, values: dict[str, Any]) -> Sequence[Any]:
        bind: Any = self._bind
        if isinstance(bind, Session):
            bind = bind.get_bind()
            bind = getattr(bind, "engine", bind)
        if isinstance(bind, Engine):
            with bind.connect() as connection:
                return connection.execute(statement, values).all()
        if self._loop is None:
            raise RuntimeError("an asynchronous session can be asked only from its running loop")
        asking = asyncio.run_coroutine_threadsafe(_ask(bind, statement, values), self._loop)
        return asking.result(_SECONDS)


async def _ask(bind: Any, statement: Any, values: dict[str, Any]) -> Sequence[Any]:
    # A connection beside an asynchronous session's own: that may be in the middle of something.
    bound = bind.bind if hasattr(bind, "bind") else bind
    engine = bound if hasattr(bound, "sync_engine") else bound.engine
    async with engine.connect() as connection:
        result = await connection.execute(statement, values)
        rows: Sequence[Any] = result.all()
        return rows


@contextmanager
def jobs_at(url: str, query: str = CRAWL_JOBS) -> Iterator[SqlJobs]:
    """The jobs of a database by its URL, for as long as the block lasts. Raises `UsageError`."""
    try:
        engine = create_engine(url)
    except (SQLAlchemyError, ImportError) as error:
        raise UsageError(
            f"it cannot be used: {error}",
            operation="ask for jobs",
            subject="the database",
            remedy="a URL is like postgresql://user:password@host/name or sqlite:///file.db",
        ) from error
    try:
        yield SqlJobs(engine, query)
    finally:
        engine.dispose()
