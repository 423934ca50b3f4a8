"""The contract of a registry: which files are to be hashed, and what came of it."""

from __future__ import annotations

from hashlib import sha256

import pytest

from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.file import FileFlag, Kind, LifecycleState
from lifecycle_sync.model.record import HashCounts, HashResult
from lifecycle_sync.testing.memory_tree import read
from lifecycle_sync.testing.registry_contract_base import (
    MANY,
    House,
    RegistryContractBase,
)

_S = LifecycleState
OLD, NEW = b"old".ljust(32), b"new".ljust(32)


class HashContract(RegistryContractBase):
    """`HashStore`."""

    # -- what is due -----------------------------------------------------------------------

    def test_a_task_says_where_the_file_is_and_what_is_known_of_it(self, house: House) -> None:
        house.write(b"a/b/one.txt", b"two.txt")
        house.scan()
        entry = house.tree.files[b"a/b/one.txt"]
        assert house.task(b"a/b/one.txt") == (
            house.row_id(b"a/b/one.txt"),
            b"a/b",
            b"one.txt",
            entry.size,
            entry.mtime_ns,
            entry.ctime_ns,
            entry.inode,
        )
        assert house.task(b"two.txt").directory == b""

    def test_tasks_come_by_row_in_pages_and_of_this_repository_alone(self, house: House) -> None:
        _, tree, scanner = house.other_root()
        tree.write(b"other")
        scanner.scan()
        house.write(*(b"%d" % number for number in range(7)))
        house.scan()
        tasks, after = [], 0
        while page := house.registry.to_hash(house.root, after, 3):
            assert len(page) <= 3
            tasks += page
            after = page[-1].row_id
        assert [task.row_id for task in tasks] == sorted(
            house.row_id(b"%d" % number) for number in range(7)
        )

    def test_the_totals_are_those_of_the_tasks(self, house: House) -> None:
        house.settled(b"hashed.txt")
        house.write(b"due.txt", b"missing.txt", b"ignored.txt", b"unregistered.txt", b"gone.txt")
        house.tree.write(b"link", b"target", kind=Kind.SYMLINK)
        house.scan()
        house.registry.unregister(house.record(b"unregistered.txt").file_id, house.tick())
        house.tree.remove(b"gone.txt")
        house.tree.ignored.add(b"ignored.txt")
        house.scan()
        house.tree.remove(b"missing.txt")
        house.scan_without_settling()
        assert house.due() == {b"due.txt"}
        size = house.tree.files[b"due.txt"].size
        assert house.registry.to_hash_totals(house.root) == (1, size)

    def test_nothing_is_due_when_all_is_hashed(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        assert house.due() == set()
        assert house.registry.to_hash_totals(house.root) == (0, 0)

    def test_to_be_scrubbed_is_what_was_hashed_and_is_there(self, house: House) -> None:
        house.settled(b"1", b"2", b"3", b"4", b"5", b"6")
        house.tree.write(b"link", b"target", kind=Kind.SYMLINK)
        house.write(b"unhashed")
        house.tree.write(b"2", b"changed")
        house.tree.ignored = {b"3"}
        house.tree.remove(b"4")
        house.scan()
        house.registry.unregister(house.record(b"5").file_id, house.tick())
        house.tree.remove(b"6")
        house.scan_without_settling()
        tasks = house.registry.to_scrub(house.root, 0, MANY)
        assert [task.name for task in tasks] == [b"1", b"2"]
        first = tasks[0]
        assert house.registry.to_scrub(house.root, 0, 1) == [first]
        assert house.registry.to_scrub(house.root, first.row_id, MANY) == tasks[1:]

    # -- ok --------------------------------------------------------------------------------

    def test_a_digest_is_stored_and_the_file_is_no_longer_due(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        before = house.record(b"one.txt")
        counts = house.store(house.result(b"one.txt", OLD))
        house.reopen()
        after = house.record(b"one.txt")
        assert (after.checksum, after.algorithm, after.hash_due) == (OLD, "sha256", False)
        assert (after.version, after.state) == (1, _S.UPLOADED)
        assert after.seq > before.seq
        assert after.changed_ns == house.now_ns
        assert counts == HashCounts(hashed=1)

    def test_the_algorithm_is_kept_with_the_digest(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        house.store(house.result(b"one.txt", OLD), algorithm="blake3")
        assert house.record(b"one.txt").algorithm == "blake3"

    def test_another_digest_of_a_file_that_was_due_is_a_change(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        house.registry.set_state(file_id, _S.BACKUP_PENDING, house.tick())
        house.tree.touch(b"one.txt")
        house.scan()
        counts = house.store(house.result(b"one.txt", NEW))
        record = house.record(b"one.txt")
        assert (record.checksum, record.version, record.state) == (NEW, 2, _S.UPLOADED)
        assert record.state_since_ns == house.now_ns
        assert (record.file_id, record.hash_due) == (file_id, False)
        assert counts == HashCounts(hashed=1, changed=1)

    def test_the_same_digest_of_a_file_that_was_due_is_no_change(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        house.registry.set_state(before.file_id, _S.BACKUP_PENDING, house.tick())
        house.tree.touch(b"one.txt")
        house.scan()
        counts = house.store(house.result(b"one.txt", before.checksum))
        record = house.record(b"one.txt")
        assert (record.checksum, record.version) == (before.checksum, 1)
        assert (record.state, record.hash_due) == (_S.BACKUP_PENDING, False)
        assert counts == HashCounts(hashed=1)

    def test_a_version_grows_with_each_changed_content_and_with_nothing_else(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        for number in range(2, 5):
            house.tree.write(b"one.txt", b"content %d" % number)
            house.scan()
            assert house.record(b"one.txt").version == number - 1
            house.hash()
            assert house.record(b"one.txt").version == number
            house.tree.touch(b"one.txt")
            house.scan()
            house.hash()
            assert house.record(b"one.txt").version == number

    def test_a_racy_digest_is_stored_and_the_file_stays_due(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        house.store(house.result(b"one.txt", OLD)._replace(racy=True))
        record = house.record(b"one.txt")
        assert (record.checksum, record.hash_due) == (OLD, True)
        assert record.flags == FileFlag.RACY
        assert house.due() == {b"one.txt"}

    def test_a_racy_digest_that_changes_is_a_change_and_no_damage(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        house.store(house.result(b"one.txt", OLD)._replace(racy=True))
        counts = house.store(house.result(b"one.txt", NEW))
        record = house.record(b"one.txt")
        assert (record.checksum, record.version, record.flags) == (NEW, 2, FileFlag(0))
        assert counts == HashCounts(hashed=1, changed=1)

    def test_a_newer_tuple_is_stored_with_its_digest(self, house: House) -> None:
        house.settled(b"one.txt")
        house.tick()
        house.tree.save(b"one.txt", b"longer than it was")
        (task,) = house.registry.to_scrub(house.root, 0, MANY)
        counts = house.store(read(house.tree, task))
        record, entry = house.record(b"one.txt"), house.tree.files[b"one.txt"]
        seen = (record.size, record.mtime_ns, record.ctime_ns, record.inode)
        assert seen == (entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
        assert (record.version, record.hash_due, record.flags) == (2, False, FileFlag(0))
        assert record.checksum == sha256(entry.content).digest()
        assert counts == HashCounts(hashed=1, changed=1)
        house.scan()
        assert house.due() == set()

    def test_what_a_hash_does_not_see_is_brought_in_step_by_the_next_scan(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        house.tick()
        house.tree.edit(b"one.txt", mode=0o100600, nlink=2, ctime_ns=house.now_ns)
        (task,) = house.registry.to_scrub(house.root, 0, MANY)
        house.store(read(house.tree, task))
        assert house.record(b"one.txt").ctime_ns == house.tree.files[b"one.txt"].ctime_ns
        house.scan()
        after = house.record(b"one.txt")
        assert (after.mode, after.nlink) == (0o100600, 2)
        assert (after.hash_due, after.version, after.flags) == (False, 1, FileFlag(0))

    def test_a_digest_of_an_older_tuple_does_not_hide_the_newer_one(self, house: House) -> None:
        # The file was hashed, then written, then scanned, and only now the hash arrives.
        house.write(b"one.txt")
        house.scan()
        late = read(house.tree, house.task(b"one.txt"))
        house.tick()
        house.tree.write(b"one.txt", b"written since")
        house.scan()
        house.store(late)
        house.scan()
        house.hash()
        record = house.record(b"one.txt")
        assert record.size == len(b"written since")
        assert record.checksum == sha256(b"written since").digest()

    def test_a_digest_by_another_algorithm_is_neither_damage_nor_a_change(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        counts = house.store(house.result(b"one.txt", NEW), algorithm="blake3")
        record = house.record(b"one.txt")
        assert (record.algorithm, record.checksum, record.version) == ("blake3", NEW, 1)
        assert record.flags == FileFlag(0)
        assert counts == HashCounts(hashed=1)

    # -- suspect ---------------------------------------------------------------------------

    def suspect(self, house: House) -> None:
        """A file whose content changed while nothing says that it was written."""
        house.settled(b"one.txt")
        house.store(house.result(b"one.txt", NEW))

    def test_another_digest_where_nothing_was_due_is_damage(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        house.registry.set_state(before.file_id, _S.BACKUP_PENDING, house.tick())
        counts = house.store(house.result(b"one.txt", NEW))
        record = house.record(b"one.txt")
        assert record.flags == FileFlag.SUSPECT
        assert (record.checksum, record.version) == (before.checksum, 1)
        assert (record.state, record.hash_due) == (_S.BACKUP_PENDING, False)
        assert counts == HashCounts(suspect=1)

    def test_damage_and_its_acceptance_are_in_the_journal_once(self, house: House) -> None:
        self.suspect(house)
        file_id = house.record(b"one.txt").file_id
        house.store(house.result(b"one.txt", NEW))
        house.registry.accept_suspect(file_id, house.tick())
        operations = house.registry.operations(file_id, MANY)
        assert [(op.operation_type, op.status) for op in operations] == [
            ("accept", "completed"),
            ("scrub", "failed"),
        ]

    def test_a_suspect_file_stays_so_however_often_it_is_scrubbed(self, house: House) -> None:
        self.suspect(house)
        before = house.record(b"one.txt")
        counts = house.store(house.result(b"one.txt", NEW))
        assert counts == HashCounts(suspect=1)
        house.store(house.result(b"one.txt", before.checksum))
        record = house.record(b"one.txt")
        assert (record.flags, record.checksum) == (before.flags, before.checksum)

    def test_an_accepted_file_is_due_and_its_new_content_is_a_version(self, house: House) -> None:
        self.suspect(house)
        record = house.record(b"one.txt")
        house.registry.accept_suspect(record.file_id, house.tick())
        record = house.record(b"one.txt")
        assert (record.flags, record.hash_due) == (FileFlag(0), True)
        assert house.due() == {b"one.txt"}
        house.store(house.result(b"one.txt", NEW))
        record = house.record(b"one.txt")
        assert (record.checksum, record.version, record.flags) == (NEW, 2, FileFlag(0))

    def test_accepting_a_file_that_is_not_there_is_refused(self, house: House) -> None:
        with pytest.raises(NotFoundError):
            house.registry.accept_suspect(house.ids.one(), house.now_ns)

    def test_a_suspect_file_that_is_written_is_suspect_no_more(self, house: House) -> None:
        self.suspect(house)
        house.tree.write(b"one.txt", b"written on purpose")
        house.scan()
        house.hash()
        record = house.record(b"one.txt")
        assert (record.flags, record.version) == (FileFlag(0), 2)

    # -- not ok ----------------------------------------------------------------------------

    def test_an_unstable_file_keeps_its_digest_and_is_processing_until_it_is_hashed(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        house.tree.write(b"one.txt", b"other")
        house.scan()
        before = house.record(b"one.txt")
        counts = house.store(HashResult(house.row_id(b"one.txt"), "unstable"))
        record = house.record(b"one.txt")
        assert (record.flags, record.state) == (FileFlag.UNSTABLE, _S.PROCESSING)
        assert (record.checksum, record.hash_due) == (before.checksum, True)
        assert record.size == before.size
        assert counts == HashCounts(unstable=1)
        house.hash()
        record = house.record(b"one.txt")
        assert (record.flags, record.state) == (FileFlag(0), _S.UPLOADED)

    def test_an_unreadable_file_keeps_its_digest_and_stays_due(self, house: House) -> None:
        house.settled(b"one.txt")
        house.tree.write(b"one.txt", b"other")
        house.scan()
        before = house.record(b"one.txt")
        counts = house.store(
            HashResult(house.row_id(b"one.txt"), "unreadable", error="permission denied")
        )
        record = house.record(b"one.txt")
        assert (record.flags, record.state) == (FileFlag.UNREADABLE, _S.UPLOADED)
        assert (record.checksum, record.hash_due) == (before.checksum, True)
        assert counts == HashCounts(failed=1)
        house.hash()
        assert house.record(b"one.txt").flags == FileFlag(0)

    def test_a_file_that_is_unreadable_again_and_again_has_changed_once(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        result = HashResult(house.row_id(b"one.txt"), "unreadable", error="permission denied")
        house.store(result)
        seq = house.registry.last_seq()
        house.store(result)
        assert house.registry.last_seq() == seq

    @pytest.mark.parametrize("status", ["vanished", "not_regular"])
    def test_what_is_not_there_any_more_is_left_to_the_next_scan(
        self, house: House, status: str
    ) -> None:
        house.settled(b"one.txt")
        before = house.everything()
        counts = house.store(HashResult(house.row_id(b"one.txt"), status))
        assert (counts.hashed, counts.changed, counts.suspect) == (0, 0, 0)
        assert house.everything() == before

    def test_a_claimed_file_stays_claimed_when_it_is_hashed(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        house.registry.set_state(
            file_id, _S.PROCESSING, house.tick(), set_flags=FileFlag.CLAIMED.value
        )
        house.tree.write(b"one.txt", b"other")
        house.scan()
        house.hash()
        record = house.record(b"one.txt")
        assert (record.state, record.flags) == (_S.PROCESSING, FileFlag.CLAIMED)
        assert record.version == 2

    def test_results_for_rows_that_went_are_passed_over(self, house: House) -> None:
        house.settled(b"deleted.txt", b"one.txt")
        late = house.result(b"deleted.txt", NEW)
        house.tree.remove(b"deleted.txt")
        house.tree.write(b"one.txt", b"other")
        house.scan()
        deleted = house.record(b"deleted.txt")
        counts = house.store(late, HashResult(987654, "ok", NEW), house.result(b"one.txt", NEW))
        assert counts == HashCounts(hashed=1, changed=1)
        assert house.record(b"deleted.txt") == deleted

    @pytest.mark.parametrize("racy", [True, False])
    def test_a_digest_that_comes_late_for_what_is_a_symlink_now_is_passed_over(
        self, house: House, racy: bool
    ) -> None:
        house.write(b"one.txt")
        house.scan()
        late = read(house.tree, house.task(b"one.txt"))
        house.tree.write(b"one.txt", b"target", kind=Kind.SYMLINK)
        house.scan()
        before = house.record(b"one.txt")
        counts = house.store(late._replace(racy=racy))
        assert counts == HashCounts()
        assert house.record(b"one.txt") == before
        assert house.due() == set()

    def test_many_results_are_counted_together(self, house: House) -> None:
        house.settled(b"1", b"2", b"3", b"4")
        for path in (b"1", b"2"):
            house.tree.touch(path)
        house.scan()
        counts = house.store(
            house.result(b"1", NEW),
            house.result(b"2", house.record(b"2").checksum),
            house.result(b"3", NEW),
            HashResult(house.row_id(b"4"), "unreadable"),
        )
        assert counts == HashCounts(hashed=2, changed=1, suspect=1, failed=1)

    def test_a_hash_that_confirms_what_is_known_changes_nothing(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        counts = house.store(house.result(b"one.txt", before.checksum))
        assert counts == HashCounts(hashed=1)
        assert house.record(b"one.txt") == before
