"""Jobs of an application that has no table of its own for them: kept in the registry."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.model.temp import DeclaredFile, Job, JobState
from lifecycle_sync.registry.protocol import JobStore
from lifecycle_sync.service.roots import absolute_path

_HOUR_NS = 3_600_000_000_000


class RegistryJobs:
    """A `JobSource` that the application itself writes: a job is started, beats, and ends.

    With `silent_after_hours` a live job that has not beaten for so long counts as failed from then
    on; without it, a job lives until it is ended. While nothing was ever started here, nothing is
    said of any job.
    """

    def __init__(
        self,
        registry: JobStore,
        *,
        silent_after_hours: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._registry = registry
        self._silent_ns = None if silent_after_hours is None else int(silent_after_hours * _HOUR_NS)
        self._clock = clock or SystemClock()

    def declare(
        self,
        job_id: int | str,
        paths: Iterable[str | os.PathLike[str]],
        *,
        chunk_id: int | str | None = None,
    ) -> None:
        """These files are a job's, whatever their names are; a sign of life, too. Durable before
        this returns, so call it before they are made: a file that is there already is known again
        by its inode, another one from the next `beat` on. Raises `NotFoundError` for a job that was
        never started."""
        job, chunk = str(job_id), None if chunk_id is None else str(chunk_id)
        self._registry.declare_files(
            [_seen(DeclaredFile(absolute_path(path), job, chunk)) for path in paths]
        )
        self._registry.beat_job(job, self._clock.now_ns())

    def declared(self, paths: Collection[bytes]) -> Mapping[bytes, DeclaredFile]:
        return self._registry.declared_files(paths)

    def declared_by(self, job_id: str) -> Collection[DeclaredFile]:
        return self._registry.files_of_job(job_id)

    def _see(self, job_id: str) -> None:
        """Note which file it is that was declared before it was there."""
        missing = [it for it in self._registry.files_of_job(job_id) if it.inode is None]
        if found := [it for it in map(_seen, missing) if it.inode is not None]:
            self._registry.declare_files(found)

    def start(self, job_id: int | str) -> None:
        """A job begins, or begins again; durable before this returns, so call it before the job
        makes its first file."""
        self._registry.put_job(str(job_id), JobState.LIVE, self._clock.now_ns())

    def beat(self, job_id: int | str) -> bool:
        """A job is still at work; False where it was never started, or has ended."""
        self._see(str(job_id))
        return self._registry.beat_job(str(job_id), self._clock.now_ns())

    def end(self, job_id: int | str, *, failed: bool = False) -> None:
        """A job has ended, well or not."""
        self._see(str(job_id))
        state = JobState.FAILED if failed else JobState.FINISHED
        self._registry.put_job(str(job_id), state, self._clock.now_ns())

    def look(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        known = self._registry.jobs(job_ids)
        now_ns = self._clock.now_ns()
        found: dict[str, Job] = {}
        for job_id, note in known.items():
            state, since_ns = note.state, note.since_ns
            if state is JobState.LIVE and self._silent_ns is not None:
                silent_from = note.heartbeat_ns + self._silent_ns
                if now_ns >= silent_from:
                    state, since_ns = JobState.FAILED, silent_from
            found[job_id] = Job(state, since_ns)
        if len(found) < len(job_ids) and (found or self._registry.count_jobs()):
            absent = Job(JobState.ABSENT)
            found.update((job_id, absent) for job_id in job_ids if job_id not in found)
        return found

    def counts(self) -> tuple[int, int]:
        """(live, failed) jobs, by what was said of them."""
        counted = self._registry.count_jobs()
        return counted.get(JobState.LIVE, 0), counted.get(JobState.FAILED, 0)

    def forget(self, days: float = 30) -> int:
        """Forget jobs that ended so long ago; how many. What they left is a file without a job
        then."""
        return self._registry.forget_jobs(self._clock.now_ns() - int(days * 24 * _HOUR_NS))


def _seen(file: DeclaredFile) -> DeclaredFile:
    """The same with what is at its path, if something is."""
    try:
        found = os.lstat(file.path)
    except OSError:
        return file
    return file._replace(device=found.st_dev, inode=found.st_ino)
