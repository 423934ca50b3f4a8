"""Conflicts between disk and registry, on SQLite: noted by scans, resolved later."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lifecycle_sync.model.conflict import Conflict, Resolved, Situation
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite_base import SqliteBase, journal

CONFLICTS = statements("conflicts")


def archived_among(connection: Connection, row_ids: Sequence[int]) -> list[int]:
    """Those of some records that are archived."""
    rows = connection.execute(CONFLICTS["archived_among"], (json.dumps(row_ids),)).fetchall()
    return [row[0] for row in rows]


def note_archived(connection: Connection, row_ids: Sequence[int], now_ns: int) -> None:
    """Of what was archived before a scan wrote what it saw: note what is there again."""
    connection.executemany(CONFLICTS["note_archived"], ((it, now_ns) for it in row_ids))


def note_recreated(connection: Connection, after_seq: int, now_ns: int) -> None:
    """Note what was registered after a seq at the place of a file that an act has deleted."""
    connection.execute(CONFLICTS["note_recreated"], (after_seq, now_ns))


class SqliteConflicts(SqliteBase):
    """`ConflictStore`."""

    def note_renamed_onto(self, row_ids: Sequence[int], now_ns: int) -> None:
        with self._db.write() as connection:
            connection.executemany(
                CONFLICTS["note_renamed_onto"], ((row_id, now_ns) for row_id in row_ids)
            )

    def conflicts(self, repository_id: bytes, after: int, limit: int) -> list[Conflict]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            rows = connection.execute(
                CONFLICTS["conflicts"], {"number": number, "after": after, "limit": limit}
            ).fetchall()
        return [Conflict(row[0], row[1], Situation(row[2]), *row[3:]) for row in rows]

    def conflict_count(self, repository_id: bytes) -> int:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            return int(connection.execute(CONFLICTS["conflict_count"], (number,)).get)

    def close_conflicts(self, resolved: Sequence[Resolved], now_ns: int) -> None:
        with self._db.write() as connection:
            for item in resolved:
                file_id = connection.execute(CONFLICTS["conflict_of"], (item.row_id,)).get
                if file_id is not None:
                    journal(
                        connection,
                        Operation(
                            self._new_id(),
                            file_id,
                            "conflict",
                            now_ns,
                            "completed",
                            None,
                            now_ns,
                            item.details,
                        ),
                    )
                connection.execute(CONFLICTS["forget_conflict"], (item.row_id,))
            connection.execute(CONFLICTS["forget_dangling"])
