"""What the events of a queue have told, in their order: where directories are, what is dirty."""

from __future__ import annotations

import time
from collections import deque

from lifecycle_sync.model.repository import PRIVATE_DIRECTORY
from lifecycle_sync.observe import inotify as kernel
from lifecycle_sync.observe.dirt import Dirt
from lifecycle_sync.observe.inotify import RawEvent
from lifecycle_sync.observe.newcomers import Newcomers
from lifecycle_sync.observe.watch_tree import WatchTree

# How long what was moved away may take to turn up elsewhere in the root.
LIMBO_SECONDS = 0.5
_LIMBO_EVENTS_MAX = 10_000


class WatchState:
    """The state of one queue. `own` are paths relative to the root that are never subjects.

    `tasks` are directories to be watched (the watch of the one above and a name, or `ANCHORED` and
    a path), `polled` those that cannot be, `to_poll` those of them that are on the list, `cookies`
    names that were asked by, `lost` the watches of what was moved out of the root.
    """

    def __init__(self, own: frozenset[bytes]) -> None:
        self._own = own
        self.tree = WatchTree()
        self.dirt = Dirt()
        self.newcomers = Newcomers()
        self.tasks: deque[tuple[int, bytes]] = deque()
        self.polled: set[bytes] = set()
        self.to_poll: set[bytes] = set()
        self.twice: set[bytes] = set()
        self.cookies: list[bytes] = []
        self.root_wd = self.cookie_wd = -1
        # The root was deleted or moved away: what watches tell is not about its path any more.
        self.root_gone = False
        # Where directories are contradicts itself.
        self.in_doubt = False
        # By the cookie of the event: what was moved away, and when it is given up.
        self._limbo: dict[int, tuple[int, float]] = {}
        self._limbo_events: list[RawEvent] = []
        # With whether nobody had looked at it.
        self._moved_files: dict[int, tuple[bytes, bool, float]] = {}

    def take_in(self, event: RawEvent) -> None:
        """One event, the next of the queue."""
        wd, mask, _, name = event
        if mask & kernel.Q_OVERFLOW:
            self.dirt.lost = True
            return
        if wd == self.cookie_wd:
            if mask & kernel.IGNORED:
                self.cookie_wd = -1
            elif name:
                self.cookies.append(name)
            return
        if wd not in self.tree:
            return
        path = self.tree.path(wd)
        if mask & kernel.IGNORED:
            self.tree.forget(wd)
            self.dirt.unseen = self.newcomers.went(wd, b"") or self.dirt.unseen
            self.root_gone = self.root_gone or wd == self.root_wd
            if path is not None:
                self.dirt.tree(path)
        elif path is None:
            if len(self._limbo_events) < _LIMBO_EVENTS_MAX:
                self._limbo_events.append(event)
        elif name:
            if path or name != PRIVATE_DIRECTORY:
                self._about_entry(event, path)
        elif mask & (kernel.DELETE_SELF | kernel.MOVE_SELF | kernel.UNMOUNT):
            self.root_gone = self.root_gone or wd == self.root_wd
            self.dirt.tree(path)
        else:
            self.dirt.folder(path)

    def _about_entry(self, event: RawEvent, path: bytes) -> None:
        wd, mask, cookie, name = event
        child = path + b"/" + name if path else name
        if mask & kernel.ISDIR:
            self.dirt.folder(path)
            self._about_directory(event, child)
        elif child in self._own:
            return
        elif mask & (kernel.MODIFY | kernel.CLOSE_WRITE):
            self.dirt.content(path, name)
        else:
            self.dirt.folder(path)
            if mask & (kernel.CREATE | kernel.MOVED_TO):
                self.dirt.unseen = self.newcomers.came(wd, name) or self.dirt.unseen
            elif mask & kernel.DELETE:
                self.dirt.unseen = self.newcomers.went(wd, name) or self.dirt.unseen
            if mask & kernel.MOVED_FROM:
                until = time.monotonic() + LIMBO_SECONDS
                self._moved_files[cookie] = (child, self.newcomers.went(wd, name), until)
            elif mask & kernel.MOVED_TO and (found := self._moved_files.pop(cookie, None)):
                self.dirt.rename(found[0], child)

    def _about_directory(self, event: RawEvent, child: bytes) -> None:
        wd, mask, cookie, name = event
        if mask & (kernel.MOVED_FROM | kernel.DELETE):
            self.dirt.tree(child)
            moved = self.tree.child(wd, name)
            if moved is not None:
                self.tree.lose(moved)
                if mask & kernel.MOVED_FROM:
                    self._limbo[cookie] = (moved, time.monotonic() + LIMBO_SECONDS)
            return
        if mask & kernel.ATTRIB:
            # What is watched stays so, whatever its mode is now.
            self.dirt.folder(child)
            if child in self.polled:
                self.tasks.append((wd, name))
            return
        found = self._limbo.pop(cookie, None) if mask & kernel.MOVED_TO else None
        if found is not None and found[0] in self.tree:
            self.place(found[0], wd, name)
            self.dirt.tree(child)
        # What was moved in, or moved before it was all watched, is not watched yet.
        self.tasks.append((wd, name))

    def place(self, wd: int, parent: int, name: bytes) -> None:
        """A watch has its place; what came from directories in limbo may have one, too."""
        self.in_doubt = not self.tree.place(wd, parent, name) or self.in_doubt
        if self._limbo_events:
            events, self._limbo_events = self._limbo_events, []
            for event in events:
                self.take_in(event)

    @property
    def waits(self) -> bool:
        """Whether something was moved away and may yet turn up."""
        return bool(self._limbo or self._moved_files)

    def give_up(self, now: float) -> list[int]:
        """The watches of what has not turned up by `now` (monotonic seconds), now forgotten."""
        lost = []
        for cookie, (wd, until) in list(self._limbo.items()):
            if now >= until:
                del self._limbo[cookie]
                if wd in self.tree and self.tree.path(wd) is None:
                    lost += list(self.tree.below(wd))
        for cookie, (_, unseen, until) in list(self._moved_files.items()):
            if now >= until:
                del self._moved_files[cookie]
                self.dirt.unseen = self.dirt.unseen or unseen
        for wd in lost:
            self.tree.forget(wd)
        if not self._limbo:
            self._limbo_events.clear()
        return lost

    def watch_of(self, path: bytes) -> int | None:
        """The watch of the directory at a path."""
        wd: int | None = self.root_wd
        for part in path.split(b"/") if path else []:
            wd = self.tree.child(wd, part) if wd is not None and wd >= 0 else None
        return wd if wd is not None and wd >= 0 else None
