"""The summary of a root: what changed, what is the same twice, what wants attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.record import HashResult
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.report.records import file_fields, path_fields, utf8_text
from lifecycle_sync.report.summary import (
    EXAMPLES,
    Verb,
    changes_of,
    duplicate_sums,
    flagged,
    summarise,
    summary_fields,
)
from lifecycle_sync.testing.registry_contract_base import House, RegistryContractBase


class OnSqlite(RegistryContractBase):
    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return SqliteRegistry.open(folder / "registry.db", clock=clock)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(OnSqlite(), tmp_path)
    yield made
    made.close()


def counted(run: Run, added: int = 0, updated: int = 0, removed: int = 0) -> Run:
    """A run that counted so much, as the cycle stores it."""
    return dataclasses.replace(run, files_added=added, files_updated=updated, files_removed=removed)


def told(house: House, run: Run, moved: int = 0) -> list[tuple[str, bytes]]:
    changes = changes_of(house.registry, run, moved)
    return [(change.verb.value, change.record.path) for change in changes.examples]


# -- changes -------------------------------------------------------------------------------


def test_each_kind_of_change_has_its_examples(house):
    house.settled(b"same", b"edited", b"old/place", b"gone")
    house.tick()
    house.write(b"new")
    house.write(b"edited", content=b"other")
    house.tree.rename(b"old/place", b"new/place")
    house.tree.remove(b"gone")
    run = counted(house.scan(), added=1, updated=2, removed=1)
    house.hash()
    assert told(house, run, moved=1) == [
        ("added", b"new"),
        ("updated", b"edited"),
        ("moved", b"new/place"),
        ("removed", b"gone"),
    ]
    changes = changes_of(house.registry, run, 1)
    assert changes.counts == {Verb.ADDED: 1, Verb.UPDATED: 1, Verb.MOVED: 1, Verb.REMOVED: 1}
    (moved,) = [change for change in changes.examples if change.verb is Verb.MOVED]
    assert moved.before == "old/place"


def test_a_checksum_alone_is_no_change(house):
    house.write(b"late")
    house.scan()
    # A pass that hashes what an earlier one, which was killed, had left.
    run = counted(house.scan())
    house.hash()
    assert house.registry.changes(run.first_seq, 10)
    assert not changes_of(house.registry, run, 0)
    assert told(house, run) == []


def test_examples_are_few_however_many_changed(house):
    house.settled(b"first")
    house.write(*(b"%04d" % number for number in range(3 * EXAMPLES)))
    run = counted(house.scan(), added=3 * EXAMPLES)
    changes = changes_of(house.registry, run, 0)
    assert changes.counts[Verb.ADDED] == 3 * EXAMPLES
    assert len(changes.examples) == EXAMPLES


def test_other_roots_are_not_told_of(house):
    house.settled(b"mine")
    _root, tree, scanner = house.other_root()
    run = counted(house.scan(), added=1)
    tree.write(b"theirs")
    scanner.scan()
    assert told(house, run) == []


# -- duplicates ----------------------------------------------------------------------------


def test_duplicates_are_summed_and_the_worst_named_first(house):
    house.write(b"a", b"b", b"c", content=b"x" * 10)
    house.write(b"d", b"e", content=b"y" * 100)
    house.write(b"alone")
    house.tree.link(b"alone", b"same inode")
    house.scan()
    house.hash()
    sums = duplicate_sums(house.registry, house.root, 10)
    assert (sums.groups, sums.files, sums.wasted, sums.complete) == (2, 5, 120, True)
    assert [group.size for group in sums.top] == [100, 10]


def test_counting_duplicates_ends_in_time_and_says_so(house):
    house.write(b"a", b"b", content=b"x")
    house.scan()
    house.hash()
    clock = iter([0.0, 100.0])
    sums = duplicate_sums(house.registry, house.root, 1, monotonic=lambda: next(clock))
    assert sums.groups == 1
    # What was the last page is all there is, however long it took.
    assert sums.complete


# -- the whole -----------------------------------------------------------------------------


def test_a_first_index_has_no_changes(house):
    house.write(b"a.jpg", b"b.txt")
    run = counted(house.scan(), added=2)
    summary = summarise(house.registry, house.repository, run, first=True)
    assert summary.changes is None
    assert summary.totals.files == 2
    assert (summary.due_files, summary.missing) == (2, 0)
    assert {count.file_type.value for count in summary.counts} == {"image", "document"}
    assert summary_fields(summary)["changes"] is None


def test_what_cannot_be_read_is_counted_with_examples(house):
    house.write(b"locked", b"fine")
    house.scan()
    house.store(HashResult(house.row_id(b"locked"), "unreadable", error="permission denied"))
    found = flagged(house.registry, house.root, FileFlag.UNREADABLE)
    assert (found.count, [record.path for record in found.records]) == (1, [b"locked"])
    assert flagged(house.registry, house.root, FileFlag.SUSPECT).count == 0


def test_folders_that_failed_and_ignored_entries_are_in_the_summary(house):
    house.write(b"open/file", b"shut/file", b"hidden")
    house.tree.failing[b"shut"] = "Permission denied"
    house.tree.ignored.add(b"hidden")
    summary = summarise(house.registry, house.repository, house.scan(), first=True)
    fields = summary_fields(summary)
    assert fields["ignored_entries"] == 1
    assert fields["unreadable_folders"] == [
        {"path": "/srv/files/shut", "reason": "Permission denied"}
    ]


def test_deleted_files_are_counted_apart_and_empty_ones_are_not_the_largest(house):
    house.write(b"gone", b"empty", content=b"")
    house.scan()
    house.tree.remove(b"gone")
    summary = summarise(house.registry, house.repository, counted(house.scan(), removed=1))
    assert {count.state for count in summary.counts} == {
        LifecycleState.UPLOADED,
        LifecycleState.DELETED,
    }
    assert summary.largest == ()


# -- shapes --------------------------------------------------------------------------------


def test_paths_in_json_are_text_and_exact():
    assert path_fields(b"/srv/gr\xc3\xb6\xc3\x9fe\n") == {"path": "/srv/größe\n"}
    assert path_fields(b"/srv/\xff") == {"path": "/srv/\\xff", "path_bytes": "L3Nydi//"}
    # A name that looks like an escape is its own text.
    assert path_fields(rb"/srv/\xff") == {"path": r"/srv/\xff"}
    assert utf8_text("odd \udcff") == r"odd \xff"


def test_a_file_has_a_checksum_or_none_and_times_in_utc(house):
    house.write(b"file")
    house.scan()
    before = file_fields(house.record(b"file"), b"/srv/files")
    assert (before["checksum"], before["algorithm"], before["hash_due"]) == ("", "", True)
    house.hash()
    after = file_fields(house.record(b"file"), b"/srv/files")
    assert (len(after["checksum"]), after["algorithm"], after["hash_due"]) == (64, "sha256", False)
    assert after["modified_at"] == "2026-01-02T03:04:05.000000Z"
    assert after["mode"] == "0644"
