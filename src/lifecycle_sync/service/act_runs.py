"""Orders on a root as runs in the journal: begun, done in batches under its act lock, ended.

A batch holds the act lock of its root, so acts of several processes take turns by the batch. Inside
it the root's guard is asked, the registry takes up what the vaults tell, and what a killed process
left pending is judged; only then is anything done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from lifecycle_sync.act.breaker import Breaker
from lifecycle_sync.act.site import COMPLETED, FAILED, Done, Site
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.act_report import Report
from lifecycle_sync.service.order import Order, Workshop
from lifecycle_sync.service.progress import NoProgress, Progress

GRACE_DELETED_NS = 30 * NS_PER_DAY
BATCH_BYTES = 64 << 20
# From how many files on another process that reads what is kept pays.
_MANY_FILES = 1_000


class Telling:
    """Progress, as acts tell it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def advance(self, files: int, bytes_: int) -> None:
        self._progress.advance(files, bytes_)


class ActRuns:
    """What all orders on files of one registry have in common. Thread-safe."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._registry = workshop.registry
        self._clock = workshop.clock
        self._fs = workshop.fs
        self.vaults = workshop.vaults

    def check_root(self, repository: Repository, verb: str) -> Repository:
        """The root as it is known now, its guard passed. Raises `OfflineError`, `GuardError`."""
        return self._workshop.check_root(repository, verb)

    def trash(self, repository: Repository) -> Trash:
        """The trash of a root, to look into; the caller closes it."""
        return self._workshop.trash_of(repository)

    def recover(self, repository: Repository, cancel: CancelToken | None = None) -> int:
        """Judge what killed processes left pending in a root; how many rows that were."""
        if not self._registry.pending_operations(repository.repository_id):
            return 0
        report = Report("recover")
        with self._order(repository, report, None, cancel) as order, order.batch():
            pass
        return report.recovered

    def _in_batches(
        self,
        repository: Repository,
        verb: str,
        files: Iterable[ActFile],
        act: Callable[[Site, list[ActFile]], list[Done]],
        files_max: int,
        *,
        progress: Progress | None,
        cancel: CancelToken | None,
        breaker: Breaker | None = None,
    ) -> Report:
        report = Report(verb)
        with self._order(repository, report, progress, cancel, breaker) as order:
            for batch in cut(files, files_max):
                if verb == "archive":
                    read_ahead(order, batch)
                with order.batch() as site:
                    report.add(act(site, batch))
                order.check()
        return report

    @contextmanager
    def _order(
        self,
        repository: Repository,
        report: Report,
        progress: Progress | None,
        cancel: CancelToken | None,
        breaker: Breaker | None = None,
    ) -> Iterator[Order]:
        """One order on one root: a run in the journal around its batches."""
        progress = progress or NoProgress()
        act = self._registry.begin_act(repository.repository_id, report.verb, self._clock.now_ns())
        order = Order(
            self._workshop,
            repository,
            act,
            report=report,
            told=Telling(progress),
            cancel=cancel or CancelToken(),
            breaker=breaker,
        )
        progress.begin(report.verb, repository.path, None, None)
        status, begun = FAILED, time.monotonic()
        try:
            yield order
            order.flush()
            status = COMPLETED
        finally:
            order.close()
            progress.end()
            report.seconds = time.monotonic() - begun
            self._registry.end_act(act, self._clock.now_ns(), status, report.counts())


def read_ahead(order: Order, batch: list[ActFile]) -> None:
    """Let another process read ahead of an order, if it has so many files that this pays."""
    if len(batch) >= _MANY_FILES:
        order.read_ahead()


def cut(files: Iterable[ActFile], files_max: int) -> Iterator[list[ActFile]]:
    """Files in batches of so many at most, and of `BATCH_BYTES` and one file."""
    batch: list[ActFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size
        if len(batch) >= files_max or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
