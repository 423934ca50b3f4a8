"""What one clean-up of temporary files comes to: counted while it runs, told as a dictionary."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from lifecycle_sync.act.disposal import Discarded
from lifecycle_sync.clock import Clock, to_iso
from lifecycle_sync.model.temp import TempFile

_ERRORS_MAX = 1000

_log = logging.getLogger("lifecycle_sync.temp")


class CleanupTrigger(StrEnum):
    """Why a clean-up ran."""

    CHUNK_COMPLETION = "chunk_completion"
    CRASH_RECOVERY = "crash_recovery"
    EMERGENCY_THRESHOLD = "emergency_threshold"
    ORPHANED_FILES = "orphaned_files"
    SCHEDULED = "scheduled"
    MANUAL = "manual"


# Told of each file that went, or would go: its path, its size, and why.
Witness = Callable[[bytes, int, str], None]


class Tally:
    """Counts; one clean-up, one thread at a time."""

    def __init__(
        self,
        trigger: CleanupTrigger,
        clock: Clock,
        percent: float,
        *,
        dry_run: bool,
        limit: int,
        witness: Witness | None = None,
    ) -> None:
        self.trigger = trigger
        self.dry_run = dry_run
        self.deleted = self.freed = self.scanned = self.would = self.would_free = 0
        self.errors: list[str] = []
        self._clock = clock
        self._witness = witness
        self._watched = witness is not None or _log.isEnabledFor(logging.DEBUG)
        self._limit = limit
        self._started_ns = clock.now_ns()
        self._began = time.monotonic()
        self._before = percent

    @property
    def left(self) -> int:
        """How many files this clean-up may still delete."""
        return max(self._limit - self.deleted - self.would, 0)

    def done(self, base: bytes, file: TempFile, reason: str, done: Discarded) -> None:
        """One file was discarded, or was not."""
        if done.removed:
            self.deleted += 1
            self.freed += done.freed
            if self._watched:
                path = os.path.join(base, file.path)
                _log.debug("deleted %s: %s", os.fsdecode(path), reason)
                if self._witness is not None:
                    self._witness(path, file.size, reason)
        elif done.failed:
            self.failed(f"{os.fsdecode(os.path.join(base, file.path))}: {done.reason}")
        elif not done.missing:
            path = os.path.join(base, file.path)
            _log.info("kept %s: %s", os.fsdecode(path), done.reason)

    def would_delete(self, base: bytes, file: TempFile, reason: str) -> None:
        """One file would go; nothing is done."""
        path = os.path.join(base, file.path)
        self.would += 1
        self.would_free += file.blocks
        _log.info("would delete %s: %s", os.fsdecode(path), reason)
        if self._witness is not None:
            self._witness(path, file.size, reason)

    def purged(self, count: int, size: int, sample: Iterable[tuple[bytes, int]], why: str) -> None:
        """Files of a trash went, or in a dry run would."""
        if self.dry_run:
            self.would += count
            self.would_free += size
        else:
            self.deleted += count
            self.freed += size
        for path, each in sample:
            _log.info(
                "%s %s: %s", "would purge" if self.dry_run else "purged", os.fsdecode(path), why
            )
            if self._witness is not None:
                self._witness(path, each, why)

    def failed(self, message: str, *, log: bool = True) -> None:
        """Something went wrong; the clean-up goes on."""
        if log:
            _log.error("%s", message)
        if len(self.errors) < _ERRORS_MAX:
            self.errors.append(message)

    def result(self, percent: float) -> dict[str, Any]:
        """The documented keys, all of them JSON."""
        return {
            "trigger": self.trigger.value,
            "start_time": to_iso(self._started_ns),
            "end_time": to_iso(self._clock.now_ns()),
            "duration_seconds": round(time.monotonic() - self._began, 6),
            "files_scanned": self.scanned,
            "files_deleted": self.deleted,
            "bytes_freed": self.freed,
            "storage_before_percent": round(self._before, 2),
            "storage_after_percent": round(percent, 2),
            "errors": list(self.errors),
        }
