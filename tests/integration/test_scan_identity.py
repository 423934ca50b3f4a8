"""Which record a file has after renames, saves and swaps."""

from __future__ import annotations

import os
import shutil

import pytest

from lifecycle_sync.model.file import LifecycleState
from tests.support.house import House


def test_an_atomic_save_keeps_the_id_and_makes_a_version(house: House):
    house.write("report.txt", b"first")
    house.sync()
    before = house.record("report.txt")
    for number in range(3):
        house.save("report.txt", b"draft %d" % number)
        house.sync()
        house.check()
    after = house.record("report.txt")
    assert (after.file_id, after.version) == (before.file_id, before.version + 3)
    assert len(house.engine.registry.changes(0, 100)) == 1


def test_a_rename_keeps_the_id_and_the_checksum(house: House):
    house.write("a.txt", b"content of a")
    house.write("b.txt", b"content of b")
    house.sync()
    before = house.ids()
    checksum = house.record("a.txt").checksum
    house.rename("a.txt", "new folder/c.txt")
    report = house.sync()
    house.check()
    assert house.ids() == {b"b.txt": before[b"b.txt"], b"new folder/c.txt": before[b"a.txt"]}
    assert house.record("new folder/c.txt").checksum == checksum
    assert (report.moved, report.removed, report.counts.added) == (1, 0, 1)
    assert report.run is not None
    assert (report.run.files_added, report.run.files_updated) == (0, 1)
    (operation,) = house.engine.registry.operations(before[b"a.txt"], 10)
    assert operation.operation_type == "move"


def test_many_renames_in_one_pass_keep_all_ids(house: House):
    for number in range(120):
        house.write(f"old/{number}", b"%d" % number)
    house.sync()
    before = house.ids()
    for number in range(120):
        house.rename(f"old/{number}", f"new/{number % 7}/{number}")
    report = house.sync()
    house.check()
    assert (report.moved, report.removed) == (120, 0)
    assert {path.rpartition(b"/")[2]: file_id for path, file_id in house.ids().items()} == {
        path.rpartition(b"/")[2]: file_id for path, file_id in before.items()
    }


def test_a_renamed_folder_keeps_all_ids_and_hashes_nothing_again(house: House):
    for number in range(3_000):
        house.write(f"photos/{number % 30}/{number}.jpg", b"%d" % number)
    house.sync()
    before = house.records()
    house.rename("photos", "pictures/2026")
    report = house.sync()
    assert (report.moved, report.removed, report.hashes.hashed) == (3_000, 0, 0)
    after = house.records()
    assert {
        (path.replace(b"pictures/2026/", b"photos/", 1), record.file_id, record.checksum)
        for path, record in after.items()
    } == {(path, record.file_id, record.checksum) for path, record in before.items()}
    house.check()


def test_a_renamed_folder_of_which_a_file_changed_hashes_that_one(house: House):
    for number in range(20):
        house.write(f"d/{number}", b"%d" % number)
    house.sync()
    before = house.ids()
    house.rename("d", "e")
    house.write("e/7", b"changed after the rename")
    report = house.sync()
    house.check()
    assert (report.moved, report.removed, report.hashes.hashed) == (19, 1, 1)
    assert house.ids()[b"e/8"] == before[b"d/8"]
    assert house.ids()[b"e/7"] != before[b"d/7"]  # neither path nor size nor time is the old one


def test_a_rename_onto_a_tracked_path_leaves_the_destinations_id(house: House):
    house.write("a", b"content of a")
    house.write("b", b"content of b, longer")
    house.sync()
    before = house.ids()
    os.replace(house.path("a"), house.path("b"))
    house.sync()
    house.check()
    assert house.ids() == {b"b": before[b"b"]}
    assert house.by_id(before[b"a"]).state is LifecycleState.DELETED
    assert house.record("b").version == 2


