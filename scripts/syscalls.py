"""Deaths and errors at system calls of the real command, by strace; see tests/support/syscalls.py.

KILL, EIO and ENOSPC, each at every call that writes, syncs or changes a name, and syncs that only
say that they were done, of orders that keep, copy, archive, delete, restore, prune, heal, mend,
rewrite, give up what is lost and change who reads, of encrypted vaults, too. `--point` repeats one;
`--step N` takes each Nth of the many writes of a database; `--minutes M` and `--sample N` try for
so long, or so many points, spread evenly over orders, faults and calls, from where `--seed` says.
`--tried FILE` passes over the points that are in that file and writes down there what is tried, so
that all of them can be tried in parts, one order after the other as `--order` names them.

Ends with 0 when nothing was lost, 77 where strace may not be used here.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.support.outside import ALONE, DEEDS
from tests.support.syscalls import FAULTS, Disturbed, Point, reason_against

_IN_MEMORY = Path("/dev/shm")
_PLACE = _IN_MEMORY if _IN_MEMORY.is_dir() else None
_SKIPPED = 77
# So many points are given out at a time.
_ROUND = 40
_GOLDEN = (5**0.5 - 1) / 2
# It is given by itself here; after another deletion it would be the same again.
_ORDERS = [deed for deed in [*DEEDS, *ALONE] if deed.name != "delete-other"]


def _try(point: Point) -> tuple[int, str]:
    """The exit code, and what does not hold."""
    try:
        return Disturbed(_PLACE).try_point(point), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return -1, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"


def _points(step: int, orders: list[str], faults: list[str]) -> list[Point]:
    disturbed = Disturbed(_PLACE)
    deeds = {deed.name: deed for deed in _ORDERS}
    found = [
        point
        for name in orders
        for fault in faults
        for point in disturbed.points(deeds[name], fault)
    ]
    return [it for it in found if it.call != "pwrite64" or it.number % step == 0]


def _spread(points: list[Point], seed: int) -> list[Point]:
    """The points in an order of which every beginning is spread evenly over all of them; where it
    begins, the seed says."""
    at, order = random.Random(seed).random(), dict[int, None]()
    while len(order) < len(points):
        order[int(at * len(points))] = None
        at = (at + _GOLDEN) % 1
    return [points[number] for number in order]


class _Tried:
    """The points that were tried by then and held, a line each, in a file; those that did not hold
    are tried again. Without a file, none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        there = path is not None and path.exists()
        self.before = set(path.read_text().split()) if path and there else set()

    def note(self, point: Point) -> None:
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{point}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [deed.name for deed in _ORDERS]
    parser.add_argument("--order", choices=names, action="append")
    parser.add_argument("--fault", choices=list(FAULTS), action="append")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0, help="so many of all points")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0, help="from where the sample is taken")
    parser.add_argument("--tried", type=Path, help="a file of points that need not be tried again")
    parser.add_argument("--point", help="only this one, as it was printed")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    reason = reason_against()
    if reason:
        print(f"no system call can be disturbed here: {reason}")
        return _SKIPPED
    if chosen.point:
        points = [Point.parse(chosen.point)]
    else:
        points = _points(chosen.step, chosen.order or names, chosen.fault or list(FAULTS))
    total = len(points)
    tried = _Tried(chosen.tried)
    points = [it for it in points if str(it) not in tried.before]
    if chosen.sample or (chosen.minutes < float("inf") and chosen.tried is None):
        points = _spread(points, chosen.seed)[: chosen.sample or total]
    begun = time.monotonic()
    codes: Counter[str] = Counter()
    failures = 0
    with ProcessPoolExecutor(chosen.processes) as pool:
        while points and time.monotonic() < begun + 60 * chosen.minutes:
            some, points = points[:_ROUND], points[_ROUND:]
            for point, (code, wrong) in zip(some, pool.map(_try, some), strict=True):
                codes[f"{point.fault} {'lost' if wrong else code}"] += 1
                if wrong:
                    failures += 1
                    print(f"make syscalls SYSCALLS_ARGS='--point {point}': {wrong}", flush=True)
                else:
                    tried.note(point)
    counts = ", ".join(f"{count:,} {code}" for code, count in sorted(codes.items()))
    print(
        f"{codes.total():,} of {total:,} points ({counts}, by fault and exit code):"
        f" {failures} failures ({time.monotonic() - begun:.0f} s)"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
