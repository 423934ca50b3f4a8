"""The contract of a registry: scans and acts on the same files."""

from __future__ import annotations

import json

import pytest

from lifecycle_sync.model.act import (
    DONE_BY_ACT,
    ActOutcome,
    Attributes,
    Intent,
    RecordChange,
)
from lifecycle_sync.model.file import LifecycleState, Tracking
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.testing.registry_contract_acts import ActContractBase, tuple_of
from lifecycle_sync.testing.registry_contract_base import MANY, House

_S = LifecycleState


class ScanBesideActContract(ActContractBase):
    """Scans and acts on the same files."""

    def put_back(self, house: House, path: bytes, content: bytes) -> Fingerprint:
        house.tree.write(path, content)
        entry = house.tree.files[path]
        return Fingerprint(entry.kind, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)

    @pytest.mark.parametrize("state", sorted(DONE_BY_ACT))
    @pytest.mark.parametrize("folder_too", [False, True])
    def test_what_an_act_took_away_is_never_missing(
        self, house: House, state: LifecycleState, folder_too: bool
    ) -> None:
        house.settled(b"a/one", b"two")
        self.act_on(house, b"a/one", state=state)
        record = house.record(b"a/one")
        house.tree.remove(b"a" if folder_too else b"a/one")
        house.scan_without_settling()
        assert house.missing() == []
        assert house.registry.missing_count(house.root) == 0
        house.scan()
        after = house.file(record.file_id)
        assert (after.state, after.state_since_ns, after.tracking) == (
            state,
            record.state_since_ns,
            Tracking.TRACKED,
        )

    @pytest.mark.parametrize("state", sorted(DONE_BY_ACT))
    def test_what_a_scan_misses_before_the_act_has_said_so_is_missing_no_more(
        self, house: House, state: LifecycleState
    ) -> None:
        house.settled(b"one", b"two")
        act, (intent,) = self.begin(house, b"one")
        house.tree.remove(b"one")
        house.scan_without_settling()
        # What the act is at work on is not counted as lost.
        assert house.missing() == []
        assert house.registry.missing_count(house.root) == 0
        self.finish(house, act, intent, state=state)
        assert house.registry.missing_count(house.root) == 0
        house.scan()
        assert house.file(intent.file_id).state is state

    def test_what_is_lost_while_an_act_is_at_work_on_it_is_missing_after(
        self, house: House
    ) -> None:
        house.settled(b"one", b"two")
        act, (intent,) = self.begin(house, b"one")
        house.tree.remove(b"one")
        house.scan()
        outcome = ActOutcome(intent.operation_id, "failed", None)
        house.registry.finish_operations(act, [outcome], house.tick())
        assert house.missing_paths() == {b"one"}
        house.scan()
        assert house.file(intent.file_id).state is _S.DELETED

    @pytest.mark.parametrize("state", sorted(DONE_BY_ACT))
    def test_a_scan_that_looked_before_and_tells_after_the_act_does_not_make_it_missing(
        self, house: House, state: LifecycleState
    ) -> None:
        house.settled(b"one", b"two")
        act, (intent,) = self.begin(house, b"one")
        house.tree.remove(b"one")
        run = house.scanner.begin()
        batch = house.scanner.batch(list(house.tree.looks()))
        self.finish(house, act, intent, state=state)
        seq = house.registry.last_seq()
        house.registry.record_scan(run, batch)
        assert house.registry.missing_count(house.root) == 0
        house.scanner.settle(run)
        assert house.file(intent.file_id).state is state
        assert house.changed_since(seq) == set()

    def test_what_is_there_although_an_act_took_it_away_is_found(self, house: House) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id
        # Somebody has put it back as it was: nothing in the folder looks different.
        self.act_on(house, b"one", state=_S.DELETED)
        house.scan()
        assert house.record(b"one").state is _S.UPLOADED
        assert house.record(b"one").file_id != file_id

    def test_an_unconfirmed_move_of_what_an_act_took_away_is_forgotten(self, house: House) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id
        mtime_ns = house.tree.files[b"one"].mtime_ns
        house.tick()
        house.tree.rename(b"one", b"two")
        house.scan()
        assert house.record(b"two").file_id == file_id
        self.act_on(house, b"two", state=_S.DELETED)
        house.tree.remove(b"two")
        house.scan()
        act, (intent,) = self.begin(house, b"two", verb="undelete")
        self.put_back(house, b"two", b"CONTENT OF one")
        house.tree.edit(b"two", mtime_ns=mtime_ns)
        entry = house.tree.files[b"two"]
        look = Fingerprint(entry.kind, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
        self.finish(house, act, intent, state=_S.UPLOADED, fingerprint=look)
        house.hash()
        # Otherwise the new digest would send the record back to where it was before its move.
        assert house.record(b"two").file_id == file_id
        assert len(house.registry.changes(0, MANY)) == 1

    @pytest.mark.parametrize("away", sorted(DONE_BY_ACT))
    def test_a_file_that_is_put_back_keeps_its_id(self, house: House, away: LifecycleState) -> None:
        house.settled(b"a/one")
        record = house.record(b"a/one")
        self.act_on(house, b"a/one", state=away)
        house.tree.remove(b"a")
        house.scan()
        act, (intent,) = self.begin(house, b"a/one", verb="undelete")
        look = self.put_back(house, b"a/one", b"content of a/one")
        refused = self.finish(
            house,
            act,
            intent,
            state=_S.UPLOADED,
            fingerprint=look,
            attributes=Attributes(0o100644, 1000, 100, 1),
            checksum=record.checksum,
        )
        assert refused == {}
        back = house.record(b"a/one")
        assert (back.file_id, back.state, back.hash_due) == (record.file_id, _S.UPLOADED, False)
        assert tuple_of(back) == look
        house.scan()
        assert house.record(b"a/one").file_id == record.file_id
        assert house.found() == [b"a/one"]

    def test_a_file_that_comes_back_without_a_checksum_is_hashed(self, house: House) -> None:
        house.settled(b"one")
        self.act_on(house, b"one", state=_S.DELETED)
        act, (intent,) = self.begin(house, b"one", verb="undelete")
        self.finish(house, act, intent, state=_S.UPLOADED)
        assert house.due() == {b"one"}

    def test_a_file_that_a_scan_met_before_the_act_had_said_so_is_one_file(
        self, house: House
    ) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id
        self.act_on(house, b"one", state=_S.DELETED)
        house.tree.remove(b"one")
        house.scan()
        act, (intent,) = self.begin(house, b"one", verb="undelete")
        look = self.put_back(house, b"one", b"content of one")
        house.scan()
        assert house.record(b"one").file_id != file_id
        assert self.finish(house, act, intent, state=_S.UPLOADED, fingerprint=look) == {}
        assert house.record(b"one").file_id == file_id
        assert len(house.registry.changes(0, MANY)) == 1
        house.scan()
        assert house.record(b"one").file_id == file_id

    @pytest.mark.parametrize("why", ["another file", "by name", "held", "an act", "no tuple"])
    def test_a_record_of_somebody_else_stays_where_it_is(self, house: House, why: str) -> None:
        house.settled(b"one", b"two")
        file_id = house.record(b"one").file_id
        self.act_on(house, b"one", state=_S.DELETED)
        house.tree.remove(b"one")
        house.scan()
        act, intents = self.begin(house, b"two", verb="backup")
        undo = Intent(house.ids.one(), file_id, "undelete", '{"from":"trash"}')
        house.registry.begin_operations(act, [undo], house.tick(), unless_held=True)
        look: Fingerprint | None = self.put_back(house, b"one", b"content of one")
        if why == "by name":
            house.register(b"one")
        house.scan()
        there = house.record(b"one")
        if why == "another file":
            assert look is not None
            look = look._replace(inode=look.inode + 1)
        elif why == "held":
            house.registry.add_hold(self.hold(house, file_id=there.file_id))
        elif why == "an act":
            self.begin(house, b"one")
        elif why == "no tuple":
            look = None
        outcomes = [
            ActOutcome(
                undo.operation_id,
                "completed",
                None,
                RecordChange(file_id, _S.UPLOADED, fingerprint=look),
            ),
            ActOutcome(
                intents[0].operation_id,
                "completed",
                None,
                RecordChange(intents[0].file_id, _S.BACKUP_COMPLETE),
            ),
        ]
        refused = house.registry.finish_operations(act, outcomes, house.tick())
        reason = "another file is at its place now"
        assert refused == {undo.operation_id: reason}
        assert house.file(file_id).state is _S.DELETED
        assert house.record(b"one") == there
        # All else is written.
        assert house.record(b"two").state is _S.BACKUP_COMPLETE
        operation = house.registry.operations(file_id, 1)[0]
        assert operation.status == "failed"
        assert json.loads(operation.details or "") == {"from": "trash", "reason": reason}

    def test_two_that_come_back_to_one_place_do_not_both(self, house: House) -> None:
        house.settled(b"one")
        first = house.record(b"one").file_id
        self.act_on(house, b"one", state=_S.DELETED)
        house.tree.save(b"one", b"another")
        house.scan()
        second = house.record(b"one").file_id
        assert second != first
        self.act_on(house, b"one", state=_S.DELETED)
        act = house.registry.begin_act(house.root, "undelete", house.tick())
        intents = [Intent(house.ids.one(), file_id, "undelete") for file_id in (first, second)]
        house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)
        outcomes = [
            ActOutcome(i.operation_id, "completed", None, RecordChange(i.file_id, _S.UPLOADED))
            for i in intents
        ]
        refused = house.registry.finish_operations(act, outcomes, house.tick())
        assert list(refused) == [intents[1].operation_id]
        assert house.record(b"one").file_id == first

    def test_a_place_that_is_given_up_in_the_same_batch_is_free(self, house: House) -> None:
        house.settled(b"one")
        first = house.record(b"one").file_id
        self.act_on(house, b"one", state=_S.DELETED)
        house.tree.save(b"one", b"another")
        house.scan()
        second = house.record(b"one").file_id
        act = house.registry.begin_act(house.root, "replace", house.tick())
        intents = [Intent(house.ids.one(), file_id, "replace") for file_id in (second, first)]
        house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)
        states = [_S.DELETED, _S.UPLOADED]
        outcomes = [
            ActOutcome(i.operation_id, "completed", None, RecordChange(i.file_id, state))
            for i, state in zip(intents, states, strict=True)
        ]
        assert house.registry.finish_operations(act, outcomes, house.tick()) == {}
        assert house.record(b"one").file_id == first

    @pytest.mark.parametrize("to", [b"two.jpg", b"new/folder/one.txt", b"b/one.txt"])
    def test_a_file_that_is_put_elsewhere_keeps_its_id(self, house: House, to: bytes) -> None:
        house.settled(b"a/one.txt", b"b/other")
        record = house.record(b"a/one.txt")
        self.act_on(house, b"a/one.txt", state=_S.DELETED)
        house.tree.remove(b"a/one.txt")
        house.scan()
        act, (intent,) = self.begin(house, b"a/one.txt", verb="undelete")
        look = self.put_back(house, to, b"content of a/one.txt")
        refused = self.finish(
            house,
            act,
            intent,
            state=_S.UPLOADED,
            fingerprint=look,
            checksum=record.checksum,
            path=to,
        )
        assert refused == {}
        back = house.record(to)
        assert (back.file_id, back.state) == (record.file_id, _S.UPLOADED)
        assert back.policy_name == ("media" if to.endswith(b"jpg") else "documents")
        house.scan()
        house.hash()
        assert house.record(to).file_id == record.file_id
        assert sorted(house.found()) == sorted([to, b"b/other"])
        assert house.registry.file_at(house.root, b"a/one.txt") is None