def test_renames_onto_tracked_paths_leave_every_destinations_id(house: House):
    # So many that the first pass takes some milliseconds: ids must not decide by their time.
    for number in range(200):
        house.write(f"a/{number}", b"a%d" % number)
        house.write(f"b/{number}", b"b%d" % number)
    house.sync()
    before = house.ids()
    for number in range(60):
        os.replace(house.path(f"a/{number}"), house.path(f"b/{number}"))
    house.sync()
    house.check()
    after = house.ids()
    assert {path: before[path] for path in after} == after
    assert all(
        house.by_id(before[b"a/%d" % number]).state is LifecycleState.DELETED
        for number in range(60)
    )


def test_two_files_that_swap_names_keep_the_ids_of_the_names(house: House):
    house.write("a", b"content of a")
    house.write("b", b"content of b")
    house.sync()
    before = house.records()
    os.rename(house.path("a"), house.path("c"))
    os.rename(house.path("b"), house.path("a"))
    os.rename(house.path("c"), house.path("b"))
    house.sync()
    house.check()
    after = house.records()
    assert after[b"a"].file_id == before[b"a"].file_id
    assert after[b"b"].file_id == before[b"b"].file_id
    assert after[b"a"].checksum == before[b"b"].checksum


def test_two_folders_that_swap_names_keep_the_ids_of_the_paths(house: House):
    for number in range(10):
        house.write(f"a/{number}", b"a%d" % number)
        house.write(f"b/{number}", b"b%d" % number)
    house.write("a/only in a")
    house.sync()
    before = house.ids()
    os.rename(house.path("a"), house.path("c"))
    os.rename(house.path("b"), house.path("a"))
    os.rename(house.path("c"), house.path("b"))
    house.sync()
    house.check()
    after = house.ids()
    assert after.pop(b"b/only in a") == before.pop(b"a/only in a")
    assert after == before


def test_a_rotation_of_logs_keeps_the_id_of_what_leaves(house: House):
    for number in range(3):
        house.write(f"log.{number}", b"lines %d" % number)
    house.sync()
    before = house.ids()
    os.rename(house.path("log.2"), house.path("log.3"))
    os.rename(house.path("log.1"), house.path("log.2"))
    os.rename(house.path("log.0"), house.path("log.1"))
    house.write("log.0", b"new")
    house.sync()
    house.check()
    after = house.ids()
    assert [after[b"log.%d" % number] for number in range(3)] == [
        before[b"log.%d" % number] for number in range(3)
    ]
    assert after[b"log.3"] not in before.values()


def test_a_folder_removed_and_made_again_keeps_the_ids_of_its_paths(house: House):
    for number in range(10):
        house.write(f"d/{number}", b"old %d" % number)
    house.sync()
    before = house.ids()
    shutil.rmtree(house.path("d").decode())
    for number in range(5):
        house.write(f"d/{number}", b"new %d" % number)
    house.write("d/new one")
    house.sync()
    house.check()
    after = house.ids()
    assert after.pop(b"d/new one") not in before.values()
    assert after == {path: file_id for path, file_id in before.items() if path in after}


def test_a_file_moved_out_written_and_moved_back_stays_itself(house: House):
    house.write("d/f", b"first")
    house.sync()
    before = house.record("d/f").file_id
    os.rename(house.path("d/f"), house.base / "outside")
    (house.base / "outside").write_bytes(b"second")
    os.rename(house.base / "outside", house.path("d/f"))
    house.sync()
    house.check()
    assert house.record("d/f").file_id == before


def test_a_file_moved_twice_between_passes_is_still_itself(house: House):
    house.write("a", b"content")
    house.sync()
    before = house.record("a").file_id
    house.rename("a", "b/c")
    house.rename("b", "d")
    house.sync()
    house.check()
    assert house.ids() == {b"d/c": before}


def test_a_file_moved_at_every_pass_is_still_itself(house: House):
    house.write("0", b"content")
    house.sync()
    before = house.record("0").file_id
    for number in range(5):
        house.rename(f"{number}", f"{number + 1}")
        house.sync(hashes=number % 2 == 0)
        house.check()
    assert house.ids() == {b"5": before}


