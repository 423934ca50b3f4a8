"""A folder with the temporary files of jobs, and a place that is as full as a test says."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lifecycle_sync.model.temp import Job, JobState, Usage
from lifecycle_sync.service.temp.core import TempCleanup
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings

HOUR = 3600
MIB = 1 << 20


class KnownJobs:
    """Jobs in memory; what is not in it does not exist."""

    def __init__(self, **states: JobState | Job) -> None:
        self.jobs: dict[str, Job] = {}
        for name, state in states.items():
            self.set(name.removeprefix("j"), state)
        self.asked: list[set[str]] = []
        self.down = False

    def set(self, job_id: str, state: JobState | Job) -> None:
        self.jobs[job_id] = state if isinstance(state, Job) else Job(state)

    def look(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        self.asked.append(set(job_ids))
        if self.down:
            raise ConnectionError("the database is down")
        return {job_id: self.jobs.get(job_id, Job(JobState.ABSENT)) for job_id in job_ids}


class Place:
    """A provider of `capacity` bytes: `other` of them taken by somebody else, the rest by what
    lies in the folder."""

    def __init__(self, folder: Path, capacity: int, other: int = 0) -> None:
        self.folder, self.capacity, self.other = folder, capacity, other

    def usage(self) -> Usage:
        used = self.other
        for path, _, names in os.walk(self.folder):
            if ".lifecycle" in path:
                continue
            for name in names:
                try:
                    used += os.lstat(os.path.join(path, name)).st_size
                except FileNotFoundError:
                    continue
        return Usage(used, self.capacity - used)


class Storage:
    """The folder, its settings, and the clean-ups on it."""

    def __init__(self, base: Path, **settings: Any) -> None:
        self.base = base
        base.mkdir(exist_ok=True)
        self.jobs = KnownJobs()
        self.settings = TempStorageCleanupSettings(
            environment={}, **{"temp_storage_path": base, "min_free_space_gb": 0, **settings}
        )

    def cleanup(self, **how: Any) -> TempCleanup:
        return TempCleanup(self.settings, **{"jobs": self.jobs, **how})

    def put(self, name: str, *, hours_old: float = 48, size: int = 10) -> Path:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        then = time.time() - hours_old * HOUR
        os.utime(path, (then, then))
        return path

    def left(self) -> set[str]:
        return {
            str(path.relative_to(self.base))
            for path in self.base.rglob("*")
            if path.is_file() and ".lifecycle" not in path.parts
        }
