"""`lifecycle sql`: one SELECT on the registry."""

from __future__ import annotations

import base64
import math
from typing import Any

import click

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Table, Text, show
from lifecycle_sync.service.api import utf8_text

_NOTES = """\b
Documented tables and views (their columns stay):
  file_registry       one row a file: file_id, file_path, file_name, file_type, file_size,
                      created_at, modified_at, accessed_at, state, policy_name, checksum,
                      version, parent_id, backup_path, archive_path, expiry_date,
                      last_state_change
  file_records        id, repository_id, file_path (relative), file_size, mod_time,
                      content_hash, last_scanned, scan_generation, created_at, updated_at
  sync_operations     the journal: operation_id, file_id, operation_type, timestamp, status,
                      details
  sync_runs           the passes: id, repository_id, operation_type, files_scanned,
                      files_added, files_updated, files_removed, start_time, end_time,
                      duration_ms, status, error_message
  lifecycle_policies  name, file_types, retention_days, archive_after_days, …
"""


@command(
    "sql",
    notes=_NOTES,
    examples="""
        lifecycle sql "SELECT file_path FROM file_registry WHERE file_size > 1e9"
        lifecycle sql "SELECT file_type, count(*) FROM file_registry GROUP BY 1" --json
    """,
)
@click.argument("statement", metavar="'SELECT …'")
def sql(session: Session, statement: str) -> None:
    """Ask the registry in SQL: one statement, which can only read.

    This is the way in while the registry is in use. Times in the views are ISO in UTC, sizes
    bytes. The SQL is SQLite's.
    """
    with session.engine() as engine:
        columns, rows = engine.registry.query(statement)
    if session.as_json:
        write_json({"columns": columns, "rows": [[_json_value(v) for v in row] for row in rows]})
        return
    if not rows:
        session.say("no rows")
        return
    cells: list[list[Text]] = [[_shown(value) for value in row] for row in rows]
    numbers = frozenset(
        column
        for column in range(len(columns))
        if all(isinstance(row[column], int | float) for row in rows)
    )
    show([Table("", cells, [utf8_text(name) for name in columns], numbers)])


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value)


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    return utf8_text(value) if isinstance(value, str) else value
