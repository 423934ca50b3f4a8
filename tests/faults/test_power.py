"""The power goes, and the disk forgets what was not synced: all of it, only names, only bytes, one
of several; and the database may be an older one, or none."""

from __future__ import annotations

import random

import pytest

from tests.support.points import PointError, of_part
from tests.support.power_cuts import Moment, PowerCut, try_moments
from tests.support.workloads import WORKLOADS

_ACTS = [
    "backup-first",
    "archive",
    "delete-kept",
    "delete-plain",
    "undelete",
    "undelete-plain",
    "recall",
    "restore-replace",
    "purge",
    "prune",
]


@pytest.mark.faults
@pytest.mark.parametrize("workload", _ACTS)
def test_a_power_cut_loses_nothing_that_was_promised(
    request, workload, part, all_points, record_property
):
    case = PowerCut(WORKLOADS[workload])
    one = request.config.getoption("--moment", default=None)
    if one is not None:
        step, variant, database = one.split("/")
        moments = [Moment(int(step), variant, database)]
    else:
        moments = case.moments()
        if not all_points:
            moments = sorted(random.Random(workload).sample(moments, 2))
        moments = of_part(moments, part)
    count, failures = try_moments(case, moments)
    record_property("power cut", count)
    record_property("failures", len(failures))
    assert not failures, f"{len(failures)} of {count} moments:\n" + "\n".join(failures[:20])


# -- controls ------------------------------------------------------------------------------


def _try(case: PowerCut, moments: list[Moment]) -> None:
    for moment in moments:
        case.try_moment(moment)


def finds(workload: str, deaf_to) -> None:
    """With these syncs taken out, something is lost."""
    case = PowerCut(WORKLOADS[workload], deaf_to)
    moments = [it for it in case.moments() if it.database == "current"]
    with pytest.raises(PointError):
        _try(case, moments[::-1])


def test_an_archive_whose_contents_are_not_synced_is_found():
    finds("archive", lambda method, path: method == "fsync" and "/archive/objects" in path)


def test_a_backup_whose_manifest_is_not_synced_is_found():
    finds("backup-first", lambda method, path: method == "fsync" and "/vault/manifests" in path)


def test_a_trash_whose_sidecar_is_not_synced_is_found():
    finds("delete", lambda _, path: "/.lifecycle" in path)


def test_a_restore_that_is_not_synced_before_it_gets_its_place_is_found():
    finds("recall", lambda method, _: method == "syncfs")
