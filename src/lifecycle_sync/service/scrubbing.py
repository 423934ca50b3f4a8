"""Rolling scrub: every file is read again within some days, whatever its size and times say.

A disk may change bytes by itself, and no look at a directory tells. So now and then the next files
of each root, in the order of their records, are read from the disk and compared with their
checksums: so many that a round over all of them takes `scrub_days`. What differs is marked suspect
by the registry (see `HashStore.record_hashes`), and stays where it is until a person decides.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY, NS_PER_SECOND
from lifecycle_sync.errors import CancelledError, LifecycleError, NotFoundError
from lifecycle_sync.model.record import HashCounts, HashTask
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.watch import ScrubNote
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.hash_pass import first_of
from lifecycle_sync.service.scheduler import note_loop

_log = logging.getLogger(__name__)
SCRUB = "scrub"
_INTERVAL_SECONDS = 3600.0
# After a long time away only so much is made up for at once.
_SHARE_INTERVALS_MAX = 4
# Read between two notes of how far it is.
_FILES = 2_000
_BYTES = 1 << 30


class Scrubber:
    """Scrubs the roots that `roots` names, in a thread of its own, from `start` to `stop`. With
    `scrub_days` 0, or without hashes, it does nothing."""

    def __init__(
        self,
        engine: Engine,
        roots: Callable[[], Sequence[Repository]],
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        self._engine = engine
        self._roots = roots
        self._interval_seconds = interval_seconds
        self._cancel = CancelToken()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        settings = self._engine.settings
        if settings.scrub_days and settings.calculate_hashes:
            self._thread = threading.Thread(target=self._run, name="lifecycle-scrub", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End within a second or so; the next start goes on from there."""
        self._cancel.cancel()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._cancel.wait(self._until_next()):
            begun, failure = time.monotonic(), ""
            try:
                for repository in self._roots():
                    scrub_slice(
                        self._engine, repository, self._cancel, interval=self._interval_seconds
                    )
            except CancelledError:
                return
            except NotFoundError:
                pass  # a root was removed meanwhile
            except (LifecycleError, OSError) as error:
                failure = str(error)
                _log.warning("scrub: %s", error)
            self._note(time.monotonic() - begun, failure)

    def _until_next(self) -> float:
        """Seconds until the first root is due."""
        now_ns, registry = self._engine.now_ns(), self._engine.registry
        due = []
        for repository in self._roots():
            try:
                done_ns = registry.scrub_note(repository.repository_id).slice_ns
            except LifecycleError:
                continue
            if 0 < done_ns <= now_ns:
                due.append(self._interval_seconds - (now_ns - done_ns) / NS_PER_SECOND)
        # Not at once: a start has enough to do.
        return min(self._interval_seconds, max(min(due, default=math.inf), 60.0))

    def _note(self, took: float, failure: str) -> None:
        engine = self._engine
        note_loop(
            engine.registry,
            engine.now_ns(),
            SCRUB,
            took=took,
            until_next=self._interval_seconds,
            failure=failure,
        )


def scrub_slice(
    engine: Engine,
    repository: Repository,
    cancel: CancelToken,
    *,
    interval: float = _INTERVAL_SECONDS,
) -> HashCounts:
    """Read the next files of a root: the share of a round that is due by now, and one file at
    least. What came of it. A root that is not itself is passed over. Raises `CancelledError`, and
    what hashing and the registry raise; what was read by then counts."""
    registry, root_id, now_ns = engine.registry, repository.repository_id, engine.now_ns()
    note = registry.scrub_note(root_id)
    counts = HashCounts()
    if not engine.roots.look(repository)[0].passed or note.slice_ns > now_ns:
        return counts
    totals = registry.directory_totals(root_id)
    period_ns = engine.settings.scrub_days * NS_PER_DAY
    elapsed_ns = now_ns - note.slice_ns if note.slice_ns else interval * NS_PER_SECOND
    share = min(elapsed_ns, _SHARE_INTERVALS_MAX * interval * NS_PER_SECOND) / period_ns
    files_left = max(1, math.ceil(totals.files * share))
    bytes_left = max(1, math.ceil(totals.bytes * share))
    if not note.begun_ns:
        note = replace(note, begun_ns=now_ns)
    while files_left > 0 and bytes_left > 0:
        tasks = first_of(
            _from(engine, root_id, note.after), min(files_left, _FILES), min(bytes_left, _BYTES)
        )
        if not tasks:
            note = replace(ScrubNote(), slice_ns=now_ns, ended_ns=engine.now_ns())
            registry.note_scrub(root_id, note)
            return counts
        hashed = engine.cycle.hashes.some(repository, tasks, cancel=cancel)
        counts = counts.plus(hashed.counts)
        size = sum(task.size for task in tasks)
        files_left -= len(tasks)
        bytes_left -= size
        note = replace(
            note,
            after=tasks[-1].row_id,
            files=note.files + len(tasks),
            bytes=note.bytes + size,
        )
        registry.note_scrub(root_id, note)
    # One large file may be more than the share: then the next slices wait.
    ahead = max(0, -bytes_left) / max(1, totals.bytes) * period_ns
    registry.note_scrub(root_id, replace(note, slice_ns=now_ns + int(ahead)))
    if counts.suspect:
        where = os.fsdecode(repository.path)
        _log.warning("%s: %d files changed by themselves (suspect)", where, counts.suspect)
    return counts


def _from(engine: Engine, repository_id: bytes, after: int) -> Iterator[HashTask]:
    while page := engine.registry.to_scrub(repository_id, after, _FILES):
        yield from page
        after = page[-1].row_id
