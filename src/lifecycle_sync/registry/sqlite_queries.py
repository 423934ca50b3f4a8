"""Sums, duplicates and folders on SQLite, and SQL of one's own."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import apsw

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.file import FileRecord, Kind
from lifecycle_sync.model.record import (
    DirectoryTotals,
    Duplicates,
    FolderTotal,
    TypeCount,
)
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection, Row
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite_find import BY_FILE, SqliteFind, wrong_cursor

_QUERIES = statements("queries")
# Bytes of a checksum in the index files_content.
_PREFIX = 4


class SqliteQueries(SqliteFind):
    """`QueryStore`."""

    def last_seq(self) -> int:
        with self._db.read() as connection:
            return int(connection.execute("SELECT coalesce(max(last_seq), 0) FROM commits").get)

    def type_counts(self, repository_id: bytes | None) -> list[TypeCount]:
        with self._db.read() as connection:
            rows = connection.execute(
                _QUERIES["type_counts"], {"number": self._optional(connection, repository_id)}
            ).fetchall()
        return [
            TypeCount(codes.STATES[state], codes.FILE_TYPES[file_type], files, size)
            for state, file_type, files, size in rows
        ]

    def directory_totals(self, repository_id: bytes | None) -> DirectoryTotals:
        with self._db.read() as connection:
            number = {"number": self._optional(connection, repository_id)}
            totals: Row = connection.execute(_QUERIES["directory_totals"], number).fetchone()
            failed = connection.execute(_QUERIES["failed_directories"], number).fetchall()
        directories, files, size, ignored, special = totals
        return DirectoryTotals(directories, files, size, ignored, special, tuple(failed))

    def flag_count(self, repository_id: bytes | None, flag: int) -> int:
        with self._db.read() as connection:
            number = self._optional(connection, repository_id)
            return int(
                connection.execute(_QUERIES["flag_count"], {"number": number, "flag": flag}).get
            )

    def top_folders(self, repository_id: bytes, under: bytes, limit: int) -> list[FolderTotal]:
        low, high = (under + b"/", under + b"0") if under else (b"\0", b"\xff" * 4096)
        totals: dict[bytes, list[int]] = {}
        start = len(under) + 1 if under else 0
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            for path, files, size in connection.execute(
                _QUERIES["folder_totals"], {"number": number, "low": low, "high": high}
            ):
                end = path.find(b"/", start)
                total = totals.setdefault(path if end < 0 else path[:end], [0, 0])
                total[0] += files
                total[1] += size
        ranked = sorted(totals.items(), key=lambda item: (-item[1][1], item[0]))
        return [FolderTotal(path, files, size) for path, (files, size) in ranked[:limit]]

    def duplicates(
        self, repository_id: bytes | None, cursor: str | None, limit: int
    ) -> tuple[list[Duplicates], str | None]:
        try:
            after = bytes.fromhex(cursor) if cursor else b""
        except ValueError:
            raise wrong_cursor("is spoilt") from None
        groups: list[Duplicates] = []
        condition, bindings = "", dict[str, Any]()
        if repository_id is not None:
            condition, bindings = (
                " AND r.repository_id = :repository_id",
                {"repository_id": repository_id},
            )
        with self._db.read() as connection, connection:
            # The prefix of the last group may have more groups.
            prefix = after[:_PREFIX]
            while prefixes := connection.execute(
                # Most prefixes are a group; a few more rounds cost less than records too many.
                _QUERIES["duplicate_prefixes"],
                (prefix, limit - len(groups)),
            ).fetchall():
                chosen = json.dumps([found.hex() for (found,) in prefixes])
                rows = connection.execute(
                    f"{BY_FILE} WHERE f.checksum_prefix IN (SELECT unhex(value) FROM"  # noqa: S608
                    " json_each(:chosen)) AND f.checksum > :after AND f.state <> 6"
                    f" AND f.tracking = 0 AND f.kind = 8 AND f.size > 0{condition}"
                    " ORDER BY f.checksum, r.path, d.path, f.name",
                    {"chosen": chosen, "after": after, **bindings},
                ).fetchall()
                groups += _same_content([codes.file_record(row) for row in rows])
                if len(groups) >= limit:
                    groups = groups[:limit]
                    return groups, groups[-1].checksum.hex()
                prefix = prefixes[-1][0]
                # The smallest greater than the last one.
                prefix += b"\0"
        return groups, None

    def with_content(self, algorithm: str, checksum: bytes, limit: int) -> list[FileRecord]:
        with self._db.read() as connection:
            rows = connection.execute(
                f"{BY_FILE} WHERE f.checksum_prefix = :prefix AND f.checksum = :checksum"
                " AND f.state <> 6 AND f.tracking = 0 AND f.kind = 8"
                " ORDER BY r.path, d.path, f.name",
                {"prefix": checksum[:_PREFIX], "checksum": checksum},
            )
            records = (codes.file_record(row) for row in rows)
            return list(islice((it for it in records if it.algorithm == algorithm), limit))

    # -- SQL -------------------------------------------------------------------------------

    def _query(self, sql: str) -> tuple[list[str], list[Row]]:
        with self._db.read() as connection:
            cursor = connection.cursor()
            names: list[str] = []
            begun: list[str] = []

            def note_names(traced: Any, statement: str, _bindings: Any) -> bool:
                begun.append(statement)
                if len(begun) > 1:
                    raise UsageError(
                        "is more than one statement",
                        operation="query",
                        subject=sql,
                        remedy="ask one at a time",
                    )
                # They are known before the first row only, and without rows not at all.
                names.extend(column[0] for column in traced.get_description())
                return True

            cursor.exec_trace = note_names
            try:
                rows = cursor.execute(sql).fetchall()
            except (apsw.SQLError, apsw.ReadOnlyError, apsw.BindingsError) as error:
                raise UsageError(
                    str(error),
                    operation="query",
                    subject=sql,
                    remedy="one SELECT; `lifecycle sql --help` names the tables",
                ) from error
        return names, rows

    def _optional(self, connection: Connection, repository_id: bytes | None) -> int | None:
        return None if repository_id is None else self._number(connection, repository_id)


def _same_content(records: list[FileRecord]) -> list[Duplicates]:
    """Groups of one checksum with at least two files; several names of one inode are one file."""
    by_content: dict[tuple[str, bytes], list[FileRecord]] = {}
    for record in records:
        if record.checksum is not None and record.kind is Kind.REGULAR:
            by_content.setdefault((record.algorithm, record.checksum), []).append(record)
    groups = []
    for (_algorithm, checksum), same in by_content.items():
        distinct = {(record.repository_id, record.inode) for record in same}
        if len(distinct) > 1:
            groups.append(Duplicates(checksum, same[0].size, tuple(same)))
    return groups
