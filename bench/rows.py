"""What is measured: one function a benchmark, each yielding the rows of the report. Acts on files
have theirs in `act_rows`.

Budgets are those of DESIGN section 12 and of the issue that built this part.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.act_rows import ACT_BENCHMARKS, ACT_PROFILED
from bench.lab import WORKERS, Grown, Lab
from bench.measure import FailedError, Sample, command, in_turns, ours, percentile
from bench.plan_rows import PLAN_BENCHMARKS
from bench.prune_rows import PRUNE_BENCHMARKS
from bench.row import MIB, Row, inverse, missing_tools, ratio_row, speed_row, work
from bench.temp_rows import TEMP_BENCHMARKS, TEMP_PROFILED
from bench.watch_rows import WATCH_BENCHMARKS
from lifecycle_sync.observe.native_walker import unavailable

_START_REPEAT = 4  # times as often as the rest: a start takes a moment


def first_index(lab: Lab) -> Iterator[Row]:
    """An index of all files in a registry that knows none, without hashes."""
    grown = lab.files()
    peer, label = _find(grown)

    def mine(walker: str) -> Sample:
        with grown.copy(grown.empty()) as database:
            sample = ours("sync", hashes=False, walker=walker, **_told(lab, grown, database))
        assert sample.data["added"] == grown.tree.files
        return sample

    for walker, words, limit in _walkers(3.0, 4.0):
        pairs = in_turns(lab.options.repeat, partial(mine, walker), peer)
        yield ratio_row("index", f"first index, no hashes, {words}", pairs, label, limit)
        peak = max(sample.data["peak_bytes"] for sample in pairs.mine)
        yield Row("index", "  its peak memory", peak / MIB, "MiB", 150.0)


def unchanged_check(lab: Lab) -> Iterator[Row]:
    """A pass over files that are as they were."""
    grown = lab.files()
    peer, label = _find(grown)
    database = grown.indexed()

    def mine(walker: str) -> Sample:
        sample = ours("sync", hashes=False, walker=walker, **_told(lab, grown, database))
        assert sample.data["unchanged_directories"] == sample.data["directories"]
        return sample

    for walker, words, limit in _walkers(0.6, 2.0):
        pairs = in_turns(lab.options.repeat, partial(mine, walker), peer)
        yield ratio_row("check", f"check of unchanged files, {words}", pairs, label, limit)
        peak = max(sample.data["peak_bytes"] for sample in pairs.mine)
        yield Row("check", "  its peak memory", peak / MIB, "MiB", 150.0)
    counted = ours("statements", hashes=False, **grown.arguments(database)).data
    yield Row(
        "check",
        "  rows of the table of files read or written",
        counted["rows"],
        "",
        0,
        mine=f"{counted['on_files']} of {counted['statements']:,} statements name it",
    )


def walk(lab: Lab) -> Iterator[Row]:
    """The walker alone, with its signatures."""
    grown = lab.files()
    peer, label = _find(grown)
    told = _told(lab, grown, None)
    for walker, words, _ in _walkers(0, 0):
        pairs = in_turns(lab.options.repeat, partial(ours, "walker", walker=walker, **told), peer)
        yield ratio_row("walk", f"the walk alone, {words}", pairs, label, None)


def _walkers(native: float, python: float) -> list[tuple[str, str, float]]:
    """The walkers there are, each as a setting, in words and with its budget."""
    found = [("python", "walker in Python", python)]
    if unavailable() is None:
        found.insert(0, ("native", "native walker", native))
    return found


def core_size(lab: Lab) -> Iterator[Row]:
    """Bytes of database for a hashed file."""
    grown = lab.files()
    data = ours("size", **grown.arguments(grown.hashed())).data
    assert data["files"] == data["hashed"] == grown.tree.files
    each = {name: total / data["files"] for name, total in data["bytes"].items()}
    largest = sorted(each.items(), key=lambda item: -item[1])[:9]
    yield Row(
        "size",
        "core tables, hashed files",
        sum(each.values()),
        "bytes a file",
        300.0,
        mine=f"{sum(data['bytes'].values()) / MIB:,.0f} MiB in all",
        note=", ".join(f"{name} {size:.0f}" for name, size in largest),
        samples={"bytes": data["bytes"]},
    )


def hash_large(lab: Lab) -> Iterator[Row]:
    """Large files against `sha256sum`, one a process, or a single process would get them all."""
    yield from _hashing(lab, lab.large(), "hash-large", "large files", 1)


def hash_small(lab: Lab) -> Iterator[Row]:
    """Small files against `sha256sum`, two processes with a thousand files each."""
    yield from _hashing(lab, lab.files_to_hash(), "hash-small", "small files", 1000)


def _hashing(lab: Lab, grown: Grown, name: str, what: str, each: int) -> Iterator[Row]:
    missing = missing_tools("find", "xargs", "sha256sum")
    label = f"xargs -P{WORKERS} -n {each} sha256sum"
    peer: Callable[[], Sample] | None = None
    if missing:
        label = f"not installed: {', '.join(missing)}"
    else:
        script = (
            'find "$1" -type f -not -path "*/.lifecycle/*" -print0'
            f" | xargs -0 -P{WORKERS} -n {each} sha256sum > /dev/null"
        )
        argv = ["sh", "-c", script, "sh", str(grown.tree.path)]

        def run_peer() -> Sample:
            return command(argv)

        peer = run_peer

    if not lab.options.profile:
        alone = in_turns(
            lab.options.repeat, lambda: ours("hash_pool", **_told(lab, grown, None)), peer
        )
        yield speed_row(name, f"hash {what}, hasher alone", alone, label)

    def record() -> Sample:
        with grown.copy(grown.indexed()) as database:
            sample = ours("sync", hashes=True, **_told(lab, grown, database))
        assert sample.data["hashed"] == grown.tree.files
        return sample

    recorded = in_turns(lab.options.repeat, record, peer)
    yield speed_row(name, f"hash {what}, recorded", recorded, label, of=_hash_seconds)
    yield Row(
        name,
        "  with the check before it",
        inverse(recorded.ratio(work)),
        "× the speed",
        mine=f"{recorded.work:.2f} s",
    )


def memory(lab: Lab) -> Iterator[Row]:
    """Peaks of the process that indexes and hashes all files, and of its children."""
    grown = lab.files()
    built = grown.built
    data = built.sample.data
    yield Row(
        "memory",
        "peak memory, index and hashes",
        data["peak_bytes"] / MIB,
        "MiB",
        150.0,
        mine=f"{data['work']:.1f} s, of these {data['hash_seconds']:.1f} s hashing",
    )
    peaks = built.children
    yield Row(
        "memory",
        "  its child processes beside it",
        sum(peaks) / MIB if peaks else None,
        "MiB",
        mine=" + ".join(f"{peak / MIB:.0f}" for peak in peaks) or "none were needed",
    )


def start(lab: Lab) -> Iterator[Row]:
    """How long commands and imports take to be there."""
    repeat = lab.options.repeat * _START_REPEAT
    bare = [sys.executable, "-c", "pass"]
    lifecycle = str(Path(sys.executable).with_name("lifecycle"))
    for arguments, limit in (("--version", 150.0), ("--help", 250.0)):
        title = f"lifecycle {arguments}"
        try:
            command([lifecycle, arguments])
        except (OSError, FailedError) as error:
            yield Row("start", title, None, "ms", limit, note=f"skipped: {error}")
            continue
        pairs = in_turns(repeat, partial(command, [lifecycle, arguments]), partial(command, bare))
        times = [sample.whole * 1000 for sample in pairs.mine]
        yield Row(
            "start",
            title,
            median(times),
            "ms",
            limit,
            spread=(min(times), max(times)),
            peer=f"{median(pairs.peer) * 1000:.0f} ms, python -c pass",
            samples={"ours": times, "peer": pairs.peer},
        )
    for statement, most in (
        ("import lifecycle_sync", 50.0),
        ("from lifecycle_sync import LifecycleSync", None),
    ):
        pairs = in_turns(
            repeat, partial(command, [sys.executable, "-c", statement]), partial(command, bare)
        )
        over = [
            (sample.whole - peer) * 1000
            for sample, peer in zip(pairs.mine, pairs.peer, strict=True)
        ]
        yield Row(
            "start",
            statement,
            (pairs.whole - median(pairs.peer)) * 1000,
            "ms over it",
            most,
            spread=(min(over), max(over)),
            mine=f"{pairs.whole * 1000:.0f} ms",
            peer=f"{median(pairs.peer) * 1000:.0f} ms, python -c pass",
            samples={"ours": [s.whole for s in pairs.mine], "peer": pairs.peer},
        )


def pages(lab: Lab) -> Iterator[Row]:
    """Pages of `ls` and `find`, a question after the other."""
    grown = lab.files()
    told = _told(lab, grown, grown.hashed())
    kinds: dict[str, list[float]] = ours(
        "pages", **told, repeat=lab.options.questions, limit=lab.options.page
    ).data["kinds"]
    everything = [each for times in kinds.values() for each in times]
    yield _page_row("pages of ls and find, all kinds, p95", everything)
    for kind, times in kinds.items():
        yield _page_row(f"  {kind}, p95", times)


def _page_row(title: str, times: Sequence[float]) -> Row:
    return Row(
        "pages",
        title,
        percentile(times, 0.95),
        "ms",
        100.0,
        mine=f"p50 {percentile(times, 0.5):.1f} ms, most {max(times):.1f} ms",
        samples={"ms": [round(each, 3) for each in times]},
    )


BENCHMARKS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "index": first_index,
    "check": unchanged_check,
    "walk": walk,
    "hash-large": hash_large,
    "hash-small": hash_small,
    "memory": memory,
    "size": core_size,
    "pages": pages,
    "start": start,
    **ACT_BENCHMARKS,
    **PRUNE_BENCHMARKS,
    **TEMP_BENCHMARKS,
    **PLAN_BENCHMARKS,
    **WATCH_BENCHMARKS,
}
# Those whose action runs in a process that can be profiled.
PROFILED = (
    "index",
    "check",
    "walk",
    "hash-large",
    "hash-small",
    "pages",
    *ACT_PROFILED,
    *TEMP_PROFILED,
)


def _told(lab: Lab, grown: Grown, database: Path | None) -> dict[str, Any]:
    return grown.arguments(database) | {"profile": lab.options.profile}


def _find(grown: Grown) -> tuple[Callable[[], Sample] | None, str]:
    if missing_tools("find"):
        return None, "not installed: find"
    argv = ["find", str(grown.tree.path), "-type", "f", "-printf", r"%s %T@ %i %p\n"]
    return lambda: command(argv), "find -printf"


def _hash_seconds(sample: Sample) -> float:
    return float(sample.data["hash_seconds"])
