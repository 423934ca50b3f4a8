"""Jobs that an application keeps in a `MemoryRegistry`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from lifecycle_sync.model.temp import DeclaredFile, JobNote, JobState
from lifecycle_sync.registry.refusals import check_job, no_such_job
from lifecycle_sync.testing.memory_tables import MemoryBase


class MemoryJobs(MemoryBase):
    """`JobStore`."""

    def put_job(self, job_id: str, state: JobState, now_ns: int) -> None:
        check_job(job_id, state)
        with self._writing() as tables:
            known = tables.jobs.get(job_id)
            same = known is not None and known.state is state
            since_ns = known.since_ns if known is not None and same else now_ns
            tables.jobs[job_id] = JobNote(state, since_ns, now_ns)

    def beat_job(self, job_id: str, now_ns: int) -> bool:
        with self._writing() as tables:
            known = tables.jobs.get(job_id)
            if known is None or known.state is not JobState.LIVE:
                return False
            beat = max(known.heartbeat_ns, now_ns)
            tables.jobs[job_id] = known._replace(heartbeat_ns=beat)
            return True

    def jobs(self, job_ids: Collection[str]) -> dict[str, JobNote]:
        with self._reading() as tables:
            return {job_id: tables.jobs[job_id] for job_id in job_ids if job_id in tables.jobs}

    def count_jobs(self) -> dict[JobState, int]:
        with self._reading() as tables:
            return dict(Counter(job.state for job in tables.jobs.values()))

    def forget_jobs(self, before_ns: int) -> int:
        with self._writing() as tables:
            old = [
                job_id
                for job_id, job in tables.jobs.items()
                if job.state is not JobState.LIVE and job.since_ns < before_ns
            ]
            for job_id in old:
                del tables.jobs[job_id]
            tables.declared = {
                path: file for path, file in tables.declared.items() if file.job_id in tables.jobs
            }
            return len(old)

    def declare_files(self, files: Sequence[DeclaredFile]) -> None:
        with self._writing() as tables:
            for file in files:
                if file.job_id not in tables.jobs:
                    raise no_such_job(file.job_id)
            tables.declared.update((file.path, file) for file in files)

    def declared_files(self, paths: Collection[bytes]) -> dict[bytes, DeclaredFile]:
        with self._reading() as tables:
            return {path: tables.declared[path] for path in paths if path in tables.declared}

    def files_of_job(self, job_id: str) -> list[DeclaredFile]:
        with self._reading() as tables:
            mine = [file for file in tables.declared.values() if file.job_id == job_id]
        return sorted(mine)
