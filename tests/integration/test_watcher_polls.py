"""What cannot be watched is polled, and watched as soon as that can be."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.watch_tree import ANCHORED
from lifecycle_sync.observe.watcher import Watcher
from lifecycle_sync.testing.inotify import QueueFaults
from tests.support.watched import PATIENCE_SECONDS, until

DEPTH = 12


class SlowListing(FileOps):
    """A disk that takes its time to list a directory, and remembers when it was done."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.listed: list[tuple[float, int]] = []

    def subdirectories(self, fd: int) -> list[bytes]:  # type: ignore[override]
        begun = time.monotonic()
        time.sleep(self.seconds)
        found = super().subdirectories(fd)
        self.listed.append((begun, os.fstat(fd).st_ino))
        return found


class Polled:
    """A watcher of one folder in another, `DEPTH` of them, that gets one watch alone."""

    def __init__(self, root: Path, poll_seconds: float = 3600.0, seconds: float = 0.0) -> None:
        self.fs = SlowListing(seconds)
        self.faults = QueueFaults(watch_limit=1)
        (root / "/".join("d" * DEPTH)).mkdir(parents=True)
        self.watcher = Watcher(
            os.fsencode(root),
            IgnoreRules(),
            fs=self.fs,
            poll_seconds=poll_seconds,
            queue=self.faults.queue,
        )
        self.watcher.start()
        assert self.watcher.wait_ready(PATIENCE_SECONDS)

    def poll(self) -> None:
        """Poll once, to its end."""
        before = len(self.fs.listed)
        self.watcher.poll_now()
        until(lambda: len(self.fs.listed) >= before + DEPTH and not self.watcher._state.tasks)


@pytest.fixture
def polled(tmp_path: Path) -> Iterator[Polled]:
    it = Polled(tmp_path / "root")
    yield it
    it.watcher.stop()


def test_each_folder_is_polled_once_however_many_are_above_it(polled):
    first = len(polled.fs.listed)
    polled.poll()
    inodes = [inode for _, inode in polled.fs.listed[first:]]
    assert len(inodes) == len(set(inodes)) == DEPTH


def test_what_can_be_watched_at_last_hangs_on_what_it_lies_in(polled):
    assert polled.watcher.counts.polled == DEPTH
    polled.faults.watch_limit = None
    polled.poll()
    until(lambda: polled.watcher.counts.polled == 0)
    parents = polled.watcher._state.tree._parents
    assert list(parents.values()).count(ANCHORED) == 1
    assert len(parents) == DEPTH + 1


def test_a_folder_that_comes_into_one_that_is_polled_is_found_with_what_is_in_it(polled):
    new = polled.watcher._root + b"/d/d/new"
    os.makedirs(new + b"/below")
    polled.watcher.take()
    polled.poll()
    until(lambda: polled.watcher.counts.polled == DEPTH + 2)
    assert {b"d/d/new", b"d/d/new/below"} <= polled.watcher.take().folders.keys()


def test_between_polls_is_more_time_than_they_take(tmp_path):
    polled = Polled(tmp_path / "root", poll_seconds=0.0, seconds=0.002)
    try:
        until(lambda: len(polled.fs.listed) > 1 + 4 * DEPTH)
    finally:
        polled.watcher.stop()
    # The root, and all once more when it began.
    begun = [at for at, _ in polled.fs.listed[1 + DEPTH :]]
    polls = [begun[start : start + DEPTH] for start in range(0, 3 * DEPTH, DEPTH)]
    for before, after in pairwise(polls):
        assert after[0] - before[-1] > 3 * (before[-1] - before[0])


@pytest.mark.parametrize("watch_limit", [1, None])
def test_what_the_watcher_waits_for_is_no_part_of_what_a_poll_took(polled, watch_limit):
    """Nothing happens after it: for an hour, or for ever where all is watched now."""
    polled.faults.watch_limit = watch_limit
    polled.poll()
    until(lambda: polled.watcher._poll_began is None)


def test_where_directories_contradict_each_other_all_is_watched_anew(polled):
    watcher = polled.watcher
    watcher.take()
    watcher._state.in_doubt = True
    watcher.poll_now()
    until(lambda: watcher.counts.crawls == 2 and watcher.ready)
    assert watcher.take().lost
    assert watcher.counts.overflows == 0
    assert not watcher._state.in_doubt
