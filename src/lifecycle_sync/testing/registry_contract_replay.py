"""The contract of a registry: what it learns from the events of vaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import (
    ConfirmationEvent,
    DirectoryEvent,
    Event,
    HoldEvent,
    PolicyEvent,
    PrunedEvent,
    RepositoryEvent,
    StateEvent,
    UnknownEvent,
)
from lifecycle_sync.model.file import FileRecord, Kind, LifecycleState
from lifecycle_sync.model.hold import Confirmation
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.policy import SHIPPED, LifecyclePolicy
from lifecycle_sync.model.repository import RepositoryKind, RepositoryStatus
from lifecycle_sync.testing.registry_contract_acts import STORE, ActContractBase
from lifecycle_sync.testing.registry_contract_base import MANY, START_NS, House
from lifecycle_sync.testing.story import Story, hours, learned, without_traces

_S = LifecycleState


class ReplayContract(ActContractBase):
    """`ReplayStore`."""

    def story(self, house: House, root: bytes | None = None) -> Story:
        return Story(house, root or house.ids.one())

    def apply(self, house: House, *events: Event, **how: Any) -> Any:
        return house.registry.apply_events(events, house.tick(), **how)

    def known(self, story: Story, name: str) -> FileRecord:
        return story.house.file(story.id(name))

    # -- from nothing ----------------------------------------------------------------------

    def test_a_lost_registry_learns_its_files_from_their_versions(self, house: House) -> None:
        story = self.story(house)
        one = story.version("a/one.txt", 5)
        two = story.version("a/one.txt", 6, 2, metadata=story.metadata(9, btime_ns=hours(-1)))
        done = self.apply(
            house,
            story.repository(),
            one,
            two,
            manifests=[(STORE, "m1")],
        )
        assert (done.versions, done.records, done.passed_over) == (2, 1, 0)
        house.reopen()
        root = house.registry.repository(story.root)
        assert root is not None
        assert (root.path, root.kind, root.status) == (
            b"/srv/lost",
            RepositoryKind.ROOT,
            RepositoryStatus.OFFLINE,
        )
        assert (root.enforce, root.added_ns, root.generation) == (False, hours(1), 0)
        record = self.known(story, "a/one.txt")
        assert record.path == b"a/one.txt"
        assert record.repository_id == story.root
        assert (record.kind, record.size, record.mtime_ns) == (Kind.REGULAR, 9, hours(0))
        assert (record.ctime_ns, record.inode, record.nlink) == (hours(0), 77, 2)
        assert (record.mode, record.uid, record.gid) == (0o100640, 5, 6)
        assert (record.atime_ns, record.btime_ns) == (3, hours(-1))
        assert (record.checksum, record.algorithm) == (b"\2" * 32, "sha256")
        assert not record.hash_due
        assert record.state is _S.BACKUP_COMPLETE
        assert (record.registered_ns, record.state_since_ns) == (hours(5), hours(6))
        assert record.policy_name == "documents"
        assert record.backup_path == f"{STORE.hex()}/sha256:{'02' * 32}"
        assert record.archive_path is None
        rows = house.registry.versions(record.file_id)
        assert [(row.number, row.created_ns, row.size) for row in rows] == [
            (2, hours(6), 9),
            (1, hours(5), 1),
        ]
        assert {row.location for row in rows} == {f"{STORE.hex()}/m1"}
        assert house.registry.applied_manifests(STORE) == {"m1"}

    def test_the_journal_learns_which_acts_there_were(self, house: House) -> None:
        story = self.story(house)
        kept = story.version("one", 5)
        told = {
            "delete": story.state("one", 6, _S.DELETED),
            "undelete": replace(story.state("one", 7, _S.UPLOADED), reason="undeleted"),
            "archive": story.state("one", 8, _S.ARCHIVED),
            "recall": replace(story.state("one", 9, _S.UPLOADED), reason="recalled"),
            "restore": replace(story.state("one", 10, _S.UPLOADED), reason="restored"),
            "purge": replace(story.state("one", 11, _S.DELETED), reason="purged from the trash"),
        }
        self.apply(house, story.repository(), kept, *told.values())
        # In the archive, but not gone there.
        self.apply(house, story.version("one", 7.5), kind="archive")
        journal = house.registry.operations(story.id("one"), MANY)
        assert [(it.operation_type, it.operation_id, it.timestamp_ns) for it in journal] == [
            *((verb, it.operation_id, it.at_ns) for verb, it in reversed(told.items())),
            ("backup", kept.operation_id, kept.at_ns),
        ]
        assert {(it.status, it.run_id) for it in journal} == {("completed", None)}
        assert '"reason":"told"' in (journal[-2].details or "")
        # A second time, and after the journal itself, nothing is new.
        self.apply(house, story.repository(), kept, *told.values())
        assert house.registry.operations(story.id("one"), MANY) == journal

    def test_what_the_journal_says_itself_stands(self, house: House) -> None:
        house.settled(b"here")
        file_id = house.record(b"here").file_id
        operation = Operation(house.ids.one(), file_id, "delete", house.tick(), "failed")
        house.registry.add_operations([operation])
        gone = StateEvent(
            file_id, house.root, b"here", _S.DELETED, house.tick(), operation.operation_id
        )
        self.apply(house, gone)
        assert house.registry.operations(file_id, 1) == [operation]

    def test_the_next_scan_finds_what_was_learned(self, house: House) -> None:
        story = self.story(house, house.root)
        house.write(b"same", b"changed", content=b"content")
        entry = house.tree.files[b"same"]
        look = {
            "size": entry.size,
            "mtime_ns": entry.mtime_ns,
            "ctime_ns": entry.ctime_ns,
            "inode": entry.inode,
        }
        self.apply(
            house,
            story.version("same", 5, metadata=story.metadata(**look)),
            story.version("changed", 5),
            story.version("gone", 5),
        )
        house.scan()
        same, changed = self.known(story, "same"), self.known(story, "changed")
        assert (same.state, same.hash_due, same.checksum) == (
            _S.BACKUP_COMPLETE,
            False,
            b"\1" * 32,
        )
        # What a version does not tell as the scan does is the scan's.
        assert (same.mode, same.uid, same.gid) == (0o100644, 1000, 100)
        assert (changed.state, changed.hash_due) == (_S.UPLOADED, True)
        assert self.known(story, "gone").state is _S.DELETED
        assert len(house.registry.changes(0, MANY)) == 3

    def test_symlinks_and_what_is_known_by_its_state_alone(self, house: House) -> None:
        story = self.story(house)
        link = story.metadata(kind=Kind.SYMLINK, target=b"x")
        self.apply(
            house,
            story.repository(),
            story.version("link", 5, metadata=link, content=None),
            story.state("state only", 6, _S.DELETED),
            story.assignment("chosen", 7, "archives"),
        )
        record = self.known(story, "link")
        assert (record.kind, record.checksum, record.hash_due) == (Kind.SYMLINK, None, False)
        assert house.registry.versions(record.file_id)[0].checksum is None
        deleted = self.known(story, "state only")
        assert (deleted.state, deleted.state_since_ns) == (_S.DELETED, hours(6))
        assert not deleted.hash_due
        chosen = self.known(story, "chosen")
        assert (chosen.state, chosen.hash_due) == (_S.UPLOADED, True)
        assert (chosen.policy_name, chosen.policy_explicit) == ("archives", True)

    def test_events_that_say_nothing_to_a_registry_are_passed_over(self, house: House) -> None:
        before = house.everything()
        self.apply(
            house,
            DirectoryEvent(house.root, b"a", self.story(house).metadata(), hours(1)),
            UnknownEvent(b'{"event":"of tomorrow"}'),
            manifests=[(STORE, "m")],
        )
        assert house.everything() == before
        assert house.registry.applied_manifests(STORE) == {"m"}

    def test_files_of_a_repository_that_nobody_tells_of_are_counted(self, house: House) -> None:
        story = self.story(house)
        done = self.apply(house, story.version("one", 5), story.state("two", 6, _S.DELETED))
        assert (done.passed_over, done.records) == (2, 0)
        assert done.reasons == {"no event tells of their repository"}

    def test_a_repository_may_be_told_of_after_its_files(self, house: House) -> None:
        story = self.story(house)
        events: list[Event] = [story.version(f"{number}", 5) for number in range(30)]
        done = self.apply(house, *events, story.repository())
        assert (done.records, done.passed_over) == (30, 0)

    def test_a_path_that_another_repository_has_is_not_taken(self, house: House) -> None:
        story = self.story(house)
        story.path = b"/srv/files"
        done = self.apply(house, story.repository(), story.version("one", 5))
        assert house.registry.repositories() == [house.repository]
        assert done.passed_over == 2

    # -- what is newer ---------------------------------------------------------------------

    def test_the_newest_event_says_what_a_file_is_and_where(self, house: House) -> None:
        story = self.story(house)
        self.apply(house, story.repository(), story.version("one", 5))
        self.apply(house, story.state("one", 9, _S.ARCHIVED, b"moved/one.jpg"))
        record = self.known(story, "one")
        assert (record.path, record.state) == (b"moved/one.jpg", _S.ARCHIVED)
        assert (record.policy_name, record.state_since_ns) == ("media", hours(9))
        self.apply(house, story.state("one", 7, _S.DELETED, b"elsewhere"))
        assert without_traces(self.known(story, "one")) == without_traces(record)

    def test_what_the_registry_knows_better_stays(self, house: House) -> None:
        house.settled(b"one.txt", b"two.txt")
        story = self.story(house, house.root)
        story.ids = {name.decode(): house.record(name).file_id for name in (b"one.txt", b"two.txt")}
        before = house.record(b"one.txt")
        self.apply(
            house,
            story.state("one.txt", 50, _S.DELETED, b"elsewhere"),
            story.version("one.txt", 51),
            story.version("two.txt", 500),
        )
        assert replace(house.record(b"one.txt"), seq=0, changed_ns=0) == replace(
            before, seq=0, changed_ns=0
        )
        assert len(house.registry.versions(before.file_id)) == 1
        # A rolled-back database: the version is newer. What the scan saw of the file stays.
        after = house.record(b"two.txt")
        assert (after.state, after.state_since_ns) == (_S.BACKUP_COMPLETE, hours(500))
        assert after.size != 1
        house.scan()
        assert house.record(b"two.txt").state is _S.BACKUP_COMPLETE

    def test_a_deletion_that_a_rolled_back_database_forgot_is_learned(self, house: House) -> None:
        house.settled(b"one", b"two")
        story = self.story(house, house.root)
        story.ids["one"] = house.record(b"one").file_id
        house.tree.remove(b"one")
        house.scan_without_settling()
        self.apply(house, story.state("one", 500, _S.DELETED))
        assert house.missing() == []
        assert self.known(story, "one").state is _S.DELETED

    def test_of_two_files_at_one_place_the_newer_is_live(self, house: House) -> None:
        story = self.story(house)
        self.apply(
            house, story.repository(), story.version("a", 5, path=b"x"), story.version("b", 4)
        )
        self.apply(house, story.version("c", 7, path=b"x"), story.version("d", 3, path=b"b"))
        states = {name: self.known(story, name).state for name in "abcd"}
        live = _S.BACKUP_COMPLETE
        assert states == {"a": _S.DELETED, "b": live, "c": live, "d": _S.DELETED}

    def test_what_files_an_archive_has_is_told_apart(self, house: House) -> None:
        story = self.story(house)
        key = ContentKey("blake3", b"k" * 32)
        archived = story.version("one", 6, 2, content=key, state=_S.ARCHIVED)
        self.apply(house, story.repository(), story.version("one", 5), manifests=[(STORE, "m")])
        other = b"archive 89abcdef"
        self.apply(house, archived, manifests=[(other, "m1"), (other, "m2")], kind="archive")
        record = self.known(story, "one")
        assert record.state is _S.ARCHIVED
        assert record.archive_path == f"{other.hex()}/{key}"
        assert record.backup_path == f"{STORE.hex()}/sha256:{'01' * 32}"
        newest = house.registry.versions(record.file_id)[0]
        assert (newest.algorithm, newest.location) == ("blake3", other.hex())

    def test_enforcement_is_as_it_was_last_said(self, house: House) -> None:
        story = self.story(house)

        def enforced(*events: RepositoryEvent) -> bool:
            self.apply(house, *events)
            root = house.registry.repository(story.root)
            assert root is not None
            return root.enforce

        assert enforced(story.repository(1), story.repository(3, enforce=True))
        assert enforced(story.repository(2))
        assert not enforced(story.repository(3))
        assert enforced(story.repository(4, enforce=True, path=b"/srv/moved"))
        root = house.registry.repository(story.root)
        assert root is not None
        assert root.path == b"/srv/moved"
        house.registry.update_repository(replace(root, enforce=False))
        assert not enforced(story.repository(5, enforce=True))

    # -- policies, holds -------------------------------------------------------------------

    def test_policies_are_as_they_were_last_changed(self, house: House) -> None:
        one = LifecyclePolicy("one", retention_days=1)
        two = replace(one, retention_days=2)
        self.apply(house, PolicyEvent(two, False, hours(5)), PolicyEvent(one, False, hours(4)))
        assert house.registry.policies() == [*SHIPPED, two]
        self.apply(house, PolicyEvent(one, True, hours(6)))
        self.apply(house, PolicyEvent(one, False, hours(5)))
        assert house.registry.policies() == list(SHIPPED)
        house.registry.put_policy(one, house.tick())
        self.apply(house, PolicyEvent(one, True, hours(7)))
        assert house.registry.policies() == [*SHIPPED, one]
        done = self.apply(house, PolicyEvent(SHIPPED[1], True, hours(900)))
        assert (done.passed_over, done.reasons) == (1, {"a shipped policy is not removed"})

    def test_a_chosen_policy_may_be_told_of_before_it_is_made(self, house: House) -> None:
        story = self.story(house)
        self.apply(
            house,
            story.assignment("one.txt", 5, "contracts"),
            story.assignment("two.txt", 6, "contracts", explicit=False),
            story.assignment("two.txt", 5, "archives"),
            story.repository(),
        )
        assert self.known(story, "one.txt").policy_name == "documents"
        self.apply(house, PolicyEvent(LifecyclePolicy("contracts"), False, hours(4)))
        one, two = self.known(story, "one.txt"), self.known(story, "two.txt")
        assert (one.policy_name, one.policy_explicit) == ("contracts", True)
        assert (two.policy_name, two.policy_explicit) == ("documents", False)

    def test_a_choice_that_was_made_here_later_stays(self, house: House) -> None:
        house.settled(b"one.txt")
        record = house.register(b"one.txt", "archives")
        story = self.story(house, house.root)
        story.ids["one.txt"] = record.file_id
        self.apply(house, story.assignment("one.txt", 50, "media"))
        assert house.record(b"one.txt").policy_name == "archives"
        self.apply(house, story.assignment("one.txt", 500, "media"))
        assert house.record(b"one.txt").policy_name == "media"

    def test_holds_stay_released_and_hold_what_comes_later(self, house: House) -> None:
        story = self.story(house)
        hold = HoldEvent(story.id("hold"), story.id("one"), None, "audit", "me", hours(2))
        query = HoldEvent(story.id("query"), None, "/srv/lost/", "case", "me", hours(3), hours(900))
        self.apply(house, replace(hold, released_ns=hours(9)), query)
        self.apply(house, hold, query, replace(hold, released_ns=hours(8)))
        kept = house.registry.holds()
        assert [(h.reason, h.released_ns) for h in kept] == [("audit", hours(8)), ("case", None)]
        self.apply(house, story.repository(), story.version("one", 5))
        one = story.id("one")
        assert house.registry.held([one], house.now_ns) == {one: "case"}

    def test_confirmations_come_back(self, house: House) -> None:
        event = ConfirmationEvent(house.root, "mass", "5 of 6", hours(4))
        self.apply(house, event)
        self.apply(house, event)
        assert house.registry.confirmations(house.root) == [
            Confirmation(house.root, "mass", "5 of 6", hours(4))
        ]

    # -- together --------------------------------------------------------------------------

    def test_more_events_than_one_transaction_takes(self, house: House) -> None:
        story = self.story(house)
        events: list[Event] = [
            story.version(f"{number % 40}", 5 + number / 1000, number + 1) for number in range(1200)
        ]
        done = self.apply(house, *events, story.repository(), manifests=[(STORE, "m")])
        assert done.versions == 1200
        assert len(house.registry.changes(0, MANY)) == 40
        again = self.apply(house, *events, story.repository(), manifests=[(STORE, "m")])
        assert again.versions == 0

    def test_applying_twice_is_applying_once(self, house: House) -> None:
        story = self.story(house)
        events = example(story)
        self.apply(house, *events, manifests=[(STORE, "m")])
        seq = house.registry.last_seq()
        before = learned(house.registry, story.ids.values())
        self.apply(house, *events, manifests=[(STORE, "m")])
        assert learned(house.registry, story.ids.values()) == before
        assert house.changed_since(seq) == set()

    def test_versions_that_were_pruned_are_forgotten(self, house: House) -> None:
        registry, story = house.registry, Story(house, house.ids.one())
        old, kept, anew = (story.version("one", at, at) for at in (2, 3, 4))
        registry.apply_events([story.repository(), old, kept, anew], START_NS)
        pruned = PrunedEvent((old.version_id, anew.version_id, b"nobody knows  it"), hours(3))
        for _ in range(2):
            registry.apply_events([pruned], START_NS)
            # What was told again after that stays.
            found = [row.version_id for row in registry.versions(story.id("one"))]
            assert found == [anew.version_id, kept.version_id]

    def test_versions_are_dropped_by_their_names(self, house: House) -> None:
        registry, story = house.registry, Story(house, house.ids.one())
        versions = [story.version("one", at, at) for at in (2, 3, 4)]
        registry.apply_events([story.repository(), *versions], START_NS)
        names = [(it.file_id, it.version_id) for it in versions]
        assert registry.drop_versions([(b"another one's id", names[0][1])], START_NS) == 0
        assert registry.drop_versions(names, hours(3)) == 2
        assert registry.drop_versions(names, hours(3)) == 0
        assert [row.version_id for row in registry.versions(story.id("one"))] == [names[2][1]]

    def test_an_act_that_finishes_after_its_replay_changes_nothing_twice(
        self, house: House
    ) -> None:
        house.settled(b"one")
        act, (intent,) = self.begin(house, b"one")
        story = self.story(house, house.root)
        story.ids["one"] = intent.file_id
        event = story.version("one", 500)
        self.apply(house, event, manifests=[(STORE, "m")])
        (row,) = house.registry.versions(intent.file_id)
        assert row.version_id == event.version_id
        self.finish(house, act, intent, state=_S.BACKUP_COMPLETE, version=row)
        assert house.registry.versions(intent.file_id) == [row]


def example(story: Story) -> Sequence[Event]:
    """Events of all sorts about one root."""
    return [
        story.repository(1, enforce=True),
        story.repository(2, path=b"/srv/moved"),
        story.version("one.txt", 5),
        story.version("one.txt", 6, 2, policy_name="archives", policy_explicit=True),
        story.state("one.txt", 7, _S.DELETED),
        story.state("one.txt", 8, _S.UPLOADED, b"moved/one.jpg"),
        story.version("two.txt", 5),
        story.state("two.txt", 5, _S.ARCHIVED),
        story.state("three.txt", 5, _S.DELETED),
        story.assignment("four.txt", 5, "contracts"),
        story.assignment("four.txt", 6, "gone"),
        story.assignment("one.txt", 4, "media"),
        PolicyEvent(LifecyclePolicy("contracts", retention_days=1), False, hours(3)),
        PolicyEvent(LifecyclePolicy("contracts", retention_days=2), False, hours(4)),
        PolicyEvent(LifecyclePolicy("gone"), False, hours(3)),
        PolicyEvent(LifecyclePolicy("gone"), True, hours(4)),
        HoldEvent(story.id("hold"), story.id("one.txt"), None, "audit", "me", hours(2)),
        HoldEvent(
            story.id("hold"),
            story.id("one.txt"),
            None,
            "audit",
            "me",
            hours(2),
            released_ns=hours(9),
        ),
        ConfirmationEvent(story.root, "mass", "5 of 6", hours(4)),
        UnknownEvent(b"{}"),
    ]
