"""What following a root asks of the registry and notes in it, on SQLite."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import astuple

from lifecycle_sync.model.check import CheckNote
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.model.record import StoredDirectory
from lifecycle_sync.model.watch import ScrubNote, WatchNote
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite_base import SCAN, SqliteBase

WATCHING = statements("watching")


class SqliteWatching(SqliteBase):
    """`WatchStore`."""

    def directories_under(
        self, repository_id: bytes, path: bytes, after: bytes | None, limit: int
    ) -> list[StoredDirectory]:
        statement = WATCHING["directories_under"]
        if after is None:
            # The root's own path is empty: nothing is before it.
            statement = statement.replace("path > :after", "path >= :after")
        with self._db.read() as connection:
            rows = connection.execute(
                statement,
                {
                    "number": self._number(connection, repository_id),
                    "path": path,
                    "low": path + b"/",
                    "high": path + b"0",
                    "after": path if after is None else after,
                    "limit": limit,
                },
            ).fetchall()
        return [StoredDirectory._make(row) for row in rows]

    def linked_directories(self, repository_id: bytes, inodes: Collection[int]) -> list[bytes]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            rows = connection.executemany(
                WATCHING["linked_directories"], ((inode, number) for inode in inodes)
            ).fetchall()
        return sorted({row[0] for row in rows})

    def hash_again(
        self, repository_id: bytes, contents: Mapping[bytes, Collection[bytes] | None]
    ) -> int:
        count = 0
        with self._db.write() as connection:
            number = self._number(connection, repository_id)
            linked: set[int] = set()
            for path, names in contents.items():
                found = connection.execute(SCAN["directory"], (number, path)).fetchone()
                if found is None:
                    continue
                if names is None:
                    rows = connection.execute(WATCHING["hash_all_again"], found[:1]).fetchall()
                else:
                    rows = connection.executemany(
                        WATCHING["hash_again"], ((found[0], name) for name in names)
                    ).fetchall()
                count += len(rows)
                linked.update(inode for inode, nlink in rows if nlink > 1)
            connection.executemany(
                WATCHING["hash_links_again"], ((inode, number) for inode in linked)
            )
        return count

    def watch_note(self, repository_id: bytes) -> WatchNote:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            row = connection.execute(WATCHING["watch_note"], (number,)).fetchone()
        return WatchNote() if row is None else WatchNote(bool(row[0]), row[1], row[2])

    def note_recrawl(self, repository_id: bytes, needed: bool) -> None:
        with self._db.write(durable=True) as connection:
            number = self._number(connection, repository_id)
            connection.execute(WATCHING["set_recrawl"], (number, int(needed)))

    def note_health(self, repository_id: bytes, now_ns: int, health: str) -> None:
        with self._db.write() as connection:
            number = self._number(connection, repository_id)
            connection.execute(WATCHING["set_health"], (number, now_ns, health))

    def scrub_note(self, repository_id: bytes) -> ScrubNote:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            row = connection.execute(WATCHING["scrub_note"], (number,)).fetchone()
        return ScrubNote() if row is None else ScrubNote(*row)

    def note_scrub(self, repository_id: bytes, note: ScrubNote) -> None:
        with self._db.write() as connection:
            number = self._number(connection, repository_id)
            connection.execute(WATCHING["note_scrub"], (number, *astuple(note)))

    def loops(self) -> list[LoopNote]:
        with self._db.read() as connection:
            return [LoopNote._make(row) for row in connection.execute(WATCHING["loops"]).fetchall()]

    def note_loop(self, note: LoopNote) -> None:
        with self._db.write() as connection:
            connection.execute(WATCHING["note_loop"], note)

    def checks(self) -> list[CheckNote]:
        with self._db.read() as connection:
            rows = connection.execute(WATCHING["checks"]).fetchall()
        return [CheckNote._make(row) for row in rows]

    def note_check(self, note: CheckNote) -> None:
        with self._db.write() as connection:
            connection.execute(WATCHING["note_check"], note)

    def prune_runs(self, repository_id: bytes, keep: int) -> None:
        with self._db.write() as connection:
            number = self._number(connection, repository_id)
            connection.execute(WATCHING["prune_runs"], (number, keep))
