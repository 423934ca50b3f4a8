"""One batch of a scan written to SQLite, within one transaction.

New rows go in by the hundred: each statement that SQLite steps through gives up and takes back the
interpreter's lock, and a walker in another thread makes that the dearest part of an insert.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any

from lifecycle_sync.model.file import FileFlag, Tracking
from lifecycle_sync.model.observation import Columns
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.record import DirectoryChange, ScanBatch
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection, Row
from lifecycle_sync.registry.sqlite_base import SCAN, Attributes, Seqs
from lifecycle_sync.registry.sqlite_conflicts import archived_among, note_archived, note_recreated

# More make a statement too long for the cache of prepared ones (16 KiB).
_ROWS = 100
# Parameters of `insert_file` that differ from row to row.
_FILE_VALUES = 17
_RACY = FileFlag.RACY.value
_PARAMETER = re.compile(r":\w+")


class Recording:
    """Writes a `ScanBatch`; see `ScanStore.record_scan` for what it promises."""

    def __init__(
        self,
        connection: Connection,
        number: int,
        run: Run,
        observed_ns: int,
        policy_of_type: dict[int, int],
    ) -> None:
        self._connection = connection
        self._number = number
        self._run = run
        self._observed_ns = observed_ns
        self._policy_of_type = policy_of_type
        self._seqs = Seqs(connection, observed_ns)
        self._attributes = Attributes(connection)
        # New directories in a row, and new files, not written yet.
        self._new: list[DirectoryChange] = []
        # The values of new rows, one after the other: a tuple a row would cost more than the row.
        self._values: list[Any] = []
        # Whether files came into directories that had records before.
        self._arrivals = False

    def write(self, batch: ScanBatch) -> None:
        """Apply all of the batch; the caller commits."""
        if batch.unchanged:
            self._connection.executemany(
                SCAN["touch_directory"],
                zip(
                    repeat(self._run.generation),
                    repeat(self._observed_ns),
                    batch.unchanged,
                    strict=False,
                ),
            )
        for change in batch.changes:
            if change.directory_id is None and change.error is None and not change.partial:
                self._new.append(change)
                continue
            self._write_new()
            self._apply(change)
        self._write_new()
        self._insert_rows()
        if self._arrivals:
            note_recreated(self._connection, self._seqs.first, self._observed_ns)
        self._seqs.close()

    # -- directories -----------------------------------------------------------------------

    def _write_new(self) -> None:
        """The directories without a row that have come in a row: many in one statement."""
        changes, self._new = self._new, []
        if not changes:
            return
        values = list(chain.from_iterable(self._directory_values(change) for change in changes))
        ids: dict[bytes, int] = dict(
            self._in_bulk("upsert_directory", values, len(values) // len(changes))
        )
        for change in changes:
            self._apply_files(change, ids[change.path])

    def _apply(self, change: DirectoryChange) -> None:
        # Rows that wait may be of this very directory.
        self._insert_rows()
        if change.error is not None:
            self._connection.execute(
                SCAN["fail_directory"],
                (
                    self._number,
                    change.path,
                    codes.text_of(change.path),
                    self._run.generation,
                    self._observed_ns,
                    change.error,
                ),
            )
            return
        if change.missing:
            self._note_missing(change)
        if change.partial:
            row = self._connection.execute(
                SCAN["ensure_directory"],
                (
                    self._number,
                    change.path,
                    codes.text_of(change.path),
                    change.inode,
                    self._run.generation,
                    self._observed_ns,
                ),
            ).fetchone()
        else:
            row = self._connection.execute(
                SCAN["upsert_directory"], self._directory_values(change)
            ).fetchone()
        self._apply_files(change, row[1])

    def _directory_values(self, change: DirectoryChange) -> Row:
        return (
            self._number,
            change.path,
            codes.text_of(change.path),
            change.inode,
            change.signature,
            self._run.generation,
            self._observed_ns,
            change.file_count,
            change.byte_count,
            change.ignored_count,
            change.special_count,
        )

    # -- files -----------------------------------------------------------------------------

    def _apply_files(self, change: DirectoryChange, directory_id: int) -> None:
        if change.added:
            self._values.extend(chain.from_iterable(self._new_rows(change, directory_id)))
            if len(self._values) >= 50 * _ROWS * _FILE_VALUES:
                self._insert_rows()
            self._arrivals = self._arrivals or change.directory_id is not None
        if change.modified:
            archived = archived_among(
                self._connection, [row_id for row_id, _, _ in change.modified]
            )
            self._connection.executemany(SCAN["modify_file"], self._modified_rows(change))
            note_archived(self._connection, archived, self._observed_ns)
        if change.settled:
            self._connection.executemany(
                SCAN["settle_file"], ((row_id, self._seqs.take()) for row_id in change.settled)
            )
        if change.untracked:
            self._connection.executemany(
                SCAN["set_tracking"],
                ((row, Tracking.IGNORED.value, self._seqs.take()) for row in change.untracked),
            )
        if change.returned:
            self._return_files(change.returned)

    def _new_rows(self, change: DirectoryChange, directory_id: int) -> Iterable[Row]:
        """Rows in the order of the parameters of `insert_file`, without the repository."""
        columns = change.columns
        pick = _picker(columns, change.added)
        names, kinds = pick(columns.names), pick(columns.kinds)
        types = codes.type_codes(names)
        racy = columns.racy
        seqs = self._seqs.take_many(len(names))
        return zip(
            change.added_ids,
            repeat(directory_id),
            names,
            _texts(names),
            kinds,
            types,
            pick(columns.sizes),
            pick(columns.mtimes_ns),
            pick(columns.ctimes_ns),
            pick(columns.inodes),
            map(
                self._attributes.__getitem__,
                zip(pick(columns.modes), pick(columns.uids), pick(columns.gids), strict=True),
            ),
            pick(columns.nlinks),
            pick(columns.atimes_ns),
            pick(columns.btimes_ns) if columns.btimes_ns else repeat(None),
            seqs,
            [_RACY * (position in racy) for position in change.added] if racy else repeat(0),
            map(self._policy_of_type.__getitem__, types),
            strict=False,
        )

    def _insert_rows(self) -> None:
        values, self._values = self._values, []
        self._in_bulk("insert_file", values, _FILE_VALUES, [self._number])

    def _modified_rows(self, change: DirectoryChange) -> Iterator[Row]:
        columns = change.columns
        for row_id, at, content_changed in change.modified:
            yield (
                row_id,
                columns.kinds[at],
                columns.sizes[at],
                columns.mtimes_ns[at],
                columns.ctimes_ns[at],
                columns.inodes[at],
                self._attributes[columns.modes[at], columns.uids[at], columns.gids[at]],
                columns.nlinks[at],
                columns.atimes_ns[at],
                columns.btimes_ns[at] if columns.btimes_ns else None,
                self._seqs.take(),
                _RACY if at in columns.racy else 0,
                int(content_changed),
            )

    def _note_missing(self, change: DirectoryChange) -> None:
        last_seen = self._observed_ns
        if change.directory_id is not None:
            last_seen = int(
                self._connection.execute(
                    "SELECT scanned_ns FROM directories WHERE directory_id = ?",
                    (change.directory_id,),
                ).get
            )
        self._connection.executemany(
            SCAN["note_missing"], ((row_id, last_seen) for row_id in change.missing)
        )

    def _return_files(self, row_ids: Sequence[int]) -> None:
        self._connection.executemany(SCAN["found_again"], ((row_id,) for row_id in row_ids))
        for row_id in row_ids:
            tracking = self._connection.execute(
                "SELECT tracking FROM files WHERE row_id = ?", (row_id,)
            ).get
            if tracking == Tracking.IGNORED.value:
                self._connection.execute(
                    SCAN["set_tracking"], (row_id, Tracking.TRACKED.value, self._seqs.take())
                )

    def _in_bulk(
        self, name: str, values: list[Any], width: int, common: Sequence[Any] = ()
    ) -> list[Row]:
        """Run an INSERT for many rows of `width` values, `_ROWS` at a time; what it returns.

        `common` are the values of `:repository`, the one parameter that all rows share.
        """
        found: list[Row] = []
        step = _ROWS * width
        for start in range(0, len(values), step):
            part = values[start : start + step]
            statement = _for_rows(name, len(part) // width)
            found += self._connection.execute(statement, [*common, *part]).fetchall()
        return found


@cache
def _for_rows(name: str, count: int) -> str:
    """A statement of one `VALUES (...)` line made one of `count` of them.

    Named parameters become numbers, so that a value that stands twice in a row is bound once."""
    before, marker, rest = SCAN[name].partition("VALUES ")
    values, newline, after = rest.partition("\n")
    own = [word for word in dict.fromkeys(_PARAMETER.findall(values)) if word != ":repository"]

    def row(at: int) -> str:
        numbers = {word: f"?{2 + at * len(own) + place}" for place, word in enumerate(own)}
        numbers[":repository"] = "?1"
        return _PARAMETER.sub(lambda match: numbers[match.group()], values)

    return f"{before}{marker}{', '.join(map(row, range(count)))}{newline}{after}"


def _picker(columns: Columns, positions: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Select `positions` of a column; all of them, the usual case, costs nothing."""
    if len(positions) == len(columns):
        return lambda column: column
    return lambda column: [column[position] for position in positions]


def _texts(names: Sequence[bytes]) -> Sequence[str | None] | repeat[None]:
    try:
        b"\0".join(names).decode()
    except UnicodeDecodeError:
        return [codes.text_of(name) for name in names]
    return repeat(None)
