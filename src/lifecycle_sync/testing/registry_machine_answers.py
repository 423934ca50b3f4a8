"""Everything that a registry can be asked about one root, so that two can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lifecycle_sync.model.file import FileFlag, FileRecord
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.registry.protocol import Registry

MANY = 10_000


def answers(registry: Registry, root: bytes, ids: Mapping[bytes, bytes]) -> dict[str, Any]:
    """All answers of a registry, in words that do not depend on how it is made.

    Questions to answers: no row numbers, no seqs, and file ids by `ids` where they stand there.
    """
    records = registry.changes(0, MANY)
    paths = list(registry.directory_paths(root))
    missing = registry.missing(root, 0, MANY)
    pages: list[FileRecord] = []
    cursor = None
    while True:
        page = registry.find(FileQuery(root), cursor, 3)
        pages += page.records
        cursor = page.next_cursor
        if cursor is None:
            break
    due = registry.to_hash(root, 0, MANY)
    return {
        "records": {ids.get(r.file_id, r.file_id): shown(r) for r in records},
        "file_at": {
            r.path: ids.get(at.file_id, at.file_id)
            for r in records
            if (at := registry.file_at(root, r.path)) is not None
        },
        "directories": {path: row[1:] for path, row in registry.directories(root, paths).items()},
        "directory_paths": paths,
        "directory_totals": registry.directory_totals(root),
        "top_folders": registry.top_folders(root, b"", MANY),
        "missing": sorted(file[1:] for file in missing),
        "missing_count": registry.missing_count(root),
        "live_count": registry.live_count(root),
        "to_hash": sorted(task[1:] for task in due),
        "to_hash_totals": registry.to_hash_totals(root),
        "to_scrub": sorted(task[1:] for task in registry.to_scrub(root, 0, MANY)),
        "found": [(record.path, shown(record)) for record in pages],
        "sizes": [
            record.size
            for record in registry.find(FileQuery(root, order="size"), None, MANY).records
        ],
        "type_counts": set(registry.type_counts(root)),
        "flags": [registry.flag_count(root, flag.value) for flag in FileFlag],
        "duplicates": [
            (group.checksum, group.size, {(r.path, r.inode) for r in group.records})
            for group in registry.duplicates(root, None, MANY)[0]
        ],
        "runs": [replace(run, run_id=0, first_seq=0) for run in registry.runs(root, MANY)],
        "operations": {
            ids.get(r.file_id, r.file_id): [
                (op.operation_type, op.status) for op in registry.operations(r.file_id, MANY)
            ]
            for r in records
        },
    }


def shown(record: FileRecord) -> FileRecord:
    """A record without what only says when it was looked at, and the place among all changes."""
    return replace(record, file_id=b"", scan_generation=0, scanned_ns=0, seq=0, changed_ns=0)
