"""The random lives of a registry, with acts in them: files are taken away and put back under it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from lifecycle_sync.model.act import ActOutcome, Attributes, Intent, RecordChange, VersionRow
from lifecycle_sync.model.file import FileRecord, LifecycleState
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.testing.memory_tree import Entry, TreeScanner
from lifecycle_sync.testing.registry_machine import FILES, ROOT, RegistryMachine
from lifecycle_sync.testing.registry_machine_answers import MANY

_AFTER = {
    "backup": LifecycleState.BACKUP_COMPLETE,
    "archive": LifecycleState.ARCHIVED,
    "delete": LifecycleState.DELETED,
}


class _Begun(NamedTuple):
    """An act on one file that has begun. `file_id` is the model's; `tuple_` what it saw."""

    operation_id: bytes
    file_id: bytes
    verb: str
    path: bytes
    tuple_: Fingerprint


class RegistryActMachine(RegistryMachine):
    """`RegistryMachine` with acts. An act that takes a file away does so at once, and says so at
    any later time, whatever scans have seen meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[_Begun] = []
        self.trash: dict[bytes, tuple[bytes, Entry]] = {}
        self.operations = 0

    def _operation(self) -> bytes:
        self.operations += 1
        return self.operations.to_bytes(16, "big")

    def id_for(self, scanner: TreeScanner, file_id: bytes) -> bytes:
        """The model's id as the registry of a scanner has it."""
        return file_id if scanner is self.model else self.ids.get(file_id, file_id)

    def acting(self) -> set[bytes]:
        """The subject's ids of files that acts are at work on."""
        return {row.file_id for row in self.subject.registry.pending_operations(None)}

    def _begin(self, operation_id: bytes, file_id: bytes, verb: str) -> bool:
        def begin(scanner: TreeScanner) -> list[str]:
            act = scanner.registry.begin_act(ROOT, verb, self.clock.now_ns())
            intent = Intent(operation_id, self.id_for(scanner, file_id), verb)
            refused = scanner.registry.begin_operations(
                act, [intent], self.clock.now_ns(), unless_held=True
            )
            return list(refused.values())

        subject, model = self.both(begin)
        assert subject == model
        return not model

    def _finish(self, operation_id: bytes, change: RecordChange, status: str) -> None:
        def finish(scanner: TreeScanner) -> list[str]:
            act = scanner.registry.begin_act(ROOT, "finish", self.clock.now_ns())
            ours = change._replace(file_id=self.id_for(scanner, change.file_id))
            outcome = ActOutcome(operation_id, status, None, ours)
            refused = scanner.registry.finish_operations(act, [outcome], self.clock.now_ns())
            again = scanner.registry.finish_operations(act, [outcome], self.clock.now_ns())
            assert again == {}
            return list(refused.values())

        subject, model = self.both(finish)
        assert subject == model

    @rule(path=FILES, verb=st.sampled_from(sorted(_AFTER)))
    def begin_an_act(self, path: bytes, verb: str) -> None:
        record = self.model.registry.file_at(ROOT, path)
        if record is None or record.state is LifecycleState.DELETED:
            return
        operation_id = self._operation()
        if not self._begin(operation_id, record.file_id, verb):
            return
        self.begun.append(_Begun(operation_id, record.file_id, verb, path, _tuple(record)))
        entry = self.tree.files.get(path)
        if verb != "backup" and entry is not None:
            self.trash[record.file_id] = (path, entry)
            self.tree.remove(path)

    @precondition(lambda self: self.begun)
    @rule(which=st.integers(0, 20), failed=st.booleans(), wrote=st.booleans())
    def finish_an_act(self, which: int, failed: bool, wrote: bool) -> None:
        begun = self.begun.pop(which % len(self.begun))
        version = VersionRow(begun.operation_id, 1, "sha256", b"v" * 32, 1, 2, 3, "ab/m")
        took = begun.verb != "backup" and begun.file_id in self.trash
        change = RecordChange(begun.file_id)
        if took or (begun.verb == "backup" and not failed):
            change = change._replace(
                state=_AFTER[begun.verb],
                expected=begun.tuple_,
                version=version if wrote else None,
                backup_path="ab/sha256:cd" if wrote else None,
            )
        self._finish(begun.operation_id, change, "failed" if failed else "completed")
        if took:
            # Whatever became of the record before: the act did take the file away.
            for scanner in (self.subject, self.model):
                record = scanner.registry.file(self.id_for(scanner, begun.file_id))
                assert record is None or record.state is _AFTER[begun.verb]

    @precondition(lambda self: self.trash)
    @rule(which=st.integers(0, 20), scanned=st.booleans(), elsewhere=st.none() | FILES)
    def put_a_file_back(self, which: int, scanned: bool, elsewhere: bytes | None) -> None:
        file_id = sorted(self.trash)[which % len(self.trash)]
        path, entry = self.trash[file_id]
        place = elsewhere or path
        record = self.model.registry.file(file_id)
        away = record is not None and record.state in (
            LifecycleState.DELETED,
            LifecycleState.ARCHIVED,
        )
        if not away or place in self.tree.files or not self.place_is_free(place):
            return
        operation_id = self._operation()
        if not self._begin(operation_id, file_id, "undelete"):
            return
        del self.trash[file_id]
        # A rename moves the ctime.
        entry = replace(entry, ctime_ns=self.clock.now_ns())
        self.tree.make_folder(place.rpartition(b"/")[0])
        self.tree.files[place] = entry
        if scanned:
            self.both(TreeScanner.scan)
            self.match_ids()
        change = RecordChange(
            file_id,
            LifecycleState.UPLOADED,
            fingerprint=Fingerprint(
                entry.kind, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode
            ),
            attributes=Attributes(entry.mode, 1000, 100, entry.nlink),
            path=elsewhere,
        )
        self._finish(operation_id, change, "completed")

    @rule()
    def what_acts_may_work_on_is_the_same_for_both(self) -> None:
        def places(scanner: TreeScanner) -> tuple[object, ...]:
            registry = scanner.registry
            due = registry.to_back_up(ROOT, 0, MANY)
            under = registry.files_under(ROOT, b"d", None, MANY)
            pending = registry.pending_operations(ROOT)
            return (
                sorted(file._replace(row_id=0, file_id=b"") for file in due),
                [file._replace(row_id=0, file_id=b"") for file in under],
                [row.operation_id for row in pending],
            )

        subject, model = self.both(places)
        assert subject == model


def _tuple(record: FileRecord) -> Fingerprint:
    return Fingerprint(record.kind, record.size, record.mtime_ns, record.ctime_ns, record.inode)
