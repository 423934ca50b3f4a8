"""What can still be read of a damaged registry, taken over into a new one.

The damaged file is read table by table, around the pages that cannot be read, and each row is
checked before it is taken. What is taken over is only memory: ids, states, policies, checksums, the
journal, versions and holds. Which manifests of vaults were applied is not: they are taken up again,
and fill what was lost. Signatures go and every file counts as changed, so that the next scan
believes the disk and nothing else. The damaged file must be a copy: to open it may change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import apsw

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import RegistryError, RegistryForeignError, RegistryNewerError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.policy import SHIPPED
from lifecycle_sync.registry.database import Connection, Database, Row
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.registry.sqlite_files import SqliteFiles

_SQL = statements("salvage")
# In the order in which they refer to each other.
TABLES = (
    "policies",
    "commits",
    "repositories",
    "directories",
    "attributes",
    "files",
    "provisional_moves",
    "runs",
    "operations",
    "act_runs",
    "locations",
    "versions",
    "holds",
    "confirmations",
    "policy_changes",
    "assignments",
    "downloads",
)
_BATCH = 5_000
# How often reading starts again behind a damaged page before a table is given up.
_RESTARTS_MAX = 10_000
_FARTHEST = 1 << 48
# Besides SQLite's own errors: text that is not UTF-8, and lengths beyond all measure.
_UNREADABLE = (apsw.Error, ValueError, MemoryError)
_TYPES: dict[str, type] = {"INTEGER": int, "TEXT": str, "BLOB": bytes}


@dataclass(slots=True)
class TableSalvage:
    """How one table fared. `kept` rows were taken over and `refused` ones made no sense; `lost` is
    how many could not be read at most, None where nobody can say."""

    kept: int = 0
    refused: int = 0
    lost: int | None = 0

    @property
    def whole(self) -> bool:
        return self.refused == 0 and self.lost == 0


@dataclass(slots=True)
class Salvage:
    """What a damaged registry gave. `registry_id` is its own id, None where that is lost too;
    `fault` says why nothing could be read at all."""

    registry_id: bytes | None = None
    tables: dict[str, TableSalvage] = field(default_factory=dict)
    fault: str = ""


def salvage(copy: str, target: Database, now_ns: int, fs: FileOps, cancel: CancelToken) -> Salvage:
    """Take over what the file at `copy` still has into `target`, a registry without any roots.

    Never raises for what is wrong with `copy`; raises what `target` raises, and `CancelledError`.
    """
    result = Salvage()
    try:
        source = _Damaged(copy, fs)
    except (*_UNREADABLE, OSError) as error:
        result.fault = str(error)
        return result
    try:
        result.registry_id = _registry_id(source)
        for table in TABLES:
            result.tables[table] = _copy_table(source, target, table, cancel)
    finally:
        source.close()
    with target.write() as connection:
        _mend(connection, result, now_ns)
    return result


def fault_of(copy: str, fs: FileOps) -> str | None:
    """What is wrong with a copy of a registry, "" if nothing is; None if it never had a root.

    Raises `RegistryForeignError` and `RegistryNewerError` for what is not ours to set aside.
    """
    try:
        registry = SqliteRegistry.open(copy, fs=fs, create=False)
        try:
            faults = registry.check_integrity()
            roots = registry.repositories()
        finally:
            registry.close()
    except (RegistryForeignError, RegistryNewerError):
        raise
    except RegistryError as error:
        return error.cause
    except _UNREADABLE as error:
        return f"is damaged ({error})"
    if faults:
        return f"is damaged ({faults[0]})"
    return "" if roots else None


# -- reading -------------------------------------------------------------------------------


class _Damaged:
    """A database file of which any page may be wrong."""

    def __init__(self, copy: str, fs: FileOps) -> None:
        _pad(copy, fs)
        self._connection: Connection = apsw.Connection(copy, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            # A view or a default of a garbled schema must not run anything.
            self._connection.execute("PRAGMA trusted_schema=OFF")
            self._connection.execute("PRAGMA query_only=ON")
            self._connection.execute("PRAGMA cell_size_check=ON")
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except _UNREADABLE:
            self.close()
            raise

    def close(self) -> None:
        try:
            self._connection.close()
        except apsw.Error:
            # Closing tries to checkpoint, and that may fail; the copy is thrown away.
            self._connection.close(True)

    def columns(self, table: str) -> dict[str, bool]:
        """The columns of a table, and whether each is part of its primary key."""
        try:
            rows = self._connection.execute(f"PRAGMA table_info({table})").fetchall()
        except _UNREADABLE:
            return {}
        return {row[1]: bool(row[5]) for row in rows}

    def rows(self, table: str, columns: list[str], fate: TableSalvage) -> Iterator[Row]:
        """All rows that can be read; what cannot is counted in `fate`."""
        names = ", ".join(columns)
        try:
            self._connection.execute(_select("rowid", table, "LIMIT 0")).fetchall()
        except apsw.SQLError:
            yield from self._by_key(table, names, columns[0], fate)
        except _UNREADABLE:
            fate.lost = None
        else:
            yield from self._by_number(table, names, fate)

    def _by_number(self, table: str, names: str, fate: TableSalvage) -> Iterator[Row]:
        """Rows by their number; behind a damaged page reading goes on."""
        statement = _select(f"rowid, {names}", table, "NOT INDEXED WHERE rowid > ? ORDER BY rowid")
        last = 0
        for _ in range(_RESTARTS_MAX):
            try:
                for row in self._connection.execute(statement, (last,)):
                    # Damaged pages may be linked in a circle.
                    if row[0] > last:
                        last = row[0]
                        yield row[1:]
                return
            except _UNREADABLE:
                behind = self._behind(f"{statement} LIMIT 1", last)
            if behind is None:
                break
            if fate.lost is not None:
                fate.lost += behind - last
            last = behind
        fate.lost = None

    def _behind(self, statement: str, last: int) -> int | None:
        """The smallest number after which reading works again; None if there is none."""
        step = 1
        while not self._works(statement, last + step):
            step *= 2
            if step > _FARTHEST:
                return None
        low, high = last + step // 2, last + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._works(statement, middle):
                high = middle
            else:
                low = middle
        return high

    def _works(self, statement: str, after: int) -> bool:
        try:
            self._connection.execute(statement, (after,)).fetchall()
        except _UNREADABLE:
            return False
        return True

    def _by_key(self, table: str, names: str, key: str, fate: TableSalvage) -> Iterator[Row]:
        """Rows of a table without numbers: from both ends up to the damage."""
        last: bytes | None = None
        try:
            for row in self._connection.execute(_select(names, table, f"ORDER BY {key}")):
                last = row[0]
                yield row
            return
        except _UNREADABLE:
            fate.lost = None
        try:
            for row in self._connection.execute(_select(names, table, f"ORDER BY {key} DESC")):
                if last is not None and row[0] <= last:
                    return
                yield row
        except (*_UNREADABLE, TypeError):
            return


def _select(names: str, table: str, rest: str) -> str:
    # All of it is our own: the tables above and the columns of the new registry.
    return f"SELECT {names} FROM {table} {rest}"  # noqa: S608


def _pad(copy: str, fs: FileOps) -> None:
    """Make a file that was cut off as long as it says it is: SQLite opens no shorter one. What is
    missing reads as damaged pages then."""
    header = fs.read_file(copy, limit=100)
    page = int.from_bytes(header[16:18], "big")
    expected = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
    fd = fs.open_lock_file(copy)
    try:
        # A garbled header may ask for terabytes; holes cost nothing, but let it be sane.
        if fs.fstat(fd).st_size < expected < 1 << 40:
            fs.truncate(fd, expected)
    finally:
        fs.close(fd)


def _registry_id(source: _Damaged) -> bytes | None:
    rows = source.rows("registry", ["registry_id"], TableSalvage())
    return next((row[0] for row in rows if isinstance(row[0], bytes) and len(row[0]) == 16), None)


# -- writing -------------------------------------------------------------------------------


class _Column(NamedTuple):
    name: str
    type: type
    required: bool


def _copy_table(
    source: _Damaged, target: Database, table: str, cancel: CancelToken
) -> TableSalvage:
    fate = TableSalvage()
    with target.read() as connection:
        columns = _columns(connection, table)
    present = source.columns(table)
    columns = [column for column in columns if column.name in present]
    # The key comes first, as `_Damaged.rows` wants it.
    columns.sort(key=lambda column: not present[column.name])
    if not columns:
        fate.lost = None
        return fate
    names = [column.name for column in columns]
    marks = ", ".join("?" * len(names))
    # The shipped policies are there already; the old registry's take their places.
    verb = "REPLACE" if table == "policies" else "IGNORE"
    statement = f"INSERT OR {verb} INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608
    rows = source.rows(table, names, fate)
    while batch := list(islice(rows, _BATCH)):
        cancel.check()
        sound = [row for row in batch if _is_sound(row, columns)]
        with target.write() as connection:
            before = connection.total_changes()
            connection.executemany(statement, sound)
            kept = connection.total_changes() - before
        fate.kept += min(kept, len(batch))
        fate.refused += max(len(batch) - kept, 0)
    return fate


def _columns(connection: Connection, table: str) -> list[_Column]:
    return [
        _Column(name, _TYPES[kind], bool(not_null or key))
        for _, name, kind, not_null, _, key in connection.execute(f"PRAGMA table_info({table})")
    ]


def _is_sound(row: Row, columns: list[_Column]) -> bool:
    return all(
        isinstance(value, column.type) or (value is None and not column.required)
        for value, column in zip(row, columns, strict=True)
    )


def _mend(connection: Connection, result: Salvage, now_ns: int) -> None:
    """Drop what makes no sense, mend what refers to nothing, and distrust the rest."""
    for table, name in (
        ("policies", "drop_policies"),
        ("commits", "drop_commits"),
        ("repositories", "drop_repositories"),
        ("directories", "drop_directories"),
        ("files", "drop_files"),
        ("runs", "drop_runs"),
        ("provisional_moves", "drop_moves"),
        ("versions", "drop_versions"),
        ("holds", "drop_holds"),
        ("assignments", "drop_assignments"),
    ):
        connection.execute(_SQL[name])
        dropped = connection.changes()
        result.tables[table].kept -= dropped
        result.tables[table].refused += dropped
    names = {row[0] for row in connection.execute("SELECT name FROM policies")}
    for policy in SHIPPED:
        if policy.name not in names:
            SqliteFiles._insert_policy(connection, policy)
    last = connection.execute("SELECT max(last_seq) FROM commits").get
    if last is None or last < 0:
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM files WHERE seq < 1 << 53").get
    # Every seq has a commit that says when it was given, if only "by now".
    connection.execute("INSERT INTO commits VALUES (?, ?)", (last + 1, now_ns))
    connection.execute(_SQL["mend_files"], {"last": last + 1})
    for name in (
        "mend_versions",
        "mend_attributes",
        "distrust_repositories",
        "distrust_directories",
        "distrust_files",
    ):
        connection.execute(_SQL[name])
