"""Days by random policies: nothing happens that was not in the plan, and was not named before."""

from __future__ import annotations

import pytest

from tests.support.simulation import Simulation


@pytest.mark.parametrize(("seed", "days"), [(0, 20), (1, 40)])
def test_nothing_happens_that_nobody_was_told_of(tmp_path, seed: int, days: int):
    simulation = Simulation(tmp_path, seed=seed, files=40)
    try:
        tally = simulation.run(days)
    finally:
        simulation.close()
    assert tally.days == days
    assert tally.acts["backup"] and tally.acts["archive"] + tally.acts["delete"]
