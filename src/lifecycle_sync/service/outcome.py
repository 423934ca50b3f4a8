"""What passes came to, for a door to show: exit codes, what went wrong, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.errors import (
    FilesFailedError,
    GuardError,
    LifecycleError,
    OfflineError,
)
from lifecycle_sync.model.record import DirectoryTotals
from lifecycle_sync.observe.walker import MOUNT_POINT
from lifecycle_sync.report.records import (
    below,
    error_fields,
    path_fields,
    repository_fields,
    run_fields,
    utf8_text,
)
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine


@dataclass(frozen=True, slots=True)
class PassOutcome:
    """A pass over one root, judged.

    `failed_folders` could not be listed; `mount_points` belong to another filesystem, which is
    never crossed, so what lies there is unprotected. Both are (path relative to the root, reason).
    """

    report: SyncReport
    totals: DirectoryTotals
    failed_folders: tuple[tuple[bytes, str], ...] = ()
    mount_points: tuple[tuple[bytes, str], ...] = ()

    @property
    def first(self) -> bool:
        """Whether no pass had seen the whole root before this one."""
        return self.report.repository.complete_generation == 0

    @property
    def changed(self) -> bool:
        """Whether the pass found the root other than the registry knew it."""
        run, hashes = self.report.run, self.report.hashes
        found = run is not None and (run.files_added or run.files_updated or run.files_removed)
        return bool(found or hashes.changed or hashes.suspect)

    @property
    def failure(self) -> LifecycleError | None:
        """Why the pass did not do all it should; None for one that did, and for *shrink*'s "wait",
        which is no failure."""
        report = self.report
        if report.error is not None:
            return report.error
        verdict = report.verdict
        if not report.scanned and verdict is not None:
            kind = OfflineError if verdict.outcome is Outcome.OFFLINE else GuardError
            return kind(
                verdict.reason,
                operation="sync",
                subject=report.repository.path,
                remedy=verdict.remedy,
            )
        failed = len(self.failed_folders) + report.hashes.failed + report.hashes.suspect
        if failed:
            return FilesFailedError(
                f"files or folders that could not be read, or are damaged: {failed:,}",
                failed=failed,
                operation="sync",
            )
        return None

    @property
    def exit_code(self) -> int:
        return 0 if self.failure is None else self.failure.exit_code


def outcome_of(engine: Engine, report: SyncReport) -> PassOutcome:
    """A report judged, with what the registry knows of the root's folders."""
    totals = engine.registry.directory_totals(report.repository.repository_id)
    mounts = tuple(folder for folder in totals.failed if folder[1] == MOUNT_POINT)
    failed = tuple(folder for folder in totals.failed if folder[1] != MOUNT_POINT)
    return PassOutcome(report, totals, failed if report.scanned else (), mounts)


def exit_code_of(outcomes: Sequence[PassOutcome]) -> int:
    """The code for all passes of an order.

    One that failed outright makes it 1. If all went the same way it is theirs; if some roots were
    held, offline or had unreadable files and others not, the order finished with failures: 3.
    """
    codes = {outcome.exit_code for outcome in outcomes}
    if len(codes) <= 1:
        return next(iter(codes), 0)
    return 1 if codes & {1, 2} else 3


def outcome_fields(outcome: PassOutcome) -> dict[str, Any]:
    """A pass as a part of a JSON document."""
    report = outcome.report
    verdict, failure = report.verdict, outcome.failure
    return {
        **repository_fields(report.repository),
        "status": report.repository.status.value,
        "first_index": outcome.first,
        "below": utf8_text(report.below) if report.below else None,
        "run": None if report.run is None else run_fields(report.run),
        "files_moved": report.moved,
        "missing_files": report.missing,
        "folders": {
            "listed": report.counts.directories,
            "unchanged": report.counts.unchanged_directories,
            "failed": [
                {**path_fields(below(report.repository.path, path)), "reason": reason}
                for path, reason in outcome.failed_folders
            ],
            "not_crossed": [
                path_fields(below(report.repository.path, path))
                for path, _reason in outcome.mount_points
            ],
        },
        "hashes": {
            "hashed": report.hashes.hashed,
            "changed": report.hashes.changed,
            "suspect": report.hashes.suspect,
            "unstable": report.hashes.unstable,
            "failed": report.hashes.failed,
            "bytes": report.hash_bytes,
            "seconds": round(report.hash_seconds, 3),
        },
        "guard": None
        if verdict is None
        else {
            "guard": verdict.guard,
            "outcome": verdict.outcome.value,
            "reason": utf8_text(verdict.reason),
            "remedy": utf8_text(verdict.remedy),
        },
        "error": None if failure is None else error_fields(failure),
        "exit_code": outcome.exit_code,
    }
