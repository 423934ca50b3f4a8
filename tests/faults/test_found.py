"""Points at which something was once lost, left over or told wrong; each by itself."""

from __future__ import annotations

from tests.support.points import Case
from tests.support.workloads import SCANS, WORKLOADS


def at(
    workload: str, words: str, nth: int = 1, *, after: bool = False, fault: str = "kill"
) -> None:
    """At the nth step that begins so (0: the last)."""
    case = Case(WORKLOADS[workload], fault)
    case.try_point(case.point_at(words, nth, after=after))


def test_a_vault_whose_making_was_cut_off_keeps_no_order_from_beginning():
    at("backup-first", "mkdir packs", after=True)


def test_a_batch_whose_sidecar_was_never_written_is_swept():
    at("delete", "create .batch.jsonl", after=True)


def test_an_undelete_is_finished_though_the_trash_has_another_entry_of_the_file():
    at("undelete-of-two", "rename_noreplace", 1, after=True)


def test_an_undelete_that_was_cut_off_between_link_and_unlink_is_finished():
    at("undelete-plain", "link", after=True)


def test_a_restore_that_made_no_room_brings_back_nothing_that_was_replaced_before():
    at("restore-after-replacement", "create", 4)


def test_staging_is_removed_though_nothing_is_pending():
    at("recall", "mkdir tmp", after=True)


def test_a_file_with_several_names_leaves_none_in_the_staging():
    at("recall", "unlink 1-")


def test_a_file_that_came_back_and_cannot_be_looked_at_is_known_to_be_back():
    at("undelete", "stat a.txt", 0, fault="eio")


def test_a_restore_that_fails_when_files_have_their_places_is_judged_by_what_is_there():
    at("recall", "syncfs", 0, fault="eio")


def test_what_made_room_goes_back_where_the_trash_cannot_be_made_durable():
    at("restore-replace", "syncfs", 2, fault="eio")


def test_an_error_of_the_system_comes_out_of_an_order_as_one_of_ours():
    at("recall", "make_directories", fault="eio")
    at("delete", "syncfs", fault="eio")


def test_a_file_saved_over_one_that_was_just_restored_is_not_taken_for_it():
    at("restore-replace", "stat sparse", 0, fault="replace")


def test_a_copy_that_goes_on_removes_what_a_killed_one_had_begun():
    at("copy", "create .tmp", 0, after=True)


def test_a_copy_whose_making_was_cut_off_gets_its_sums():
    at("copy", "rename .tmp", 2, after=True)


def test_what_is_damaged_waits_for_a_copy_that_does_not_open_and_is_healed_at_once_then():
    at("heal-copy", "open_read_stat FORMAT", 6, fault="eio")


def test_a_rewriting_that_goes_on_removes_what_a_killed_one_had_begun():
    at("rewrite", "create .tmp", 0, after=True)


def test_a_file_deleted_between_its_listing_and_its_record_is_no_new_one():
    case = Case(SCANS["delete"], "delete")
    case.try_point(case.point_at("open_directory d"))
