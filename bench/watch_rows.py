"""What is measured of a running `lifecycle run`: how soon it records, and what it costs idle."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from bench.lab import Lab
from bench.measure import FailedError, percentile
from bench.row import MIB, Row
from bench.watch_peer import PEERS
from lifecycle_sync.registry.sqlite import SqliteRegistry

_WRITES = 60
# From so many files on it is worth to look for long.
_MANY_FILES = 10_000
_PATIENCE_SECONDS = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")


def watch_changes(lab: Lab) -> Iterator[Row]:
    """One file written, and many copied in: until the registry has them."""
    place = lab.options.scratch / "watch"
    shutil.rmtree(place, ignore_errors=True)
    (place / "root").mkdir(parents=True)
    tree = lab.files_to_act_on().tree
    writes = _WRITES if tree.files >= _MANY_FILES else 4
    with _running(place) as process, closing(_registry(place)) as registry:
        (repository,) = registry.repositories()
        each = []
        for number in range(writes):
            name = b"single-%d" % number
            begun = time.perf_counter()
            (place / "root" / os.fsdecode(name)).write_bytes(b"written")
            _wait(lambda name=name: registry.file_at(repository.repository_id, name))  # type: ignore[misc]
            each.append(1000 * (time.perf_counter() - begun))
            time.sleep(0.05)
        yield Row(
            "watch",
            "one file written: recorded after, p99",
            percentile(each, 0.99),
            "ms",
            700.0,
            spread=(min(each), max(each)),
        )
        before = _seconds(process.pid)
        subprocess.run(["cp", "-r", tree.path, place / "root/copy"], check=True)
        ended = time.perf_counter()
        wanted = tree.files + writes
        _wait(lambda: registry.live_count(repository.repository_id) == wanted)
        yield Row(
            "watch",
            f"{tree.files:,} files by `cp -r`: recorded after its end",
            time.perf_counter() - ended,
            "s",
            3.0,
            mine=f"{_seconds(process.pid) - before:.1f} s of processor time",
        )
    shutil.rmtree(place)


def watch_idle(lab: Lab) -> Iterator[Row]:
    """All files watched, and nothing happens."""
    place = lab.options.scratch / "watch-idle"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    tree = lab.files().tree
    # What another row marked is another registry's.
    shutil.rmtree(tree.path / ".lifecycle", ignore_errors=True)
    settle, idle = (5.0, 20.0) if tree.files >= _MANY_FILES else (0.2, 1.0)
    title = f"{tree.files:,} files in {tree.directories:,} directories watched, idle"
    try:
        for when in ("after their first index", "started again"):
            with _running(place, tree.path) as process:
                time.sleep(settle)
                before = _seconds(process.pid)
                time.sleep(idle)
                share = 100 * (_seconds(process.pid) - before) / idle
                size = _resident(process.pid)
            yield Row("watch-idle", f"{title}, {when}: resident", size / MIB, "MiB", 50.0)
            yield Row("watch-idle", "  its processor time", share, "%", 0.5)
    finally:
        shutil.rmtree(tree.path / ".lifecycle", ignore_errors=True)
        shutil.rmtree(place)


def watch_peers(lab: Lab) -> Iterator[Row]:
    """The same burst on the watchers of the field: what each of them mentions of it."""
    tree = lab.files_to_act_on().tree
    for peer in PEERS:
        if importlib.util.find_spec(peer) is None:
            yield Row("watch-peers", f"{peer}: files never mentioned", None, "", peer="not there")
            continue
        place = lab.options.scratch / "watch-peer"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        command = [sys.executable, "-m", "bench.watch_peer", peer, str(place)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        before = _seconds(process.pid)
        subprocess.run(["cp", "-r", tree.path, place / "copy"], check=True)
        ended = time.monotonic()
        # Until it has nothing more to do.
        spent, quiet = before, 3.0 if tree.files >= _MANY_FILES else 0.2
        while (now := _seconds(process.pid)) > spent or time.monotonic() < ended + quiet:
            spent = now
            time.sleep(quiet / 3)
        told = json.loads(process.communicate()[0])
        there = {
            os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names
        }
        missed = there - set(told["paths"])
        yield Row(
            "watch-peers",
            f"{peer} {version(peer)}: of {len(there):,} files by `cp -r` never mentioned",
            float(len(missed)),
            "files",
            mine=f"the last one {max(0.0, told['last'] - ended):.1f} s after the end,"
            f" {spent - before:.1f} s of processor time",
        )
        shutil.rmtree(place)


WATCH_BENCHMARKS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "watch": watch_changes,
    "watch-peers": watch_peers,
    "watch-idle": watch_idle,
}


@contextmanager
def _running(place: Path, root: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """`lifecycle run` on a root, from when it follows it."""
    command = [sys.executable, "-m", "lifecycle_sync", "run", str(root or place / "root")]
    options = ["--database", str(place / "registry.db"), "--no-hash", "--no-policies"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("Following"):
                break
        else:
            raise FailedError(f"lifecycle run ended: {''.join(said[-3:])}")
        yield process
    finally:
        process.terminate()
        process.communicate()


def _registry(place: Path) -> SqliteRegistry:
    return SqliteRegistry.open(place / "registry.db", read_only=True)


def _wait(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise FailedError("it was never recorded")
        time.sleep(0.005)


def _seconds(pid: int) -> float:
    """Processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> int:
    """Resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
