"""A clock that is set does not make every file old."""

from __future__ import annotations

import os

from lifecycle_sync import CleanupService, FileCleanupManager
from lifecycle_sync.clock import NS_PER_SECOND, FixedClock, SteadyClock, SystemClock
from lifecycle_sync.service.temp.core import TempCleanup
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from tests.conftest import START_NS

HOUR = 3600


def test_a_clock_that_steps_ahead_is_not_gone_along_with():
    wall, passed = FixedClock(START_NS), [100.0]
    steady = SteadyClock(wall, lambda: passed[0])
    assert steady.now_ns() == START_NS
    wall.advance(10)
    passed[0] += 10
    assert steady.now_ns() == START_NS + 10 * NS_PER_SECOND
    wall.advance(365 * 24 * HOUR)
    assert steady.now_ns() == START_NS + (10 + HOUR) * NS_PER_SECOND
    passed[0] += 60
    assert steady.now_ns() == START_NS + (70 + HOUR) * NS_PER_SECOND


def test_a_clock_that_steps_back_is():
    wall = FixedClock(START_NS)
    steady = SteadyClock(wall, lambda: 100.0)
    wall.advance(-24 * HOUR)
    assert steady.now_ns() == START_NS - 24 * HOUR * NS_PER_SECOND


def test_by_default_it_is_the_machines_clock():
    before = SystemClock().now_ns()
    assert before <= SteadyClock().now_ns() <= SystemClock().now_ns()


def test_what_deletes_by_age_goes_by_it(tmp_path):
    settings = TempStorageCleanupSettings(environment={}, temp_storage_path=tmp_path / "temp")
    for made in (
        TempCleanup(settings),
        FileCleanupManager(tmp_path / "temp"),
        CleanupService(None, None, None),  # type: ignore[arg-type]
    ):
        assert isinstance(made._clock, SteadyClock)


def test_after_a_step_of_a_year_no_file_is_older_than_it_is(tmp_path):
    wall = FixedClock(SystemClock().now_ns())
    settings = TempStorageCleanupSettings(
        environment={}, temp_storage_path=tmp_path, min_free_space_gb=0
    )
    cleanup = TempCleanup(settings, clock=SteadyClock(wall, lambda: 0.0))
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", ns=(0, wall.now_ns() - 25 * HOUR * NS_PER_SECOND))
    (tmp_path / "young").touch()
    wall.advance(365 * 24 * HOUR)
    assert cleanup.orphaned()["files_deleted"] == 1
    assert (tmp_path / "young").exists()
