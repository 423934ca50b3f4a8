"""Keeps a registry of files in step with the disk, and backs up, archives and deletes by policy.

The public names are imported when they are first asked for, so that `import lifecycle_sync` costs
next to nothing and a program pays only for what it uses.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lifecycle_sync._version import __version__

if sys.platform == "win32":
    # Nothing would keep a deletion inside its root there.
    raise ImportError(
        "Lifecycle Sync runs on Linux and macOS, not on Windows, which has no directory descriptors"
        " (use it inside WSL)"
    )

if TYPE_CHECKING:
    from lifecycle_sync.config import Settings, load_config
    from lifecycle_sync.errors import LifecycleError
    from lifecycle_sync.model.file import FileMetadata, FileType, LifecycleState
    from lifecycle_sync.model.operation import SyncOperation
    from lifecycle_sync.model.policy import LifecyclePolicy
    from lifecycle_sync.service.background import LifecycleScheduler
    from lifecycle_sync.service.host.service import CleanupService
    from lifecycle_sync.service.lifecycle import LifecycleSync
    from lifecycle_sync.service.sync_manager import SyncManager
    from lifecycle_sync.service.sync_records import (
        FileWatcherConfig,
        ReconciliationConfig,
        SyncManagerConfig,
    )
    from lifecycle_sync.service.temp.cleanup import (
        OrphanedFileDetector,
        TempStorageCleanupService,
    )
    from lifecycle_sync.service.temp.context import TempFileContext
    from lifecycle_sync.service.temp.context_async import temp_file_async
    from lifecycle_sync.service.temp.manager import FileCleanupManager
    from lifecycle_sync.service.temp.provider import get_storage_provider
    from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings

__all__ = [
    "CleanupService",
    "FileCleanupManager",
    "FileMetadata",
    "FileType",
    "FileWatcherConfig",
    "LifecycleError",
    "LifecyclePolicy",
    "LifecycleScheduler",
    "LifecycleState",
    "LifecycleSync",
    "OrphanedFileDetector",
    "ReconciliationConfig",
    "Settings",
    "SyncManager",
    "SyncManagerConfig",
    "SyncOperation",
    "TempFileContext",
    "TempStorageCleanupService",
    "TempStorageCleanupSettings",
    "__version__",
    "get_storage_provider",
    "load_config",
    "temp_file_async",
]

_HOMES = {
    "CleanupService": "service.host.service",
    "FileCleanupManager": "service.temp.manager",
    "FileMetadata": "model.file",
    "FileType": "model.file",
    "FileWatcherConfig": "service.sync_records",
    "LifecycleError": "errors",
    "LifecyclePolicy": "model.policy",
    "LifecycleScheduler": "service.background",
    "LifecycleState": "model.file",
    "LifecycleSync": "service.lifecycle",
    "ReconciliationConfig": "service.sync_records",
    "OrphanedFileDetector": "service.temp.cleanup",
    "Settings": "config",
    "SyncManager": "service.sync_manager",
    "SyncManagerConfig": "service.sync_records",
    "SyncOperation": "model.operation",
    "TempFileContext": "service.temp.context",
    "TempStorageCleanupService": "service.temp.cleanup",
    "TempStorageCleanupSettings": "service.temp.settings",
    "get_storage_provider": "service.temp.provider",
    "load_config": "config",
    "temp_file_async": "service.temp.context_async",
}


if not TYPE_CHECKING:
    # A type checker that saw this would take every name for a public one.
    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value  # the next access does not come here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
