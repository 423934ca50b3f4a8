"""Files discarded beside the search for more: handed over batch after batch, unlinked by a few
threads, and told of in the thread that hands them over.

That pays where the disk is waited for, and where the part in C unlinks, which leaves the
interpreter to the search. Elsewhere they go at once, in that thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from lifecycle_sync.act.disposal import Discarded
from lifecycle_sync.service.temp.sweep import Condemned, Sweep, Told

# So many files go in the giver's thread first, to see whether the disk is waited for.
_PROBE = 256
# A thread is not asked for less.
_PART_MIN = 64

_Done = list[tuple[Condemned, Discarded]]


class Discarding:
    """One clean-up's. At its end all that was given has gone, or was told of with the reason."""

    def __init__(self, sweep: Sweep, told: Told, workers: int) -> None:
        self._sweep = sweep
        self._told = told
        self._workers = workers
        self._tried = 0
        self._pool: ThreadPoolExecutor | None = None
        self._parts: deque[tuple[int, Future[_Done]]] = deque()

    def __enter__(self) -> Discarding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.settle()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    @property
    def pending(self) -> int:
        """How many were given and are not told of yet."""
        return sum(count for count, _ in self._parts)

    def give(self, condemned: Sequence[Condemned]) -> None:
        """Unlink these, by and by. Waits where too many wait already."""
        if self._pool is None:
            probed = condemned[: max(_PROBE - self._tried, 0)]
            self._tried += len(probed)
            waits = self._sweep.probe(iter(probed), self._told)
            condemned = condemned[len(probed) :]
            if not condemned:
                return
            workers = self._workers if waits else min(self._workers, os.cpu_count() or 1)
            if workers < 2 or not (waits or self._sweep.unlinks_alone):
                self._sweep.probe(iter(condemned), self._told)
                return
            self._workers = workers
            self._pool = ThreadPoolExecutor(workers, "lifecycle-sweep")
        size = max(_PART_MIN, -(-len(condemned) // self._workers))
        for start in range(0, len(condemned), size):
            part = condemned[start : start + size]
            self._parts.append((len(part), self._pool.submit(self._sweep.all_of, part)))
        # No more than one batch waits: what was judged is to go soon.
        while len(self._parts) > self._workers:
            self._tell()

    def settle(self) -> None:
        """Wait until all that was given is told of."""
        while self._parts:
            self._tell()

    def _tell(self) -> None:
        _, part = self._parts.popleft()
        for one, done in part.result():
            self._told(one, done)
