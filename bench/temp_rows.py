"""What is measured of temporary files: tracking them, and deleting many of them beside `rm`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.act_rows import copy_of
from bench.lab import WORKERS, Lab
from bench.measure import (
    FailedError,
    Pairs,
    Sample,
    command,
    in_turns,
    mounted_with_discard,
    ours,
    settle,
)
from bench.row import MIB, Row, ratio_row
from bench.trees import need_room


def temp_track(lab: Lab) -> Iterator[Row]:
    """`FileCleanupManager`: one file tracked and untracked, with a lease file and without."""
    place = lab.options.scratch / "temp-track"
    for leases, title, limit in ((False, "without leases", 10.0), (True, "with leases", 50.0)):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        samples = [
            ours("temp_track", root=str(place), leases=leases)
            for _ in range(min(lab.options.repeat, 3))
        ]
        shutil.rmtree(place)
        each = [float(sample.data["microseconds"]) for sample in samples]
        yield Row(
            "temp-track",
            f"track and untrack a file, {title}",
            median(each),
            "µs",
            limit,
            spread=(min(each), max(each)),
        )
        memory = median(float(sample.data["bytes"]) for sample in samples)
        yield Row("temp-track", "  memory beyond its path", memory, "B", 150.0)
        over = median(float(sample.data["over_unlinking"]) for sample in samples)
        yield Row("temp-track", "  100 files cleaned, over unlinking them", over, "ms", 10.0)


def temp_delete(lab: Lab) -> Iterator[Row]:
    """Temporary files that are old and nobody's, deleted for good, against `rm -rf` of the same
    tree. Beside it the CPU time of both, which says more where the disk is what is waited for."""
    grown = lab.files_to_act_on()
    place = grown.place / "temp-delete"
    need_room(lab.options.scratch, grown.tree.files * 5000 + (1 << 26))
    told: dict[str, Any] = {
        "root": str(place / "root"),
        "files": grown.tree.files,
        "workers": WORKERS,
    }

    def mine() -> Sample:
        copy_of(grown, place / "root")
        settle(place)
        return ours("temp_delete", profile=lab.options.profile, **told)

    def peer() -> Sample:
        root = copy_of(grown, place / "root")
        settle(place)
        sample = command(["rm", "-rf", str(root)])
        if root.exists():
            raise FailedError(f"{root} is still there")
        return sample

    pairs = in_turns(lab.options.repeat, mine, None if lab.options.profile else peer)
    title = "delete old temporary files for good"
    if mounted_with_discard(Path(lab.options.scratch)):
        title += " (a disk with discard)"
    yield ratio_row("temp-delete", title, pairs, "rm -rf", 1.5)
    if not lab.options.profile:
        cpu = Pairs(
            [Sample(float(it.data["cpu"]), 0.0) for it in pairs.mine],
            [Sample(it.cpu, 0.0) for it in pairs.peers],
        )
        yield ratio_row("temp-delete", "  in CPU time", cpu, "rm's CPU", None)
    peak = max(int(sample.data["peak_bytes"]) for sample in pairs.mine)
    yield Row("temp-delete", "  its peak memory", peak / MIB, "MiB", 60.0)
    shutil.rmtree(place)


TEMP_BENCHMARKS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "temp-track": temp_track,
    "temp-delete": temp_delete,
}
TEMP_PROFILED = ("temp-delete",)
