"""Pruning: what no version needs any more is condemned, and deleted when its grace has passed.

No lock is taken, and nothing depends on the length of the grace. What is needed is found from the
manifests alone, of whoever wrote them. Packs and objects that nothing needs are condemned by a
manifest; of those that are mostly empty what is needed is first copied into new packs. Before
anything is deleted all manifests are read again, and what a version turns out to need after all,
and lies in nothing but what is condemned, is copied out. Why that loses nothing that a writer was
promised stands in `writer.py`.

It may be cut off anywhere: the next run finds what is condemned by the manifests, and the rest
anew. Nothing is deleted, and nothing condemned, while a manifest is damaged or missing, because
nobody knows then what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import (
    StorageError,
    StorageFullError,
)
from lifecycle_sync.model.event import CondemnedEvent, PrunedEvent
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.compaction import Known, compact
from lifecycle_sync.vault.copying_out import put_again, put_member
from lifecycle_sync.vault.format import OBJECTS, PACKS, object_name, pack_name
from lifecycle_sync.vault.frames import FrameError
from lifecycle_sync.vault.index import key_blob, key_of_blob
from lifecycle_sync.vault.index_live import Pack
from lifecycle_sync.vault.index_pruned import Condemned
from lifecycle_sync.vault.needed import Needed
from lifecycle_sync.vault.salvage import stored_files
from lifecycle_sync.vault.sealing import opened
from lifecycle_sync.vault.whole_places import damaged_elsewhere

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault
    from lifecycle_sync.vault.writer import VaultWriter

_LINES = 2_000
_IDS_PER_EVENT = 1_000
_NAMES_PER_EVENT = 1_000
# So many packs are emptied, and so many bytes copied, before a manifest tells of it.
_PACKS_PER_COMMIT = 64
_BYTES_PER_COMMIT = 256 << 20
# What is copied is in memory until a manifest tells of it: of tiny contents these are many.
_MEMBERS_PER_COMMIT = 5_000
# So many packs that are mostly empty are looked at in one go.
_PACKS = 1_000
# So many files at least are removed so many at a time.
_MANY_REMOVED, _REMOVERS = 8, 4
# A session that lives may have stored what no manifest tells of yet.
STRAY_NS = 24 * 3600 * 10**9
REPACK_BELOW = 0.5


@dataclass(slots=True)
class PruneReport:
    """What a prune came to, or would come to: files are packs and objects, sizes bytes.

    `condemned` were condemned by it, of them `emptied` after `copied` bytes went into new packs;
    `deleted` were deleted. `waiting` are condemned and not deleted yet, the first of them at
    `waiting_until_ns`; `strays` are of sessions that ended, or may still live. `saved` contents of
    versions were found in nothing but what was condemned, and copied out. `unsaved` are files that
    were kept because what they hold could not be read. `full`: the disk was, so not all that is
    mostly empty was looked at.
    """

    condemned: int = 0
    condemned_bytes: int = 0
    emptied: int = 0
    copied_bytes: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    waiting_until_ns: int | None = None
    strays: int = 0
    saved: int = 0
    missing: int = 0
    unsaved: list[str] = field(default_factory=list)
    manifests: int = 0
    full: bool = False


def withdraw(vault: Vault, version_ids: Sequence[bytes], at_ns: int, reason: str) -> str:
    """Tell a vault that versions are kept no longer; the name of the manifest. What was told of
    them up to `at_ns` counts no more."""
    opening.refuse_older_writers(vault.storage, vault.path, vault.kind)
    events = [
        PrunedEvent(tuple(version_ids[at : at + _IDS_PER_EVENT]), at_ns, reason)
        for at in range(0, len(version_ids), _IDS_PER_EVENT)
    ]
    with vault.writer() as writer:
        return writer.commit(events)


def prune(
    vault: Vault,
    *,
    now_ns: int,
    grace_ns: int,
    repack_below: float = REPACK_BELOW,
    going: Iterable[bytes] = (),
    dry_run: bool = False,
    copy: bool = False,
    compacted: Callable[[str], None] = lambda name: None,
    cleared: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
    needed: Needed | None = None,
) -> PruneReport:
    """Condemn what no version needs, delete what was condemned `grace_ns` nanoseconds ago or more.

    `repack_below` is the share of a pack that has to be needed for it to stay as it is. With
    `dry_run` nothing is changed, and the versions `going` count as pruned. `compacted` is told the
    name of a checkpoint before what it repeats goes; `cleared` is called before one is made, when
    all has been deleted that goes. Of a `copy`, which nobody writes to, files and
    manifests are only taken away: what else is to be said comes from the vault itself. `progress`
    is told files and bytes, each time how many more. `needed` is of this vault, and may have read
    ahead; it is closed. Raises `VaultCorruptError` where a manifest is
    damaged or missing, and `CancelledError`.
    """
    it = _Pruning(
        vault,
        now_ns,
        grace_ns,
        repack_below=repack_below,
        dry_run=dry_run,
        progress=progress,
        cancel=cancel,
        needed=needed,
    )
    try:
        return it.run_copy() if copy else it.run(going, compacted, cleared)
    finally:
        it.close()


class _Pruning:
    def __init__(
        self,
        vault: Vault,
        now_ns: int,
        grace_ns: int,
        *,
        repack_below: float,
        dry_run: bool,
        progress: Callable[[int, int], None] | None,
        cancel: CancelToken | None,
        needed: Needed | None,
    ) -> None:
        self._vault = vault
        self._index = vault.index
        self._storage = vault.storage
        self._now_ns = now_ns
        self._grace_ns = grace_ns
        self._repack_below = repack_below
        self._dry_run = dry_run
        self._progress = progress or (lambda files, size: None)
        self._cancel = cancel or CancelToken()
        self._needed = needed or Needed(vault, self._cancel)
        # Contents that were copied since a manifest told of it.
        self._uncommitted = 0
        self.report = PruneReport()

    def close(self) -> None:
        self._needed.close()

    def run(
        self,
        going: Iterable[bytes],
        compacted: Callable[[str], None],
        cleared: Callable[[], None],
    ) -> PruneReport:
        report = self.report
        self._needed.live.leave_out(going)
        self._needed.catch_up()
        # First what makes room.
        self._delete()
        self._condemn_unused()
        try:
            self._empty_packs()
        except StorageFullError:
            report.full = True
        self._delete()
        if report.deleted and not self._dry_run:
            cleared()
            known = Known(self._needed.live.stay, self._needed.frames, self._awaited())
            report.manifests = compact(self._vault, self._now_ns, known, compacted)
        report.unsaved = [it for it in report.unsaved if self._storage.size(it) is not None]
        report.missing = self._needed.live.unplaced()
        return report

    def _awaited(self) -> set[bytes]:
        """The files, by their SHA-256, that had something that versions need, and are condemned and
        not there. Another prune may have copied it and told so since, or taken back the version:
        then the next checkpoint leaves them out."""
        live = self._needed.live
        live.sum_up()
        gone = (it for it in live.used_condemned() if not self._vault.is_there(it))
        return {sha256 for place in gone for sha256, _ in self._index.files_of(place)}

    def run_copy(self) -> PruneReport:
        self._needed.catch_up()
        if not self._dry_run:
            opening.refuse_older_writers(self._storage, self._vault.path, self._vault.kind)
        self._delete(write=False)
        if not self._dry_run:
            superseded = self._vault.catalogue.superseded()
            self._vault.catalogue.remove(superseded)
            self.report.manifests = len(superseded)
        self.report.missing = self._needed.live.unplaced()
        return self.report

    # -- condemning ------------------------------------------------------------------------

    def _condemn_unused(self) -> None:
        packs = ((it.sha256, it.length) for it in self._needed.live.unused_packs())
        self._condemn(PACKS, packs)
        parts = ((sha256, None) for sha256 in self._needed.live.unused_parts())
        self._condemn(OBJECTS, parts)
        for folder in (PACKS, OBJECTS):
            self._condemn(folder, self._strays(folder))

    def _strays(self, folder: str) -> Iterator[tuple[bytes, int | None]]:
        """Files that no manifest tells of, and did not a day ago (and a grace, where that is
        longer)."""
        until_ns = self._now_ns - max(self._grace_ns, STRAY_NS)
        files = ((name, it) for name, it in stored_files(self._storage, folder) if it is not None)
        while batch := list(islice(files, _LINES)):
            self._cancel.check()
            seen = self._index.strays(batch, self._now_ns, note=not self._dry_run)
            for name, sha256 in batch:
                if name in seen:
                    self.report.strays += 1
                    if seen[name] <= until_ns:
                        yield sha256, None

    def _condemn(self, folder: str, files: Iterable[tuple[bytes, int | None]]) -> None:
        coming = iter(files)
        while batch := list(islice(coming, _NAMES_PER_EVENT)):
            self._cancel.check()
            for sha256, length in batch:
                size = length if length is not None else self._storage.size(_name(folder, sha256))
                self.report.condemned += 1
                self.report.condemned_bytes += size or 0
            names = tuple(sha256 for sha256, _ in batch)
            if not self._dry_run:
                with self._vault.writer() as writer:
                    self._tell(writer, *((names, ()) if folder == PACKS else ((), names)))

    def _tell(
        self, writer: VaultWriter, packs: tuple[bytes, ...], objects: tuple[bytes, ...]
    ) -> None:
        """Commit what is condemned, with what this session has copied."""
        opening.refuse_older_writers(self._storage, self._vault.path, self._vault.kind)
        writer.commit([CondemnedEvent(packs, objects, self._now_ns)])

    def _empty_packs(self) -> None:
        """Copy what is needed out of packs that hold little else, and condemn these."""
        after = 0
        while packs := self._needed.live.partly_used_packs(self._repack_below, after, _PACKS):
            after = packs[-1].place
            self._needed.live.gather(packs)
            self._empty(packs)

    def _empty(self, packs: Sequence[Pack]) -> None:
        writer: VaultWriter | None = None
        emptied: list[Pack] = []
        size = 0
        try:
            for pack in packs:
                self._cancel.check()
                if self._dry_run:
                    copied = sum(member.stored for member in self._needed.live.members(pack))
                else:
                    writer = writer or self._vault.writer()
                    copied = self._copy_out(writer, pack)
                if copied < 0:
                    continue
                emptied.append(pack)
                size += copied
                self.report.copied_bytes += copied
                self._progress(1, copied)
                if len(emptied) >= _PACKS_PER_COMMIT or size >= _BYTES_PER_COMMIT:
                    self._condemn_emptied(writer, emptied)
                    writer, emptied, size = None, [], 0
            self._condemn_emptied(writer, emptied)
        finally:
            if writer is not None:
                writer.close()

    def _condemn_emptied(self, writer: VaultWriter | None, emptied: Sequence[Pack]) -> None:
        if writer is not None:
            with writer:
                if emptied:
                    self._tell(writer, tuple(pack.sha256 for pack in emptied), ())
        for pack in emptied:
            self.report.condemned += 1
            self.report.emptied += 1
            self.report.condemned_bytes += pack.length

    def _copy_out(self, writer: VaultWriter, pack: Pack) -> int:
        """How many bytes that were; -1 where something in it cannot be read, and it stays."""
        copied = 0
        try:
            data = opened(self._storage).read(pack_name(pack.sha256))
            for key, offset, stored, size in self._needed.live.members(pack):
                put_member(writer, key, size, data[offset : offset + stored])
                copied += stored
                self._uncommitted += 1
                if self._uncommitted >= _MEMBERS_PER_COMMIT:
                    writer.commit([])
                    self._uncommitted = 0
        except StorageFullError:
            raise
        except (StorageError, FrameError):
            # Or another prune has emptied it, and it has gone: `run` leaves that out.
            self.report.unsaved.append(pack_name(pack.sha256))
            return -1
        return copied

    # -- deleting --------------------------------------------------------------------------

    def _delete(self, *, write: bool = True) -> None:
        """Delete what is condemned and whose grace has passed, after what is needed of it was
        copied out; without `write` that stays."""
        report = self.report
        report.waiting = report.waiting_bytes = 0
        report.waiting_until_ns = None
        due, waiting = self._condemned_there()
        for _, size, it in waiting:
            report.waiting += 1
            report.waiting_bytes += size
            until_ns = it.at_ns + self._grace_ns
            report.waiting_until_ns = min(until_ns, report.waiting_until_ns or until_ns)
        if self._dry_run:
            report.deleted = len(due)
            report.deleted_bytes = sum(size for _, size, _ in due)
            return
        if not due:
            return
        # All of it was condemned before the manifests are listed now: see `writer.py`.
        self._needed.catch_up()
        names = [it.sha256 for _, _, it in due]
        kept = self._copy_out_needed(names, write=write)
        for name, _size, it in due:
            if it.sha256 in kept and name not in report.unsaved:
                report.unsaved.append(name)
        self._remove([(name, size) for name, size, it in due if it.sha256 not in kept])

    def _remove(self, files: Sequence[tuple[str, int]]) -> None:
        """Take away files of these sizes. Each waits for the disk, so of many some at a time."""
        workers = _REMOVERS if len(files) >= _MANY_REMOVED else 1
        with ThreadPoolExecutor(workers, "prune-remove") as pool:
            for at in range(0, len(files), workers):
                self._cancel.check()
                some = files[at : at + workers]
                names = [name for name, _size in some]
                # One alone is removed by this thread.
                apply = pool.map if workers > 1 else map
                for _none, (_name, size) in zip(
                    apply(self._storage.remove, names), some, strict=True
                ):
                    self.report.deleted += 1
                    self.report.deleted_bytes += size
                    self._progress(1, size)

    def _condemned_there(
        self,
    ) -> tuple[list[tuple[str, int, Condemned]], list[tuple[str, int, Condemned]]]:
        """What is condemned and still there: that whose grace has passed, and the rest."""
        due: list[tuple[str, int, Condemned]] = []
        waiting: list[tuple[str, int, Condemned]] = []
        for it in self._index.condemned():
            name = _name(PACKS if it.is_pack else OBJECTS, it.sha256)
            size = self._storage.size(name)
            if size is not None:
                over = it.at_ns + self._grace_ns <= self._now_ns
                (due if over else waiting).append((name, size, it))
        return due, waiting

    def _copy_out_needed(self, going: Sequence[bytes], *, write: bool) -> set[bytes]:
        """Store anew what versions need and lies in nothing but what is condemned, or in what is
        going and whole nowhere else; the names of what has to stay because something in it cannot
        be read."""
        kept: set[bytes] = set()
        elsewhere = damaged_elsewhere(self._needed, going, self._cancel)
        for blobs in chain(self._needed.live.in_condemned(), elsewhere):
            self._cancel.check()
            lost = [key_of_blob(blob) for blob in blobs]
            if write:
                with self._vault.writer() as writer:
                    lost = put_again(self._vault, writer, blobs)
                    writer.commit([])
            self.report.saved += len(blobs) - len(lost)
            for key in lost:
                blob = key_blob(key)
                places = [*self._index.places([blob]).values(), *self._index.other_places(blob)]
                kept |= {name for place in places for name, _ in self._index.files_of(place)}
        return kept


def _name(folder: str, sha256: bytes) -> str:
    return pack_name(sha256) if folder == PACKS else object_name(sha256)