def test_a_rename_that_was_not_hashed_yet_keeps_its_checksum_in_doubt(house: House):
    house.write("a", b"content")
    house.sync()
    before = house.record("a")
    house.rename("a", "b")
    house.sync(hashes=False)
    moved = house.record("b")
    assert (moved.file_id, moved.checksum, moved.hash_due) == (
        before.file_id,
        before.checksum,
        True,
    )
    house.sync()
    house.check()
    assert house.record("b").file_id == before.file_id


def _reuse_inode(house: House, old: str, new: str, content: bytes) -> bool:
    """Remove `old` and make `new` with its inode, its mtime and its size, if the disk does that."""
    status = house.stat(old)
    assert len(content) == status.st_size
    house.remove(old)
    house.write(new, content)
    house.keep_times(new, status)
    return house.stat(new).st_ino == status.st_ino


def test_another_file_in_a_reused_inode_is_split_off_when_its_hash_disagrees(house: House):
    house.write("old", b"content")
    house.sync()
    before = house.record("old")
    if not _reuse_inode(house, "old", "new", b"CONTENT"):
        pytest.skip("this filesystem did not reuse the inode")
    report = house.sync()
    house.check()
    after = house.record("new")
    assert after.file_id != before.file_id
    gone = house.by_id(before.file_id)
    assert (gone.state, gone.path, gone.checksum) == (
        LifecycleState.DELETED,
        b"old",
        before.checksum,
    )
    assert report.hashes.hashed == 1
    house.sync()
    house.check()
    assert house.record("new") == after or house.record("new").file_id == after.file_id


def test_a_file_changed_and_renamed_before_it_could_be_hashed_stays_itself(house: House):
    house.write("a", b"first")
    house.sync()
    before = house.record("a").file_id
    house.write("a", b"second, not hashed yet")
    house.sync(hashes=False)
    house.rename("a", "b")
    house.sync()
    house.check()
    assert house.ids() == {b"b": before}


def test_a_file_renamed_and_changed_before_it_could_be_hashed_stays_itself(house: House):
    house.write("a", b"first")
    house.sync()
    before = house.record("a").file_id
    house.rename("a", "b")
    house.sync(hashes=False)
    house.write("b", b"second, after the rename")
    house.sync()
    house.check()
    assert house.ids() == {b"b": before}
    assert house.record("b").version == 2


def test_a_rename_that_changes_the_type_changes_type_and_policy(house: House):
    house.write("scan.pdf")
    house.sync()
    before = house.record("scan.pdf")
    house.rename("scan.pdf", "scan.jpg")
    house.sync()
    after = house.record("scan.jpg")
    assert after.file_id == before.file_id
    assert (before.file_type, before.policy_name) == ("document", "documents")
    assert (after.file_type, after.policy_name) == ("image", "media")


def test_a_rename_leaves_a_policy_that_was_chosen(house: House):
    house.write("scan.pdf")
    house.add()
    chosen = house.engine.register_file(os.fsdecode(house.path("scan.pdf")), "archives")
    house.sync()
    house.rename("scan.pdf", "scan.jpg")
    house.sync()
    after = house.record("scan.jpg")
    assert (after.file_id, after.policy_name) == (chosen.file_id, "archives")


def test_hard_links_that_move_together_keep_two_ids(house: House):
    house.write("d/a")
    os.link(house.path("d/a"), house.path("d/b"))
    house.sync()
    before = set(house.ids().values())
    house.rename("d", "e")
    house.sync()
    house.check()
    assert set(house.ids().values()) == before


def test_a_file_hidden_from_the_rules_by_its_new_name_is_deleted(house: House):
    house.write("f")
    house.sync()
    before = house.record("f").file_id
    house.rename("f", "f.bak")
    house.sync()
    house.check()
    assert house.by_id(before).state is LifecycleState.DELETED


def test_a_copy_gets_an_id_of_its_own(house: House):
    house.write("f")
    house.sync()
    before = house.record("f").file_id
    shutil.copy2(os.fsdecode(house.path("f")), os.fsdecode(house.path("copy")))
    house.sync()
    house.check()
    assert house.ids()[b"f"] == before != house.ids()[b"copy"]
