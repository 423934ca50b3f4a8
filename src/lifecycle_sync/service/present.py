"""Records as the Python face shows them, and the statistics of a registry."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lifecycle_sync.clock import NS_PER_DAY, to_datetime, to_iso
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.dates import dates_of
from lifecycle_sync.model.file import FileMetadata, FileRecord, LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.plan import Subject
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.service.engine import Engine

_log = logging.getLogger(__name__)
_LAST_RUNS = 10
_PAGE = 1_000


def present(engine: Engine, records: Sequence[FileRecord]) -> list[FileMetadata]:
    """The documented fields of records; `file_path` is absolute. The policy and the end of the
    retention are those by the rules as they are now."""
    subjects = engine.registry.subjects([record.file_id for record in records])
    rules, now_ns = Rules(engine.registry.policies()), engine.now_ns()
    return [_metadata(engine, it, subjects.get(it.file_id), rules, now_ns) for it in records]


def _metadata(
    engine: Engine, record: FileRecord, subject: Subject | None, rules: Rules, now_ns: int
) -> FileMetadata:
    path = os.path.join(engine.roots.path_of(record.repository_id), record.path)
    born = record.mtime_ns if record.btime_ns is None else min(record.btime_ns, record.mtime_ns)
    policy = None if subject is None else rules.choose(subject, now_ns)
    ends_ns = None
    if subject is not None and policy is not None:
        ends_ns = dates_of(subject, policy).retention_ns
    return FileMetadata(
        file_id=to_text(record.file_id),
        file_path=os.fsdecode(path),
        file_name=os.fsdecode(record.name),
        file_type=record.file_type,
        file_size=record.size,
        created_at=to_datetime(born),
        modified_at=to_datetime(record.mtime_ns),
        accessed_at=to_datetime(record.atime_ns),
        state=record.state,
        policy_name=record.policy_name if policy is None else policy.name,
        checksum=record.checksum.hex() if record.checksum else "",
        version=record.version,
        backup_path=record.backup_path,
        archive_path=record.archive_path,
        expiry_date=None if ends_ns is None else to_datetime(ends_ns),
        last_state_change=to_datetime(record.state_since_ns),
    )


def expired(engine: Engine) -> list[FileMetadata]:
    """All files whose retention is over and that are still there or in the archive, in the order of
    their paths. Reads every record."""
    now = to_datetime(engine.now_ns())
    found: list[FileMetadata] = []
    cursor: str | None = None
    while True:
        page = engine.registry.find(FileQuery(), cursor, _PAGE)
        found += (it for it in present(engine, page.records) if _is_expired(it, now))
        cursor = page.next_cursor
        if cursor is None:
            return found


def _is_expired(file: FileMetadata, now: datetime) -> bool:
    if file.state is LifecycleState.EXPIRED:
        return True
    over = file.expiry_date is not None and file.expiry_date <= now
    return over and file.state is not LifecycleState.DELETED


def tell_of_mirror(settings: Settings) -> None:
    """Say what becomes of a key that is set."""
    if settings.moonshot_api_key is not None:
        _log.warning(
            "moonshot_api_key is set, and the mirror of %s is not there yet: nothing is sent, and"
            " all local work is done",
            settings.moonshot_api_base,
        )


def statistics(engine: Engine) -> dict[str, Any]:
    """What there is: files by state and type, policies, recent operations, the last runs and acts.

    `running` is whether any process runs the loops on a root of this registry.
    """
    registry = engine.registry
    counts = registry.type_counts(None)
    by_state = {state.value: 0 for state in LifecycleState}
    by_type: dict[str, int] = {}
    for count in counts:
        by_state[count.state.value] += count.files
        if count.state is not LifecycleState.DELETED:
            by_type[count.file_type.value] = by_type.get(count.file_type.value, 0) + count.files
    live = [count for count in counts if count.state is not LifecycleState.DELETED]
    now_ns = engine.now_ns()
    return {
        "total_files": sum(count.files for count in live),
        "total_bytes": sum(count.bytes for count in live),
        "files_by_state": by_state,
        "files_by_type": by_type,
        "policies": len(registry.policies()),
        "repositories": len(registry.repositories()),
        "recent_operations_24h": registry.operation_count(now_ns - NS_PER_DAY),
        "running": any(
            engine.locks.taken("run", it.repository_id) for it in registry.repositories()
        ),
        "last_runs": [
            {
                "repository_id": to_text(run.repository_id),
                "operation_type": run.run_type.value,
                "status": run.status.value,
                "start_time": to_iso(run.started_ns),
                "duration_ms": _milliseconds(run.started_ns, run.ended_ns),
                "files_scanned": run.files_scanned,
                "files_added": run.files_added,
                "files_updated": run.files_updated,
                "files_removed": run.files_removed,
            }
            for run in registry.runs(None, _LAST_RUNS)
        ],
        "last_acts": [
            {
                "repository_id": to_text(act.repository_id),
                "operation_type": act.verb,
                "status": act.status,
                "start_time": to_iso(act.started_ns),
                "duration_ms": _milliseconds(act.started_ns, act.ended_ns),
                "counts": None if act.counts is None else json.loads(act.counts),
            }
            for act in registry.acts(None, _LAST_RUNS)
        ],
    }


def _milliseconds(started_ns: int, ended_ns: int | None) -> int | None:
    return None if ended_ns is None else (ended_ns - started_ns) // 1_000_000
