"""The temporary files of an application for as long as it lives, as its settings say."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from lifecycle_sync.service.temp.manager import FileCleanupManager
from lifecycle_sync.service.threads import in_thread


class TempFileSettings(Protocol):
    """The section `temp_files` of the settings, or an application's own with these names."""

    @property
    def temp_dir(self) -> Path: ...
    @property
    def cleanup_on_startup(self) -> bool: ...
    @property
    def cleanup_after_processing(self) -> bool: ...
    @property
    def max_temp_age_hours(self) -> float: ...
    @property
    def enable_periodic_cleanup(self) -> bool: ...
    @property
    def cleanup_interval_minutes(self) -> float: ...


@asynccontextmanager
async def managed_temp_files(settings: TempFileSettings) -> AsyncIterator[FileCleanupManager]:
    """A manager for the length of the block: cleaned up at its start and at intervals, if that is
    set, and at its end, when all that is still tracked goes."""
    manager = FileCleanupManager(
        base_temp_dir=Path(settings.temp_dir),
        default_ttl_hours=settings.max_temp_age_hours,
        cleanup_interval_minutes=settings.cleanup_interval_minutes,
    )
    if settings.cleanup_on_startup:
        await manager.cleanup_old_files()
    if settings.enable_periodic_cleanup:
        manager.start_periodic_cleanup()
    try:
        yield manager
    finally:
        await manager.stop_periodic_cleanup()
        await manager.cleanup_all_tracked()


@asynccontextmanager
async def working_folder(
    manager: FileCleanupManager, settings: TempFileSettings
) -> AsyncIterator[Path]:
    """A new folder in the manager's, tracked. It goes at the end of the block, unless
    `cleanup_after_processing` is off: then it goes when it is old, or with the application."""
    folder = manager.base_temp_dir / uuid.uuid4().hex
    await in_thread(folder.mkdir)
    manager.track_file(folder)
    try:
        yield folder
    finally:
        if settings.cleanup_after_processing:
            await manager.cleanup_directory(folder)
