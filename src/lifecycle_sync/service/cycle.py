"""One pass over one root: observe, record, decide, act, record, report.

Acting on a user's files is not part of it: what it decides is only what the registry may believe.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, next_stamp_ns
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.guards import Verdict
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import CancelledError, LifecycleError, OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.conflict import Strategy
from lifecycle_sync.model.observation import Listing
from lifecycle_sync.model.operation import Run, RunStatus, RunType
from lifecycle_sync.model.record import DirectoryTotals, HashCounts, HashTask
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.hash_pass import Hashed, HashPass, Wanted
from lifecycle_sync.service.judging import Judged, judge
from lifecycle_sync.service.listings import listings_of, margin_ns_of
from lifecycle_sync.service.locks import Locks
from lifecycle_sync.service.own_files import own_files
from lifecycle_sync.service.presence import is_there
from lifecycle_sync.service.progress import NoProgress, Progress
from lifecycle_sync.service.roots import Roots
from lifecycle_sync.service.scan import ScanCounts, scan
from lifecycle_sync.service.settling import Settler

_PAGE = 2_000


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one pass over one root came to.

    `verdict` is the guard that stopped the pass (*root*) or what it would have removed (*shrink*);
    None when nothing did. `error` is set when the pass failed for another reason; what had been
    recorded by then stays. `hash_bytes` were read in `hash_seconds`. `below` is the folder,
    relative to the root, that alone was looked at; empty for all of it.
    """

    repository: Repository
    run: Run | None = None
    verdict: Verdict | None = None
    error: LifecycleError | None = None
    counts: ScanCounts = field(default_factory=ScanCounts)
    removed: int = 0
    moved: int = 0
    missing: int = 0
    hashes: HashCounts = field(default_factory=HashCounts)
    hash_bytes: int = 0
    hash_seconds: float = 0.0
    below: bytes = b""

    @property
    def scanned(self) -> bool:
        """Whether what was to be looked at was, from end to end."""
        return self.run is not None and self.run.status is RunStatus.COMPLETED


