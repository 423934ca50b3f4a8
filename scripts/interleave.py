"""Two writers, a prune, a verify and a reader on one vault; see tests/support/interleaving.py.

Each seed is an order of all operations of their storage. `--first N --seeds 1` repeats one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.support.interleaving import Interleaving


def _try(seed: int) -> tuple[int, int, int, str]:
    """Steps, files that were deleted, commits that were refused, and what does not hold."""
    logging.disable(logging.WARNING)
    it = Interleaving(seed)
    try:
        return it.run(), it.deleted, it.refused, ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return 0, 0, 0, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    begun = time.monotonic()
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    steps = deleted = refused = failures = 0
    with ProcessPoolExecutor(chosen.processes) as pool:
        for seed, (some, gone, again, wrong) in zip(
            seeds, pool.map(_try, seeds, chunksize=5), strict=True
        ):
            steps, deleted, refused = steps + some, deleted + gone, refused + again
            if wrong:
                failures += 1
                print(f"make interleavings INTERLEAVE_ARGS='--first {seed} --seeds 1': {wrong}")
    print(
        f"{chosen.seeds - failures:,} of {chosen.seeds:,} interleavings hold: {steps:,} operations,"
        f" {deleted:,} packs and objects deleted, {refused:,} commits refused and given again"
        f" ({time.monotonic() - begun:.0f} s)"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
