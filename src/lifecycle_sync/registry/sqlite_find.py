"""Pages of files on SQLite.

A page is found in one of two ways. Where one of the query's conditions has an index and holds for
few records, these are fetched by it and sorted, whatever the order asked for. Otherwise records are
walked in that order until the page is full. So the worst case is a walk past records that match
nothing, for conditions that no index knows (a pattern, a small size).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.file import FileRecord, FileType, LifecycleState
from lifecycle_sync.model.record import FileQuery, Page
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection, Row
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite_base import FILES, SqliteBase

_QUERIES = statements("queries")
BY_FILE = f"{FILES['record_columns']} {FILES['record_from_files']}"
_FROM_FILES = """FROM files f CROSS JOIN directories d ON d.directory_id = f.directory_id"""
_FROM_DIRECTORIES = """FROM directories d CROSS JOIN files f ON f.directory_id = d.directory_id"""
# Up to so many candidates are fetched by their own index and sorted.
_FEW = 20_000
# The bound of the index files_size.
_LARGE = 65_536
_ROW_ID = 30
_ORDERS = {
    "path": ("", "d.path, f.name, f.row_id"),
    "size": ("(f.size, f.row_id) < (:k0, :k1)", "f.size DESC, f.row_id DESC"),
    "mtime": ("(f.mtime_ns, f.row_id) > (:k0, :k1)", "f.mtime_ns, f.row_id"),
    "seq": ("f.seq > :k0", "f.seq"),
}
_ORDER_KEY = {"size": (6, _ROW_ID), "mtime": (7, _ROW_ID), "seq": (29,)}
_WHOLE = (b"", b"\xff" * 4096)


class _Terms(NamedTuple):
    """A query as SQL: all its conditions on `f` and their bindings. `few` says that its candidates
    are among the bindings, by their numbers."""

    condition: str
    bindings: dict[str, Any]
    few: bool


class SqliteFind(SqliteBase):
    """`QueryStore.find`, `largest` and `changes`."""

    def find(self, query: FileQuery, cursor: str | None, limit: int) -> Page:
        if query.order not in _ORDERS:
            raise UsageError(
                "is no order",
                operation="find",
                subject=query.order,
                remedy=f"use one of {', '.join(_ORDERS)}",
            )
        digest = blake2b(repr(query).encode(), digest_size=8).hexdigest()
        key = _open_cursor(cursor, digest, query.order)
        # One snapshot for all statements: a row that goes between two of them would end the pages.
        with self._db.read() as connection, connection:
            terms = self._terms(connection, query)
            if query.order == "path":
                rows = list(self._by_path(connection, query, terms, key, limit + 1))
            else:
                rows = self._by_key(connection, query, terms, key, limit + 1)
        records = tuple(codes.file_record(row) for row in rows[:limit])
        if len(rows) <= limit:
            return Page(records, None)
        last = rows[limit - 1]
        if query.order == "path":
            parts = [last[1].hex(), last[2].hex(), last[3].hex(), last[_ROW_ID]]
        else:
            parts = [last[position] for position in _ORDER_KEY[query.order]]
        return Page(records, json.dumps([digest, *parts]))

    def largest(self, repository_id: bytes | None, limit: int) -> list[FileRecord]:
        query = FileQuery(repository_id=repository_id, order="size")
        return list(self.find(query, None, limit).records)

    def changes(self, since_seq: int, limit: int) -> list[FileRecord]:
        with self._db.read() as connection:
            rows = connection.execute(
                f"{BY_FILE} WHERE f.seq > ? ORDER BY f.seq LIMIT ?", (since_seq, limit)
            ).fetchall()
        return [codes.file_record(row) for row in rows]

    # -- planning --------------------------------------------------------------------------

    def _terms(self, connection: Connection, query: FileQuery) -> _Terms:
        condition, bindings = _conditions(connection, query)
        if query.repository_id is not None:
            condition += " AND f.repository = :number"
            bindings["number"] = self._number(connection, query.repository_id)
        for index, candidates in _indexed(query):
            rows = connection.execute(
                f"SELECT row_id FROM files INDEXED BY {index}"  # noqa: S608 - constants of ours
                f" WHERE {candidates} LIMIT {_FEW + 1}",
                bindings,
            ).fetchall()
            if len(rows) <= _FEW:
                bindings["candidates"] = json.dumps([row_id for (row_id,) in rows])
                among = "f.row_id IN (SELECT value FROM json_each(:candidates)) AND "
                return _Terms(among + condition, bindings, few=True)
        return _Terms(condition, bindings, few=False)

    # -- walking ---------------------------------------------------------------------------

    def _by_path(
        self,
        connection: Connection,
        query: FileQuery,
        terms: _Terms,
        key: list[Any] | None,
        limit: int,
    ) -> Iterator[Row]:
        """Root by root in the order of their paths, folder by folder, name by name."""
        start = _place_of(key) if key else None
        roots = connection.execute(
            "SELECT number, repository_id FROM repositories ORDER BY path"
        ).fetchall()
        if query.repository_id is not None:
            roots = [root for root in roots if root[1] == query.repository_id]
        if start is not None:
            ids = [root[1] for root in roots]
            if start[0] not in ids:
                raise wrong_cursor("its root is gone")
            roots = roots[ids.index(start[0]) :]
        for number, repository_id in roots:
            after = start[1:] if start and start[0] == repository_id else None
            terms.bindings["number"] = number
            for low, high in _segments(query):
                if after is not None and after[0] >= high:
                    continue
                rows = _in_segment(connection, terms, (low, high), after, limit)
                yield from rows
                limit -= len(rows)
                if limit <= 0:
                    return

    @staticmethod
    def _by_key(
        connection: Connection,
        query: FileQuery,
        terms: _Terms,
        key: list[Any] | None,
        limit: int,
    ) -> list[Row]:
        after, order = _ORDERS[query.order]
        condition, bindings = terms.condition, dict(terms.bindings)
        if key is not None:
            condition += f" AND {after}"
            bindings |= {f"k{index}": value for index, value in enumerate(key)}
        source = _FROM_FILES
        segments = _segments(query)
        if segments != [_WHOLE]:
            ranges = []
            inside = 0
            for index, (low, high) in enumerate(segments):
                ranges.append(f"(d.path >= :l{index} AND d.path < :h{index})")
                bindings |= {f"l{index}": low, f"h{index}": high}
                inside += connection.execute(
                    _QUERIES["subtree_files"],
                    {"number": bindings.get("number"), "low": low, "high": high},
                ).get
            condition += f" AND ({' OR '.join(ranges)})"
            if inside <= _FEW and not terms.few:
                source = _FROM_DIRECTORIES
                if query.repository_id is not None:
                    condition += " AND d.repository = :number"
        parts = [condition]
        if query.order == "size" and not terms.few:
            # Two walks: large files have an index, the rest is looked through only when needed.
            parts = [f"{condition} AND f.size >= {_LARGE}", f"{condition} AND f.size < {_LARGE}"]
            if query.min_size is not None and query.min_size >= _LARGE:
                parts.pop()
        rows: list[Row] = []
        for part in parts:
            bindings["limit"] = limit - len(rows)
            rows += _records(connection, f"{source} WHERE {part} ORDER BY {order}", bindings)
            if len(rows) >= limit:
                break
        return rows


def _in_segment(
    connection: Connection,
    terms: _Terms,
    segment: tuple[bytes, bytes],
    after: tuple[bytes, bytes, int] | None,
    limit: int,
) -> list[Row]:
    """Rows of one range of directories of the root in the bindings, by path, after a place."""
    low, high = segment
    bindings = terms.bindings | {"low": low, "high": high, "limit": limit}
    place = "d.repository = :number AND d.path >= :low AND d.path < :high"
    if after is not None:
        bindings |= {"low": max(low, after[0]), "dir": after[0]}
        bindings |= {"name": after[1], "row_id": after[2]}
        # The deleted of one place are several.
        place += " AND (d.path > :dir OR f.name > :name OR (f.name = :name AND f.row_id > :row_id))"
    source = _FROM_FILES if terms.few else _FROM_DIRECTORIES
    return _records(
        connection,
        f"{source} WHERE {place} AND {terms.condition} ORDER BY {_ORDERS['path'][1]}",
        bindings,
    )


def _records(connection: Connection, chosen: str, bindings: dict[str, Any]) -> list[Row]:
    """The rows that `chosen` (from FROM to ORDER BY) puts first, in its order.

    The numbers of the rows are sorted first: a whole record is too much to carry through a sort.
    """
    ids = connection.execute(f"SELECT f.row_id {chosen} LIMIT :limit", bindings).fetchall()
    rows = connection.execute(
        f"{BY_FILE} WHERE f.row_id IN (SELECT value FROM json_each(?))",  # noqa: S608 - constants
        (json.dumps([row_id for (row_id,) in ids]),),
    )
    by_id = {row[_ROW_ID]: row for row in rows}
    # Between the two statements a row may have gone.
    return [by_id[row_id] for (row_id,) in ids if row_id in by_id]


def _indexed(query: FileQuery) -> Iterator[tuple[str, str]]:
    """The query's conditions that have an index, as (index, condition on `files`)."""
    if query.flags:
        yield "files_flagged", "flags <> 0 AND flags & :flags <> 0"
    if query.min_size is not None and query.min_size >= _LARGE:
        # The constant is what tells SQLite that the partial index applies.
        yield "files_size", f"size >= {_LARGE} AND size >= :size_low"
    if query.modified_before_ns is not None or query.modified_after_ns is not None:
        bounds = []
        if query.modified_before_ns is not None:
            bounds.append("mtime_ns < :mtime_ns_high")
        if query.modified_after_ns is not None:
            bounds.append("mtime_ns >= :mtime_ns_low")
        yield "files_mtime", " AND ".join(bounds)
    if query.changed_since_ns is not None:
        yield "files_seq", "seq > :since"
    if query.name_glob is not None and not query.include_deleted:
        # No index begins with the name, but reading one through is far less than the table.
        yield "files_place", "state <> 6 AND " + _name_condition("name")
    if query.states or query.types:
        states = ", ".join(map(str, _state_codes(query)))
        types = ", ".join(str(codes.TYPE_CODE[t]) for t in query.types or FileType)
        # All roots have it; a root's number leads the index.
        yield (
            "files_state",
            "tracking = 0 AND repository IN (SELECT number FROM repositories)"  # noqa: S608 - codes
            f" AND state IN ({states}) AND file_type IN ({types})",
        )


