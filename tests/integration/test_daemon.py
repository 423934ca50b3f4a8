"""The loop of `run`: what it follows, what it outlives, and what ends it."""

from __future__ import annotations

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.errors import (
    BusyError,
    GuardError,
    LifecycleError,
    RegistryError,
    StorageFullError,
)
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.service import act_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.daemon import Daemon
from tests.support.house import House

SOON_SECONDS = 0.01


class Watcher:
    """Notes what a daemon tells, and lets something happen after a number of passes."""

    def __init__(self, house: House) -> None:
        self.cancel = CancelToken()
        self.reports: list[SyncReport] = []
        self.troubles: list[LifecycleError] = []
        self._house = house

    def daemon(self, **options: object) -> Daemon:
        return Daemon(
            self._house.engine,
            cancel=self.cancel,
            on_report=self._report,
            on_trouble=self.troubles.append,
            **options,  # type: ignore[arg-type]
        )

    def _report(self, report: SyncReport) -> None:
        self.reports.append(report)
        self.after(len(self.reports))

    def after(self, passes: int) -> None:
        if passes >= 2:
            self.cancel.cancel()

    def roots(self) -> list[bytes]:
        return [report.repository.path for report in self.reports]


@pytest.fixture
def watcher(house: House) -> Watcher:
    house.write("file")
    house.add()
    return Watcher(house)


def test_the_first_pass_is_a_startup_and_the_others_reconcile(watcher):
    with watcher.daemon() as daemon:
        daemon.once()
        daemon.follow(SOON_SECONDS)
    kinds = [report.run.run_type for report in watcher.reports]
    assert kinds == [RunType.STARTUP, RunType.RECONCILIATION]


def test_a_root_has_one_follower(watcher, house):
    with watcher.daemon(), pytest.raises(BusyError, match="has it"), watcher.daemon():
        pass
    with watcher.daemon(named=[house.repository]):
        pass


def test_who_follows_all_takes_up_new_roots_and_drops_removed_ones(watcher, house):
    other = house.base / "other"
    other.mkdir()

    def after(passes: int) -> None:
        if passes == 1:
            house.engine.add_root(other)
        elif passes == 3:
            house.engine.roots.remove(house.repository)
        elif passes == 4:
            watcher.cancel.cancel()

    watcher.after = after
    first, second = house.path("")[:-1], bytes(other)
    with watcher.daemon() as daemon:
        daemon.once()
        daemon.follow(SOON_SECONDS)
        assert sorted(watcher.roots()[1:3]) == sorted([first, second])
        assert watcher.roots()[3:] == [second]
        # Its lock is free again for whoever adds it.
        with house.engine.locks.hold("run", watcher.reports[0].repository.repository_id, first):
            pass


def test_who_names_roots_follows_only_those(watcher, house):
    other = house.base / "other"
    other.mkdir()
    house.engine.add_root(other)
    with watcher.daemon(named=[house.repository]) as daemon:
        daemon.once()
        daemon.follow(SOON_SECONDS)
    assert set(watcher.roots()) == {house.repository.path}


def test_a_full_disk_is_told_of_and_waited_for(watcher, house, monkeypatch):
    real = house.engine.sync
    calls = []

    def sync(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise StorageFullError("no space left")
        return real(*arguments, **options)

    monkeypatch.setattr(house.engine, "sync", sync)
    with watcher.daemon() as daemon:
        daemon.once()
        daemon.follow(SOON_SECONDS)
    assert [error.code for error in watcher.troubles] == ["disk_full"]
    assert len(watcher.reports) == 2


def test_a_lost_registry_ends_it(watcher, house, monkeypatch):
    def fail(*_arguments, **_options):
        raise RegistryError("was replaced while it was open")

    with watcher.daemon() as daemon:
        daemon.once()
        monkeypatch.setattr(house.engine, "sync", fail)
        with pytest.raises(RegistryError):
            daemon.follow(SOON_SECONDS)


# -- the trash -----------------------------------------------------------------------------


@pytest.fixture
def trashed(watcher, house):
    """A deleted file in the trash, and a daemon that makes three passes."""
    house.sync()
    act_orders.delete(house.engine, [str(house.root / "file")], How())

    def after(passes: int) -> None:
        if passes >= 3:
            watcher.cancel.cancel()

    watcher.after = after
    with house.engine.acts.trash(house.repository) as trash:
        assert trash.totals().files == 1
    return watcher


def left_in_trash(house: House) -> int:
    with house.engine.acts.trash(house.repository) as trash:
        return trash.totals().files


def in_days(house: House, monkeypatch, days: float) -> None:
    now_ns = house.engine.now_ns() + int(days * NS_PER_DAY)
    # The very clock of all that acts.
    monkeypatch.setattr(house.engine._clock, "now_ns", lambda: now_ns)


def test_what_is_past_its_grace_is_purged(trashed, house, monkeypatch):
    with trashed.daemon() as daemon:
        daemon.once()
        monkeypatch.setattr(house.engine.clock_doubt, "reason", lambda: "")
        in_days(house, monkeypatch, 31)
        daemon.follow(SOON_SECONDS)
    assert left_in_trash(house) == 0


@pytest.mark.parametrize("days", [400, -2])
def test_nothing_is_purged_while_the_clock_is_in_doubt(trashed, house, monkeypatch, days):
    in_days(house, monkeypatch, days)
    with trashed.daemon() as daemon:
        daemon.once()
        daemon.follow(SOON_SECONDS)
    assert left_in_trash(house) == 1
    (trouble,) = trashed.troubles
    assert isinstance(trouble, GuardError)
    assert trouble.guard == "clock"
    assert trouble.remedy
