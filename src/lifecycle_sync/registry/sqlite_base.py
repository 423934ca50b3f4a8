"""What the parts of the SQLite registry share: the database, the ids, seqs and small caches."""

from __future__ import annotations

import threading
from typing import Any

from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.file import FileType
from lifecycle_sync.model.ids import IdSource, to_text
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.policy import SHIPPED
from lifecycle_sync.registry.codes import TYPE_CODE
from lifecycle_sync.registry.database import Connection, Database
from lifecycle_sync.registry.schema import statements


class Seqs:
    """The seqs of one write transaction; `close` records when they were given."""

    def __init__(self, connection: Connection, at_ns: int) -> None:
        self._connection = connection
        self._at_ns = at_ns
        self.first = int(connection.execute("SELECT coalesce(max(last_seq), 0) FROM commits").get)
        self.last = self.first

    def take(self) -> int:
        self.last += 1
        return self.last

    def take_many(self, count: int) -> range:
        start = self.last + 1
        self.last += count
        return range(start, self.last + 1)

    def close(self) -> None:
        if self.last > self.first:
            self._connection.execute("INSERT INTO commits VALUES (?, ?)", (self.last, self._at_ns))


class Attributes(dict[tuple[int, int, int], int]):
    """(mode, uid, gid) to the id of its row, which is made when missing.

    One a transaction, so that a rolled-back row is never remembered.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def __missing__(self, key: tuple[int, int, int]) -> int:
        self._connection.execute(
            "INSERT INTO attributes (mode, uid, gid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", key
        )
        found = self._connection.execute(
            "SELECT attribute_id FROM attributes WHERE mode = ? AND uid = ? AND gid = ?", key
        ).get
        self[key] = int(found)
        return self[key]


class Locations(dict[str, int]):
    """A location to the id of its row, which is made when missing. One a transaction."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def __missing__(self, text: str) -> int:
        self._connection.execute(
            "INSERT INTO locations (location) VALUES (?) ON CONFLICT DO NOTHING", (text,)
        )
        found = self._connection.execute(
            "SELECT location_id FROM locations WHERE location = ?", (text,)
        ).get
        self[text] = int(found)
        return self[text]


def journal(connection: Connection, operation: Operation) -> None:
    """Write one row of the journal."""
    connection.execute(
        FILES["insert_operation"],
        (
            operation.operation_id,
            operation.file_id,
            operation.operation_type,
            operation.timestamp_ns,
            operation.status,
            operation.run_id,
            operation.finished_ns,
            operation.details,
        ),
    )


class SqliteBase:
    """State and helpers; each part of the registry derives from it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self._ids = IdSource(clock.now_ns)
        self._ids_lock = threading.Lock()
        self._numbers: dict[bytes, int] = {}

    def _new_id(self) -> bytes:
        with self._ids_lock:
            return self._ids.one()

    def _number(self, connection: Connection, repository_id: bytes) -> int:
        """The repository's number. Raises `NotFoundError`."""
        found = self._number_or_none(connection, repository_id)
        if found is None:
            raise NotFoundError(
                "no such repository",
                operation="use repository",
                subject=to_text(repository_id),
                remedy="`lifecycle status` lists them",
            )
        return found

    def _number_or_none(self, connection: Connection, repository_id: bytes) -> int | None:
        # Numbers are never given twice while this is cached: removal clears it, and another
        # process's removal is seen because the row is asked for.
        row = connection.execute(
            "SELECT number FROM repositories WHERE repository_id = ?", (repository_id,)
        ).get
        return None if row is None else int(row)

    def _policy_by_type(self, connection: Connection) -> dict[int, int]:
        """Code of a file type to the number of the policy that governs it by default."""
        numbers = dict(connection.execute("SELECT name, number FROM policies").fetchall())
        by_type = {
            file_type: policy.name
            for policy in reversed(SHIPPED)
            for file_type in policy.file_types
        }
        return {
            TYPE_CODE[file_type]: numbers[by_type.get(file_type, "default")]
            for file_type in FileType
        }


Bindings = dict[str, Any]
SCAN = statements("scan")
HASH = statements("hash")
FILES = statements("files")
REPOSITORIES = statements("repositories")
ACTS = statements("acts")
