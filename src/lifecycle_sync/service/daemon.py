"""The main job: follow roots, one pass at once, and then some loops until told to stop.

The *registry sync* brings the registry in step, the *backup* keeps what changed, the *policy
enforcement* does what policies ask for beside that, the *clean-up* purges the trash past its grace;
a disk that is too full is relieved before that, by what has a verified copy. Folders of temporary
files, where the settings name some, are cleaned up too, and watched by threads; beside them a
thread scrubs, and one tends what is kept.
What killed processes left pending is settled before the first pass; while the clock is in doubt
nothing is purged.

Each root that is followed is locked against a second `run`. Who names no root follows all of the
registry, also those that are added or removed while it runs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import seconds_since_boot
from lifecycle_sync.errors import (
    BusyError,
    CancelledError,
    GuardError,
    LifecycleError,
    OfflineError,
    RegistryError,
)
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.model.plan import Verb
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.enforcing import ALL, BACKUPS, Enforced, enforce
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.named_copies import update_copies
from lifecycle_sync.service.progress import NoProgress, Progress
from lifecycle_sync.service.scheduler import Attempt, Job, Scheduler, first_due, note_loop
from lifecycle_sync.service.scrubbing import Scrubber
from lifecycle_sync.service.temp.keeping import TempKeeping
from lifecycle_sync.service.tending import COPIES, Tending
from lifecycle_sync.service.watching import Watching

_log = logging.getLogger(__name__)
# The loops, as `status` shows them.
REGISTRY_SYNC, BACKUP, ENFORCEMENT, CLEANUP = (
    "registry sync",
    "backup",
    "policy enforcement",
    "clean-up",
)
SPACE = "low space"
# How often the disks are asked how full they are.
SPACE_SECONDS = 30.0
TEMP = "temporary files"
# A job that took so long had much in its hands.
_LONG_SECONDS = 1.0
# Among so many acts is the last of every kind, most likely.
_ACTS = 200


class Daemon:
    """Follows `named` roots, or all of the registry. A context manager: it holds their locks.

    Entering raises `BusyError` when another process follows one of the roots already. `on_report`
    is called after every pass over a root, `on_enforced` after policies were enforced, `on_trouble`
    with what kept a whole round from being done; all in the thread of the caller. Without
    `policies` the registry is kept in step, and nothing else is done. With `watching`, which this
    stops in the end, roots are followed by it, and looked at as a whole every `reconcile_seconds`
    only (None: as the settings say).
    """

    def __init__(
        self,
        engine: Engine,
        named: Sequence[Repository] | None = None,
        *,
        hashes: bool | None = None,
        progress: Progress | None = None,
        cancel: CancelToken,
        on_report: Callable[[SyncReport], None],
        on_trouble: Callable[[LifecycleError], None],
        on_enforced: Callable[[Enforced], None] | None = None,
        policies: bool = True,
        watching: Watching | None = None,
        reconcile_seconds: float | None = None,
    ) -> None:
        self._engine = engine
        self._named = None if named is None else {item.repository_id for item in named}
        self._hashes = hashes
        self._progress = progress
        self._cancel = cancel
        self._on_report = on_report
        self._on_trouble = on_trouble
        self._on_enforced = on_enforced
        self._policies = policies
        self._held: dict[bytes, ExitStack] = {}
        self._watching = watching
        self._reconcile_seconds = (
            float(engine.settings.reconciliation_interval)
            if reconcile_seconds is None
            else reconcile_seconds
        )
        # When a root that is watched was looked at as a whole, in monotonic seconds.
        self._whole: dict[bytes, float] = {}
        # Until when nothing more can be done for a disk that is too full.
        self._full_until: dict[bytes, float] = {}
        self._temp: TempKeeping | None = None

    def __enter__(self) -> Daemon:
        try:
            if self._policies:
                self._temp = TempKeeping(self._engine, self._cancel)
            for repository in self._wanted():
                self._hold(repository)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._temp is not None:
            self._temp.__exit__()
        if self._watching is not None:
            self._watching.stop()
        for lock in self._held.values():
            lock.close()
        self._held.clear()

    def once(self) -> list[SyncReport]:
        """What was interrupted settled, then the first pass over every root. Raises
        `CancelledError`, and what the registry raises."""
        for repository in self._followed():
            self._quietly(lambda root=repository: self._recover(root))  # type: ignore[misc]
        return self._round(RunType.STARTUP)

    def enforce(self, verbs: Collection[Verb] = ALL) -> Enforced:
        """Do what policies ask for in the roots that are followed. Raises `CancelledError`."""
        how = How(progress=self._progress or NoProgress(), cancel=self._cancel)
        begun = seconds_since_boot()
        enforced = enforce(self._engine, self._followed(), how, verbs=verbs)
        if verbs == ALL:
            # What the loops do in turn, at once.
            took = seconds_since_boot() - begun
            settings = self._engine.settings
            self._note(BACKUP, took, float(settings.backup_interval))
            self._note(ENFORCEMENT, took, float(settings.policy_enforcement_interval))
            self._update_copies()
        if self._on_enforced is not None:
            self._on_enforced(enforced)
        return enforced

    def follow(self, interval_seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """The loops, at their intervals, until the token is set, or (then it is True) `until` says
        so between two of them. Raises `RegistryError`, which no waiting mends; the next time may
        find a free lock, or space on the disk."""
        self.scheduler = Scheduler(
            self._jobs(interval_seconds),
            cancel=self._cancel,
            on_trouble=self._on_trouble,
            on_attempt=self._on_attempt,
        )
        scrubber = Scrubber(self._engine, self._followed_now)
        # The first pass, and the telling of it, went over everything.
        self._engine.registry.give_back_memory()
        if self._hashes is not False:
            scrubber.start()
        tending = Tending(self._engine, self._followed_now, self._on_trouble)
        if self._policies:
            tending.start()
        try:
            if self._temp is not None:
                self._temp.watch(lambda: self.scheduler.soon(TEMP))
            self.scheduler.run(until)
        finally:
            tending.stop()
            scrubber.stop()
        return not self._cancel.cancelled

    def _followed_now(self) -> list[Repository]:
        """Those that are locked by now; for other threads."""
        held = set(self._held)
        return [item for item in self._wanted() if item.repository_id in held]

    def _on_attempt(self, it: Attempt) -> None:
        if it.took_seconds > _LONG_SECONDS:
            self._engine.registry.give_back_memory()
        # A look at how full the disks are is worth no row; what came of one is noted there.
        if it.job.name != SPACE or it.error is not None:
            self._note(it.job.name, it.took_seconds, it.next_seconds, it.error)

    def _note(
        self, name: str, took: float, until_next: float, error: LifecycleError | None = None
    ) -> None:
        """For `status`: when a loop was done, with what result, and when it is due next."""
        engine, failure = self._engine, "" if error is None else str(error)
        note_loop(
            engine.registry,
            engine.now_ns(),
            name,
            took=took,
            until_next=until_next,
            failure=failure,
        )

    def _jobs(self, interval_seconds: float) -> list[Job]:
        settings, now_ns = self._engine.settings, self._engine.now_ns()
        acts = self._engine.registry.acts(None, _ACTS)

        def since(*verbs: str) -> int | None:
            return next((it.started_ns for it in acts if it.verb in verbs), None)

        jobs = [
            # The first pass has just been made.
            Job(REGISTRY_SYNC, interval_seconds, self._sync, interval_seconds),
        ]
        if not self._policies:
            return jobs
        backup, enforcement = settings.backup_interval, settings.policy_enforcement_interval
        cleanup = settings.cleanup_interval
        purged_ns = since("purge")
        if self._temp is not None and (every := self._temp.interval_seconds) is not None:
            jobs.append(Job(TEMP, every, self._temp.clean))
        return [
            *jobs,
            Job(BACKUP, backup, self._back_up, backup),
            Job(ENFORCEMENT, enforcement, lambda: self._keep(ALL - BACKUPS), enforcement),
            Job(CLEANUP, cleanup, self._purge, first_due(purged_ns, cleanup, now_ns)),
            Job(SPACE, SPACE_SECONDS, self._make_room),
        ]

    def _sync(self) -> None:
        self._round(RunType.RECONCILIATION)
        self._engine.decisions.settle(self._cancel)

    def _keep(self, verbs: Collection[Verb]) -> None:
        self.enforce(verbs)

    def _back_up(self) -> None:
        self.enforce(BACKUPS)
        self._update_copies()

    def _update_copies(self) -> None:
        """Bring further places of the vaults up to date; one that is away is told, and is no error
        of the backup."""
        settings = self._engine.settings
        if not (settings.backup_copies or settings.archive_copies):
            return
        begun = seconds_since_boot()
        error = update_copies(self._engine, self._cancel)
        if error is not None:
            self._on_trouble(error)
        took = seconds_since_boot() - begun
        self._note(COPIES, took, float(settings.backup_interval), error)

    def _recover(self, repository: Repository) -> None:
        count = self._engine.acts.recover(repository, self._cancel)
        if count:
            _log.info("%s: interrupted acts settled: %d", os.fsdecode(repository.path), count)

    def _purge(self) -> None:
        """Unlink what lies in the trashes past its grace."""
        doubt = self._engine.clock_doubt.reason()
        if doubt:
            self._on_trouble(_clock_error(doubt, "the trash is not purged"))
            return
        for repository in self._followed():
            self._quietly(lambda root=repository: self._purge_root(root))  # type: ignore[misc]

    def _purge_root(self, repository: Repository) -> None:
        acts = self._engine.acts
        if not self._engine.roots.look(repository)[0].passed:
            # Its pass has told so.
            return
        with acts.trash(repository) as trash:
            if not any(True for _ in trash.due(self._engine.now_ns())):
                return
        report = acts.purge(repository, cancel=self._cancel)
        _log.info("%s: purged: %s", os.fsdecode(repository.path), report.counts())

    def _make_room(self) -> None:
        """Purge early what has verified copies, on disks that are too full. One that stays too full
        is told of, and tried again with the next clean-up."""
        now = seconds_since_boot()
        for repository in self._followed():
            if now < self._full_until.get(repository.repository_id, 0.0):
                continue
            try:
                self._relieve(repository, now)
            except (CancelledError, RegistryError):
                raise
            except LifecycleError as error:
                # A guard, too: nobody else says that the disk stays full because of it.
                self._note(SPACE, seconds_since_boot() - now, SPACE_SECONDS, error)
                self._on_trouble(error)

    def _relieve(self, repository: Repository, now: float) -> None:
        if not self._engine.space.shortage(repository):
            return
        # Whatever comes of it, it is not asked of the same trash every half a minute.
        self._full_until[repository.repository_id] = now + self._engine.settings.cleanup_interval
        doubt = self._engine.clock_doubt.reason()
        if doubt:
            raise _clock_error(doubt, "nothing is purged to make room")
        relief = self._engine.making_room.relieve(repository, self._cancel)
        if relief is None:
            return
        if relief.error is not None:
            raise relief.error
        self._note(SPACE, seconds_since_boot() - now, SPACE_SECONDS)
        del self._full_until[repository.repository_id]

    def _quietly(self, work: Callable[[], None]) -> None:
        """Do it for one root; what goes wrong there is told, and keeps no other waiting."""
        try:
            work()
        except (CancelledError, RegistryError):
            raise
        except (OfflineError, GuardError) as error:
            _log.info("%s", error)
        except LifecycleError as error:
            self._on_trouble(error)

    def _round(self, run_type: RunType) -> list[SyncReport]:
        if self._watching is not None:
            return self._watched_round(self._watching, run_type)
        return self._engine.sync(
            self._followed(),
            run_type=run_type,
            hashes=self._hashes,
            progress=self._progress,
            cancel=self._cancel,
            on_report=self._on_report,
        )

    def _watched_round(self, watching: Watching, run_type: RunType) -> list[SyncReport]:
        """Roots that are told what happens need no pass at each interval: what is dirty and what is
        polled is looked at soon, and all of it once a day."""
        reports = []
        for repository in self._followed():
            try:
                report = self._watched_pass(watching, repository, run_type)
            except CancelledError:
                raise
            except LifecycleError as error:
                report = SyncReport(repository, error=error)
            if report is not None:
                reports.append(report)
                self._on_report(report)
        return reports

    def _watched_pass(
        self, watching: Watching, repository: Repository, run_type: RunType
    ) -> SyncReport | None:
        root_id = repository.repository_id
        if repository.kind is RepositoryKind.LOOSE:
            hashes = self._engine.settings.calculate_hashes
            return self._engine.cycle.sync(
                repository,
                run_type,
                hashes=hashes if self._hashes is None else self._hashes,
                progress=self._progress,
                cancel=self._cancel,
            )
        follower = watching.follower(root_id)
        now = time.monotonic()
        if follower is None:
            follower = watching.watch(repository)
        elif now - self._whole.get(root_id, float("-inf")) < self._reconcile_seconds:
            follower.look_soon()
            return None
        if follower is None:
            return None
        try:
            report = watching.look(follower, run_type, progress=self._progress, cancel=self._cancel)
        finally:
            # What could not be looked at now is tried again.
            follower.go_on()
        if report.scanned:
            self._whole[root_id] = now
        return report

    def _wanted(self) -> list[Repository]:
        known = self._engine.roots.all()
        if self._named is None:
            return known
        return [item for item in known if item.repository_id in self._named]

    def _followed(self) -> list[Repository]:
        """What is there now, locked; a root that another `run` has taken meanwhile is its."""
        wanted = self._wanted()
        for repository_id in self._held.keys() - {item.repository_id for item in wanted}:
            if self._watching is not None:
                self._watching.unfollow(repository_id)
            self._whole.pop(repository_id, None)
            self._held.pop(repository_id).close()
        for repository in wanted:
            if repository.repository_id not in self._held:
                try:
                    self._hold(repository)
                except BusyError as error:
                    _log.info("%s", error)
        return [item for item in wanted if item.repository_id in self._held]

    def _hold(self, repository: Repository) -> None:
        lock = ExitStack()
        lock.enter_context(
            self._engine.locks.hold("run", repository.repository_id, repository.path)
        )
        self._held[repository.repository_id] = lock


def _clock_error(doubt: str, what: str) -> GuardError:
    return GuardError(
        f"{doubt}: {what}",
        guard="clock",
        operation="purge",
        remedy="check the date; if it is right, `lifecycle confirm --guard clock`",
    )
