"""The contract of a registry: counts, sums, duplicates and the feed of changes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lifecycle_sync.model.file import FileFlag, FileType, Kind, LifecycleState
from lifecycle_sync.model.record import Duplicates, FolderTotal, TypeCount
from lifecycle_sync.testing.registry_contract_base import (
    MANY,
    House,
    RegistryContractBase,
)

_S, _T = LifecycleState, FileType
ORDERS = ["path", "size", "mtime", "seq"]


class SumContract(RegistryContractBase):
    """Counts, sums and the feed of changes."""

    # -- counts ----------------------------------------------------------------------------

    def test_records_are_counted_by_state_and_type_with_their_bytes(self, house: House) -> None:
        other, tree, scanner = house.other_root()
        tree.write(b"o.txt", b"12345")
        scanner.scan()
        for path, size in ((b"1.txt", 1), (b"2.txt", 2), (b"3.jpg", 4), (b"4", 8), (b"5.txt", 16)):
            house.tree.write(path, b"x" * size)
        house.scan()
        house.registry.set_state(house.record(b"3.jpg").file_id, _S.EXPIRED, house.tick())
        house.tree.remove(b"4")
        house.scan()
        house.registry.unregister(house.record(b"5.txt").file_id, house.tick())
        mine = {
            TypeCount(_S.UPLOADED, _T.DOCUMENT, 2, 3),
            TypeCount(_S.EXPIRED, _T.IMAGE, 1, 4),
            TypeCount(_S.DELETED, _T.OTHER, 1, 8),
        }
        assert set(house.registry.type_counts(house.root)) == mine
        assert house.registry.type_counts(other) == [TypeCount(_S.UPLOADED, _T.DOCUMENT, 1, 5)]
        both = mine - {TypeCount(_S.UPLOADED, _T.DOCUMENT, 2, 3)}
        assert set(house.registry.type_counts(None)) == both | {
            TypeCount(_S.UPLOADED, _T.DOCUMENT, 3, 8)
        }

    def test_flags_are_counted_among_live_tracked_records(self, house: House) -> None:
        other, tree, scanner = house.other_root()
        tree.write(b"o.txt")
        tree.edit(b"o.txt", racy=True)
        scanner.scan()
        house.write(b"1", b"2", b"3", b"4")
        for path in (b"1", b"2", b"3"):
            house.tree.edit(path, racy=True)
        house.scan()
        house.tree.remove(b"2")
        house.scan()
        house.registry.unregister(house.record(b"3").file_id, house.tick())
        racy = FileFlag.RACY.value
        assert house.registry.flag_count(house.root, racy) == 1
        assert house.registry.flag_count(None, racy) == 2
        assert house.registry.flag_count(other, racy) == 1
        assert house.registry.flag_count(None, FileFlag.SUSPECT.value) == 0

    def test_the_largest_come_first_and_at_most_as_many_as_asked(self, house: House) -> None:
        _, tree, scanner = house.other_root()
        tree.write(b"o", b"x" * 50)
        scanner.scan()
        for size in (10, 40, 20, 30, 60):
            house.tree.write(b"%d" % size, b"x" * size)
        house.scan()
        house.tree.remove(b"60")
        house.scan()
        mine = house.registry.largest(house.root, 3)
        assert [record.path for record in mine] == [b"40", b"30", b"20"]
        assert [record.path for record in house.registry.largest(None, 2)] == [b"o", b"40"]

    # -- duplicates ------------------------------------------------------------------------

    def paths(self, groups: Sequence[Duplicates]) -> list[set[bytes]]:
        return [{record.path for record in group.records} for group in groups]

    def test_files_with_one_content_are_duplicates(self, house: House) -> None:
        for path in (b"1", b"a/2", b"3"):
            house.tree.write(path, b"same")
        house.write(b"other")
        house.scan()
        house.hash()
        groups, cursor = house.registry.duplicates(house.root, None, MANY)
        assert self.paths(groups) == [{b"1", b"a/2", b"3"}]
        assert (groups[0].size, groups[0].checksum) == (4, house.record(b"1").checksum)
        assert house.record(b"1") in groups[0].records
        assert cursor is None or house.registry.duplicates(house.root, cursor, MANY) == ([], None)

    def test_files_are_found_by_their_content(self, house: House) -> None:
        for path in (b"1", b"a/2", b"gone"):
            house.tree.write(path, b"same")
        house.write(b"other")
        house.scan()
        house.hash()
        house.tree.remove(b"gone")
        house.scan()
        checksum = house.record(b"1").checksum
        assert checksum is not None
        found = house.registry.with_content("sha256", checksum, MANY)
        assert {record.path for record in found} == {b"1", b"a/2"}
        assert len(house.registry.with_content("sha256", checksum, 1)) == 1
        assert house.registry.with_content("blake3", checksum, MANY) == []
        assert house.registry.with_content("sha256", bytes(32), MANY) == []

    def test_several_names_of_one_inode_are_one_file(self, house: House) -> None:
        house.tree.write(b"1", b"same")
        house.tree.link(b"1", b"2")
        house.scan()
        house.hash()
        assert house.registry.duplicates(house.root, None, MANY)[0] == []
        house.tree.write(b"3", b"same")
        house.scan()
        house.hash()
        (group,) = house.registry.duplicates(house.root, None, MANY)[0]
        inodes = {record.inode for record in group.records}
        assert inodes == {house.tree.files[b"1"].inode, house.tree.files[b"3"].inode}

    def test_one_inode_number_in_two_roots_is_two_files(self, house: House) -> None:
        _, tree, scanner = house.other_root()
        house.settled(b"1")
        tree.write(b"2", house.tree.files[b"1"].content)
        tree.edit(b"2", inode=house.tree.files[b"1"].inode)
        scanner.scan()
        (other,) = [r for r in house.registry.repositories() if r.repository_id != house.root]
        tasks = house.registry.to_hash(other.repository_id, 0, MANY)
        digest = house.record(b"1").checksum
        house.store(
            house.result(b"1", digest)._replace(
                row_id=tasks[0].row_id,
                mtime_ns=tasks[0].mtime_ns,
                ctime_ns=tasks[0].ctime_ns,
            )
        )
        (group,) = house.registry.duplicates(None, None, MANY)[0]
        assert self.paths([group]) == [{b"1", b"2"}]
        assert house.registry.duplicates(house.root, None, MANY)[0] == []

    def test_what_is_empty_deleted_or_not_tracked_is_no_duplicate(self, house: House) -> None:
        for path in (b"empty 1", b"empty 2"):
            house.tree.write(path, b"")
        for path in (b"1", b"deleted", b"ignored", b"unregistered"):
            house.tree.write(path, b"same")
        for path in (b"link 1", b"link 2"):
            house.tree.write(path, b"target", kind=Kind.SYMLINK)
        house.write(b"unhashed")
        house.scan()
        house.hash()
        house.tree.remove(b"deleted")
        house.tree.ignored.add(b"ignored")
        house.scan()
        house.registry.unregister(house.record(b"unregistered").file_id, house.tick())
        assert house.registry.duplicates(house.root, None, MANY)[0] == []

    def test_digests_of_two_algorithms_say_nothing_of_each_other(self, house: House) -> None:
        house.write(b"1", b"2")
        house.scan()
        house.store(house.result(b"1", b"x" * 32))
        house.store(house.result(b"2", b"x" * 32), algorithm="blake3")
        assert house.registry.duplicates(None, None, MANY)[0] == []

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    def test_groups_come_by_checksum_in_pages_that_cover_all_once(
        self, house: House, limit: int
    ) -> None:
        digests = [
            start.ljust(32, b"\0")
            for start in (b"a", b"b", b"sameA", b"sameB", b"sameC", b"z", b"\xff")
        ]
        for digest in digests:
            for copy in (b"1", b"2", b"3"):
                house.write(digest[:5].hex().encode() + copy)
        house.write(b"alone")
        house.scan()
        for digest in digests:
            for copy in (b"1", b"2", b"3"):
                house.store(house.result(digest[:5].hex().encode() + copy, digest))
        found, cursor = [], None
        while True:
            groups, cursor = house.registry.duplicates(house.root, cursor, limit)
            assert len(groups) <= limit
            found += groups
            if cursor is None:
                break
        assert [group.checksum for group in found] == digests
        assert {len(group.records) for group in found} == {3}

    # -- folders ---------------------------------------------------------------------------

    def test_the_top_folders_are_the_direct_ones_with_all_below_them(self, house: House) -> None:
        for path, size in (
            (b"big/1", 10),
            (b"deep/a/b/2", 40),
            (b"deep/3", 5),
            (b"bi/4", 7),
            (b"root file", 100),
            (b"big!/5", 1),
            (b"\xff/6", 2),
        ):
            house.tree.write(path, b"x" * size)
        house.scan()
        top = house.registry.top_folders(house.root, b"", MANY)
        assert top == [
            FolderTotal(b"deep", 2, 45),
            FolderTotal(b"big", 1, 10),
            FolderTotal(b"bi", 1, 7),
            FolderTotal(b"\xff", 1, 2),
            FolderTotal(b"big!", 1, 1),
        ]
        assert house.registry.top_folders(house.root, b"", 2) == top[:2]
        assert house.registry.top_folders(house.root, b"deep", MANY) == [
            FolderTotal(b"deep/a", 1, 40)
        ]
        assert house.registry.top_folders(house.root, b"big", MANY) == []
        assert house.registry.top_folders(house.root, b"nowhere", MANY) == []

    def test_a_folder_that_is_gone_is_no_top_folder(self, house: House) -> None:
        house.settled(b"a/1", b"b/2")
        house.tree.remove(b"a")
        house.scan()
        assert [total.path for total in house.registry.top_folders(house.root, b"", MANY)] == [b"b"]

    # -- changes ---------------------------------------------------------------------------

    def test_changes_come_by_seq_and_each_record_has_its_own(self, house: House) -> None:
        house.settled(b"1", b"2", b"3")
        records = house.registry.changes(0, MANY)
        seqs = [record.seq for record in records]
        assert seqs == sorted(set(seqs))
        assert house.registry.last_seq() >= seqs[-1]
        assert {record.path for record in records} == {b"1", b"2", b"3"}

    def test_changes_in_pages_of_one_miss_nothing(self, house: House) -> None:
        house.settled(b"1", b"2", b"3")
        seen, seq = [], 0
        while page := house.registry.changes(seq, 1):
            (record,) = page
            seen.append(record)
            seq = record.seq
        assert seen == house.registry.changes(0, MANY)

    def test_changes_show_every_tracking_and_state(self, house: House) -> None:
        house.settled(b"deleted", b"ignored", b"unregistered", b"tracked")
        house.tree.remove(b"deleted")
        house.tree.ignored.add(b"ignored")
        house.scan()
        house.registry.unregister(house.record(b"unregistered").file_id, house.tick())
        assert house.changed_since(0) == {b"deleted", b"ignored", b"unregistered", b"tracked"}

    def test_only_what_changed_is_among_the_changes(self, house: House) -> None:
        house.settled(b"1", b"2", b"3", b"a/4")
        seq = house.registry.last_seq()
        house.scan()
        assert house.registry.changes(seq, MANY) == []
        house.tree.write(b"2", b"changed")
        house.tree.remove(b"a")
        house.scan()
        assert house.changed_since(seq) == {b"2", b"a/4"}
        assert house.changed_since(house.registry.last_seq()) == set()

    def test_a_seq_is_never_given_twice_across_reopening(self, house: House) -> None:
        house.settled(b"1")
        seq = house.registry.last_seq()
        house.reopen()
        assert house.registry.last_seq() == seq
        house.settled(b"2")
        assert house.record(b"2").seq > seq
