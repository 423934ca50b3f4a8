"""One look at some directories of a root, and what it records.

Directories that changed nothing write nothing. What was there under more than one name (hard links)
is looked at under all of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, next_stamp_ns
from lifecycle_sync.decide.differences import unchanged
from lifecycle_sync.decide.guards import Verdict
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.observation import DirectoryListing, Listing
from lifecycle_sync.model.operation import Run, RunType
from lifecycle_sync.model.record import DirectoryChange, ScanBatch, StoredFile
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.observe.dirt import Dirt
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.listing import DirectoryReader
from lifecycle_sync.observe.walker import MOUNT_POINT
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.listings import margin_ns_of
from lifecycle_sync.service.presence import is_there
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.scan import ScanCounts, compare, missing_ids, pieces

_GROUP = 64
_BATCH_FILES = 5_000
_PAGE = 2_000
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


@dataclass(slots=True)
class Settled:
    """What came of it. `run` is None where nothing had changed; `verdict` as in `SyncReport`.

    `again` are directories to be looked at once more: their files changed within the clock's grain
    of the look, or what was missed may yet turn up.
    """

    repository: Repository
    run: Run | None = None
    verdict: Verdict | None = None
    counts: ScanCounts = field(default_factory=ScanCounts)
    moved: int = 0
    removed: int = 0
    missing: int = 0
    again: set[bytes] = field(default_factory=set)
    due: bool = False
    # Inodes that may have names in other roots, which then changed as well.
    linked: set[int] = field(default_factory=set)
    # What is missed may lie where nobody looked.
    elsewhere: bool = False
    # The root is not itself: nothing was looked at.
    stopped: bool = False


class Look:
    """One look at a root: what it comes by, and the run that it becomes once something changed."""

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        rules: IgnoreRules,
        *,
        own: frozenset[tuple[int, int]],
        fs: FileOps,
        clock: Clock,
        cancel: CancelToken,
        run_type: RunType,
        progress: Progress,
        batch_files: int = _BATCH_FILES,
    ) -> None:
        self._files_max = min(batch_files, _BATCH_FILES)
        self._registry = registry
        self._run_type = run_type
        self._progress = progress
        self.repository = repository
        self._rules = rules
        self._own = own
        self._fs = fs
        self._clock = clock
        self._cancel = cancel
        margin_ns = margin_ns_of(repository)
        # As in a pass over the whole root.
        self.begun_ns = next_stamp_ns()
        if repository.identity.network:
            self.begun_ns -= margin_ns
        self._started_ns = clock.now_ns()
        self._descent = Descent(fs, repository.path)
        self._reader = DirectoryReader(
            rules,
            fs=fs,
            clock=clock,
            cancel=cancel,
            margin_ns=margin_ns,
            own=own,
            stable_inodes=repository.identity.stable_inodes,
        )
        self._ids = IdSource(clock.now_ns)
        self._missing_before: frozenset[int] | None = None
        self.run: Run | None = None
        self.settled = Settled(repository)
        self.counts = self.settled.counts
        self._seen: set[bytes] = set()
        self._gone: set[bytes] = set()
        # Inodes that may have other names.
        self._linked = self.settled.linked
        self._batch: list[DirectoryChange] = []
        self._batch_files = 0
        # Directories that were come by and are to be listed, where what is below is wanted as well.
        self._below: list[bytes] | None = None

    def close(self) -> None:
        self._descent.__exit__()

    def begin(self) -> Run:
        if self.run is None:
            self.run = self._registry.begin_run(
                self.repository.repository_id, self._run_type, self._started_ns, whole=False
            )
        return self.run

    def at(self, dirt: Dirt) -> None:
        """Look at all that is dirty, and at what has to do with it."""
        paths = set(dirt.folders)
        for path in dirt.deep:
            paths.update(self._known_below(path))
        self.listings(sorted(paths))
        contents = _contents(dirt)
        self._look_at_links()
        self._retire()
        if contents:
            found = hash_again(self._registry, self.repository.repository_id, contents)
            self.settled.due = self.settled.due or found > 0

    def below(self, path: bytes) -> None:
        """Look at a directory and all below it, and at what has to do with it."""
        self._below = [path]
        while self._below:
            group, self._below = self._below[-_GROUP:], self._below[:-_GROUP]
            self.listings(group)
        self._below = None
        self.listings(self._known_below(path))
        self._look_at_links()
        self._retire()

    def _look_at_links(self) -> None:
        if self._linked:
            self.listings(
                self._registry.linked_directories(
                    self.repository.repository_id, sorted(self._linked)
                )
            )

    def listings(self, paths: Iterable[bytes], *, anew: bool = False) -> None:
        """Compare directories with their records, and write what changed."""
        wanted = [path for path in paths if anew or path not in self._seen]
        self._seen.update(wanted)
        for start in range(0, len(wanted), _GROUP):
            self._cancel.check()
            group = [
                listing
                for path in wanted[start : start + _GROUP]
                if (listing := self._list(path)) is not None
            ]
            self._record(group)
        self._flush()

    def _list(self, path: bytes) -> Listing | None:
        if self._rules.ignores(path, True):
            return None
        try:
            fd = self._descent.open(path)
            status = self._fs.fstat(fd)
            if path and (status.st_dev, status.st_ino) in self._own:
                return None
            listing, directories = self._reader.read(fd, path, status.st_ino)
            if self._below is not None:
                self._below += [path + b"/" + it.name if path else it.name for it in directories]
            return listing
        except OSError as error:
            if path and error.errno in _GONE:
                self._gone.add(path)
                return None
            if not path:
                raise OfflineError(
                    f"cannot be read ({error.strerror or error})",
                    operation="scan root",
                    subject=self.repository.path,
                    remedy="check the disk and its permissions",
                ) from error
            elsewhere = error.errno == errno.EXDEV
            return DirectoryListing(
                path, error=MOUNT_POINT if elsewhere else error.strerror or str(error)
            )

    def _record(self, listings: list[Listing]) -> None:
        known = self._registry.directories(
            self.repository.repository_id, [listing.path for listing in listings]
        )
        for listing in listings:
            stored = known.get(listing.path)
            counts = self.counts
            counts.directories += 1
            counts.files += listing.file_count
            counts.bytes += listing.byte_count
            self._progress.advance(listing.file_count, listing.byte_count)
            if unchanged(stored, listing):
                counts.unchanged_directories += 1
                continue
            if listing.error is None and listing.signature is None:
                self.settled.again.add(listing.path)
            if self._missing_before is None:
                self._missing_before = missing_ids(self._registry, self.repository.repository_id)
            records = [] if stored is None else self._registry.files_in(stored.directory_id)
            change = compare(
                self.repository,
                stored,
                records,
                listing,
                ignored=lambda path: self._rules.ignores(path, False),
                is_there=partial(is_there, self._fs, self._descent),
                missing_before=self._missing_before,
            )
            self._linked |= counts.note(change, records)
            self._note_lost_names(change, records)
            change.added_ids = self._ids.take(len(change.added))
            for piece in pieces(change, self._files_max):
                files = len(piece.added) + len(piece.modified) + len(piece.missing)
                if self._batch and self._batch_files + files > self._files_max:
                    self._flush()
                self._batch.append(piece)
                self._batch_files += files
                if self._batch_files >= self._files_max or len(self._batch) >= _PAGE:
                    self._flush()

    def _note_lost_names(self, change: DirectoryChange, records: Sequence[StoredFile]) -> None:
        # A name that went, or is another file's now: how many others its file has nobody knows, and
        # all of them would be behind.
        rows = set(change.missing)
        rows.update(row_id for row_id, _, _ in change.modified)
        lost = {record.inode for record in records if record.row_id in rows}
        self._linked |= lost

    def _flush(self) -> None:
        if not self._batch:
            return
        batch = ScanBatch(self._started_ns, changes=self._batch)
        self._batch, self._batch_files = [], 0
        self._registry.record_scan(self.begin(), batch)
        self.settled.due = True

    def _known_below(self, path: bytes) -> Iterator[bytes]:
        after: bytes | None = None
        repository_id = self.repository.repository_id
        while page := self._registry.directories_under(repository_id, path, after, _PAGE):
            yield from (directory.path for directory in page)
            after = page[-1].path

    def _retire(self) -> None:
        """Directories that are not there, with all that is known below them."""
        gone: list[int] = []
        untracked: list[int] = []
        linked: set[int] = set()
        for path in tops(self._gone):
            after: bytes | None = None
            while page := self._registry.directories_under(
                self.repository.repository_id, path, after, _PAGE
            ):
                after = page[-1].path
                for directory in page:
                    ignored = self._rules.ignores(directory.path, True)
                    (untracked if ignored else gone).append(directory.directory_id)
                    linked.update(it.inode for it in self._registry.files_in(directory[0]))
        if not gone and not untracked:
            return
        self._linked |= linked
        self._registry.retire_directories(self.begin(), gone, untracked)
        self.listings(
            self._registry.linked_directories(self.repository.repository_id, sorted(linked))
        )


def hash_again(
    registry: Registry, repository_id: bytes, contents: Mapping[bytes, set[bytes] | None]
) -> int:
    """`WatchStore.hash_again` in short transactions."""
    count = 0
    part: dict[bytes, set[bytes] | None] = {}
    names = 0
    for path, written in contents.items():
        part[path] = written
        names += len(written) if written is not None else _BATCH_FILES
        if names >= _BATCH_FILES:
            count += registry.hash_again(repository_id, part)
            part, names = {}, 0
    return count + registry.hash_again(repository_id, part) if part else count


def _contents(dirt: Dirt) -> Mapping[bytes, set[bytes] | None]:
    """What was written to, by where it is now."""
    contents = {path: names for path, names in dirt.folders.items() if names is None or names}
    for old, new in dirt.renames.items():
        folder, name = os.path.split(old)
        names = contents.get(folder, set())
        if names is None or name in names:
            folder, name = os.path.split(new)
            there = contents.get(folder, set())
            if there is not None:
                contents[folder] = there | {name}
    return contents


def tops(paths: set[bytes]) -> Iterator[bytes]:
    """Those that do not lie below another one."""
    last: bytes | None = None
    for path in sorted(paths, key=lambda path: path.split(b"/")):
        if last is None or not path.startswith(last + b"/"):
            yield path
            last = path
