"""Hashes many files in worker processes, because threads would share one interpreter's lock.

Workers are fresh interpreters (see `hash_worker`): a fork would take the registry's connections
and the locks of other threads along. They start when there is work for them, are given batches of
consecutive tasks, answer in order, and only read, so that killing one is the whole of stopping it.
A worker that dies is replaced; the batch it had is tried once more, file by file. What is too
little to be worth a process is hashed in this one.
"""

from __future__ import annotations

import logging
import os
import selectors
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, islice
from operator import attrgetter

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.errors import LifecycleError, OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.record import HashResult, HashTask
from lifecycle_sync.observe.checkpoints import Checkpoints
from lifecycle_sync.observe.hash_process import Batch, Worker
from lifecycle_sync.observe.hash_worker import frame
from lifecycle_sync.observe.hasher import (
    Hasher,
    hash_constructor,
    hash_in_root,
    results_of,
    unreadable,
)

_log = logging.getLogger(__name__)

# What is hashed here rather than in a worker, whose start costs some 30 ms: at most 10 ms of work.
_FEW_FILES = 1000
_FEW_BYTES = 8 << 20
_BATCH_FILES = 500
_BATCH_BYTES = 32 << 20
# A worker that owes less is given another batch: some 40 ms of work, so that none runs dry while
# the caller records results, and none sits on work that another could do. With very many of them
# it is less, so that the tasks in memory stay some ten thousand.
_OWED_COST = 48 << 20
_OWED_COST_ALL = 256 << 20
# How late a cancellation may be noticed.
_POLL_SECONDS = 0.1
# A file that kills its worker costs two; beyond this something else is wrong.
_DEATHS_MAX = 20

_size_of: Callable[[HashTask], int] = attrgetter("size")


