"""The row of pruning: half of all versions taken out of a vault, and their room given back."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.act_rows import copy_of
from bench.keepers import version_of
from bench.lab import WORKERS, Lab
from bench.measure import FailedError, Sample, in_turns, ours, program, settle
from bench.row import MIB, Row, ratio_row
from bench.sameness import names_below, size_of
from bench.trees import need_room

_PEAK_MIB = 150


def prune(lab: Lab) -> Iterator[Row]:
    """Each file has two versions with other bytes, and one is kept; nothing waits."""
    grown = lab.files_to_prune()
    place = grown.place / "prune"
    need_room(lab.options.scratch, 4 * grown.tree.bytes + 6 * grown.tree.files * 5000 + (1 << 26))

    def mine() -> Sample:
        root = copy_of(grown, place / "root")
        told: dict[str, Any] = {
            "root": str(root),
            "files": grown.tree.files,
            "workers": WORKERS,
            "database": str(place / "registry.db"),
        }
        ours("add", **told)
        for turn in (1, 2):
            ours("backup", **told)
            if turn == 1:
                _change(root)
        before = size_of(place / "vault" / "packs")
        settle(place)
        sample = ours("prune", profile=lab.options.profile, **told)
        after = size_of(place / "vault" / "packs")
        if sample.data["versions"] != grown.tree.files or after > 0.7 * before:
            raise FailedError(f"{sample.data}: {before} bytes before, {after} after")
        return sample

    def peer() -> Sample:
        root = copy_of(grown, place / "root")
        repository = place / "repository"
        environment = {
            "RESTIC_REPOSITORY": str(repository),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(place / "cache"),
        }

        def restic(*argv: str) -> Sample:
            return program(["restic", *argv], environment=environment, directory=place)[0]

        restic("init", "--quiet", "--repository-version", "2")
        for turn in (1, 2):
            restic("backup", "--quiet", str(root))
            if turn == 1:
                _change(root)
        before = size_of(repository)
        settle(place)
        sample = restic("forget", "--quiet", "--keep-last", "1", "--prune")
        after = size_of(repository)
        if after > 0.7 * before:
            raise FailedError(f"restic: {before} bytes before, {after} after")
        return sample

    restic_there = bool(version_of("restic")) and not lab.options.profile
    pairs = in_turns(lab.options.repeat, mine, peer if restic_there else None)
    yield ratio_row("prune", "prune half of the versions", pairs, "restic forget --prune", 0.5)
    yield Row(
        "prune",
        "  its peak memory",
        max(sample.data["peak_bytes"] for sample in pairs.mine) / MIB,
        "MiB",
        _PEAK_MIB,
        mine=f"{2 * grown.tree.files:,} versions",
    )
    shutil.rmtree(place)


def _change(root: Path) -> None:
    """Other bytes in each file, as many as before."""
    chosen = random.Random(20261129)
    for name in names_below(root):
        path = root / name
        path.write_bytes(chosen.randbytes(path.stat().st_size))


PRUNE_BENCHMARKS: dict[str, Callable[[Lab], Iterator[Row]]] = {"prune": prune}
