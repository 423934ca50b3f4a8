"""Which files are to be hashed, and what came of it, on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.record import OUTDATED, HashCounts, HashResult, HashTask
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection, Row
from lifecycle_sync.registry.sqlite_base import HASH, SCAN, Seqs, journal
from lifecycle_sync.registry.sqlite_scans import SqliteScans

_PROCESSING = codes.STATE_CODE[LifecycleState.PROCESSING]
_UPLOADED = codes.UPLOADED
_RACY, _UNSTABLE, _SUSPECT, _UNREADABLE, _CLAIMED = (
    FileFlag.RACY.value,
    FileFlag.UNSTABLE.value,
    FileFlag.SUSPECT.value,
    FileFlag.UNREADABLE.value,
    FileFlag.CLAIMED.value,
)


class HashRecording:
    """Writes results of the hasher, within one transaction; see `HashStore.record_hashes`."""

    def __init__(
        self,
        connection: Connection,
        algorithm: str,
        now_ns: int,
        *,
        new_id: Callable[[], bytes],
        policy_of_type: Callable[[Connection], dict[int, int]],
    ) -> None:
        self._connection = connection
        self._algorithm = codes.ALGORITHM_CODE[algorithm]
        self._now_ns = now_ns
        self._new_id = new_id
        self._policy_of_type = policy_of_type
        self._seqs = Seqs(connection, now_ns)
        self._counts = HashCounts()

    def write(self, results: Sequence[HashResult]) -> HashCounts:
        """Apply all results; the caller commits."""
        first = [result for result in results if result.status == "ok" and not result.racy]
        missed = self._store_first(first)
        self._counts.hashed = len(first) - len(missed)
        others = [result for result in results if result.status != "ok" or result.racy]
        for result in chain(missed, others):
            known = self._connection.execute(HASH["known"], (result.row_id,)).fetchone()
            if known is None:
                # The record went while its file was being read.
                continue
            if result.status == "ok":
                # Otherwise it was read before a scan saw that something else took its place.
                if known[-1] == codes.REGULAR:
                    self._store(result, known)
            elif result.status == "unstable":
                self._flag(result, known, _UNSTABLE)
                self._counts.unstable += 1
            elif result.status == "unreadable":
                self._flag(result, known, _UNREADABLE)
                self._counts.failed += 1
            # "vanished" and "not_regular" are the next scan's to record.
        self._seqs.close()
        return self._counts

    def _store_first(self, results: Sequence[HashResult]) -> Sequence[HashResult]:
        """Store those that are the first of their files; the others."""
        if not results:
            return ()
        seqs = self._seqs.take_many(len(results))
        before = self._connection.total_changes()
        self._connection.executemany(
            HASH["first_hash"],
            (
                (*result[0:1], *result[2:7], self._algorithm, seq)
                for result, seq in zip(results, seqs, strict=True)
            ),
        )
        if self._connection.total_changes() - before == len(results):
            return ()
        return [
            result
            for result, seq in zip(results, seqs, strict=True)
            if self._connection.execute(HASH["seq"], (result.row_id,)).get != seq
        ]

    def _store(self, result: HashResult, known: Row) -> None:
        *tuple_, checksum, hash_due, old_flags, old_state, old_version, old_algorithm, _ = known
        flags, state, version = old_flags, old_state, old_version
        observed = [result.size, result.mtime_ns, result.ctime_ns, result.inode]
        digest = result.digest
        comparable = checksum is not None and old_algorithm == self._algorithm
        differs = comparable and digest != checksum
        if differs and not hash_due and observed == tuple_ and not flags & _RACY:
            # Nobody wrote it, as far as the filesystem knows: not a change but damage.
            if not flags & _SUSPECT:
                self._suspect(result, flags, state)
            self._counts.suspect += 1
            return
        if observed != tuple_:
            # Whichever of the two looks came last, the next scan compares the file again.
            self._connection.execute(SCAN["look_again"], (result.row_id,))
            flags |= OUTDATED
        flags &= ~(_UNSTABLE | _UNREADABLE | _RACY)
        if result.racy:
            flags |= _RACY
        if differs:
            flags &= ~_SUSPECT
            version += 1
            self._counts.changed += 1
        if not flags & _CLAIMED and (differs or state == _PROCESSING):
            state = _UPLOADED
        new_due = int(result.racy)
        self._counts.hashed += 1
        if not hash_due and not differs and comparable and observed == tuple_ and not new_due:
            if flags != old_flags or state != old_state:
                self._connection.execute(
                    HASH["flag"], (result.row_id, flags, self._seqs.take(), state)
                )
            return
        if self._settle_move(result, differs, flags & OUTDATED):
            return
        self._connection.execute(
            HASH["store"],
            (
                result.row_id,
                *observed,
                digest,
                self._algorithm,
                new_due,
                flags,
                self._seqs.take(),
                state,
                version,
            ),
        )

    def _flag(self, result: HashResult, known: Row, flag: int) -> None:
        flags, state = known[6], known[7]
        new_state = state
        if flag == _UNSTABLE and state == _UPLOADED:
            new_state = _PROCESSING
        if flags & flag and new_state == state:
            return
        self._connection.execute(
            HASH["flag"], (result.row_id, flags | flag, self._seqs.take(), new_state)
        )

    def _suspect(self, result: HashResult, flags: int, state: int) -> None:
        self._connection.execute(
            HASH["flag"], (result.row_id, flags | _SUSPECT, self._seqs.take(), state)
        )
        file_id = self._connection.execute(
            "SELECT file_id FROM files WHERE row_id = ?", (result.row_id,)
        ).get
        found = (result.digest or b"").hex()
        journal(
            self._connection,
            Operation(
                self._new_id(),
                file_id,
                "scrub",
                self._now_ns,
                "failed",
                None,
                self._now_ns,
                codes.details(reason="content changed, its tuple did not", found=found),
            ),
        )

    def _settle_move(self, result: HashResult, differs: bool, outdated: int) -> bool:
        """Close a provisional move; True when the record was split in two, and is done with."""
        place = self._connection.execute(HASH["provisional"], (result.row_id,)).fetchone()
        if place is None:
            return False
        self._connection.execute(HASH["forget_provisional"], (result.row_id,))
        written_since = place[3:5] != (result.size, result.mtime_ns)
        if not differs or written_since:
            # The content that moved is gone when it was written after its move: nothing disagrees.
            return False
        here = self._connection.execute(HASH["place"], (result.row_id,)).fetchone()
        repository, directory_id, name, text, kind, file_type, attribute, nlink, atime, btime = here
        policies = self._policy_of_type(self._connection)
        # Its name there is the other one, and what goes by the name with it.
        old_type = codes.type_codes([place[1]])[0]
        self._connection.execute(
            HASH["go_back"],
            (result.row_id, *place, self._seqs.take(), old_type, policies[old_type]),
        )
        policy = policies[file_type]
        new_id = self._new_id()
        self._connection.execute(
            SCAN["insert_file"],
            {
                "file_id": new_id,
                "repository": repository,
                "directory_id": directory_id,
                "name": name,
                "name_text": text,
                "kind": kind,
                "file_type": file_type,
                "size": result.size,
                "mtime_ns": result.mtime_ns,
                "ctime_ns": result.ctime_ns,
                "inode": result.inode,
                "attribute_id": attribute,
                "nlink": nlink,
                "atime_ns": atime,
                "btime_ns": btime,
                "seq": self._seqs.take(),
                "flags": (_RACY if result.racy else 0) | outdated,
                "policy": policy,
            },
        )
        self._connection.execute(
            "UPDATE files SET checksum = ?, algorithm = ?, hash_due = ? WHERE file_id = ?",
            (result.digest, self._algorithm, int(result.racy), new_id),
        )
        return True


class SqliteHashes(SqliteScans):
    """`HashStore`."""

    def to_hash(self, repository_id: bytes, after: int, limit: int) -> list[HashTask]:
        return self._tasks(HASH["to_hash"], repository_id, after, limit)

    def to_scrub(self, repository_id: bytes, after: int, limit: int) -> list[HashTask]:
        return self._tasks(HASH["to_scrub"], repository_id, after, limit)

    def _tasks(
        self, statement: str, repository_id: bytes, after: int, limit: int
    ) -> list[HashTask]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            rows = connection.execute(
                statement, {"number": number, "after": after, "limit": limit}
            ).fetchall()
        return [HashTask._make(row) for row in rows]

    def to_hash_totals(self, repository_id: bytes) -> tuple[int, int]:
        with self._db.read() as connection:
            number = self._number(connection, repository_id)
            row = connection.execute(HASH["to_hash_totals"], (number,)).fetchone()
        return int(row[0]), int(row[1])

    def record_hashes(
        self, algorithm: str, results: Sequence[HashResult], now_ns: int
    ) -> HashCounts:
        with self._db.write() as connection:
            return self._record_hashes(connection, algorithm, results, now_ns)

    def _record_hashes(
        self, connection: Connection, algorithm: str, results: Sequence[HashResult], now_ns: int
    ) -> HashCounts:
        recording = HashRecording(
            connection,
            algorithm,
            now_ns,
            new_id=self._new_id,
            policy_of_type=self._policy_by_type,
        )
        return recording.write(results)

    def accept_suspect(self, file_id: bytes, now_ns: int) -> None:
        with self._db.write(durable=True) as connection:
            seqs = Seqs(connection, now_ns)
            connection.execute(HASH["accept_suspect"], (file_id, seqs.take()))
            if not connection.changes():
                raise NotFoundError(
                    "no such file", operation="accept file", subject=to_text(file_id)
                )
            journal(
                connection,
                Operation(
                    self._new_id(), file_id, "accept", now_ns, "completed", None, now_ns, None
                ),
            )
            seqs.close()
