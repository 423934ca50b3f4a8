"""When jobs are done: by a clock that only the test moves, and without sleeping."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_SECOND
from lifecycle_sync.errors import (
    BusyError,
    CancelledError,
    GuardError,
    LifecycleError,
    OfflineError,
    RegistryError,
    StorageFullError,
)
from lifecycle_sync.service.scheduler import (
    RETRIES,
    RETRY_SECONDS,
    Attempt,
    Job,
    Scheduler,
    first_due,
)


class Room:
    """Jobs that note when they are done, and time that passes only while nothing is due."""

    def __init__(self, end: float) -> None:
        self.now = 0.0
        self.end = end
        self.cancel = CancelToken()
        self.done: list[tuple[str, float]] = []
        self.attempts: list[Attempt] = []
        self.troubles: list[LifecycleError] = []
        self.waits: list[float] = []

    def job(
        self,
        name: str,
        interval: float,
        first: float = 0.0,
        *,
        takes: float = 0.0,
        fails: Callable[[int], Exception | None] = lambda _: None,
    ) -> Job:
        count = 0

        def work() -> None:
            nonlocal count
            count += 1
            self.done.append((name, self.now))
            self.now += takes
            error = fails(count)
            if error is not None:
                raise error

        return Job(name, interval, work, first)

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        if self.now >= self.end:
            self.cancel.cancel()
        return self.cancel.cancelled

    def scheduler(self, *jobs: Job) -> Scheduler:
        return Scheduler(
            jobs,
            cancel=self.cancel,
            on_trouble=self.troubles.append,
            on_attempt=self.attempts.append,
            seconds=lambda: self.now,
            wait=self.wait,
        )

    def run(self, *jobs: Job) -> list[tuple[str, float]]:
        self.scheduler(*jobs).run()
        return self.done


def test_each_job_is_done_at_its_own_interval():
    room = Room(end=700)
    done = room.run(room.job("sync", 300), room.job("backup", 200, first=100))
    assert done == [
        ("sync", 0),
        ("backup", 100),
        ("sync", 300),
        ("backup", 300),
        ("backup", 500),
        ("sync", 600),
    ]


def test_of_jobs_that_are_due_at_once_the_first_given_is_done_first():
    room = Room(end=1)
    names = ["d", "a", "c", "b"]
    assert [name for name, _ in room.run(*(room.job(name, 10) for name in names))] == names


def test_an_interval_begins_when_the_job_has_ended():
    room = Room(end=25)
    assert room.run(room.job("slow", 10, takes=4)) == [("slow", 0), ("slow", 14)]


def test_what_was_missed_while_the_machine_slept_is_done_once():
    room = Room(end=10_100)

    def wait(seconds: float) -> bool:
        # The lid was closed.
        asleep = 9_000 if room.now == 100 else 0
        return Room.wait(room, seconds + asleep)

    room.wait = wait  # type: ignore[method-assign]
    done = room.run(room.job("sync", 100))
    assert [at for _, at in done][:4] == [0, 100, 9_200, 9_300]


@pytest.mark.parametrize(
    ("last", "now", "seconds"),
    [
        (None, 1_000, 0),
        (1_000, 1_000, 300),
        (900, 1_000, 200),
        (700, 1_000, 0),
        (0, 10**6, 0),
        (2_000, 1_000, 0),
    ],
)
def test_after_a_restart_a_job_is_due_when_it_would_have_been(last, now, seconds):
    last_ns = None if last is None else last * NS_PER_SECOND
    assert first_due(last_ns, 300, now * NS_PER_SECOND) == seconds


@pytest.mark.parametrize("error", [OfflineError("gone"), BusyError("taken")])
def test_a_failure_that_may_pass_is_tried_again_a_few_times_each_time_later(error):
    random.seed(1)
    room = Room(end=3_600)
    done = room.run(room.job("backup", 3_600, fails=lambda _: error))
    times = [at for _, at in done]
    assert len(times) == 1 + RETRIES
    gaps = [later - earlier for earlier, later in pairwise(times)]
    for number, gap in enumerate(gaps):
        assert 0.8 * RETRY_SECONDS * 2**number <= gap <= 1.2 * RETRY_SECONDS * 2**number
    assert room.troubles == [error]
    assert [attempt.error for attempt in room.attempts] == [error] * (1 + RETRIES)


def test_what_succeeds_the_second_time_has_all_its_tries_again():
    room = Room(end=8_000)
    fails = {1, 3}
    room.run(
        room.job("backup", 3_600, fails=lambda n: OfflineError("gone") if n in fails else None)
    )
    assert room.troubles == []
    assert [attempt.error is None for attempt in room.attempts][:5] == [
        False,
        True,
        False,
        True,
        True,
    ][: len(room.attempts)]


def test_a_retry_is_never_later_than_the_job_itself():
    room = Room(end=3.5)
    done = room.run(room.job("sync", 1, fails=lambda _: OfflineError("gone")))
    assert all(at == pytest.approx(number) for number, (_, at) in enumerate(done))


@pytest.mark.parametrize("error", [GuardError("held", guard="root"), StorageFullError("full")])
def test_what_waiting_does_not_mend_is_told_and_not_tried_before_its_time(error):
    room = Room(end=99)
    assert len(room.run(room.job("sync", 60, fails=lambda _: error))) == 2
    assert room.troubles == [error, error]


def test_a_job_that_fails_keeps_no_other_waiting():
    room = Room(end=45)
    done = room.run(
        room.job("bad", 100, fails=lambda _: GuardError("held", guard="root")), room.job("good", 20)
    )
    assert [at for name, at in done if name == "good"] == [0, 20, 40]


def test_a_lost_registry_and_the_token_end_it():
    room = Room(end=99)
    with pytest.raises(RegistryError):
        room.run(room.job("sync", 60, fails=lambda _: RegistryError("lost")))
    room = Room(end=99)
    assert len(room.run(room.job("sync", 60, fails=lambda _: CancelledError("stop")))) == 1


def test_it_ends_between_two_jobs_when_it_is_asked_to():
    room = Room(end=99)
    scheduler = room.scheduler(room.job("a", 10), room.job("b", 10), room.job("c", 10))
    scheduler.run(lambda: len(room.done) == 2)
    assert [name for name, _ in room.done] == ["a", "b"]
    assert not room.cancel.cancelled


def test_what_is_due_is_told_and_can_be_made_due_now():
    room = Room(end=99)
    scheduler = room.scheduler(room.job("a", 10, first=50), room.job("b", 10, first=20))
    assert scheduler.due() == [("b", 20), ("a", 50)]
    scheduler.soon("a")
    assert scheduler.due() == [("a", 0), ("b", 20)]
