"""What the parts of the registry's contract suite share: a registry over a tree, and its keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.model.file import FileFlag, FileRecord, LifecycleState, Tracking
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.record import (
    DirectoryChange,
    FileQuery,
    HashCounts,
    HashResult,
    HashTask,
    MissingFile,
    ScanBatch,
    StoredDirectory,
)
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.testing.memory_tree import MemoryTree, TreeScanner, hash_due, name, parent

# 2026-01-02T03:04:05Z; no test depends on the day it runs.
START_NS = 1_767_323_045_000_000_000
SECOND_NS = 1_000_000_000
MANY = 1000


class House:
    """A registry, one root in it, the tree below that root, and the shortest words for them."""

    def __init__(self, suite: RegistryContractBase, folder: Path) -> None:
        self._suite = suite
        self._folder = folder
        self.clock = FixedClock(START_NS)
        self.ids = IdSource(self.clock.now_ns)
        self.registry = suite.make_registry(folder, self.clock)
        self.tree = MemoryTree(self.clock)
        self.root = self.add_root(b"/srv/files")
        self.scanner = TreeScanner(self.registry, self.root, self.tree, self.clock)

    def close(self) -> None:
        self.registry.close()

    def reopen(self) -> None:
        """Close the registry and open it again, where that is possible."""
        if self._suite.persistent:
            self.registry.close()
            self.registry = self._suite.make_registry(self._folder, self.clock)
            self.scanner.registry = self.registry

    def add_root(self, path: bytes, kind: RepositoryKind = RepositoryKind.ROOT) -> bytes:
        root = self.ids.one()
        self.registry.add_repository(
            Repository(root, path, kind=kind, added_ns=self.clock.now_ns())
        )
        return root

    def other_root(
        self, path: bytes = b"/srv/other", kind: RepositoryKind = RepositoryKind.ROOT
    ) -> tuple[bytes, MemoryTree, TreeScanner]:
        """A second root with its tree and its scanner."""
        root, tree = self.add_root(path, kind), MemoryTree(self.clock)
        return root, tree, TreeScanner(self.registry, root, tree, self.clock)

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns()

    def tick(self, seconds: float = 60) -> int:
        """Let time pass; the time after it."""
        self.clock.advance(seconds)
        return self.now_ns

    # -- letting things happen -------------------------------------------------------------

    def write(self, *paths: bytes, content: bytes = b"content") -> None:
        """Write files; each has its own content unless told otherwise."""
        for path in paths:
            self.tree.write(path, content if content != b"content" else b"content of " + path)

    def scan(self) -> Run:
        """Time passes, then a whole scan."""
        self.tick()
        return self.scanner.scan()

    def scan_without_settling(self) -> Run:
        self.tick()
        run = self.scanner.begin()
        self.scanner.record(run)
        self.scanner.retire_unseen(run)
        return run

    def hash(self) -> HashCounts:
        """Time passes, then everything that is due is hashed."""
        self.tick()
        return hash_due(self.registry, self.root, self.tree, self.now_ns)

    def settled(self, *paths: bytes) -> None:
        """Files that exist, are recorded and hashed."""
        self.write(*paths)
        self.scan()
        self.hash()

    def record_change(self, change: DirectoryChange) -> None:
        """Time passes, then one change is recorded."""
        self.tick()
        self.registry.record_scan(self.scanner.begin(), ScanBatch(self.now_ns, changes=[change]))

    def register(
        self, path: bytes, policy: str | None = None, hashed: HashResult | None = None
    ) -> FileRecord:
        """Time passes, then a file is looked at and registered by its name."""
        self.tick()
        run = self.scanner.begin(whole=False)
        record = self.registry.register(
            run, self.scanner.look_at(path), path, policy, hashed=hashed
        )
        self.scanner.end(run)
        return record

    # -- asking ----------------------------------------------------------------------------

    def record(self, path: bytes) -> FileRecord:
        """The record at a path, which must be there."""
        found = self.registry.file_at(self.root, path)
        assert found is not None, path
        return found

    def file(self, file_id: bytes) -> FileRecord:
        """The record of an id, which must be there."""
        found = self.registry.file(file_id)
        assert found is not None, file_id
        return found

    @property
    def repository(self) -> Repository:
        """The row of this root."""
        found = self.registry.repository(self.root)
        assert found is not None
        return found

    def row_id(self, path: bytes) -> int:
        """The row of the live record at a path."""
        directory = self.directory(parent(path))
        rows = self.registry.files_in(directory.directory_id)
        (found,) = [row.row_id for row in rows if row.name == name(path)]
        return found

    def directory(self, path: bytes) -> StoredDirectory:
        return self.registry.directories(self.root, [path])[path]

    def task(self, path: bytes) -> HashTask:
        """The task of a file that is due."""
        tasks = self.registry.to_hash(self.root, 0, MANY)
        (found,) = [
            task for task in tasks if (task.directory, task.name) == (parent(path), name(path))
        ]
        return found

    def result(self, path: bytes, digest: bytes | None) -> HashResult:
        """An "ok" for the tuple that the registry has of a file."""
        file = self.record(path)
        return HashResult(
            self.row_id(path), "ok", digest, file.size, file.mtime_ns, file.ctime_ns, file.inode
        )

    def store(self, *results: HashResult, algorithm: str = "sha256") -> HashCounts:
        """Time passes, then results are recorded."""
        return self.registry.record_hashes(algorithm, results, self.tick())

    def missing(self) -> list[MissingFile]:
        return self.registry.missing(self.root, 0, MANY)

    def missing_paths(self) -> set[bytes]:
        return {file.path for file in self.missing()}

    def due(self) -> set[bytes]:
        """The paths of what is to be hashed."""
        tasks = self.registry.to_hash(self.root, 0, MANY)
        return {
            task.directory + b"/" + task.name if task.directory else task.name for task in tasks
        }

    def found(self, **query: object) -> list[bytes]:
        """The paths that a question finds in this root, in its order."""
        asked = FileQuery(repository_id=self.root, **query)  # type: ignore[arg-type]
        page = self.registry.find(asked, None, MANY)
        assert page.next_cursor is None
        return [record.path for record in page.records]

    def changed_since(self, seq: int) -> set[bytes]:
        return {record.path for record in self.registry.changes(seq, MANY)}

    def everything(self) -> tuple[object, ...]:
        """All that can be asked of the registry without naming a file."""
        registry = self.registry
        return (
            registry.repositories(),
            registry.runs(None, MANY),
            registry.changes(0, MANY),
            [
                registry.directories(
                    root.repository_id, list(registry.directory_paths(root.repository_id))
                )
                for root in registry.repositories()
            ],
            [registry.missing(root.repository_id, 0, MANY) for root in registry.repositories()],
            registry.directory_totals(None),
            registry.operation_count(0),
            registry.last_seq(),
        )


class RegistryContractBase:
    """What an implementation says of itself, and the house of each test."""

    # Whether `make_registry` opens what an earlier one in the same folder has closed.
    persistent = True

    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        """Open the registry that lives in a folder; the first time it is empty."""
        raise NotImplementedError

    @pytest.fixture
    def house(self, tmp_path: Path) -> Iterator[House]:
        """A registry with one root, `/srv/files`, that has not been scanned."""
        with closing(House(self, tmp_path)) as house:
            yield house


def state_of(record: FileRecord) -> tuple[LifecycleState, Tracking, FileFlag]:
    """What a record is, in short."""
    return record.state, record.tracking, record.flags
