"""The contract of a registry: the journal of acts, and what they do to records."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.act import (
    ActFile,
    ActOutcome,
    Intent,
    RecordChange,
    VersionRow,
)
from lifecycle_sync.model.file import FileFlag, FileRecord, Kind, LifecycleState
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.operation import ActRun, Operation
from lifecycle_sync.testing.registry_contract_base import MANY, House, RegistryContractBase
from lifecycle_sync.testing.registry_contract_states import WAY_TO

_S = LifecycleState
STORE = b"store 0123456789"


def tuple_of(record: FileRecord) -> Fingerprint:
    """The tuple of a record."""
    return Fingerprint(record.kind, record.size, record.mtime_ns, record.ctime_ns, record.inode)


class ActContractBase(RegistryContractBase):
    """Short words for acts."""

    def begin(
        self, house: House, *paths: bytes, verb: str = "backup", unless_held: bool = True
    ) -> tuple[ActRun, list[Intent]]:
        """An act with intents on files, none of which is refused."""
        act = house.registry.begin_act(house.root, verb, house.tick())
        intents = [Intent(house.ids.one(), house.record(path).file_id, verb) for path in paths]
        refused = house.registry.begin_operations(
            act, intents, house.now_ns, unless_held=unless_held
        )
        assert refused == {}
        return act, intents

    def finish(
        self, house: House, act: ActRun, intent: Intent, status: str = "completed", **change: Any
    ) -> dict[bytes, str]:
        done = RecordChange(intent.file_id, **change)
        return house.registry.finish_operations(
            act, [ActOutcome(intent.operation_id, status, None, done)], house.tick()
        )

    def act_on(
        self, house: House, path: bytes, verb: str = "act", **change: Any
    ) -> dict[bytes, str]:
        """One whole act on one file."""
        act, (intent,) = self.begin(house, path, verb=verb)
        refused = self.finish(house, act, intent, **change)
        house.registry.end_act(act, house.now_ns, "completed")
        return refused

    def version(self, house: House, number: int = 1, **fields: Any) -> VersionRow:
        row = VersionRow(
            house.ids.one(), number, "sha256", b"d" * 32, 5, 6, house.now_ns, "ab/manifest"
        )
        return row._replace(**fields)

    def due(self, house: House) -> list[bytes]:
        """The paths of what is to be backed up."""
        return [file.path for file in house.registry.to_back_up(house.root, 0, MANY)]

    def hold(self, house: House, **fields: Any) -> Hold:
        hold = Hold(house.ids.one(), None, None, "audit", "me", house.now_ns)
        return replace(hold, **fields)


class ActRunContract(ActContractBase):
    """Runs of acts."""

    def test_an_act_is_noted_from_its_beginning_to_its_end(self, house: House) -> None:
        act = house.registry.begin_act(house.root, "backup", house.tick())
        assert act.verb == "backup"
        assert (act.repository_id, act.started_ns) == (house.root, house.now_ns)
        assert house.registry.acts(house.root, MANY) == [act]
        assert (act.status, act.ended_ns, act.counts) == ("running", None, None)
        house.registry.end_act(act, house.tick(), "completed", '{"files":3}')
        house.reopen()
        ended = replace(act, status="completed", ended_ns=house.now_ns, counts='{"files":3}')
        assert house.registry.act(act.act_id) == ended
        assert house.registry.acts(None, MANY) == [ended]

    def test_acts_come_newest_first_and_at_most_as_many_as_asked(self, house: House) -> None:
        other = house.add_root(b"/srv/other")
        roots = [house.root, other, house.root]
        acts = [house.registry.begin_act(root, "x", house.tick()) for root in roots]
        assert house.registry.acts(None, 2) == [acts[2], acts[1]]
        assert house.registry.acts(house.root, MANY) == [acts[2], acts[0]]
        assert house.registry.act(acts[2].act_id + 1) is None

    def test_an_act_on_a_repository_that_is_not_there_is_refused(self, house: House) -> None:
        with pytest.raises(NotFoundError):
            house.registry.begin_act(house.ids.one(), "backup", 0)

    def test_acts_and_what_they_left_pending_outlive_their_repository(self, house: House) -> None:
        house.settled(b"one")
        act, (intent,) = self.begin(house, b"one")
        house.registry.remove_repository(house.root)
        assert house.registry.acts(house.root, MANY) == [act]
        (pending,) = house.registry.pending_operations(house.root)
        assert pending.operation_id == intent.operation_id


class IntentContract(ActContractBase):
    """`begin_operations` and `pending_operations`."""

    def test_an_intent_is_pending_until_it_is_finished(self, house: House) -> None:
        house.settled(b"one", b"two")
        act = house.registry.begin_act(house.root, "backup", house.tick())
        intent = Intent(house.ids.one(), house.record(b"one").file_id, "backup", '{"why":1}')
        assert house.registry.begin_operations(act, [intent], house.tick(), unless_held=True) == {}
        house.reopen()
        operation = Operation(
            intent.operation_id,
            intent.file_id,
            "backup",
            house.now_ns,
            "pending",
            act.act_id,
            None,
            '{"why":1}',
        )
        assert house.registry.pending_operations(house.root) == [operation]
        assert house.registry.pending_operations(None) == [operation]
        assert house.registry.operations(intent.file_id, 1) == [operation]
        outcome = ActOutcome(intent.operation_id, "skipped", '{"reason":"busy"}')
        house.registry.finish_operations(act, [outcome], house.tick())
        assert house.registry.pending_operations(None) == []
        assert house.registry.operations(intent.file_id, 1) == [
            replace(
                operation,
                status="skipped",
                finished_ns=house.now_ns,
                details='{"reason":"busy"}',
            )
        ]

    def test_all_that_an_act_has_pending_is_done_at_once(self, house: House) -> None:
        house.settled(b"one", b"two", b"three")
        act, (first, second) = self.begin(house, b"one", b"two", verb="prune")
        _other, (third,) = self.begin(house, b"three")
        skipped = ActOutcome(second.operation_id, "skipped", None)
        house.registry.finish_operations(act, [skipped], house.now_ns)
        told = [(STORE, "manifest")]
        assert house.registry.complete_operations(act, house.tick(), manifests=told) == 1
        assert house.registry.complete_operations(act, house.now_ns) == 0
        house.reopen()
        assert house.registry.applied_manifests(STORE) == {"manifest"}
        (done,) = house.registry.operations(first.file_id, 1)
        assert (done.status, done.finished_ns) == ("completed", house.now_ns)
        assert house.registry.operations(second.file_id, 1)[0].status == "skipped"
        (pending,) = house.registry.pending_operations(None)
        assert pending.operation_id == third.operation_id

    def test_what_an_act_left_behind_is_shown_by_repository(self, house: House) -> None:
        other, tree, scanner = house.other_root()
        house.settled(b"one", b"two")
        tree.write(b"three")
        scanner.scan()
        act, intents = self.begin(house, b"one", b"two")
        act2 = house.registry.begin_act(other, "backup", house.tick())
        there = house.registry.file_at(other, b"three")
        assert there is not None
        late = Intent(house.ids.one(), there.file_id, "backup")
        house.registry.begin_operations(act2, [late], house.now_ns, unless_held=True)

        def pending(root: bytes | None) -> list[tuple[int | None, bytes]]:
            rows = house.registry.pending_operations(root)
            return [(row.run_id, row.operation_id) for row in rows]

        ours = [(act.act_id, intent.operation_id) for intent in intents]
        assert pending(house.root) == ours
        assert pending(other) == [(act2.act_id, late.operation_id)]
        assert pending(None) == [*ours, (act2.act_id, late.operation_id)]
        house.registry.end_act(act, house.tick(), "failed")
        assert pending(house.root) == ours

    def test_one_act_a_file_is_pending(self, house: House) -> None:
        house.settled(b"one", b"two")
        act, (first,) = self.begin(house, b"one")
        one, two = (house.record(path).file_id for path in (b"one", b"two"))
        intents = [
            Intent(house.ids.one(), one, "delete"),
            Intent(house.ids.one(), two, "delete"),
            Intent(house.ids.one(), two, "archive"),
        ]
        refused = house.registry.begin_operations(act, intents, house.tick(), unless_held=False)
        reason = "another act is pending"
        assert refused == {intents[0].operation_id: reason, intents[2].operation_id: reason}
        self.finish(house, act, first)
        again = intents[0]._replace(operation_id=house.ids.one())
        assert house.registry.begin_operations(act, [again], house.tick(), unless_held=True) == {}

    def test_files_that_are_not_in_the_repository_are_refused(self, house: House) -> None:
        other, tree, scanner = house.other_root()
        tree.write(b"one")
        scanner.scan()
        elsewhere = house.registry.file_at(other, b"one")
        assert elsewhere is not None
        act = house.registry.begin_act(house.root, "backup", house.tick())
        intents = [
            Intent(house.ids.one(), house.ids.one(), "backup"),
            Intent(house.ids.one(), elsewhere.file_id, "backup"),
        ]
        refused = house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)
        assert refused == {intent.operation_id: "no such file" for intent in intents}
        house.registry.remove_repository(house.root)
        with pytest.raises(NotFoundError):
            house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)

    def test_many_intents_are_taken_and_refused_each_for_itself(self, house: House) -> None:
        paths = [b"%03d" % number for number in range(250)]
        house.settled(*paths)
        files = [house.record(path).file_id for path in paths]
        held = set(files[::7])
        for file_id in held:
            house.registry.add_hold(self.hold(house, file_id=file_id))
        act = house.registry.begin_act(house.root, "delete", house.tick())
        intents = [Intent(house.ids.one(), file_id, "delete") for file_id in files]
        refused = house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)
        assert refused == {i.operation_id: "held: audit" for i in intents if i.file_id in held}
        pending = house.registry.pending_operations(house.root)
        assert [row.file_id for row in pending] == [f for f in files if f not in held]

    def test_threads_that_want_one_file_at_once_get_it_once(self, house: House) -> None:
        house.settled(*(b"%d" % number for number in range(30)))
        files = [file.file_id for file in house.registry.to_back_up(house.root, 0, MANY)]
        start, taken = threading.Barrier(4), list[bytes]()

        def take(own: list[bytes]) -> None:
            act = house.registry.begin_act(house.root, "backup", house.now_ns)
            start.wait(30)
            for at in range(0, 30, 10):
                batch = [Intent(own.pop(), file, "backup") for file in files[at : at + 10]]
                refused = house.registry.begin_operations(
                    act, batch, house.now_ns, unless_held=True
                )
                taken.extend(i.file_id for i in batch if i.operation_id not in refused)

        threads = [threading.Thread(target=take, args=(house.ids.take(30),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted(files)
        assert len(house.registry.pending_operations(None)) == 30


class ActFileContract(ActContractBase):
    """What acts may work on."""

    def test_what_is_new_or_changed_is_to_be_backed_up(self, house: House) -> None:
        house.settled(b"a/one.txt", b"b.jpg", b"c", b"d.mp3", b"e.zip")
        assert sorted(self.due(house)) == [b"a/one.txt", b"b.jpg", b"c", b"d.mp3", b"e.zip"]
        for path in self.due(house)[:4]:
            self.act_on(house, path, state=_S.BACKUP_COMPLETE)
        assert len(self.due(house)) == 1
        house.write(b"c", content=b"changed since")
        house.write(b"e.zip", content=b"changed, too")
        house.scan()
        assert set(self.due(house)) >= {b"c", b"e.zip"}

    def test_what_is_not_to_be_read_now_is_left_out(self, house: House) -> None:
        names = (
            "claimed unstable suspect missing ignored unregistered archived deleted expired"
            " processing complete pending racy unreadable plain"
        )
        paths = [name.encode() for name in names.split()]
        house.settled(*paths)
        ids = {path: house.record(path).file_id for path in paths}
        for flag in FileFlag:
            path = (flag.name or "").lower().encode()
            house.registry.set_state(ids[path], _S.UPLOADED, house.tick(), set_flags=flag.value)
        for path, state in (
            (b"archived", _S.ARCHIVED),
            (b"deleted", _S.DELETED),
            (b"expired", _S.EXPIRED),
            (b"processing", _S.PROCESSING),
            (b"complete", _S.BACKUP_COMPLETE),
            (b"pending", _S.BACKUP_PENDING),
        ):
            for step in WAY_TO[state]:
                house.registry.set_state(ids[path], step, house.tick())
        house.registry.unregister(ids[b"unregistered"], house.tick())
        house.tree.ignored.add(b"ignored")
        house.tree.remove(b"missing")
        house.tree.remove(b"deleted")
        house.scan_without_settling()
        assert sorted(self.due(house)) == [b"pending", b"plain", b"racy", b"unreadable"]

    def test_symlinks_are_kept_too(self, house: House) -> None:
        house.write(b"link", content=b"target")
        house.tree.write(b"link", b"target", kind=Kind.SYMLINK)
        house.scan()
        (file,) = house.registry.to_back_up(house.root, 0, MANY)
        assert (file.kind, file.checksum, file.hash_due) == (Kind.SYMLINK, None, False)

    def test_pages_of_what_is_to_be_backed_up_go_by_row(self, house: House) -> None:
        suffixes = ["txt", "jpg", "mp4", "mp3", "zip", "xyz"]
        for number in range(41):
            house.write(b"%d/%02d.%s" % (number % 3, number, suffixes[number % 6].encode()))
        house.scan()
        house.hash()
        _other, tree, scanner = house.other_root()
        tree.write(b"elsewhere")
        scanner.scan()
        for number in range(0, 41, 5):
            path = b"%d/%02d.%s" % (number % 3, number, suffixes[number % 6].encode())
            file_id = house.record(path).file_id
            house.registry.set_state(file_id, _S.BACKUP_PENDING, house.tick())
        whole = house.registry.to_back_up(house.root, 0, MANY)
        assert len(whole) == 41
        assert [file.row_id for file in whole] == sorted({file.row_id for file in whole})
        for limit in (1, 7, 41, 42):
            assert self.pages_of_due(house, limit) == whole

    def pages_of_due(self, house: House, limit: int) -> list[ActFile]:
        files: list[ActFile] = []
        while page := house.registry.to_back_up(
            house.root, files[-1].row_id if files else 0, limit
        ):
            assert len(page) <= limit
            files += page
        return files

    def test_a_file_is_shown_with_its_newest_version(self, house: House) -> None:
        house.settled(b"a/one")
        record = house.record(b"a/one")
        self.act_on(house, b"a/one", version=self.version(house, 1))
        newest = self.version(house, 2, algorithm="blake3", checksum=b"e" * 32)
        self.act_on(house, b"a/one", version=newest)
        (file,) = house.registry.to_back_up(house.root, 0, MANY)
        assert file == ActFile(
            house.row_id(b"a/one"),
            record.file_id,
            b"a/one",
            record.kind,
            record.size,
            record.mtime_ns,
            record.ctime_ns,
            record.inode,
            record.state,
            0,
            "sha256",
            record.checksum,
            hash_due=False,
            policy_name=record.policy_name,
            policy_explicit=False,
            last_number=2,
            last_algorithm="blake3",
            last_checksum=b"e" * 32,
        )
        assert file.fingerprint == tuple_of(record)
        assert house.registry.act_files([record.file_id, house.ids.one()]) == {record.file_id: file}

    def test_two_versions_of_one_number_make_one_file(self, house: House) -> None:
        house.settled(b"one")
        rows = [self.version(house, 3), self.version(house, 3, checksum=b"e" * 32)]
        for row in rows:
            self.act_on(house, b"one", version=row)
        (file,) = house.registry.to_back_up(house.root, 0, MANY)
        assert (file.last_number, file.last_checksum) == (3, b"e" * 32)

    @pytest.mark.parametrize("limit", [1, 2, MANY])
    def test_versions_of_a_vault_come_in_their_order(self, house: House, limit: int) -> None:
        house.settled(b"one", b"two", b"three")
        here, there = b"h" * 16, b"t" * 16
        places = {3: f"{here.hex()}/m", 2: here.hex(), 1: f"{there.hex()}/m", 4: None}
        for path in (b"one", b"two", b"three"):
            for number, place in places.items():
                self.act_on(
                    house, path, version=self.version(house, number)._replace(location=place)
                )
        found: list[tuple[bytes, int, bytes]] = []
        while page := house.registry.versions_in(here, found[-1] if found else None, limit):
            assert len(page) <= limit
            for file_id, row in page:
                assert row in house.registry.versions(file_id)
                found.append((file_id, row.number, row.version_id))
        assert found == sorted(found)
        assert [number for _, number, _ in found] == [2, 3, 4] * 3

    def test_the_deleted_and_untracked_are_found_by_id_alone(self, house: House) -> None:
        house.settled(b"one", b"two")
        one, two = (house.record(path).file_id for path in (b"one", b"two"))
        self.act_on(house, b"one", state=_S.DELETED)
        house.registry.unregister(two, house.tick())
        assert self.under(house, b"") == []
        found = house.registry.act_files([one, two])
        assert (found[one].state, found[two].path) == (_S.DELETED, b"two")

    def under(self, house: House, path: bytes, limit: int = MANY) -> list[bytes]:
        found: list[bytes] = []
        while page := house.registry.files_under(
            house.root, path, found[-1] if found else None, limit
        ):
            assert len(page) <= limit
            found += [file.path for file in page]
        return found

    @pytest.mark.parametrize("limit", [1, 2, 3, MANY])
    def test_what_lies_at_or_under_a_path_comes_folder_by_folder(
        self, house: House, limit: int
    ) -> None:
        house.settled(
            b"a/x", b"a/b/y", b"a/b/z", b"a!/w", b"a-b", b"ab/v", b"top", b"a/b!/u", b"\xff/\xfe"
        )
        assert self.under(house, b"a", limit) == [b"a/x", b"a/b/y", b"a/b/z", b"a/b!/u"]
        assert self.under(house, b"a/b", limit) == [b"a/b/y", b"a/b/z"]
        assert self.under(house, b"a/b/z", limit) == [b"a/b/z"]
        assert self.under(house, b"top", limit) == [b"top"]
        assert self.under(house, b"\xff", limit) == [b"\xff/\xfe"]
        assert self.under(house, b"nowhere", limit) == []
        assert self.under(house, b"", limit)[:2] == [b"a-b", b"top"]
        assert len(self.under(house, b"", limit)) == 9

    def test_archived_files_lie_under_their_folder_still(self, house: House) -> None:
        house.settled(b"a/one", b"a/two")
        self.act_on(house, b"a/one", state=_S.ARCHIVED)
        self.act_on(house, b"a/two", state=_S.DELETED)
        assert self.under(house, b"a") == [b"a/one"]
