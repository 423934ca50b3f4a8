"""Looking inside a measured process: where its time goes, and which statements it runs."""

from __future__ import annotations

import cProfile
import pstats
import re
import threading
from collections.abc import Callable
from typing import Any

_FILES = re.compile(
    r"\b(?:from|join|into|update)\s+"
    r"(?:files|file_paths|file_times|file_registry|file_records)\b",
    re.IGNORECASE,
)
_TOP = 25


_WRITES = re.compile(r"\s*(?:insert|update|delete|replace)\b", re.IGNORECASE)


class StatementCounter:
    """Counts what every connection made after `install` executes (each round of `executemany`).

    `rows` of the table of files are those that statements naming it gave, and those they wrote.
    """

    def __init__(self) -> None:
        self.all = 0
        self.on_files = 0
        self.rows = 0
        self.texts: set[str] = set()
        self._reading: set[int] = set()

    def install(self) -> None:
        import apsw

        apsw.connection_hooks.append(self._hook)

    def _hook(self, connection: Any) -> None:
        connection.exec_trace = self._count
        connection.row_trace = self._count_row

    def _count(self, cursor: Any, sql: str, _bindings: Any) -> bool:
        self.all += 1
        self._reading.discard(id(cursor))
        if _FILES.search(sql):
            self.on_files += 1
            self.texts.add(" ".join(sql.split())[:100])
            if _WRITES.match(sql):
                self.rows += 1
            else:
                self._reading.add(id(cursor))
        return True

    def _count_row(self, cursor: Any, row: Any) -> Any:
        self.rows += id(cursor) in self._reading
        return row


def profiled(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run `work` under cProfile and print the functions that took most, thread by thread.

    The profiler makes every call dearer, so shares count, not seconds; and threads wait for each
    other's interpreter lock inside whatever function they are in.
    """
    others: list[tuple[str, cProfile.Profile]] = []

    def begin(*_: Any) -> None:
        profile = cProfile.Profile()
        others.append((threading.current_thread().name, profile))
        profile.enable()

    # From 3.12 on one profiler sees all threads, and a second one is refused.
    threading.setprofile(begin)
    mine = cProfile.Profile()
    try:
        result = mine.runcall(work)
    finally:
        threading.setprofile(None)
    for name, profile in [("main", mine), *others]:
        for order in ("tottime", "cumulative"):
            print(f"\n== thread {name}, by {order}")
            pstats.Stats(profile).sort_stats(order).print_stats(_TOP)
    return result
