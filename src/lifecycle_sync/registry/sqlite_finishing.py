"""What acts have done to records, written to SQLite within one transaction.

Most changes are of one kind (a state, and where the copy lies), so rows are collected and written
many at a time. A record that comes back, or that goes to another place, is written by itself: there
something may be in its way, and then it alone is left out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lifecycle_sync.bulk_rows import LONG_ROWS, in_bulk
from lifecycle_sync.model.act import DONE_BY_ACT, UNSET, ActOutcome, RecordChange, may_finish
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.record import OUTDATED
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection, Row
from lifecycle_sync.registry.refusals import CHANGED, IN_ITS_PLACE, NO_SUCH_FILE
from lifecycle_sync.registry.sqlite_alike import finish_alike
from lifecycle_sync.registry.sqlite_base import ACTS, SCAN, Attributes, Locations, Seqs

# How many values a row of each statement has.
_WIDTHS = {
    "change_record": 7,
    "change_kept": 7,
    "change_state": 5,
    "change_tuple": 6,
    "change_attributes": 3,
    "change_checksum": 3,
}
# States without a file, by code.
_AWAY = {codes.STATE_CODE[state] for state in DONE_BY_ACT}
_ONLY_DELETED = RecordChange(b"", LifecycleState.DELETED)[1:]
# From which state, by code, to which the file of a record stays where it is.
_KEPT = {
    (codes.STATE_CODE[old], new)
    for old in LifecycleState
    for new in LifecycleState
    if may_finish(old, new) and not {old, new} & DONE_BY_ACT
}


class _Record(NamedTuple):
    """The order of `pending_records` in sql/acts.sql."""

    file_id: bytes
    row_id: int
    directory_id: int
    name: bytes
    state: int
    flags: int
    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    hash_due: int
    backup_path: str | None
    archive_path: str | None
    repository: int

    def is_as(self, expected: Any) -> bool:
        return (self.kind, self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            expected.kind,
            expected.size,
            expected.mtime_ns,
            expected.ctime_ns,
            expected.inode,
        )


class Finishing:
    """Writes outcomes; see `ActStore.finish_operations` for what it promises."""

    def __init__(
        self,
        connection: Connection,
        now_ns: int,
        policy_of_type: Callable[[Connection], dict[int, int]],
    ) -> None:
        self._connection = connection
        self._now_ns = now_ns
        self._policy_of_type = policy_of_type
        self._seqs = Seqs(connection, now_ns)
        self._attributes = Attributes(connection)
        self._locations = Locations(connection)
        self._refused: dict[bytes, str] = {}
        # Values of rows that wait to be written, by statement. They go many at a time, in few long
        # statements, beside which other threads can work.
        self._waiting: dict[str, list[Any]] = defaultdict(list)
        self._gone: list[int] = []
        # Of each directory that gained or lost a file, one record.
        self._look_again: dict[int, int] = {}

    def write(self, outcomes: Sequence[ActOutcome]) -> dict[bytes, str]:
        """Apply all outcomes; the caller commits. What could not be done to a record, and why, by
        the operation."""
        if outcomes and finish_alike(
            self._connection, outcomes, self._now_ns, self._seqs, self._locations
        ):
            self._seqs.close()
            return {}
        by_id = {outcome.operation_id: outcome for outcome in outcomes}
        rows = in_bulk(self._connection, ACTS["pending_records"], list(by_id), 1, rows=LONG_ROWS)
        done = [by_id[row[0]] for row in rows]
        told: list[Any] = []
        for outcome in done:
            told += (outcome.operation_id, outcome.status, outcome.details, self._now_ns)
        in_bulk(self._connection, ACTS["finish_operations"], told, 4, rows=LONG_ROWS)
        for outcome, row in zip(done, rows, strict=True):
            change = outcome.change
            if change is None or self._keep(change, row) or self._delete(change, row):
                continue
            if row[2] is None:
                self._refused[outcome.operation_id] = NO_SUCH_FILE
            else:
                self._apply(outcome.operation_id, change, _Record._make(row[1:]))
        self._flush()
        self._insert_versions([outcome.change for outcome in done if outcome.change is not None])
        self._connection.executemany(
            SCAN["look_again"], ((row_id,) for row_id in self._look_again.values())
        )
        self._seqs.close()
        return self._refused

    # -- one record ------------------------------------------------------------------------

    def _keep(self, change: RecordChange, row: Row) -> bool:
        """Write the change that a backup makes of nearly every record, and `_apply` would make as
        well; False where it is another one. `row` is one of `pending_records`."""
        (
            file_id,
            state,
            expected,
            fingerprint,
            attributes,
            checksum,
            algorithm,
            backup,
            archive,
            _version,
            set_flags,
            clear_flags,
            path,
        ) = change
        if (
            state is None
            or expected is None
            or checksum is None
            or fingerprint is not None
            or attributes is not None
            or set_flags
            or clear_flags
            or path is not None
            or row[7:12] != expected
            or row[7] != Kind.REGULAR
            or (row[5], state) not in _KEPT
        ):
            return False
        assert file_id == row[1]
        if backup is UNSET:
            backup = row[13]
        if archive is UNSET:
            archive = row[14]
        self._waiting["change_kept"] += (
            row[2],
            codes.STATE_CODE[state],
            backup,
            archive,
            self._seqs.take(),
            checksum,
            codes.ALGORITHM_CODE[algorithm],
        )
        return True

    def _delete(self, change: RecordChange, row: Row) -> bool:
        """Write the change that a deletion makes of nearly every record, and `_apply` would make as
        well; False where it is another one. `row` is one of `pending_records`."""
        row_id, state = row[2], row[5]
        if change[1:] != _ONLY_DELETED or row_id is None or state in _AWAY:
            return False
        self._gone.append(row_id)
        self._look_again[row[3]] = row_id
        flags, hash_due, backup, archive = row[6], row[12], row[13], row[14]
        seq = self._seqs.take()
        if hash_due:
            self._waiting["change_record"] += (
                row_id, codes.DELETED, flags, 0, backup, archive, seq,
            )  # fmt: skip
        else:
            self._waiting["change_state"] += (row_id, codes.DELETED, backup, archive, seq)
        return True

    def _apply(self, operation_id: bytes, change: RecordChange, record: _Record) -> None:
        old = codes.STATES[record.state]
        new = old if change.state is None else change.state
        fits = change.expected is None or record.is_as(change.expected)
        if not fits and new not in DONE_BY_ACT:
            self._refused[operation_id] = CHANGED
            new = old
        elif not may_finish(old, new):
            self._refused[operation_id] = f"it is {old.value} now"
            new = old
        state = codes.STATE_CODE[new]
        comes_back = record.state == codes.DELETED and state != codes.DELETED
        if comes_back or change.path is not None:
            # What waits may make room for it.
            self._flush()
            placed = self._place(change, record, live=state != codes.DELETED)
            if placed is None:
                self._refused[operation_id] = IN_ITS_PLACE
                self._connection.execute(
                    ACTS["fail_operation"], (operation_id, self._refused[operation_id])
                )
                return
            record = placed
        self._write(change, record, state, fits=fits)
        if comes_back:
            self._flush()

    def _write(self, change: RecordChange, record: _Record, state: int, *, fits: bool) -> None:
        row_id, flags, hash_due = record.row_id, record.flags, record.hash_due
        kind = record.kind
        if state in _AWAY:
            hash_due = 0
            self._gone.append(row_id)
        elif record.state in _AWAY:
            # What came back may be other bytes.
            hash_due = int(kind == Kind.REGULAR)
        if (state in _AWAY) is not (record.state in _AWAY):
            self._look_again[record.directory_id] = row_id
        look = change.fingerprint if fits else None
        looked = look is not None and not record.is_as(look)
        if look is not None and looked:
            kind = look.kind
            self._wait("change_tuple", row_id, kind, *_rest(look))
            hash_due = int(kind == Kind.REGULAR and state not in _AWAY)
            if change.attributes is None:
                # The next scan writes mode, owner and links anew.
                flags |= OUTDATED
                self._look_again[record.directory_id] = row_id
        if change.attributes is not None and fits:
            mode, uid, gid, nlink = change.attributes
            looked = True
            self._wait("change_attributes", row_id, self._attributes[mode, uid, gid], nlink)
        checked = change.checksum is not None and fits and kind == Kind.REGULAR
        if checked:
            looked = True
            hash_due = 0
        flags &= ~(change.clear_flags & codes.PUBLIC_FLAGS)
        flags |= change.set_flags & codes.PUBLIC_FLAGS
        backup = record.backup_path if change.backup_path is UNSET else change.backup_path
        archive = record.archive_path if change.archive_path is UNSET else change.archive_path
        before = record.state, record.backup_path, record.archive_path
        if checked:
            algorithm = codes.ALGORITHM_CODE[change.algorithm]
            if flags == record.flags:
                seq = self._seqs.take()
                self._wait(
                    "change_kept", row_id, state, backup, archive, seq, change.checksum, algorithm
                )
                return
            self._wait("change_checksum", row_id, change.checksum, algorithm)
        if (flags, hash_due) != (record.flags, record.hash_due):
            seq = self._seqs.take()
            self._wait("change_record", row_id, state, flags, hash_due, backup, archive, seq)
        elif looked or change.path is not None or (state, backup, archive) != before:
            self._wait("change_state", row_id, state, backup, archive, self._seqs.take())

    def _wait(self, statement: str, *values: Any) -> None:
        self._waiting[statement] += values

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, defaultdict(list)
        for statement, values in waiting.items():
            in_bulk(self._connection, ACTS[statement], values, _WIDTHS[statement], rows=LONG_ROWS)
        if self._gone:
            # Not missing any more, and with nothing left for a hash to confirm.
            gone, self._gone = json.dumps(self._gone), []
            self._connection.execute(ACTS["found"], (gone,))
            self._connection.execute(ACTS["forget_moves"], (gone,))

    # -- places ----------------------------------------------------------------------------

    def _place(self, change: RecordChange, record: _Record, *, live: bool) -> _Record | None:
        """Put a record where its file lies now, and make room for it; None where that is taken."""
        directory_id, name = record.directory_id, record.name
        if change.path is not None:
            directory, _, name = change.path.rpartition(b"/")
            directory_id = self._connection.execute(
                SCAN["ensure_directory"],
                (record.repository, directory, codes.text_of(directory), 0, 0, self._now_ns),
            ).fetchone()[1]
        if live and not self._make_room(change, record.row_id, directory_id, name):
            return None
        if (directory_id, name) == (record.directory_id, record.name):
            return record
        self._connection.execute(SCAN["look_again"], (record.row_id,))
        file_type = codes.type_codes([name])[0]
        self._connection.execute(
            ACTS["change_place"],
            (
                record.row_id,
                directory_id,
                name,
                codes.text_of(name),
                file_type,
                self._policy_of_type(self._connection)[file_type],
            ),
        )
        return record._replace(directory_id=directory_id, name=name)

    def _make_room(self, change: RecordChange, row_id: int, directory_id: int, name: bytes) -> bool:
        """Whether no other live record is at a place. A scan may have met the file that the act put
        there before the act could say so: then the new record goes, the old one continues."""
        there = self._connection.execute(ACTS["live_at"], (directory_id, name)).fetchone()
        if there is None or there[0] == row_id:
            return True
        other, kind, size, mtime_ns, inode, spoken_for = there
        look = change.fingerprint
        if look is None or spoken_for:
            return False
        if (kind, size, mtime_ns, inode) != (look.kind, look.size, look.mtime_ns, look.inode):
            return False
        self._connection.execute(SCAN["delete_file"], (other,))
        self._gone.append(other)
        return True

    # -- versions --------------------------------------------------------------------------

    def _insert_versions(self, changes: Sequence[RecordChange]) -> None:
        values: list[Any] = []
        for change in changes:
            version = change.version
            if version is not None:
                location = version.location
                values += (
                    *version[:2],
                    codes.ALGORITHM_CODE[version.algorithm],
                    *version[3:7],
                    None if location is None else self._locations[location],
                    change.file_id,
                )
        in_bulk(self._connection, ACTS["insert_version"], values, 9, rows=LONG_ROWS)


def _rest(look: Any) -> tuple[int, int, int, int]:
    return look.size, look.mtime_ns, look.ctime_ns, look.inode
