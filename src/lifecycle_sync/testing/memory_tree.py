"""A tree of files that is on no disk, and the scan that brings a registry in step with it.

The scan does with a `Registry` what a scan of a real root does, by the same methods and in the same
order, but all of it at once: contract suites and state machines use it to let a registry live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from typing import NamedTuple

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.decide.differences import differences, unchanged
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.observation import Columns, DirectoryListing
from lifecycle_sync.model.operation import Run, RunStatus, RunType
from lifecycle_sync.model.record import (
    HashCounts,
    HashResult,
    HashTask,
    MissingFile,
    Move,
    ScanBatch,
)
from lifecycle_sync.registry.protocol import HashStore, Registry

_PAGE = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or symlink. `content` is what reading it gives; a symlink has its target there."""

    kind: Kind
    content: bytes
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int = 0o100644
    nlink: int = 1
    # The tuple proves nothing: it was looked at too soon after the change.
    racy: bool = False

    @property
    def size(self) -> int:
        return len(self.content)


class Look(NamedTuple):
    """One folder as a scan sees it: the listing, and the names that ignore rules hide."""

    listing: DirectoryListing
    hidden: frozenset[bytes] = frozenset()


class MemoryTree:
    """Files by path. Folders exist by being made, or by what lies in them, until removed."""

    def __init__(self, clock: FixedClock) -> None:
        self._clock = clock
        self._last_inode = 1000
        self.files: dict[bytes, Entry] = {}
        self.folders: dict[bytes, int] = {b"": self._inode()}
        # Folders that cannot be listed, with the reason; paths that ignore rules hide.
        self.failing: dict[bytes, str] = {}
        self.ignored: set[bytes] = set()

    def _inode(self) -> int:
        self._last_inode += 1
        return self._last_inode

    def make_folder(self, path: bytes) -> None:
        """With its parents."""
        if path not in self.folders:
            self.make_folder(parent(path))
            self.folders[path] = self._inode()

    def write(self, path: bytes, content: bytes = b"", *, kind: Kind = Kind.REGULAR) -> None:
        """Make a file, or write an existing one in its place: the inode stays."""
        self.make_folder(parent(path))
        now_ns = self._clock.now_ns()
        old = self.files.get(path)
        inode = old.inode if old is not None and old.kind is kind else self._inode()
        self.files[path] = Entry(kind, content, now_ns, now_ns, inode)

    def save(self, path: bytes, content: bytes) -> None:
        """Replace a file by a new one, as an atomic save does: another inode."""
        self.files.pop(path, None)
        self.write(path, content)

    def touch(self, path: bytes) -> None:
        """Change the metadata alone: only the ctime moves."""
        self.edit(path, ctime_ns=self._clock.now_ns())

    def edit(self, path: bytes, **fields: object) -> None:
        """Give an entry other values, as no program could."""
        self.files[path] = replace(self.files[path], **fields)  # type: ignore[arg-type]

    def link(self, path: bytes, other: bytes) -> None:
        """A second name of one inode."""
        self.make_folder(parent(other))
        self.files[other] = self.files[path]

    def rename(self, path: bytes, other: bytes) -> None:
        """Move a file, over what was there; the ctime moves."""
        self.make_folder(parent(other))
        self.files[other] = replace(self.files.pop(path), ctime_ns=self._clock.now_ns())

    def rename_folder(self, path: bytes, other: bytes) -> None:
        """Move a folder with all below it; its files do not notice."""
        self.make_folder(parent(other))
        for old in [folder for folder in self.folders if is_within(folder, path)]:
            self.folders[other + old[len(path) :]] = self.folders.pop(old)
        for old in [file for file in self.files if is_within(file, path)]:
            self.files[other + old[len(path) :]] = self.files.pop(old)

    def remove(self, path: bytes) -> None:
        """A file, or a folder with all below it."""
        for gone in [file for file in self.files if is_within(file, path)]:
            del self.files[gone]
        for gone in [folder for folder in self.folders if is_within(folder, path) and folder]:
            del self.folders[gone]

    def exists(self, path: bytes) -> bool:
        return path in self.files or path in self.folders

    def looks(self) -> Iterator[Look]:
        """All folders a scan can reach, parents first."""
        unreachable: list[bytes] = []
        for folder in sorted(self.folders):
            if any(is_within(folder, path) for path in unreachable):
                continue
            if folder in self.ignored:
                unreachable.append(folder)
            elif folder in self.failing:
                unreachable.append(folder)
                listing = DirectoryListing(folder, error=self.failing[folder])
                yield Look(listing)
            else:
                yield self.look(folder)

    def look(self, folder: bytes) -> Look:
        """One folder that can be listed."""
        inside = sorted(path for path in self.files if parent(path) == folder)
        hidden = frozenset(name(path) for path in inside if path in self.ignored)
        subfolders = sorted(path for path in self.folders if path and parent(path) == folder)
        ignored = len(hidden) + sum(path in self.ignored for path in subfolders)
        columns = columns_of({name(p): self.files[p] for p in inside if p not in self.ignored})
        signature = None
        if not columns.racy:
            seen = [(p, self.files[p]) for p in inside], [(p, self.folders[p]) for p in subfolders]
            signature = blake2b(repr((seen, sorted(hidden))).encode(), digest_size=16).digest()
        listing = DirectoryListing(
            folder,
            self.folders[folder],
            signature=signature,
            ignored_count=ignored,
            columns=columns,
        )
        return Look(listing, hidden)


