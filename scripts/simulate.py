"""Simulated days by random policies, seed after seed; see tests/support/simulation.py.

Each seed is a line. The first that finds something wrong ends it; its number repeats it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.support.simulation import Simulation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=90)
    chosen = parser.parse_args()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lifecycle-simulate-") as folder:
            simulation = Simulation(Path(folder), seed=seed, files=chosen.files)
            try:
                tally = simulation.run(chosen.days)
            finally:
                simulation.close()
        print(f"seed {seed}: {tally} ({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
