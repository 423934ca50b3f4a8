"""The contract of a registry: what is due, what was decided, and what people have said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.model.act import ActOutcome, Intent, RecordChange
from lifecycle_sync.model.event import AssignmentEvent, HoldEvent, PolicyEvent
from lifecycle_sync.model.file import FileType, Kind, LifecycleState
from lifecycle_sync.model.hold import Hold, Switch
from lifecycle_sync.model.plan import Decided, Subject
from lifecycle_sync.model.policy import AgeFrom, KeepRules, LifecyclePolicy, Match
from lifecycle_sync.testing.registry_contract_base import MANY, House, RegistryContractBase

DATE = 5_000


class DueContract(RegistryContractBase):
    """`DueStore`, and what `PolicyStore` says of people's statements."""

    def undecided(self, house: House) -> dict[bytes, Subject]:
        return {file.path: file for file in house.registry.undecided(None, MANY)}

    def decide(self, house: House, dates: dict[bytes, int | None]) -> None:
        """All records, with these next dates."""
        files = house.registry.undecided(None, MANY)
        house.registry.write_decided(
            [
                Decided(file.row_id, file.seq, "media", DATE + 1, dates.get(file.path))
                for file in files
            ],
            files[-1].seq,
        )

    def dates_come(self, house: House, at_ns: int, limit: int = MANY) -> list[bytes]:
        found: list[bytes] = []
        after: tuple[int, int] | None = None
        while True:
            page, after = house.registry.due(at_ns, after, limit)
            found += [file.path for file in page]
            if after is None:
                return found

    def test_what_is_new_is_undecided_and_shown_as_it_is(self, house: House) -> None:
        house.settled(b"a.txt", b"d/b.png")
        files = self.undecided(house)
        assert set(files) == {b"a.txt", b"d/b.png"}
        file, record = files[b"a.txt"], house.record(b"a.txt")
        assert (file.file_id, file.root, file.kind) == (record.file_id, b"/srv/files", Kind.REGULAR)
        assert (file.file_type, file.size, file.mtime_ns, file.inode) == (
            FileType.DOCUMENT,
            record.size,
            record.mtime_ns,
            record.inode,
        )
        assert (file.registered_ns, file.uid, file.state) == (
            record.registered_ns,
            record.uid,
            LifecycleState.UPLOADED,
        )
        assert (file.checksum, file.explicit, file.last_version_ns) == (record.checksum, None, None)
        assert (file.missing, file.has_archive, file.next_due_ns) == (False, False, None)
        assert file.governed_by == "documents"
        assert house.registry.subjects([file.file_id, b"x" * 16]) == {file.file_id: file}

    def test_what_was_decided_stays_so_until_the_record_changes(self, house: House) -> None:
        house.settled(b"a", b"b")
        self.decide(house, {b"a": DATE})
        assert self.undecided(house) == {}
        house.reopen()
        assert self.undecided(house) == {}
        file = house.registry.subjects([house.record(b"a").file_id])[house.record(b"a").file_id]
        assert (file.governed_by, file.expiry_ns, file.next_due_ns) == ("media", DATE + 1, DATE)
        house.write(b"a", content=b"changed")
        house.scan()
        assert set(self.undecided(house)) == {b"a"}

    def test_due_is_what_has_its_date_oldest_first(self, house: House) -> None:
        house.settled(b"a", b"b", b"c", b"d")
        self.decide(house, {b"a": DATE, b"b": DATE - 1, b"c": DATE + 1})
        assert self.dates_come(house, DATE - 2) == []
        assert self.dates_come(house, DATE) == [b"b", b"a"]
        assert self.dates_come(house, DATE + 1, limit=1) == [b"b", b"a", b"c"]

    def test_what_changed_since_is_undecided_and_not_due(self, house: House) -> None:
        house.settled(b"a", b"b")
        self.decide(house, {b"a": DATE, b"b": DATE})
        house.write(b"a", content=b"changed")
        house.scan()
        assert self.dates_come(house, DATE) == [b"b"]

    def test_a_decision_on_what_changed_meanwhile_is_not_written(self, house: House) -> None:
        house.settled(b"a")
        file = self.undecided(house)[b"a"]
        house.write(b"a", content=b"changed")
        house.scan()
        late = Decided(file.row_id, file.seq, "media", None, DATE)
        house.registry.write_decided([late], file.seq)
        assert self.dates_come(house, DATE) == []
        assert house.record(b"a").policy_name == "default"
        assert set(self.undecided(house)) == {b"a"}

    def test_writing_a_decision_is_no_change_of_the_record(self, house: House) -> None:
        house.settled(b"a")
        seq, record = house.registry.last_seq(), house.record(b"a")
        self.decide(house, {b"a": DATE})
        assert house.registry.last_seq() == seq
        assert house.record(b"a") == replace(record, policy_name="media")

    def test_other_rules_leave_nothing_decided(self, house: House) -> None:
        house.settled(b"a")
        self.decide(house, {b"a": DATE})
        house.registry.put_policy(LifecyclePolicy("mine"), house.tick())
        assert set(self.undecided(house)) == {b"a"}
        self.decide(house, {})
        house.registry.remove_policy("mine", house.tick())
        assert set(self.undecided(house)) == {b"a"}

    def test_a_policy_that_goes_takes_no_record_with_it(self, house: House) -> None:
        house.settled(b"a.txt")
        house.registry.put_policy(LifecyclePolicy("mine", match=Match(["*"])), house.tick())
        file = self.undecided(house)[b"a.txt"]
        house.registry.write_decided([Decided(file.row_id, file.seq, "mine", None, None)], file.seq)
        assert house.record(b"a.txt").policy_name == "mine"
        house.registry.remove_policy("mine", house.tick())
        assert house.record(b"a.txt").policy_name == "documents"

    def test_a_download_is_a_change_and_an_older_one_is_none(self, house: House) -> None:
        house.settled(b"a", b"b")
        self.decide(house, {b"a": DATE, b"b": DATE})
        before = house.record(b"a")
        house.registry.note_download(before.file_id, 500, house.tick())
        house.reopen()
        after = house.record(b"a")
        assert after == replace(
            before,
            seq=after.seq,
            changed_ns=house.now_ns,
            policy_name=after.policy_name,
        )
        assert after.seq > before.seq
        assert [(it.path, it.downloaded_ns) for it in house.registry.undecided(None, MANY)] == [
            (b"a", 500)
        ]
        assert self.dates_come(house, DATE) == [b"b"]
        house.registry.note_download(before.file_id, 500, house.tick())
        house.registry.note_download(before.file_id, 400, house.tick())
        assert house.record(b"a") == after
        house.registry.note_download(before.file_id, 600, house.tick())
        assert house.registry.subjects([before.file_id])[before.file_id].downloaded_ns == 600
        with pytest.raises(NotFoundError):
            house.registry.note_download(b"x" * 16, 1, house.tick())

    # -- policies --------------------------------------------------------------------------

    def test_all_that_a_policy_says_is_kept(self, house: House) -> None:
        policy = LifecyclePolicy(
            "mine",
            [FileType.IMAGE, FileType.OTHER],
            match=Match(["/srv/*"], ["*.tmp"], 1, 2**40, [0, 1000], 7),
            age_from=AgeFrom.ACCESSED,
            keep=KeepRules(1, 2, 3, 4, 5, 6),
            grace_days=3,
            verified_copies=2,
            verified_within_days=7,
            verified_places=["/mnt/second"],
            copies=["/mnt/second"],
        )
        house.registry.put_policy(policy, house.tick())
        house.reopen()
        assert policy in house.registry.policies()

    def test_a_policy_with_faults_is_refused_with_all_of_them(self, house: House) -> None:
        policy = LifecyclePolicy("mine", retention_days=-1, max_versions=-2, auto_delete=True)
        with pytest.raises(UsageError) as caught:
            house.registry.put_policy(policy, house.tick())
        assert all(
            word in str(caught.value)
            for word in ("retention_days", "max_versions", "delete_after_days")
        )
        assert policy not in house.registry.policies()

    def test_a_policy_is_chosen_for_a_file_and_no_longer(self, house: House) -> None:
        house.settled(b"a.txt")
        file_id = house.record(b"a.txt").file_id
        house.registry.assign_policy(file_id, "media", house.tick())
        assert self.undecided(house)[b"a.txt"].explicit == "media"
        record = house.record(b"a.txt")
        assert (record.policy_name, record.policy_explicit) == ("media", True)
        house.registry.assign_policy(file_id, None, house.tick())
        record = house.record(b"a.txt")
        assert (record.policy_name, record.policy_explicit) == ("documents", False)

    def test_only_what_is_there_is_assigned(self, house: House) -> None:
        house.settled(b"a")
        with pytest.raises(NotFoundError):
            house.registry.assign_policy(b"x" * 16, "media", house.tick())
        with pytest.raises(NotFoundError):
            house.registry.assign_policy(house.record(b"a").file_id, "none", house.tick())
        assert house.record(b"a").policy_name == "default"

    def test_what_people_have_said_can_be_told_to_a_vault(self, house: House) -> None:
        house.settled(b"d/a")
        file_id = house.record(b"d/a").file_id
        assert house.registry.statements() == []
        policy = LifecyclePolicy("mine")
        at_ns = house.tick()
        house.registry.put_policy(policy, at_ns)
        house.registry.put_policy(LifecyclePolicy("gone"), house.tick())
        gone_ns = house.tick()
        house.registry.remove_policy("gone", gone_ns)
        chosen_ns = house.tick()
        house.registry.assign_policy(file_id, "mine", chosen_ns)
        hold = Hold(b"h" * 16, file_id, None, "a lawsuit", "me", house.tick())
        house.registry.add_hold(hold)
        told = house.registry.statements()
        assert PolicyEvent(policy, False, at_ns) in told
        assert PolicyEvent(LifecyclePolicy("gone"), True, gone_ns) in told
        assert AssignmentEvent(file_id, house.root, b"d/a", "mine", True, chosen_ns) in told
        assert HoldEvent(hold.hold_id, file_id, None, "a lawsuit", "me", hold.created_ns) in told
        assert len(told) == 4

    # -- the journal, and switches ---------------------------------------------------------

    def test_deletions_of_a_day_are_counted_by_their_root(self, house: House) -> None:
        house.settled(b"a", b"b", b"c")
        ids = house.ids.take(3)
        files = [house.record(path).file_id for path in (b"a", b"b", b"c")]
        begun_ns = house.tick()
        act = house.registry.begin_act(house.root, "delete", begun_ns)
        intents = [Intent(it, file, "delete") for it, file in zip(ids, files, strict=True)]
        house.registry.begin_operations(act, intents, begun_ns, unless_held=True)
        outcomes = [
            ActOutcome(
                ids[0], "completed", None, RecordChange(files[0], state=LifecycleState.DELETED)
            ),
            ActOutcome(ids[1], "failed"),
        ]
        house.registry.finish_operations(act, outcomes, house.tick())
        assert house.registry.deleted_since(house.root, begun_ns) == 1
        assert house.registry.deleted_since(house.root, begun_ns + 1) == 0
        assert house.registry.deleted_since(b"another root....", begun_ns) == 0
        assert [it.operation_id for it in house.registry.journal(None, MANY)][-3:] == ids
        assert house.registry.journal(ids[2], MANY) == []
        assert house.registry.journal(None, MANY, types=["archive"]) == []
        assert len(house.registry.journal(None, 2, types=["delete"])) == 2

    def test_a_switch_is_seen_until_it_is_cleared(self, house: House) -> None:
        assert house.registry.switch("pause") is None
        assert not house.registry.clear_switch("pause")
        pause = Switch("pause", "moving house", "me", house.tick())
        house.registry.set_switch(pause)
        house.reopen()
        assert house.registry.switch("pause") == pause
        later = Switch("pause", "again", "you", house.tick())
        house.registry.set_switch(later)
        assert house.registry.switch("pause") == later
        assert house.registry.clear_switch("pause")
        assert house.registry.switch("pause") is None
