"""The journal of acts on SQLite: their runs, intents and outcomes, and what they may work on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from operator import itemgetter

from lifecycle_sync.bulk_rows import LONG_ROWS, in_bulk
from lifecycle_sync.model.act import ActFile, ActOutcome, Intent, VersionRow
from lifecycle_sync.model.file import FileType, Kind, LifecycleState
from lifecycle_sync.model.many import many
from lifecycle_sync.model.operation import ActRun, Operation
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection, Row
from lifecycle_sync.registry.refusals import NO_SUCH_FILE, PENDING
from lifecycle_sync.registry.sqlite_base import ACTS, SqliteBase
from lifecycle_sync.registry.sqlite_finishing import Finishing

_BEGIN = ACTS["begin_operations"].replace("{held}", ACTS["held"])
_WHY_REFUSED = ACTS["why_refused"].replace("{held}", ACTS["held"])
_HELD_OF = ACTS["held_of"].replace("{held}", ACTS["held"])
_COLUMNS, _JOINS = ACTS["act_file_columns"], ACTS["act_file_joins"]
_UNDER = f"{_COLUMNS} {ACTS['files_under'].replace('{joins}', _JOINS)}"
_FILE_UNDER = f"{_COLUMNS} {ACTS['file_under'].replace('{joins}', _JOINS)}"
_BY_ID = f"{_COLUMNS} {ACTS['act_files'].replace('{joins}', _JOINS)}"


def _to_back_up() -> str:
    """The ranges of the index files_state that are to be backed up, merged: each is in the order of
    row_id, so a page costs what is on it."""
    parts = [
        ACTS["to_back_up_part"].format(
            state=codes.STATE_CODE[state], file_type=codes.TYPE_CODE[file_type]
        )
        for state in (LifecycleState.UPLOADED, LifecycleState.BACKUP_PENDING)
        for file_type in FileType
    ]
    chosen = "\nUNION ALL\n".join(parts)
    return (
        f"{_COLUMNS} FROM ({chosen} ORDER BY 1 LIMIT :limit) c"
        " CROSS JOIN files f ON f.row_id = c.row_id"
        f" CROSS JOIN directories d ON d.directory_id = f.directory_id {_JOINS}"
    )


_TO_BACK_UP = _to_back_up()
_KINDS = {int(kind): kind for kind in Kind}


_VERSIONS_DROPPED = 5_000


class SqliteActs(SqliteBase):
    """`ActStore`."""

    # -- runs ------------------------------------------------------------------------------

    def begin_act(self, repository_id: bytes, verb: str, now_ns: int) -> ActRun:
        # Acts come after scans, and have a connection of their own.
        self._db.give_back_bulk()
        with self._db.write(durable=True) as connection:
            self._number(connection, repository_id)
            act_id = connection.execute(ACTS["insert_act"], (repository_id, verb, now_ns)).get
        return ActRun(act_id, repository_id, verb, now_ns)

    def end_act(self, act: ActRun, now_ns: int, status: str, counts: str | None = None) -> None:
        with self._db.write(durable=True) as connection:
            connection.execute(ACTS["end_act"], (act.act_id, status, now_ns, counts))

    def acts(self, repository_id: bytes | None, limit: int) -> list[ActRun]:
        with self._db.read() as connection:
            rows = connection.execute(
                ACTS["acts"], {"repository_id": repository_id, "limit": limit}
            ).fetchall()
        return [ActRun(*row) for row in rows]

    def act(self, act_id: int) -> ActRun | None:
        with self._db.read() as connection:
            row = connection.execute(ACTS["act"], (act_id,)).fetchone()
        return None if row is None else ActRun(*row)

    # -- intents and outcomes --------------------------------------------------------------

    def begin_operations(
        self, act: ActRun, intents: Sequence[Intent], now_ns: int, *, unless_held: bool
    ) -> dict[bytes, str]:
        values = list(chain.from_iterable(intents))
        with self._db.write(durable=True, in_parts=True) as connection:
            number = self._number(connection, act.repository_id)
            before = connection.total_changes()
            first = (now_ns, act.act_id, number, int(unless_held))
            in_bulk(connection, _BEGIN, values, 4, first=first, rows=LONG_ROWS)
            if connection.total_changes() - before == len(intents):
                return {}
            ids = [intent.operation_id for intent in intents]
            begun = set(in_bulk(connection, ACTS["begun"], ids, 1, first=(act.act_id,)))
            return {
                intent.operation_id: self._why_refused(
                    connection, intent.file_id, number, now_ns, unless_held=unless_held
                )
                for intent in intents
                if (intent.operation_id,) not in begun
            }

    @staticmethod
    def _why_refused(
        connection: Connection, file_id: bytes, number: int, now_ns: int, *, unless_held: bool
    ) -> str:
        row = connection.execute(_WHY_REFUSED, (now_ns, file_id, number)).fetchone()
        if row is None:
            return NO_SUCH_FILE
        if row[0] is not None and unless_held:
            return f"held: {row[0]}"
        return PENDING

    def finish_operations(
        self,
        act: ActRun,
        outcomes: Sequence[ActOutcome],
        now_ns: int,
        *,
        manifests: Sequence[tuple[bytes, str]] = (),
    ) -> dict[bytes, str]:
        with self._db.write(durable=True, in_parts=True) as connection:
            refused = Finishing(connection, now_ns, self._policy_by_type).write(outcomes)
            apply_manifests(connection, manifests, now_ns)
            return refused

    def complete_operations(
        self, act: ActRun, now_ns: int, *, manifests: Sequence[tuple[bytes, str]] = ()
    ) -> int:
        with self._db.write(durable=True) as connection:
            connection.execute(ACTS["complete_operations"], (act.act_id, now_ns))
            count = int(connection.changes())
            apply_manifests(connection, manifests, now_ns)
            return count

    def pending_operations(self, repository_id: bytes | None) -> list[Operation]:
        with self._db.read() as connection:
            rows = connection.execute(
                ACTS["pending_operations"], {"repository_id": repository_id}
            ).fetchall()
        return [Operation(*row) for row in rows]

    # -- what acts work on -----------------------------------------------------------------

    def to_back_up(self, repository_id: bytes, after: int, limit: int) -> list[ActFile]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            rows = connection.execute(
                _TO_BACK_UP, {"number": number, "after": after, "limit": limit}
            ).fetchall()
        # They come in this order, which SQL does not promise.
        rows.sort(key=itemgetter(0))
        return _act_files(rows)

    def files_under(
        self, repository_id: bytes, path: bytes, after: bytes | None, limit: int
    ) -> list[ActFile]:
        folder, _, name = path.rpartition(b"/")
        after_folder, _, after_name = (after or b"").rpartition(b"/")
        rows: list[Row] = []
        with self._db.read() as connection, connection:
            number = self._number(connection, repository_id)
            if path and after is None:
                rows += connection.execute(
                    _FILE_UNDER, {"number": number, "directory": folder, "name": name}
                ).fetchall()
            ranges = [(path, path + b"\0"), (path + b"/", path + b"0")]
            for low, high in ranges if path else [(b"", b"\xff" * 4096)]:
                bindings = {
                    "number": number,
                    "low": low,
                    "high": high,
                    "after_directory": after_folder,
                    "after_name": after_name,
                    "limit": limit - len(rows),
                }
                if after is not None:
                    bindings["low"] = max(low, after_folder)
                if len(rows) < limit:
                    rows += connection.execute(_UNDER, bindings).fetchall()
        return _act_files(rows)

    def act_files(self, file_ids: Iterable[bytes]) -> dict[bytes, ActFile]:
        with self._db.read() as connection:
            rows = connection.execute(_BY_ID, {"ids": _json(file_ids)}).fetchall()
        return {file.file_id: file for file in _act_files(rows)}

    def held(self, file_ids: Collection[bytes], now_ns: int) -> dict[bytes, str]:
        with self._db.read() as connection:
            if not connection.execute(ACTS["any_hold"], (now_ns,)).get:
                return {}
            return dict(connection.execute(_HELD_OF, (now_ns, _json(file_ids))).fetchall())

    # -- versions and manifests ------------------------------------------------------------

    def versions(self, file_id: bytes) -> list[VersionRow]:
        with self._db.read() as connection:
            rows = connection.execute(ACTS["versions"], (file_id,)).fetchall()
        return [VersionRow._make((*row[:2], codes.ALGORITHMS[row[2]], *row[3:])) for row in rows]

    def versions_in(
        self, store_id: bytes, after: tuple[bytes, int, bytes] | None, limit: int
    ) -> list[tuple[bytes, VersionRow]]:
        begin = (b"", 0, b"") if after is None else after
        with self._db.read() as connection:
            rows = connection.execute(
                ACTS["versions_in"], (*begin, store_id.hex(), limit)
            ).fetchall()
        return [
            (row[0], VersionRow._make((*row[1:3], codes.ALGORITHMS[row[3]], *row[4:])))
            for row in rows
        ]

    def applied_manifests(self, store_id: bytes) -> set[str]:
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT name FROM manifests_applied WHERE store_id = ?", (store_id,)
            ).fetchall()
        return {name for (name,) in rows}

    def drop_versions(self, versions: Sequence[tuple[bytes, bytes]], at_ns: int) -> int:
        count = 0
        for start in range(0, len(versions), _VERSIONS_DROPPED):
            some = versions[start : start + _VERSIONS_DROPPED]
            with self._db.write(durable=True) as connection:
                before = connection.total_changes()
                values = list(chain.from_iterable(some))
                in_bulk(
                    connection, ACTS["drop_versions"], values, 2, first=(at_ns,), rows=LONG_ROWS
                )
                count += connection.total_changes() - before
        return count

    def add_applied(self, store_id: bytes, names: Sequence[str], now_ns: int) -> None:
        with self._db.write(durable=True) as connection:
            apply_manifests(connection, [(store_id, name) for name in names], now_ns)

    def store(self, kind: str) -> bytes | None:
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT store_id FROM stores WHERE kind = ?", (kind,)
            ).fetchone()
        return None if row is None else row[0]

    def set_store(self, kind: str, store_id: bytes | None) -> None:
        with self._db.write(durable=True) as connection:
            if store_id is None:
                connection.execute("DELETE FROM stores WHERE kind = ?", (kind,))
            else:
                connection.execute("INSERT OR REPLACE INTO stores VALUES (?, ?)", (kind, store_id))


def apply_manifests(
    connection: Connection, manifests: Sequence[tuple[bytes, str]], now_ns: int
) -> None:
    """Note that manifests (vault, name) are in the registry."""
    connection.executemany(
        ACTS["apply_manifest"], ((store_id, name, now_ns) for store_id, name in manifests)
    )


def _json(file_ids: Iterable[bytes]) -> str:
    return json.dumps([file_id.hex() for file_id in file_ids])


def _act_files(rows: Sequence[Row]) -> list[ActFile]:
    """Of rows in the order of `act_file_columns` in sql/acts.sql. Column by column: a backup is
    made of these."""
    if not rows:
        return []
    (
        row_ids,
        file_ids,
        folders,
        names,
        kinds,
        sizes,
        mtimes,
        ctimes,
        inodes,
        states,
        flags,
        algorithms,
        checksums,
        due,
        policies,
        numbers,
        last_algorithms,
        last_checksums,
    ) = zip(*rows, strict=True)
    columns = (
        row_ids,
        file_ids,
        [b"%b/%b" % it if it[0] else it[1] for it in zip(folders, names, strict=True)],
        map(_KINDS.__getitem__, kinds),
        sizes,
        mtimes,
        ctimes,
        inodes,
        map(codes.STATES.__getitem__, states),
        [it & codes.PUBLIC_FLAGS for it in flags],
        map(codes.ALGORITHMS.__getitem__, algorithms),
        checksums,
        map(bool, due),
        policies,
        [bool(it & codes.POLICY_SET) for it in flags],
        numbers,
        map(codes.ALGORITHMS.__getitem__, last_algorithms),
        last_checksums,
    )
    return list(many(ActFile, zip(*columns, strict=True)))
