"""Temporary files under torture: workers killed at random, and a disk that is full."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.model.temp import Job, JobState
from lifecycle_sync.service.temp.provider import usage_of
from tests.support.temp_jobs import Storage

_HOUR_NS = 3_600_000_000_000

# Reads ids of jobs, makes the files of each, tells of each file once it is there, and looks at the
# end whether all of them are still what they were.
_WORKER = """
import os, sys
base = sys.argv[1]
for line in sys.stdin:
    job, count = line.split()
    names = [f"job_{job}_chunk_a_{n}" for n in range(int(count))]
    for name in names:
        with open(os.path.join(base, name), "w") as file:
            file.write(name)
        print(name, flush=True)
    for name in names:
        with open(os.path.join(base, name)) as file:
            assert file.read() == name
    print("done", flush=True)
"""


@pytest.fixture
def on_demand(request) -> None:
    """For what takes minutes: runs only with `-m torture`."""
    if "torture" not in (request.config.getoption("markexpr") or ""):
        pytest.skip("takes minutes: pytest -m torture")


class Worker:
    """A process that runs jobs."""

    def __init__(self, base: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _WORKER, str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def begin(self, job: str, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{job} {count}\n")
        self.process.stdin.flush()

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> list[str]:
        """End it at once; what it still had told."""
        self.process.kill()
        assert self.process.stdout is not None
        rest = self.process.stdout.read().split()
        self.close()
        return rest

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass  # it was killed before it read its order


class Crawl:
    """Jobs, one after the other by several workers, while everything is cleaned all the time."""

    def __init__(self, base: Path, seed: int) -> None:
        self.storage = Storage(base / "temp", max_cleanup_workers=2, log_cleanup_stats=False)
        self.chance = random.Random(seed)
        # Three hours on: every file is old, so only its job keeps it.
        self.cleanup = self.storage.cleanup(
            clock=FixedClock(time.time_ns() + 3 * _HOUR_NS), provider=None
        )
        self.storage.settings.max_orphan_age_hours = 1
        self.stop = threading.Event()
        self.errors: list[str] = []
        self.killed = 0

    def clean(self) -> None:
        while not self.stop.is_set():
            name = self.chance.choice(["scheduled", "orphaned", "after_crash"])
            result = getattr(self.cleanup, name)()
            self.errors += result["errors"]

    def run(self, job: str, worker: Worker) -> Worker:
        """One job; the worker for the next."""
        count = self.chance.randrange(1, 6)
        self.storage.jobs.set(job, JobState.LIVE)
        worker.begin(job, count)
        names: list[str] = []
        dies_after = self.chance.choice([None, None, None, self.chance.randrange(count + 1)])
        while dies_after is None or len(names) < dies_after:
            told = worker.told()
            assert told, f"the worker of job {job} lost a file"
            if told == "done":
                break
            names.append(told)
        else:
            names += [name for name in worker.kill() if name != "done"]
            self.killed += 1
            self._all_there(job, names)
            self.storage.jobs.set(job, Job(JobState.FAILED, time.time_ns()))
            return Worker(self.storage.base)
        self._all_there(job, names)
        done = self.cleanup.after_chunk(job, "a", [name.rpartition("_")[2] for name in names])
        assert done["files_deleted"] == count
        self.storage.jobs.set(job, Job(JobState.FINISHED, time.time_ns()))
        return worker

    def _all_there(self, job: str, names: list[str]) -> None:
        missing = [name for name in names if not (self.storage.base / name).exists()]
        assert not missing, f"files of the live job {job} are gone"


def _crawl(base: Path, runs: int, seed: int) -> None:
    crawl = Crawl(base, seed)
    cleaner = threading.Thread(target=crawl.clean)
    cleaner.start()
    worker = Worker(crawl.storage.base)
    try:
        for number in range(runs):
            worker = crawl.run(str(number), worker)
    finally:
        crawl.stop.set()
        cleaner.join(60)
        worker.close()
    crawl.cleanup.scheduled()
    assert crawl.errors == []
    assert crawl.storage.left() == set()
    assert crawl.killed > runs / 20


def test_jobs_with_workers_killed_at_random(tmp_path):
    _crawl(tmp_path, 200, seed=1)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(5))
def test_ten_thousand_jobs_with_workers_killed_at_random(tmp_path, on_demand: None, seed: int):
    _crawl(tmp_path, 2_000, seed=100 + seed)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a filesystem of a size."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def mount(size: int) -> Any:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=0", "tmpfs", place]
        if (
            shutil.which("mount") is None
            or subprocess.run(command, check=False, capture_output=True).returncode
        ):
            pytest.skip("needs the right to mount")
        mounted.append(place)
        return place

    yield mount
    for it in mounted:
        subprocess.run(["umount", "-l", it], check=True)


def _fill(base: Path, files: int) -> None:
    then = time.time() - 48 * 3600
    for folder in range(100):
        (base / str(folder)).mkdir()
    for number in range(files):
        # A tenth is of live jobs, a tenth of failed ones; the rest is nobody's.
        kind = number % 10
        name = {0: f"job_{number % 50}_chunk_a_{number}", 1: f"job_x{number % 50}_chunk_a_{number}"}
        path = base / str(number % 100) / name.get(kind, f"file{number}")
        try:
            path.write_bytes(b"x" * 4096)
        except OSError:
            return
        os.utime(path, (then + number / 1000,) * 2)


def _emergency(disk: Path, files: int) -> float:
    storage = Storage(disk / "temp", max_cleanup_workers=8, max_files_per_cleanup=10**9)
    for number in range(50):
        storage.jobs.set(str(number), JobState.LIVE)
        storage.jobs.set(f"x{number}", Job(JobState.FAILED, 0))
    _fill(storage.base, files * 2)
    live = {name for name in storage.left() if "job_" in name and "job_x" not in name}
    assert usage_of(disk).available_bytes == 0
    stop = threading.Event()
    written: list[Path] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            path = storage.base / f"job_1_chunk_w_{number}"
            number += 1
            try:
                path.write_bytes(b"y" * 4096)
                written.append(path)
            except OSError:
                path.unlink(missing_ok=True)
            time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    begun = time.monotonic()
    try:
        result = storage.cleanup().emergency()
        seconds = time.monotonic() - begun
        usage = usage_of(disk)
    finally:
        stop.set()
        writer.join(30)
    whole = usage.used_bytes + usage.available_bytes
    # Only the writer added to it since; only that many workers were beyond it.
    assert usage.used_bytes >= whole * 0.85 - 9 * 4096
    assert usage.used_bytes <= whole * 0.85 + 64 * 4096
    assert result["errors"] == []
    assert live <= storage.left()
    assert all(path.exists() for path in written)
    return seconds


def test_a_full_disk_is_relieved_to_its_target_while_writers_go_on(small_disk):
    _emergency(small_disk(16 << 20), 4_000)


@pytest.mark.torture
def test_a_large_full_disk_is_relieved_in_time(small_disk, on_demand: None, capsys):
    seconds = _emergency(small_disk(450 << 20), 105_000)
    with capsys.disabled():
        print(f"\n105,000 files at 100 %: {seconds:.1f} s")
