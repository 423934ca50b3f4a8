"""The contract of a registry: what scans record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lifecycle_sync.model.file import (
    FileFlag,
    FileType,
    Kind,
    LifecycleState,
    Tracking,
)
from lifecycle_sync.testing.registry_contract_base import (
    SECOND_NS,
    House,
    RegistryContractBase,
    state_of,
)

_S, _T = LifecycleState, Tracking
NEW = (_S.UPLOADED, _T.TRACKED, FileFlag(0))


class ScanContract(RegistryContractBase):
    """`directories`, `directory_paths`, `files_in`, `record_scan`."""

    # -- added -----------------------------------------------------------------------------

    def test_an_added_file_is_recorded_with_all_that_was_seen(self, house: House) -> None:
        house.tree.write(b"a/one.txt", b"four")
        house.tree.edit(b"a/one.txt", mtime_ns=5, ctime_ns=-6, inode=-7, mode=0o100600, nlink=3)
        house.scan()
        record = house.record(b"a/one.txt")
        assert (record.path, record.name) == (b"a/one.txt", b"one.txt")
        assert (record.kind, record.file_type) == (Kind.REGULAR, FileType.DOCUMENT)
        assert (record.size, record.mtime_ns, record.ctime_ns, record.inode) == (4, 5, -6, -7)
        assert (record.mode, record.uid, record.gid, record.nlink) == (0o100600, 1000, 100, 3)
        assert (record.atime_ns, record.btime_ns) == (5, None)
        assert record.repository_id == house.root

    def test_an_added_file_is_uploaded_and_due_and_in_its_first_version(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        record = house.record(b"one.txt")
        assert state_of(record) == NEW
        assert (record.hash_due, record.checksum, record.version) == (True, None, 1)
        times = (record.registered_ns, record.state_since_ns, record.changed_ns, record.scanned_ns)
        assert times == (house.now_ns,) * 4

    def test_an_added_file_has_the_id_it_was_given(self, house: House) -> None:
        house.write(b"one.txt", b"two.txt")
        (change,) = house.scanner.batch([house.tree.look(b"")]).changes
        house.record_change(replace(change, added_ids=[b"1" * 16, b"2" * 16]))
        assert house.record(b"one.txt").file_id == b"1" * 16
        assert house.registry.file(b"2" * 16) == house.record(b"two.txt")

    def test_an_added_symlink_is_not_to_be_hashed(self, house: House) -> None:
        house.tree.write(b"link", b"target", kind=Kind.SYMLINK)
        house.scan()
        assert house.record(b"link").kind is Kind.SYMLINK
        assert not house.record(b"link").hash_due
        assert house.due() == set()

    @pytest.mark.parametrize(
        ("name", "policy"),
        [
            (b"a.pdf", "documents"),
            (b"a.JPG", "media"),
            (b"a.mp4", "media"),
            (b"a.ogg", "media"),
            (b"a.zip", "archives"),
            (b"a", "default"),
        ],
    )
    def test_the_policy_of_a_new_file_is_the_one_for_its_type(
        self, house: House, name: bytes, policy: str
    ) -> None:
        house.write(name)
        house.scan()
        record = house.record(name)
        assert (record.policy_name, record.policy_explicit) == (policy, False)

    def test_an_added_file_that_is_racy_says_so(self, house: House) -> None:
        house.write(b"one.txt", b"two.txt")
        house.tree.edit(b"two.txt", racy=True)
        house.scan()
        assert house.record(b"one.txt").flags == FileFlag(0)
        assert house.record(b"two.txt").flags == FileFlag.RACY

    def test_names_are_bytes_of_any_kind(self, house: House) -> None:
        paths = [b"\xff\xfe/\x01\n", b"caf\xc3\xa9", b"cafe\xcc\x81", b"'\"%_*?[", b"n" * 255]
        house.write(*paths)
        house.scan()
        house.reopen()
        assert set(house.found()) == set(paths)
        assert house.record(b"\xff\xfe/\x01\n").name == b"\x01\n"

    def test_numbers_are_kept_to_their_64_bits(self, house: House) -> None:
        house.write(b"one")
        biggest = 2**63 - 1
        house.tree.edit(b"one", mtime_ns=biggest, ctime_ns=-(2**63), inode=-1)
        house.scan()
        record = house.record(b"one")
        assert (record.mtime_ns, record.ctime_ns, record.inode) == (biggest, -(2**63), -1)

    def test_a_file_that_comes_where_one_was_deleted_is_another_one(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        house.tree.remove(b"one.txt")
        house.scan()
        house.write(b"one.txt")
        house.scan()
        after = house.record(b"one.txt")
        assert after.file_id != before.file_id
        assert after.state is _S.UPLOADED
        assert house.file(before.file_id).state is _S.DELETED

    # -- modified --------------------------------------------------------------------------

    def test_a_modified_file_keeps_its_id_and_gets_the_new_tuple(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        house.tick()
        house.tree.save(b"one.txt", b"longer than it was")
        house.tree.edit(b"one.txt", mode=0o100600, nlink=2)
        house.scan()
        entry, after = house.tree.files[b"one.txt"], house.record(b"one.txt")
        assert after.file_id == before.file_id
        seen = (after.size, after.mtime_ns, after.ctime_ns, after.inode, after.mode, after.nlink)
        assert seen == (18, entry.mtime_ns, entry.ctime_ns, entry.inode, 0o100600, 2)
        assert after.seq > before.seq
        assert after.changed_ns == house.now_ns
        assert after.registered_ns == before.registered_ns

    def test_a_modified_file_keeps_checksum_and_version_until_it_is_hashed(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        house.tree.write(b"one.txt", b"other")
        house.scan()
        after = house.record(b"one.txt")
        assert (after.checksum, after.version) == (before.checksum, 1)
        assert after.hash_due
        assert house.due() == {b"one.txt"}

    @pytest.mark.parametrize(
        "state", [s for s in _S if s not in {_S.UPLOADED, _S.DELETED, _S.PROCESSING}]
    )
    def test_changed_content_makes_a_file_uploaded_again(
        self, house: House, state: LifecycleState
    ) -> None:
        house.settled(b"one.txt")
        self.bring_to(house, b"one.txt", state)
        house.tree.write(b"one.txt", b"other")
        house.scan()
        record = house.record(b"one.txt")
        assert record.state is _S.UPLOADED
        assert record.state_since_ns == house.now_ns

    def test_changed_metadata_alone_leaves_the_state_and_asks_for_a_hash(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        self.bring_to(house, b"one.txt", _S.BACKUP_COMPLETE)
        before = house.record(b"one.txt")
        house.tree.touch(b"one.txt")
        house.scan()
        after = house.record(b"one.txt")
        assert (after.state, after.state_since_ns) == (before.state, before.state_since_ns)
        assert after.hash_due
        assert after.ctime_ns == house.tree.files[b"one.txt"].ctime_ns

    def test_a_claimed_file_stays_the_applications_while_it_changes(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        house.registry.set_state(
            file_id, _S.PROCESSING, house.tick(), set_flags=FileFlag.CLAIMED.value
        )
        house.tree.write(b"one.txt", b"other")
        house.scan()
        assert state_of(house.record(b"one.txt")) == (
            _S.PROCESSING,
            _T.TRACKED,
            FileFlag.CLAIMED,
        )
        assert house.record(b"one.txt").size == 5

    def test_an_uploaded_file_that_changes_stays_uploaded_since_it_was(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        house.tree.write(b"one.txt", b"other")
        house.scan()
        assert house.record(b"one.txt").state_since_ns == before.state_since_ns

    def test_a_file_that_became_a_symlink_is_not_to_be_hashed_and_back_again_is(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        house.tick()
        house.tree.write(b"one.txt", b"target", kind=Kind.SYMLINK)
        house.scan()
        record = house.record(b"one.txt")
        assert (record.file_id, record.kind, record.hash_due) == (file_id, Kind.SYMLINK, False)
        assert house.due() == set()
        house.tree.write(b"one.txt", b"bytes")
        house.scan()
        assert house.record(b"one.txt").kind is Kind.REGULAR
        assert house.due() == {b"one.txt"}

    # -- racy and settled ------------------------------------------------------------------

    def test_a_racy_file_that_stays_the_same_is_settled_and_hashed_again(
        self, house: House
    ) -> None:
        house.write(b"one.txt")
        house.tree.edit(b"one.txt", racy=True)
        house.scan()
        house.hash()
        assert (house.record(b"one.txt").flags, house.due()) == (FileFlag.RACY, {b"one.txt"})
        house.tree.edit(b"one.txt", racy=False)
        house.scan()
        record = house.record(b"one.txt")
        assert (record.flags, record.hash_due) == (FileFlag(0), True)
        assert record.state is _S.UPLOADED
        house.hash()
        assert not house.record(b"one.txt").hash_due

    def test_a_modified_file_is_racy_as_it_was_seen_last(self, house: House) -> None:
        house.settled(b"one.txt")
        house.tree.write(b"one.txt", b"other")
        house.tree.edit(b"one.txt", racy=True)
        house.scan()
        assert house.record(b"one.txt").flags == FileFlag.RACY
        house.tick()
        house.tree.write(b"one.txt", b"yet other")
        house.scan()
        assert house.record(b"one.txt").flags == FileFlag(0)

    # -- ignored and returned --------------------------------------------------------------

    def test_an_ignored_file_is_not_tracked_and_not_deleted(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        before = house.record(b"one.txt")
        house.tree.ignored.add(b"one.txt")
        house.scan()
        after = house.record(b"one.txt")
        assert state_of(after) == (before.state, _T.IGNORED, before.flags)
        assert (after.file_id, after.checksum) == (before.file_id, before.checksum)
        assert after.seq > before.seq
        assert house.found() == [b"two.txt"]
        assert house.missing() == []

    def test_a_file_that_is_no_longer_ignored_comes_back_with_its_id(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        before = house.record(b"one.txt")
        house.tree.ignored = {b"one.txt", b"two.txt"}
        house.scan()
        house.tree.ignored.clear()
        house.tree.write(b"two.txt", b"changed while it was ignored")
        house.scan()
        after = house.record(b"one.txt")
        assert (after.file_id, after.tracking) == (before.file_id, _T.TRACKED)
        assert (after.checksum, after.hash_due) == (before.checksum, False)
        assert house.due() == {b"two.txt"}

    def test_a_file_that_returns_leaves_the_missing_ones(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        entry = house.tree.files.pop(b"one.txt")
        house.scan_without_settling()
        assert house.missing_paths() == {b"one.txt"}
        house.tree.files[b"one.txt"] = entry
        house.scan_without_settling()
        assert house.missing() == []
        after = house.record(b"one.txt")
        assert (after.file_id, after.state, after.hash_due) == (before.file_id, _S.UPLOADED, False)

    def test_an_unregistered_file_stays_so_when_it_is_ignored_and_comes_back(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        house.registry.unregister(file_id, house.tick())
        house.tree.ignored.add(b"one.txt")
        house.scan()
        house.tree.ignored.clear()
        house.scan()
        assert house.record(b"one.txt").tracking is _T.UNREGISTERED
        assert house.registry.file(file_id) is not None

    # -- missing ---------------------------------------------------------------------------

    def test_a_missing_file_is_only_noted_with_the_time_it_was_last_seen(
        self, house: House
    ) -> None:
        house.write(b"a/one.txt", b"a/two.txt")
        house.scan()
        house.hash()
        house.scan()
        seen_ns = house.now_ns
        before = house.record(b"a/one.txt")
        house.tree.remove(b"a/one.txt")
        house.scan_without_settling()
        (missing,) = house.missing()
        assert missing == (
            house.row_id(b"a/one.txt"),
            b"a/one.txt",
            Kind.REGULAR,
            before.size,
            before.mtime_ns,
            before.ctime_ns,
            before.inode,
            before.checksum,
            seen_ns,
            before.nlink,
        )
        after = house.record(b"a/one.txt")
        assert (after.state, after.seq) == (before.state, before.seq)
        assert house.found() == [b"a/one.txt", b"a/two.txt"]

    def test_a_file_that_stays_missing_was_last_seen_when_it_was(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        house.scan()
        seen_ns = house.now_ns
        house.tree.remove(b"one.txt")
        house.scan_without_settling()
        house.tree.remove(b"two.txt")
        house.scan_without_settling()
        by_path = {file.path: file.last_seen_ns for file in house.missing()}
        assert by_path == {b"one.txt": seen_ns, b"two.txt": house.now_ns - 60 * SECOND_NS}

    def test_an_archived_file_is_away_and_not_missing(self, house: House) -> None:
        house.settled(b"a/one.txt", b"two.txt")
        for path in (b"a/one.txt", b"two.txt"):
            self.bring_to(house, path, _S.ARCHIVED)
        house.tree.remove(b"a")
        house.tree.remove(b"two.txt")
        house.scan()
        assert house.missing() == []
        assert house.record(b"a/one.txt").state is _S.ARCHIVED
        assert house.record(b"two.txt").state is _S.ARCHIVED

    def test_missing_files_are_counted_and_still_live(self, house: House) -> None:
        house.settled(b"1", b"2", b"3", b"4", b"5")
        other, tree, scanner = house.other_root()
        tree.write(b"other")
        scanner.scan()
        house.tree.ignored = {b"4"}
        house.scan()
        house.registry.unregister(house.record(b"5").file_id, house.tick())
        house.tree.remove(b"1")
        house.tree.remove(b"2")
        house.scan_without_settling()
        assert house.registry.missing_count(house.root) == 2
        assert house.registry.live_count(house.root) == 3
        assert (house.registry.missing_count(other), house.registry.live_count(other)) == (0, 1)

    def test_what_is_no_longer_tracked_is_not_counted_as_missing(self, house: House) -> None:
        house.settled(b"a/1", b"a/2")
        house.tree.ignored.add(b"a/1")
        house.scan()
        house.tree.remove(b"a")
        house.scan_without_settling()
        assert house.registry.missing_count(house.root) == 1

    def test_live_files_are_counted_as_of_an_earlier_change(self, house: House) -> None:
        house.write(b"1", b"2")
        house.scan()
        seq = max(house.record(path).seq for path in (b"1", b"2"))
        house.write(b"3")
        house.tree.write(b"1", b"changed since")
        house.scan()
        assert house.registry.live_count(house.root) == 3
        assert house.registry.live_count(house.root, seq) == 2
        assert house.registry.live_count(house.root, until_seq=0) == 0

    def test_missing_files_come_by_row_in_pages(self, house: House) -> None:
        names = [b"%d" % number for number in range(7)]
        house.settled(*names)
        for gone in names:
            house.tree.remove(gone)
        house.scan_without_settling()
        rows, after = [], 0
        while page := house.registry.missing(house.root, after, 3):
            assert len(page) <= 3
            rows += page
            after = page[-1].row_id
        assert [row.row_id for row in rows] == sorted(row.row_id for row in house.missing())
        assert {row.path for row in rows} == set(names)

    def test_an_archived_file_that_was_put_back_by_hand_is_there(self, house: House) -> None:
        """With the size and times that it had: as a copy that keeps them does."""
        house.settled(b"name.txt")
        before = house.record(b"name.txt")
        self.bring_to(house, b"name.txt", _S.ARCHIVED)
        entry = house.tree.files.pop(b"name.txt")
        house.scan()
        house.tick()
        house.tree.write(b"name.txt", entry.content)
        made = house.tree.files[b"name.txt"]
        house.tree.files[b"name.txt"] = replace(made, mtime_ns=entry.mtime_ns)
        house.scan()
        after = house.record(b"name.txt")
        assert (after.file_id, after.size, after.mtime_ns) == (
            before.file_id,
            before.size,
            before.mtime_ns,
        )
        assert after.state is _S.UPLOADED

    def bring_to(self, house: House, path: bytes, state: LifecycleState) -> None:
        """Take a file to a state by steps that the transition table has."""
        steps = {
            _S.BACKUP_PENDING: [_S.BACKUP_PENDING],
            _S.BACKUP_COMPLETE: [_S.BACKUP_PENDING, _S.BACKUP_COMPLETE],
            _S.ARCHIVED: [_S.ARCHIVED],
            _S.EXPIRED: [_S.EXPIRED],
            _S.PROCESSING: [_S.PROCESSING],
        }
        for step in steps[state]:
            house.registry.set_state(house.record(path).file_id, step, house.tick())
