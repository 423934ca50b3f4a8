"""The watch over how full it is, and the reserve for when it is full."""

from __future__ import annotations

import time

import pytest

from lifecycle_sync.decide.pressure import Health
from lifecycle_sync.model.temp import Usage
from lifecycle_sync.service.temp.monitor import Monitor
from lifecycle_sync.service.temp.reserve import RESERVE_BYTES
from tests.support.temp_jobs import Storage

MIB = 1 << 20


class Gauge:
    """A provider that is as full as it is set."""

    def __init__(self) -> None:
        self.percent = 10.0

    def usage(self) -> Usage:
        used = int(self.percent * 100 * MIB)
        return Usage(used, 10_000 * MIB - used)


@pytest.fixture
def watch(tmp_path):
    storage = Storage(tmp_path / "temp")
    gauge = Gauge()
    done: list[str] = []
    now = [0.0]
    monitor = Monitor(
        storage.cleanup(provider=gauge),
        urgent=lambda: done.append("urgent"),
        early=lambda: done.append("early"),
        now=lambda: now[0],
    )

    def at(seconds: float, percent: float) -> Health:
        now[0], gauge.percent = seconds, percent
        return monitor.look()

    return monitor, at, done


def test_a_crossing_triggers_at_once_and_again_at_the_interval_of_checks(watch):
    _, at, done = watch
    assert at(0, 50) is Health.HEALTHY
    assert at(30, 96) is Health.CRITICAL
    assert done == ["urgent"]
    at(60, 96)
    assert done == ["urgent"]
    at(30 + 300, 96)
    assert done == ["urgent"] * 2
    assert at(360, 90) is Health.WARNING
    at(390, 97)
    assert done == ["urgent"] * 3


def test_a_forecast_pulls_the_next_clean_up_forward(watch):
    monitor, at, done = watch
    for step in range(10):
        at(30 * step, 60 + step)  # one per cent in half a minute: full in 13 minutes
    assert done == ["early"]
    assert monitor.forecast_seconds() == pytest.approx((95 - 69) * 30, rel=0.01)


def test_nothing_is_pulled_forward_where_it_fills_slowly_or_not_at_all(watch):
    monitor, at, done = watch
    for step in range(10):
        at(30 * step, 60 + step / 1000)
    assert done == []
    for step in range(10, 40):
        at(30 * step, 60 - step)
    assert monitor.forecast_seconds() is None


def test_it_runs_in_the_background_makes_the_reserve_and_stops_at_once(tmp_path):
    storage = Storage(tmp_path / "temp", storage_check_interval_seconds=0.01)
    gauge = Gauge()
    done: list[str] = []
    monitor = Monitor(storage.cleanup(provider=gauge), urgent=lambda: done.append("urgent"))
    monitor.start()
    monitor.start()
    reserve = storage.base / ".lifecycle" / "reserve"
    deadline = time.monotonic() + 30
    while not reserve.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    gauge.percent = 99
    while not done and time.monotonic() < deadline:
        time.sleep(0.005)
    monitor.stop()
    assert not monitor.running
    assert done == ["urgent"]
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES


def test_the_reserve_is_given_up_in_an_emergency_and_not_taken_from_a_full_disk(tmp_path):
    storage = Storage(tmp_path / "temp")
    gauge = Gauge()
    cleanup = storage.cleanup(provider=gauge)
    cleanup.make_reserve()
    reserve = storage.base / ".lifecycle" / "reserve"
    assert reserve.exists()
    gauge.percent = 96
    cleanup.emergency()
    assert not reserve.exists()
    cleanup.make_reserve()
    assert not reserve.exists()


def test_an_error_does_not_end_the_watch(tmp_path, caplog):
    storage = Storage(tmp_path / "temp", storage_check_interval_seconds=0.01)
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise RuntimeError("broken")

    gauge = Gauge()
    monitor = Monitor(storage.cleanup(provider=gauge), urgent=broken)
    monitor.start()
    gauge.percent = 99
    deadline = time.monotonic() + 30
    while not calls and time.monotonic() < deadline:
        time.sleep(0.005)
    assert monitor.running
    monitor.stop()
    assert "could not be looked at" in caplog.text
