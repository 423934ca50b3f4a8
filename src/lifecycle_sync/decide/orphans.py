"""Which temporary files have lost their owner: five rules, each with its reason.

| rule             | a file, once it is old enough, whose                                        |
|------------------|-----------------------------------------------------------------------------|
| *no active job*  | job has ended well                                                          |
| *failed job*     | job failed or was cancelled, and that is long enough ago too                |
| *no reference*   | name is no job's, and the database was asked and does not refer to it       |
| *no such job*    | name is a job's, and whoever keeps the jobs says that there is none         |
| *no job pattern* | name is no job's, and there is no database to be asked                      |

A job of which nothing is known is a live one. A file that the database refers to is no orphan, nor
is any while the database does not answer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from lifecycle_sync.model.temp import UNKNOWN_JOB, DeclaredFile, Job, JobState, Reference, TempFile

_HOUR_NS = 3_600_000_000_000


class OrphanRule(StrEnum):
    NO_ACTIVE_JOB = "no active job"
    FAILED_JOB = "failed job"
    NO_REFERENCE = "no reference"
    NO_SUCH_JOB = "no such job"
    NO_JOB_PATTERN = "no job pattern"


class OrphanVerdict(NamedTuple):
    """`rule` is None for what is no orphan; `reason` says why, either way."""

    rule: OrphanRule | None
    reason: str

    @property
    def orphan(self) -> bool:
        return self.rule is not None


_NO_JOBS = OrphanVerdict(OrphanRule.NO_JOB_PATTERN, "it is old, and its name is no job's")


def orphan(
    file: TempFile,
    jobs: dict[str, Job],
    *,
    now_ns: int,
    max_age_ns: int,
    reference: Reference = Reference.NOT_ASKED,
) -> OrphanVerdict:
    """Judge one file. `jobs` has what is known of the jobs that its name speaks of."""
    if reference is Reference.YES:
        return OrphanVerdict(None, "the database refers to it")
    if reference is Reference.UNKNOWN:
        return OrphanVerdict(None, "the database did not say whether it refers to it")
    job = owner(file, jobs)
    if job is not None and job.may_be_live:
        return OrphanVerdict(None, live_reason(file, job))
    age_ns = now_ns - file.mtime_ns
    if age_ns < max_age_ns:
        return OrphanVerdict(None, f"it is younger than {max_age_ns / _HOUR_NS:g} h")
    if job is None:
        if reference is Reference.NO:
            return OrphanVerdict(OrphanRule.NO_REFERENCE, "the database does not refer to it")
        return _NO_JOBS
    if job.state is JobState.ABSENT:
        return OrphanVerdict(OrphanRule.NO_SUCH_JOB, f"there is no job {file.job_id}")
    if job.since_ns is not None and now_ns - job.since_ns < max_age_ns:
        return OrphanVerdict(None, f"job {file.job_id} ended under {max_age_ns / _HOUR_NS:g} h ago")
    if job.state is JobState.FAILED:
        return OrphanVerdict(OrphanRule.FAILED_JOB, f"job {file.job_id} failed or was cancelled")
    return OrphanVerdict(OrphanRule.NO_ACTIVE_JOB, f"job {file.job_id} is finished")


def owner(file: TempFile, jobs: dict[str, Job]) -> Job | None:
    """The job of a file: the one it is named for, but a live one that may be its owner first. None
    for a file that is nobody's for certain."""
    if file.job_id is None and not file.perhaps:
        return None
    for other in file.perhaps:
        if jobs.get(other, UNKNOWN_JOB).state is JobState.LIVE:
            return jobs[other]
    if file.job_id is not None:
        return jobs.get(file.job_id, UNKNOWN_JOB)
    if any(jobs.get(other, UNKNOWN_JOB).may_be_live for other in file.perhaps):
        return UNKNOWN_JOB
    return None


def live_reason(file: TempFile, job: Job) -> str:
    """Why a file of a job that may be live stays."""
    job_id = file.job_id or " or ".join(file.perhaps)
    if job.state is JobState.LIVE:
        return f"job {job_id} is live"
    return f"of job {job_id} nothing is known, so it counts as live"


def declared(file: TempFile, known: DeclaredFile) -> TempFile:
    """A file as a job has declared it: that job's, if it is the very file that it spoke of. Another
    one at its path may be that job's while that may live, and is nobody's after."""
    if (file.device, file.inode) == (known.device, known.inode):
        return file._replace(job_id=known.job_id, chunk_id=known.chunk_id, perhaps=())
    return file._replace(perhaps=(*file.perhaps, known.job_id))


def after_crash(
    file: TempFile, jobs: dict[str, Job], *, now_ns: int, wait_ns: int, named: bool
) -> OrphanVerdict:
    """Judge a file of a job that is said to have crashed.

    A job that was `named` is cleaned at once if it is certain that it is over; of the others only
    those that failed or were cancelled, `wait_ns` after that (or, where no time is known, after the
    file was last modified).
    """
    job = owner(file, jobs)
    if job is None:
        return OrphanVerdict(None, "it is no job's")
    if job.may_be_live:
        return OrphanVerdict(None, live_reason(file, job))
    if named:
        return OrphanVerdict(OrphanRule.FAILED_JOB, f"job {file.job_id} is over ({job.state})")
    if job.state is not JobState.FAILED:
        return OrphanVerdict(None, f"job {file.job_id} has not failed ({job.state})")
    since = file.mtime_ns if job.since_ns is None else job.since_ns
    if now_ns - since < wait_ns:
        return OrphanVerdict(None, f"job {file.job_id} failed under {wait_ns / _HOUR_NS:g} h ago")
    return OrphanVerdict(OrphanRule.FAILED_JOB, f"job {file.job_id} failed or was cancelled")
