"""The contract of a registry: what acts do to records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lifecycle_sync.model.act import (
    DONE_BY_ACT,
    ActOutcome,
    Attributes,
    RecordChange,
    VersionRow,
    may_finish,
)
from lifecycle_sync.model.file import FileFlag, LifecycleState
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
