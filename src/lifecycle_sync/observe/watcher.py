"""The watcher of one root: what may have changed, from inotify with a recursion of our own.

One thread drains the queue, keeps the watches in the order of the events, and collects dirt; it
never looks at files. Directories are watched from the top down, each watched before it is listed
and dirty from then on, so that nothing falls between. An event is a hint under the path that the
directory had by the events so far; where the disk is ahead of them, later ones say so. A watch that
turns up at a second place is moved there. What cannot be watched (the limit of watches, no
permission) is polled. A queue that was full means that events are missing: the watcher then starts
anew, and its dirt says `lost`.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import COOKIES_DIRECTORY, PRIVATE_DIRECTORY
from lifecycle_sync.observe import inotify as kernel
from lifecycle_sync.observe.dirt import Dirt
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.inotify import Inotify
from lifecycle_sync.observe.watch_state import LIMBO_SECONDS, WatchState
from lifecycle_sync.observe.watch_tree import ANCHORED

_log = logging.getLogger(__name__)

# Directories that are watched between two looks at the queue, which must not become full.
_VISITS = 32
# What came is looked at when nothing has happened for so long.
_QUIET_SECONDS = 0.01
# Between two polls lies so many times what one took, and so many seconds at most: most of the time
# is left to all else, however much cannot be watched.
_POLL_REST = 4
_POLL_REST_SECONDS = 300.0
_AWAY = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class WatchCounts:
    """What a watcher has seen and done since it was made; but `watches`, `polled` (directories that
    cannot be watched), `limit` (because there are too many) and `twice` (those that are seen at two
    places, as bind mounts show them) are of now."""

    events: int = 0
    overflows: int = 0
    crawls: int = 0
    watches: int = 0
    polled: int = 0
    twice: int = 0
    limit: bool = False


class Watcher:
    """Watches `root`, an absolute path. `on_dirt` is called, from its thread, when there is some.

    `own` are paths relative to the root that are never subjects. `poll_seconds` is the time between
    two polls, in which what cannot be watched is called dirty, and tried again; it is longer where
    a poll takes long.
    """

    def __init__(
        self,
        root: bytes,
        rules: IgnoreRules,
        *,
        fs: FileOps,
        own: frozenset[bytes] = frozenset(),
        poll_seconds: float = 30.0,
        queue: Callable[[], Inotify] = Inotify,
        on_dirt: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._rules = rules
        self._fs = fs
        self._own = own
        self._poll_seconds = poll_seconds
        self._new_queue = queue
        self._on_dirt = on_dirt
        # Over the dirt, and over the queue while it is replaced.
        self._lock = threading.Lock()
        self._counts = WatchCounts()
        self._ready = threading.Event()
        self._stopping = False
        self.failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._queue: Inotify | None = None
        self._state = WatchState(own)
        self._limit = False
        self._poll_wanted = False
        self._next_poll = time.monotonic() + poll_seconds
        self._poll_began: float | None = None

    # -- for others ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. Raises `OSError` where no queue can be had; then there is nothing to stop."""
        self._queue = self._new_queue()
        self._thread = threading.Thread(target=self._run, name="lifecycle-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give up all watches. Idempotent."""
        with self._lock:
            self._stopping = True
            if self._queue is not None:
                self._queue.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    def wait_ready(self, seconds: float) -> bool:
        """Wait until all that can be watched is: what changes from then on is told. False when it
        takes longer; at once when it has failed."""
        return self._ready.wait(seconds)

    @property
    def ready(self) -> bool:
        """Whether all that can be watched is."""
        return self._ready.is_set()

    @property
    def root_gone(self) -> bool:
        """Whether the root was deleted, moved away or unmounted since it was watched."""
        return self._state.root_gone

    @property
    def answers(self) -> bool:
        """Whether cookies are seen."""
        return self._state.cookie_wd >= 0

    @property
    def asked(self) -> bool:
        """Whether somebody waits for what is dirty now."""
        return bool(self._state.dirt.cookies)

    @property
    def counts(self) -> WatchCounts:
        return self._counts

    def take(self) -> Dirt:
        """What is dirty by now, and is not any more for this watcher."""
        with self._lock:
            dirt, self._state.dirt = self._state.dirt, Dirt()
            return dirt

    def poll_now(self) -> None:
        """Call what cannot be watched dirty, and try again to watch it, without waiting."""
        with self._lock:
            self._poll_wanted = True
            if self._queue is not None:
                self._queue.wake()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._begin()
            while not self._stopping:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - whoever follows starts another one
            _log.warning("the watcher of %s ended: %s", os.fsdecode(self._root), error)
            self.failure = error
            with self._lock:
                self._state.dirt.lost = True
            self._ready.set()
            self._on_dirt()

    def _begin(self) -> None:
        self._counts = replace(self._counts, crawls=self._counts.crawls + 1)
        self._state.tasks.append((ANCHORED, b""))

    def _turn(self) -> None:
        assert self._queue is not None
        state = self._state
        if self._queue.wait(self._patience()):
            events = self._queue.read()
            full = any(event.mask & kernel.Q_OVERFLOW for event in events)
            if full:
                # Before anybody can take `lost`, and believe that all is watched.
                self._ready.clear()
            with self._lock:
                asked = len(state.cookies)
                for event in events:
                    state.take_in(event)
                # Who asks wants to know of what is polled, too.
                self._poll_wanted = self._poll_wanted or len(state.cookies) > asked
            self._count(len(events))
            if full:
                self._counts = replace(self._counts, overflows=self._counts.overflows + 1)
                self._start_anew()
                state = self._state
            if state.dirt:
                self._on_dirt()
        elif state.newcomers.fresh and not state.tasks:
            self._look_at_newcomers()
        self._poll()
        if state.tasks:
            self._visit_some()
        if state.in_doubt:
            # Before anybody can take `lost`, as above.
            self._ready.clear()
            with self._lock:
                state.dirt.lost = True
            self._start_anew()
            self._on_dirt()
            return
        if self._poll_began is not None and not state.tasks:
            self._rest()
        if state.tasks or self._poll_wanted:
            return
        if not self._ready.is_set():
            state.tree.forget_paths()
            self._ready.set()
        if state.cookies:
            # All that was found on the way to here is dirty by now.
            with self._lock:
                state.dirt.cookies += state.cookies
                state.cookies = []
            self._on_dirt()
        if state.waits:
            with self._lock:
                lost = state.give_up(time.monotonic())
            for wd in lost:
                self._queue.unwatch(wd)
            if state.dirt:
                self._on_dirt()

    def _patience(self) -> float | None:
        """How long there is nothing to do but to wait for events."""
        state = self._state
        if state.tasks or state.cookies or self._poll_wanted:
            return 0.0
        if state.newcomers.fresh:
            return _QUIET_SECONDS
        if state.waits:
            return LIMBO_SECONDS / 2
        if state.polled:
            return max(0.0, self._next_poll - time.monotonic())
        return None

    def _look_at_newcomers(self) -> None:
        """What came and has one name is no other name of a file that was there."""
        assert self._queue is not None
        state = self._state
        seen = []
        try:
            with Descent(self._fs, self._root) as descent:
                for wd, name in state.newcomers.fresh:
                    path = state.tree.path(wd)
                    if path is None:
                        continue
                    try:
                        found = self._fs.stat(
                            name, dir_fd=descent.open(path), follow_symlinks=False
                        )
                    except OSError:
                        continue
                    if found.st_nlink == 1:
                        seen.append((wd, name))
        except LifecycleError:
            pass  # the root is not there
        if not self._queue.wait(0):
            # What was seen is what came: nothing happened meanwhile.
            state.newcomers.seen(seen)
            state.newcomers.fresh.clear()

    def _count(self, events: int = 0) -> None:
        state = self._state
        self._counts = replace(
            self._counts,
            events=self._counts.events + events,
            watches=len(state.tree),
            polled=len(state.polled),
            twice=len(state.twice),
            limit=self._limit,
        )

    def _start_anew(self) -> None:
        """Events are missing, and with them perhaps the places of directories: all watches are
        made again. Who takes `lost` looks at everything once this is ready."""
        with self._lock:
            if self._queue is not None:
                # Before there is another: two together could reach the limit.
                self._queue.close()
                self._queue = None
            self._queue = self._new_queue()
            dirt, self._state = self._state.dirt, WatchState(self._own)
            self._state.dirt = dirt
            self._poll_began = None
        self._begin()

    # -- watching --------------------------------------------------------------------------

    def _visit_some(self) -> None:
        tasks = self._state.tasks
        try:
            # A new one each time: what it holds open may have been moved meanwhile.
            with Descent(self._fs, self._root) as descent:
                for _ in range(_VISITS):
                    if not tasks or self._stopping:
                        break
                    self._visit(descent, *tasks.pop())
        except LifecycleError:
            # The root is not there: who follows it finds out and says so.
            tasks.clear()
            self._state.to_poll.clear()
            self._state.root_gone = True
            with self._lock:
                self._state.dirt.folder(b"")
        self._count()
        self._on_dirt()

    def _visit(self, descent: Descent, parent: int, name: bytes) -> None:
        """Watch a directory, call it dirty, and put those in it on the list."""
        state = self._state
        if parent == ANCHORED:
            state.to_poll.discard(name)
            over, _, last = name.rpartition(b"/")
            if name and (wd := state.watch_of(over)) is not None:
                # The one above is watched by now: this one hangs on it.
                parent, name = wd, last
        above = b"" if parent == ANCHORED else state.tree.path(parent)
        if above is None:
            return
        path = above + b"/" + name if above else name
        if path in self._own or self._rules.ignores(path, True):
            state.polled.discard(path)
            return
        known = path in state.polled
        try:
            wd = self._watch(descent.open(path), path)
            if wd is not None and not self._place(descent, wd, parent, name, path):
                wd = None
            with self._lock:
                if known:
                    state.dirt.folder(path)
                else:
                    state.dirt.tree(path)
                    if wd is not None and self._ready.is_set():
                        state.dirt.unseen = state.newcomers.folder(wd) or state.dirt.unseen
            if not path:
                self._watch_cookies(descent, wd)
            below = self._fs.subdirectories(descent.open(path))
        except OSError as error:
            self._not_watched(path, error)
            return
        if not path and PRIVATE_DIRECTORY in below:
            below.remove(PRIVATE_DIRECTORY)
        prefix = path + b"/" if path else b""
        if state.to_poll:
            # Those have their turn anyway: else each is visited once for each one above it.
            below = [each for each in below if prefix + each not in state.to_poll]
        if wd is not None:
            state.tasks.extend((wd, each) for each in below)
        else:
            state.tasks.extend((ANCHORED, prefix + each) for each in below)

    def _watch(self, fd: int, path: bytes) -> int | None:
        """The watch of an open directory; None for one that is polled instead."""
        assert self._queue is not None
        try:
            return self._queue.watch(fd)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._limit = True
            elif error.errno not in {errno.EACCES, errno.EPERM, errno.ENOMEM}:
                raise
            self._state.polled.add(path)
            return None

    def _not_watched(self, path: bytes, error: OSError) -> None:
        with self._lock:
            self._state.dirt.tree(path)
            # What was in it nobody has seen.
            self._state.dirt.unseen = self._state.dirt.unseen or error.errno in _AWAY
        if error.errno in _AWAY or error.errno == errno.EXDEV:
            # Gone (an event says where to), or another filesystem, which is not ours to watch.
            self._state.polled.discard(path)
            self._state.twice.discard(path)
        else:
            self._state.polled.add(path)

    def _place(self, descent: Descent, wd: int, parent: int, name: bytes, path: bytes) -> bool:
        """Put a watch at its place in the tree; False where its directory is at another, too."""
        state = self._state
        before = state.tree.path(wd)
        if before is not None and before != path:
            with self._lock:
                state.dirt.tree(before)
            if self._are_one(descent, before, path):
                # A bind mount, perhaps of what it lies in.
                state.twice.add(path)
                state.polled.add(path)
                return False
        if not path:
            state.root_wd = wd
        with self._lock:
            state.place(wd, parent, name)
        state.polled.discard(path)
        state.twice.discard(path)
        return True

    def _are_one(self, descent: Descent, one: bytes, other: bytes) -> bool:
        try:
            first = self._fs.fstat(descent.open(one))
            second = self._fs.fstat(descent.open(other))
        except OSError:
            return False
        return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)

    def _watch_cookies(self, descent: Descent, wd: int | None) -> None:
        """Watch the private directory for cookies; those that are there already count, too. In a
        root that cannot be written to, and at the limit, nobody can ask by a cookie."""
        if wd is None or self._queue is None:
            return
        try:
            fd = descent.open(PRIVATE_DIRECTORY)
            try:
                self._fs.mkdir(COOKIES_DIRECTORY, fd)
            except FileExistsError:
                pass
            fd = descent.open(PRIVATE_DIRECTORY + b"/" + COOKIES_DIRECTORY)
            self._state.cookie_wd = self._queue.watch(fd, kernel.NAMES_MASK)
            self._state.cookies += [os.fsencode(name) for name in self._fs.listdir(fd)]
        except OSError:
            self._state.cookie_wd = -1

    # -- polling ---------------------------------------------------------------------------

    def _rest(self) -> None:
        """A poll is over: say when the next one is due. Called before there is anything to wait
        for, which is no part of what it took."""
        assert self._poll_began is not None
        now = time.monotonic()
        took, self._poll_began = now - self._poll_began, None
        rest = min(_POLL_REST * took, _POLL_REST_SECONDS)
        self._next_poll = now + max(self._poll_seconds, rest)

    def _poll(self) -> None:
        """Put what cannot be watched on the list when it is time, or when somebody asks."""
        state = self._state
        if state.tasks:
            return
        now = time.monotonic()
        if not self._poll_wanted and now < self._next_poll:
            return
        self._poll_wanted = False
        if not state.polled:
            return
        self._poll_began = now
        self._limit = False
        if len(state.polled) > len(state.twice):
            # What comes and goes there is never seen to.
            with self._lock:
                state.dirt.unseen = True
        state.to_poll = set(state.polled)
        # The last is visited first, so that it is before those in it.
        state.tasks.extend((ANCHORED, path) for path in sorted(state.polled, reverse=True))
