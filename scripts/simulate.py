"""Simulated days by random policies, seed after seed; see tests/support/simulation.py.

Each seed is a line. The first that finds something wrong ends it; its number repeats it. The files
are tiny and lie in memory where there is such a place, because what is looked at is what happens to
which file and when, not the disk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.simulation import Simulation

_IN_MEMORY = Path("/dev/shm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument(
        "--folder",
        type=Path,
        default=_IN_MEMORY if _IN_MEMORY.is_dir() else None,
        help="below which the files are made",
    )
    chosen = parser.parse_args()
    acts: Counter[str] = Counter()
    explained = 0
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lifecycle-simulate-", dir=chosen.folder) as folder:
            simulation = Simulation(Path(folder), seed=seed, files=chosen.files)
            try:
                tally = simulation.run(chosen.days)
            finally:
                simulation.close()
        print(f"seed {seed}: {tally} ({time.monotonic() - begun:.0f} s)", flush=True)
        acts += tally.acts
        explained += tally.explained
    done = ", ".join(f"{count:,} {verb}" for verb, count in sorted(acts.items()))
    print(
        f"{chosen.seeds:,} seeds of {chosen.files:,} files and {chosen.days:,} days:"
        f" {explained:,} explanations, no misprediction; done: {done}"
    )


if __name__ == "__main__":
    main()
