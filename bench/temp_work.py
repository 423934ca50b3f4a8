"""Temporary files, measured in a fresh process: the part of `bench.work` that needs no registry."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import peak_bytes
from lifecycle_sync import FileCleanupManager, TempStorageCleanupSettings
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.service.temp.core import TempCleanup

Arguments = dict[str, Any]
Result = dict[str, Any]

_TRACKED = 10_000
_DAY_NS = 86_400 * 10**9


def temp_delete(arguments: Arguments) -> Result:
    """All files of a tree, which are old and nobody's, deleted for good."""
    settings = TempStorageCleanupSettings(
        environment={},
        temp_storage_path=arguments["root"],
        max_files_per_cleanup=10**9,
        max_cleanup_workers=arguments["workers"],
        min_free_space_gb=0,
        log_cleanup_stats=False,
    )
    # The tree is young: it is looked at two days later.
    clock = FixedClock(time.time_ns() + 2 * _DAY_NS)
    begun, cpu = time.perf_counter(), time.process_time()
    result = TempCleanup(settings, clock=clock).orphaned()
    told = {
        "work": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "peak_bytes": peak_bytes("self"),
    }
    if result["files_deleted"] != arguments["files"] or result["errors"]:
        sys.exit(f"{result['files_deleted']} files were deleted: {result['errors'][:3]}")
    return told


def temp_track(arguments: Arguments) -> Result:
    """Files tracked and untracked, and what that takes of memory."""
    base = Path(arguments["root"])
    manager = FileCleanupManager(base, leases=arguments["leases"], force=True)
    paths = [base / f"file{number}.bin" for number in range(_TRACKED)]
    for path in paths:
        path.touch()
    begun = time.perf_counter()
    for path in paths:
        manager.track_file(path)
    for path in paths:
        manager.untrack_file(path)
    seconds = (time.perf_counter() - begun) / _TRACKED
    own = sum(sys.getsizeof(os.path.abspath(path)) for path in paths)
    tracemalloc.start()
    for path in paths:
        manager.track_file(path)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for path in paths[100:]:
        manager.untrack_file(path)
    begun = time.perf_counter()
    asyncio.run(manager.cleanup_all_tracked())
    cleaned = time.perf_counter() - begun
    for path in paths[100:200]:
        path.touch()
    begun = time.perf_counter()
    for path in paths[100:200]:
        path.unlink()
    unlinked = time.perf_counter() - begun
    return {
        "work": seconds * _TRACKED,
        "microseconds": seconds * 1e6,
        "bytes": (grown - own) / _TRACKED,
        "over_unlinking": (cleaned - unlinked) * 1e3,
    }


TEMP_ACTS: tuple[Callable[[Arguments], Result], ...] = (temp_delete, temp_track)
