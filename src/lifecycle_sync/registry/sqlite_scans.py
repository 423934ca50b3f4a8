"""What scans read and record on SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lifecycle_sync.model.file import Tracking
from lifecycle_sync.model.operation import Operation, Run
from lifecycle_sync.model.record import (
    MissingFile,
    Move,
    ScanBatch,
    StoredDirectory,
    StoredFile,
)
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.sqlite_base import HASH, SCAN, Seqs, SqliteBase, journal
from lifecycle_sync.registry.sqlite_recording import Recording

_PATHS_PAGE = 10_000


class SqliteScans(SqliteBase):
    """`ScanStore`, but for its runs."""

    # -- reading ---------------------------------------------------------------------------

    def directories(
        self, repository_id: bytes, paths: Sequence[bytes]
    ) -> dict[bytes, StoredDirectory]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            rows = connection.executemany(
                SCAN["directory"], ((number, path) for path in paths)
            ).fetchall()
        return {row[1]: StoredDirectory._make(row) for row in rows}

    def signatures(self, repository_id: bytes) -> Iterator[tuple[bytes, bytes]]:
        after = -1
        while True:
            with self._db.read() as connection:
                number = self._number(connection, repository_id)
                rows = connection.execute(
                    SCAN["signatures"], (after, number, _PATHS_PAGE)
                ).fetchall()
            if not rows:
                return
            yield from (row[1:] for row in rows)
            after = rows[-1][0]

    def directory_paths(self, repository_id: bytes) -> Iterator[bytes]:
        statement = (
            "SELECT path FROM directories WHERE repository = ? AND gone = 0 AND path >= ?"
            " ORDER BY path LIMIT ?"
        )
        after = b""
        while True:
            with self._db.read() as connection:
                number = self._number(connection, repository_id)
                rows = connection.execute(statement, (number, after, _PATHS_PAGE)).fetchall()
            if not rows:
                return
            yield from (row[0] for row in rows)
            # The smallest path greater than the last one.
            after = rows[-1][0] + b"\0"

    def files_in(self, directory_id: int) -> list[StoredFile]:
        with self._db.read() as connection:
            rows = connection.execute(SCAN["files_in"], (directory_id,)).fetchall()
        return [StoredFile._make(row) for row in rows]

    def unseen_directories(
        self, run: Run, after: bytes | None, limit: int
    ) -> list[StoredDirectory]:
        with self._db.write() as connection:
            number = self._number(connection, run.repository_id)
            statement = SCAN["unseen_directories"]
            if after is None:
                self._protect_below_failures(connection, number, run)
                # The root's own path is empty: nothing is before it.
                statement = statement.replace("path > :after", "path >= :after")
            rows = connection.execute(
                statement,
                {
                    "number": number,
                    "generation": run.generation,
                    "after": after or b"",
                    "limit": limit,
                },
            ).fetchall()
        return [StoredDirectory._make(row) for row in rows]

    @staticmethod
    def _protect_below_failures(connection: Connection, number: int, run: Run) -> None:
        """What lies below a failed listing was not looked at: it counts as seen."""
        failed = connection.execute(SCAN["failed_in"], (number, run.generation)).fetchall()
        for (path,) in failed:
            low, high = (path + b"/", path + b"0") if path else (b"", b"\xff" * 4096)
            connection.execute(
                SCAN["protect_below"],
                {"number": number, "generation": run.generation, "low": low, "high": high},
            )

    def live_count(self, repository_id: bytes, until_seq: int | None = None) -> int:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            if until_seq is None:
                return int(connection.execute(SCAN["live_count"], (number,)).get)
            return int(connection.execute(SCAN["live_count_until"], (number, until_seq)).get)

    def missing_count(self, repository_id: bytes) -> int:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            return int(connection.execute(SCAN["missing_count"], (number,)).get)

    def missing(self, repository_id: bytes, after: int, limit: int) -> list[MissingFile]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            rows = connection.execute(
                SCAN["missing"], {"number": number, "after": after, "limit": limit}
            ).fetchall()
        return [
            MissingFile(row[0], row[1] + b"/" + row[2] if row[1] else row[2], *row[3:])
            for row in rows
        ]

    def arrivals(self, repository_id: bytes, inode: int, since_ns: int) -> list[StoredFile]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            rows = connection.execute(
                SCAN["arrivals"], {"number": number, "inode": inode, "since_ns": since_ns}
            ).fetchall()
        return [StoredFile._make(row) for row in rows]

    # -- recording -------------------------------------------------------------------------

    def record_scan(self, run: Run, batch: ScanBatch) -> None:
        with self._db.write() as connection:
            self._record_scan(connection, run, batch)

    def _record_scan(self, connection: Connection, run: Run, batch: ScanBatch) -> None:
        Recording(
            connection,
            self._number(connection, run.repository_id),
            run,
            batch.observed_ns,
            self._policy_by_type(connection),
        ).write(batch)

    # -- settling --------------------------------------------------------------------------

    def retire_directories(self, run: Run, gone: Sequence[int], untracked: Sequence[int]) -> None:
        with self._db.write() as connection:
            seqs = Seqs(connection, self._clock.now_ns())
            for directory_id in gone:
                connection.execute(SCAN["miss_directory"], (directory_id,))
            for directory_id in untracked:
                rows = connection.execute(SCAN["untrack_directory"], (directory_id,)).fetchall()
                connection.executemany(
                    SCAN["set_tracking"],
                    ((row, Tracking.IGNORED.value, seqs.take()) for (row,) in rows),
                )
            connection.executemany(
                SCAN["directory_gone"],
                ((directory_id, run.generation) for directory_id in [*gone, *untracked]),
            )
            seqs.close()

    def settle_missing(
        self,
        run: Run,
        *,
        gone: Sequence[int] = (),
        moved: Sequence[Move] = (),
        present: Sequence[int] = (),
    ) -> None:
        now_ns = self._clock.now_ns()
        with self._db.write() as connection:
            seqs = Seqs(connection, now_ns)
            connection.executemany(SCAN["file_gone"], ((row_id, seqs.take()) for row_id in gone))
            connection.executemany(HASH["forget_provisional"], ((row_id,) for row_id in gone))
            connection.executemany(SCAN["forget_move_of_gone"], ((row_id,) for row_id in gone))
            continued = [
                move.old_row_id for move in moved if self._move(connection, run, move, seqs, now_ns)
            ]
            connection.executemany(SCAN["look_again"], ((row_id,) for row_id in present))
            settled = [*gone, *continued, *present]
            connection.executemany(SCAN["found_again"], ((row_id,) for row_id in settled))
            seqs.close()

    def _move(self, connection: Connection, run: Run, move: Move, seqs: Seqs, now_ns: int) -> bool:
        if not connection.execute(SCAN["can_move"], (move.old_row_id, move.new_row_id)).get:
            # Somebody registered one of the two by name meanwhile: both stay what they are.
            return False
        before = self._path_of(connection, move.old_row_id)
        after = self._path_of(connection, move.new_row_id)
        if not move.certain:
            connection.execute(SCAN["remember_place"], (move.old_row_id,))
        place = connection.execute(SCAN["new_place"], (move.new_row_id,)).fetchone()
        # First out, then in: one place has one live record at every moment.
        connection.execute(SCAN["delete_file"], (move.new_row_id,))
        connection.execute(SCAN["found_again"], (move.new_row_id,))
        connection.execute(
            SCAN["take_place"],
            (move.old_row_id, *place, seqs.take(), int(not move.certain)),
        )
        file_id = connection.execute(
            "SELECT file_id FROM files WHERE row_id = ?", (move.old_row_id,)
        ).get
        journal(
            connection,
            Operation(
                self._new_id(),
                file_id,
                "move",
                now_ns,
                "completed",
                run.run_id,
                now_ns,
                codes.details(before=before, after=after),
            ),
        )
        return True

    @staticmethod
    def _path_of(connection: Connection, row_id: int) -> str:
        return str(
            connection.execute(
                "SELECT relative_path FROM file_paths WHERE row_id = ?", (row_id,)
            ).get
        )
