"""What `SyncManager` takes and gives: its settings, and records under their documented names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lifecycle_sync.clock import to_datetime
from lifecycle_sync.errors import ConfigError
from lifecycle_sync.model.file import TYPE_OF_SUFFIX, FileRecord, FileType
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.operation import Run
from lifecycle_sync.service.watch_health import RootHealth

_NO_TIME = timedelta(0)


@dataclass
class FileWatcherConfig:
    """`debounce_interval`: what changes is looked at after so long without another change, and
    after four times that at the latest."""

    debounce_interval: timedelta = timedelta(milliseconds=500)


@dataclass
class ReconciliationConfig:
    """`batch_size`: files that are recorded in one transaction. More is faster, and keeps others
    who write to the registry waiting for longer; 20,000 take some 200 ms. `max_concurrency`: roots
    that are looked at at once, and processes that hash. `calculate_hashes`: whether files are
    hashed at all."""

    batch_size: int = 100
    max_concurrency: int = 4
    calculate_hashes: bool = True


@dataclass
class SyncManagerConfig:
    """Settings of a `SyncManager`; they can be changed until it is made.

    `reconciliation_interval` is between two looks at everything. With `file_types` only files of
    these types are tracked.
    """

    reconciliation_interval: timedelta = timedelta(hours=24)
    file_watcher_config: FileWatcherConfig = field(default_factory=FileWatcherConfig)
    reconciliation_config: ReconciliationConfig = field(default_factory=ReconciliationConfig)
    file_types: Iterable[FileType | str] = ()

    def check(self) -> None:
        """Raises `ConfigError` with every fault."""
        faults = []
        reconciliation = self.reconciliation_config
        for name, interval in (
            ("reconciliation_interval", self.reconciliation_interval),
            ("debounce_interval", self.file_watcher_config.debounce_interval),
        ):
            if interval <= _NO_TIME:
                faults.append(f"{name} = {interval!r}: is not over 0")
        for name, number in (
            ("batch_size", reconciliation.batch_size),
            ("max_concurrency", reconciliation.max_concurrency),
        ):
            if number < 1:
                faults.append(f"{name} = {number!r}: is less than 1")
        known = {file_type.value for file_type in FileType}
        faults += [
            f"file_types: {given!r} is no type (one of {', '.join(sorted(known))})"
            for given in self.file_types
            if given not in known
        ]
        if faults:
            raise ConfigError(faults)

    def patterns(self) -> tuple[str, ...]:
        """Ignore rules that leave only the wanted types."""
        wanted = {FileType(given) for given in self.file_types}
        if not wanted:
            return ()
        suffixes = sorted(
            suffix.decode() for suffix, file_type in TYPE_OF_SUFFIX.items() if file_type in wanted
        )
        anyhow = (
            "".join(f"[{it}{it.upper()}]" if it.isalpha() else it for it in suffix)
            for suffix in suffixes
        )
        # What brings back a type brings back no hidden file.
        return ("*", "!*/", *(f"!*{suffix}" for suffix in anyhow), ".*")


@dataclass(frozen=True, slots=True)
class SyncRun:
    """One run, under the documented names. Times are aware and in UTC; `end_time`, `duration_ms`
    are None while it runs. `operation_type` is "realtime", "reconciliation" or "startup", `status`
    "running", "completed" or "failed"."""

    id: int
    repository_id: str
    operation_type: str
    files_scanned: int
    files_added: int
    files_updated: int
    files_removed: int
    start_time: datetime
    end_time: datetime | None
    duration_ms: int | None
    status: str
    error_message: str | None


@dataclass(frozen=True, slots=True)
class SyncFileRecord:
    """One file, under the documented names. `file_path` is relative to the user area;
    `content_hash` None until the file is hashed."""

    id: str
    repository_id: str
    file_path: str
    file_size: int
    mod_time: datetime
    content_hash: str | None
    last_scanned: datetime
    scan_generation: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """Where a repository stands."""

    repository_id: str
    total_files: int
    is_watching: bool
    last_sync_operation: SyncRun | None
    health: RootHealth | None = None


def run_record(run: Run) -> SyncRun:
    """A run under the documented names."""
    ended = run.ended_ns
    return SyncRun(
        id=run.run_id,
        repository_id=to_text(run.repository_id),
        operation_type=run.run_type.value,
        files_scanned=run.files_scanned,
        files_added=run.files_added,
        files_updated=run.files_updated,
        files_removed=run.files_removed,
        start_time=to_datetime(run.started_ns),
        end_time=None if ended is None else to_datetime(ended),
        duration_ms=None if ended is None else (ended - run.started_ns) // 1_000_000,
        status=run.status.value,
        error_message=run.error_message,
    )


def file_record(record: FileRecord) -> SyncFileRecord:
    """A record under the documented names."""
    return SyncFileRecord(
        id=to_text(record.file_id),
        repository_id=to_text(record.repository_id),
        file_path=os.fsdecode(record.path),
        file_size=record.size,
        mod_time=to_datetime(record.mtime_ns),
        content_hash=record.checksum.hex() if record.checksum else None,
        last_scanned=to_datetime(record.scanned_ns),
        scan_generation=record.scan_generation,
        created_at=to_datetime(record.registered_ns),
        updated_at=to_datetime(record.changed_ns),
    )
