"""A registry led through random lives, beside a model of it: a hypothesis state machine.

    class MyMachine(RegistryMachine):
        def make_registry(self, folder, clock):
            return MyRegistry(folder / "registry", clock=clock)

    TestMyMachine = MyMachine.TestCase

The model is `MemoryRegistry`: it is told the same, and after every step everything that can be
asked must be answered alike. Beside that stands what holds for any registry, whatever its model
says: seqs grow with every change, one place has one live record, and after a whole scan the records
are what lies in the tree, each under the id it had.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.file import FileFlag, FileRecord, Kind, LifecycleState, Tracking
from lifecycle_sync.model.operation import RunStatus
from lifecycle_sync.model.record import HashResult, HashTask
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.testing.memory_registry import MemoryRegistry
from lifecycle_sync.testing.memory_tree import MemoryTree, TreeScanner, is_within, read
from lifecycle_sync.testing.registry_machine_answers import MANY, answers, shown

START_NS = 1_767_323_045_000_000_000
ROOT = b"r" * 16

# Look-alikes on purpose: `d!` sorts between `d` and `d/e`, and `de` begins with `d`.
FILES = st.sampled_from(
    [b"a.txt", b"b.jpg", b"\xff", b"d/a.txt", b"d/b", b"d/e/a.txt", b"d!/a.txt", b"de/c.zip"]
)
FOLDERS = st.sampled_from([b"d", b"d/e", b"d!", b"de"])
# Two of one size, so that only the bytes tell them apart.
CONTENTS = st.sampled_from([b"", b"one", b"two", b"three"])
OUTCOMES = st.sampled_from(["ok", "ok", "ok", "unstable", "unreadable", "vanished"])


class RegistryMachine(RuleBasedStateMachine):
    """Derive from it and say how a registry is made; `persistent` is False where it cannot be
    opened again."""

    persistent = True

    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        """Open the registry that lives in a folder; the first time it is empty."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._temporary = TemporaryDirectory(prefix="registry-machine-")
        self.folder = Path(self._temporary.name)
        self.clock = FixedClock(START_NS)
        self.tree = MemoryTree(self.clock)
        registry = self.make_registry(self.folder, self.clock)
        self.subject = self.scanner_of(registry)
        self.model = self.scanner_of(MemoryRegistry(self.clock))
        # The model's ids to the subject's: where a move is split, each makes its own.
        self.ids: dict[bytes, bytes] = {}
        self.late: list[tuple[list[HashResult], list[HashResult]]] = []
        self.before: dict[bytes, FileRecord] = {}
        self.last_seq = 0
        # Whether the outcome of the last step was looked at.
        self.asked = False

    def teardown(self) -> None:
        self.subject.registry.close()
        self._temporary.cleanup()

    def scanner_of(self, registry: Registry) -> TreeScanner:
        """One of the two, with ids that are the same for both."""
        numbers = itertools.count(1)

        def take_ids(count: int) -> list[bytes]:
            head = (self.clock.now_ns() // 1_000_000).to_bytes(6, "big")
            return [head + next(numbers).to_bytes(10, "big") for _ in range(count)]

        registry.add_repository(Repository(ROOT, b"/srv/files"))
        return TreeScanner(registry, ROOT, self.tree, self.clock, take_ids)

    def both(self, act: Callable[[TreeScanner], Any]) -> tuple[Any, Any]:
        """Time passes; then the same is done to both, with the same outcome."""
        self.clock.advance(60)
        self.asked = False
        outcomes = []
        for scanner in (self.subject, self.model):
            try:
                outcomes.append(act(scanner))
            except LifecycleError as error:
                outcomes.append(type(error).__name__)
        refused = [outcome if isinstance(outcome, str) else None for outcome in outcomes]
        assert refused[0] == refused[1]
        return outcomes[0], outcomes[1]

    # -- the tree --------------------------------------------------------------------------

    def place_is_free(self, path: bytes) -> bool:
        """Whether a file can be put there: no folder has that name, no parent is a file."""
        parents = [path[:cut] for cut, byte in enumerate(path) if byte == ord("/")]
        return path not in self.tree.folders and not any(p in self.tree.files for p in parents)

    @initialize(paths=st.sets(FILES, min_size=2))
    def begin(self, paths: set[bytes]) -> None:
        for path in sorted(paths):
            self.tree.write(path, b"of " + path)
        self.both(TreeScanner.scan)
        self.both(self.hash_everything)

    @rule(path=FILES, content=CONTENTS, saved=st.booleans(), racy=st.booleans())
    def write(self, path: bytes, content: bytes, saved: bool, racy: bool) -> None:
        self.clock.advance(1)
        if saved:
            self.tree.save(path, content)
        else:
            self.tree.write(path, content)
        self.tree.edit(path, racy=racy)

    @rule(path=FILES)
    def replace_by_a_symlink(self, path: bytes) -> None:
        self.clock.advance(1)
        self.tree.write(path, b"target", kind=Kind.SYMLINK)

    @rule(path=FILES)
    def touch(self, path: bytes) -> None:
        self.clock.advance(1)
        if path in self.tree.files:
            self.tree.touch(path)

    @rule()
    def time_settles_what_is_racy(self) -> None:
        for path in list(self.tree.files):
            self.tree.edit(path, racy=False)

    @rule(path=FILES)
    def rot(self, path: bytes) -> None:
        entry = self.tree.files.get(path)
        if entry is not None and entry.content:
            self.tree.edit(path, content=bytes([entry.content[0] ^ 1]) + entry.content[1:])

    @rule(path=st.one_of(FILES, FOLDERS))
    def remove(self, path: bytes) -> None:
        self.tree.remove(path)

    @rule(path=FILES, other=FILES)
    def rename(self, path: bytes, other: bytes) -> None:
        self.clock.advance(1)
        if path in self.tree.files and path != other and self.place_is_free(other):
            self.tree.rename(path, other)

    @rule(path=FOLDERS, other=FOLDERS)
    def rename_folder(self, path: bytes, other: bytes) -> None:
        free = other not in self.tree.folders and not is_within(other, path)
        if path in self.tree.folders and free:
            self.tree.rename_folder(path, other)

    @rule(path=FILES, other=FILES)
    def link(self, path: bytes, other: bytes) -> None:
        if path in self.tree.files and other not in self.tree.files:
            self.tree.link(path, other)

    @rule(path=st.one_of(FILES, FOLDERS))
    def ignore_or_not(self, path: bytes) -> None:
        self.tree.ignored ^= {path}

    @rule(path=st.one_of(FOLDERS, st.just(b"")))
    def fail_or_not(self, path: bytes) -> None:
        if self.tree.failing.pop(path, None) is None:
            self.tree.failing[path] = "permission denied"

    # -- scans -----------------------------------------------------------------------------

    @rule(certain=st.booleans())
    def scan(self, certain: bool) -> None:
        live = self.live()
        lost = [file for file in live.values() if file.path not in self.tree.files]

        def scan(scanner: TreeScanner) -> None:
            run = scanner.begin()
            scanner.record(run)
            scanner.retire_unseen(run)
            scanner.settle(run, certain=certain)
            scanner.end(run)

        self.both(scan)
        self.check_scanned(live, {file.file_id for file in lost})
        self.check_followed(lost, set(live))

    @rule(how_many=st.integers(0, 5), ended=st.booleans())
    def scan_and_be_interrupted(self, how_many: int, ended: bool) -> None:
        def scan(scanner: TreeScanner) -> None:
            run = scanner.begin()
            looks = list(self.tree.looks())
            scanner.registry.record_scan(run, scanner.batch(looks[:how_many]))
            if ended:
                scanner.end(run, RunStatus.FAILED)

        self.both(scan)

    @rule()
    def scan_and_leave_the_missing_to_a_guard(self) -> None:
        def scan(scanner: TreeScanner) -> None:
            run = scanner.begin()
            scanner.record(run)
            scanner.retire_unseen(run)
            scanner.end(run)

        self.both(scan)

    # -- hashes ----------------------------------------------------------------------------

    def hash_everything(self, scanner: TreeScanner) -> Any:
        tasks = scanner.registry.to_hash(ROOT, 0, MANY)
        results = [read(self.tree, task) for task in tasks]
        return scanner.registry.record_hashes("sha256", results, self.clock.now_ns())

    @rule(outcomes=st.lists(OUTCOMES, max_size=8))
    def hash(self, outcomes: list[str]) -> None:
        def hash_some(scanner: TreeScanner) -> Any:
            tasks = scanner.registry.to_hash(ROOT, 0, MANY)
            results = [
                read(self.tree, task) if outcome == "ok" else HashResult(task.row_id, outcome)
                for task, outcome in zip(tasks, [*outcomes, *["ok"] * len(tasks)], strict=False)
            ]
            return scanner.registry.record_hashes("sha256", results, self.clock.now_ns())

        subject, model = self.both(hash_some)
        assert subject == model

    @rule()
    def begin_to_hash(self) -> None:
        one, other = (
            [read(self.tree, task) for task in scanner.registry.to_hash(ROOT, 0, MANY)]
            for scanner in (self.subject, self.model)
        )
        self.late.append((one, other))

    @precondition(lambda self: self.late)
    @rule()
    def store_hashes_that_come_late(self) -> None:
        one, other = self.late.pop(0)

        def store(scanner: TreeScanner) -> Any:
            results = one if scanner is self.subject else other
            return scanner.registry.record_hashes("sha256", results, self.clock.now_ns())

        subject, model = self.both(store)
        assert subject == model

    @rule()
    def scrub(self) -> None:
        def scrub(scanner: TreeScanner) -> Any:
            tasks = scanner.registry.to_scrub(ROOT, 0, MANY)
            results = [read(self.tree, task) for task in tasks]
            return scanner.registry.record_hashes("sha256", results, self.clock.now_ns())

        subject, model = self.both(scrub)
        assert subject == model

    @rule(path=FILES)
    def accept(self, path: bytes) -> None:
        def accept(scanner: TreeScanner) -> None:
            record = scanner.registry.file_at(ROOT, path)
            if record is not None and record.flags & FileFlag.SUSPECT:
                scanner.registry.accept_suspect(record.file_id, self.clock.now_ns())

        self.both(accept)

    # -- orders ----------------------------------------------------------------------------

    @rule(path=FILES, policy=st.sampled_from([None, "default", "media", "no such"]))
    def register(self, path: bytes, policy: str | None) -> None:
        entry = self.tree.files.get(path)
        if entry is None or entry.kind is not Kind.REGULAR:
            return
        if any(is_within(path, hidden) for hidden in self.tree.ignored):
            return

        def register(scanner: TreeScanner) -> None:
            run = scanner.begin(whole=False)
            look = scanner.look_at(path)
            hashed = read_entry(self.tree, path)
            scanner.registry.register(run, look, path, policy, hashed=hashed)

        self.both(register)

    @rule(path=FILES)
    def unregister(self, path: bytes) -> None:
        def unregister(scanner: TreeScanner) -> None:
            record = scanner.registry.file_at(ROOT, path)
            if record is not None and record.state is not LifecycleState.DELETED:
                scanner.registry.unregister(record.file_id, self.clock.now_ns())

        self.both(unregister)

    @rule(
        path=FILES,
        state=st.sampled_from(LifecycleState),
        claimed=st.sampled_from([None, True, False]),
    )
    def set_state(self, path: bytes, state: LifecycleState, claimed: bool | None) -> None:
        flag = FileFlag.CLAIMED.value

        def set_state(scanner: TreeScanner) -> None:
            record = scanner.registry.file_at(ROOT, path)
            if record is not None:
                scanner.registry.set_state(
                    record.file_id,
                    state,
                    self.clock.now_ns(),
                    set_flags=flag if claimed is True else 0,
                    clear_flags=flag if claimed is False else 0,
                )

        self.both(set_state)

    @rule(which=st.integers(0, 20))
    def bring_a_deleted_one_back(self, which: int) -> None:
        deleted = sorted(
            file.file_id
            for file in self.model.registry.changes(0, MANY)
            if file.state is LifecycleState.DELETED
        )
        if not deleted:
            return
        file_id = deleted[which % len(deleted)]

        def undelete(scanner: TreeScanner) -> None:
            ours = file_id if scanner is self.model else self.ids[file_id]
            scanner.registry.set_state(ours, LifecycleState.UPLOADED, self.clock.now_ns())

        self.both(undelete)

    @precondition(lambda self: self.persistent)
    @rule()
    def reopen(self) -> None:
        before = self.subject.registry.changes(0, MANY)
        self.subject.registry.close()
        self.subject.registry = self.make_registry(self.folder, self.clock)
        assert self.subject.registry.changes(0, MANY) == before
        self.asked = False

    # -- what must hold --------------------------------------------------------------------

    def live(self) -> dict[bytes, FileRecord]:
        """The live records by path, and that there is one a path."""
        records = self.subject.registry.changes(0, MANY)
        live = [record for record in records if record.state is not LifecycleState.DELETED]
        by_path = {record.path: record for record in live}
        assert len(by_path) == len(live)
        return by_path

    @invariant()
    def all_is_well(self) -> None:
        """Once after every step that did something to the registry."""
        if not self.asked:
            self.asked = True
            self.check_seqs()
            self.check_answers()

    def check_seqs(self) -> None:
        """Seqs grow, no two are the same, and no change goes without a new one."""
        registry = self.subject.registry
        records = {record.file_id: record for record in registry.changes(0, MANY)}
        changed = registry.changes(self.last_seq, MANY)
        seqs = [record.seq for record in changed]
        assert seqs == sorted(set(seqs))
        assert all(self.last_seq < seq <= registry.last_seq() for seq in seqs)
        different = {
            file_id
            for file_id, record in records.items()
            if file_id not in self.before or shown(record) != shown(self.before[file_id])
        }
        assert different <= {record.file_id for record in changed}
        for file_id, record in records.items():
            before = self.before.get(file_id, record)
            assert record.registered_ns == before.registered_ns
            assert record.version >= before.version
            assert registry.file(file_id) == record
        self.before, self.last_seq = records, registry.last_seq()

    def check_answers(self) -> None:
        """Whatever is asked, the model gives the same answer."""
        self.match_ids()
        subject = answers(self.subject.registry, ROOT, {})
        model = answers(self.model.registry, ROOT, self.ids)
        for question, answer in model.items():
            assert subject[question] == answer, question

    def match_ids(self) -> None:
        """Learn which id of the subject stands for which of the model, by place and by order."""

        def places(scanner: TreeScanner) -> list[FileRecord]:
            records = scanner.registry.changes(0, MANY)
            return sorted(
                records, key=lambda r: (r.path, r.state.value, r.registered_ns, r.version)
            )

        ours, theirs = places(self.subject), places(self.model)
        known = set(self.ids.values())
        subject_ids = {record.file_id for record in ours}
        new = [r for r in theirs if r.file_id not in self.ids and r.file_id not in subject_ids]
        for record in theirs:
            if record.file_id in subject_ids:
                self.ids.setdefault(record.file_id, record.file_id)
        unmatched = [r for r in ours if r.file_id not in known | set(self.ids.values())]
        assert [r.path for r in unmatched] == [r.path for r in new]
        self.ids.update({m.file_id: s.file_id for m, s in zip(new, unmatched, strict=True)})

    def acting(self) -> set[bytes]:
        """The subject's ids of files that acts are at work on."""
        return set()

    def check_scanned(self, before: dict[bytes, FileRecord], lost: set[bytes]) -> None:
        """After a whole scan the live records are what lies in the tree, under the ids they had."""
        registry = self.subject.registry
        assert registry.missing(ROOT, 0, MANY) == []
        after = self.live()
        seen = set()
        for listing, _hidden in self.tree.looks():
            for name in listing.columns.names:
                path = listing.path + b"/" + name if listing.path else name
                record, entry = after[path], self.tree.files[path]
                seen.add(path)
                if path in before:
                    # Or the file had come here, unsettled, from where another record lost it.
                    assert record.file_id in {before[path].file_id, *lost}
                if record.tracking is Tracking.UNREGISTERED:
                    continue
                assert record.tracking is Tracking.TRACKED
                assert (record.kind, record.size, record.mtime_ns, record.ctime_ns) == (
                    entry.kind,
                    entry.size,
                    entry.mtime_ns,
                    entry.ctime_ns,
                )
                assert record.inode == entry.inode
        for path in set(after) - seen:
            out_of_sight = any(is_within(path, folder) for folder in self.tree.failing)
            hidden = any(is_within(path, ignored) for ignored in self.tree.ignored)
            archived = after[path].state is LifecycleState.ARCHIVED
            followed = after[path].tracking is Tracking.TRACKED
            acting = after[path].file_id in self.acting()
            assert out_of_sight or hidden or archived or acting or not followed

    def check_followed(self, lost: list[FileRecord], taken: set[bytes]) -> None:
        """A hashed file that was renamed is followed, where only one file can be meant."""
        for record in lost:
            key = (record.kind, record.size, record.mtime_ns, record.inode)
            alike = [
                other
                for other in lost
                if (other.kind, other.size, other.mtime_ns, other.inode) == key
            ]
            arrived = [
                path
                for path, entry in self.tree.files.items()
                if (entry.kind, entry.size, entry.mtime_ns, entry.inode) == key
            ]
            if len(alike) != 1 or len(arrived) != 1 or arrived[0] in taken:
                continue
            if record.hash_due or record.checksum is None:
                continue
            if record.state is LifecycleState.ARCHIVED or record.file_id in self.acting():
                continue
            if record.tracking is not Tracking.TRACKED:
                continue
            if self.is_out_of_sight(arrived[0]) or self.is_out_of_sight(record.path):
                continue
            found = self.subject.registry.file(record.file_id)
            assert found is not None and found.path == arrived[0]

    def is_out_of_sight(self, path: bytes) -> bool:
        """Whether a scan cannot see what lies at a path."""
        hidden = [*self.tree.failing, *self.tree.ignored]
        return any(is_within(path, folder) for folder in hidden)


def read_entry(tree: MemoryTree, path: bytes) -> HashResult:
    """What a hasher finds at a path, for the file that is being registered there."""
    folder, _, name = path.rpartition(b"/")
    return read(tree, HashTask(0, folder, name, 0, 0, 0, 0))
