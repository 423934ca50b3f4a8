"""Several roots at once, in threads, with one progress to be shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from lifecycle_sync.service.progress import NoProgress, Progress

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(
    work: Callable[[_Item, Progress | None], _Result],
    items: Sequence[_Item],
    *,
    at_once: int,
    progress: Progress | None = None,
    on_done: Callable[[_Result], None] | None = None,
) -> list[_Result]:
    """The results of some work on each item, in their order; at most `at_once` are done at a time.

    `on_done` is called in this thread, with each result as it comes. The first that raises lets
    those that have not begun undone, and is raised once the others have ended: they must share what
    stops them. `progress` is that of one of them at a time.
    """
    if len(items) < 2 or at_once < 2:
        results = []
        for item in items:
            results.append(work(item, progress))
            if on_done is not None:
                on_done(results[-1])
        return results
    shared = None if progress is None else _Shared(progress)
    with ThreadPoolExecutor(at_once, "lifecycle-root") as pool:
        futures = [
            pool.submit(work, item, None if shared is None else shared.part()) for item in items
        ]
        try:
            for future in as_completed(futures):
                result = future.result()
                if on_done is not None:
                    on_done(result)
        except BaseException:
            _cancel(futures)
            raise
    return [future.result() for future in futures]


def _cancel(futures: Sequence[Future[_Result]]) -> None:
    for future in futures:
        future.cancel()


class _Shared:
    """One progress for several: who begins first has it until its phase ends."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.lock = threading.Lock()
        self.owner: _Part | None = None

    def part(self) -> _Part:
        return _Part(self)


class _Part(NoProgress):
    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    def begin(
        self, phase: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None:
        with self._shared.lock:
            if self._shared.owner is None:
                self._shared.owner = self
                self._shared.progress.begin(phase, root, total_files, total_bytes)

    def advance(self, files: int, bytes_: int) -> None:
        if self._shared.owner is self:
            self._shared.progress.advance(files, bytes_)

    def end(self) -> None:
        with self._shared.lock:
            if self._shared.owner is self:
                self._shared.progress.end()
                self._shared.owner = None
