"""Who knows which jobs are alive: a `JobSource`, asked about a batch of ids at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from lifecycle_sync.clock import NS_PER_SECOND, from_datetime
from lifecycle_sync.model.temp import UNKNOWN_JOB, DeclaredFile, Job, JobState

_log = logging.getLogger("lifecycle_sync.temp")

# What applications call the states of their jobs; anything else is unknown, and so counts as live.
STATUSES: Mapping[str, JobState] = {
    **dict.fromkeys(
        "pending queued waiting scheduled created new initializing initialising received started"
        " starting active running processing in_progress paused retry retrying resumed"
        " stopping cancelling canceling live".split(),
        JobState.LIVE,
    ),
    **dict.fromkeys(
        "failed failure cancelled canceled error errored aborted crashed revoked killed dead"
        " timeout timed_out".split(),
        JobState.FAILED,
    ),
    **dict.fromkeys(
        "completed complete done success succeeded successful finished".split(), JobState.FINISHED
    ),
}


@runtime_checkable
class JobSource(Protocol):
    """Answers which jobs are alive."""

    def look(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        """What is known of these jobs now. An id that is left out is unknown, and so counts as
        live; `JobState.ABSENT` is only given for one that is known not to exist. May raise
        anything: then nothing is known."""


@runtime_checkable
class CountingJobSource(JobSource, Protocol):
    """One that can also say how many jobs there are."""

    def counts(self) -> tuple[int, int]:
        """(live, failed) jobs."""


@runtime_checkable
class DeclaringJobSource(JobSource, Protocol):
    """One whose jobs also say which files are theirs, whatever their names are."""

    def declared(self, paths: Collection[bytes]) -> Mapping[bytes, DeclaredFile]:
        """Those of these paths (absolute) that are declared. May raise anything: then whose a file
        is cannot be said."""

    def declared_by(self, job_id: str) -> Collection[DeclaredFile]:
        """What a job has declared."""


class NoJobs:
    """Knows of no job, so that all of them count as live."""

    def __init__(self) -> None:
        self.was_asked = False

    def look(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        self.was_asked = True
        return {}


class CallableJobs:
    """A function of an id: it gives a status as text, a `JobState` or a `Job`, a pair of one of the
    first two and when that began, or None for a job that it does not know."""

    def __init__(
        self,
        ask: Callable[[str], Any],
        statuses: Mapping[str, JobState] = STATUSES,
    ) -> None:
        self._ask = ask
        self._statuses = statuses

    def look(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        return {job_id: job_of(self._ask(job_id), self._statuses) for job_id in job_ids}


def job_of(answer: Any, statuses: Mapping[str, JobState] = STATUSES) -> Job:
    """A job from what an application says of it; unknown for what is not understood."""
    if isinstance(answer, Job):
        return answer
    if isinstance(answer, tuple) and len(answer) == 2:
        state = job_of(answer[0], statuses).state
        return Job(state, moment_ns(answer[1]))
    if isinstance(answer, JobState):
        return Job(answer)
    # An enumeration's value is what is stored.
    answer = getattr(answer, "value", answer)
    if isinstance(answer, str):
        return Job(statuses.get(answer.strip().lower(), JobState.UNKNOWN))
    return UNKNOWN_JOB


def moment_ns(value: Any) -> int | None:
    """Nanoseconds since 1970 from a datetime (naive: local time), ISO text or seconds; None for
    anything else."""
    try:
        if isinstance(value, datetime):
            return from_datetime(value)
        if isinstance(value, str):
            return from_datetime(datetime.fromisoformat(value.strip()))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value * NS_PER_SECOND)
    except (ValueError, OverflowError, OSError):
        pass
    return None


class AskedJobs:
    """A source for the length of one clean-up: each job is asked about once a batch, and a source
    that fails is not asked again. Errors are in `errors`."""

    def __init__(self, source: JobSource) -> None:
        self._source = source
        self.down = False
        self.errors: list[str] = []
        self.seen: dict[str, JobState] = {}

    def look(self, job_ids: Collection[str]) -> dict[str, Job]:
        """What is known of them; nothing where the source is down."""
        if self.down or not job_ids:
            return {}
        try:
            known = dict(self._source.look(job_ids))
        except Exception as error:  # noqa: BLE001 - a database, a broker, a function of somebody's
            self.down = True
            cause = (str(error).splitlines() or [""])[0]
            self.errors.append(
                f"nobody says which jobs are alive, so all count as live: {type(error).__name__}:"
                f" {cause}"
            )
            _log.error("%s", self.errors[-1])
            return {}
        for job_id, job in known.items():
            self.seen[job_id] = job.state
        return known
