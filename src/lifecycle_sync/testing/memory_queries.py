"""Questions to a `MemoryRegistry`: everything is sorted, filtered and counted anew for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.file import FileRecord, FileType, Kind, LifecycleState, Tracking
from lifecycle_sync.model.record import (
    DirectoryTotals,
    Duplicates,
    FileQuery,
    FolderTotal,
    Page,
    TypeCount,
)
from lifecycle_sync.testing.memory_tables import DirectoryRow, MemoryBase, Tables

_ORDERS = ("path", "size", "mtime", "seq")


class MemoryQueries(MemoryBase):
    """`QueryStore`."""

    # -- pages -----------------------------------------------------------------------------

    def find(self, query: FileQuery, cursor: str | None, limit: int) -> Page:
        if query.order not in _ORDERS:
            raise UsageError(
                "is no order",
                operation="find",
                subject=query.order,
                remedy=f"use one of {', '.join(_ORDERS)}",
            )
        after = _open_cursor(cursor, query)
        with self._reading() as tables:
            if query.repository_id is not None:
                self._repository(tables, query.repository_id)
            keyed = [
                (_key(tables, query.order, row_id, record), record)
                for row_id, record in self._records(tables, query.repository_id)
                if _holds(query, record)
            ]
        keyed.sort(key=lambda pair: pair[0])
        if after is not None:
            keyed = [pair for pair in keyed if pair[0] > after]
        page = keyed[:limit]
        more = len(keyed) > len(page)
        records = tuple(record for _, record in page)
        return Page(records, _cursor(query, page[-1][0]) if more else None)

    def _records(self, tables: Tables, repository_id: bytes | None) -> list[tuple[int, FileRecord]]:
        files = self._files_of(tables, repository_id)
        return [(file.row_id, self._record(tables, file)) for file in files]

    def largest(self, repository_id: bytes | None, limit: int) -> list[FileRecord]:
        query = FileQuery(repository_id=repository_id, order="size")
        return list(self.find(query, None, limit).records)

    def duplicates(
        self, repository_id: bytes | None, cursor: str | None, limit: int
    ) -> tuple[list[Duplicates], str | None]:
        by_content: dict[tuple[bytes, str], list[FileRecord]] = {}
        for record in self._tracked(repository_id):
            if record.checksum and record.kind is Kind.REGULAR and record.size > 0:
                by_content.setdefault((record.checksum, record.algorithm), []).append(record)
        groups = []
        for (checksum, algorithm), same in sorted(by_content.items()):
            files = {(record.repository_id, record.inode) for record in same}
            key = f"{checksum.hex()}-{algorithm}"
            if len(files) > 1 and (cursor is None or key > cursor):
                groups.append((key, Duplicates(checksum, same[0].size, tuple(same))))
        page = [group for _, group in groups[:limit]]
        return page, groups[len(page) - 1][0] if len(groups) > len(page) else None

    def with_content(self, algorithm: str, checksum: bytes, limit: int) -> list[FileRecord]:
        same = (algorithm, checksum)
        records = [
            record
            for record in self._tracked(None)
            if (record.algorithm, record.checksum) == same and record.kind is Kind.REGULAR
        ]
        return sorted(records, key=lambda it: it.path)[:limit]

    def changes(self, since_seq: int, limit: int) -> list[FileRecord]:
        with self._reading() as tables:
            records = [record for _, record in self._records(tables, None)]
        changed = [record for record in records if record.seq > since_seq]
        return sorted(changed, key=lambda record: record.seq)[:limit]

    def last_seq(self) -> int:
        with self._reading() as tables:
            return tables.last_seq

    # -- sums ------------------------------------------------------------------------------

    def _tracked(self, repository_id: bytes | None, *, deleted: bool = False) -> list[FileRecord]:
        query = FileQuery(repository_id=repository_id, include_deleted=deleted)
        with self._reading() as tables:
            records = [record for _, record in self._records(tables, repository_id)]
        return [record for record in records if _holds(query, record)]

    def type_counts(self, repository_id: bytes | None) -> list[TypeCount]:
        sums: dict[tuple[LifecycleState, FileType], list[int]] = {}
        for record in self._tracked(repository_id, deleted=True):
            total = sums.setdefault((record.state, record.file_type), [0, 0])
            total[0] += 1
            total[1] += record.size
        return [TypeCount(*key, *total) for key, total in sums.items()]

    def directory_totals(self, repository_id: bytes | None) -> DirectoryTotals:
        rows = self._directories_of(repository_id)
        return DirectoryTotals(
            directories=len(rows),
            files=sum(row.file_count for row in rows),
            bytes=sum(row.byte_count for row in rows),
            ignored=sum(row.ignored_count for row in rows),
            special=sum(row.special_count for row in rows),
            failed=tuple((row.path, row.error) for row in rows if row.error is not None),
        )

    def _directories_of(self, repository_id: bytes | None) -> list[DirectoryRow]:
        with self._reading() as tables:
            if repository_id is not None:
                self._repository(tables, repository_id)
            rows = [
                row
                for row in tables.directories.values()
                if repository_id in (None, row.repository_id) and not row.gone
            ]
        return sorted(rows, key=lambda row: row.path)

    def flag_count(self, repository_id: bytes | None, flag: int) -> int:
        return sum(bool(record.flags & flag) for record in self._tracked(repository_id))

    def top_folders(self, repository_id: bytes, under: bytes, limit: int) -> list[FolderTotal]:
        totals: dict[bytes, FolderTotal] = {}
        for row in self._directories_of(repository_id):
            inside = _relative_to(row.path, under)
            if not inside:
                continue
            first = inside.split(b"/")[0]
            path = under + b"/" + first if under else first
            before = totals.get(path, FolderTotal(path, 0, 0))
            totals[path] = FolderTotal(
                path, before.files + row.file_count, before.bytes + row.byte_count
            )
        return sorted(totals.values(), key=lambda total: (-total.bytes, total.path))[:limit]


def _relative_to(path: bytes, folder: bytes) -> bytes | None:
    """What follows `folder` in a path, empty for the folder itself; None when it lies elsewhere."""
    if not folder:
        return path
    if path == folder:
        return b""
    return path[len(folder) + 1 :] if path.startswith(folder + b"/") else None


def _holds(query: FileQuery, record: FileRecord) -> bool:
    """Whether every field of the query that is set holds for a record."""
    deleted_wanted = query.include_deleted or LifecycleState.DELETED in query.states
    inside = _relative_to(record.path.rpartition(b"/")[0], query.under)
    return (
        record.tracking is Tracking.TRACKED
        and (record.state is not LifecycleState.DELETED or deleted_wanted)
        and query.repository_id in (None, record.repository_id)
        and (inside is not None if query.recursive else inside == b"")
        and (query.name_glob is None or fnmatchcase(record.name, query.name_glob))
        and (query.min_size is None or record.size >= query.min_size)
        and (query.max_size is None or record.size <= query.max_size)
        and (query.modified_before_ns is None or record.mtime_ns < query.modified_before_ns)
        and (query.modified_after_ns is None or record.mtime_ns >= query.modified_after_ns)
        and (query.changed_since_ns is None or record.changed_ns >= query.changed_since_ns)
        and (not query.states or record.state in query.states)
        and (not query.types or record.file_type in query.types)
        and (not query.flags or bool(record.flags & query.flags))
    )


def _key(tables: Tables, order: str, row_id: int, record: FileRecord) -> list[Any]:
    """Where a record stands in an order, as what JSON can hold; no two stand at one place."""
    if order == "path":
        root = tables.repositories[record.repository_id].path
        folder, _, name = record.path.rpartition(b"/")
        # Hexadecimal text sorts as the bytes do.
        return [root.hex(), folder.hex(), name.hex(), record.state.value, row_id]
    if order == "size":
        return [-record.size, row_id]
    if order == "mtime":
        return [record.mtime_ns, row_id]
    return [record.seq]


def _cursor(query: FileQuery, key: Sequence[Any]) -> str:
    return json.dumps([_digest(query), key])


def _open_cursor(cursor: str | None, query: FileQuery) -> list[Any] | None:
    if cursor is None:
        return None
    try:
        owner, key = json.loads(cursor)
    except (ValueError, TypeError):
        owner, key = None, None
    if owner != _digest(query) or not isinstance(key, list):
        raise UsageError(
            "belongs to another query",
            operation="find",
            subject="cursor",
            remedy="ask for the first page without a cursor",
        )
    return key


def _digest(query: FileQuery) -> str:
    return blake2b(repr(query).encode(), digest_size=8).hexdigest()
