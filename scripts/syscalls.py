"""Deaths and errors at system calls of the real command, by strace; see tests/support/syscalls.py.

KILL, EIO and ENOSPC, each at every call that writes, syncs or changes a name, of orders that keep,
copy, archive, delete, restore, prune, heal, mend and rewrite, of encrypted vaults, too. `--point`
repeats one; `--step N` takes each Nth of the many writes of a database.

Ends with 0 when nothing was lost, 77 where strace may not be used here.
"""

from __future__ import annotations

import argparse
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
    found = [
        point
        for deed in _ORDERS
        if deed.name in orders
        for fault in faults
        for point in disturbed.points(deed, fault)
    ]
    return [it for it in found if it.call != "pwrite64" or it.number % step == 0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [deed.name for deed in _ORDERS]
    parser.add_argument("--order", choices=names, action="append")
    parser.add_argument("--fault", choices=list(FAULTS), action="append")
    parser.add_argument("--step", type=int, default=1)
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
    begun = time.monotonic()
    codes: Counter[str] = Counter()
    failures = 0
    with ProcessPoolExecutor(chosen.processes) as pool:
        for point, (code, wrong) in zip(points, pool.map(_try, points), strict=True):
            codes[f"{point.fault} {'lost' if wrong else code}"] += 1
            if wrong:
                failures += 1
                print(f"make syscalls SYSCALLS_ARGS='--point {point}': {wrong}", flush=True)
    print(
        f"{len(points):,} points ({', '.join(f'{n:,} {code}' for code, n in sorted(codes.items()))}"
        f", by fault and exit code): {failures} failures ({time.monotonic() - begun:.0f} s)"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
