"""What is due, and what was decided about records, on SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from lifecycle_sync.model.hold import Switch
from lifecycle_sync.model.ids import first_id
from lifecycle_sync.model.many import many
from lifecycle_sync.model.plan import Decided, KeptVersion, MarkedFile, Subject, VersionMark
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Row
from lifecycle_sync.registry.refusals import no_such_file
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite_base import ACTS, Seqs, SqliteBase

_RAW = statements("due")
DUE = {
    name: text.replace("{columns}", _RAW["subject_columns"]).replace(
        "{joins}", _RAW["subject_joins"]
    )
    for name, text in _RAW.items()
}
_NEVER = -(2**63)
# How much older than its operation an id may be: it is taken when the act begins.
_ID_MARGIN_NS = 24 * 3_600_000_000_000


class SqliteDue(SqliteBase):
    """`DueStore`."""

    def due(
        self, at_ns: int, after: tuple[int, int] | None, limit: int
    ) -> tuple[list[Subject], tuple[int, int] | None]:
        after_ns, after_row = after or (_NEVER, 0)
        page = {"after_ns": after_ns, "after_row": after_row, "at_ns": at_ns, "limit": limit}
        with self._db.read() as connection, connection:
            keys = connection.execute(DUE["due_page"], page).fetchall()
            if not keys:
                return [], None
            decided = connection.execute(DUE["decided_seq"]).get
            rows = connection.execute(DUE["due"], {**page, "decided": decided}).fetchall()
        last = keys[-1]
        return [subject(row) for row in rows], ((last[0], last[1]) if len(keys) == limit else None)

    def undecided(self, after_seq: int | None, limit: int) -> list[Subject]:
        with self._db.read() as connection, connection:
            if after_seq is None:
                after_seq = int(connection.execute(DUE["decided_seq"]).get)
            rows = connection.execute(
                DUE["undecided"], {"after": after_seq, "limit": limit}
            ).fetchall()
        return [subject(row) for row in rows]

    def subjects(self, file_ids: Iterable[bytes]) -> dict[bytes, Subject]:
        ids = json.dumps([file_id.hex() for file_id in file_ids])
        with self._db.read() as connection:
            rows = connection.execute(DUE["subjects"], {"ids": ids}).fetchall()
        return {row[2]: subject(row) for row in rows}

    def write_decided(
        self, decided: Sequence[Decided], seq: int | None, marks: Sequence[VersionMark] = ()
    ) -> None:
        with self._db.write() as connection:
            connection.executemany(DUE["write_decided"], decided)
            connection.executemany(DUE["mark_version"], marks)
            if seq is not None:
                connection.execute(DUE["set_decided"], (seq,))

    def deleted_since(self, repository_id: bytes, since_ns: int) -> int:
        with self._db.read() as connection:
            return int(
                connection.execute(
                    DUE["deleted_since"],
                    {
                        "since_id": first_id(since_ns - _ID_MARGIN_NS),
                        "since_ns": since_ns,
                        "repository_id": repository_id,
                    },
                ).get
            )

    # -- versions --------------------------------------------------------------------------

    def kept_versions(self, file_ids: Iterable[bytes]) -> dict[bytes, list[KeptVersion]]:
        ids = json.dumps([file_id.hex() for file_id in file_ids])
        with self._db.read() as connection:
            rows = connection.execute(DUE["kept_versions"], {"ids": ids}).fetchall()
        found: dict[bytes, list[KeptVersion]] = {}
        for row in rows:
            version = KeptVersion._make(row[1:])
            of = found.get(row[0])
            if of is None:
                found[row[0]] = [version]
            else:
                of.append(version)
        return found

    def count_versions(self, file_ids: Iterable[bytes]) -> int:
        ids = json.dumps([file_id.hex() for file_id in file_ids])
        with self._db.read() as connection:
            return int(connection.execute(DUE["count_versions"], {"ids": ids}).get)

    def files_with_versions_beyond(self, after: bytes | None, limit: int) -> list[bytes]:
        with self._db.read() as connection:
            rows = connection.execute(DUE["files_with_versions_beyond"], (after or b"", limit))
            return [file_id for (file_id,) in rows]

    def marked_files(
        self, after: bytes | None, limit: int
    ) -> tuple[list[MarkedFile], bytes | None]:
        page = {"after": after or b"", "limit": limit}
        with self._db.read() as connection, connection:
            last = connection.execute(DUE["last_marked"], page).get
            if last is None:
                return [], None
            rows = connection.execute(
                DUE["marked_files"], {"after": after or b"", "last": last}
            ).fetchall()
            roots = dict(connection.execute("SELECT number, repository_id FROM repositories"))
            policies = dict(connection.execute("SELECT number, name FROM policies"))
        types, chosen = codes.FILE_TYPES, codes.POLICY_SET
        found = [
            (*told, roots[root], types[file_type], policies[policy] if flags & chosen else None)
            for *told, root, file_type, flags, policy in rows
        ]
        return list(many(MarkedFile, found)), last

    # -- downloads -------------------------------------------------------------------------

    def note_download(self, file_id: bytes, at_ns: int, now_ns: int) -> None:
        with self._db.write(durable=True) as connection:
            row = connection.execute(DUE["row_and_seq"], (file_id,)).fetchone()
            if row is None:
                raise no_such_file(file_id)
            connection.execute(DUE["note_download"], (file_id, at_ns))
            if not connection.changes():
                return
            seqs = Seqs(connection, now_ns)
            seq = seqs.take()
            connection.execute(DUE["change_seq"], (row[0], seq))
            # It says nothing about where and what the file is.
            connection.execute(ACTS["still_replayed"], (*row, seq))
            seqs.close()

    # -- switches --------------------------------------------------------------------------

    def switch(self, name: str) -> Switch | None:
        with self._db.read() as connection:
            row = connection.execute(DUE["switch"], (name,)).fetchone()
        return None if row is None else Switch(*row)

    def set_switch(self, switch: Switch) -> None:
        with self._db.write(durable=True) as connection:
            connection.execute(DUE["set_switch"], switch)

    def clear_switch(self, name: str) -> bool:
        with self._db.write(durable=True) as connection:
            connection.execute(DUE["clear_switch"], (name,))
            return bool(connection.changes())


def subject(row: Row) -> Subject:
    """The order of `subject_columns` in sql/due.sql."""
    (
        row_id, seq, file_id, repository_id, root, directory, name, kind, file_type, size, mtime_ns,
        ctime_ns, inode, atime_ns, uid, registered_ns, state, flags, tracking, missing, checksum,
        hash_due, policy, version_ns, archived, expiry_ns, next_ns, downloaded_ns,
    ) = row  # fmt: skip
    # By their places: this is made for each file that is judged.
    return Subject(
        row_id,
        seq,
        file_id,
        repository_id,
        root,
        directory + b"/" + name if directory else name,
        codes.KINDS[kind],
        codes.FILE_TYPES[file_type],
        size,
        mtime_ns,
        ctime_ns,
        inode,
        atime_ns,
        uid,
        registered_ns or 0,
        codes.STATES[state],
        flags & codes.PUBLIC_FLAGS,
        tracking,
        bool(missing),
        checksum,
        bool(hash_due),
        policy if flags & codes.POLICY_SET else None,
        version_ns,
        bool(archived),
        policy,
        expiry_ns,
        next_ns,
        downloaded_ns,
    )