def columns_of(entries: dict[bytes, Entry]) -> Columns:
    """The columns of some files of one folder, by name."""
    names = sorted(entries)
    files = [entries[name] for name in names]
    return Columns(
        names=names,
        kinds=[file.kind for file in files],
        sizes=[file.size for file in files],
        mtimes_ns=[file.mtime_ns for file in files],
        ctimes_ns=[file.ctime_ns for file in files],
        inodes=[file.inode for file in files],
        modes=[file.mode for file in files],
        uids=[1000 for _ in files],
        gids=[100 for _ in files],
        nlinks=[file.nlink for file in files],
        atimes_ns=[file.mtime_ns for file in files],
        btimes_ns=[None for _ in files],
        racy=frozenset(position for position, file in enumerate(files) if file.racy),
    )


def parent(path: bytes) -> bytes:
    """The folder a path lies in."""
    return path.rpartition(b"/")[0]


def name(path: bytes) -> bytes:
    """The last component of a path."""
    return path.rpartition(b"/")[2]


def is_within(path: bytes, folder: bytes) -> bool:
    """Whether a path is a folder itself or below it."""
    return not folder or path == folder or path.startswith(folder + b"/")


# -- scanning ------------------------------------------------------------------------------------


class TreeScanner:
    """Keeps the records of one repository in step with a tree."""

    def __init__(
        self,
        registry: Registry,
        repository_id: bytes,
        tree: MemoryTree,
        clock: FixedClock,
        take_ids: Callable[[int], list[bytes]] | None = None,
    ) -> None:
        """`take_ids` makes the ids of new files; they begin with their time, as `IdSource`'s."""
        self.registry = registry
        self._repository_id = repository_id
        self._tree = tree
        self._clock = clock
        self._take_ids = take_ids or IdSource(clock.now_ns).take

    def scan(self) -> Run:
        """One whole scan, from its beginning to its end."""
        run = self.begin()
        self.record(run)
        self.retire_unseen(run)
        self.settle(run)
        return self.end(run)

    def begin(self, *, whole: bool = True) -> Run:
        return self.registry.begin_run(
            self._repository_id, RunType.RECONCILIATION, self._clock.now_ns(), whole=whole
        )

    def end(self, run: Run, status: RunStatus = RunStatus.COMPLETED) -> Run:
        ended = replace(run, status=status, ended_ns=self._clock.now_ns())
        self.registry.end_run(ended)
        return ended

    def record(self, run: Run) -> None:
        """Record every folder that can be reached."""
        self.registry.record_scan(run, self.batch(list(self._tree.looks())))

    def batch(self, looks: list[Look]) -> ScanBatch:
        """What differs between some folders and their rows."""
        batch = ScanBatch(self._clock.now_ns())
        paths = [look.listing.path for look in looks]
        stored = self.registry.directories(self._repository_id, paths)
        missing_before = frozenset(file.row_id for file in self._missing())
        for listing, hidden in looks:
            known = stored.get(listing.path)
            if known is not None and unchanged(known, listing):
                batch.unchanged.append(known.directory_id)
                continue
            files = self.registry.files_in(known.directory_id) if known else []
            change = differences(
                known,
                files,
                listing,
                ignored=hidden.__contains__,
                missing_before=missing_before,
            )
            change.added_ids = self._take_ids(len(change.added))
            batch.changes.append(change)
        return batch

    def look_at(self, path: bytes) -> ScanBatch:
        """A look at one file by its name: nothing is said of the others in its folder."""
        folder = parent(path)
        stored = self.registry.directories(self._repository_id, [folder]).get(folder)
        files = self.registry.files_in(stored.directory_id) if stored else []
        listing = DirectoryListing(
            folder,
            self._tree.folders[folder],
            columns=columns_of({name(path): self._tree.files[path]}),
        )
        change = differences(
            stored,
            [file for file in files if file.name == name(path)],
            listing,
            ignored=lambda _name: False,
        )
        change.partial = True
        change.added_ids = self._take_ids(len(change.added))
        return ScanBatch(self._clock.now_ns(), changes=[change])

    def retire_unseen(self, run: Run) -> None:
        """Retire the folders that this scan did not come by."""
        while rows := self.registry.unseen_directories(run, None, _PAGE):
            hidden = [row for row in rows if self._is_hidden(row.path)]
            self.registry.retire_directories(
                run,
                [row.directory_id for row in rows if row not in hidden],
                [row.directory_id for row in hidden],
            )

    def _is_hidden(self, path: bytes) -> bool:
        return path in self._tree.folders and any(
            is_within(path, ignored) for ignored in self._tree.ignored
        )

    def _missing(self) -> list[MissingFile]:
        rows = self.registry.missing(self._repository_id, 0, _PAGE)
        while len(rows) % _PAGE == 0 and rows:
            more = self.registry.missing(self._repository_id, rows[-1].row_id, _PAGE)
            if not more:
                break
            rows += more
        return rows

    def settle(self, run: Run, *, certain: bool = False) -> None:
        """Decide what became of each missing file: still there, elsewhere, or gone."""
        gone, present, moved = [], [], []
        taken: set[int] = set()
        for file in self._missing():
            if file.path in self._tree.files:
                present.append(file.row_id)
                continue
            arrived = [
                arrival
                for arrival in self.registry.arrivals(
                    self._repository_id, file.inode, file.last_seen_ns
                )
                if (arrival.kind, arrival.size, arrival.mtime_ns)
                == (file.kind, file.size, file.mtime_ns)
                and arrival.row_id not in taken
                and file.checksum is not None
            ]
            if arrived:
                taken.add(arrived[0].row_id)
                moved.append(Move(file.row_id, arrived[0].row_id, certain))
            else:
                gone.append(file.row_id)
        self.registry.settle_missing(run, gone=gone, moved=moved, present=present)


# -- hashing -------------------------------------------------------------------------------------


def read(tree: MemoryTree, task: HashTask) -> HashResult:
    """What a hasher finds where a task points."""
    path = task.directory + b"/" + task.name if task.directory else task.name
    entry = tree.files.get(path)
    if entry is None:
        return HashResult(task.row_id, "vanished")
    if entry.kind is not Kind.REGULAR:
        return HashResult(task.row_id, "not_regular")
    return HashResult(
        task.row_id,
        "ok",
        sha256(entry.content).digest(),
        entry.size,
        entry.mtime_ns,
        entry.ctime_ns,
        entry.inode,
        racy=entry.racy,
    )


def hash_due(
    registry: HashStore, repository_id: bytes, tree: MemoryTree, now_ns: int
) -> HashCounts:
    """Hash what is due, and store what came of it."""
    tasks = registry.to_hash(repository_id, 0, _PAGE)
    return registry.record_hashes("sha256", [read(tree, task) for task in tasks], now_ns)