class Cycle:
    """Passes over the roots of one registry."""

    def __init__(
        self,
        registry: Registry,
        roots: Roots,
        settings: Settings,
        locks: Locks,
        *,
        fs: FileOps,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._roots = roots
        self._settings = settings
        self._locks = locks
        self._fs = fs
        self._clock = clock
        self.rules = IgnoreRules(settings.ignore, defaults=settings.ignore_defaults)
        self.hashes = HashPass(registry, settings, fs=fs, clock=clock)

    def sync(
        self,
        repository: Repository,
        run_type: RunType,
        *,
        hashes: bool = True,
        scrub: bool = False,
        below: bytes | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        wait_seconds: float = 10.0,
    ) -> SyncReport:
        """Bring the records of a root in step with it, then hash what is due (all with `scrub`).
        With `below` (a path relative to the root) only of that folder and all below it.

        Raises `BusyError` when another process scans the root for over `wait_seconds`, and
        `CancelledError`. Other failures of this root are in the report.
        """
        progress = progress or NoProgress()
        cancel = cancel or CancelToken()
        with self._locks.hold(
            "scan",
            repository.repository_id,
            repository.path,
            wait_seconds=wait_seconds,
            cancel=cancel,
        ):
            repository, verdict = self._roots.check(self._fresh(repository))
            if not verdict.passed:
                return SyncReport(repository, verdict=verdict)
            wanted: Wanted | None = None
            if below:
                report = self._scan_below(repository, below, run_type, progress, cancel)
                wanted = partial(_is_below, below)
            else:
                report = self._scan(repository, run_type, progress, cancel)
            if not report.scanned:
                return report
            try:
                with self.hashes.turn(cancel):
                    if hashes:
                        report = _with(
                            report, self.hashes.due(repository, progress, cancel, wanted)
                        )
                    if scrub:
                        report = _with(
                            report, self.hashes.all(repository, progress, cancel, wanted)
                        )
            except CancelledError:
                raise
            except (LifecycleError, OSError) as error:
                report = dataclasses.replace(report, error=_ours(error, repository))
            return report

    def _fresh(self, repository: Repository) -> Repository:
        return self._registry.repository(repository.repository_id) or repository

    # -- one pass over all of a root -------------------------------------------------------

    def _scan(
        self, repository: Repository, run_type: RunType, progress: Progress, cancel: CancelToken
    ) -> SyncReport:
        before = self._registry.directory_totals(repository.repository_id)
        begun_ns = next_stamp_ns()
        if repository.identity.network:
            # Another machine's clock.
            begun_ns -= margin_ns_of(repository)
        run = self._registry.begin_run(
            repository.repository_id, run_type, self._clock.now_ns(), whole=True
        )
        known = before if repository.complete_generation > 0 else None
        progress.begin(
            "index",
            repository.path,
            known.files if known else None,
            known.bytes if known else None,
        )
        try:
            # What is observed is recorded while more of it comes.
            listings = self._observe(repository, before, cancel)
            counts = self._record(repository, run, listings, progress, cancel)
            decided = self._decide(repository, run, counts, cancel, begun_ns)
            # Act: a pass touches no file of anybody's. Policies do, on what it has recorded, and
            # record it in turn (`enforcing`).
            return self._report(run, counts, decided)
        except CancelledError:
            self._end(run, RunStatus.FAILED, error="cancelled")
            raise
        except (LifecycleError, OSError) as error:
            failure = _ours(error, repository)
            self._end_after(run, failure)
            return SyncReport(repository, run=run, error=failure)
        finally:
            progress.end()

    def _observe(
        self, repository: Repository, known: DirectoryTotals, cancel: CancelToken
    ) -> Iterable[Listing]:
        """From the world to facts: the folders of a root, as they are read."""
        return listings_of(
            self._registry,
            repository,
            self.rules,
            known=known,
            own=self.own_files(),
            fs=self._fs,
            clock=self._clock,
            cancel=cancel,
            walker=self._settings.walker,
        )

    def _record(
        self,
        repository: Repository,
        run: Run,
        listings: Iterable[Listing],
        progress: Progress,
        cancel: CancelToken,
    ) -> ScanCounts:
        """The facts, where they differ from the records; what was not found is noted as such."""
        with Descent(self._fs, repository.path) as descent:
            counts = scan(
                self._registry,
                run,
                repository,
                listings,
                ignored=lambda path: self._ignored(repository, path),
                is_there=partial(is_there, self._fs, descent),
                clock=self._clock,
                cancel=cancel,
                progress=progress,
                batch_files=self._settings.batch_size,
            )
        if repository.kind is RepositoryKind.ROOT:
            self._retire_unseen(run, cancel)
        return counts

    def _decide(
        self,
        repository: Repository,
        run: Run,
        counts: ScanCounts,
        cancel: CancelToken,
        begun_ns: int,
    ) -> Judged | SyncReport:
        """What of that which was not found may be believed: moved, gone, or kept for a person; a
        report where the root itself is in doubt."""
        # It may have been unmounted while it was being read.
        repository, verdict = self._roots.check(self._fresh(repository))
        if not verdict.passed:
            return SyncReport(repository, verdict=verdict)
        return judge(
            self._registry,
            repository,
            run,
            fs=self._fs,
            cancel=cancel,
            begun_ns=begun_ns,
            known_before=lambda moved: self._known_before(repository, run, counts.added - moved),
            ignore_hash=self.rules.hash,
            strategy=Strategy(self._settings.conflict_strategy),
        )

    def _report(self, run: Run, counts: ScanCounts, decided: Judged | SyncReport) -> SyncReport:
        """The end of the pass, recorded, and what it came to, for people."""
        if isinstance(decided, SyncReport):
            assert decided.verdict is not None, "the root is in doubt"
            run = self._end(run, RunStatus.FAILED, counts, error=decided.verdict.reason)
            return dataclasses.replace(decided, run=run, counts=counts)
        counts.note_linked(decided.lost_links)
        run = self._end(
            run, RunStatus.COMPLETED, counts, removed=decided.removed, moved=decided.moved
        )
        return SyncReport(
            decided.repository,
            run=run,
            verdict=None if decided.verdict.passed else decided.verdict,
            counts=counts,
            removed=decided.removed,
            moved=decided.moved,
            missing=decided.missing,
        )

    def _scan_below(
        self,
        repository: Repository,
        path: bytes,
        run_type: RunType,
        progress: Progress,
        cancel: CancelToken,
    ) -> SyncReport:
        settler = Settler(
            self._registry,
            self._roots,
            self.rules,
            fs=self._fs,
            clock=self._clock,
            strategy=Strategy(self._settings.conflict_strategy),
            batch_files=self._settings.batch_size,
        )
        progress.begin("index", os.path.join(repository.path, path), None, None)
        try:
            settled = settler.reconcile(
                repository,
                path,
                own=self.own_files(),
                cancel=cancel,
                run_type=run_type,
                progress=progress,
            )
        except CancelledError:
            raise
        except (LifecycleError, OSError) as error:
            return SyncReport(repository, error=_ours(error, repository))
        finally:
            progress.end()
        if settled.elsewhere:
            return self._scan(repository, run_type, progress, cancel)
        return SyncReport(
            settled.repository,
            run=settled.run,
            verdict=settled.verdict,
            counts=settled.counts,
            removed=settled.removed,
            moved=settled.moved,
            missing=settled.missing,
            below=path,
        )

    def _ignored(self, repository: Repository, path: bytes) -> bool:
        # Rules choose among what a folder holds; a loose repository has what was named.
        return repository.kind is RepositoryKind.ROOT and self.rules.ignores(path, False)

    def own_files(self) -> frozenset[tuple[int, int]]:
        """What is ours by (dev, ino), wherever it lies."""
        own = set()
        for path in own_files(self._settings):
            try:
                found = self._fs.stat(path, follow_symlinks=True)
            except OSError:
                continue
            own.add((found.st_dev, found.st_ino))
        return frozenset(own)

    def _known_before(self, repository: Repository, run: Run, added: int) -> int:
        """How many files were known after the last scan that saw the whole root."""
        incomplete = run.generation - repository.complete_generation - 1
        if not incomplete:
            return self._registry.live_count(repository.repository_id) - added
        # Scans that were cut short have added files, too.
        runs = self._registry.runs(repository.repository_id, incomplete + 1, whole=True)
        return self._registry.live_count(
            repository.repository_id, until_seq=min(each.first_seq for each in runs)
        )

    def _retire_unseen(self, run: Run, cancel: CancelToken) -> None:
        after: bytes | None = None
        while page := self._registry.unseen_directories(run, after, _PAGE):
            cancel.check()
            after = page[-1].path
            untracked = [d.directory_id for d in page if self.rules.ignores(d.path, True)]
            hidden = set(untracked)
            self._registry.retire_directories(
                run, [d.directory_id for d in page if d.directory_id not in hidden], untracked
            )

    def _end(
        self,
        run: Run,
        status: RunStatus,
        counts: ScanCounts | None = None,
        *,
        removed: int = 0,
        moved: int = 0,
        error: str | None = None,
    ) -> Run:
        counts = counts or ScanCounts()
        ended = dataclasses.replace(
            run,
            status=status,
            ended_ns=self._clock.now_ns(),
            files_scanned=counts.files,
            # What was first recorded as new and then recognised is an update.
            files_added=counts.added - moved,
            files_updated=counts.updated + moved,
            files_removed=removed,
            error_message=error,
        )
        self._registry.end_run(ended)
        return ended

    def _end_after(self, run: Run, error: LifecycleError) -> None:
        try:
            self._end(run, RunStatus.FAILED, error=str(error))
        except LifecycleError:
            # A full disk or a damaged database refuses this too; the next run marks the row.
            pass

    # -- hash ------------------------------------------------------------------------------

    def hash(
        self,
        repository: Repository,
        *,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        wanted: Wanted | None = None,
    ) -> SyncReport:
        """Hash what is due in a root, or of it what is `wanted`, beside whatever scans it: a result
        is stored for exactly what was read. Raises what hashing and the registry raise."""
        hashed = self.hashes.due(repository, progress, cancel, wanted)
        return _with(SyncReport(repository), hashed)


def _with(report: SyncReport, hashed: Hashed) -> SyncReport:
    """The report with what was hashed after the scan."""
    return dataclasses.replace(
        report,
        hashes=report.hashes.plus(hashed.counts),
        hash_bytes=report.hash_bytes + hashed.bytes,
        hash_seconds=report.hash_seconds + hashed.seconds,
    )


def _is_below(path: bytes, task: HashTask) -> bool:
    return task.directory == path or task.directory.startswith(path + b"/")


def _ours(error: LifecycleError | OSError, repository: Repository) -> LifecycleError:
    """What went wrong with a root, as one of ours."""
    if isinstance(error, LifecycleError):
        return error
    return OfflineError(
        f"cannot be read ({error.strerror or error})",
        operation="synchronise",
        subject=repository.path,
        remedy="check the disk and its permissions",
    )
