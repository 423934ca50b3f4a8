"""The schema of the database: which version a file has, and how an older one is brought up to date.

The scripts in `sql/migrations/` are numbered; the version of a database is how many have run on it.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import resources

import apsw

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.registry.header import APPLICATION_ID, foreign, newer


@cache
def migrations() -> tuple[str, ...]:
    """The scripts in order."""
    folder = resources.files("lifecycle_sync.registry").joinpath("sql/migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def statements(name: str) -> dict[str, str]:
    """The statements of `sql/<name>.sql`, each after a line `-- name: ...`."""
    text = resources.files("lifecycle_sync.registry").joinpath(f"sql/{name}.sql").read_text("utf-8")
    found: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        title, _, body = block.partition("\n")
        while body.startswith("--"):
            # SQLite's traces take a statement that begins with a comment for one of a trigger.
            body = body.partition("\n")[2]
        found[title.strip()] = body.strip().rstrip(";")
    return found


def newest_version() -> int:
    """The version that this program uses."""
    return len(migrations())


def version_of(connection: apsw.Connection, path: str) -> int:
    """The version of an open database, 0 for a new one. Raises `RegistryForeignError` and
    `RegistryNewerError`."""
    application = connection.execute("PRAGMA application_id").get
    version = connection.execute("PRAGMA user_version").get
    assert isinstance(application, int) and isinstance(version, int)
    empty = not connection.execute("SELECT count(*) FROM sqlite_schema").get
    if application != APPLICATION_ID and not (empty and application == 0):
        raise foreign(path)
    if version > newest_version():
        raise newer(path, version, newest_version())
    return version


def migrate(connection: apsw.Connection, path: str, fs: FileOps) -> None:
    """Bring the schema up to date, each step whole or not at all; an older database is copied
    to `<path>.v<version>.bak` first."""
    version = version_of(connection, path)
    pending = migrations()[version:]
    if version and pending:
        _copy(connection, f"{path}.v{version}.bak", fs)
    for number, script in enumerate(pending, version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(script)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={number}")
            connection.execute("COMMIT")
        except BaseException:
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            raise


def _copy(connection: apsw.Connection, path: str, fs: FileOps) -> None:
    """Put a whole copy of the database, as it is now, at `path`."""
    partial = path + ".part"
    if os.path.lexists(partial):
        fs.unlink(partial)
    try:
        connection.execute("VACUUM INTO ?", (partial,))
        fd = fs.open_read(partial)
        try:
            fs.fsync(fd)
        finally:
            fs.close(fd)
        fs.rename(partial, path, None, None)
    except BaseException:
        # Not half a copy under a name that promises one.
        if os.path.lexists(partial):
            fs.unlink(partial)
        raise
