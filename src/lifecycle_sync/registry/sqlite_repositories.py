"""Repositories and runs on SQLite."""

from __future__ import annotations

import apsw

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.operation import Run, RunStatus, RunType
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.sqlite_base import REPOSITORIES, Bindings, SqliteBase
from lifecycle_sync.registry.sqlite_conflicts import CONFLICTS
from lifecycle_sync.registry.sqlite_loose import TakingOver

_REMOVAL_BATCH = 5_000


class SqliteRepositories(SqliteBase):
    """`RepositoryStore`, and the runs of `ScanStore`."""

    @property
    def registry_id(self) -> bytes:
        with self._db.read() as connection:
            return bytes(connection.execute("SELECT registry_id FROM registry").get)

    def set_registry_id(self, registry_id: bytes) -> None:
        """Continue another registry's identity; for rebuilding from markers."""
        with self._db.write(durable=True) as connection:
            connection.execute("UPDATE registry SET registry_id = ?", (registry_id,))

    def add_repository(self, repository: Repository) -> None:
        with self._db.write(durable=True) as connection:
            values = codes.repository_values(repository) | {
                "generation": repository.generation,
                "complete_generation": repository.complete_generation,
                "now": self._clock.now_ns(),
            }
            self._write_row(connection, "insert_repository", repository, values)

    def update_repository(self, repository: Repository) -> None:
        with self._db.write(durable=True) as connection:
            self._number(connection, repository.repository_id)
            values = codes.repository_values(repository) | {"now": self._clock.now_ns()}
            self._write_row(connection, "update_repository", repository, values)

    def _write_row(
        self, connection: Connection, statement: str, repository: Repository, values: Bindings
    ) -> None:
        """Insert or update a repository, and let a root take over what loose ones have in it."""
        taking = TakingOver(connection, repository)
        taking.make_room()
        try:
            connection.execute(REPOSITORIES[statement], values)
        except apsw.ConstraintError as error:
            raise UsageError(
                "is registered already",
                operation="add root",
                subject=repository.path,
                remedy="`lifecycle status` lists the roots",
            ) from error
        taking.take(self._number(connection, repository.repository_id), self._clock.now_ns())

    def remove_repository(self, repository_id: bytes) -> None:
        # In batches: a million rows in one transaction would hold all writers for seconds. The
        # row of the repository goes last, so that a removal that was cut short can be repeated.
        while True:
            with self._db.write(durable=True) as connection:
                number = self._number_or_none(connection, repository_id)
                if number is None:
                    return
                connection.execute(
                    "DELETE FROM files WHERE row_id IN"
                    " (SELECT row_id FROM files WHERE repository = ? LIMIT ?)",
                    (number, _REMOVAL_BATCH),
                )
                if connection.changes():
                    continue
                connection.execute("DELETE FROM missing WHERE repository = ?", (number,))
                connection.execute(
                    "DELETE FROM provisional_moves WHERE row_id NOT IN (SELECT row_id FROM files)"
                )
                connection.execute(CONFLICTS["forget_dangling"])
                connection.execute("DELETE FROM directories WHERE repository = ?", (number,))
                connection.execute("DELETE FROM runs WHERE repository = ?", (number,))
                connection.execute("DELETE FROM watching WHERE repository = ?", (number,))
                connection.execute("DELETE FROM scrubs WHERE repository = ?", (number,))
                connection.execute("DELETE FROM repositories WHERE number = ?", (number,))
                return

    def repositories(self) -> list[Repository]:
        with self._db.read() as connection:
            rows = connection.execute(REPOSITORIES["repositories"]).fetchall()
        return [codes.repository(row) for row in rows]

    def repository(self, repository_id: bytes) -> Repository | None:
        return next((r for r in self.repositories() if r.repository_id == repository_id), None)

    def begin_run(
        self, repository_id: bytes, run_type: RunType, started_ns: int, *, whole: bool
    ) -> Run:
        with self._db.write() as connection:
            number = self._number(connection, repository_id)
            connection.execute(
                REPOSITORIES["interrupt_runs"], {"number": number, "now": started_ns}
            )
            if whole:
                generation = connection.execute(
                    REPOSITORIES["next_generation"], {"number": number}
                ).get
            else:
                generation = connection.execute(
                    "SELECT generation FROM repositories WHERE number = ?", (number,)
                ).get
            first_seq = connection.execute("SELECT coalesce(max(last_seq), 0) FROM commits").get
            run_id = connection.execute(
                REPOSITORIES["insert_run"],
                {
                    "number": number,
                    "run_type": run_type.value,
                    "generation": generation,
                    "first_seq": first_seq,
                    "whole": int(whole),
                    "started_ns": started_ns,
                },
            ).get
        return Run(run_id, repository_id, run_type, started_ns, generation, first_seq, whole)

    def end_run(self, run: Run) -> None:
        with self._db.write() as connection:
            connection.execute(
                REPOSITORIES["end_run"],
                {
                    "run_id": run.run_id,
                    "ended_ns": run.ended_ns,
                    "status": run.status.value,
                    "files_scanned": run.files_scanned,
                    "files_added": run.files_added,
                    "files_updated": run.files_updated,
                    "files_removed": run.files_removed,
                    "error_message": run.error_message,
                },
            )
            if run.whole and run.status is RunStatus.COMPLETED:
                connection.execute(
                    REPOSITORIES["complete_generation"],
                    {
                        "number": self._number(connection, run.repository_id),
                        "generation": run.generation,
                    },
                )

    def runs(self, repository_id: bytes | None, limit: int, *, whole: bool = False) -> list[Run]:
        with self._db.read() as connection:
            number = None
            if repository_id is not None:
                number = self._number_or_none(connection, repository_id)
                if number is None:
                    return []
            rows = connection.execute(
                REPOSITORIES["runs"], {"number": number, "limit": limit, "whole": int(whole)}
            ).fetchall()
        return [codes.run(row) for row in rows]
