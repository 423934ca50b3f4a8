"""Processes and their times. Ours and the peer's take turns, so that both see the same machine.

Each measurement is a process of its own: what it takes from start to end is the *whole*, what it
says itself of the part that counts is the *work*. The peak of its memory is its own word too
(VmHWM): the kernel's figure for a child begins with what its parent had at the fork.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.02
# A disk is at rest when it discards fewer blocks than this in one look; not waited for longer than
# so many seconds, for others may be deleting, too.
_DISCARDS_AT_REST = 20
_LOOK_SECONDS = 0.25
_REST_SECONDS = float(os.environ.get("BENCH_REST_SECONDS", "60"))


class FailedError(Exception):
    """A measured process failed, or did not do the work it was to do."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process: its seconds from start to end, the CPU seconds, and what it reported."""

    whole: float
    cpu: float
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> float:
        """Seconds of the part that counts; the whole where the process does not say."""
        return float(self.data.get("work", self.whole))


def command(argv: Sequence[str], *, accept: tuple[int, ...] = (0,)) -> Sample:
    """Run a program to its end, its output thrown away."""
    sample, _ = _run(argv, accept=accept, output=subprocess.DEVNULL)
    return sample


def forget(folder: Path) -> None:
    """Have the files of a folder come from the disk when they are read next."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def program(
    argv: Sequence[str], *, environment: dict[str, str], directory: Path = PROJECT
) -> tuple[Sample, bytes]:
    """Run a program that needs surroundings of its own; and what it printed."""
    return _run(argv, output=subprocess.PIPE, environment=environment, directory=directory)


def ours(action: str, watch: Callable[[int], None] | None = None, **arguments: Any) -> Sample:
    """Run an action of `bench.work` in a fresh interpreter. `watch` is called with its process id
    every now and then."""
    argv = [sys.executable, "-m", "bench.work", action, json.dumps(arguments)]
    sample, output = _run(argv, output=subprocess.PIPE, watch=watch)
    *text, last = output.decode().rstrip("\n").split("\n")
    for line in text:
        print(line)
    return Sample(sample.whole, sample.cpu, json.loads(last))


def _run(
    argv: Sequence[str],
    *,
    output: int,
    accept: tuple[int, ...] = (0,),
    watch: Callable[[int], None] | None = None,
    environment: dict[str, str] | None = None,
    directory: Path = PROJECT,
) -> tuple[Sample, bytes]:
    begun = time.perf_counter()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        cwd=directory,
        env=_environment() | (environment or {}),
    )
    watcher = _Watcher(process.pid, watch) if watch else None
    try:
        read = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if watcher is not None:
            watcher.stop()
        if process.stdout:
            process.stdout.close()
    whole = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accept:
        raise FailedError(f"{' '.join(argv[:4])} ended with {process.returncode}")
    return Sample(whole, usage.ru_utime + usage.ru_stime), read


def _environment() -> dict[str, str]:
    """Without the person's own settings; peers in the C locale, which is their fastest."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIFECYCLE_")}
    return kept | {"LC_ALL": "C"}


class _Watcher:
    """Calls a function with a process id until stopped, in a thread."""

    def __init__(self, pid: int, call: Callable[[int], None]) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid, call), daemon=True)
        self._thread.start()

    def _watch(self, pid: int, call: Callable[[int], None]) -> None:
        while not self._end.wait(_POLL_SECONDS):
            call(pid)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


def settle(place: Path) -> None:
    """Let the disk of `place` come to rest, so that the next measurement does not pay for this one:
    what is to be written is written, and what a filesystem mounted with `discard` still tells the
    disk about deleted files, by and by and one by one, was told."""
    os.sync()
    seen, end = _discards(place), time.monotonic() + _REST_SECONDS
    while time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        before, seen = seen, _discards(place)
        if seen - before < _DISCARDS_AT_REST:
            return


def warm(tree: Path) -> None:
    """Read all of a tree, so that whoever comes next finds it in memory: some kernels take pages
    away that nobody has used for half a minute, and then the first of two pays for both."""
    for folder, _, names in os.walk(tree):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                while file.read(1 << 20):
                    pass


def _discards(place: Path) -> int:
    """How many discards the disk of `place` has completed; 0 where nobody says."""
    device = os.stat(place).st_dev
    try:
        with open(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat") as file:
            return int(file.read().split()[11])
    except (OSError, IndexError, ValueError):
        return 0


def mounted_with_discard(place: Path) -> bool:
    """Whether the filesystem of `place` tells its disk of every block that is freed: deleting then
    waits for the disk."""
    device = os.stat(place).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return False
    return any("discard" in mount[-1].split(",") for mount in mounts if mount[2] == number)


class ChildrenMemory:
    """The peaks of the children of a process, looked at while they run.

    The last look counts: until its exec a child has the memory of its parent.
    """

    def __init__(self) -> None:
        self._peaks: dict[int, int] = {}
        self._together: set[frozenset[int]] = set()

    def __call__(self, pid: int) -> None:
        children = _children(pid)
        self._together.add(frozenset(children))
        for child in children:
            self._peaks[child] = peak_bytes(child) or self._peaks.get(child, 0)

    def most(self) -> list[int]:
        """The peaks of those that together had most, of all that ran at one time."""
        together = [[self._peaks[child] for child in some] for some in self._together]
        return sorted(max(together, key=sum, default=[]), reverse=True)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def peak_bytes(pid: int | str) -> int:
    """The most memory that a process has had resident since its exec; 0 where nobody says."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Measurements of ours and, where it is installed, of the peer, taken in turns."""

    mine: list[Sample]
    peers: list[Sample]

    @property
    def peer(self) -> list[float]:
        return [sample.whole for sample in self.peers]

    @property
    def work(self) -> float:
        return median(sample.work for sample in self.mine)

    @property
    def whole(self) -> float:
        return median(sample.whole for sample in self.mine)

    def ratio(self, of: Callable[[Sample], float]) -> float | None:
        """The median of ours in medians of the peer."""
        if not self.peer:
            return None
        return median(map(of, self.mine)) / median(self.peer)

    def spread(self, of: Callable[[Sample], float]) -> tuple[float, float] | None:
        """The least and the greatest ratio of one turn."""
        if not self.peer:
            return None
        each = [of(sample) / peer for sample, peer in zip(self.mine, self.peer, strict=True)]
        return min(each), max(each)


def in_turns(repeat: int, mine: Callable[[], Sample], peer: Callable[[], Sample] | None) -> Pairs:
    """Ours, the peer, ours, the peer; the peer once before, which warms the cache."""
    if peer is not None:
        peer()
    samples: list[Sample] = []
    peers: list[Sample] = []
    for _ in range(repeat):
        samples.append(mine())
        if peer is not None:
            peers.append(peer())
    return Pairs(samples, peers)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed (the nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
