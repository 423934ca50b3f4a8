"""What a watcher calls dirty, or a person names, is looked at and recorded as a scan records it:
under the same lock, guards and rules as a scan of the whole root."""

from __future__ import annotations

import dataclasses
import os

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.decide.guards import Outcome, Verdict
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.conflict import Strategy
from lifecycle_sync.model.operation import Run, RunStatus, RunType
from lifecycle_sync.model.repository import Repository, RepositoryStatus
from lifecycle_sync.observe.dirt import Dirt
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.judging import Judged, judge
from lifecycle_sync.service.look import Look, Settled
from lifecycle_sync.service.progress import NoProgress, Progress
from lifecycle_sync.service.roots import Roots
from lifecycle_sync.service.scan import BATCH_FILES

_RUNS_KEPT = 1_000


class Settler:
    """Settles the dirt of one root after the other. The caller holds the root's "scan" lock."""

    def __init__(
        self,
        registry: Registry,
        roots: Roots,
        rules: IgnoreRules,
        *,
        fs: FileOps,
        clock: Clock,
        strategy: Strategy = Strategy.DISK,
        batch_files: int = BATCH_FILES,
    ) -> None:
        self._batch_files = batch_files
        self._registry = registry
        self._roots = roots
        self._rules = rules
        self._strategy = strategy
        self._fs = fs
        self._clock = clock

    def settle(
        self,
        repository: Repository,
        dirt: Dirt,
        *,
        own: frozenset[tuple[int, int]],
        cancel: CancelToken,
        lost_lately: int = 0,
    ) -> Settled:
        """Look at what is dirty and record it. `lost_lately` files were lost in looks just before.

        Raises what the registry raises, `CancelledError`, and `OfflineError` when the root cannot
        be read; what was recorded by then stays, and its dirt is to be settled again.
        """
        fresh = self._registry.repository(repository.repository_id)
        if fresh is None:
            return Settled(repository)
        repository, verdict = self._roots.check(fresh)
        if not verdict.passed:
            return Settled(repository, verdict=verdict, stopped=True)
        look = self._begin_look(repository, own, cancel)
        try:
            look.at(dirt)
            if look.run is None and not self._to_judge(repository):
                look.settled.verdict = _standing_verdict(repository)
                return look.settled
            return self._judge(look, dirt, lost_lately, cancel)
        except BaseException as error:
            if look.run is not None:
                self._end_failed(look.run, error)
            raise
        finally:
            look.close()

    def reconcile(
        self,
        repository: Repository,
        path: bytes,
        *,
        own: frozenset[tuple[int, int]],
        cancel: CancelToken,
        run_type: RunType = RunType.RECONCILIATION,
        progress: Progress | None = None,
    ) -> Settled:
        """Look at a folder with all that is below it, on the disk or in the registry, and record
        it; raises as `settle`.

        Where something is missing, nothing is judged: it may have moved to where nobody looked,
        and only a look at the whole root (`elsewhere` asks for it) lets it keep its id.
        """
        fresh = self._registry.repository(repository.repository_id)
        if fresh is None:
            return Settled(repository)
        repository, verdict = self._roots.check(fresh)
        if not verdict.passed:
            return Settled(repository, verdict=verdict, stopped=True)
        look = self._begin_look(repository, own, cancel, run_type, progress)
        try:
            run = look.begin()
            look.below(path)
            if self._registry.missing_count(repository.repository_id):
                look.settled.run = self._end(run, look.settled, RunStatus.COMPLETED, None)
                look.settled.elsewhere = True
                return look.settled
            return self._judge(look, Dirt(), 0, cancel)
        except BaseException as error:
            self._end_failed(look.begin(), error)
            raise
        finally:
            look.close()

    def _begin_look(
        self,
        repository: Repository,
        own: frozenset[tuple[int, int]],
        cancel: CancelToken,
        run_type: RunType = RunType.REALTIME,
        progress: Progress | None = None,
    ) -> Look:
        return Look(
            self._registry,
            repository,
            self._rules,
            own=own,
            fs=self._fs,
            clock=self._clock,
            cancel=cancel,
            run_type=run_type,
            progress=progress or NoProgress(),
            batch_files=self._batch_files,
        )

    def _to_judge(self, repository: Repository) -> bool:
        """Whether something waits for a verdict that may be another now."""
        if repository.status is RepositoryStatus.HELD:
            return repository.accepted_losses > 0 or not self._registry.missing_count(
                repository.repository_id
            )
        return self._registry.missing_count(repository.repository_id) > 0

    def _judge(self, look: Look, dirt: Dirt, lost_lately: int, cancel: CancelToken) -> Settled:
        settled = look.settled
        # The root may have been unmounted while it was being read.
        repository, verdict = self._roots.check(look.repository)
        run = look.begin()
        if not verdict.passed:
            settled.verdict, settled.stopped = verdict, True
            settled.run = self._end(run, settled, RunStatus.FAILED, verdict.reason)
            return settled
        judged = judge(
            self._registry,
            repository,
            run,
            fs=self._fs,
            cancel=cancel,
            begun_ns=look.begun_ns,
            known_before=lambda moved: (
                self._registry.live_count(repository.repository_id) - look.counts.added + moved
            ),
            lost_lately=lost_lately,
            renames=dirt.renames,
            strategy=self._strategy,
        )
        self._after_renames(look, judged)
        settled.repository = judged.repository
        settled.moved, settled.removed = judged.moved, judged.removed
        settled.missing = judged.missing
        # What moved is hashed where it is now, though this look may have added nothing: where it
        # went an earlier one has seen.
        settled.due = settled.due or judged.moved > 0
        settled.counts.note_linked(judged.lost_links)
        settled.verdict = None if judged.verdict.passed else judged.verdict
        # A folder that is polled tells nobody when it goes again.
        settled.again |= judged.present_folders
        if judged.missing and judged.verdict.passed:
            # Its folder was being changed: another look settles it.
            settled.again.add(b"")
        settled.run = self._end(run, settled, RunStatus.COMPLETED, None)
        return settled

    def _after_renames(self, look: Look, judged: Judged) -> None:
        """Records that continue elsewhere with other content: looked at there, and hashed."""
        if not judged.renamed:
            return
        folders: dict[bytes, set[bytes]] = {}
        for path in judged.renamed.values():
            folder, name = os.path.split(path)
            folders.setdefault(folder, set()).add(name)
        self._registry.hash_again(look.repository.repository_id, folders)
        look.listings(sorted(folders), anew=True)
        look.settled.due = True

    def _end(self, run: Run, settled: Settled, status: RunStatus, error: str | None) -> Run:
        counts = settled.counts
        ended = dataclasses.replace(
            run,
            status=status,
            ended_ns=self._clock.now_ns(),
            files_scanned=counts.files,
            # What was first recorded as new and then recognised is an update.
            files_added=counts.added - settled.moved,
            files_updated=counts.updated + settled.moved,
            files_removed=settled.removed,
            error_message=error,
        )
        self._registry.end_run(ended)
        if run.run_id % 100 == 0:
            self._registry.prune_runs(run.repository_id, _RUNS_KEPT)
        return ended

    def _end_failed(self, run: Run, error: BaseException) -> None:
        try:
            self._end(run, Settled(self._fresh(run)), RunStatus.FAILED, str(error))
        except LifecycleError:
            # A full disk or a damaged database refuses this too; the next run marks the row.
            pass

    def _fresh(self, run: Run) -> Repository:
        found = self._registry.repository(run.repository_id)
        assert found is not None, "a run has its repository"
        return found


def _standing_verdict(repository: Repository) -> Verdict | None:
    """What holds a root since an earlier look."""
    if repository.status is not RepositoryStatus.HELD:
        return None
    remedy = "look at the folder; `lifecycle accept` it if it is right"
    return Verdict(repository.held_guard, Outcome.HELD, repository.held_reason, remedy)
