"""One root followed: a watcher beside it, and a thread that records what the watcher calls dirty.

The watcher is started first and the whole root looked at after that, so that nothing falls between.
From then on dirt is settled once it has been quiet for the debounce interval, or has waited four
times that; how long the last look took bounds how soon the next one comes. Lost events are noted in
the registry before anything else, and the whole root is looked at again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import BusyError, CancelledError, LifecycleError, NotFoundError
from lifecycle_sync.model.conflict import Strategy
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.observe.dirt import Dirt
from lifecycle_sync.observe.walker import MOUNT_POINT
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.look import Settled, hash_again
from lifecycle_sync.service.pace import NEVER, Pace
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.scan import ScanCounts
from lifecycle_sync.service.settling import Settler
from lifecycle_sync.service.watch_health import Alarm, HealthNotes, RootHealth
from lifecycle_sync.service.watch_keeper import FollowOptions, WatchKeeper

_log = logging.getLogger(__name__)

_READY_SECONDS = 0.2
_LOCK_SECONDS = 1.0
# Losses that the shrink guard takes together, though they came look by look.
_LATELY_SECONDS = 300.0


class RootFollower:
    """Follows one root from `start` to `stop`. `on_settled` and `on_report` are called from its
    thread, after looks that recorded something and after whole ones; `on_due` when there may be
    something to hash; `on_linked` with inodes that may have names in other roots (see
    `look_at_links`)."""

    def __init__(
        self,
        engine: Engine,
        repository: Repository,
        options: FollowOptions,
        *,
        on_settled: Callable[[Settled], None] = lambda _: None,
        on_report: Callable[[SyncReport], None] = lambda _: None,
        on_due: Callable[[bytes], None] = lambda _: None,
        on_linked: Callable[[Collection[int], bool], None] = lambda _, __: None,
    ) -> None:
        self._engine = engine
        self.repository = repository
        self._options = options
        self._on_settled = on_settled
        self._on_report = on_report
        self._on_due = on_due
        self._on_linked = on_linked
        self._settler = Settler(
            engine.registry,
            engine.roots,
            engine.cycle.rules,
            fs=engine.fs,
            clock=engine.clock,
            strategy=Strategy(engine.settings.conflict_strategy),
            batch_files=engine.settings.batch_size,
        )
        self._cancel = CancelToken()
        self._changed = threading.Condition()
        # One look at a time, whoever orders it.
        self._looking = threading.Lock()
        self._keeper = WatchKeeper(engine, repository, options, self._note_dirt)
        self._dirt = Dirt()
        # What followers of other roots have told.
        self._elsewhere = Dirt()
        self._pace = Pace(options.debounce_seconds, options.doubt_seconds, time.monotonic())
        self._asked = False
        self._recrawl = True
        self._next_whole = float("inf")
        self._checked = time.monotonic()
        self._losses: list[tuple[float, int]] = []
        self._looks = self._recrawls = self._taken = 0
        self._notes = HealthNotes(engine.registry, repository, engine.clock)
        self._thread: threading.Thread | None = None

    # -- for others ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch. What was there before is recorded by `look_at_all`, which the thread does
        by itself unless somebody does it first."""
        self._keeper.start()
        self._note_health()
        self._thread = threading.Thread(target=self._run, name="lifecycle-follow", daemon=True)

    def go_on(self) -> None:
        """Let the thread work; before that only the caller does."""
        assert self._thread is not None, "started"
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End at the next safe point. What is dirty then is found by the next start."""
        self._cancel.cancel()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._dirt.add(self._keeper.stop())
        self._notes.stopped(self.health())

    def wait_ready(self, seconds: float) -> bool:
        """Wait until what can be watched is."""
        watcher = self._keeper.watcher
        return watcher is None or watcher.wait_ready(seconds)

    def look_soon(self) -> None:
        """Look at what is dirty, and at what is polled, without waiting."""
        watcher = self._keeper.watcher
        if watcher is not None:
            watcher.poll_now()
        with self._changed:
            self._asked = True
            self._changed.notify_all()

    def look_at_links(self, inodes: Collection[int], beyond: bool) -> None:
        """Files of this filesystem have changed under some of their names, `beyond` more of them
        than are given: look at the names that they have here, at all of them in good time."""
        if beyond:
            with self._changed:
                self._pace.doubt(time.monotonic())
                self._changed.notify_all()
        elif inodes:
            registry, repository_id = self._engine.registry, self.repository.repository_id
            folders = registry.linked_directories(repository_id, inodes)
            with self._changed:
                for path in folders:
                    self._elsewhere.folder(path)
                if folders:
                    self._pace.dirty(time.monotonic())
                    self._changed.notify_all()

    @property
    def device(self) -> int | None:
        """The number of the filesystem that the root is on; None where it is not there."""
        return self._keeper.device

    @property
    def answers(self) -> bool:
        """Whether cookies are seen and answered."""
        watcher = self._keeper.watcher
        return watcher is not None and watcher.answers

    @property
    def settled(self) -> bool:
        """Whether nothing that is known of waits to be recorded; for tests."""
        watcher = self._keeper.watcher
        with self._changed:
            pace = self._pace
            idle = pace.dirty_since is None and not self._recrawl and not self._dirt
            # What is being looked at is in neither.
            idle = idle and not self._looking.locked()
        return idle and pace.retry_at == NEVER and (watcher is None or watcher.ready)

    def look_at_all(
        self,
        run_type: RunType = RunType.RECONCILIATION,
        *,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        wait_seconds: float = 10.0,
        due: bool = True,
    ) -> SyncReport:
        """A pass over the whole root, unhashed, after which nothing is owed from before; unless
        `due` is False, who hashes is told. Raises what `Cycle.sync` raises."""
        with self._looking:
            watcher = self._keeper.watcher
            if watcher is not None:
                while not watcher.wait_ready(_READY_SECONDS):
                    (cancel or self._cancel).check()
            self._take()
            # What is lost from here on is lost again.
            self._dirt.lost = False
            # Before there is a run of a time that may be wrong.
            self._engine.clock_doubt.heartbeat()
            contents = {path: names for path, names in self._dirt.folders.items() if names != set()}
            begun = time.monotonic()
            report = self._engine.cycle.sync(
                self.repository,
                run_type,
                hashes=False,
                progress=progress,
                cancel=cancel or self._cancel,
                wait_seconds=wait_seconds,
            )
            if not report.scanned:
                self._recrawl = True
                return report
            registry, repository_id = self._engine.registry, self.repository.repository_id
            hash_again(registry, repository_id, contents)
            self._recrawls += 1
            with self._changed:
                self._pace.looked_at_all(begun, time.monotonic())
            cookies, self._dirt = self._dirt.cookies, Dirt()
            self._recrawl = False
            if registry.watch_note(repository_id).needs_recrawl:
                registry.note_recrawl(repository_id, False)
            self._next_whole = time.monotonic() + self._options.whole_poll_seconds
            self._look_later(report.counts.link_folders)
            self._note_unread(report.counts.failed_directories)
            if due:
                self._on_due(repository_id)
            self._keeper.answer(cookies)
        self._after_links(report.counts)
        # A million files were held in the hand; from here on there are a few at a time.
        registry.give_back_memory()
        self._note_health()
        return report

    def health(self) -> RootHealth:
        """How it fares now."""
        keeper = self._keeper
        counts, alarms, first = keeper.counts(), keeper.all_alarms(), self._pace.dirty_since
        return RootHealth(
            mode=keeper.mode,
            events=counts.events,
            coalesced=max(0, counts.events - self._taken),
            looks=self._looks,
            overflows=counts.overflows,
            recrawls=self._recrawls,
            watched_directories=counts.watches,
            polled_directories=counts.polled,
            lag_seconds=0.0 if first is None else time.monotonic() - first,
            alarms=tuple(Alarm(name, text) for name, text in sorted(alarms.items())),
            process_id=os.getpid(),
        )

    # -- the watcher's thread --------------------------------------------------------------

    def _note_dirt(self) -> None:
        """From the watcher's thread: there is dirt."""
        now = time.monotonic()
        watcher = self._keeper.watcher
        first = self._pace.dirty_since is None
        self._pace.dirty(now)
        if first or (watcher is not None and watcher.asked):
            with self._changed:
                self._asked = self._asked or (watcher is not None and watcher.asked)
                self._changed.notify_all()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._cancel.cancelled:
            try:
                self._wait()
                if not self._cancel.cancelled:
                    self._step()
            except CancelledError:
                return
            except BusyError as error:
                _log.debug("%s", error)
                self._try_again()
            except NotFoundError:
                # The root was removed.
                return
            except (LifecycleError, OSError) as error:
                self._keeper.alarms["failing"] = str(error)
                _log.warning("%s: %s", os.fsdecode(self.repository.path), error)
                self._try_again()

    def _wait(self) -> None:
        """Until there is something to do."""
        with self._changed:
            while not self._cancel.cancelled and not self._asked:
                now = time.monotonic()
                left = self._due_at(now) - now
                if left <= 0:
                    break
                self._changed.wait(left)

    def _due_at(self, now: float) -> float:
        """When there will be something to do, in monotonic seconds."""
        due = [self._checked + self._options.check_seconds]
        if self._recrawl:
            retry_at = self._pace.retry_at
            return min(now if retry_at == NEVER else retry_at, *due)
        due.append(self._pace.due_at())
        if self._keeper.watcher is None:
            due.append(self._next_whole)
        return min(due)

    def _step(self) -> None:
        now = time.monotonic()
        asked, self._asked = self._asked, False
        with self._changed:
            retry = self._pace.take_retry(now)
        if now - self._checked >= self._options.check_seconds or asked:
            self._checked = now
            if not self._check_root():
                self._note_health()
                return
        dirty = self._pace.dirty_since is not None or self._take_links(now)
        whole = self._keeper.watcher is None and now >= self._next_whole
        if self._recrawl or whole or self._lost() or self._in_doubt(now):
            if self._keeper.watcher is None and whole:
                # Perhaps there is a queue by now.
                self._keeper.start()
            report = self.look_at_all(wait_seconds=_LOCK_SECONDS)
            self._note_report(report)
            self._on_report(report)
        elif retry or asked or dirty:
            self._settle()
        self._note_health()

    def _check_root(self) -> bool:
        """Whether the folder is the one that is watched; else it is awaited, and watched anew."""
        keeper, engine = self._keeper, self._engine
        if keeper.stands():
            return True
        known = engine.registry.repository(self.repository.repository_id) or self.repository
        _, verdict = engine.roots.check(known)
        if not verdict.passed:
            keeper.note("root", verdict)
            return False
        self._dirt.add(keeper.stop())
        self._note_lost()
        # Last: who sees that it is back sees, too, that it is to be looked at.
        keeper.note("root", None)
        keeper.start()
        return True

    def _lost(self) -> bool:
        """Whether events are missing; noted where it outlives this process."""
        self._take()
        if not self._dirt.lost:
            return False
        self._keeper.alarms["overflow"] = "events came faster than they were taken"
        self._note_lost()
        return True

    def _in_doubt(self, now: float) -> bool:
        """Whether all is to be looked at because something came and went unseen: at once where
        somebody waits for what there is."""
        with self._changed:
            return self._pace.doubt_due(now, asked=bool(self._dirt.cookies))

    def _note_lost(self) -> None:
        self._engine.registry.note_recrawl(self.repository.repository_id, True)
        self._recrawl = True

    def _take(self) -> None:
        with self._changed:
            # First: what comes from here on is dirty again.
            self._pace.dirty_since = None
            elsewhere, self._elsewhere = self._elsewhere, Dirt()
        taken = self._keeper.take()
        taken.add(elsewhere)
        if taken.unseen:
            # Perhaps another name of a file, here or in another root.
            self.look_at_links((), True)
            self._on_linked((), True)
        if taken:
            # Only what is tried again and again is waited with ever longer.
            self._pace.went_well()
        self._dirt.add(taken)

    def _take_links(self, now: float) -> bool:
        """Call dirty what is to be looked at once more by now."""
        with self._changed:
            due = self._pace.take_links(now)
        for path in due:
            self._dirt.folder(path)
        return bool(due)

    def _look_later(self, folders: Collection[bytes]) -> None:
        with self._changed:
            self._pace.links(folders, time.monotonic())

    def _after_links(self, counts: ScanCounts, maybe: Collection[int] = ()) -> None:
        """Look again at other names of what has several, here and elsewhere: a name that went while
        others were being read was still counted with them. `maybe` have some elsewhere."""
        self.look_at_links(counts.linked, counts.linked_beyond)
        self._on_linked(counts.linked.union(maybe), counts.linked_beyond)

    def _settle(self) -> None:
        with self._looking:
            self._take()
            if self._dirt.lost:
                self._note_lost()
                return
            if self._in_doubt(float("-inf")):
                # Somebody asked just now.
                self._asked = True
                return
            begun = time.monotonic()
            settled = self._look(self._dirt)
            self._pace.looked(begun, time.monotonic())
            if settled.stopped:
                # The root is not itself: what is dirty stays so.
                self._keeper.note("root", settled.verdict)
                return
            self._looks += 1
            self._taken += len(self._dirt.folders)
            cookies, self._dirt = self._dirt.cookies, Dirt()
            self._keeper.alarms.pop("failing", None)
            if settled.verdict is None and "held" in self._keeper.alarms:
                # A person has accepted it.
                self._losses.clear()
            self._keeper.note("held", settled.verdict)
            if settled.again:
                for path in settled.again:
                    self._dirt.folder(path)
                self._try_again()
            else:
                self._pace.went_well()
            self._look_later(settled.counts.link_folders)
            self._note_unread(settled.counts.failed_directories)
            if settled.due:
                self._on_due(self.repository.repository_id)
            self._keeper.answer(cookies)
        if settled.removed:
            self._losses.append((time.monotonic(), settled.removed))
        self._after_links(settled.counts, settled.linked)
        if settled.run is not None:
            self._on_settled(settled)

    def _look(self, dirt: Dirt) -> Settled:
        engine, repository = self._engine, self.repository
        engine.clock_doubt.heartbeat()
        with engine.locks.hold(
            "scan",
            repository.repository_id,
            repository.path,
            wait_seconds=_LOCK_SECONDS,
            cancel=self._cancel,
        ):
            return self._settler.settle(
                repository,
                dirt,
                own=engine.cycle.own_files(),
                cancel=self._cancel,
                lost_lately=self._lost_lately(),
            )

    def _lost_lately(self) -> int:
        since = time.monotonic() - _LATELY_SECONDS
        self._losses = [(at, lost) for at, lost in self._losses if at >= since]
        return sum(lost for _, lost in self._losses)

    def _try_again(self) -> None:
        with self._changed:
            self._pace.try_again(time.monotonic())

    def _note_report(self, report: SyncReport) -> None:
        if report.scanned:
            self._pace.went_well()
            self._keeper.alarms.pop("failing", None)
            self._keeper.note("root", None)
            self._keeper.note("held", report.verdict)
            return
        self._keeper.note("root", report.verdict)
        if report.error is not None:
            self._keeper.alarms["failing"] = str(report.error)
        self._try_again()

    def _note_unread(self, failed: int) -> None:
        """Raise the alarm of folders that were not to be read in the last look, or end it."""
        alarms = self._keeper.alarms
        if failed or "unreadable" in alarms:
            totals = self._engine.registry.directory_totals(self.repository.repository_id)
            unread = [path for path, reason in totals.failed if reason != MOUNT_POINT]
            alarms.pop("unreadable", None)
            if unread:
                alarms["unreadable"] = f"{len(unread):,} folders cannot be read"

    # -- telling ---------------------------------------------------------------------------

    def _note_health(self) -> None:
        self._notes.note(self.health())
