"""What was done: per file (the journal), per run of a scan and per run of an act."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class SyncOperation:
    """One row of the journal as the documented `sync_operations` table shows it.

    `details` is JSON text or None; `timestamp` an aware UTC datetime.
    """

    operation_id: str
    file_id: str
    operation_type: str
    timestamp: datetime
    status: str
    details: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the journal as the registry keeps it; times in nanoseconds since 1970 UTC.

    `run_id` is that of the scan that found a move or a registration, and the `act_id` for what an
    act did.
    """

    operation_id: bytes
    file_id: bytes
    operation_type: str
    timestamp_ns: int
    status: str
    run_id: int | None = None
    finished_ns: int | None = None
    details: str | None = None


class RunType(StrEnum):
    REALTIME = "realtime"
    RECONCILIATION = "reconciliation"
    STARTUP = "startup"


class RunStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over a repository. Times are nanoseconds since 1970 UTC.

    `first_seq` is the last change before the run: what the run changed has a greater `seq`.
    """

    run_id: int
    repository_id: bytes
    run_type: RunType
    started_ns: int
    generation: int
    first_seq: int
    # A whole scan of the repository; others look at single files or folders.
    whole: bool = False
    status: RunStatus = RunStatus.RUNNING
    ended_ns: int | None = None
    files_scanned: int = 0
    files_added: int = 0
    files_updated: int = 0
    files_removed: int = 0
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class ActRun:
    """One run of an act over files of a repository. Times are nanoseconds since 1970 UTC.

    `status` is "running" until the run says otherwise: whether it still runs only its lock tells.
    `counts` is JSON text.
    """

    act_id: int
    repository_id: bytes
    verb: str
    started_ns: int
    status: str = "running"
    ended_ns: int | None = None
    counts: str | None = None
