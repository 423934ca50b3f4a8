"""What stands against an act at the moment it is done, whatever was planned before."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.errors import GuardError, OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.applying import apply
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail
from tests.integration.test_policies import Estate, years_later


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
    broken = Fault(fail(errno.EIO), "rename_noreplace", lasting=True)
    estate.reopen(fs=FaultyFileOps(FileOps(), broken), max_errors=3)
    (outcome,) = apply(estate.engine, estate.plan(), How())
    assert isinstance(outcome.error, GuardError)
    assert outcome.error.guard == "breaker"
    assert outcome.report.failed == 4
    assert len([it for it in estate.root.iterdir() if it.suffix == ".txt"]) == 4
