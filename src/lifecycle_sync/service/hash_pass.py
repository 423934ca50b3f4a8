"""Files of a root hashed: what is due, all of it, or the next ones of a scrub."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.record import HashCounts, HashResult, HashTask
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.observe.hash_pool import HashPool
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.listings import margin_ns_of
from lifecycle_sync.service.progress import NoProgress, Progress

_PAGE = 2_000
_RESULTS = 5_000
_SECONDS = 0.5
_MEGABYTE = 1_000_000
_TURN_SECONDS = 0.1
_SILENT = NoProgress()
Wanted = Callable[[HashTask], bool]


@dataclass(slots=True)
class Hashed:
    """What was hashed: `bytes` were read in `seconds`."""

    counts: HashCounts = field(default_factory=HashCounts)
    bytes: int = 0
    seconds: float = 0.0


class HashPass:
    """Hashes files of the roots of one registry, and records what comes of it."""

    def __init__(
        self, registry: Registry, settings: Settings, *, fs: FileOps, clock: Clock
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._fs = fs
        self._clock = clock
        self._turn = threading.Lock()

    @contextmanager
    def turn(self, cancel: CancelToken) -> Iterator[None]:
        """For who looks at several roots at once: only one of them is hashed at a time, by all the
        processes there are."""
        while not self._turn.acquire(timeout=_TURN_SECONDS):
            cancel.check()
        try:
            yield
        finally:
            self._turn.release()

    def due(
        self,
        repository: Repository,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        wanted: Wanted | None = None,
    ) -> Hashed:
        """What is due in a root, or of that what is `wanted`. Raises what hashing and the registry
        raise; what was hashed by then stays."""
        files, size = self._registry.to_hash_totals(repository.repository_id)
        if not files:
            return Hashed()
        tasks = self._pages(self._registry.to_hash, repository)
        chosen = filter(wanted, tasks) if wanted else tasks
        (progress or _SILENT).begin("hash", repository.path, files, size)
        return self._hash(repository, chosen, progress, cancel)

    def all(
        self,
        repository: Repository,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        wanted: Wanted | None = None,
    ) -> Hashed:
        """Everything that was hashed before once more, read from the disk; raises as `due`."""
        totals = self._registry.directory_totals(repository.repository_id)
        if not totals.files:
            return Hashed()
        tasks = self._pages(self._registry.to_scrub, repository)
        chosen = filter(wanted, tasks) if wanted else tasks
        (progress or _SILENT).begin("scrub", repository.path, totals.files, totals.bytes)
        return self._hash(repository, chosen, progress, cancel, from_disk=True)

    def some(
        self, repository: Repository, tasks: Iterable[HashTask], *, cancel: CancelToken
    ) -> Hashed:
        """These files once more, read from the disk; raises as `due`."""
        return self._hash(repository, tasks, None, cancel, from_disk=True)

    def _pages(
        self, page_of: Callable[[bytes, int, int], list[HashTask]], repository: Repository
    ) -> Iterator[HashTask]:
        after = 0
        while page := page_of(repository.repository_id, after, _PAGE):
            yield from page
            after = page[-1].row_id

    def _hash(
        self,
        repository: Repository,
        tasks: Iterable[HashTask],
        progress: Progress | None,
        cancel: CancelToken | None,
        *,
        from_disk: bool = False,
    ) -> Hashed:
        progress = progress or _SILENT
        settings = self._settings
        hashed = Hashed()
        pending: list[HashResult] = []
        begun = flushed = time.monotonic()

        def on_bytes(count: int) -> None:
            hashed.bytes += count
            progress.advance(0, count)

        limit = settings.hash_megabytes_per_second
        try:
            with HashPool(
                settings.worker_threads or os.cpu_count() or 1,
                algorithm=settings.hash_algorithm,
                margin_ns=margin_ns_of(repository),
                fs=self._fs,
                clock=self._clock,
                bytes_per_second=None if limit is None else limit * _MEGABYTE,
                checkpoints=os.path.realpath(settings.database_path) + ".hashing",
            ) as pool:
                for part in pool.hash(
                    repository.path,
                    tasks,
                    drop_cache=from_disk,
                    cancel=cancel or CancelToken(),
                    on_bytes=on_bytes,
                ):
                    pending += part
                    progress.advance(len(part), 0)
                    if len(pending) >= _RESULTS or time.monotonic() - flushed > _SECONDS:
                        self._record(hashed, pending)
                        pending = []
                        flushed = time.monotonic()
        finally:
            if pending:
                self._record(hashed, pending)
            progress.end()
        hashed.seconds = time.monotonic() - begun
        return hashed

    def _record(self, hashed: Hashed, results: list[HashResult]) -> None:
        part = self._registry.record_hashes(
            self._settings.hash_algorithm, results, self._clock.now_ns()
        )
        hashed.counts = hashed.counts.plus(part)


def first_of(tasks: Iterator[HashTask], files_max: int, bytes_max: int) -> list[HashTask]:
    """The first of some tasks, of at most so many files and bytes; but one at least."""
    found: list[HashTask] = []
    size = 0
    for task in islice(tasks, files_max):
        found.append(task)
        size += task.size
        if size >= bytes_max:
            break
    return found
