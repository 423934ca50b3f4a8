"""Orders that change files: which files, in batches, under the locks and guards of their roots.

A batch holds the act lock of its root, so acts of several processes take turns by the batch. Inside
it the root's guard is asked, the registry takes up what the vaults tell, and what a killed process
left pending is judged; only then is anything done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from lifecycle_sync.act import backup, purging, removal, returning
from lifecycle_sync.act.breaker import Breaker
from lifecycle_sync.act.erase import limits_of
from lifecycle_sync.act.restore import Conflict, Restorer, Wanted, batches
from lifecycle_sync.act.returning import Back, Displacer
from lifecycle_sync.act.site import COMPLETED, FAILED, SKIPPED, Done, Site
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.errors import (
    UsageError,
)
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.event import DirectoryEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.trash import BATCH_MAX, TrashBatch, TrashEntry
from lifecycle_sync.mounts import filesystem_of, spins
from lifecycle_sync.report.records import utf8_text
from lifecycle_sync.service.act_report import NOT_ARCHIVED, Report
from lifecycle_sync.service.order import Order, Workshop
from lifecycle_sync.service.progress import NoProgress, Progress
from lifecycle_sync.storage.local import storage_error
from lifecycle_sync.vault.vault import Vault, VaultKind

GRACE_DELETED_NS = 30 * NS_PER_DAY
GRACE_ARCHIVED_NS = NS_PER_DAY
_BATCH_FILES = 5_000
_BATCH_BYTES = 64 << 20
# A part of a backup: a manifest costs some syncs, and four parts are in memory at a time. So many
# files, or as many bytes as a batch has, are done in one turn.
_PART_FILES = 3_000
_TURN_FILES = 40_000
# From how many files on another process that reads what is kept pays.
_MANY_FILES = 1_000
_WAIT_SECONDS = 30.0


class _Told:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def advance(self, files: int, bytes_: int) -> None:
        self._progress.advance(files, bytes_)


class Acts:
    """The orders of one registry that change files. Thread-safe."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._registry = workshop.registry
        self._clock = workshop.clock
        self._fs = workshop.fs
        self.vaults = workshop.vaults

    # -- orders ----------------------------------------------------------------------------

    def back_up(
        self,
        repository: Repository,
        files: Iterable[ActFile] | None = None,
        *,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        breaker: Breaker | None = None,
    ) -> Report:
        """Back up these files, or (None) all of a root that changed since they were last."""
        report = Report("backup")
        source = self.due(repository) if files is None else iter(files)
        parts = _cut(source, _PART_FILES)
        with self._order(repository, report, progress, cancel, breaker) as order:
            for part in parts:
                if len(part) >= _MANY_FILES:
                    order.read_ahead()
                with order.batch() as site:
                    for done in backup.back_up(site, _turn(part, parts)):
                        report.add(done)
                order.check()
        return report

    def archive(
        self,
        repository: Repository,
        files: Iterable[ActFile],
        *,
        reason: str = "",
        by: str = "",
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        breaker: Breaker | None = None,
    ) -> Report:
        """Move files into the archive. What is archived or deleted already is left out. `reason` is
        a rule, or what a person said; `by` the person."""
        reason = utf8_text(reason)

        def act(site: Site, batch: list[ActFile]) -> list[Done]:
            return removal.archive(site, batch, grace_ns=GRACE_ARCHIVED_NS, reason=reason, by=by)

        return self._in_batches(
            repository,
            "archive",
            files,
            act,
            BATCH_MAX,
            progress=progress,
            cancel=cancel,
            breaker=breaker,
        )

    def expire(
        self,
        repository: Repository,
        files: Iterable[ActFile],
        *,
        reason: str = "",
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Say of files that their retention is over. They stay where they are."""
        reason = utf8_text(reason)

        def act(site: Site, batch: list[ActFile]) -> list[Done]:
            return removal.expire(site, batch, reason=reason)

        return self._in_batches(
            repository, "expire", files, act, BATCH_MAX, progress=progress, cancel=cancel
        )

    def delete(
        self,
        repository: Repository,
        files: Iterable[ActFile],
        *,
        reason: str = "",
        by: str = "",
        grace_ns: int = GRACE_DELETED_NS,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        breaker: Breaker | None = None,
    ) -> Report:
        """Move files into the trash, for the grace. Of what is archived the record says so: its
        bytes stay in the archive until that is pruned."""
        reason = utf8_text(reason)

        def act(site: Site, batch: list[ActFile]) -> list[Done]:
            away = [file for file in batch if file.state is LifecycleState.ARCHIVED]
            there = [file for file in batch if file.state is not LifecycleState.ARCHIVED]
            done = []
            if there:
                done += removal.delete(site, there, grace_ns=grace_ns, reason=reason, by=by)
            if away:
                done += removal.give_up(site, away, reason=reason, by=by)
            return done

        return self._in_batches(
            repository,
            "delete",
            files,
            act,
            _BATCH_FILES,
            progress=progress,
            cancel=cancel,
            breaker=breaker,
        )

    def undelete(
        self,
        repository: Repository,
        wanted: Sequence[tuple[TrashBatch, TrashEntry]],
        *,
        to: bytes | None = None,
        conflict: Conflict = Conflict.SKIP,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Give files back out of the trash. What gives way to them goes there."""
        report = Report("undelete")
        with self._order(repository, report, progress, cancel) as order:
            for start in range(0, len(wanted), BATCH_MAX):
                part = wanted[start : start + BATCH_MAX]
                with order.batch() as site:
                    files = self._registry.act_files([entry.file_id for _, entry in part])
                    known = [
                        (files[entry.file_id], batch, entry)
                        for batch, entry in part
                        if entry.file_id in files
                    ]
                    report.add(
                        returning.undelete(
                            site,
                            known,
                            to=to,
                            conflict=conflict,
                            make_room=partial(_make_room, site),
                        )
                    )
                    # What no record tells of comes back all the same.
                    for batch, entry in part:
                        if entry.file_id not in files:
                            outcome = site.trash.put_back(batch, entry, to=to)
                            status = COMPLETED if outcome.ok else SKIPPED
                            done = Done(entry.file_id, entry.path, status, outcome.reason)
                            report.add([done])
                    site.trash.sync()
        return report

    def recall(
        self,
        repository: Repository,
        files: Iterable[ActFile],
        *,
        conflict: Conflict = Conflict.SKIP,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Bring archived files back to their places."""
        report = Report("recall")
        vault = self.vaults.get(VaultKind.ARCHIVE, create=False)

        def wanted() -> Iterator[Back]:
            for file in files:
                if file.state is not LifecycleState.ARCHIVED:
                    report.add([Done(file.file_id, file.path, SKIPPED, NOT_ARCHIVED)])
                    continue
                version = next(vault.versions_of(file.file_id), None)
                if version is None:
                    reason = "the archive does not know it"
                    report.add([Done(file.file_id, file.path, FAILED, reason)])
                    continue
                yield Back(file, version, file.path)

        self._bring_back(
            repository,
            vault,
            wanted(),
            report,
            conflict=conflict,
            progress=progress,
            cancel=cancel,
        )
        return report

    def put_away(
        self,
        repository: Repository,
        files: Iterable[ActFile],
        *,
        reason: str = "",
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Move files that lie at the place of archived ones into the trash: these are archived
        again, as the archive has them. What it does not have stays."""
        vault = self.vaults.get(VaultKind.ARCHIVE, create=False)
        reason = utf8_text(reason)

        def act(site: Site, batch: list[ActFile]) -> list[Done]:
            kept = [(file, next(vault.versions_of(file.file_id), None)) for file in batch]
            known = [(file, version) for file, version in kept if version is not None]
            return removal.put_away(site, known, grace_ns=GRACE_DELETED_NS, reason=reason)

        return self._in_batches(
            repository, "archive", files, act, BATCH_MAX, progress=progress, cancel=cancel
        )

    def restore(
        self,
        repository: Repository,
        wanted: Iterable[Back],
        *,
        kind: VaultKind = VaultKind.BACKUP,
        conflict: Conflict = Conflict.SKIP,
        known_as: Mapping[bytes, bytes] | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Put versions back into the root they came from. `known_as` are the ids, by path, under
        which what gives way lies in the trash, where it is not the record's own file."""
        report = Report("restore" if kind is VaultKind.BACKUP else "recall")
        vault = self.vaults.get(kind, create=False)
        self._bring_back(
            repository,
            vault,
            wanted,
            report,
            conflict=conflict,
            known_as=known_as,
            progress=progress,
            cancel=cancel,
        )
        return report

    def restore_to(
        self,
        target: bytes,
        wanted: Iterable[Wanted],
        directories: Callable[[set[bytes]], Mapping[bytes, DirectoryEvent]],
        *,
        conflict: Conflict = Conflict.SKIP,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Put versions below another folder, which is made if need be; no record changes.

        `directories` tells what is known of those that were made, by their paths below `target`.
        """
        report = Report("restore")
        begun = time.monotonic()
        progress = progress or NoProgress()
        if conflict in (Conflict.REPLACE, Conflict.NEWEST):
            raise UsageError(
                "replaces only in the root that files came from",
                operation="restore",
                subject=target,
                remedy="use --conflict keep-both, or an empty folder",
            )
        vault = self.vaults.get(VaultKind.BACKUP, create=False, to_read=True)
        try:
            self._fs.make_directories(target)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(
                "is a file, or lies below one",
                operation="restore",
                subject=target,
                remedy="name a folder with --to; it is made if it is not there",
            ) from error
        except OSError as error:
            raise storage_error(error, "restore", os.fsdecode(target)) from error
        progress.begin("restore", target, None, None)
        try:
            with Restorer(
                self._fs, target, vault, conflict=conflict, cancel=cancel, told=_Told(progress)
            ) as restorer:
                for batch in batches(wanted):
                    for item in restorer.restore(batch):
                        report.add(
                            [
                                Done(
                                    item.wanted.version.file_id,
                                    item.wanted.to,
                                    item.outcome,
                                    item.reason,
                                    item.wanted.version.metadata.size,
                                )
                            ]
                        )
                    if cancel is not None:
                        cancel.check()
                restorer.finish_directories(directories(set(restorer.made_directories)).get)
        finally:
            progress.end()
        report.seconds = time.monotonic() - begun
        return report

    def erase_limits(self, repository: Repository) -> tuple[str, ...]:
        """What overwriting a file of this root cannot reach, in sentences. Raises `OSError`."""
        filesystem = filesystem_of(repository.path)
        device = self._fs.stat(repository.path, follow_symlinks=False).st_dev
        return limits_of(filesystem.type, spinning=spins(device), network=filesystem.network)

    def purge(
        self,
        repository: Repository,
        *,
        now_ns: int | None = None,
        erase: bool = False,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Unlink what lies in the trash of a root past its grace; with `erase` files are
        overwritten before, as far as that reaches (`erase_limits`)."""
        report = Report("purge")
        due_ns = self._clock.now_ns() if now_ns is None else now_ns
        with self._order(repository, report, progress, cancel) as order:
            with order.batch() as site:
                # Their ids alone: the trash may be large.
                due = [batch.batch_id for batch in site.trash.due(due_ns)]
                # One who was killed before may have left an empty batch, and no pending row.
                site.trash.sweep(alone=True)
            limits = self.erase_limits(repository) if erase else None
            for batch_id in due:
                with order.batch() as site:
                    report.add(purging.purge(site, batch_id, erase_limits=limits))
                order.check()
        return report

    def purge_early(
        self,
        repository: Repository,
        *,
        copy: Callable[[TrashEntry], str],
        enough: Callable[[], bool],
        reason: str,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Unlink what lies in the trash of a root within its grace, the oldest first, until it is
        `enough`: see `purging.purge_early`."""
        report = Report("purge")
        with self._order(repository, report, None, cancel) as order:
            with order.batch() as site:
                batches = [it.batch_id for it in site.trash.batches() if isinstance(it, TrashBatch)]
            for batch_id in batches:
                if enough():
                    break
                with order.batch() as site:
                    report.add(
                        purging.purge_early(site, batch_id, copy=copy, enough=enough, reason=reason)
                    )
                order.check()
        return report

    def recover(self, repository: Repository, cancel: CancelToken | None = None) -> int:
        """Judge what killed processes left pending in a root; how many rows that were."""
        if not self._registry.pending_operations(repository.repository_id):
            return 0
        report = Report("recover")
        with self._order(repository, report, None, cancel) as order, order.batch():
            pass
        return report.recovered

    def check_root(self, repository: Repository, verb: str) -> Repository:
        """The root as it is known now, its guard passed. Raises `OfflineError`, `GuardError`."""
        return self._workshop.check_root(repository, verb)

    def trash(self, repository: Repository) -> Trash:
        """The trash of a root, to look into; the caller closes it."""
        return self._workshop.trash_of(repository)

    # -- batches ---------------------------------------------------------------------------

    def due(self, repository: Repository) -> Iterator[ActFile]:
        """The files of a root that changed since they were last backed up."""
        after = 0
        while page := self._registry.to_back_up(repository.repository_id, after, _BATCH_FILES):
            yield from page
            after = page[-1].row_id

    def _in_batches(
        self,
        repository: Repository,
        verb: str,
        files: Iterable[ActFile],
        act: Callable[[Site, list[ActFile]], list[Done]],
        files_max: int,
        *,
        progress: Progress | None,
        cancel: CancelToken | None,
        breaker: Breaker | None = None,
    ) -> Report:
        report = Report(verb)
        with self._order(repository, report, progress, cancel, breaker) as order:
            for batch in _cut(files, files_max):
                if verb == "archive" and len(batch) >= _MANY_FILES:
                    order.read_ahead()
                with order.batch() as site:
                    report.add(act(site, batch))
                order.check()
        return report

    def _bring_back(
        self,
        repository: Repository,
        vault: Vault,
        wanted: Iterable[Back],
        report: Report,
        *,
        conflict: Conflict,
        known_as: Mapping[bytes, bytes] | None = None,
        progress: Progress | None,
        cancel: CancelToken | None,
    ) -> None:
        verb = report.verb
        with self._order(repository, report, progress, cancel) as order:
            made: list[bytes] = []
            for batch in _cut_back(wanted):
                with order.batch() as site:
                    displacer = Displacer(site, grace_ns=GRACE_DELETED_NS, known_as=known_as)
                    with Restorer(
                        self._fs,
                        site.root,
                        vault,
                        conflict=conflict,
                        displace=displacer,
                        cancel=site.cancel,
                        told=site.told,
                    ) as restorer:
                        done, _ = returning.bring_back(site, verb, vault, batch, restorer)
                        made += restorer.made_directories
                        report.add(done)
                order.check()
            if made:
                with order.batch(), Restorer(self._fs, repository.path, vault) as restorer:
                    restorer.made_directories = made
                    known = directories_of(vault, repository.repository_id, set(made))
                    restorer.finish_directories(known.get)

    @contextmanager
    def _order(
        self,
        repository: Repository,
        report: Report,
        progress: Progress | None,
        cancel: CancelToken | None,
        breaker: Breaker | None = None,
    ) -> Iterator[Order]:
        """One order on one root: a run in the journal around its batches."""
        progress = progress or NoProgress()
        act = self._registry.begin_act(repository.repository_id, report.verb, self._clock.now_ns())
        order = Order(
            self._workshop,
            repository,
            act,
            report=report,
            told=_Told(progress),
            cancel=cancel or CancelToken(),
            breaker=breaker,
        )
        progress.begin(report.verb, repository.path, None, None)
        status, begun = FAILED, time.monotonic()
        try:
            yield order
            order.flush()
            status = COMPLETED
        finally:
            order.close()
            progress.end()
            report.seconds = time.monotonic() - begun
            self._registry.end_act(act, self._clock.now_ns(), status, report.counts())


def _make_room(site: Site, path: bytes) -> str | None:
    """Delete what stands at a place, as an order would; the reason where it stays."""
    near = site.registry.files_under(site.repository_id, path, None, 1)
    file = next((it for it in near if it.path == path), None)
    if file is None or file.state is LifecycleState.ARCHIVED:
        return Displacer(site, grace_ns=GRACE_DELETED_NS).take(path)
    why = "another file was given back to its place"
    (done,) = removal.delete(site, [file], grace_ns=GRACE_DELETED_NS, reason=why)
    return None if done.status == COMPLETED else done.reason


def directories_of(
    vault: Vault, repository_id: bytes, wanted: set[bytes]
) -> dict[bytes, DirectoryEvent]:
    """The last event of each of these directories."""
    return {event.path: event for event in vault.directories(repository_id) if event.path in wanted}


def _cut(files: Iterable[ActFile], files_max: int) -> Iterator[list[ActFile]]:
    batch: list[ActFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size
        if len(batch) >= files_max or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _turn(first: list[ActFile], parts: Iterator[list[ActFile]]) -> Iterator[list[ActFile]]:
    """The first part of a backup, and as many more as one turn at a root may do."""
    files = size = 0
    part: list[ActFile] | None = first
    while part is not None:
        files += len(part)
        size += sum(file.size for file in part)
        yield part
        more = files < _TURN_FILES and size < _BATCH_BYTES
        part = next(parts, None) if more else None


def _cut_back(wanted: Iterable[Back]) -> Iterator[list[Back]]:
    batch: list[Back] = []
    size = 0
    for item in wanted:
        batch.append(item)
        size += item.version.metadata.size
        if len(batch) >= BATCH_MAX or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
