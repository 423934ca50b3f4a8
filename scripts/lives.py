"""Random lives of an estate, beside a dictionary; see tests/support/estate_machine.py.

Each seed leads five of them, each fourth with encrypted vaults; `--first N --lives 1` repeats them.
Hypothesis says which steps came to what fails, and with `--shrink` the fewest that do.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.estate_machine import TALLY, EncryptedMachine, EstateMachine


def _lead(first: int, steps: int, shrink: bool) -> tuple[Counter[str], str]:
    """What there was of everything, and what does not hold."""
    TALLY.clear()
    chosen = settings(
        max_examples=5,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
    )
    try:
        kind = EncryptedMachine if first % 4 == 3 else EstateMachine
        run_state_machine_as_test(seed(first)(kind), settings=chosen)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return Counter(TALLY), f"{error}\n{traceback.format_exc()}"
    return Counter(TALLY), ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=40, help="each is five, of so many steps")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--shrink", action="store_true", help="make what fails small: minutes")
    chosen = parser.parse_args()
    begun = time.monotonic()
    seeds = range(chosen.first, chosen.first + chosen.lives)
    tally: Counter[str] = Counter()
    failures = 0
    with ProcessPoolExecutor(chosen.processes) as pool:
        jobs = [pool.submit(_lead, it, chosen.steps, chosen.shrink) for it in seeds]
        for first, job in zip(seeds, jobs, strict=True):
            done, wrong = job.result()
            tally += done
            if wrong:
                failures += 1
                print(f"make lives LIVES_ARGS='--first {first} --lives 1': {wrong}")
    print(
        f"{5 * chosen.lives:,} lives, {tally.total():,} states, {failures} failures"
        f" ({time.monotonic() - begun:.0f} s): "
        + ", ".join(f"{count:,} {what}" for what, count in sorted(tally.items()))
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
