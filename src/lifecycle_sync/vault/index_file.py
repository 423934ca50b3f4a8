"""The file behind the index of a vault: opened, made, replaced when it is of no use, and locked.

It is made from the manifests and may be thrown away at any time. So one that is damaged, of another
form or of another store is replaced by an empty one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from lifecycle_sync.errors import StorageFullError, VaultError
from lifecycle_sync.fileops import FileOps

# So many values are asked for in one statement.
_VALUES = 500
# Rows come with whatever types their statement gives, so a connection is handed out untyped.
Connection = Any

_log = logging.getLogger("lifecycle_sync.vault")
_FORM = 6
_SCHEMA = """
-- `claims` counts how often what manifests say of contents was to be looked at anew.
CREATE TABLE store (id BLOB NOT NULL, claims INTEGER NOT NULL DEFAULT 0);
CREATE TABLE manifest (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    length INTEGER NOT NULL,
    -- Names that a checkpoint repeats, as JSON; NULL for one that is no checkpoint.
    covers TEXT,
    -- 1: nobody has followed it yet.
    head INTEGER NOT NULL DEFAULT 1,
    -- 1: its lines were read; 0: a checkpoint that was read has them, too.
    read INTEGER NOT NULL DEFAULT 1,
    -- 1: its versions and directories are in the tables below.
    versions INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE vanished (name TEXT PRIMARY KEY) WITHOUT ROWID;
-- Condemned: 1, and 2 where it has gone and no version missed it.
CREATE TABLE pack (id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, length INTEGER NOT NULL,
    condemned INTEGER NOT NULL DEFAULT 0);
CREATE TABLE object (id INTEGER PRIMARY KEY, parts TEXT NOT NULL,
    condemned INTEGER NOT NULL DEFAULT 0);
CREATE TABLE part (sha256 BLOB NOT NULL, object INTEGER NOT NULL, PRIMARY KEY (sha256, object))
    WITHOUT ROWID;
-- `key` is the digest and one byte for the algorithm; `place` a pack, or minus an object.
CREATE TABLE content (
    key BLOB PRIMARY KEY,
    place INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
-- Places beside the one that counts.
CREATE TABLE other_place (
    key BLOB NOT NULL,
    place INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (key, place)
) WITHOUT ROWID;
-- Names that never count again, and versions that are kept no longer: see index_pruned.py.
CREATE TABLE condemned (
    sha256 BLOB PRIMARY KEY, is_pack INTEGER NOT NULL, at_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE pruned (version_id BLOB PRIMARY KEY, at_ns INTEGER NOT NULL) WITHOUT ROWID;
-- Manifests that are lost, and that nobody waits for.
CREATE TABLE given_up (name TEXT PRIMARY KEY, at_ns INTEGER NOT NULL, reason TEXT NOT NULL)
    WITHOUT ROWID;
-- Files that no manifest tells of, and when somebody first saw that.
CREATE TABLE stray (name TEXT PRIMARY KEY, seen_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE version (
    version_id BLOB NOT NULL UNIQUE,
    file_id BLOB NOT NULL,
    path INTEGER NOT NULL,
    manifest INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    offset INTEGER NOT NULL
);
CREATE INDEX version_file ON version (file_id);
CREATE INDEX version_path ON version (path);
CREATE INDEX version_manifest ON version (manifest, frame, offset);
CREATE TABLE directory (manifest INTEGER NOT NULL, frame INTEGER NOT NULL, offset INTEGER NOT NULL);
-- When each stored file was last read and whole (0: never): see index_checks.py.
CREATE TABLE checked (
    place TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    seen_ns INTEGER NOT NULL,
    at_ns INTEGER NOT NULL DEFAULT 0,
    -- Of a manifest whose lines were looked at, how many versions it tells of.
    detail INTEGER,
    PRIMARY KEY (place, name)
) WITHOUT ROWID;
CREATE INDEX checked_at ON checked (place, at_ns, name);
"""


class IndexFile:
    """One open index file. Thread-safe: one connection, used by one thread at a time."""

    def __init__(self, path: str, store_id: bytes, fs: FileOps) -> None:
        self.path = path
        self._fs = fs
        self._mutex = threading.RLock()
        self._depth = 0
        # How often contents got places through this one.
        self._moved = 0
        self._connection = self._open(store_id)

    def _open(self, store_id: bytes) -> Connection:
        if self.path:
            try:
                self._fs.make_directories(os.path.dirname(os.path.abspath(self.path)))
            except OSError as error:
                raise self._error(str(error)) from error
        for attempt in (1, 2):
            try:
                connection: Connection = apsw.Connection(self.path)
                if self._is_ours(connection, store_id):
                    return connection
                connection.close()
            except (apsw.CorruptError, apsw.NotADBError) as error:
                _log.warning("the index %s is damaged and is made anew: %s", self.path, error)
            except apsw.Error as error:
                raise self._error(str(error)) from error
            assert attempt == 1, "a new index is ours"
            self._remove()
        raise AssertionError

    def _is_ours(self, connection: Connection, store_id: bytes) -> bool:
        connection.set_busy_timeout(30_000)
        connection.execute("PRAGMA cache_size=-8000")
        version = connection.execute("PRAGMA user_version").get
        if version == 0:
            # A commit of a backup touches most of its pages: in larger ones they are fewer writes.
            connection.execute("PRAGMA page_size=8192")
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        # 32 MB; each checkpoint waits for the disk twice.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").get == 0:
                connection.execute(_SCHEMA)
                connection.execute("INSERT INTO store (id) VALUES (?)", (store_id,))
                connection.execute(f"PRAGMA user_version={_FORM}")
            connection.execute("COMMIT")
            version = connection.execute("PRAGMA user_version").get
        if version != _FORM:
            return False
        return bool(connection.execute("SELECT id FROM store").get == store_id)

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            try:
                self._fs.unlink(self.path + suffix)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise self._error(str(error)) from error

    def _error(self, cause: str) -> VaultError:
        return VaultError(
            cause,
            operation="use the index of a vault",
            subject=self.path,
            remedy="check the folder it lies in; the file may be deleted, it is made anew",
        )

    @contextlib.contextmanager
    def _use(self, *, write: bool = False) -> Iterator[Connection]:
        with self._mutex:
            connection = self._connection
            outermost = write and self._depth == 0
            try:
                if outermost:
                    connection.execute("BEGIN IMMEDIATE")
                self._depth += write
                try:
                    yield connection
                finally:
                    self._depth -= write
                if outermost:
                    connection.execute("COMMIT")
            except BaseException as error:
                if outermost and not connection.get_autocommit():
                    connection.execute("ROLLBACK")
                if isinstance(error, apsw.FullError):
                    raise StorageFullError(
                        "no space left for the index of a vault",
                        operation="use the index of a vault",
                        subject=self.path,
                        remedy="free some space and run again",
                    ) from error
                if isinstance(error, apsw.Error):
                    raise self._error(str(error)) from error
                raise

    def _among(self, sql: str, values: Sequence[object], *first: object) -> list[Any]:
        """The rows of a query with `IN {}`, which stands for these values, asked for some at a
        time. `first` are bindings before them."""
        rows: list[Any] = []
        with self._use() as connection:
            for at in range(0, len(values), _VALUES):
                some = values[at : at + _VALUES]
                marks = ",".join("?" * len(some))
                rows += connection.execute(sql.format(f"({marks})"), (*first, *some)).fetchall()
        return rows

    def transaction(self) -> contextlib.AbstractContextManager[Any]:
        """What is written inside is taken up together, or not at all."""
        return self._use(write=True)

    def raw(self) -> contextlib.AbstractContextManager[Any]:
        """The connection, for tables of one's own beside the index."""
        return self._use()

    def close(self) -> None:
        with self._mutex:
            self._connection.close()
