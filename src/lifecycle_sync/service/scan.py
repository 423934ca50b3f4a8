"""One scan of one root: from listings to records. Reading and writing overlap in two threads.

The walker and the comparison run in the caller's thread; a second one writes batches. Between them
stands a short queue, so neither the memory nor the lag of the registry grows with the tree.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.decide.differences import differences, unchanged
from lifecycle_sync.errors import OfflineError
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.observation import DirectoryListing, Listing
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.record import DirectoryChange, ScanBatch, StoredDirectory, StoredFile
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import ScanStore
from lifecycle_sync.service.progress import Progress

# Listings compared at once, and what one transaction takes: files, directories, seconds.
_GROUP_DIRECTORIES = 64
_GROUP_FILES = 5_000
BATCH_FILES = 20_000
_BATCH_DIRECTORIES = 4_000
_BATCH_SECONDS = 1.0
_LINK_FOLDERS_MAX = 10_000
_LINKED_MAX = 100_000
_Paths = set[bytes]
_Inodes = set[int]


@dataclass(slots=True)
class ScanCounts:
    """What a scan came by: files as listed, and the records it added, updated, lost sight of.

    `link_folders` are directories in which files with several names were added or updated: one of
    these names may have gone again before anybody saw it. None beyond some thousands.

    `linked` are inodes with several names of which one came, changed or went: what was read of the
    others before that is behind. `linked_beyond` says that there are more than are named."""

    files: int = 0
    bytes: int = 0
    directories: int = 0
    unchanged_directories: int = 0
    failed_directories: int = 0
    added: int = 0
    updated: int = 0
    link_folders: _Paths = field(default_factory=set)
    linked: _Inodes = field(default_factory=set)
    linked_beyond: bool = False

    def note(self, change: DirectoryChange, records: Sequence[StoredFile]) -> set[int]:
        """Count a change to these records; the inodes with several names in it, and those that lost
        a name to another file."""
        self.added += len(change.added)
        self.updated += len(change.modified)
        self.failed_directories += change.error is not None
        nlinks, inodes = change.columns.nlinks, change.columns.inodes
        linked = set[int]()
        if nlinks and max(nlinks) > 1:
            touched = [*change.added, *(position for _, position, _ in change.modified)]
            linked = {inodes[position] for position in touched if nlinks[position] > 1}
            if linked and len(self.link_folders) < _LINK_FOLDERS_MAX:
                self.link_folders.add(change.path)
        if change.modified:
            before = {record.row_id: record.inode for record in records}
            linked.update(
                before[row_id]
                for row_id, position, _ in change.modified
                if before[row_id] != inodes[position]
            )
        self.note_linked(linked)
        return linked

    def note_linked(self, inodes: Collection[int]) -> None:
        """These may have names elsewhere, which changed as well."""
        if len(self.linked) + len(inodes) > _LINKED_MAX:
            self.linked_beyond = True
        else:
            self.linked.update(inodes)


def scan(
    store: ScanStore,
    run: Run,
    repository: Repository,
    listings: Iterable[Listing],
    *,
    ignored: Callable[[bytes], bool],
    is_there: Callable[[bytes, bytes], bool],
    clock: Clock,
    cancel: CancelToken,
    progress: Progress,
    batch_files: int = BATCH_FILES,
) -> ScanCounts:
    """Record all listings of a root. `ignored` judges a path relative to the root; `is_there` looks
    once more for a name in a directory. A transaction takes `batch_files`, but for what is not new
    in a directory, which stays together.

    Raises `OfflineError` when the root itself could not be listed, and what the walker or the
    registry raises; what was written before that stays.
    """
    counts = ScanCounts()
    recorder = _Recorder(store, run, clock, batch_files)
    ids = IdSource(clock.now_ns)
    first = repository.complete_generation == 0
    missing_before = frozenset[int]() if first else missing_ids(store, repository.repository_id)
    try:
        for group in _grouped(listings):
            cancel.check()
            known = store.directories(repository.repository_id, [item.path for item in group])
            for listing in group:
                if listing.error is not None and not listing.path:
                    raise OfflineError(
                        f"cannot be read ({listing.error})",
                        operation="scan root",
                        subject=repository.path,
                        remedy="check the disk and its permissions",
                    )
                stored = known.get(listing.path)
                counts.directories += 1
                counts.files += listing.file_count
                counts.bytes += listing.byte_count
                if stored is not None and unchanged(stored, listing):
                    counts.unchanged_directories += 1
                    recorder.unchanged(stored)
                    continue
                records = store.files_in(stored.directory_id) if stored is not None else []
                change = compare(
                    repository,
                    stored,
                    records,
                    listing,
                    ignored=ignored,
                    is_there=is_there,
                    missing_before=missing_before,
                )
                change.added_ids = ids.take(len(change.added))
                counts.note(change, records)
                recorder.changed(change)
            progress.advance(
                sum(item.file_count for item in group), sum(item.byte_count for item in group)
            )
        recorder.finish()
    finally:
        recorder.stop()
    return counts


def compare(
    repository: Repository,
    stored: StoredDirectory | None,
    records: Sequence[StoredFile],
    listing: Listing,
    *,
    ignored: Callable[[bytes], bool],
    is_there: Callable[[bytes, bytes], bool],
    missing_before: frozenset[int],
) -> DirectoryChange:
    """The change that brings a directory's records in step with its listing, but for the ids of
    what is new. `ignored` and `is_there` as `scan` has them, `missing_before` as `differences`."""
    change = _change_of(
        stored,
        records,
        listing,
        ignored=partial(_ignored_in, ignored, listing.path),
        missing_before=missing_before,
        stable_inodes=repository.identity.stable_inodes,
    )
    if stored is not None and change.added:
        _drop_taken(change, is_there)
    return change


def _change_of(
    stored: StoredDirectory | None,
    records: Sequence[StoredFile],
    listing: Listing,
    **how: Any,
) -> DirectoryChange:
    try:
        return differences(stored, records, listing, **how)
    except OSError as error:
        # Its columns were not read before they were asked for, and now it cannot be read.
        failed = DirectoryListing(listing.path, error=error.strerror or str(error))
        return differences(stored, records, failed, **how)


def _drop_taken(change: DirectoryChange, is_there: Callable[[bytes, bytes], bool]) -> None:
    """Leave out files that an act took away after they were listed and had its record say so before
    the records were read: they are no new ones."""
    there = [
        position
        for position in change.added
        if is_there(change.path, change.columns.names[position])
    ]
    if len(there) < len(change.added):
        change.added = there
        # Not what lies there now: the next scan compares again.
        change.signature = None


def _ignored_in(ignored: Callable[[bytes], bool], directory: bytes, name: bytes) -> bool:
    return ignored(directory + b"/" + name if directory else name)


def missing_ids(store: ScanStore, repository_id: bytes) -> frozenset[int]:
    """Rows noted as missing before. As many as a held root has lost; usually none."""
    found: set[int] = set()
    after = 0
    while page := store.missing(repository_id, after, 5_000):
        found.update(item.row_id for item in page)
        after = page[-1].row_id
    return frozenset(found)


def _grouped(listings: Iterable[Listing]) -> Iterator[list[Listing]]:
    group: list[Listing] = []
    files = 0
    for listing in listings:
        group.append(listing)
        files += listing.file_count
        if len(group) >= _GROUP_DIRECTORIES or files >= _GROUP_FILES:
            yield group
            group, files = [], 0
    if group:
        yield group


def pieces(change: DirectoryChange, files_max: int) -> Iterator[DirectoryChange]:
    """A change that adds more files than a transaction should take, as several; the signature comes
    with the last, so that a scan that ends between them is not believed."""
    while len(change.added) > files_max:
        yield dataclasses.replace(
            change,
            signature=None,
            added=change.added[:files_max],
            added_ids=change.added_ids[:files_max],
            modified=(),
            settled=(),
            missing=(),
            untracked=(),
            returned=(),
        )
        change.added = change.added[files_max:]
        change.added_ids = change.added_ids[files_max:]
    yield change


class _Recorder:
    """Collects batches and writes them in its own thread, in order."""

    def __init__(self, store: ScanStore, run: Run, clock: Clock, batch_files: int) -> None:
        self._batch_files = batch_files
        self._store = store
        self._run = run
        self._clock = clock
        self._batch = ScanBatch(clock.now_ns())
        self._files = 0
        self._begun = time.monotonic()
        self._queue: queue.Queue[ScanBatch | None] = queue.Queue(maxsize=2)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="lifecycle-record", daemon=True)
        self._thread.start()

    def unchanged(self, stored: StoredDirectory) -> None:
        self._batch.unchanged.append(stored.directory_id)
        self._flush_if_due()

    def changed(self, change: DirectoryChange) -> None:
        for piece in pieces(change, self._batch_files):
            files = len(piece.added) + len(piece.modified) + len(piece.missing)
            if self._files and self._files + files > self._batch_files:
                self._flush()
            self._batch.changes.append(piece)
            self._files += files
            self._flush_if_due()

    def finish(self) -> None:
        """Write the rest and wait for it."""
        self._flush()
        self._queue.put(None)
        self._thread.join()
        self._raise_failure()

    def stop(self) -> None:
        """End the thread; what is queued is still written."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _flush_if_due(self) -> None:
        directories = len(self._batch.unchanged) + len(self._batch.changes)
        if (
            self._files >= self._batch_files
            or directories >= _BATCH_DIRECTORIES
            or time.monotonic() - self._begun >= _BATCH_SECONDS
        ):
            self._flush()

    def _flush(self) -> None:
        self._raise_failure()
        if self._batch.unchanged or self._batch.changes:
            self._queue.put(self._batch)
        self._batch = ScanBatch(self._clock.now_ns())
        self._files = 0
        self._begun = time.monotonic()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        # After a failure the queue is still drained, so that nobody waits for a place in it.
        while (batch := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._store.record_scan(self._run, batch)
                except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                    self._failure = error
