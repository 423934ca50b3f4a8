"""The errors of SQLite and of the system as ours, each with its remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from lifecycle_sync.errors import (
    BusyError,
    LifecycleError,
    RegistryCorruptError,
    RegistryError,
    StorageFullError,
)

REBUILD = "`lifecycle rebuild` sets it aside and makes a new one from the roots"
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise ours for what SQLite, or the system, raises about the registry at `path`."""
    try:
        yield
    except apsw.FullError as error:
        raise _full(path) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise RegistryCorruptError(
            f"is damaged ({error})", operation="use the registry", subject=path, remedy=REBUILD
        ) from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise BusyError(
            "locked by another program",
            operation="use the registry",
            subject=path,
            remedy="wait for it, or stop it",
        ) from error
    except apsw.ReadOnlyError as error:
        raise RegistryError(
            "cannot be written to",
            operation="use the registry",
            subject=path,
            remedy="check the permissions of the file and of its folder",
        ) from error
    except (apsw.CantOpenError, apsw.IOError) as error:
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
            # The memory shared by the processes is a file, too, and could not grow.
            raise _full(path) from error
        raise _unusable(path, str(error)) from error
    except apsw.ThreadingViolationError as error:
        raise LifecycleError(str(error), operation="use the registry", subject=path) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _full(path) from error
        raise _unusable(path, error.strerror or str(error)) from error


def _full(path: str) -> StorageFullError:
    return StorageFullError(
        "no space left for the database",
        operation="write to the registry",
        subject=path,
        remedy="free some space and run again: what was committed stays, the rest is done then",
    )


def _unusable(path: str, cause: str) -> RegistryError:
    return RegistryError(
        cause,
        operation="use the registry",
        subject=path,
        remedy="check the disk and the permissions of the file and its folder",
    )
