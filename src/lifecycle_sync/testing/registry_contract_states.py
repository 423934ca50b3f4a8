"""The contract of a registry: the states and flags of single records."""

from __future__ import annotations

import pytest

from lifecycle_sync.errors import NotFoundError, TransitionError, UsageError
from lifecycle_sync.model.file import (
    TRANSITIONS,
    FileFlag,
    LifecycleState,
    may_become,
)
from lifecycle_sync.testing.registry_contract_base import (
    House,
    RegistryContractBase,
)

_S = LifecycleState
# The shortest way from UPLOADED to each state.
WAY_TO = {
    _S.UPLOADED: (),
    _S.PROCESSING: (_S.PROCESSING,),
    _S.BACKUP_PENDING: (_S.BACKUP_PENDING,),
    _S.BACKUP_COMPLETE: (_S.BACKUP_PENDING, _S.BACKUP_COMPLETE),
    _S.ARCHIVED: (_S.ARCHIVED,),
    _S.EXPIRED: (_S.EXPIRED,),
    _S.DELETED: (_S.DELETED,),
}


class StateContract(RegistryContractBase):
    """`set_state`."""

    @pytest.mark.parametrize("new", _S)
    @pytest.mark.parametrize("old", _S)
    def test_a_state_changes_by_the_transition_table_and_not_otherwise(
        self, house: House, old: LifecycleState, new: LifecycleState
    ) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id
        for step in WAY_TO[old]:
            assert step in TRANSITIONS[house.file(file_id).state]
            house.registry.set_state(file_id, step, house.tick())
        before = house.file(file_id)
        assert before.state is old
        house.tick()
        if may_become(old, new):
            record = house.registry.set_state(file_id, new, house.now_ns)
            assert record.state is new
            moved = old is not new
            assert record.state_since_ns == (house.now_ns if moved else before.state_since_ns)
            assert record == house.registry.file(file_id)
        else:
            with pytest.raises(TransitionError):
                house.registry.set_state(file_id, new, house.now_ns)
            assert house.registry.file(file_id) == before

    def test_a_change_of_state_is_a_change_and_outlives_reopening(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        seq = house.registry.last_seq()
        record = house.registry.set_state(
            house.record(b"one.txt").file_id, _S.BACKUP_PENDING, house.tick()
        )
        assert record.seq > seq
        assert record.changed_ns == house.now_ns
        house.reopen()
        assert house.record(b"one.txt") == record
        assert house.changed_since(seq) == {b"one.txt"}

    def test_flags_are_set_and_cleared_beside_the_others(self, house: House) -> None:
        house.settled(b"one.txt")
        file_id = house.record(b"one.txt").file_id

        def flags(state: LifecycleState, **change: int) -> FileFlag:
            return house.registry.set_state(file_id, state, house.tick(), **change).flags

        claimed, unstable = FileFlag.CLAIMED, FileFlag.UNSTABLE
        assert flags(_S.PROCESSING, set_flags=claimed.value) == claimed
        assert flags(_S.PROCESSING, set_flags=unstable.value) == claimed | unstable
        assert flags(_S.PROCESSING, clear_flags=claimed.value) == unstable
        assert flags(_S.UPLOADED, set_flags=0, clear_flags=unstable.value) == FileFlag(0)

    def test_flags_leave_alone_what_is_none_of_theirs(self, house: House) -> None:
        house.settled(b"old.txt")
        house.tick()
        house.tree.link(b"old.txt", b"one.txt")
        record = house.register(b"one.txt", "archives")
        everything = sum(flag.value for flag in FileFlag)
        house.registry.set_state(record.file_id, _S.UPLOADED, house.tick(), clear_flags=everything)
        assert house.record(b"one.txt").policy_explicit
        # Still registered by name, and so no arrival.
        assert house.registry.arrivals(house.root, record.inode, 0) == [
            row
            for row in house.registry.files_in(house.directory(b"").directory_id)
            if row.name == b"old.txt"
        ]

    def test_the_state_of_what_is_not_there_cannot_change(self, house: House) -> None:
        with pytest.raises(NotFoundError):
            house.registry.set_state(house.ids.one(), _S.DELETED, house.now_ns)

    def test_a_file_that_is_deleted_by_order_is_missing_no_more(self, house: House) -> None:
        house.settled(b"one.txt")
        house.tree.remove(b"one.txt")
        house.scan_without_settling()
        house.registry.set_state(house.record(b"one.txt").file_id, _S.DELETED, house.tick())
        assert house.missing() == []
        assert house.registry.missing_count(house.root) == 0

    def test_a_deleted_file_cannot_come_back_where_another_lives(self, house: House) -> None:
        house.settled(b"one.txt")
        deleted = house.record(b"one.txt").file_id
        house.tree.remove(b"one.txt")
        house.scan()
        house.settled(b"one.txt")
        before = house.everything()
        with pytest.raises(UsageError):
            house.registry.set_state(deleted, _S.UPLOADED, house.tick())
        assert house.everything() == before

    @pytest.mark.parametrize("gone", [b"a/one.txt", b"a"])
    @pytest.mark.parametrize("state", [_S.DELETED, _S.ARCHIVED])
    def test_a_file_that_is_said_to_be_back_is_looked_for_by_the_next_scan(
        self, house: House, state: LifecycleState, gone: bytes
    ) -> None:
        house.settled(b"a/one.txt", b"two.txt")
        file_id = house.record(b"a/one.txt").file_id
        if state is _S.ARCHIVED:
            house.registry.set_state(file_id, _S.ARCHIVED, house.tick())
        house.tree.remove(gone)
        house.scan()
        assert house.file(file_id).state is state
        house.registry.set_state(file_id, _S.UPLOADED, house.tick())
        house.scan()
        assert house.file(file_id).state is _S.DELETED
        assert house.found() == [b"two.txt"]

    def test_a_file_that_is_said_to_be_deleted_and_is_there_is_found_by_the_next_scan(
        self, house: House
    ) -> None:
        house.settled(b"one.txt")
        house.registry.set_state(house.record(b"one.txt").file_id, _S.DELETED, house.tick())
        assert house.found() == []
        house.scan()
        assert house.found() == [b"one.txt"]

    @pytest.mark.parametrize("state", [_S.DELETED, _S.ARCHIVED])
    def test_what_is_away_is_not_due_and_is_when_it_comes_back(
        self, house: House, state: LifecycleState
    ) -> None:
        house.write(b"one.txt")
        house.scan()
        file_id = house.record(b"one.txt").file_id
        house.registry.set_state(file_id, state, house.tick())
        entry = house.tree.files.pop(b"one.txt")
        house.scan()
        assert not house.file(file_id).hash_due
        assert house.due() == set()
        house.tree.files[b"one.txt"] = entry
        house.registry.set_state(file_id, _S.UPLOADED, house.tick())
        house.scan()
        assert house.due() == {b"one.txt"}

    def test_a_file_that_a_scan_found_gone_is_due_when_it_comes_back(self, house: House) -> None:
        house.write(b"one.txt")
        house.scan()
        file_id = house.record(b"one.txt").file_id
        entry = house.tree.files.pop(b"one.txt")
        house.scan()
        assert not house.file(file_id).hash_due
        house.tree.files[b"one.txt"] = entry
        house.registry.set_state(file_id, _S.UPLOADED, house.tick())
        house.scan()
        assert house.due() == {b"one.txt"}

    def test_a_deleted_file_comes_back_with_its_id(self, house: House) -> None:
        house.settled(b"one.txt")
        before = house.record(b"one.txt")
        entry = house.tree.files[b"one.txt"]
        house.tree.remove(b"one.txt")
        house.scan()
        house.registry.set_state(before.file_id, _S.UPLOADED, house.tick())
        house.tree.files[b"one.txt"] = entry
        house.scan()
        house.hash()
        after = house.record(b"one.txt")
        assert (after.file_id, after.checksum) == (before.file_id, before.checksum)
        assert house.found() == [b"one.txt"]
