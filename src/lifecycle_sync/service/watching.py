"""Several roots followed at once, with one thread that hashes what is due in any of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, LifecycleError
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.following import RootFollower
from lifecycle_sync.service.hashing import Hashing
from lifecycle_sync.service.look import Settled
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.watch_health import RootHealth
from lifecycle_sync.service.watch_keeper import FollowOptions


class Watching:
    """The roots of an engine that are followed; a context manager. Thread-safe.

    `on_settled` is called after looks that recorded something, `on_report` after whole ones that
    nobody ordered (events were lost, or a root is polled), each in a thread of its root. With
    `hashes` what is due is hashed.
    """

    def __init__(
        self,
        engine: Engine,
        options: FollowOptions | None = None,
        *,
        hashes: bool | None = None,
        on_settled: Callable[[Settled], None] = lambda _: None,
        on_report: Callable[[SyncReport], None] = lambda _: None,
    ) -> None:
        settings = engine.settings
        self._engine = engine
        self._options = options or FollowOptions(
            whole_poll_seconds=float(settings.registry_sync_interval)
        )
        wanted = settings.calculate_hashes if hashes is None else hashes
        self._hashing = Hashing(engine) if wanted else None
        self._on_settled = on_settled
        self._on_report = on_report
        self._lock = threading.Lock()
        self._followers: dict[bytes, RootFollower] = {}
        if self._hashing is not None:
            self._hashing.start()

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all. What is dirty then is found by the next start. Idempotent."""
        with self._lock:
            followers, self._followers = list(self._followers.values()), {}
        for follower in followers:
            follower.stop()
        if self._hashing is not None:
            self._hashing.stop()

    def follow(
        self,
        repository: Repository,
        *,
        run_type: RunType = RunType.STARTUP,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> SyncReport | None:
        """Watch a root, look at all of it, and go on following it; what the look came to. None for
        one that is followed already. Raises `BusyError` when another process scans it, and
        `CancelledError`."""
        follower = self.watch(repository)
        if follower is None:
            return None
        try:
            return follower.look_at_all(run_type, progress=progress, cancel=cancel)
        finally:
            follower.go_on()

    def look(
        self,
        follower: RootFollower,
        run_type: RunType,
        *,
        progress: Progress | None = None,
        cancel: CancelToken,
    ) -> SyncReport:
        """Look at all of a root that is followed, let it be followed on, and hash what is due, here
        and now. Raises `BusyError`, `CancelledError`; other failures are in the report."""
        report = follower.look_at_all(run_type, progress=progress, cancel=cancel, due=False)
        follower.go_on()
        if self._hashing is None or not report.scanned:
            return report
        try:
            hashed = self._hashing.hash_now(report.repository, progress, cancel)
        except CancelledError:
            raise
        except LifecycleError as error:
            return replace(report, error=error)
        return replace(
            report,
            hashes=hashed.hashes,
            hash_bytes=hashed.hash_bytes,
            hash_seconds=hashed.hash_seconds,
        )

    def watch(self, repository: Repository) -> RootFollower | None:
        """Only begin to watch: `look_at_all` and `go_on` of what is returned are the caller's."""
        hashing = self._hashing
        follower = RootFollower(
            self._engine,
            repository,
            self._options,
            on_settled=self._on_settled,
            on_report=self._on_report,
            on_linked=partial(self._tell_others, repository.repository_id),
            on_due=hashing.wake if hashing is not None else lambda _: None,
        )
        with self._lock:
            if repository.repository_id in self._followers:
                return None
            self._followers[repository.repository_id] = follower
        try:
            follower.start()
        except BaseException:
            with self._lock:
                self._followers.pop(repository.repository_id, None)
            raise
        return follower

    def _tell_others(self, root_id: bytes, inodes: Collection[int], beyond: bool) -> None:
        """Files with several names may have some in other roots of their filesystem."""
        with self._lock:
            own = self._followers.get(root_id)
            others = [it for it in self._followers.values() if it is not own]
        for follower in others:
            if own is not None and own.device is not None and own.device == follower.device:
                follower.look_at_links(inodes, beyond)

    def unfollow(self, repository_id: bytes) -> None:
        """Stop following a root. Idempotent."""
        with self._lock:
            follower = self._followers.pop(repository_id, None)
        if follower is not None:
            follower.stop()

    def follower(self, repository_id: bytes) -> RootFollower | None:
        """What follows a root."""
        with self._lock:
            return self._followers.get(repository_id)

    def followed(self) -> list[bytes]:
        """The ids of the roots that are followed."""
        with self._lock:
            return list(self._followers)

    def health(self) -> dict[bytes, RootHealth]:
        """By root."""
        with self._lock:
            followers = dict(self._followers)
        return {root: follower.health() for root, follower in followers.items()}

    def wait_settled(self, seconds: float) -> bool:
        """Wait until nothing that is known of waits to be recorded or hashed. False when it takes
        longer."""
        deadline = time.monotonic() + seconds
        while not self._settled():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def _settled(self) -> bool:
        with self._lock:
            followers = list(self._followers.values())
        return all(follower.settled for follower in followers) and (
            self._hashing is None or self._hashing.idle
        )
