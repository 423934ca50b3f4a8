"""What stands against an act at the moment it is done, whatever was planned before."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.errors import GuardError, OfflineError
from lifecycle_sync.fileops import FileOps, Name
from lifecycle_sync.service import act_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.applying import apply
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail
from tests.integration.test_policies import Estate, years_later
from tests.support.house import House


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path)
    for number in range(4):
        estate.file(f"{number}.txt")
    estate.ready()
    years_later(estate)
    yield estate
    estate.engine.close()


def test_a_root_that_was_swapped_since_the_plan_is_left_alone(estate: Estate):
    plan = estate.plan()
    assert plan.actions
    away = estate.base / "away"
    os.rename(estate.root, away)
    shutil.copytree(away, estate.root, ignore=shutil.ignore_patterns(".lifecycle"))
    (outcome,) = apply(estate.engine, plan, How())
    assert isinstance(outcome.error, OfflineError)
    assert len(list(estate.root.iterdir())) == 4
    shutil.rmtree(estate.root)
    os.rename(away, estate.root)
    assert estate.apply()["completed"] == 4


def test_a_disk_that_fails_stops_the_run(estate: Estate):
    """At once, not after the batch: no rename is tried that would be the fourth to fail."""
    broken = Fault(fail(errno.EIO), "rename_noreplace", lasting=True)
    fs = RecordingFileOps(FaultyFileOps(FileOps(), broken))
    estate.reopen(fs=fs, max_errors=3)
    (outcome,) = apply(estate.engine, estate.plan(), How())
    assert isinstance(outcome.error, GuardError)
    assert outcome.error.guard == "breaker"
    assert (outcome.report.failed, outcome.report.skipped) == (3, 1)
    assert fs.methods.count("rename_noreplace") == 3
    assert len([it for it in estate.root.iterdir() if it.suffix == ".txt"]) == 4


class NoLeases(FileOps):
    """A filesystem of the network, or somebody else's files."""

    def bar_writers(self, fd: int) -> bool | None:
        return None


def test_where_nobody_can_say_who_writes_the_reason_says_so(estate: Estate):
    estate.reopen(fs=NoLeases())
    assert estate.apply()["completed"] == 4
    rows = [
        it
        for it in estate.engine.registry.journal(None, 1_000, types=["delete"])
        if it.status == "completed"
    ]
    assert len(rows) == 4
    for row in rows:
        assert "its time is over; writers unknown" in (row.details or "")


class Unreadable(FileOps):
    """Some files cannot be read."""

    def __init__(self, code: int, *names: bytes) -> None:
        self.code = code
        self.names = names

    def open_read_stat(self, name: Name, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
        if name in self.names:
            raise OSError(self.code, os.strerror(self.code))
        return super().open_read_stat(name, dir_fd)


def reading(tmp_path: Path, code: int) -> Estate:
    """Twelve files, of which the first four cannot be read; three errors are enough."""
    estate = Estate(tmp_path)
    estate.reopen(fs=Unreadable(code, *(b"%02d.bin" % n for n in range(4))), max_errors=3)
    for number in range(12):
        estate.file(f"{number:02}.bin")
    estate.ready()
    estate.later(0.01)
    return estate


def test_files_that_may_not_be_read_keep_no_other_from_its_backup(tmp_path: Path):
    estate = reading(tmp_path, errno.EACCES)
    (outcome,) = apply(estate.engine, estate.plan(), How())
    assert outcome.error is None
    assert (outcome.report.completed, outcome.report.failed) == (8, 4)
    estate.engine.close()


def test_what_a_failing_disk_still_gives_is_backed_up_before_the_rest_is_tried(tmp_path: Path):
    estate = reading(tmp_path, errno.EIO)
    plan = estate.plan()
    told = {it.reason for it in plan.actions if it.path < b"04"}
    assert told == {"never backed up; it could not be read the last time"}
    (outcome,) = apply(estate.engine, plan, How())
    assert isinstance(outcome.error, GuardError)
    assert outcome.error.guard == "breaker"
    assert (outcome.report.completed, outcome.report.failed) == (8, 3)
    estate.engine.close()


def test_a_hold_stops_the_giving_up_of_an_archived_file(tmp_path: Path):
    """Its bytes would stay in the archive until that is pruned."""
    house = House(tmp_path)
    house.write("a")
    house.sync()
    name = os.fspath(house.root / "a")
    act_orders.archive(house.engine, [name], How())
    (file,) = house.engine.registry.files_under(house.repository.repository_id, b"", None, 9)
    hold = house.engine.statements.hold(file_id=file.file_id, reason="court order 7")
    report = house.engine.acts.delete(house.repository, [file])
    assert (report.completed, report.skipped) == (0, 1)
    assert "court order 7" in report.done[0].reason
    house.engine.statements.release(hold)
    assert house.engine.acts.delete(house.repository, [file]).completed == 1
    house.engine.close()
