"""Jobs that an application keeps in the registry, on SQLite."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lifecycle_sync.model.temp import DeclaredFile, JobNote, JobState
from lifecycle_sync.registry.refusals import check_job, no_such_job
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite_base import SqliteBase

JOBS = statements("jobs")


class SqliteJobs(SqliteBase):
    """`JobStore`."""

    def put_job(self, job_id: str, state: JobState, now_ns: int) -> None:
        check_job(job_id, state)
        with self._db.write(durable=True) as connection:
            connection.execute(JOBS["put_job"], (job_id, state.value, now_ns))

    def beat_job(self, job_id: str, now_ns: int) -> bool:
        with self._db.write() as connection:
            connection.execute(JOBS["beat_job"], (job_id, now_ns))
            return bool(connection.changes())

    def jobs(self, job_ids: Collection[str]) -> dict[str, JobNote]:
        with self._db.read() as connection:
            rows = connection.executemany(JOBS["job"], ((it,) for it in job_ids)).fetchall()
        return {row[0]: JobNote(JobState(row[1]), row[2], row[3]) for row in rows}

    def count_jobs(self) -> dict[JobState, int]:
        with self._db.read() as connection:
            rows = connection.execute(JOBS["count_jobs"]).fetchall()
        return {JobState(state): count for state, count in rows}

    def forget_jobs(self, before_ns: int) -> int:
        with self._db.write() as connection:
            connection.execute(JOBS["forget_jobs"], (before_ns,))
            forgotten = int(connection.changes())
            connection.execute(JOBS["forget_declared_files"])
            return forgotten

    def declare_files(self, files: Sequence[DeclaredFile]) -> None:
        with self._db.write(durable=True) as connection:
            for job_id in {file.job_id for file in files}:
                if connection.execute(JOBS["job"], (job_id,)).fetchone() is None:
                    raise no_such_job(job_id)
            connection.executemany(JOBS["declare_file"], files)

    def declared_files(self, paths: Collection[bytes]) -> dict[bytes, DeclaredFile]:
        with self._db.read() as connection:
            rows = connection.executemany(JOBS["declared_file"], ((it,) for it in paths)).fetchall()
        return {row[0]: DeclaredFile(*row) for row in rows}

    def files_of_job(self, job_id: str) -> list[DeclaredFile]:
        with self._db.read() as connection:
            rows = connection.execute(JOBS["declared_files_of"], (job_id,)).fetchall()
        return [DeclaredFile(*row) for row in rows]
