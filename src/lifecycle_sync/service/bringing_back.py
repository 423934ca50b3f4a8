"""Orders that bring files back: out of the trash, the archive, the vault."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from lifecycle_sync.act import removal, returning
from lifecycle_sync.act.occupied import Conflict, Wanted
from lifecycle_sync.act.restore import Restorer, batches
from lifecycle_sync.act.returning import Back, Displacer
from lifecycle_sync.act.site import COMPLETED, FAILED, SKIPPED, Done, Site
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import (
    UsageError,
)
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.event import DirectoryEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.trash import BATCH_MAX, TrashBatch, TrashEntry
from lifecycle_sync.service.act_report import NOT_ARCHIVED, Report
from lifecycle_sync.service.act_runs import BATCH_BYTES, GRACE_DELETED_NS, ActRuns, Telling
from lifecycle_sync.service.progress import NoProgress, Progress
from lifecycle_sync.storage.local import storage_error
from lifecycle_sync.vault.spares import Spares
from lifecycle_sync.vault.vault import Vault, VaultKind


class BringingBack(ActRuns):
    """The orders of one registry that bring files back. Thread-safe."""

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
            with (
                Spares(vault, self.vaults.open_copies) as spares,
                Restorer(
                    self._fs,
                    target,
                    vault,
                    conflict=conflict,
                    cancel=cancel,
                    told=Telling(progress),
                    spares=spares,
                ) as restorer,
            ):
                for batch in batches(wanted):
                    for item in restorer.restore(batch):
                        report.note_copy(item.copy)
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
        with (
            Spares(vault, self.vaults.open_copies) as spares,
            self._order(repository, report, progress, cancel) as order,
        ):
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
                        spares=spares,
                    ) as restorer:
                        done, restored = returning.bring_back(site, verb, vault, batch, restorer)
                        made += restorer.made_directories
                        report.add(done)
                        for item in restored:
                            report.note_copy(item.copy)
                order.check()
            if made:
                with order.batch(), Restorer(self._fs, repository.path, vault) as restorer:
                    restorer.made_directories = made
                    known = directories_of(vault, repository.repository_id, set(made))
                    restorer.finish_directories(known.get)


def _make_room(site: Site, path: bytes) -> str | None:
    """Delete what stands at a place, as an order would; the reason where it stays."""
    near = site.registry.files_under(site.repository_id, path, None, 1)
    file = next((it for it in near if it.path == path), None)
    if file is None or file.state is LifecycleState.ARCHIVED:
        return Displacer(site, grace_ns=GRACE_DELETED_NS).take([path]).get(path)
    why = "another file was given back to its place"
    (done,) = removal.delete(site, [file], grace_ns=GRACE_DELETED_NS, reason=why)
    return None if done.status == COMPLETED else done.reason


def directories_of(
    vault: Vault, repository_id: bytes, wanted: set[bytes]
) -> dict[bytes, DirectoryEvent]:
    """The last event of each of these directories."""
    return {event.path: event for event in vault.directories(repository_id) if event.path in wanted}


def _cut_back(wanted: Iterable[Back]) -> Iterator[list[Back]]:
    batch: list[Back] = []
    size = 0
    for item in wanted:
        batch.append(item)
        size += item.version.metadata.size
        if len(batch) >= BATCH_MAX or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
