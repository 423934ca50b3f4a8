"""Single records, the journal and the policies on SQLite."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import apsw

from lifecycle_sync.errors import NotFoundError, TransitionError, UsageError
from lifecycle_sync.model.file import FileRecord, LifecycleState, Tracking, may_become
from lifecycle_sync.model.ids import first_id, to_text
from lifecycle_sync.model.operation import Operation, Run
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.record import HashResult, ScanBatch
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.sqlite_base import ACTS, FILES, HASH, SCAN, Seqs, journal
from lifecycle_sync.registry.sqlite_hashes import SqliteHashes

_RECORD = f"{FILES['record_columns']} {FILES['record_from_files']}"


# How much older than its operation an id may be: it is taken when the act begins.
_ID_MARGIN_NS = 24 * 3_600_000_000_000
_WITHOUT_FILE = {LifecycleState.ARCHIVED, LifecycleState.DELETED}


class SqliteFiles(SqliteHashes):
    """`FileStore` and `Journal`."""

    def file(self, file_id: bytes) -> FileRecord | None:
        with self._db.read() as connection:
            return self._one(connection, "WHERE f.file_id = ?", (file_id,))

    def file_at(self, repository_id: bytes, path: bytes) -> FileRecord | None:
        with self._db.read() as connection:
            number = self._number_or_none(connection, repository_id)
            if number is None:
                return None
            return self._at(connection, number, path)

    def _at(self, connection: Connection, number: int, path: bytes) -> FileRecord | None:
        directory, _, name = path.rpartition(b"/")
        row = connection.execute(SCAN["directory"], (number, directory)).fetchone()
        if row is None:
            return None
        place = (row[0], name)
        live = self._one(
            connection, "WHERE f.directory_id = ? AND f.name = ? AND f.state <> 6", place
        )
        if live is not None:
            return live
        # No index holds the places of the deleted: a rare question, bounded by those states.
        return self._one(
            connection,
            "WHERE +f.directory_id = ? AND f.name = ? AND f.state = 6 AND f.repository = ?"
            " ORDER BY f.seq DESC LIMIT 1",
            (*place, number),
        )

    @staticmethod
    def _one(connection: Connection, where: str, bindings: Any) -> FileRecord | None:
        row = connection.execute(f"{_RECORD} {where}", bindings).fetchone()
        return None if row is None else codes.file_record(row)

    def register(
        self,
        run: Run,
        batch: ScanBatch,
        path: bytes,
        policy_name: str | None,
        *,
        hashed: HashResult | None = None,
        algorithm: str = "sha256",
    ) -> FileRecord:
        now_ns = self._clock.now_ns()
        with self._db.write(durable=True) as connection:
            number = self._number(connection, run.repository_id)
            policy = None
            if policy_name is not None:
                policy = connection.execute(
                    "SELECT number FROM policies WHERE name = ?", (policy_name,)
                ).get
                if policy is None:
                    raise NotFoundError(
                        "no such policy",
                        operation="register file",
                        subject=policy_name,
                        remedy="`lifecycle sql 'SELECT name FROM lifecycle_policies'` lists them",
                    )
            self._record_scan(connection, run, batch)
            record = self._at(connection, number, path)
            if record is None or record.state is LifecycleState.DELETED:
                raise NotFoundError("is not there", operation="register file", subject=path)
            row_id = self._row(connection, record.file_id, "register file")[0]
            connection.execute(SCAN["found_again"], (row_id,))
            seqs = Seqs(connection, now_ns)
            connection.execute(
                FILES["register"],
                (row_id, codes.POLICY_SET if policy else 0, policy, seqs.take()),
            )
            if policy_name is not None:
                connection.execute(ACTS["choose"], (record.file_id, policy_name, now_ns))
            seqs.close()
            if hashed is not None:
                found = hashed._replace(row_id=row_id)
                self._record_hashes(connection, algorithm, [found], now_ns)
            journal(
                connection,
                Operation(
                    self._new_id(),
                    record.file_id,
                    "register",
                    now_ns,
                    "completed",
                    run.run_id or None,
                    now_ns,
                    codes.details(policy=policy_name) if policy_name else None,
                ),
            )
            registered = self._one(connection, "WHERE f.row_id = ?", (row_id,))
        assert registered is not None, "the row was updated in this transaction"
        return registered

    def unregister(self, file_id: bytes, now_ns: int) -> None:
        with self._db.write(durable=True) as connection:
            row_id, _state, _flags, tracking = self._row(connection, file_id, "unregister file")
            if tracking == Tracking.UNREGISTERED.value:
                return
            seqs = Seqs(connection, now_ns)
            connection.execute(
                SCAN["set_tracking"], (row_id, Tracking.UNREGISTERED.value, seqs.take())
            )
            connection.execute(SCAN["found_again"], (row_id,))
            seqs.close()
            journal(
                connection,
                Operation(
                    self._new_id(), file_id, "unregister", now_ns, "completed", None, now_ns, None
                ),
            )

    def set_state(
        self,
        file_id: bytes,
        state: LifecycleState,
        now_ns: int,
        *,
        set_flags: int = 0,
        clear_flags: int = 0,
    ) -> FileRecord:
        with self._db.write(durable=True) as connection:
            row_id, code, flags, _tracking = self._row(connection, file_id, "change state")
            old = codes.STATES[code]
            if not may_become(old, state):
                raise TransitionError(
                    f"a file that is {old.value} cannot become {state.value}",
                    operation="change state",
                    subject=to_text(file_id),
                )
            seqs = Seqs(connection, now_ns)
            values = (
                row_id,
                codes.STATE_CODE[state],
                flags & ~clear_flags | set_flags,
                seqs.take(),
            )
            try:
                connection.execute(FILES["set_state"], values)
            except apsw.ConstraintError as error:
                raise UsageError(
                    "another file is at its place now",
                    operation="change state",
                    subject=to_text(file_id),
                    remedy="restore it to another place",
                ) from error
            if state is LifecycleState.DELETED:
                connection.execute(SCAN["found_again"], (row_id,))
            if state in _WITHOUT_FILE:
                connection.execute(HASH["forget_provisional"], (row_id,))
            if (state in _WITHOUT_FILE) is not (old in _WITHOUT_FILE):
                connection.execute(FILES["due_with_file"], (row_id, state not in _WITHOUT_FILE))
            if state is not old and (state in _WITHOUT_FILE or old in _WITHOUT_FILE):
                # Whether a file is there is not for a state to say: the next scan looks.
                connection.execute(SCAN["look_again"], (row_id,))
            seqs.close()
            record = self._one(connection, "WHERE f.row_id = ?", (row_id,))
        assert record is not None, "the row was updated in this transaction"
        return record

    @staticmethod
    def _row(connection: Connection, file_id: bytes, operation: str) -> tuple[int, int, int, int]:
        row = connection.execute(FILES["row_of_id"], (file_id,)).fetchone()
        if row is None:
            raise NotFoundError(
                "no such file",
                operation=operation,
                subject=to_text(file_id),
                remedy="`lifecycle find` shows ids with --json",
            )
        row_id, state, flags, tracking = row
        return row_id, state, flags, tracking

    # -- journal and policies --------------------------------------------------------------

    def add_operations(self, operations: Sequence[Operation]) -> None:
        with self._db.write(durable=True) as connection:
            for operation in operations:
                journal(connection, operation)

    def operations(self, file_id: bytes, limit: int) -> list[Operation]:
        with self._db.read() as connection:
            rows = connection.execute(FILES["operations"], (file_id, limit)).fetchall()
        return [Operation(*row) for row in rows]

    def operation_count(self, since_ns: int) -> int:
        with self._db.read() as connection:
            bounds = (first_id(since_ns - _ID_MARGIN_NS), since_ns)
            return int(connection.execute(FILES["operation_count"], bounds).get)

    def journal(
        self, after: bytes | None, limit: int, *, types: Collection[str] = ()
    ) -> list[Operation]:
        with self._db.read() as connection:
            rows = connection.execute(
                FILES["journal"], (after or b"", json.dumps(sorted(types)), limit)
            ).fetchall()
        return [Operation(*row) for row in rows]

    def policies(self) -> list[LifecyclePolicy]:
        with self._db.read() as connection:
            rows = connection.execute(FILES["policies"]).fetchall()
        return [codes.policy(row) for row in rows]

    @staticmethod
    def _insert_policy(connection: Connection, policy: LifecyclePolicy) -> None:
        connection.execute(FILES["insert_policy"], codes.policy_values(policy))
