"""What scans read and record in a `MemoryRegistry`, but for their runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lifecycle_sync.model.conflict import Situation
from lifecycle_sync.model.file import FileFlag, Kind, LifecycleState, Tracking, may_become
from lifecycle_sync.model.observation import Columns
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.record import (
    OUTDATED,
    DirectoryChange,
    MissingFile,
    Move,
    ScanBatch,
    StoredDirectory,
    StoredFile,
)
from lifecycle_sync.testing.memory_conflicts import is_acted_on, note_conflict, note_recreated
from lifecycle_sync.testing.memory_tables import (
    NO_FLAGS,
    DirectoryRow,
    FileRow,
    MemoryBase,
    Tables,
)

_UPLOADED, _DELETED = LifecycleState.UPLOADED, LifecycleState.DELETED
# What a record takes over from another at a new place.
_TUPLE = "kind size mtime_ns ctime_ns inode".split()
_LOOK = ("kind size mtime_ns ctime_ns inode mode uid gid nlink atime_ns btime_ns").split()


class MemoryScans(MemoryBase):
    """`ScanStore`, but for its runs."""

    # -- reading ---------------------------------------------------------------------------

    def directories(
        self, repository_id: bytes, paths: Sequence[bytes]
    ) -> dict[bytes, StoredDirectory]:
        with self._reading() as tables:
            self._repository(tables, repository_id)
            rows = {path: self._directory_at(tables, repository_id, path) for path in paths}
            return {path: _stored_directory(row) for path, row in rows.items() if row is not None}

    def signatures(self, repository_id: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._reading() as tables:
            self._repository(tables, repository_id)
            return iter(
                [
                    (directory.path, directory.signature)
                    for directory in tables.directories.values()
                    if directory.repository_id == repository_id and directory.signature is not None
                ]
            )

    def directory_paths(self, repository_id: bytes) -> Iterator[bytes]:
        with self._reading() as tables:
            self._repository(tables, repository_id)
            return iter(
                sorted(
                    directory.path
                    for directory in tables.directories.values()
                    if directory.repository_id == repository_id and not directory.gone
                )
            )

    def files_in(self, directory_id: int) -> list[StoredFile]:
        with self._reading() as tables:
            return [
                _stored_file(file)
                for file in tables.files.values()
                if file.directory_id == directory_id and file.live
            ]

    def unseen_directories(
        self, run: Run, after: bytes | None, limit: int
    ) -> list[StoredDirectory]:
        with self._reading() as tables:
            self._repository(tables, run.repository_id)
            ours = [
                directory
                for directory in tables.directories.values()
                if directory.repository_id == run.repository_id and not directory.gone
            ]
            failed = [
                d.path for d in ours if d.error is not None and d.generation == run.generation
            ]
            unseen = [
                directory
                for directory in ours
                if directory.generation != run.generation
                and not any(_is_below(directory.path, path) for path in failed)
                and (after is None or directory.path > after)
            ]
            unseen.sort(key=lambda directory: directory.path)
            return [_stored_directory(directory) for directory in unseen[:limit]]

    def missing_count(self, repository_id: bytes) -> int:
        with self._reading() as tables:
            return sum(
                file.tracked for file in _missing(tables, self._files_of(tables, repository_id))
            )

    def live_count(self, repository_id: bytes, until_seq: int | None = None) -> int:
        with self._reading() as tables:
            return sum(
                file.tracked
                and file.live
                and (until_seq is None or file.registered_seq <= until_seq)
                for file in self._files_of(tables, repository_id)
            )

    def missing(self, repository_id: bytes, after: int, limit: int) -> list[MissingFile]:
        with self._reading() as tables:
            return [
                MissingFile(
                    row_id=file.row_id,
                    path=self._path(tables, file),
                    kind=file.kind,
                    size=file.size,
                    mtime_ns=file.mtime_ns,
                    ctime_ns=file.ctime_ns,
                    inode=file.inode,
                    checksum=None if file.hash_due else file.checksum,
                    last_seen_ns=file.last_seen_ns or 0,
                    nlink=file.nlink,
                )
                for file in _missing(tables, self._files_of(tables, repository_id))
                if file.row_id > after
            ][:limit]

    def arrivals(self, repository_id: bytes, inode: int, since_ns: int) -> list[StoredFile]:
        with self._reading() as tables:
            begun = [
                run.started_ns
                for run in tables.runs.values()
                if run.repository_id == repository_id and run.started_ns > since_ns
            ]
            return [
                _stored_file(file)
                for file in self._files_of(tables, repository_id)
                if file.inode == inode
                and file.live
                and file.tracked
                and not file.by_name
                and file.last_seen_ns is None
                and begun
                and file.registered_ns >= min(begun)
            ]

    # -- recording -------------------------------------------------------------------------

    def record_scan(self, run: Run, batch: ScanBatch) -> None:
        with self._writing() as tables:
            self._record_scan(tables, run, batch)

    def _record_scan(self, tables: Tables, run: Run, batch: ScanBatch) -> None:
        self._repository(tables, run.repository_id)
        for directory_id in batch.unchanged:
            tables.directories[directory_id] = replace(
                tables.directories[directory_id],
                generation=run.generation,
                scanned_ns=batch.observed_ns,
            )
        for change in batch.changes:
            # Before the directory's row says that it was scanned now.
            for row_id in change.missing:
                seen = tables.directories[tables.files[row_id].directory_id].scanned_ns
                self._note_missing(tables, row_id, seen)
            directory = self._record_directory(tables, run, change, batch.observed_ns)
            if change.error is None:
                self._record_files(tables, directory, change, batch.observed_ns)

    def _record_directory(
        self, tables: Tables, run: Run, change: DirectoryChange, now_ns: int
    ) -> DirectoryRow:
        row = self._directory_at(tables, run.repository_id, change.path)
        if row is None:
            row = DirectoryRow(
                tables.number(),
                run.repository_id,
                change.path,
                inode=change.inode,
                scanned_ns=now_ns,
                generation=run.generation,
            )
        if change.error is not None:
            # Without its signature, so that the next listing that succeeds is looked at.
            row = replace(row, generation=run.generation, error=change.error, signature=None)
        elif not change.partial:
            row = replace(
                row,
                inode=change.inode,
                signature=change.signature,
                scanned_ns=now_ns,
                generation=run.generation,
                error=None,
                file_count=change.file_count,
                byte_count=change.byte_count,
                ignored_count=change.ignored_count,
                special_count=change.special_count,
            )
        if change.partial:
            # Whichever of two looks at a file came last, that which is recorded may be the older.
            row = replace(row, signature=None)
        row = replace(row, gone=False)
        tables.directories[row.directory_id] = row
        return row

    def _record_files(
        self, tables: Tables, directory: DirectoryRow, change: DirectoryChange, now_ns: int
    ) -> None:
        columns = change.columns
        for position, file_id in zip(change.added, change.added_ids, strict=True):
            name, look = columns.names[position], _look(columns, position)
            there = self._live_at(tables, directory, name)
            if there is not None:
                # Registered by name while the scan was on its way here.
                self._change(tables, there.row_id, now_ns, outdated=False, **look)
                continue
            flags = FileFlag.RACY if position in columns.racy else NO_FLAGS
            file = self._insert(
                tables,
                FileRow(
                    row_id=tables.number(),
                    file_id=file_id,
                    repository_id=directory.repository_id,
                    directory_id=directory.directory_id,
                    name=name,
                    flags=flags,
                    policy_name=self._policy_of(name),
                    registered_ns=now_ns,
                    **look,
                ),
                now_ns,
            )
            note_recreated(tables, file, now_ns)
        for row_id, position, content_changed in change.modified:
            file = tables.files[row_id]
            flags, state = file.flags & ~FileFlag.RACY, file.state
            if position in columns.racy:
                flags |= FileFlag.RACY
            # What the application has claimed is its own until it is released.
            free = FileFlag.CLAIMED not in flags and may_become(state, _UPLOADED)
            look = _look(columns, position)
            same = all(look[name] == getattr(file, name) for name in _TUPLE)
            # Another file at the place of an archived one, be it the same again, is not away.
            back = state is LifecycleState.ARCHIVED and not same
            if (content_changed or back) and free:
                state = _UPLOADED
            if same:
                # Only its mode, owner and links were outdated; it was hashed as it is.
                look["hash_due"] = file.hash_due
            away = file.state is LifecycleState.ARCHIVED and not is_acted_on(tables, file)
            file = self._change(
                tables, row_id, now_ns, state=state, flags=flags, outdated=False, **look
            )
            if away and file.state is _UPLOADED:
                note_conflict(tables, file, Situation.CHANGED_WHILE_ARCHIVED, now_ns)
        for row_id in change.settled:
            file = tables.files[row_id]
            self._change(
                tables,
                row_id,
                now_ns,
                flags=file.flags & ~FileFlag.RACY,
                hash_due=file.kind is Kind.REGULAR,
            )
        for row_id in change.untracked:
            self._ignore(tables, row_id, now_ns)
        for row_id in change.returned:
            file = self._change(tables, row_id, now_ns, last_seen_ns=None)
            if file.tracking is Tracking.IGNORED:
                self._change(tables, row_id, now_ns, tracking=Tracking.TRACKED)

    def _live_at(self, tables: Tables, directory: DirectoryRow, name: bytes) -> FileRow | None:
        for file in tables.files.values():
            if (file.directory_id, file.name) == (directory.directory_id, name) and file.live:
                return file
        return None

    def _note_missing(self, tables: Tables, row_id: int, last_seen_ns: int) -> None:
        file = tables.files[row_id]
        # An archived file is away because it was archived.
        if file.last_seen_ns is None and file.live and file.state is not LifecycleState.ARCHIVED:
            self._change(tables, row_id, self._clock.now_ns(), last_seen_ns=last_seen_ns)

    def _ignore(self, tables: Tables, row_id: int, now_ns: int) -> None:
        # What an order took out stays out, whatever the ignore rules say later.
        if tables.files[row_id].tracked:
            self._change(tables, row_id, now_ns, tracking=Tracking.IGNORED)

    # -- settling --------------------------------------------------------------------------

    def retire_directories(self, run: Run, gone: Sequence[int], untracked: Sequence[int]) -> None:
        now_ns = self._clock.now_ns()
        with self._writing() as tables:
            for directory_id in [*gone, *untracked]:
                directory = tables.directories[directory_id]
                for file in list(tables.files.values()):
                    if file.directory_id != directory_id or not file.live:
                        continue
                    if directory_id in gone:
                        self._note_missing(tables, file.row_id, directory.scanned_ns)
                    else:
                        self._ignore(tables, file.row_id, now_ns)
                tables.directories[directory_id] = replace(
                    directory,
                    gone=True,
                    signature=None,
                    generation=run.generation,
                    error=None,
                    file_count=0,
                    byte_count=0,
                    ignored_count=0,
                    special_count=0,
                )

    def settle_missing(
        self,
        run: Run,
        *,
        gone: Sequence[int] = (),
        moved: Sequence[Move] = (),
        present: Sequence[int] = (),
    ) -> None:
        now_ns = self._clock.now_ns()
        with self._writing() as tables:
            for row_id in gone:
                # Unless somebody has registered it meanwhile.
                if tables.files[row_id].last_seen_ns is not None:
                    self._change(tables, row_id, now_ns, state=_DELETED)
            for move in moved:
                self._move(tables, run, move, now_ns)
            for row_id in present:
                file = self._change(tables, row_id, now_ns, last_seen_ns=None)
                directory = tables.directories[file.directory_id]
                tables.directories[file.directory_id] = replace(
                    directory, signature=None, gone=False
                )

    def _move(self, tables: Tables, run: Run, move: Move, now_ns: int) -> None:
        old, new = tables.files[move.old_row_id], tables.files[move.new_row_id]
        if old.last_seen_ns is None or new.by_name or not new.live:
            # Somebody registered one of the two by name meanwhile: both stay what they are.
            return
        del tables.files[new.row_id]
        place_before = old.place_before
        if not move.certain and place_before is None:
            place_before = (old.directory_id, old.name, old.fingerprint)
        look = {name: getattr(new, name) for name in _LOOK}
        self._change(
            tables,
            old.row_id,
            now_ns,
            **look,
            directory_id=new.directory_id,
            name=new.name,
            # A rule hid it where it was, and none does where it is now.
            tracking=Tracking.TRACKED if old.tracking is Tracking.IGNORED else old.tracking,
            policy_name=old.policy_name if old.policy_explicit else new.policy_name,
            flags=old.flags & ~FileFlag.RACY | new.flags & FileFlag.RACY,
            hash_due=old.hash_due or not move.certain,
            last_seen_ns=None,
            outdated=new.outdated,
            place_before=place_before,
        )
        self._journal(tables, old.file_id, "move", now_ns, run=run)


def _look(columns: Columns, at: int) -> dict[str, Any]:
    """What was seen of one file, as fields of its row, and that it is due where it has content."""
    kind = Kind(columns.kinds[at])
    # Only a regular file has content.
    without_content = {} if kind is Kind.REGULAR else {"checksum": None}
    return {
        **without_content,
        "kind": kind,
        "size": columns.sizes[at],
        "mtime_ns": columns.mtimes_ns[at],
        "ctime_ns": columns.ctimes_ns[at],
        "inode": columns.inodes[at],
        "mode": columns.modes[at],
        "uid": columns.uids[at],
        "gid": columns.gids[at],
        "nlink": columns.nlinks[at],
        "atime_ns": columns.atimes_ns[at],
        "btime_ns": columns.btimes_ns[at] if columns.btimes_ns else None,
        "hash_due": kind is Kind.REGULAR,
    }


def _is_below(path: bytes, folder: bytes) -> bool:
    return path.startswith(folder + b"/") if folder else path != b""


def _missing(tables: Tables, files: Sequence[FileRow]) -> list[FileRow]:
    # What an act is at work on may just be on its way to the trash.
    pending = {op.file_id for op in tables.operations.values() if op.status == "pending"}
    return [file for file in files if file.last_seen_ns is not None and file.file_id not in pending]


def _stored_directory(row: DirectoryRow) -> StoredDirectory:
    return StoredDirectory(
        row.directory_id, row.path, row.signature, row.scanned_ns, row.ignored_count
    )


def _stored_file(file: FileRow) -> StoredFile:
    return StoredFile(
        row_id=file.row_id,
        name=file.name,
        kind=file.kind,
        size=file.size,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
        inode=file.inode,
        flags=file.flags | OUTDATED * file.outdated,
        tracking=file.tracking,
        hashed=file.checksum is not None,
    )
