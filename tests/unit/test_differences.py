"""What `differences` makes of records and a look at their directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lifecycle_sync.decide.differences import differences, unchanged
from lifecycle_sync.model.file import FileFlag, Kind, Tracking
from lifecycle_sync.model.observation import Columns, DirectoryListing
from lifecycle_sync.model.record import OUTDATED, DirectoryChange, StoredDirectory, StoredFile

_SEEN = {"kind": 8, "size": 5, "mtime_ns": 100, "ctime_ns": 200, "inode": 7}
_DIRECTORY = StoredDirectory(1, b"d", b"s" * 16, 50)


def _record(name: bytes = b"f", row_id: int = 1, **changes: int) -> StoredFile:
    fields = {**_SEEN, "flags": 0, "tracking": 0, **changes}
    return StoredFile(row_id=row_id, name=name, hashed=True, **fields)


def _listing(*entries: dict[str, object], racy: Sequence[int] = (), **about: Any):
    """A listing of entries that are as `_SEEN`, but for what they say."""
    rows: list[dict[str, Any]] = [{"name": b"f", **_SEEN, **entry} for entry in entries]
    columns = Columns(
        names=[row["name"] for row in rows],
        kinds=[row["kind"] for row in rows],
        sizes=[row["size"] for row in rows],
        mtimes_ns=[row["mtime_ns"] for row in rows],
        ctimes_ns=[row["ctime_ns"] for row in rows],
        inodes=[row["inode"] for row in rows],
        racy=frozenset(racy),
    )
    return DirectoryListing(b"d", columns=columns, **about)


def _compare(
    records: list[StoredFile],
    listing: DirectoryListing,
    *,
    ignored: Sequence[bytes] = (),
    missing_before: Sequence[int] = (),
    stable_inodes: bool = True,
) -> DirectoryChange:
    return differences(
        _DIRECTORY,
        records,
        listing,
        ignored=lambda name: name in ignored,
        missing_before=frozenset(missing_before),
        stable_inodes=stable_inodes,
    )


def _verdicts(change: DirectoryChange) -> dict[str, list[object]]:
    """What is not empty."""
    names = ("added", "modified", "settled", "missing", "untracked", "returned")
    return {name: list(getattr(change, name)) for name in names if getattr(change, name)}


def test_what_is_as_it_was_needs_nothing():
    assert _verdicts(_compare([_record()], _listing({}))) == {}


def test_all_files_of_a_new_directory_are_added():
    change = differences(
        None, [], _listing({"name": b"a"}, {"name": b"b"}), ignored=lambda _name: False
    )
    assert _verdicts(change) == {"added": [0, 1]}
    assert (change.directory_id, change.path) == (None, b"d")


def test_a_name_without_a_record_is_added():
    assert _verdicts(_compare([_record(b"a")], _listing({"name": b"a"}, {"name": b"b"}))) == {
        "added": [1]
    }


@pytest.mark.parametrize("field", ["size", "mtime_ns", "kind"])
@pytest.mark.parametrize("step", [1, -1])
def test_another_size_time_or_kind_is_another_content_whichever_is_greater(field, step):
    listing = _listing({field: Kind.SYMLINK if field == "kind" else _SEEN[field] + step})
    assert _verdicts(_compare([_record()], listing)) == {"modified": [(1, 0, True)]}


@pytest.mark.parametrize("field", ["ctime_ns", "inode"])
@pytest.mark.parametrize("step", [1, -1])
def test_another_ctime_or_inode_is_for_the_hash_to_judge(field, step):
    listing = _listing({field: _SEEN[field] + step})
    assert _verdicts(_compare([_record()], listing)) == {"modified": [(1, 0, False)]}


def test_a_record_whose_mode_is_older_than_its_tuple_is_written_anew():
    record = _record(flags=OUTDATED)
    assert _verdicts(_compare([record], _listing({}))) == {"modified": [(1, 0, False)]}


def test_inodes_that_are_not_stable_say_nothing():
    listing = _listing({"inode": 99})
    assert _verdicts(_compare([_record()], listing, stable_inodes=False)) == {}


def test_a_racy_record_with_the_same_tuple_is_settled_once_it_is_old_enough():
    racy = _record(flags=FileFlag.RACY)
    assert _verdicts(_compare([racy], _listing({}))) == {"settled": [1]}
    assert _verdicts(_compare([racy], _listing({}, racy=[0]))) == {}
    assert _verdicts(_compare([racy], _listing({"size": 6}))) == {"modified": [(1, 0, True)]}


def test_a_record_without_its_file_is_missing():
    assert _verdicts(_compare([_record()], _listing())) == {"missing": [1]}


def test_a_record_that_a_rule_hides_is_untracked_and_not_missing():
    assert _verdicts(_compare([_record()], _listing(), ignored=[b"f"])) == {"untracked": [1]}


@pytest.mark.parametrize("tracking", [Tracking.IGNORED, Tracking.UNREGISTERED])
def test_what_is_out_already_stays_out_under_a_rule(tracking):
    record = _record(tracking=tracking)
    assert _verdicts(_compare([record], _listing(), ignored=[b"f"])) == {}


@pytest.mark.parametrize("tracking", list(Tracking))
def test_what_no_rule_hides_and_is_not_there_is_missing(tracking):
    assert _verdicts(_compare([_record(tracking=tracking)], _listing())) == {"missing": [1]}


def test_an_ignored_record_that_is_listed_again_returns():
    record = _record(tracking=Tracking.IGNORED)
    assert _verdicts(_compare([record], _listing({}))) == {"returned": [1]}
    assert _verdicts(_compare([record], _listing({"size": 6}))) == {
        "returned": [1],
        "modified": [(1, 0, True)],
    }


def test_a_missing_record_that_is_listed_again_returns():
    assert _verdicts(_compare([_record()], _listing({}), missing_before=[1])) == {"returned": [1]}
    assert _verdicts(_compare([_record()], _listing({}), missing_before=[2])) == {}


def test_an_unregistered_record_is_kept_in_step_and_stays_out():
    record = _record(tracking=Tracking.UNREGISTERED)
    assert _verdicts(_compare([record], _listing({}))) == {}
    assert _verdicts(_compare([record], _listing({"inode": 8}))) == {"modified": [(1, 0, False)]}


def test_a_failed_listing_says_nothing_but_its_error():
    listing = DirectoryListing(b"d", error="permission denied")
    change = _compare([_record()], listing)
    assert _verdicts(change) == {}
    assert (change.error, change.signature, change.directory_id) == ("permission denied", None, 1)


def test_the_sums_of_the_listing_are_those_of_the_change():
    listing = _listing(
        {"name": b"a"},
        {"name": b"b"},
        inode=3,
        signature=b"x" * 16,
        ignored_count=4,
        special_count=5,
    )
    change = _compare([], listing)
    assert (change.inode, change.signature) == (3, b"x" * 16)
    assert (change.file_count, change.byte_count) == (2, 10)
    assert (change.ignored_count, change.special_count) == (4, 5)


@pytest.mark.parametrize(
    ("stored", "listed", "error", "expected"),
    [
        (b"a" * 16, b"a" * 16, None, True),
        (b"a" * 16, b"b" * 16, None, False),
        (None, b"a" * 16, None, False),
        (b"a" * 16, None, None, False),
        (None, None, None, False),
        (b"a" * 16, b"a" * 16, "input/output error", False),
    ],
)
def test_only_equal_signatures_of_a_listing_that_worked_spare_the_comparison(
    stored, listed, error, expected
):
    listing = DirectoryListing(b"d", signature=listed, error=error)
    assert unchanged(StoredDirectory(1, b"d", stored, 0), listing) is expected


def test_a_directory_without_a_row_is_never_unchanged():
    assert not unchanged(None, DirectoryListing(b"d", signature=b"a" * 16))
