"""What is unchanged costs nothing: no record is read or written."""

from __future__ import annotations

import os

from tests.support.house import House
from tests.support.statements import watched

# Questions like "is anything due?" take a few steps, whatever the size of the tree; a look at one
# record takes about fifteen.
_QUESTIONS = 150
_FILES = 600


def _fill(house: House) -> None:
    for number in range(_FILES):
        house.write(f"{number % 7}/{number % 3}/{number}.txt", b"%d" % number)
    os.symlink("nowhere", house.path("link"))
    house.sync()


def test_a_pass_over_what_is_unchanged_touches_no_record(house: House):
    _fill(house)
    with watched("files") as work:
        house.reopen()
        report = house.sync(wait=False)
    assert report.counts.unchanged_directories == report.counts.directories == 29
    assert work.rows_changed == 0
    assert work.total_steps < _QUESTIONS, work.steps
    house.check()


def test_the_counting_itself_sees_reads_and_writes(house: House):
    _fill(house)
    house.write("0/0/0.txt", b"changed")
    with watched("files") as work:
        house.reopen()
        house.sync()
    # One folder was compared, one record written (as modified, and hashed).
    assert 1 <= work.rows_changed <= 3
    assert work.total_steps > _QUESTIONS
    # The other folders were not looked at.
    assert work.total_steps < 15 * _FILES / 2


def test_a_change_in_one_folder_leaves_the_others_alone(house: House):
    _fill(house)
    house.write("3/1/new.txt")
    report = house.sync()
    assert report.counts.directories - report.counts.unchanged_directories == 1
    house.check()


def test_a_new_subfolder_compares_its_parent_and_nothing_else(house: House):
    _fill(house)
    os.mkdir(house.path("3/empty"))
    report = house.sync()
    assert report.counts.directories - report.counts.unchanged_directories == 2
    house.check()


def test_unchanged_records_are_as_new_as_the_pass(house: House):
    _fill(house)
    before = house.record("0/0/0.txt")
    house.sync()
    after = house.record("0/0/0.txt")
    assert (after.seq, after.changed_ns) == (before.seq, before.changed_ns)
    assert after.scanned_ns > before.scanned_ns
    assert after.scan_generation == before.scan_generation + 1
    (row,) = house.engine.registry.query(
        "SELECT scan_generation FROM file_records WHERE file_path = '0/0/0.txt'"
    )[1]
    assert row == (after.scan_generation,)


def test_a_registered_file_only_has_its_folder_compared_again(house: House):
    _fill(house)
    house.engine.register_file(os.fsdecode(house.path("0/0/0.txt")))
    report = house.sync()
    assert report.counts.directories - report.counts.unchanged_directories == 1
    assert report.hashes.hashed == 0
    assert house.sync().counts.unchanged_directories == 29
