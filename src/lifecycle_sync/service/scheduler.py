"""What is to be done again and again, in one thread: a heap of due times, and a condition.

A job that was due while the machine slept or the program was down is done at once, and once, not as
often as it was missed. One that fails for a reason that may pass is tried again soon, at most
`RETRIES` times, each time after a longer wait; then it waits for its next time like any other.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_SECOND, seconds_since_boot
from lifecycle_sync.errors import (
    BusyError,
    CancelledError,
    LifecycleError,
    OfflineError,
    RegistryError,
    StorageError,
)
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.registry.protocol import Registry

_log = logging.getLogger(__name__)
RETRIES = 3
RETRY_SECONDS = 5.0
# So that several processes that failed together do not try again together.
_JITTER = 0.2
_PIECE_SECONDS = 0.25
_TRANSIENT = (BusyError, OfflineError, StorageError)


@dataclass(frozen=True)
class Job:
    """Something to be done every `interval_seconds`. `first_seconds` is how long from the start it
    is due for the first time; 0, or less for one that is overdue, is at once."""

    name: str
    interval_seconds: float
    work: Callable[[], None]
    first_seconds: float = 0.0


def first_due(last_ns: int | None, interval_seconds: float, now_ns: int) -> float:
    """In how many seconds a job is due that was last done at `last_ns` (None: never). One that was
    last done in the future, by a clock that was set back, is due at once."""
    if last_ns is None or last_ns > now_ns:
        return 0.0
    return max(0.0, interval_seconds - (now_ns - last_ns) / 1_000_000_000)


def note_loop(
    registry: Registry,
    now_ns: int,
    name: str,
    *,
    took: float,
    until_next: float,
    failure: str = "",
) -> None:
    """For `status`: a loop was done by now, after `took` seconds, with what result, and is due
    again in `until_next` seconds. Where that cannot be written the loop has told of it itself."""
    note = LoopNote(
        name,
        started_ns=now_ns - int(took * NS_PER_SECOND),
        ended_ns=now_ns,
        due_ns=now_ns + int(until_next * NS_PER_SECOND),
        status="failed" if failure else "completed",
        message=failure,
    )
    try:
        registry.note_loop(note)
    except LifecycleError as error:
        _log.debug("%s", error)


class Attempt(NamedTuple):
    """One time that a job was done: how long it took, in how many seconds it is due next, and what
    went wrong, if something did."""

    job: Job
    took_seconds: float
    next_seconds: float
    error: LifecycleError | None


class Scheduler:
    """Runs jobs until its token is set. `on_trouble` is told each failure that was not tried again,
    `on_attempt` of every time a job was done. `seconds` is a clock that goes on while the machine
    sleeps; it and `wait` (seconds; True when the token was set) are given by tests."""

    def __init__(
        self,
        jobs: Iterable[Job],
        *,
        cancel: CancelToken,
        on_trouble: Callable[[LifecycleError], None],
        on_attempt: Callable[[Attempt], None] = lambda _: None,
        seconds: Callable[[], float] = seconds_since_boot,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._cancel = cancel
        self._on_trouble = on_trouble
        self._on_attempt = on_attempt
        self._now = seconds
        self._wait = wait
        self._changed = threading.Condition()
        begun = seconds()
        # Due time, number (the order in which they were given decides among equals), tries, job.
        self._heap: list[tuple[float, int, int, Job]] = [
            (begun + job.first_seconds, number, 0, job) for number, job in enumerate(jobs)
        ]
        heapq.heapify(self._heap)

    def due(self) -> list[tuple[str, float]]:
        """The jobs with the seconds until each is due, the next one first."""
        with self._changed:
            now = self._now()
            return [(job.name, at - now) for at, _number, _tries, job in sorted(self._heap)]

    def soon(self, name: str) -> None:
        """Make a job due now; from any thread."""
        with self._changed:
            now = self._now()
            self._heap = [
                (min(at, now) if job.name == name else at, number, tries, job)
                for at, number, tries, job in self._heap
            ]
            heapq.heapify(self._heap)
            self._changed.notify_all()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until the token is set, or `until` says so, which is asked between two jobs. Raises
        `RegistryError`, which no waiting mends."""
        while self._heap and not self._cancel.cancelled and not until():
            at, number, tries, job = self._heap[0]
            left = at - self._now()
            if left > 0:
                if self._sleep(left):
                    return
                continue
            with self._changed:
                heapq.heappop(self._heap)
            again = self._do(job, tries)
            if again is None:
                return
            tries_next, seconds = again
            with self._changed:
                heapq.heappush(self._heap, (self._now() + seconds, number, tries_next, job))

    def _do(self, job: Job, tries: int) -> tuple[int, float] | None:
        """How often it has failed now, and in how many seconds it is due; None to end."""
        begun, failure = self._now(), None
        try:
            job.work()
        except CancelledError:
            return None
        except RegistryError:
            raise
        except LifecycleError as error:
            failure = error
        tries_next, seconds = self._after(job, tries, failure)
        self._on_attempt(Attempt(job, self._now() - begun, seconds, failure))
        return tries_next, seconds

    def _after(self, job: Job, tries: int, failure: LifecycleError | None) -> tuple[int, float]:
        if failure is None:
            return 0, job.interval_seconds
        if isinstance(failure, _TRANSIENT) and tries < RETRIES:
            seconds = RETRY_SECONDS * 2**tries * random.uniform(1 - _JITTER, 1 + _JITTER)
            _log.info("%s: %s; again in %.0f s", job.name, failure, seconds)
            return tries + 1, min(seconds, job.interval_seconds)
        self._on_trouble(failure)
        return 0, job.interval_seconds

    def _sleep(self, seconds: float) -> bool:
        """Whether the token was set. Ends early when a job is made due."""
        if self._wait is not None:
            return self._wait(seconds)
        with self._changed:
            # In pieces, for the token that a signal sets notifies nobody.
            self._changed.wait(min(seconds, _PIECE_SECONDS))
        return self._cancel.cancelled