def _name_condition(name: str) -> str:
    # GLOB takes no BLOBs; most names are out before they are cast.
    return f"instr({name}, :literal) > 0 AND CAST({name} AS TEXT) GLOB CAST(:glob AS TEXT)"


def _literal(pattern: bytes) -> bytes:
    """The longest run of bytes that every name the pattern matches contains."""
    if b"[" in pattern:
        # What is in brackets is one of several.
        pattern = pattern[: pattern.index(b"[")]
    return max(re.split(rb"[*?]", pattern), key=len)


def _segments(query: FileQuery) -> list[tuple[bytes, bytes]]:
    """The ranges of directory paths a query looks into, in order."""
    if not query.recursive:
        return [(query.under, query.under + b"\0")]
    if not query.under:
        return [_WHOLE]
    # "a" itself, then "a/..."; "a!" and the like sort between the two and are others.
    return [(query.under, query.under + b"\0"), (query.under + b"/", query.under + b"0")]


def _state_codes(query: FileQuery) -> list[int]:
    chosen = query.states or frozenset(
        state
        for state in LifecycleState
        if query.include_deleted or state is not LifecycleState.DELETED
    )
    return [codes.STATE_CODE[state] for state in chosen]


def _conditions(connection: Connection, query: FileQuery) -> tuple[str, dict[str, Any]]:
    """The query's own conditions on `f`, and their bindings."""
    # The plus keeps SQLite from the index files_state, which no order walks.
    parts = ["+f.tracking = 0"]
    bindings: dict[str, Any] = {}
    if query.states:
        # Codes are our own integers.
        parts.append(f"f.state IN ({', '.join(map(str, _state_codes(query)))})")
    if not query.include_deleted and LifecycleState.DELETED not in query.states:
        parts.append("f.state <> 6")
    if query.types:
        parts.append(f"f.file_type IN ({', '.join(str(codes.TYPE_CODE[t]) for t in query.types)})")
    if query.flags:
        parts.append("f.flags <> 0 AND f.flags & :flags <> 0")
        bindings["flags"] = query.flags
    if query.name_glob is not None:
        parts.append(_name_condition("f.name"))
        # GLOB writes the complement of a set with ^.
        bindings["glob"] = query.name_glob.replace(b"[!", b"[^")
        bindings["literal"] = _literal(query.name_glob)
    for column, operator, value in (
        ("size", ">=", query.min_size),
        ("size", "<=", query.max_size),
        ("mtime_ns", "<", query.modified_before_ns),
        ("mtime_ns", ">=", query.modified_after_ns),
    ):
        if value is not None:
            name = f"{column}_{'low' if operator[0] == '>' else 'high'}"
            parts.append(f"f.{column} {operator} :{name}")
            bindings[name] = value
    if query.changed_since_ns is not None:
        parts.append("f.seq > :since")
        before = connection.execute(
            "SELECT last_seq FROM commits WHERE at_ns < ? ORDER BY last_seq DESC LIMIT 1",
            (query.changed_since_ns,),
        ).get
        bindings["since"] = before or 0
    return " AND ".join(parts), bindings


def _open_cursor(cursor: str | None, digest: str, order: str) -> list[Any] | None:
    """The key a cursor holds. Raises `UsageError` for one of another query, or spoilt."""
    if cursor is None:
        return None
    try:
        owner, *key = json.loads(cursor)
    except (ValueError, TypeError):
        owner, key = None, []
    types = [str, str, str, int] if order == "path" else [int] * len(_ORDER_KEY[order])
    if owner != digest or [type(part) for part in key] != types:
        raise wrong_cursor("belongs to another query")
    if not all(-(2**63) <= part < 2**63 for part in key if isinstance(part, int)):
        raise wrong_cursor("is spoilt")
    return list(key)


def _place_of(key: list[Any]) -> tuple[bytes, bytes, bytes, int]:
    """Repository, directory, name and row of a key of the order "path"."""
    try:
        return bytes.fromhex(key[0]), bytes.fromhex(key[1]), bytes.fromhex(key[2]), key[3]
    except ValueError:
        raise wrong_cursor("is spoilt") from None


def wrong_cursor(cause: str) -> UsageError:
    """The error for a cursor that is not one of this question's."""
    return UsageError(
        cause,
        operation="find",
        subject="cursor",
        remedy="ask for the first page without a cursor",
    )
