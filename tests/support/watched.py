"""A root that is followed, and the question whether its registry is the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.following import RootFollower
from lifecycle_sync.service.look import Settled
from lifecycle_sync.service.watch_health import RootHealth
from lifecycle_sync.service.watch_keeper import FollowOptions
from lifecycle_sync.service.watching import Watching
from lifecycle_sync.testing.inotify import QueueFaults
from tests.support import oracle
from tests.support.house import House

# Nothing takes as long; it only ends a test that hangs.
PATIENCE_SECONDS = 90.0


class Watched(House):
    """A `House` whose root is followed while `following` lasts."""

    def __init__(self, base: Path, **settings: object) -> None:
        (base / "root").mkdir(parents=True, exist_ok=True)
        super().__init__(base, **settings)  # type: ignore[arg-type]
        self.faults = QueueFaults()
        self.settlings: list[Settled] = []
        self.reports: list[SyncReport] = []
        self.watching: Watching | None = None
        self.debounce_seconds = 0.05
        self.poll_seconds = 0.2

    @contextmanager
    def following(self, *roots: Repository) -> Iterator[Watching]:
        options = FollowOptions(
            debounce_seconds=self.debounce_seconds,
            poll_seconds=self.poll_seconds,
            whole_poll_seconds=self.poll_seconds,
            check_seconds=self.poll_seconds,
            doubt_seconds=self.poll_seconds,
            queue=self.faults.queue,
        )
        watching = Watching(
            self.engine,
            options,
            on_settled=self.settlings.append,
            on_report=self.reports.append,
        )
        self.watching = watching
        try:
            for root in roots or (self.add(),):
                watching.follow(root)
            self.settle()
            yield watching
        finally:
            self.faults.resume()
            watching.stop()
            self.watching = None

    @property
    def follower(self) -> RootFollower:
        assert self.watching is not None
        found = self.watching.follower(self.repository.repository_id)
        assert found is not None
        return found

    @property
    def health(self) -> RootHealth:
        return self.follower.health()

    def settle(self) -> None:
        """Wait until all that has happened is recorded and hashed."""
        assert self.watching is not None
        for root in self.watching.followed():
            self._ask(root)
        assert self.watching.wait_settled(PATIENCE_SECONDS)

    def _ask(self, root: bytes) -> None:
        repository = self.engine.registry.repository(root)
        assert repository is not None and self.watching is not None
        follower = self.watching.follower(root)
        assert follower is not None
        cookies = os.path.join(repository.path, b".lifecycle/cookies")
        if not os.path.isdir(cookies) or not follower.answers:
            return
        cookie = os.path.join(cookies, b"test-%d" % time.monotonic_ns())
        with open(cookie, "wb"):
            pass
        until(lambda: not os.path.exists(cookie))

    def assert_equal(self, *roots: Repository) -> None:
        """After settling, the registry is the disk, hashes too."""
        self.settle()
        for root in roots or (self.repository,):
            oracle.assert_equal_to_disk(self.engine, root)


def until(true: object, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition."""
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
