"""How full the place of the temporary files is, as whoever provides it says."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lifecycle_sync.model.temp import Usage
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings

_log = logging.getLogger("lifecycle_sync.temp")


@runtime_checkable
class StorageProvider(Protocol):
    """Where temporary files lie."""

    def usage(self) -> Usage:
        """How full it is now; read anew at each call, cheap enough to be asked before each file
        that goes. Raises `OSError` where it cannot be asked."""


class LocalStorageProvider:
    """A folder; its filesystem is asked."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def usage(self) -> Usage:
        return usage_of(self.path)


def get_storage_provider(
    settings: TempStorageCleanupSettings | None = None,
) -> LocalStorageProvider:
    """The provider of the configured folder of temporary files."""
    settings = settings or TempStorageCleanupSettings()
    return LocalStorageProvider(settings.temp_storage_path)


def usage_of(path: str | os.PathLike[str] | int) -> Usage:
    """How full the filesystem is that a path, or an open file, lies on; raises `OSError`."""
    return usage_from(os.statvfs(path))


def usage_from(told: os.statvfs_result) -> Usage:
    """The same of what the kernel has told."""
    return Usage(
        used_bytes=(told.f_blocks - told.f_bfree) * told.f_frsize,
        available_bytes=told.f_bavail * told.f_frsize,
        used_inodes=told.f_files - told.f_ffree,
        available_inodes=told.f_favail,
    )


def asked(provider: Any, folder: str) -> Usage:
    """The provider's answer; of one that has none, or fails, the filesystem's."""
    if isinstance(provider, StorageProvider):
        try:
            return provider.usage()
        except OSError as error:
            _log.warning("the storage provider does not say how full it is: %s", error)
    return usage_of(folder)
