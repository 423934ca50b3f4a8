"""The contract of a registry: what becomes of missing files."""

from __future__ import annotations

import pytest

from lifecycle_sync.model.file import (
    FileFlag,
    FileType,
    LifecycleState,
    Tracking,
)
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.record import Move
from lifecycle_sync.testing.registry_contract_base import (
    MANY,
    House,
    RegistryContractBase,
    state_of,
)

_S, _T = LifecycleState, Tracking
NEW = (_S.UPLOADED, _T.TRACKED, FileFlag(0))


class SettleContract(RegistryContractBase):
    """`arrivals` and `settle_missing`."""

    def lose(self, house: House, path: bytes) -> tuple[Run, int]:
        """Remove a file and scan; the run, and the row that is missing."""
        house.tree.remove(path)
        run = house.scan_without_settling()
        return run, house.row_id(path)

    def move(self, house: House, old: bytes, new: bytes, *, certain: bool) -> None:
        """Rename a file, scan, and settle it as moved."""
        house.tick()
        house.tree.rename(old, new)
        run = house.scan_without_settling()
        (missing,) = [file for file in house.missing() if file.path == old]
        (arrival,) = house.registry.arrivals(house.root, missing.inode, missing.last_seen_ns)
        assert arrival.row_id == house.row_id(new)
        house.tick()
        house.registry.settle_missing(run, moved=[Move(missing.row_id, arrival.row_id, certain)])

    # -- gone and present ------------------------------------------------------------------

    def test_a_gone_file_is_deleted_and_its_record_stays(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        before = house.record(b"one.txt")
        run, row_id = self.lose(house, b"one.txt")
        seq = house.registry.last_seq()
        house.tick()
        house.registry.settle_missing(run, gone=[row_id])
        after = house.record(b"one.txt")
        assert (after.file_id, after.state) == (before.file_id, _S.DELETED)
        assert after.state_since_ns == house.now_ns
        assert after.checksum == before.checksum
        assert house.missing() == []
        assert house.found() == [b"two.txt"]
        assert house.registry.live_count(house.root) == 1
        assert house.changed_since(seq) == {b"one.txt"}

    def test_a_gone_file_is_not_to_be_hashed(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        run, row_id = self.lose(house, b"one.txt")
        house.registry.settle_missing(run, gone=[row_id])
        assert house.due() == set()
        assert house.registry.to_hash_totals(house.root) == (0, 0)
        assert house.registry.to_scrub(house.root, 0, MANY) == []

    def test_a_present_file_leaves_the_list_and_its_directory_is_looked_at_again(
        self, house: House
    ) -> None:
        house.settled(b"a/one.txt", b"b/two.txt")
        before = house.record(b"a/one.txt")
        run, row_id = self.lose(house, b"a/one.txt")
        house.registry.settle_missing(run, present=[row_id])
        assert house.missing() == []
        assert house.directory(b"a").signature is None
        assert house.directory(b"b").signature is not None
        assert house.record(b"a/one.txt").seq == before.seq

    def test_settling_nothing_changes_nothing(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        run, _ = self.lose(house, b"one.txt")
        before = house.everything()
        house.registry.settle_missing(run)
        assert house.everything() == before

    def test_a_file_registered_meanwhile_is_not_gone(self, house: House) -> None:
        house.settled(b"one.txt")
        entry = house.tree.files[b"one.txt"]
        run, row_id = self.lose(house, b"one.txt")
        house.tree.files[b"one.txt"] = entry
        house.register(b"one.txt")
        house.registry.settle_missing(run, gone=[row_id])
        assert house.record(b"one.txt").state is _S.UPLOADED
        assert house.missing() == []

    @pytest.mark.parametrize("registered", [b"one.txt", b"two.txt"])
    def test_what_was_registered_meanwhile_does_not_move(
        self, house: House, registered: bytes
    ) -> None:
        house.settled(b"one.txt")
        first = house.record(b"one.txt")
        house.tick()
        house.tree.link(b"one.txt", b"two.txt")
        run, row_id = self.lose(house, b"one.txt")
        second = house.record(b"two.txt")
        move = Move(row_id, house.row_id(b"two.txt"), certain=True)
        house.tree.link(b"two.txt", registered)
        house.register(registered)
        house.registry.settle_missing(run, moved=[move])
        assert house.record(b"two.txt").file_id == second.file_id
        assert house.file(first.file_id).path == b"one.txt"

    # -- arrivals --------------------------------------------------------------------------

    def test_arrivals_are_what_a_scan_found_under_that_inode_since_then(self, house: House) -> None:
        house.settled(b"old.txt")
        since_ns, inode = house.now_ns, house.tree.files[b"old.txt"].inode
        house.tick()
        house.tree.link(b"old.txt", b"a/new.txt")
        house.write(b"a/other.txt")
        house.scan()
        (arrival,) = house.registry.arrivals(house.root, inode, since_ns)
        entry = house.tree.files[b"a/new.txt"]
        assert arrival[:7] == (
            house.row_id(b"a/new.txt"),
            b"new.txt",
            8,
            entry.size,
            entry.mtime_ns,
            entry.ctime_ns,
            inode,
        )
        assert not arrival.hashed
        assert house.registry.arrivals(house.root, inode, house.now_ns) == []
        assert house.registry.arrivals(house.root, inode + 1000, 0) == []

    def test_arrivals_of_another_repository_are_not_ours(self, house: House) -> None:
        _, tree, scanner = house.other_root()
        house.settled(b"old.txt")
        tree.write(b"new.txt")
        tree.edit(b"new.txt", inode=house.tree.files[b"old.txt"].inode)
        since_ns = house.now_ns
        house.tick()
        scanner.scan()
        inode = tree.files[b"new.txt"].inode
        assert house.registry.arrivals(house.root, inode, since_ns) == []

    @pytest.mark.parametrize("why", ["by name", "missing", "ignored", "unregistered", "deleted"])
    def test_what_is_not_live_tracked_and_found_by_a_scan_is_no_arrival(
        self, house: House, why: str
    ) -> None:
        house.settled(b"old.txt")
        since_ns, inode = house.now_ns, house.tree.files[b"old.txt"].inode
        house.tick()
        house.tree.link(b"old.txt", b"new.txt")
        if why == "by name":
            house.register(b"new.txt")
        house.scan()
        if why == "missing":
            self.lose(house, b"new.txt")
        elif why == "ignored":
            house.tree.ignored.add(b"new.txt")
            house.scan()
        elif why == "unregistered":
            house.registry.unregister(house.record(b"new.txt").file_id, house.tick())
        elif why == "deleted":
            house.tree.remove(b"new.txt")
            house.scan()
        assert house.registry.arrivals(house.root, inode, since_ns) == []

    # -- moved -----------------------------------------------------------------------------

    @pytest.mark.parametrize("certain", [True, False])
    def test_a_moved_record_continues_at_its_new_place_and_the_new_one_goes(
        self, house: House, certain: bool
    ) -> None:
        house.settled(b"a/one.txt")
        before = house.record(b"a/one.txt")
        self.move(house, b"a/one.txt", b"b/two.jpg", certain=certain)
        after = house.record(b"b/two.jpg")
        entry = house.tree.files[b"b/two.jpg"]
        assert (after.file_id, after.file_type) == (before.file_id, FileType.IMAGE)
        assert (after.ctime_ns, after.inode) == (entry.ctime_ns, entry.inode)
        assert (after.checksum, after.version) == (before.checksum, 1)
        assert after.registered_ns == before.registered_ns
        assert house.registry.file_at(house.root, b"a/one.txt") is None
        assert len(house.registry.changes(0, MANY)) == 1
        assert after.seq > before.seq
        assert house.missing() == []
        house.scan()
        assert house.found() == [b"b/two.jpg"]
        assert house.registry.last_seq() == after.seq

    def test_a_certain_move_needs_no_hash(self, house: House) -> None:
        house.settled(b"a/one.txt")
        self.move(house, b"a/one.txt", b"two.txt", certain=True)
        assert not house.record(b"two.txt").hash_due

    def test_a_certain_move_of_a_file_that_was_never_hashed_leaves_it_due(
        self, house: House
    ) -> None:
        house.write(b"one.txt")
        house.scan()
        self.move(house, b"one.txt", b"two.txt", certain=True)
        assert house.due() == {b"two.txt"}

    def test_a_move_keeps_the_state_and_the_explicit_policy(self, house: House) -> None:
        house.settled(b"one.txt")
        record = house.register(b"one.txt", "archives")
        house.registry.set_state(record.file_id, _S.BACKUP_PENDING, house.tick())
        self.move(house, b"one.txt", b"two.jpg", certain=True)
        after = house.record(b"two.jpg")
        assert (after.state, after.policy_name) == (_S.BACKUP_PENDING, "archives")
        assert after.policy_explicit

    @pytest.mark.parametrize("tracking", [_T.IGNORED, _T.UNREGISTERED])
    def test_a_move_out_of_sight_of_a_rule_is_tracked_again_and_an_order_holds(
        self, house: House, tracking: Tracking
    ) -> None:
        house.settled(b"a/one.txt")
        before = house.record(b"a/one.txt")
        if tracking is _T.IGNORED:
            house.tree.ignored.add(b"a/one.txt")
            house.scan()
        else:
            house.registry.unregister(before.file_id, house.tick())
        house.tick()
        house.tree.rename_folder(b"a", b"b")
        house.scan()
        after = house.record(b"b/one.txt")
        assert after.file_id == before.file_id
        assert after.tracking is (_T.TRACKED if tracking is _T.IGNORED else _T.UNREGISTERED)

    def test_a_provisional_move_is_final_once_the_hash_agrees(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        self.move(house, b"one.txt", b"two.txt", certain=False)
        assert house.due() == {b"two.txt"}
        counts = house.hash()
        assert (counts.hashed, counts.changed, counts.suspect) == (1, 0, 0)
        after = house.record(b"two.txt")
        assert (after.file_id, after.version) == (before.file_id, 1)
        assert not after.hash_due
        # From now on another content is a change of this file.
        house.tree.write(b"two.txt", b"other content")
        house.scan()
        house.hash()
        changed = house.record(b"two.txt")
        assert (changed.file_id, changed.version) == (before.file_id, 2)
        assert house.registry.file_at(house.root, b"one.txt") is None

    def test_a_provisional_move_whose_hash_disagrees_is_split(self, house: House) -> None:
        house.settled(b"a/one.txt")
        house.tree.write(b"a/one.txt", b"its second version")
        house.scan()
        house.hash()
        house.register(b"a/one.txt", "archives")
        before = house.record(b"a/one.txt")
        self.move(house, b"a/one.txt", b"b/two.jpg", certain=False)
        seq = house.registry.last_seq()
        house.store(house.result(b"b/two.jpg", b"another content".ljust(32)))
        old, new = house.file(before.file_id), house.record(b"b/two.jpg")
        assert (old.path, old.state) == (b"a/one.txt", _S.DELETED)
        assert (old.checksum, old.version) == (before.checksum, 2)
        assert (old.size, old.mtime_ns, old.ctime_ns, old.inode) == (
            before.size,
            before.mtime_ns,
            before.ctime_ns,
            before.inode,
        )
        assert old.state_since_ns == house.now_ns
        assert house.record(b"a/one.txt") == old
        assert new.file_id != old.file_id
        assert state_of(new) == NEW
        assert (new.checksum, new.version) == (b"another content".ljust(32), 1)
        assert (new.hash_due, new.policy_name, new.policy_explicit) == (False, "media", False)
        assert new.registered_ns == house.now_ns
        assert house.changed_since(seq) == {b"a/one.txt", b"b/two.jpg"}
        assert house.missing() == []
        house.scan()
        assert house.found() == [b"b/two.jpg"]

    def test_a_split_leaves_whoever_lives_at_the_old_place_alone(self, house: House) -> None:
        house.settled(b"one.txt")
        moved = house.record(b"one.txt")
        self.move(house, b"one.txt", b"two.txt", certain=False)
        house.write(b"one.txt", content=b"newcomer")
        house.scan()
        newcomer = house.record(b"one.txt")
        house.store(house.result(b"two.txt", b"x" * 32))
        assert house.record(b"one.txt").file_id == newcomer.file_id
        assert house.file(moved.file_id).state is _S.DELETED
        assert house.file(moved.file_id).path == b"one.txt"
        assert set(house.found()) == {b"one.txt", b"two.txt"}

    def test_a_provisional_move_outlives_reopening(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        self.move(house, b"one.txt", b"two.txt", certain=False)
        house.reopen()
        house.store(house.result(b"two.txt", b"x" * 32))
        assert house.file(file_id).path == b"one.txt"

    def test_a_file_moved_twice_before_its_hash_goes_back_to_where_it_was_first(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        self.move(house, b"one.txt", b"two.txt", certain=False)
        self.move(house, b"two.txt", b"three.txt", certain=False)
        house.store(house.result(b"three.txt", b"x" * 32))
        assert house.file(file_id).path == b"one.txt"
        assert house.registry.file_at(house.root, b"two.txt") is None

    def test_a_provisional_move_is_forgotten_when_its_file_is_deleted(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        self.move(house, b"one.txt", b"two.txt", certain=False)
        entry = house.tree.files[b"two.txt"]
        house.tree.remove(b"two.txt")
        house.scan()
        house.registry.set_state(file_id, _S.UPLOADED, house.tick())
        house.tree.files[b"two.txt"] = entry
        house.scan()
        house.store(house.result(b"two.txt", b"x" * 32))
        record = house.record(b"two.txt")
        assert (record.file_id, record.version) == (file_id, 2)

    def test_an_unreadable_file_keeps_its_provisional_move(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        self.move(house, b"one.txt", b"two.txt", certain=False)
        row_id = house.row_id(b"two.txt")
        house.store(house.result(b"two.txt", b"")._replace(status="unreadable"))
        assert house.record(b"two.txt").file_id == file_id
        house.store(house.result(b"two.txt", b"x" * 32)._replace(row_id=row_id))
        assert house.file(file_id).path == b"one.txt"

    def test_a_racy_arrival_makes_a_racy_file(self, house: House) -> None:
        house.settled(b"one.txt")
        house.tick()
        house.tree.rename(b"one.txt", b"two.txt")
        house.tree.edit(b"two.txt", racy=True)
        house.scan()
        assert house.record(b"two.txt").flags == FileFlag.RACY
        house.tree.edit(b"two.txt", racy=False)
        house.scan()
        assert house.record(b"two.txt").flags == FileFlag(0)

    def test_a_row_number_is_never_given_twice(self, house: House) -> None:
        # A hash that is under way for a row that goes must not become another file's.
        house.settled(b"one.txt")
        house.tick()
        house.tree.rename(b"one.txt", b"two.txt")
        house.scan_without_settling()
        late = house.task(b"two.txt")
        house.scanner.settle(house.scanner.begin())
        house.hash()
        house.write(b"three.txt")
        house.scan()
        house.registry.record_hashes(
            "sha256",
            [house.result(b"two.txt", b"late".ljust(32))._replace(row_id=late.row_id)],
            house.tick(),
        )
        assert house.row_id(b"three.txt") != late.row_id
        assert house.record(b"three.txt").checksum is None

    def test_a_chain_of_renames_in_one_settling_keeps_every_id(self, house: House) -> None:
        house.settled(b"1", b"2", b"3")
        ids = {path: house.record(path).file_id for path in (b"1", b"2", b"3")}
        house.tick()
        for path in (b"3", b"2", b"1"):
            house.tree.rename(path, b"d/" + path)
        house.scan()
        house.hash()
        assert {path: house.record(b"d/" + path).file_id for path in ids} == ids

    def test_a_rename_onto_a_tracked_path_leaves_its_id_there(self, house: House) -> None:
        house.settled(b"1", b"2")
        first, second = house.record(b"1"), house.record(b"2")
        house.tick()
        house.tree.rename(b"1", b"2")
        house.scan()
        house.hash()
        after = house.record(b"2")
        assert (after.file_id, after.checksum, after.version) == (
            second.file_id,
            first.checksum,
            2,
        )
        assert house.file(first.file_id).state is _S.DELETED

    def test_a_renamed_folder_keeps_the_ids_of_all_below_it(self, house: House) -> None:
        house.settled(b"a/1", b"a/b/2")
        ids = [house.record(path).file_id for path in (b"a/1", b"a/b/2")]
        house.tick()
        house.tree.rename_folder(b"a", b"z")
        house.scan()
        house.hash()
        assert [house.record(path).file_id for path in (b"z/1", b"z/b/2")] == ids
        assert len(house.registry.changes(0, MANY)) == 2
