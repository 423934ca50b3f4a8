"""Where files of our own lie: they are never subjects, not even inside a root."""

from __future__ import annotations

import os

from lifecycle_sync.config import Settings

_COMPANIONS = ("", "-wal", "-shm", ".lock", ".locks", ".index", ".rebuild", ".hashing", ".drill")
# Databases that a rebuild set aside, and the copies that migrations take.
_KEPT = (".corrupt-", ".set-aside-", ".v")


def own_files(settings: Settings) -> list[str]:
    """The paths of the database with all that lies beside it, the vault and the archive with
    their copies; not each of them exists."""
    database = os.path.realpath(settings.database_path)
    return [
        os.fspath(settings.database_path),
        *(database + suffix for suffix in _COMPANIONS),
        *kept_databases(database),
        os.fspath(settings.backup_path),
        os.fspath(settings.archive_path),
        *map(os.fspath, (*settings.backup_copies, *settings.archive_copies)),
    ]


def is_own(settings: Settings, path: bytes) -> bool:
    """Whether a path is one of ours or lies below one."""
    real = os.path.realpath(path)
    ours = [os.path.realpath(os.fsencode(own)) for own in own_files(settings)]
    return any(real == own or real.startswith(own + b"/") for own in ours)


def kept_databases(database: str) -> list[str]:
    """The files of earlier databases beside the one at a path."""
    folder, name = os.path.split(database)
    starts = tuple(name + start for start in _KEPT)
    try:
        return [
            os.path.join(folder, entry) for entry in os.listdir(folder) if entry.startswith(starts)
        ]
    except OSError:
        return []
