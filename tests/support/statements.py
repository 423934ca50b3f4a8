"""What SQLite is asked to do: every statement that runs, with the work it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import apsw


@dataclass
class Work:
    """What was done on connections that were opened while it was watched.

    `steps` are the steps of SQLite's machine by statement, for those that name the table; rows are
    counted by what changed them.
    """

    table: str
    steps: Counter[str] = field(default_factory=Counter)
    rows_changed: int = 0
    _statements: dict[str, bool] = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        return sum(self.steps.values())


@contextmanager
def watched(table: str) -> Iterator[Work]:
    """Watch all connections that are opened inside, for work on one table."""
    work = Work(table)
    touching = [False]

    def authorize(
        action: int, one: str | None, _two: str | None, _database: str | None, _by: str | None
    ) -> int:
        tables = (apsw.SQLITE_READ, apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE)
        if action in tables and one == table:
            touching[0] = True
        return int(apsw.SQLITE_OK)

    def traced(event: dict[str, Any]) -> None:
        sql = event["sql"]
        if event["code"] == apsw.SQLITE_TRACE_STMT:
            # A statement is prepared right before its first step.
            work._statements[sql] = work._statements.get(sql, False) or touching[0]
            touching[0] = False
        elif event["code"] == apsw.SQLITE_TRACE_PROFILE and work._statements.get(sql):
            work.steps[sql] += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def changed(_type: int, _database: str, name: str, _row: int) -> None:
        work.rows_changed += name == table

    def hook(connection: apsw.Connection) -> None:
        connection.authorizer = authorize
        connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_PROFILE, traced)
        connection.set_update_hook(changed)

    apsw.connection_hooks.append(hook)
    try:
        yield work
    finally:
        apsw.connection_hooks.remove(hook)
