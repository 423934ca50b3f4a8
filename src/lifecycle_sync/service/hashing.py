"""Hashing beside the watching: a thread for the files of all roots, and one for the large ones.

A file of 100 GB takes minutes, and the others must not wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_SECOND
from lifecycle_sync.errors import CancelledError, LifecycleError, NotFoundError
from lifecycle_sync.model.record import HashTask
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.progress import Progress

_log = logging.getLogger(__name__)

# Files from here on have a thread of their own.
_LANE_BYTES = 256 << 20
# A large file that was written to just now is likely to be written to again.
_LARGE_BYTES = 16 << 20
_STILL_SECONDS = 2.0
_RETRY_SECONDS = 2.0
_RETRY_SECONDS_MAX = 300.0


class Hashing:
    """Hashes what is due in the roots that it is told of, until it is stopped."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lanes = (
            _Lane(engine, "lifecycle-hash", lambda task: task.size < _LANE_BYTES),
            _Lane(engine, "lifecycle-hash-large", lambda task: task.size >= _LANE_BYTES),
        )

    def start(self) -> None:
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """End within a second or so."""
        for lane in self._lanes:
            lane.stop()

    def wake(self, repository_id: bytes) -> None:
        """There may be something due in a root."""
        for lane in self._lanes:
            lane.wake(repository_id)

    def hash_now(
        self, repository: Repository, progress: Progress | None, cancel: CancelToken
    ) -> SyncReport:
        """Hash all that is due in a root, in the thread of the caller. Raises what `Cycle.hash`
        raises."""
        first, second = (lane.hash_now(repository, progress, cancel) for lane in self._lanes)
        return replace(
            first,
            hashes=first.hashes.plus(second.hashes),
            hash_bytes=first.hash_bytes + second.hash_bytes,
            hash_seconds=first.hash_seconds + second.hash_seconds,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is due that is not waited with; for tests."""
        return all(lane.idle for lane in self._lanes)


class _Lane:
    """Some of the files, in a thread of their own."""

    def __init__(self, engine: Engine, name: str, mine: Callable[[HashTask], bool]) -> None:
        self._engine = engine
        self._mine = mine
        self._cancel = CancelToken()
        self._changed = threading.Condition()
        # By root: when to look, in monotonic seconds, and how long to wait after that.
        self._due: dict[bytes, float] = {}
        self._patience: dict[bytes, float] = {}
        self._working = False
        # One at a time, whoever orders it: two would read the same files.
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._cancel.cancel()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self, repository_id: bytes) -> None:
        with self._changed:
            self._due[repository_id] = time.monotonic()
            self._patience.pop(repository_id, None)
            self._changed.notify_all()

    def hash_now(
        self, repository: Repository, progress: Progress | None, cancel: CancelToken
    ) -> SyncReport:
        with self._turn:
            return self._engine.cycle.hash(
                repository, progress=progress, cancel=cancel, wanted=self._mine
            )

    @property
    def idle(self) -> bool:
        with self._changed:
            return not self._working and not self._due

    def _run(self) -> None:
        while not self._cancel.cancelled:
            repository_id = self._next()
            if repository_id is None:
                continue
            try:
                self._hash(repository_id)
            except CancelledError:
                return
            except NotFoundError:
                pass  # the root was removed
            except (LifecycleError, OSError) as error:
                _log.warning("hashing: %s", error)
                self._later(repository_id)
            finally:
                with self._changed:
                    self._working = False

    def _next(self) -> bytes | None:
        """A root in which something may be due; None when there is none yet."""
        with self._changed:
            now = time.monotonic()
            for repository_id, at in self._due.items():
                if at <= now:
                    del self._due[repository_id]
                    self._working = True
                    return repository_id
            wait = min(self._due.values(), default=now + 3600.0) - now
            self._changed.wait(max(0.0, wait))
            return None

    def _hash(self, repository_id: bytes) -> None:
        repository = self._engine.registry.repository(repository_id)
        if repository is None:
            return
        now_ns = self._engine.clock.now_ns()
        left = 0

        def still(task: HashTask) -> bool:
            nonlocal left
            if not self._mine(task):
                return False
            fresh = 0 <= now_ns - task.mtime_ns < _STILL_SECONDS * NS_PER_SECOND
            if fresh and task.size >= _LARGE_BYTES:
                left += 1
                return False
            return True

        with self._turn:
            self._cancel.check()
            report = self._engine.cycle.hash(repository, cancel=self._cancel, wanted=still)
        if left or report.hashes.unstable:
            self._later(repository_id)

    def _later(self, repository_id: bytes) -> None:
        with self._changed:
            wait = self._patience.get(repository_id, _RETRY_SECONDS)
            self._patience[repository_id] = min(2 * wait, _RETRY_SECONDS_MAX)
            self._due.setdefault(repository_id, time.monotonic() + wait)
