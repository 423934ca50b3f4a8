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

from tests.support.flips import INDEXES, VAULTS, Flip, FlippedVault, MissedError

_IN_MEMORY = Path("/dev/shm")


def _try(kind: str, index: str, flips: list[str]) -> tuple[int, int, list[str]]:
    """How many there were, after how many something could not be restored, and what failed."""
    logging.disable(logging.WARNING)
    place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lifecycle-flips-", dir=place) as folder:
        vault = FlippedVault(Path(folder), index, kind)
        lost, failed = 0, []
        for flip in map(Flip.parse, flips):
            try:
                lost += vault.check(flip)
            except MissedError as error:
                failed.append(
                    f"make flips FLIPS_ARGS='--vault {kind} --index {index} --flip {flip}': {error}"
                )
    return len(flips), lost, failed


def _all_flips(kind: str, bits: bool) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="lifecycle-flips-") as folder:
        flips = list(FlippedVault(Path(folder), kind=kind).all())
    if not bits:
        return [str(it) for it in flips]
    return [str(it._replace(bit=bit)) for it in flips for bit in range(8)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", action="store_true", help="all eight bits of each byte")
    parser.add_argument("--index", choices=INDEXES, help="only with this index")
    parser.add_argument("--vault", choices=VAULTS, help="only this one")
    parser.add_argument("--flip", help="only this one, as it was printed")
    chosen = parser.parse_args()
    indexes = [chosen.index] if chosen.index else list(INDEXES)
    begun = time.monotonic()
    failures = 0
    for kind in [chosen.vault] if chosen.vault else VAULTS:
        flips = [chosen.flip] if chosen.flip else _all_flips(kind, chosen.bits)
        total = lost = 0
        failed: list[str] = []
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            jobs = [
                pool.submit(_try, kind, index, flips[at : at + 500])
                for index in indexes
                for at in range(0, len(flips), 500)
            ]
            for job in jobs:
                count, unrestored, wrong = job.result()
                total, lost = total + count, lost + unrestored
                failed += wrong
        print(*failed[:50], sep="\n")
        print(
            f"{kind}: {total:,} bits flipped ({len(flips):,}, the index found in {len(indexes)}"
            f" ways), {len(failed):,} wrong; {lost:,} times something was lost and said so, all"
            f" else was restored ({time.monotonic() - begun:.0f} s)"
        )
        failures += len(failed)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
