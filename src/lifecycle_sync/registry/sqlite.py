"""The registry on SQLite: the protocol's methods, put together from one module a concern."""

from __future__ import annotations

import os

import apsw

from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.errors import RegistryCorruptError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.policy import SHIPPED
from lifecycle_sync.registry.database import LOCK_TIMEOUT_SECONDS, Database, Row
from lifecycle_sync.registry.sqlite_acts import SqliteActs
from lifecycle_sync.registry.sqlite_conflicts import SqliteConflicts
from lifecycle_sync.registry.sqlite_due import SqliteDue
from lifecycle_sync.registry.sqlite_files import SqliteFiles
from lifecycle_sync.registry.sqlite_jobs import SqliteJobs
from lifecycle_sync.registry.sqlite_marked import SqliteMarked
from lifecycle_sync.registry.sqlite_queries import SqliteQueries
from lifecycle_sync.registry.sqlite_replay import SqliteReplay
from lifecycle_sync.registry.sqlite_repositories import SqliteRepositories
from lifecycle_sync.registry.sqlite_watching import SqliteWatching


class SqliteRegistry(
    SqliteRepositories,
    SqliteFiles,
    SqliteQueries,
    SqliteActs,
    SqliteReplay,
    SqliteWatching,
    SqliteJobs,
    SqliteDue,
    SqliteMarked,
    SqliteConflicts,
):
    """`Registry` in one local SQLite file. Made with `open`."""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        fs: FileOps | None = None,
        create: bool = True,
        read_only: bool = False,
        lock_timeout: float = LOCK_TIMEOUT_SECONDS,
    ) -> SqliteRegistry:
        """Open, or make, a registry file; with `read_only` nothing is made, migrated or written.

        `lock_timeout` is seconds. Raises `RegistryError` (and its kinds: damaged, of a newer
        version, of another program, on a network filesystem), `BusyError`, `StorageFullError`.
        """
        clock = clock or SystemClock()
        database = Database(
            os.fspath(path), fs=fs, create=create, read_only=read_only, lock_timeout=lock_timeout
        )
        if read_only:
            return cls(database, clock)
        try:
            with database.write(durable=True) as connection:
                if connection.execute("SELECT count(*) FROM registry").get == 0:
                    connection.execute(
                        "INSERT INTO registry VALUES (?, ?)", (os.urandom(16), clock.now_ns())
                    )
                    for policy in SHIPPED:
                        cls._insert_policy(connection, policy)
            return cls(database, clock)
        except BaseException:
            database.close()
            raise

    @property
    def path(self) -> str:
        return self._db.path

    def query(self, sql: str) -> tuple[list[str], list[Row]]:
        """Run one read-only statement; the names of its columns and its rows.

        This is the way in for SQL within a process that has the registry open, where no other
        SQLite library may touch the file. Raises `UsageError` for SQL that is wrong or writes.
        """
        return self._query(sql)

    def check_integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when all is well."""
        try:
            with self._db.read() as connection:
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
        except RegistryCorruptError as error:
            # Some damage ends the check itself.
            return [error.cause]
        return [] if found == ["ok"] else found

    def write_back(self) -> None:
        """After much was written, where something else is to be done: closing takes less then."""
        self._db.write_back()

    def give_back_memory(self) -> None:
        """After much work, and before a long time with little."""
        self._db.give_back_memory()

    def close(self) -> None:
        self._db.close()


def library_version() -> tuple[int, ...]:
    """The version of the SQLite that the registry uses; the system's own is another."""
    return tuple(map(int, apsw.sqlite_lib_version().split(".")))
