"""Conflicts between disk and registry in a `MemoryRegistry`."""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle_sync.model.conflict import Conflict, Resolved, Situation
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.testing.memory_tables import FileRow, MemoryBase, Tables

_BRINGS_BACK = {"undelete", "restore", "recall"}
_AWAY = {LifecycleState.ARCHIVED, LifecycleState.DELETED}


class MemoryConflicts(MemoryBase):
    """`ConflictStore`."""

    def note_renamed_onto(self, row_ids: Sequence[int], now_ns: int) -> None:
        with self._writing() as tables:
            for row_id in row_ids:
                gone = tables.files.get(row_id)
                for file in list(tables.files.values()):
                    if gone is not None and _lies_at_the_place_of(gone, file):
                        situation = Situation.RENAMED_ONTO
                        note_conflict(tables, file, situation, now_ns, other=gone.file_id)

    def conflicts(self, repository_id: bytes, after: int, limit: int) -> list[Conflict]:
        with self._reading() as tables:
            mine = {file.row_id for file in self._files_of(tables, repository_id)}
            return [
                item
                for row_id, item in sorted(tables.conflicts.items())
                if row_id in mine and row_id > after
            ][:limit]

    def conflict_count(self, repository_id: bytes) -> int:
        return len(self.conflicts(repository_id, 0, 2**62))

    def close_conflicts(self, resolved: Sequence[Resolved], now_ns: int) -> None:
        with self._writing() as tables:
            for item in resolved:
                known = tables.conflicts.pop(item.row_id, None)
                if known is not None and item.row_id in tables.files:
                    self._journal(tables, known.file_id, "conflict", now_ns, details=item.details)


def _lies_at_the_place_of(gone: FileRow, file: FileRow) -> bool:
    same = (gone.repository_id, gone.inode, gone.size, gone.mtime_ns, gone.algorithm) == (
        file.repository_id,
        file.inode,
        file.size,
        file.mtime_ns,
        file.algorithm,
    )
    return (
        same
        and gone.row_id != file.row_id
        and gone.kind is file.kind is Kind.REGULAR
        and file.state not in _AWAY
        and file.tracked
        and file.last_seen_ns is None
        and not gone.hash_due
        and file.hash_due
        and None not in (gone.checksum, file.checksum)
        and gone.checksum != file.checksum
    )


def note_conflict(
    tables: Tables,
    file: FileRow,
    situation: Situation,
    now_ns: int,
    *,
    other: bytes | None = None,
) -> None:
    """Of two for one record the first counts."""
    checksum = file.checksum if situation is Situation.RENAMED_ONTO else None
    found = Conflict(file.row_id, file.file_id, situation, other, checksum, now_ns)
    tables.conflicts.setdefault(file.row_id, found)


def note_recreated(tables: Tables, file: FileRow, now_ns: int) -> None:
    """Where an act has deleted the one that was at the place of a new record."""
    for gone in sorted(tables.files.values(), key=lambda it: -it.row_id):
        place = (gone.directory_id, gone.name) == (file.directory_id, file.name)
        if not place or gone.live or gone.row_id >= file.row_id:
            continue
        acts = [it for it in tables.operations.values() if it.file_id == gone.file_id]
        deciding = [it for it in acts if it.operation_type in {"delete", *_BRINGS_BACK}]
        last = max(deciding, key=lambda it: it.operation_id, default=None)
        pending = any(it.status == "pending" for it in acts)
        if last is not None and last.operation_type == "delete" and not pending:
            note_conflict(tables, file, Situation.RECREATED, now_ns, other=gone.file_id)
            return


def is_acted_on(tables: Tables, file: FileRow) -> bool:
    """Whether an act on a file is pending."""
    return any(
        it.file_id == file.file_id and it.status == "pending" for it in tables.operations.values()
    )
