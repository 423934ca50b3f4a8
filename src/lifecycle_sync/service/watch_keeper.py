"""The watcher of one root, over several lives: started, lost, started again, or not to be had."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lifecycle_sync.decide.guards import Verdict
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.repository import (
    COOKIES_DIRECTORY,
    PRIVATE_DIRECTORY,
    Repository,
    RepositoryKind,
)
from lifecycle_sync.observe import inotify
from lifecycle_sync.observe.dirt import Dirt
from lifecycle_sync.observe.inotify import Inotify
from lifecycle_sync.observe.watcher import WatchCounts, Watcher
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.own_files import own_files
from lifecycle_sync.service.watch_health import WatchMode

_log = logging.getLogger(__name__)

_NO_QUEUE = {errno.EMFILE, errno.ENFILE, errno.ENOSYS, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """`debounce_seconds` of quiet before a look; `poll_seconds` between looks at what cannot be
    watched, `whole_poll_seconds` between looks at a root that tells nothing at all, `check_seconds`
    between looks whether a root is still the one that is watched, `doubt_seconds` at least between
    looks at a whole root because something came and went unseen; `queue` makes the kernel's
    queues."""

    debounce_seconds: float = 0.5
    poll_seconds: float = 30.0
    whole_poll_seconds: float = 300.0
    check_seconds: float = 5.0
    doubt_seconds: float = 600.0
    queue: Callable[[], Inotify] = Inotify


class WatchKeeper:
    """The watcher of a root, None where it is polled. `alarms` are by name, for the follower to add
    to. `on_dirt` is called from the watcher's thread."""

    def __init__(
        self,
        engine: Engine,
        repository: Repository,
        options: FollowOptions,
        on_dirt: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._repository = repository
        self._options = options
        self._on_dirt = on_dirt
        self.watcher: Watcher | None = None
        self.alarms: dict[str, str] = {}
        self._place: tuple[int, int] | None = None
        self._before = WatchCounts()

    def start(self) -> None:
        """Watch, or note why that is not possible."""
        self._place = self._where()
        repository = self._repository
        if repository.identity.network:
            kind = repository.identity.filesystem_type
            self.alarms["not-told"] = f"{kind or 'a filesystem of another machine'} is polled"
            return
        if repository.kind is not RepositoryKind.ROOT:
            return
        watcher = Watcher(
            repository.path,
            self._engine.cycle.rules,
            fs=self._engine.fs,
            own=self._own_paths(),
            poll_seconds=self._options.poll_seconds,
            queue=self._options.queue,
            on_dirt=self._on_dirt,
        )
        try:
            watcher.start()
        except OSError as error:
            if error.errno not in _NO_QUEUE:
                raise
            self.alarms["no-queue"] = f"the kernel gives no queue ({error.strerror})"
            return
        self.alarms.pop("no-queue", None)
        self.watcher = watcher

    def stop(self) -> Dirt:
        """End the watcher; what it had not told yet."""
        watcher, self.watcher = self.watcher, None
        if watcher is None:
            return Dirt()
        watcher.stop()
        self._before = replace(self._sum(watcher.counts), watches=0, polled=0, twice=0, limit=False)
        return watcher.take()

    def take(self) -> Dirt:
        """What is dirty by now."""
        return Dirt() if self.watcher is None else self.watcher.take()

    def stands(self) -> bool:
        """Whether the folder that is watched is the one at the root's path. A filesystem that is
        mounted over it tells no watcher."""
        watcher = self.watcher
        if watcher is not None and (watcher.root_gone or watcher.failure is not None):
            return False
        return self._where() == self._place and "root" not in self.alarms

    def note(self, name: str, verdict: Verdict | None) -> None:
        """Raise the alarm of a guard, or end it."""
        if verdict is None:
            self.alarms.pop(name, None)
        else:
            self.alarms[name] = f"{verdict.guard}: {verdict.reason}"

    def answer(self, cookies: list[bytes]) -> None:
        """Take away what was asked by: all that happened before is recorded."""
        if not cookies:
            return
        fs = self._engine.fs
        try:
            with Descent(fs, self._repository.path) as descent:
                fd = descent.open(PRIVATE_DIRECTORY + b"/" + COOKIES_DIRECTORY)
                for name in cookies:
                    try:
                        fs.unlink(name, fd)
                    except FileNotFoundError:
                        pass  # who asked has given up
        except (LifecycleError, OSError) as error:
            _log.warning("%s: %s", os.fsdecode(self._repository.path), error)

    # -- telling ---------------------------------------------------------------------------

    @property
    def mode(self) -> WatchMode:
        """How the root is followed now."""
        if "root" in self.alarms:
            return WatchMode.OFFLINE
        watcher = self.watcher
        if watcher is None:
            return WatchMode.POLLING
        if not watcher.ready:
            return WatchMode.STARTING
        return WatchMode.PARTLY_POLLED if watcher.counts.polled else WatchMode.WATCHING

    @property
    def device(self) -> int | None:
        """That of the folder that is watched."""
        return None if self._place is None else self._place[0]

    def counts(self) -> WatchCounts:
        """Of all its lives."""
        watcher = self.watcher
        return self._before if watcher is None else self._sum(watcher.counts)

    def all_alarms(self) -> dict[str, str]:
        """Those that were raised, and those that the watcher's counts say."""
        alarms = dict(self.alarms)
        watcher = self.watcher
        if watcher is None:
            return alarms
        counts = watcher.counts
        if counts.limit:
            limit = inotify.kernel_limit("max_user_watches")
            alarms["watch-limit"] = (
                f"the limit of watches ({limit or 'unknown'}) is reached:"
                f" {counts.polled:,} folders are polled"
            )
        elif counts.polled > counts.twice:
            alarms["unreadable"] = f"{counts.polled - counts.twice:,} folders cannot be watched"
        if counts.twice:
            alarms["seen-twice"] = f"{counts.twice:,} folders are seen at two places"
        return alarms

    def _sum(self, now: WatchCounts) -> WatchCounts:
        before = self._before
        return replace(
            now,
            events=before.events + now.events,
            overflows=before.overflows + now.overflows,
            crawls=before.crawls + now.crawls,
        )

    def _where(self) -> tuple[int, int] | None:
        """The device and inode at the root's path."""
        try:
            found = self._engine.fs.stat(self._repository.path, follow_symlinks=False)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _own_paths(self) -> frozenset[bytes]:
        """Where our own files lie in the root."""
        root = Path(os.fsdecode(self._repository.path))
        own = (Path(os.path.realpath(path)) for path in own_files(self._engine.settings))
        return frozenset(
            os.fsencode(path.relative_to(root)) for path in own if path.is_relative_to(root)
        )
