"""Orders that change files: which files, in batches, under the locks and guards of their roots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from lifecycle_sync.act import backup, purging, removal
from lifecycle_sync.act.breaker import Breaker
from lifecycle_sync.act.erase import limits_of
from lifecycle_sync.act.pruning import Withdrawn
from lifecycle_sync.act.site import Done, Site
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.trash import BATCH_MAX, TrashBatch, TrashEntry
from lifecycle_sync.mounts import filesystem_of, spins
from lifecycle_sync.report.records import utf8_text
from lifecycle_sync.service.act_report import Report
from lifecycle_sync.service.act_runs import GRACE_DELETED_NS, cut, read_ahead
from lifecycle_sync.service.bringing_back import BringingBack
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.vault.vault import VaultKind

GRACE_ARCHIVED_NS = NS_PER_DAY
_BATCH_FILES = 5_000
# A part of a backup: a manifest costs some syncs, and four parts are in memory at a time. In one
# turn at a root, for which other processes wait, so many files are done at most (the contents that
# were stored are in memory meanwhile), or what is begun in so many seconds.
_PART_FILES = 3_000
_TURN_FILES = 100_000
_TURN_SECONDS = 5.0


class Acts(BringingBack):
    """The orders of one registry that change files. Thread-safe."""

    def back_up(
        self,
        repository: Repository,
        files: Iterable[ActFile] | None = None,
        *,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        breaker: Breaker | None = None,
        report: Report | None = None,
    ) -> Report:
        """Back up these files, or (None) all of a root that changed since they were last. A
        `report` that is given knows what was done also where an error ends it."""
        report = Report("backup") if report is None else report
        source = self.due(repository) if files is None else iter(files)
        parts = cut(source, _PART_FILES)
        with self._order(repository, report, progress, cancel, breaker) as order:
            for part in parts:
                read_ahead(order, part)
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

    def prune_versions(
        self,
        repository: Repository,
        withdraw: Callable[[Site], Withdrawn],
        came: Callable[[Withdrawn], None],
        *,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Keep versions of files of a root in the backup vault no longer: those that `withdraw`
        takes back, in one batch. `came` is told what came of it."""
        report = Report("prune")
        with self._order(repository, report, progress, cancel) as order:
            with order.batch() as site:
                it = withdraw(site)
            report.completed += it.files
            report.size += it.size
            report.add(done for _versions, done in it.left)
            came(it)
            order.check()
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
                    unproven = self._workshop.proof.against_content
                    report.add(
                        purging.purge(site, batch_id, erase_limits=limits, unproven=unproven)
                    )
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
                        purging.purge_early(
                            site,
                            batch_id,
                            copy=copy,
                            enough=enough,
                            reason=reason,
                            unproven=self._workshop.proof.against_content,
                        )
                    )
                order.check()
        return report

    def due(self, repository: Repository) -> Iterator[ActFile]:
        """The files of a root that changed since they were last backed up."""
        after = 0
        while page := self._registry.to_back_up(repository.repository_id, after, _BATCH_FILES):
            yield from page
            after = page[-1].row_id


def _turn(first: list[ActFile], parts: Iterator[list[ActFile]]) -> Iterator[list[ActFile]]:
    """The first part of a backup, and as many more as one turn at a root may do."""
    files, begun = 0, time.monotonic()
    part: list[ActFile] | None = first
    while part is not None:
        files += len(part)
        yield part
        more = files < _TURN_FILES and time.monotonic() < begun + _TURN_SECONDS
        part = next(parts, None) if more else None
