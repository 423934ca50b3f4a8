"""The power goes on a real filesystem, right after an order was acknowledged (`make powercut`)."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tests.support.loop_disk import reason_against
from tests.support.outside import DEEDS


def cut(*arguments: str) -> str:
    reason = reason_against("ext4")
    if reason:
        pytest.skip(f"no power can be cut here: {reason}")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.powercut", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def acknowledged_backup() -> str:
    """The seed of a cut that waits for the first order to end."""
    for seed in range(1_000):
        chosen = random.Random(seed)
        if DEEDS[chosen.randrange(len(DEEDS))].name == "backup" and chosen.random() < 0.3:
            return str(seed)
    raise AssertionError


def test_what_was_acknowledged_is_there_when_the_power_comes_back():
    said = cut("--cuts", "1", "--first", acknowledged_backup())
    assert "1 power cuts on ext4, 0 lost something" in said
    assert "1 backup acknowledged" in said


def test_a_backup_that_is_not_synced_is_found():
    assert "a control: found" in cut("--cuts", "1", "--first", acknowledged_backup(), "--deaf")
