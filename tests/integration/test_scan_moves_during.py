"""A folder that is renamed while a pass goes over the tree may be seen at neither of its places."""

from __future__ import annotations

import os
from typing import Any

from lifecycle_sync.clock import next_stamp_ns
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps
from tests.support.house import House


def test_a_folder_that_hides_from_a_walk_keeps_its_files_and_their_ids(tmp_path):
    house = House(tmp_path)
    for name in ("a/1", "m/1", "m/2", "z/1"):
        house.write(name)
    house.sync()
    before = house.ids()
    seen: list[str] = []

    def first_of_the_two(_method: str, given: dict[str, Any]) -> bool:
        listed = os.path.basename(os.readlink(f"/proc/self/fd/{given['fd']}"))
        if listed in ("a", "z") and not seen:
            seen.append(listed)
        return listed in seen

    def hide() -> None:
        # Where the walk has been already, and before it comes to where the folder was.
        house.rename("m", f"{seen[0]}/m")

    listing = Fault(hide, "listdir", where=first_of_the_two, after=True)
    house.reopen(fs=FaultyFileOps(FileOps(), listing))
    report = house.pass_over(hashes=False)
    assert (report.removed, report.missing) == (0, 2)
    house.reopen(fs=FileOps())
    house.sync()
    after = house.ids()
    for name in ("1", "2"):
        assert after[f"{seen[0]}/m/{name}".encode()] == before[f"m/{name}".encode()]
    house.engine.close()


def test_a_stamp_parts_the_changes_before_it_from_those_after_it(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for _ in range(50):
        before.touch()
        moment_ns = next_stamp_ns()
        after.touch()
        assert before.stat().st_mtime_ns < moment_ns <= after.stat().st_mtime_ns
        assert before.stat().st_ctime_ns < moment_ns <= after.stat().st_ctime_ns


def test_what_went_before_a_pass_is_gone_after_it(tmp_path):
    house = House(tmp_path)
    for name in ("a/1", "a/2", "b/1"):
        house.write(name)
    house.sync()
    house.remove("a/2")
    assert house.sync().removed == 1
    house.engine.close()


def test_what_goes_while_a_pass_is_under_way_is_gone_after_the_next_one(tmp_path):
    house = House(tmp_path)
    for name in ("a/1", "a/2", "b/1"):
        house.write(name)
    house.sync()
    listing = Fault(lambda: house.remove("a/2"), "listdir")
    house.reopen(fs=FaultyFileOps(FileOps(), listing))
    assert house.pass_over(hashes=False).removed + house.pass_over(hashes=False).removed == 1
    house.engine.close()
