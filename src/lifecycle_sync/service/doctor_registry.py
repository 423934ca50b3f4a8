"""The registry under examination, opened for reading only."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from lifecycle_sync.clock import Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import BusyError, LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.mounts import filesystem_of
from lifecycle_sync.registry.header import log_size
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.doctor_findings import (
    Finding,
    fault,
    fault_from,
    fine,
    size_text,
    warning,
)
from lifecycle_sync.service.doctor_settings import configured_roots
from lifecycle_sync.service.marker import read_marker
from lifecycle_sync.service.own_files import kept_databases

# What the log is cut back to after a checkpoint.
_LOG_MAX = 64 << 20
_LOCK_SECONDS = 1.0
_SHOWN = 3
_REBUILD = "`lifecycle rebuild` sets it aside and makes a new one from the roots"


def examine_registry(
    settings: Settings, clock: Clock, fs: FileOps
) -> tuple[list[Finding], SqliteRegistry | None]:
    """The findings, and the registry for who looks on; the caller closes it."""
    path = os.path.realpath(settings.database_path)
    found = []
    if os.path.exists(path + ".rebuild"):
        found.append(
            warning(
                "registry.rebuild",
                path,
                "a rebuild was stopped before its end",
                "`lifecycle rebuild` goes on with it",
            )
        )
    if not os.path.lexists(path):
        return [*found, _missing(path, settings, fs)], None
    found += _place(path)
    try:
        registry = SqliteRegistry.open(
            path, clock=clock, fs=fs, read_only=True, lock_timeout=_LOCK_SECONDS
        )
    except BusyError as error:
        busy = warning("registry.lock", path, error.cause, error.remedy)
        return [*found, busy], None
    except LifecycleError as error:
        return [*found, fault_from("registry.open", path, error)], None
    found.append(fine("registry.open", path, f"{size_text(os.path.getsize(path))}, lock is free"))
    found += _integrity(registry, path)
    found += _log(path)
    found += _kept_back(path)
    return found, registry


def _missing(path: str, settings: Settings, fs: FileOps) -> Finding:
    marked = [root for root in configured_roots(settings) if _has_marker(root, fs)]
    if marked or log_size(path):
        where = f", but {marked[0]} is a root of one" if marked else ", but its log is"
        return fault(
            "registry.exists",
            path,
            f"is not there{where}",
            "put it back, or `lifecycle rebuild` makes a new one from the roots",
        )
    return fine("registry.exists", path, "none yet; `lifecycle run FOLDER` makes one")


def _has_marker(root: str, fs: FileOps) -> bool:
    try:
        return read_marker(fs, os.fsencode(root)) is not None
    except LifecycleError:
        return True
    except OSError:
        return False


def _place(path: str) -> list[Finding]:
    found = []
    filesystem = filesystem_of(os.fsencode(os.path.dirname(path)))
    if filesystem.network:
        found.append(
            fault(
                "registry.filesystem",
                path,
                f"lies on a network filesystem ({filesystem.type}), where SQLite's locks fail",
                "move it to a local disk and name that with --database",
            )
        )
    else:
        found.append(fine("registry.filesystem", path, filesystem.type or "unknown"))
    mode = os.stat(path).st_mode
    folder = os.path.dirname(path)
    folder_mode = os.stat(folder).st_mode
    if mode & stat.S_IWOTH:
        found.append(
            fault("registry.permissions", path, "anybody may write to it", f"chmod 600 {path}")
        )
    elif folder_mode & stat.S_IWOTH and not folder_mode & stat.S_ISVTX:
        found.append(
            fault(
                "registry.permissions",
                folder,
                "anybody may replace the database in it",
                f"chmod o-w {folder}",
            )
        )
    elif mode & stat.S_IWGRP:
        found.append(
            warning("registry.permissions", path, "a group may write to it", f"chmod 600 {path}")
        )
    elif not os.access(path, os.R_OK | os.W_OK):
        found.append(
            fault(
                "registry.permissions",
                path,
                "this user may not write to it",
                "use the user that it belongs to, or give it to this one with chown",
            )
        )
    else:
        found.append(fine("registry.permissions", path, stat.filemode(mode)))
    return found


def _integrity(registry: SqliteRegistry, path: str) -> list[Finding]:
    try:
        faults: Sequence[str] = registry.check_integrity()
    except LifecycleError as error:
        faults = [error.cause]
    if not faults:
        return [fine("registry.integrity", path, "every page and index is sound")]
    found = [fault("registry.integrity", path, text, _REBUILD) for text in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        found.append(
            fault("registry.integrity", path, f"and {len(faults) - _SHOWN} more", _REBUILD)
        )
    return found


def _log(path: str) -> list[Finding]:
    size = log_size(path)
    if size > 2 * _LOG_MAX:
        return [
            warning(
                "registry.log",
                path + "-wal",
                f"has grown to {size_text(size)}: some program reads without an end",
                "end long queries on the registry, or start `lifecycle run` again",
            )
        ]
    return [fine("registry.log", path + "-wal", size_text(size))]


def _kept_back(path: str) -> list[Finding]:
    """Databases that rebuilds set aside, and copies that migrations took."""
    sizes = [os.stat(kept).st_size for kept in kept_databases(path)]
    if not sizes:
        return []
    message = f"{len(sizes)} files of earlier databases, {size_text(sum(sizes))}"
    return [fine("registry.kept", os.path.dirname(path), message)]
