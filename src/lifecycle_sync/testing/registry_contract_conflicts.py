"""The contract of a registry: conflicts between disk and registry, noted and closed."""

from __future__ import annotations

from lifecycle_sync.model.conflict import Conflict, Resolved, Situation
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.testing.registry_contract_acts import ActContractBase
from lifecycle_sync.testing.registry_contract_base import MANY, House

_S = LifecycleState


class ConflictContract(ActContractBase):
    """`ConflictStore`."""

    def conflicts(self, house: House) -> list[Conflict]:
        found = house.registry.conflicts(house.root, 0, MANY)
        assert house.registry.conflict_count(house.root) == len(found)
        return found

    def take_away(self, house: House, path: bytes, state: LifecycleState) -> bytes:
        """An act takes a file away; the id of its record."""
        file_id = house.record(path).file_id
        verb = "archive" if state is _S.ARCHIVED else "delete"
        assert self.act_on(house, path, verb=verb, state=state) == {}
        house.tree.remove(path)
        house.scan()
        return file_id

    def test_a_file_at_the_place_of_an_archived_one_is_a_conflict(self, house: House) -> None:
        house.settled(b"a/one", b"a/two")
        file_id = self.take_away(house, b"a/one", _S.ARCHIVED)
        assert self.conflicts(house) == []
        house.write(b"a/one", b"a/two", content=b"again")
        house.scan()
        (found,) = self.conflicts(house)
        assert found == Conflict(
            found.row_id, file_id, Situation.CHANGED_WHILE_ARCHIVED, None, None, house.now_ns
        )
        assert found.row_id == house.row_id(b"a/one")
        house.reopen()
        assert self.conflicts(house) == [found]

    def test_what_an_act_just_brings_back_is_none(self, house: House) -> None:
        house.settled(b"one", b"two")
        self.take_away(house, b"one", _S.ARCHIVED)
        self.take_away(house, b"two", _S.DELETED)
        self.begin(house, b"one", verb="recall")
        self.begin(house, b"two", verb="undelete")
        house.write(b"one", b"two")
        house.scan()
        assert self.conflicts(house) == []

    def test_a_new_file_at_the_place_of_a_deleted_one_is_a_conflict(self, house: House) -> None:
        house.settled(b"a/one", b"b/two")
        file_id = self.take_away(house, b"a/one", _S.DELETED)
        house.write(b"a/one", b"b/other", b"c/one")
        house.scan()
        (found,) = self.conflicts(house)
        assert (found.situation, found.other_id) == (Situation.RECREATED, file_id)
        assert found.file_id == house.record(b"a/one").file_id != file_id

    def test_what_vanished_by_itself_may_come_again(self, house: House) -> None:
        house.settled(b"one", b"two")
        house.tree.remove(b"one")
        house.scan()
        # Deleted by an act, given back, and then removed by hand.
        self.take_away(house, b"two", _S.DELETED)
        self.act_on(house, b"two", verb="undelete", state=_S.UPLOADED)
        house.scan()
        house.write(b"one", b"two")
        house.scan()
        assert self.conflicts(house) == []

    def test_one_file_renamed_onto_another_is_a_conflict(self, house: House) -> None:
        house.settled(b"one", b"two")
        before = house.record(b"two")
        gone = house.record(b"one")
        row_id = house.row_id(b"one")
        house.tick()
        house.tree.rename(b"one", b"two")
        house.scan_without_settling()
        house.registry.note_renamed_onto([row_id], house.now_ns)
        (found,) = self.conflicts(house)
        assert found == Conflict(
            house.row_id(b"two"),
            before.file_id,
            Situation.RENAMED_ONTO,
            gone.file_id,
            before.checksum,
            house.now_ns,
        )

    def test_a_name_of_several_that_went_is_none(self, house: House) -> None:
        house.write(b"one")
        house.tree.link(b"one", b"two")
        house.scan()
        house.hash()
        row_id = house.row_id(b"one")
        house.tree.remove(b"one")
        house.scan_without_settling()
        house.registry.note_renamed_onto([row_id], house.now_ns)
        assert self.conflicts(house) == []

    def test_a_conflict_is_closed_with_an_entry_of_the_journal(self, house: House) -> None:
        house.settled(b"one", b"two")
        for path in (b"one", b"two"):
            self.take_away(house, path, _S.ARCHIVED)
        house.write(b"one", b"two")
        house.scan()
        first, second = self.conflicts(house)
        assert house.registry.conflicts(house.root, first.row_id, MANY) == [second]
        assert house.registry.conflicts(house.root, 0, 1) == [first]
        closed = [Resolved(first.row_id, '{"kept": "disk"}'), Resolved(123_456, "{}")]
        house.registry.close_conflicts(closed, house.tick())
        house.registry.close_conflicts(closed, house.tick())
        assert self.conflicts(house) == [second]
        (entry, *_) = house.registry.operations(first.file_id, MANY)
        assert (entry.operation_type, entry.status) == ("conflict", "completed")
        assert entry.details == '{"kept": "disk"}'
        archived = house.registry.operations(second.file_id, MANY)
        assert [it.operation_type for it in archived] == ["archive"]

    def test_conflicts_go_with_their_root(self, house: House) -> None:
        house.settled(b"one")
        self.take_away(house, b"one", _S.ARCHIVED)
        house.write(b"one")
        house.scan()
        other, _, _ = house.other_root()
        assert house.registry.conflict_count(other) == 0
        (found,) = self.conflicts(house)
        house.registry.remove_repository(house.root)
        house.registry.close_conflicts([Resolved(found.row_id, "{}")], house.now_ns)
        kept = house.registry.operations(found.file_id, MANY)
        assert [it.operation_type for it in kept] == ["archive"]
