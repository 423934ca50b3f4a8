"""The marker of a root when things go wrong while it is written or read."""

from __future__ import annotations

import errno
import os
from contextlib import closing

import pytest

from lifecycle_sync.errors import RootError, StorageFullError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import RepositoryStatus
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail, kill
from tests.support.house import House


def of_marker(method: str, arguments: dict[str, object]) -> bool:
    return arguments.get("name", arguments.get("target")) == b"root.json"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_while_a_root_is_marked_leaves_a_root_that_can_be_added(tmp_path, after):
    killed = os.fork()
    if killed == 0:
        try:
            faulty = FaultyFileOps(FileOps(), Fault(kill, "rename", where=of_marker, after=after))
            House(tmp_path, fs=faulty).add()
        finally:
            os._exit(99)
    _, status = os.waitpid(killed, 0)
    assert os.waitstatus_to_exitcode(status) == -9
    house = House(tmp_path)
    with closing(house.engine):
        assert house.add().status is RepositoryStatus.ACTIVE
        house.write("file")
        house.sync()
        house.check()


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, StorageFullError), (errno.EIO, RootError)]
)
def test_a_root_that_cannot_be_marked_is_not_added(tmp_path, code, kind):
    faulty = FaultyFileOps(FileOps(), Fault(fail(code), "rename", where=of_marker))
    house = House(tmp_path, fs=faulty)
    with closing(house.engine):
        with pytest.raises(kind) as caught:
            house.add()
        assert caught.value.remedy
        assert house.engine.roots.all() == []
        house.sync()


def test_a_damaged_marker_holds_its_root_and_no_other(house, tmp_path):
    house.write("file")
    house.sync()
    other = tmp_path / "other"
    other.mkdir()
    second = house.engine.add_root(other).repository
    marker = house.root / ".lifecycle" / "root.json"
    marker.write_text("{")
    reports = {report.repository.path: report for report in house.engine.sync()}
    held = reports[os.fsencode(house.root)]
    assert held.repository.status is RepositoryStatus.HELD
    assert held.verdict is not None
    assert "damaged" in held.verdict.reason
    assert held.verdict.remedy
    assert reports[second.path].scanned
    # As the remedy says.
    marker.unlink()
    house.engine.accept(house.root)
    house.sync()
