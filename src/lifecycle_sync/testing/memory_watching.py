"""What following a root asks of a `MemoryRegistry` and notes in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from lifecycle_sync.model.check import CheckNote
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.model.record import StoredDirectory
from lifecycle_sync.model.watch import ScrubNote, WatchNote
from lifecycle_sync.testing.memory_tables import FileRow, MemoryBase, Tables

_AWAY = {LifecycleState.ARCHIVED, LifecycleState.DELETED}


class MemoryWatching(MemoryBase):
    """`WatchStore`."""

    def directories_under(
        self, repository_id: bytes, path: bytes, after: bytes | None, limit: int
    ) -> list[StoredDirectory]:
        with self._reading() as tables:
            self._repository(tables, repository_id)
            found = [
                row
                for row in tables.directories.values()
                if row.repository_id == repository_id
                and not row.gone
                and (not path or row.path == path or row.path.startswith(path + b"/"))
                and (after is None or row.path > after)
            ]
            found.sort(key=lambda row: row.path)
            return [
                StoredDirectory(
                    row.directory_id, row.path, row.signature, row.scanned_ns, row.ignored_count
                )
                for row in found[:limit]
            ]

    def linked_directories(self, repository_id: bytes, inodes: Collection[int]) -> list[bytes]:
        with self._reading() as tables:
            return sorted(
                {
                    tables.directories[file.directory_id].path
                    for file in self._files_of(tables, repository_id)
                    if file.live
                    and file.inode in inodes
                    and not tables.directories[file.directory_id].gone
                }
            )

    def hash_again(
        self, repository_id: bytes, contents: Mapping[bytes, Collection[bytes] | None]
    ) -> int:
        with self._writing() as tables:
            self._repository(tables, repository_id)
            named: list[FileRow] = []
            for path, names in contents.items():
                row = self._directory_at(tables, repository_id, path)
                named += [
                    file
                    for file in tables.files.values()
                    if row is not None
                    and file.directory_id == row.directory_id
                    and (names is None or file.name in names)
                    and _has_content(file)
                ]
            inodes = {file.inode for file in named if file.nlink > 1}
            rows = {file.row_id for file in named} | {
                file.row_id
                for file in self._files_of(tables, repository_id)
                if file.inode in inodes and _has_content(file)
            }
            for row_id in rows:
                tables.files[row_id] = replace(tables.files[row_id], hash_due=True)
            return len(named)

    def watch_note(self, repository_id: bytes) -> WatchNote:
        with self._reading() as tables:
            self._repository(tables, repository_id)
            return tables.watching.get(repository_id, WatchNote())

    def note_recrawl(self, repository_id: bytes, needed: bool) -> None:
        self._note(repository_id, needs_recrawl=needed)

    def note_health(self, repository_id: bytes, now_ns: int, health: str) -> None:
        self._note(repository_id, noted_ns=now_ns, health=health)

    def _note(self, repository_id: bytes, **changes: object) -> None:
        with self._writing() as tables:
            self._repository(tables, repository_id)
            note = tables.watching.get(repository_id, WatchNote())
            tables.watching[repository_id] = replace(note, **changes)  # type: ignore[arg-type]

    def scrub_note(self, repository_id: bytes) -> ScrubNote:
        with self._reading() as tables:
            self._repository(tables, repository_id)
            return tables.scrubs.get(repository_id, ScrubNote())

    def note_scrub(self, repository_id: bytes, note: ScrubNote) -> None:
        with self._writing() as tables:
            self._repository(tables, repository_id)
            tables.scrubs[repository_id] = note

    def loops(self) -> list[LoopNote]:
        with self._reading() as tables:
            return sorted(tables.loops.values())

    def note_loop(self, note: LoopNote) -> None:
        with self._writing() as tables:
            tables.loops[note.name] = note

    def checks(self) -> list[CheckNote]:
        with self._reading() as tables:
            return [tables.checks[key] for key in sorted(tables.checks)]

    def note_check(self, note: CheckNote) -> None:
        with self._writing() as tables:
            tables.checks[note.what, note.subject] = note

    def prune_runs(self, repository_id: bytes, keep: int) -> None:
        with self._writing() as tables:
            self._repository(tables, repository_id)
            old = _realtime_runs(tables, repository_id)
            for run_id in old[: len(old) - keep] if keep else old:
                del tables.runs[run_id]


def _has_content(file: FileRow) -> bool:
    return file.kind is Kind.REGULAR and file.state not in _AWAY


def _realtime_runs(tables: Tables, repository_id: bytes) -> list[int]:
    return sorted(
        run.run_id
        for run in tables.runs.values()
        if run.repository_id == repository_id and run.run_type is RunType.REALTIME and not run.whole
    )
