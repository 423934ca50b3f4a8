"""Every byte of a small vault flipped in turn; see tests/support/flips.py.

Each byte with one of its bits, or with all eight (`--bits`), once for each way in which the index
of the vault is found. The vault is the same in every run, so `--flip` repeats what failed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.support.flips import INDEXES, Flip, FlippedVault, MissedError

_IN_MEMORY = Path("/dev/shm")


def _try(index: str, flips: list[str]) -> tuple[int, int, list[str]]:
    """How many there were, after how many something could not be restored, and what failed."""
    logging.disable(logging.WARNING)
    place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lifecycle-flips-", dir=place) as folder:
        vault = FlippedVault(Path(folder), index)
        lost, failed = 0, []
        for flip in map(Flip.parse, flips):
            try:
                lost += vault.check(flip)
            except MissedError as error:
                failed.append(f"make flips FLIPS_ARGS='--index {index} --flip {flip}': {error}")
    return len(flips), lost, failed


def _all_flips(bits: bool) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="lifecycle-flips-") as folder:
        flips = list(FlippedVault(Path(folder)).all())
    if not bits:
        return [str(it) for it in flips]
    return [str(it._replace(bit=bit)) for it in flips for bit in range(8)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", action="store_true", help="all eight bits of each byte")
    parser.add_argument("--index", choices=INDEXES, help="only with this index")
    parser.add_argument("--flip", help="only this one, as it was printed")
    chosen = parser.parse_args()
    indexes = [chosen.index] if chosen.index else list(INDEXES)
    flips = [chosen.flip] if chosen.flip else _all_flips(chosen.bits)
    begun = time.monotonic()
    total = lost = 0
    failed: list[str] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(_try, index, flips[at : at + 1_000])
            for index in indexes
            for at in range(0, len(flips), 1_000)
        ]
        for job in jobs:
            count, unrestored, failures = job.result()
            total, lost = total + count, lost + unrestored
            failed += failures
    print("\n".join(failed[:50]))
    print(
        f"{total:,} bits flipped ({len(flips):,}, the index found in {len(indexes)} ways): verify"
        f" missed {len(failed):,}; {lost:,} times something was lost and said so, all else was"
        f" restored ({time.monotonic() - begun:.0f} s)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
