"""The contract of a registry: single records, asked for and changed by name."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.file import (
    FileFlag,
    LifecycleState,
    Tracking,
)
from lifecycle_sync.model.record import HashResult
from lifecycle_sync.testing.registry_contract_base import (
    MANY,
    House,
    RegistryContractBase,
    state_of,
)

_S = LifecycleState


class FileContract(RegistryContractBase):
    """`FileStore`."""

    # -- asking ----------------------------------------------------------------------------

    def test_a_record_is_found_by_its_id_and_by_its_path(self, house: House) -> None:
        house.settled(b"a/one.txt", b"two.txt")
        record = house.record(b"a/one.txt")
        assert record.path == b"a/one.txt"
        assert house.registry.file(record.file_id) == record

    def test_what_is_not_there_is_none(self, house: House) -> None:
        house.settled(b"a/one.txt")
        assert house.registry.file(house.ids.one()) is None
        for path in (b"one.txt", b"a", b"b/one.txt", b"a/one.tx", b"a/ONE.txt", b""):
            assert house.registry.file_at(house.root, path) is None
        assert house.registry.file_at(house.ids.one(), b"a/one.txt") is None

    def test_the_same_path_in_two_roots_is_two_files(self, house: House) -> None:
        other, tree, scanner = house.other_root()
        tree.write(b"one.txt", b"other")
        scanner.scan()
        house.settled(b"one.txt")
        there = house.registry.file_at(other, b"one.txt")
        assert there is not None
        assert (there.repository_id, there.size) == (other, 5)
        assert house.record(b"one.txt").repository_id == house.root

    def test_at_a_path_the_live_record_comes_before_the_deleted_ones(self, house: House) -> None:
        ids = []
        for _ in range(3):
            house.settled(b"one.txt")
            ids.append(house.record(b"one.txt").file_id)
            assert house.record(b"one.txt").state is _S.UPLOADED
            house.tree.remove(b"one.txt")
            house.scan()
        assert len(set(ids)) == 3
        assert house.record(b"one.txt").file_id == ids[-1]
        assert house.record(b"one.txt").state is _S.DELETED
        # Whatever happens to an older one, the one deleted last is the last one deleted.
        house.registry.set_state(ids[0], _S.UPLOADED, house.tick())
        assert house.record(b"one.txt").file_id == ids[0]
        house.registry.set_state(ids[0], _S.DELETED, house.tick())
        assert house.record(b"one.txt").file_id == ids[0]

    @pytest.mark.parametrize("tracking", ["ignored", "unregistered"])
    def test_at_a_path_a_live_record_is_found_whatever_its_tracking(
        self, house: House, tracking: str
    ) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        if tracking == "ignored":
            house.tree.ignored.add(b"one.txt")
            house.scan()
        else:
            house.registry.unregister(file_id, house.tick())
        assert house.record(b"one.txt").file_id == file_id
        assert house.registry.file(file_id) == house.record(b"one.txt")

    # -- registering -----------------------------------------------------------------------

    def test_a_registered_file_is_recorded_and_is_told(self, house: House) -> None:
        house.write(b"a/one.txt", b"a/two.txt")
        record = house.register(b"a/one.txt")
        assert record == house.record(b"a/one.txt")
        assert state_of(record) == (_S.UPLOADED, Tracking.TRACKED, FileFlag(0))
        assert (record.policy_name, record.policy_explicit) == ("documents", False)
        assert record.hash_due

    def test_a_file_is_registered_together_with_its_hash(self, house: House) -> None:
        house.write(b"one.txt")
        entry = house.tree.files[b"one.txt"]
        digest = sha256(entry.content).digest()
        hashed = HashResult(
            0, "ok", digest, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode
        )
        record = house.register(b"one.txt", "media", hashed)
        assert (record.checksum, record.hash_due, record.version) == (digest, False, 1)
        assert record.policy_name == "media"
        assert record == house.record(b"one.txt")
        house.tick()
        house.tree.write(b"one.txt", b"changed")
        changed = house.register(b"one.txt", None, hashed._replace(digest=b"x" * 32))
        assert (changed.checksum, changed.version) == (b"x" * 32, 2)

    def test_registering_a_file_says_nothing_of_the_others_in_its_folder(
        self, house: House
    ) -> None:
        house.settled(b"a/one.txt", b"a/two.txt", b"a/three.txt")
        before = {path: house.record(path) for path in house.found()}
        directory = house.directory(b"a")
        totals = house.registry.directory_totals(house.root)
        house.tree.write(b"a/one.txt", b"changed")
        house.tree.write(b"a/two.txt", b"changed")
        house.tree.remove(b"a/three.txt")
        house.write(b"a/four.txt")
        house.register(b"a/one.txt")
        # But for its signature: the next scan compares.
        assert house.directory(b"a") == directory._replace(signature=None)
        assert house.registry.directory_totals(house.root) == totals
        assert house.found() == [b"a/one.txt", b"a/three.txt", b"a/two.txt"]
        assert house.record(b"a/one.txt").size == 7
        for path in (b"a/two.txt", b"a/three.txt"):
            assert house.record(path) == before[path]
        house.scan()
        assert house.found() == [b"a/four.txt", b"a/one.txt", b"a/two.txt"]

    def test_a_file_registered_in_a_folder_that_is_not_known_gives_it_a_row(
        self, house: House
    ) -> None:
        house.write(b"a/b/one.txt", b"a/b/two.txt")
        house.register(b"a/b/one.txt")
        assert house.directory(b"a/b").signature is None
        assert list(house.registry.directory_paths(house.root)) == [b"a/b"]
        file_id = house.record(b"a/b/one.txt").file_id
        house.scan()
        assert house.found() == [b"a/b/one.txt", b"a/b/two.txt"]
        assert house.record(b"a/b/one.txt").file_id == file_id

    def test_a_file_registered_in_a_folder_that_was_gone_is_found_by_the_next_scan(
        self, house: House
    ) -> None:
        house.settled(b"a/one.txt")
        house.tree.remove(b"a")
        house.scan()
        house.write(b"a/two.txt", b"a/three.txt")
        house.register(b"a/two.txt")
        # The folder is there, and none of what it held when it was last scanned.
        totals = house.registry.directory_totals(house.root)
        assert (totals.directories, totals.files, totals.bytes) == (2, 0, 0)
        house.scan()
        assert house.found() == [b"a/three.txt", b"a/two.txt"]

    def test_a_file_registered_while_a_scan_is_on_its_way_is_one_record(self, house: House) -> None:
        house.settled(b"a/old.txt")
        house.write(b"a/one.txt", b"a/two.txt")
        house.tick()
        run = house.scanner.begin()
        batch = house.scanner.batch([house.tree.look(b"a")])
        entry = house.tree.files[b"a/one.txt"]
        early = replace(entry, content=b"as it was", mtime_ns=entry.mtime_ns - 1)
        house.tree.files[b"a/one.txt"] = early
        registered = house.registry.register(
            house.scanner.begin(whole=False),
            house.scanner.look_at(b"a/one.txt"),
            b"a/one.txt",
            "archives",
        )
        house.registry.record_scan(run, batch)
        record = house.record(b"a/one.txt")
        assert (record.file_id, record.policy_name) == (registered.file_id, "archives")
        assert (record.size, record.mtime_ns) == (entry.size, entry.mtime_ns)
        assert record.hash_due
        assert record.seq > registered.seq
        assert house.found() == [b"a/old.txt", b"a/one.txt", b"a/two.txt"]

    def test_a_registered_file_outlives_reopening(self, house: House) -> None:
        house.write(b"one.txt")
        record = house.register(b"one.txt", "media")
        house.reopen()
        assert house.record(b"one.txt") == record

    @pytest.mark.parametrize("policy", ["default", "media", "documents"])
    def test_a_policy_that_is_given_is_set_explicitly(self, house: House, policy: str) -> None:
        house.write(b"one.txt")
        record = house.register(b"one.txt", policy)
        assert (record.policy_name, record.policy_explicit) == (policy, True)

    def test_registering_again_without_a_policy_keeps_the_explicit_one(self, house: House) -> None:
        house.write(b"one.txt")
        first = house.register(b"one.txt", "archives")
        house.tick()
        house.tree.write(b"one.txt", b"changed")
        second = house.register(b"one.txt")
        assert second.file_id == first.file_id
        assert (second.policy_name, second.policy_explicit) == ("archives", True)
        assert second.size == 7

    @pytest.mark.parametrize("policy", ["no such", "", "Default"])
    def test_a_policy_that_does_not_exist_is_refused_and_changes_nothing(
        self, house: House, policy: str
    ) -> None:
        house.write(b"one.txt")
        house.tick()
        run = house.scanner.begin(whole=False)
        batch = house.scanner.look_at(b"one.txt")
        before = house.everything()
        with pytest.raises(NotFoundError):
            house.registry.register(run, batch, b"one.txt", policy)
        assert house.everything() == before

    @pytest.mark.parametrize("path", [b"other.txt", b"a/one.txt", b"gone.txt"])
    def test_registering_what_is_not_there_is_refused_and_changes_nothing(
        self, house: House, path: bytes
    ) -> None:
        house.settled(b"gone.txt")
        house.tree.remove(b"gone.txt")
        house.scan()
        house.write(b"one.txt")
        house.tick()
        run = house.scanner.begin(whole=False)
        batch = house.scanner.look_at(b"one.txt")
        before = house.everything()
        with pytest.raises(NotFoundError):
            house.registry.register(run, batch, path, None)
        assert house.everything() == before

    def test_an_unregistered_file_is_asked_for_no_more_and_keeps_its_record(
        self, house: House
    ) -> None:
        house.settled(b"one.txt", b"two.txt")
        before = house.record(b"one.txt")
        house.registry.unregister(before.file_id, house.tick())
        house.reopen()
        after = house.record(b"one.txt")
        assert (after.file_id, after.tracking) == (before.file_id, Tracking.UNREGISTERED)
        assert (after.state, after.checksum) == (before.state, before.checksum)
        assert (after.seq > before.seq, after.changed_ns) == (True, house.now_ns)
        assert house.found() == [b"two.txt"]
        assert house.registry.live_count(house.root) == 1

    def test_unregistering_twice_changes_nothing(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        house.registry.unregister(file_id, house.tick())
        before = house.everything()
        house.registry.unregister(file_id, house.tick())
        assert house.everything() == before

    def test_unregistering_what_is_not_there_is_refused(self, house: House) -> None:
        with pytest.raises(NotFoundError):
            house.registry.unregister(house.ids.one(), house.now_ns)

    def test_an_unregistered_file_stays_out_whatever_a_scan_finds(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        house.registry.unregister(file_id, house.tick())
        house.scan()
        house.tree.save(b"one.txt", b"other")
        house.scan()
        assert house.record(b"one.txt").file_id == file_id
        assert house.record(b"one.txt").tracking is Tracking.UNREGISTERED
        assert house.due() == set()

    def test_an_unregistered_file_that_was_missing_is_missing_no_more(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        house.tree.remove(b"one.txt")
        house.scan_without_settling()
        house.registry.unregister(house.record(b"one.txt").file_id, house.tick())
        assert house.missing() == []
        assert house.registry.missing_count(house.root) == 0

    @pytest.mark.parametrize("how", ["unregistered", "ignored"])
    def test_registering_again_brings_a_file_back_with_its_id(self, house: House, how: str) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        if how == "unregistered":
            house.registry.unregister(before.file_id, house.tick())
        else:
            house.tree.ignored.add(b"one.txt")
            house.scan()
            house.tree.ignored.clear()
        after = house.register(b"one.txt")
        assert (after.file_id, after.tracking) == (before.file_id, Tracking.TRACKED)
        assert (after.checksum, after.version) == (before.checksum, before.version)
        assert house.found() == [b"one.txt"]

    def test_orders_are_in_the_journal(self, house: House) -> None:
        house.settled(b"one.txt")
        record = house.register(b"one.txt")
        house.registry.unregister(record.file_id, house.tick())
        operations = house.registry.operations(record.file_id, MANY)
        assert [op.operation_type for op in operations] == ["unregister", "register"]
        assert {op.status for op in operations} == {"completed"}
        assert operations[0].timestamp_ns == house.now_ns