class HashPool:
    """Up to `workers` processes, alive from their first use until `close`; a context manager.

    `algorithm` is "sha256" or "blake3", `margin_ns` the racy rule's margin in nanoseconds. With
    `workers` 0, and for small amounts, files are hashed in this process, through `fs` and by
    `clock`. One `hash` at a time. All of them together read at most `bytes_per_second`, each an
    equal part of that. `checkpoints` is a folder for the states of large files that are being
    hashed, with which another pool goes on. Raises `UsageError` where the algorithm cannot be had.
    """

    def __init__(
        self,
        workers: int,
        *,
        algorithm: str = "sha256",
        margin_ns: int,
        fs: FileOps | None = None,
        clock: Clock | None = None,
        bytes_per_second: float | None = None,
        checkpoints: str = "",
    ) -> None:
        hash_constructor(algorithm)
        self._algorithm = algorithm
        self._margin_ns = margin_ns
        self._fs = fs or FileOps()
        self._clock = clock or SystemClock()
        # An embedded or frozen interpreter cannot be started a second time by its name.
        can_start = bool(sys.executable) and not getattr(sys, "frozen", False)
        self._bytes_per_second = bytes_per_second
        self._checkpoints = Checkpoints(self._fs, checkpoints) if checkpoints else None
        if self._checkpoints is not None:
            self._checkpoints.sweep(self._clock.now_ns())
        limit = str(bytes_per_second / max(workers, 1)) if bytes_per_second else ""
        arguments = [algorithm, str(margin_ns), limit, checkpoints]
        self._workers = [Worker(arguments) for _ in range(workers if can_start else 0)]
        self._busy = False

    def __enter__(self) -> HashPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers. The pool can be used again; it then starts new ones."""
        for worker in self._workers:
            worker.stop()

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that have been started and not been seen to end."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def hash(
        self,
        root: bytes,
        tasks: Iterable[HashTask],
        *,
        drop_cache: bool = False,
        cancel: CancelToken,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Generator[list[HashResult], None, None]:
        """Results of all tasks, in lists and in no order between lists.

        `tasks` is read as workers need them, in the caller's thread. `on_bytes` is told how many
        bytes were read since its last call, some ten times a second. Raises `CancelledError`
        within a second of `cancel`, `OfflineError` when the root cannot be opened, and
        `LifecycleError` when workers keep dying; what was yielded before that stands.
        """
        if self._busy:
            raise RuntimeError("this pool is hashing already")
        self._busy = True
        try:
            here = Hasher(
                self._fs,
                algorithm=self._algorithm,
                margin_ns=self._margin_ns,
                clock=self._clock,
                cancel=cancel,
                on_bytes=on_bytes,
                bytes_per_second=self._bytes_per_second,
                checkpoints=self._checkpoints,
            )
            source = iter(tasks)
            first, complete = _peek(source)
            batches = _batches_of(chain(first, source))
            if self._workers and not complete:
                run = _Run(self._workers, os.path.abspath(root), batches, drop_cache, on_bytes)
                yield from run.results(cancel)
                batches = run.left()
            for batch in batches:
                cancel.check()
                outcomes = hash_in_root(self._fs, here, root, batch.groups, drop_cache=drop_cache)
                yield results_of(batch.tasks, outcomes)
        finally:
            self._busy = False


class _Run:
    """One `hash` over the workers: feeds them, hears them, replaces those that die."""

    def __init__(
        self,
        workers: list[Worker],
        root: bytes,
        batches: Iterator[Batch],
        drop_cache: bool,
        on_bytes: Callable[[int], None] | None,
    ) -> None:
        self._workers = workers
        self._root = root
        self._batches = batches
        self._drop_cache = drop_cache
        self._on_bytes = on_bytes
        # Batches of workers that died, to be given out again before any other.
        self._again: deque[Batch] = deque()
        self._owed_cost_max = min(_OWED_COST, _OWED_COST_ALL // len(workers))
        self._deaths = 0
        # Set when a start failed, or the first worker ended before it had said a word.
        self._no_workers = False

    def results(self, cancel: CancelToken) -> Iterator[list[HashResult]]:
        """Results as they come; ends early, with batches left, where no worker can be started."""
        try:
            self._feed()
            while any(worker.owed for worker in self._workers) and not self._no_workers:
                cancel.check()
                ready = list(self._hear())
                # Before the caller takes its time over the results.
                self._feed()
                yield from ready
        finally:
            # Left early, by whatever way: nobody wants these answers any more.
            for worker in self._workers:
                if worker.owed:
                    self._again.extend(worker.owed)
                    worker.stop()

    def left(self) -> Iterator[Batch]:
        """The batches without an answer, after `results` has ended."""
        return chain(self._again, self._batches)

    def _feed(self) -> None:
        while not self._no_workers:
            # Among those that owe nothing, rather one that is running already.
            worker = min(self._workers, key=lambda each: (each.owed_cost, each.process is None))
            if worker.owed_cost >= self._owed_cost_max:
                return
            batch = self._again.popleft() if self._again else next(self._batches, None)
            if batch is None:
                return
            try:
                worker.give(batch, frame((self._root, self._drop_cache, batch.groups)))
            except OSError as error:
                self._again.appendleft(batch)
                self._give_up(os.strerror(error.errno or 0))

    def _hear(self) -> Iterator[list[HashResult]]:
        """Wait a little for workers; the results that came."""
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                worker.register(selector)
            events = selector.select(_POLL_SECONDS)
        for worker in {key.data: None for key, _ in events}:
            worker.flush()
            for kind, *content in worker.receive():
                if kind == "results":
                    outcomes, count = content
                    yield results_of(worker.settle().tasks, outcomes)
                    self._count(count)
                elif kind == "progress":
                    self._count(content[0])
                elif kind == "offline":
                    raise OfflineError(
                        content[0],
                        operation="hash files",
                        subject=self._root,
                        remedy="is it mounted?",
                    )
            if worker.ended:
                yield from self._bury(worker)

    def _give_up(self, cause: str) -> None:
        _log.warning("cannot start hash workers (%s): hashing in this process", cause)
        self._no_workers = True

    def _count(self, count: int) -> None:
        if count and self._on_bytes is not None:
            self._on_bytes(count)

    def _bury(self, worker: Worker) -> Iterator[list[HashResult]]:
        """Take back what a dead worker owed: it was at the first batch, the others it had only
        been sent. Yields the result of a file that has now killed two."""
        owed, was_ready = list(worker.owed), worker.ready
        cause = worker.stop()
        if not any(each.proven for each in self._workers):
            self._again.extendleft(reversed(owed))
            self._give_up(cause)
            return
        self._deaths += 1
        _log.warning("hash worker: %s", cause)
        if self._deaths > _DEATHS_MAX:
            raise LifecycleError(
                f"workers keep dying: {cause}",
                operation="hash files",
                subject=self._root,
                remedy="look for the out-of-memory killer in the kernel's log",
            )
        if not owed or not was_ready:
            self._again.extendleft(reversed(owed))
            return
        suspect, *innocent = owed
        self._again.extendleft(reversed(innocent))
        if suspect.retried:
            yield results_of(suspect.tasks, [unreadable(f"hash worker: {cause}")])
        else:
            self._again.extendleft(Batch([task], retried=True) for task in suspect.tasks[::-1])


def _peek(source: Iterator[HashTask]) -> tuple[list[HashTask], bool]:
    """The first tasks, and whether they are all, and too few for a worker."""
    first: list[HashTask] = []
    total = 0
    for task in source:
        first.append(task)
        total += task.size
        if len(first) > _FEW_FILES or total > _FEW_BYTES:
            return first, False
    return first, True


def _batches_of(tasks: Iterable[HashTask]) -> Iterator[Batch]:
    """Tasks in batches of bounded number and bytes; a file over the bytes is alone."""
    source = iter(tasks)
    while some := list(islice(source, _BATCH_FILES)):
        if sum(map(_size_of, some)) <= _BATCH_BYTES:
            yield Batch(some)
            continue
        held: list[HashTask] = []
        total = 0
        for task in some:
            if held and total + task.size > _BATCH_BYTES:
                yield Batch(held)
                held, total = [], 0
            held.append(task)
            total += task.size
        yield Batch(held)
