"""The contract of a registry: what acts do to records, also beside scans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lifecycle_sync.model.act import (
    DONE_BY_ACT,
    ActOutcome,
    Attributes,
    Intent,
    RecordChange,
    VersionRow,
    may_finish,
)
from lifecycle_sync.model.file import FileFlag, LifecycleState, Tracking
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.plan import KeptVersion, MarkedFile, VersionMark
from lifecycle_sync.testing.registry_contract_acts import STORE, ActContractBase, tuple_of
from lifecycle_sync.testing.registry_contract_base import MANY, House
from lifecycle_sync.testing.registry_contract_states import WAY_TO

_S = LifecycleState


class OutcomeContract(ActContractBase):
    """`finish_operations`."""

    def test_an_outcome_changes_the_record_and_adds_its_version(self, house: House) -> None:
        house.settled(b"one")
        before = house.record(b"one")
        act, (intent,) = self.begin(house, b"one")
        version = self.version(house)
        outcome = ActOutcome(
            intent.operation_id,
            "completed",
            None,
            RecordChange(
                before.file_id,
                _S.BACKUP_COMPLETE,
                tuple_of(before),
                backup_path="ab/sha256:cd",
                version=version,
            ),
        )
        refused = house.registry.finish_operations(
            act, [outcome], house.tick(), manifests=[(STORE, "m1"), (STORE, "m2")]
        )
        assert refused == {}
        house.reopen()
        after = house.record(b"one")
        assert after == replace(
            before,
            state=_S.BACKUP_COMPLETE,
            state_since_ns=house.now_ns,
            changed_ns=house.now_ns,
            backup_path="ab/sha256:cd",
            seq=after.seq,
        )
        assert after.seq > before.seq
        assert house.registry.versions(before.file_id) == [version]
        assert house.registry.applied_manifests(STORE) == {"m1", "m2"}
        assert house.registry.applied_manifests(b"another") == set()

    def test_finishing_twice_is_finishing_once(self, house: House) -> None:
        house.settled(b"one")
        record = house.record(b"one")
        act, (intent,) = self.begin(house, b"one")
        change = RecordChange(record.file_id, _S.BACKUP_COMPLETE, version=self.version(house))
        first = ActOutcome(intent.operation_id, "completed", None, change)
        house.registry.finish_operations(act, [first, first], house.tick())
        state = house.everything(), house.registry.versions(record.file_id)
        other = ActOutcome(
            intent.operation_id,
            "failed",
            "{}",
            RecordChange(record.file_id, _S.DELETED, version=self.version(house, 2)),
        )
        house.registry.finish_operations(act, [first, other], house.tick())
        unknown = ActOutcome(house.ids.one(), "completed", None, change)
        house.registry.finish_operations(act, [unknown], house.tick())
        assert (house.everything(), house.registry.versions(record.file_id)) == state

    @pytest.mark.parametrize("new", _S)
    @pytest.mark.parametrize("old", _S)
    def test_an_act_leaves_a_record_as_the_transition_table_has_it(
        self, house: House, old: LifecycleState, new: LifecycleState
    ) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id
        for step in WAY_TO[old]:
            house.registry.set_state(file_id, step, house.tick())
        refused = self.act_on(house, b"one", state=new)
        record = house.file(file_id)
        if may_finish(old, new):
            assert refused == {}
            assert record.state is new
            assert old is new or record.state_since_ns == house.now_ns
        else:
            assert list(refused.values()) == [f"it is {old.value} now"]
            assert record.state is old

    def test_a_backup_of_what_has_changed_since_does_not_count_for_it(self, house: House) -> None:
        house.settled(b"one")
        act, (intent,) = self.begin(house, b"one")
        expected = tuple_of(house.record(b"one"))
        house.write(b"one", content=b"written meanwhile")
        house.scan()
        before = house.record(b"one")
        version = self.version(house)
        refused = self.finish(
            house,
            act,
            intent,
            state=_S.BACKUP_COMPLETE,
            expected=expected,
            checksum=b"o" * 32,
            backup_path="ab/cd",
            version=version,
        )
        assert refused == {intent.operation_id: "its record has changed meanwhile"}
        after = house.record(b"one")
        assert (after.state, after.checksum, after.hash_due) == (
            _S.UPLOADED,
            before.checksum,
            True,
        )
        # The version is there all the same.
        assert house.registry.versions(after.file_id) == [version]
        assert after.backup_path == "ab/cd"
        assert house.registry.operations(after.file_id, 1)[0].status == "completed"

    @pytest.mark.parametrize("state", sorted(DONE_BY_ACT))
    def test_what_an_act_took_away_is_gone_whatever_the_record_became(
        self, house: House, state: LifecycleState
    ) -> None:
        house.settled(b"one")
        act, (intent,) = self.begin(house, b"one")
        expected = tuple_of(house.record(b"one"))
        house.tree.touch(b"one")
        house.scan()
        house.registry.set_state(
            intent.file_id, _S.PROCESSING, house.tick(), set_flags=FileFlag.CLAIMED.value
        )
        assert self.finish(house, act, intent, state=state, expected=expected) == {}
        record = house.file(intent.file_id)
        assert (record.state, record.hash_due) == (state, False)

    def test_flags_and_copies_are_set_and_cleared_and_left(self, house: House) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id

        def seen(**change: Any) -> tuple[FileFlag, str | None, str | None]:
            assert self.act_on(house, b"one", **change) == {}
            record = house.file(file_id)
            return record.flags, record.backup_path, record.archive_path

        suspect = FileFlag.SUSPECT
        assert seen(set_flags=suspect.value, backup_path="b") == (suspect, "b", None)
        assert seen(archive_path="a", set_flags=1 << 20) == (suspect, "b", "a")
        assert seen(clear_flags=suspect.value, backup_path=None) == (FileFlag(0), None, "a")

    def test_a_change_that_is_none_is_no_change(self, house: House) -> None:
        house.settled(b"one")
        before = house.record(b"one")
        assert self.act_on(house, b"one", state=before.state, expected=tuple_of(before)) == {}
        assert house.record(b"one") == before

    def test_a_checksum_that_an_act_has_read_is_that_of_the_file(self, house: House) -> None:
        house.write(b"one")
        house.scan()
        assert house.due() == {b"one"}
        self.act_on(house, b"one", checksum=b"c" * 32, algorithm="blake3")
        record = house.record(b"one")
        assert (record.checksum, record.algorithm, record.hash_due) == (b"c" * 32, "blake3", False)
        assert house.due() == set()

    def test_a_file_that_an_act_has_written_has_the_tuple_it_has_now(self, house: House) -> None:
        house.settled(b"one")
        act, (intent,) = self.begin(house, b"one", verb="restore")
        house.tree.save(b"one", b"restored content")
        entry = house.tree.files[b"one"]
        look = Fingerprint(entry.kind, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
        refused = self.finish(
            house,
            act,
            intent,
            state=_S.UPLOADED,
            fingerprint=look,
            attributes=Attributes(0o100600, 7, 8, 2),
            checksum=b"r" * 32,
        )
        assert refused == {}
        record = house.record(b"one")
        assert tuple_of(record) == look
        assert (record.mode, record.uid, record.gid, record.nlink) == (0o100600, 7, 8, 2)
        assert (record.checksum, record.hash_due) == (b"r" * 32, False)

    def test_a_tuple_without_owner_and_checksum_has_them_looked_at_again(
        self, house: House
    ) -> None:
        house.settled(b"one")
        act, (intent,) = self.begin(house, b"one")
        house.tree.save(b"one", b"other content")
        house.tree.edit(b"one", mode=0o100640)
        entry = house.tree.files[b"one"]
        look = Fingerprint(entry.kind, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
        self.finish(house, act, intent, fingerprint=look)
        assert house.due() == {b"one"}
        house.scan()
        assert house.record(b"one").mode == 0o100640

    def test_outcomes_of_an_act_that_died_are_written_by_another(self, house: House) -> None:
        house.settled(b"one")
        _dead, (intent,) = self.begin(house, b"one", verb="delete")
        recovery = house.registry.begin_act(house.root, "recover", house.tick())
        assert self.finish(house, recovery, intent, state=_S.DELETED) == {}
        assert house.registry.pending_operations(None) == []
        (operation, *_) = house.registry.operations(intent.file_id, MANY)
        assert (operation.operation_type, operation.status) == ("delete", "completed")

    def test_what_became_of_a_record_that_is_no_more_is_told(self, house: House) -> None:
        house.settled(b"one")
        act, (intent,) = self.begin(house, b"one")
        house.registry.remove_repository(house.root)
        version = self.version(house)
        refused = self.finish(house, act, intent, state=_S.BACKUP_COMPLETE, version=version)
        assert refused == {intent.operation_id: "no such file"}
        assert house.registry.versions(intent.file_id) == [version]
        assert house.registry.operations(intent.file_id, 1)[0].status == "completed"

    def test_many_outcomes_of_all_sorts_are_written_at_once(self, house: House) -> None:
        paths = [b"%03d" % number for number in range(260)]
        house.settled(*paths)
        act, intents = self.begin(house, *paths)
        states = [_S.BACKUP_COMPLETE, _S.DELETED, _S.ARCHIVED, None]
        outcomes = [
            ActOutcome(
                intent.operation_id,
                "completed",
                None,
                RecordChange(
                    intent.file_id,
                    states[at % 4],
                    version=self.version(house, at + 1) if at % 3 else None,
                ),
            )
            for at, intent in enumerate(intents)
        ]
        assert house.registry.finish_operations(act, outcomes, house.tick()) == {}
        for at, intent in enumerate(intents):
            assert house.file(intent.file_id).state is (states[at % 4] or _S.UPLOADED)
            numbers = [version.number for version in house.registry.versions(intent.file_id)]
            assert numbers == ([at + 1] if at % 3 else [])
        seqs = [record.seq for record in house.registry.changes(0, MANY)]
        assert seqs == sorted(set(seqs))

    def test_versions_come_newest_first_and_outlive_their_record(self, house: House) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id
        rows = [self.version(house, number) for number in (1, 2, 10)]
        rows.append(self.version(house, 10, checksum=None, location=None))
        for row in rows:
            self.act_on(house, b"one", version=row)
        self.act_on(house, b"one", version=rows[0])
        assert house.registry.versions(file_id) == rows[::-1]
        house.registry.remove_repository(house.root)
        house.reopen()
        assert house.registry.versions(file_id) == rows[::-1]
        assert house.registry.versions(house.ids.one()) == []

    def test_versions_that_no_rule_keeps_are_marked_until_one_does(self, house: House) -> None:
        registry = house.registry
        registry.set_store("backup", STORE)
        registry.set_store("archive", b"a" * 16)
        house.settled(b"one", b"two")
        one, two = house.record(b"one").file_id, house.record(b"two").file_id
        mine = STORE.hex() + "/manifest"
        rows = [self.version(house, number, location=mine) for number in (1, 2, 3)]
        for row in (*rows, self.version(house, 4, location=f"{(b'a' * 16).hex()}/manifest")):
            self.act_on(house, b"one", version=row)
        self.act_on(house, b"two", version=self.version(house, 1, location=STORE.hex()))
        kept = registry.kept_versions([one, two, house.ids.one()])
        # The archive keeps what it has.
        assert kept[one] == [
            KeptVersion(it.version_id, it.number, it.created_ns, it.size, None) for it in rows[::-1]
        ]
        assert (set(kept), len(kept[two])) == ({one, two}, 1)
        assert registry.count_versions([one, two, house.ids.one()]) == 5
        assert registry.files_with_versions_beyond(None, MANY) == []
        marks = [VersionMark(one, it.version_id, 77) for it in rows[:2]]
        marks.append(VersionMark(two, kept[two][0].version_id, 78))
        registry.write_decided([], None, marks)
        house.reopen()
        registry = house.registry
        assert [it.beyond_ns for it in registry.kept_versions([one])[one]] == [None, 77, 77]
        assert registry.files_with_versions_beyond(None, MANY) == sorted([one, two])
        assert registry.files_with_versions_beyond(min(one, two), MANY) == [max(one, two)]
        assert len(registry.files_with_versions_beyond(None, 1)) == 1
        self.marked_as_they_are(house, one, rows)
        registry.write_decided([], None, [VersionMark(two, kept[two][0].version_id, None)])
        assert registry.files_with_versions_beyond(None, MANY) == [one]

    def marked_as_they_are(self, house: House, one: bytes, rows: Sequence[VersionRow]) -> None:
        registry = house.registry
        found, last = registry.marked_files(None, MANY)
        assert [it.file_id for it in found] == sorted({it.file_id for it in found})
        told = next(it for it in found if it.file_id == one)
        assert told == MarkedFile(
            one,
            "1,2",
            (rows[0].version_id + rows[1].version_id).hex().upper(),
            rows[0].size + rows[1].size,
            max(rows[0].created_ns, rows[1].created_ns),
            1,
            rows[2].created_ns,
            house.root,
            house.record(b"one").file_type,
            None,
        )
        other = next(it for it in found if it.file_id != one)
        assert (other.kept, other.kept_since_ns) == (0, None)
        assert last == max(it.file_id for it in found)
        assert registry.marked_files(last, MANY) == ([], None)
        some, middle = registry.marked_files(None, 1)
        assert middle is not None
        assert some + registry.marked_files(middle, MANY)[0] == found
        registry.assign_policy(one, "media", house.tick())
        explicit = {it.file_id: it.explicit for it in registry.marked_files(None, MANY)[0]}
        assert explicit == {one: "media", other.file_id: None}
        # What is suspect, or not followed, keeps all that it has.
        self.act_on(house, b"one", set_flags=int(FileFlag.SUSPECT))
        assert [it.file_id for it in registry.marked_files(None, MANY)[0]] == [other.file_id]
        self.act_on(house, b"one", clear_flags=int(FileFlag.SUSPECT))
        assert one in {it.file_id for it in registry.marked_files(None, MANY)[0]}
        registry.unregister(one, house.tick())
        assert [it.file_id for it in registry.marked_files(None, MANY)[0]] == [other.file_id]

    def test_the_vault_of_a_kind_is_remembered_until_it_is_forgotten(self, house: House) -> None:
        registry = house.registry
        assert registry.store("backup") is None
        registry.set_store("backup", STORE)
        registry.set_store("archive", b"a" * 16)
        house.reopen()
        assert house.registry.store("backup") == STORE
        house.registry.set_store("backup", b"n" * 16)
        house.registry.set_store("archive", None)
        assert house.registry.store("backup") == b"n" * 16
        assert house.registry.store("archive") is None

    def test_manifests_are_noted_once(self, house: House) -> None:
        house.registry.add_applied(STORE, ["a", "b"], house.now_ns)
        house.registry.add_applied(STORE, ["b", "c"], house.now_ns)
        house.reopen()
        assert house.registry.applied_manifests(STORE) == {"a", "b", "c"}


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
