"""What the first hundred bytes of a database file say, read before SQLite may touch the file.

To open a database with SQLite can change it (a log is recovered, a checkpoint is written), so what
is not ours, or not for this version, is refused by its header alone where that says enough.
The fields are those of https://www.sqlite.org/fileformat.html#the_database_header.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from lifecycle_sync.errors import (
    RegistryCorruptError,
    RegistryError,
    RegistryForeignError,
    RegistryNewerError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.registry.faults import REBUILD

APPLICATION_ID = 0x4C435359  # "LCSY"
_MAGIC = b"SQLite format 3\0"
_LENGTH = 100


class Header(NamedTuple):
    """Bytes a page, pages in the file, whose it is, and which schema it has."""

    page_size: int
    page_count: int
    application_id: int
    user_version: int


def read_header(fs: FileOps, path: str) -> Header | None:
    """The header of a file, None for an empty one.

    Raises `RegistryCorruptError` for what is no SQLite database, and `OSError`.
    """
    head = fs.read_file(path, limit=_LENGTH)
    if not head:
        return None
    if len(head) < _LENGTH or not head.startswith(_MAGIC):
        raise RegistryCorruptError(
            "is not a SQLite database",
            operation="open registry",
            subject=path,
            remedy=f"name another file with --database, or, if it was a registry, {REBUILD}",
        )
    page_size = int.from_bytes(head[16:18], "big")
    return Header(
        page_size=65536 if page_size == 1 else page_size,
        page_count=int.from_bytes(head[28:32], "big"),
        application_id=int.from_bytes(head[68:72], "big"),
        user_version=int.from_bytes(head[60:64], "big"),
    )


def check_header(fs: FileOps, path: str, newest_version: int) -> None:
    """Refuse what is no registry of this version, or not the whole of one, by its header.

    Raises `RegistryError` and its kinds, and `OSError`. As long as the log has anything, the
    header may be older than the database: then it may only say what no log can change.
    """
    if not os.path.isfile(path):
        raise RegistryError(
            "is not a file",
            operation="open registry",
            subject=path,
            remedy="name a file with --database",
        )
    header = read_header(fs, path)
    if header is None:
        return
    log_is_empty = log_size(path) == 0
    size = os.stat(path).st_size
    unmarked = header.application_id == 0 and log_is_empty and size > header.page_size
    if unmarked or header.application_id not in (0, APPLICATION_ID):
        raise foreign(path)
    if header.application_id == APPLICATION_ID and header.user_version > newest_version:
        raise newer(path, header.user_version, newest_version)
    expected = header.page_size * header.page_count
    if log_is_empty and size < expected:
        raise RegistryCorruptError(
            f"is torn: {size} bytes of {expected}",
            operation="open registry",
            subject=path,
            remedy=REBUILD,
        )


def log_size(path: str) -> int:
    """How many bytes the write-ahead log of a database has; 0 without one."""
    try:
        return os.stat(path + "-wal").st_size
    except FileNotFoundError:
        return 0


def foreign(path: str) -> RegistryForeignError:
    """The error for another program's database."""
    return RegistryForeignError(
        "is a SQLite database of another program",
        operation="open registry",
        subject=path,
        remedy="name another file with --database",
    )


def newer(path: str, version: int, newest_version: int) -> RegistryNewerError:
    """The error for a database of a later version of this program."""
    return RegistryNewerError(
        f"has schema version {version}; this program knows up to {newest_version}",
        operation="open registry",
        subject=path,
        remedy="upgrade lifecycle-sync",
    )
