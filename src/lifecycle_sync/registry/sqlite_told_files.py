"""What events of vaults say of files, written to SQLite within one transaction.

Times of before the registry's own first commit get commits of their own with negative seqs, so that
a record shows when it was registered and became what it is, and newer can be told from older.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lifecycle_sync.bulk_rows import in_bulk
from lifecycle_sync.model.act import DONE_BY_ACT
from lifecycle_sync.model.event import Event, VersionEvent
from lifecycle_sync.model.file import Kind
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection, Row
from lifecycle_sync.registry.replay import (
    Replayed,
    ToldFile,
    assignment_key,
    becomes,
    copy_of,
    operations_of,
    place_key,
    state_key,
    version_key,
)
from lifecycle_sync.registry.sqlite_base import ACTS, SCAN, Attributes, Locations, Seqs

_AWAY = {codes.STATE_CODE[state] for state in DONE_BY_ACT}


class _Record(NamedTuple):
    """The order of `told_records` in sql/acts.sql."""

    file_id: bytes
    row_id: int
    repository: int
    directory_id: int
    directory: bytes
    name: bytes
    state: int
    flags: int
    kind: int
    hash_due: int
    registered_seq: int
    state_ns: int
    registered_ns: int
    known_ns: int
    unseen: int
    hashed: int

    @property
    def path(self) -> bytes:
        return self.directory + b"/" + self.name if self.directory else self.name


class ToldFiles:
    """Writes what a batch of events says of files, within one transaction."""

    def __init__(
        self,
        connection: Connection,
        now_ns: int,
        by_type: dict[int, int],
        result: Replayed,
        *,
        location: str | None,
        archive: bool,
    ) -> None:
        self._connection = connection
        self._now_ns = now_ns
        self._by_type = by_type
        self._location = location
        self._archive = archive
        self._result = result
        self._seqs = Seqs(connection, now_ns)
        self._past: dict[int, int] = {}
        self._attributes = Attributes(connection)
        self._locations = Locations(connection)
        self._numbers: dict[bytes, int | None] = {}
        self._directories: dict[tuple[int, bytes], int] = {}
        # Files of which the policy may be another now.
        self.to_govern: set[bytes] = set()

    def write(self, files: dict[bytes, ToldFile]) -> list[Event]:
        """Apply all; the events of files whose repository is not known."""
        placed = {file_id: told for file_id, told in files.items() if self._number(told)}
        ids = list(placed)
        rows = in_bulk(self._connection, ACTS["told_records"], ids, 1)
        known = {row[0]: _Record._make(row) for row in rows}
        newest: dict[bytes, Row] = {}
        for file_id, *found in in_bulk(self._connection, ACTS["known_versions"], ids, 1):
            newest[file_id] = max(newest.get(file_id, ()), tuple(found))
        for file_id, told in placed.items():
            record = known.get(file_id)
            version = told.version
            if version is not None and file_id in newest:
                key = version_key(version)
                # One that is known already has said what it has to say of a record.
                if key < newest[file_id] or (key == newest[file_id] and record is not None):
                    version = None
            number = self._number(told)
            assert number is not None, "it was placed"
            if record is not None:
                self._result.records += self._tell(record, told, version, number)
            else:
                self._insert(file_id, told, version, number)
                self._result.records += 1
        self._seqs.close()
        self._insert_versions(placed)
        self._journal(placed)
        self._assign(placed)
        chosen = in_bulk(self._connection, ACTS["chosen_among"], ids, 1)
        self.to_govern = {file_id for (file_id,) in chosen}
        self.to_govern |= {
            file_id for file_id, record in known.items() if record.flags & codes.POLICY_SET
        }
        return [
            event
            for file_id, told in files.items()
            if file_id not in placed
            for event in told.events
        ]

    def _journal(self, files: dict[bytes, ToldFile]) -> None:
        """Acts that the journal does not know; what it says itself of one stands."""
        self._connection.executemany(
            ACTS["tell_operation"],
            (
                (
                    it.operation_id,
                    it.file_id,
                    it.operation_type,
                    it.timestamp_ns,
                    it.status,
                    it.finished_ns,
                    it.details,
                )
                for told in files.values()
                for it in operations_of(told, archive=self._archive)
            ),
        )

    def _number(self, told: ToldFile) -> int | None:
        """The number of a file's repository; None where that is not known."""
        assert told.place is not None, "a file is in here by an event"
        repository_id = told.place.repository_id
        if repository_id not in self._numbers:
            row = self._connection.execute(ACTS["told_repository"], (repository_id,)).fetchone()
            self._numbers[repository_id] = None if row is None else row[0]
        return self._numbers[repository_id]

    def _at(self, at_ns: int) -> int:
        """The seq that stands for a time of the past."""
        if at_ns not in self._past:
            least = self._connection.execute("SELECT min(last_seq) FROM commits").get
            seq = min(least or 0, 0) - 1
            self._connection.execute("INSERT INTO commits VALUES (?, ?)", (seq, at_ns))
            self._past[at_ns] = seq
        return self._past[at_ns]

    def _insert_versions(self, files: dict[bytes, ToldFile]) -> None:
        values: list[Any] = []
        location = None if self._location is None else self._locations[self._location]
        for told in files.values():
            for event in told.events:
                if isinstance(event, VersionEvent):
                    algorithm, digest = _content(event)
                    values += (event.version_id, event.number, algorithm, digest)
                    values += (event.metadata.size, event.metadata.mtime_ns, event.at_ns)
                    values += (location, event.file_id)
        before = self._connection.total_changes()
        in_bulk(self._connection, ACTS["insert_version"], values, 9)
        self._result.versions += self._connection.total_changes() - before

    def _assign(self, files: dict[bytes, ToldFile]) -> None:
        assigned = []
        for file_id, told in files.items():
            if told.assignment is not None:
                at_ns, explicit, name = assignment_key(told.assignment)
                assigned.append((file_id, name, int(explicit), at_ns))
        self._connection.executemany(ACTS["assign"], assigned)

    # -- places ----------------------------------------------------------------------------

    def _directory(self, number: int, path: bytes) -> int:
        if (number, path) not in self._directories:
            row = self._connection.execute(
                SCAN["ensure_directory"], (number, path, codes.text_of(path), 0, 0, self._now_ns)
            ).fetchone()
            self._directories[number, path] = row[1]
        return self._directories[number, path]

    def _wins(self, place: tuple[int, bytes], file_id: bytes, row_id: int, at_ns: int) -> bool:
        """Whether a file may be live at a place; who is there and is older gives way."""
        there = self._connection.execute(ACTS["told_at"], place).fetchone()
        if there is None or there[0] == row_id:
            return True
        other, other_id, known_ns = there
        if (known_ns, other_id) > (at_ns, file_id):
            return False
        # It went some time between the two; nobody said when.
        seq = self._seqs.take()
        self._connection.execute(ACTS["give_way"], (other, seq))
        self._gone(other)
        self._connection.execute(ACTS["replayed"], (other, seq, known_ns, 0))
        return True

    def _gone(self, row_id: int) -> None:
        self._connection.execute(SCAN["found_again"], (row_id,))
        self._connection.execute(ACTS["forget_moves"], (f"[{row_id}]",))

    # -- records ---------------------------------------------------------------------------

    def _insert(
        self, file_id: bytes, told: ToldFile, version: VersionEvent | None, number: int
    ) -> None:
        assert told.place is not None
        folder, _, name = told.place.path.rpartition(b"/")
        directory_id = self._directory(number, folder)
        state = codes.STATE_CODE[becomes(told)]
        live = state != codes.DELETED
        if live and not self._wins((directory_id, name), file_id, 0, told.place.at_ns):
            state = codes.DELETED
        file_type = codes.type_codes([name])[0]
        seq = self._seqs.take()
        kind, *tuple_, attribute, nlink, atime, btime, due, algorithm, digest = self._look(version)
        row_id = self._connection.execute(
            ACTS["insert_told_file"],
            (
                file_id,
                number,
                directory_id,
                name,
                codes.text_of(name),
                kind,
                file_type,
                *tuple_,
                attribute,
                nlink,
                atime,
                btime,
                state,
                self._at(told.first_ns),
                self._at(0 if told.state is None else told.state.at_ns),
                seq,
                self._by_type[file_type],
                int(due and state not in _AWAY),
                algorithm,
                digest,
            ),
        ).get
        if version is not None and self._location is not None:
            copy = copy_of(version, self._location)
            self._connection.execute(ACTS["tell_copy"], (row_id, int(self._archive), copy))
        self._connection.execute(ACTS["replayed"], (row_id, seq, told.place.at_ns, 1))

    def _look(self, version: VersionEvent | None) -> tuple[Any, ...]:
        """What a record has of a file: as a version had it, or nothing to be believed."""
        if version is None:
            return (
                *(int(Kind.REGULAR), 0, 0, 0, 0),
                *(self._attributes[0o100000, 0, 0], 1, 0, None),
                *(1, 0, None),
            )
        metadata = version.metadata
        algorithm, digest = _content(version)
        mode = int(metadata.kind) << 12 | metadata.mode & 0o7777
        return (
            *(int(metadata.kind), metadata.size, metadata.mtime_ns, metadata.ctime_ns),
            metadata.inode,
            self._attributes[mode, metadata.uid, metadata.gid],
            *(metadata.nlink, metadata.atime_ns, metadata.btime_ns),
            *(int(digest is None and metadata.kind == Kind.REGULAR), algorithm, digest),
        )

    def _tell(
        self, record: _Record, told: ToldFile, version: VersionEvent | None, number: int
    ) -> bool:
        """Bring a record up to what is newer; whether anything was."""
        assert told.place is not None
        row_id, run = record.row_id, self._connection.execute
        changed = False
        state, state_ns = record.state, record.state_ns
        if told.state is not None and state_key(told.state) > (state_ns, state):
            state, state_ns = codes.STATE_CODE[told.state.state], told.state.at_ns
            changed = True
        place = record.directory_id, record.name
        newer = place_key(told.place) > (record.known_ns, record.path)
        if newer and (number, told.place.path) != (record.repository, record.path):
            folder, _, name = told.place.path.rpartition(b"/")
            place = self._directory(number, folder), name
            changed = True
        appears = place != (record.directory_id, record.name) or record.state == codes.DELETED
        at_ns = max(record.known_ns, told.place.at_ns)
        if (
            state != codes.DELETED
            and appears
            and not self._wins(place, record.file_id, row_id, at_ns)
        ):
            state = codes.DELETED
        if place != (record.directory_id, record.name):
            self._move(record, place, number, live=state != codes.DELETED)
        if (state, state_ns) != (record.state, record.state_ns):
            due = record.hash_due
            if state in _AWAY:
                due = 0
                self._gone(row_id)
            elif record.state in _AWAY:
                # What was there may be other bytes now, but for what events alone tell of.
                told_digest = record.unseen and record.hashed
                due = int(record.kind == Kind.REGULAR and not told_digest)
            run(SCAN["look_again"], (row_id,))
            run(ACTS["tell_state"], (row_id, state, self._at(state_ns), due))
            changed = True
        if record.registered_seq < 0 and told.first_ns < record.registered_ns:
            run(ACTS["tell_registered"], (row_id, self._at(told.first_ns)))
            changed = True
        if version is not None:
            changed |= self._tell_version(record, version, state)
        if changed or newer:
            seq = self._seqs.take()
            run(ACTS["touch"], (row_id, seq))
            run(ACTS["replayed"], (row_id, seq, at_ns, record.unseen))
        return changed

    def _tell_version(self, record: _Record, version: VersionEvent, state: int) -> bool:
        told = False
        if record.unseen:
            *look, due, algorithm, digest = self._look(version)
            due = int(due and state not in _AWAY)
            self._connection.execute(
                ACTS["tell_metadata"], (record.row_id, *look, due, algorithm, digest)
            )
            told = bool(self._connection.changes())
        if self._location is not None:
            copy = copy_of(version, self._location)
            self._connection.execute(ACTS["tell_copy"], (record.row_id, int(self._archive), copy))
            told = True
        return told

    def _move(self, record: _Record, place: tuple[int, bytes], number: int, *, live: bool) -> None:
        row_id, (directory_id, name) = record.row_id, place
        if not live:
            # Out of the way first: the place may be another's.
            self._connection.execute(
                ACTS["tell_state"], (row_id, codes.DELETED, self._at(record.state_ns), 0)
            )
        self._connection.execute(SCAN["look_again"], (row_id,))
        file_type = codes.type_codes([name])[0]
        self._connection.execute(
            ACTS["change_place"],
            (row_id, directory_id, name, codes.text_of(name), file_type, self._by_type[file_type]),
        )
        if number != record.repository:
            self._connection.execute(ACTS["tell_repository_of"], (row_id, number))


def _content(event: VersionEvent) -> tuple[int, bytes | None]:
    if event.content is None:
        return 0, None
    return codes.ALGORITHM_CODE[event.content.algorithm], event.content.digest
