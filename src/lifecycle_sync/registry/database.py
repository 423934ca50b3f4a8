"""The SQLite file: opening, connections, transactions.

Every write transaction, checkpoint and open first takes a flock on `<database>.lock`. SQLite's own
locks are fcntl locks, and those are lost when any other SQLite library in the process opens and
closes the file, even read-only. Then two writers may overlap, which the flock prevents, and the
next process to close the file believes itself the last and deletes the write-ahead log that others
still write to; so ours never delete it (`PERSIST_WAL`), and before each write its inode is checked.

Readers have a connection a thread; there are two for writing, used by one thread at a time: the
bulk one (`synchronous=NORMAL`: a power cut may undo the last commits, which a scan does again) and
the durable one (`FULL`: the journal). A connection never crosses a fork: in the child the database
is unusable and its connections are left open on purpose, because closing them there would release
or checkpoint what the parent uses.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

import apsw

from lifecycle_sync.errors import BusyError, RegistryError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.mounts import filesystem_of
from lifecycle_sync.registry.faults import translated
from lifecycle_sync.registry.header import check_header, log_size
from lifecycle_sync.registry.schema import migrate, newest_version, version_of

LOCK_TIMEOUT_SECONDS = 30.0

# Rows come with whatever types their statement gives, so a connection is handed out untyped.
Connection = Any
Row = tuple[Any, ...]

_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_abandoned: list[object] = []


class Database:
    """One open registry file. Thread-safe; unusable after `close` and in a forked child."""

    def __init__(
        self,
        path: str,
        *,
        fs: FileOps | None = None,
        lock_timeout: float = LOCK_TIMEOUT_SECONDS,
        create: bool = True,
        read_only: bool = False,
    ) -> None:
        # SQLite keeps its log beside the file itself, not beside a symlink to it.
        self.path = os.path.realpath(path)
        self._fs = fs or FileOps()
        self._lock_timeout = lock_timeout
        self._local = threading.local()
        self._readers: list[apsw.Connection] = []
        self._writers: dict[bool, apsw.Connection] = {}
        self._mutex = threading.RLock()
        self._gate = threading.Condition()
        self._reads = 0
        self._depth = 0
        self._inodes: tuple[int, int] | None = None
        self._closed = ""
        self._read_only = read_only
        self._immutable = False
        self._lock_fd: int | None = None
        with translated(self.path):
            self._prepare_place(create and not read_only)
            if not read_only or os.path.exists(self.path + ".lock"):
                self._lock_fd = self._fs.open_lock_file(self.path + ".lock")
        try:
            with self._flocked(), translated(self.path):
                if read_only:
                    self._check_shared_memory()
                self._check_file()
                if read_only:
                    self._check_version()
                else:
                    self._make_private()
                    migrate(self._connect(durable=True), self.path, self._fs)
                    self._check_inodes()
        except BaseException:
            self._closed = "closed"
            self._close_connections(checkpoint=False)
            self._close_lock()
            raise
        _open_databases.add(self)

    # -- transactions ----------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """This thread's reading connection; errors come out as ours."""
        self._check_usable()
        with translated(self.path):
            connection = self._enter_reading()
            try:
                yield connection
            finally:
                with self._gate:
                    self._reads -= 1
                    self._gate.notify()

    def _enter_reading(self) -> Connection:
        while True:
            local = self._local
            connection = getattr(local, "connection", None)
            if connection is None:
                with self._mutex, self._flocked():
                    connection = self._open(apsw.SQLITE_OPEN_READONLY)
                    # The first read may recover the write-ahead log: not beside a writer.
                    connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
                    self._readers.append(connection)
                local.connection = connection
            with self._gate:
                if local is self._local:
                    self._reads += 1
                    return connection

    @contextmanager
    def write(self, *, durable: bool = False, in_parts: bool = False) -> Iterator[Connection]:
        """One write transaction: committed on leaving, rolled back by any exception.

        `in_parts` says that none of its statements changes many rows: what it would take to undo
        one of them, every page that it changes, is kept in memory then and not in a file.
        """
        assert not self._read_only, "this registry is only read"
        self._check_usable()
        with self._mutex, self._flocked(), translated(self.path):
            self._check_inodes()
            connection = self._writers.get(durable) or self._connect(durable=durable)
            connection.execute(f"PRAGMA temp_store={'MEMORY' if in_parts else 'FILE'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # After some errors (disk full) SQLite has rolled back by itself.
                if not connection.get_autocommit():
                    connection.execute("ROLLBACK")
                raise

    def give_back_bulk(self) -> None:
        """Drop what the bulk connection keeps in memory: for when it has done what it was to do."""
        with self._mutex:
            bulk = self._writers.get(False)
            if bulk is not None and not self._closed:
                bulk.execute("PRAGMA shrink_memory")
                _trim()

    def write_back(self) -> None:
        """Move what was committed out of the log, as far as nobody reads there: what closing would
        do otherwise."""
        self._check_usable()
        with self._mutex, self._flocked(), translated(self.path):
            self._check_inodes()
            writer = self._writers.get(True)
            if writer is not None:
                writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def give_back_memory(self) -> None:
        """Drop what all connections keep in memory: for when little is to be done for long. Those
        that read do so where nobody reads through one at this moment."""
        with self._mutex:
            self.give_back_bulk()
            with self._gate:
                if not self._reads and not self._closed:
                    for reader in self._readers:
                        reader.execute("PRAGMA shrink_memory")
            # What refers to itself in a circle would keep its neighbours' memory, too.
            gc.collect()
            _trim()

    def close(self) -> None:
        """Close all connections; the last one checkpoints, so it happens under the lock."""
        with self._mutex:
            if self._closed:
                return
            self._closed = "closed"
            try:
                with self._flocked(), translated(self.path):
                    self._close_connections(checkpoint=self._inodes in (None, self._inodes_now()))
            finally:
                self._close_lock()

    def _check_inodes(self) -> None:
        """Notice that the file, or its log, is not the one our connections have open any more."""
        now = self._inodes_now()
        if self._inodes is not None and now != self._inodes:
            if now[0] != self._inodes[0]:
                raise RegistryError(
                    "was replaced while it was open" if now[0] else "was removed while it was open",
                    operation="write to the registry",
                    subject=self.path,
                    remedy="stop, and start again on the file that is there now",
                )
            # New ones would share their memory with these.
            self._renew_connections()
            self._inodes = None
        if self._inodes is None and all(now):
            self._inodes = now

    def _inodes_now(self) -> tuple[int, int]:
        """The inodes of the file and of its log; 0 for one that is not there."""
        found = []
        for path in (self.path, self.path + "-wal"):
            try:
                found.append(os.stat(path).st_ino)
            except FileNotFoundError:
                found.append(0)
        return found[0], found[1]

    def _renew_connections(self) -> None:
        """Close all connections, once nobody reads through one; each is opened anew when needed."""
        with self._gate:
            if not self._gate.wait_for(lambda: self._reads == 0, self._lock_timeout):
                raise BusyError(
                    "another program took its log away, and it is still being read",
                    operation="write to the registry",
                    subject=self.path,
                    remedy="end long queries, or start again",
                )
            self._close_connections(checkpoint=False)
            self._local = threading.local()

    # -- opening ---------------------------------------------------------------------------

    def _prepare_place(self, create: bool) -> None:
        folder = os.path.dirname(self.path)
        if not os.path.exists(self.path) and not create:
            raise RegistryError(
                "does not exist",
                operation="open registry",
                subject=self.path,
                remedy="`lifecycle init` or `lifecycle run FOLDER` makes one",
            )
        existing = folder
        while not os.path.exists(existing):
            existing = os.path.dirname(existing)
        filesystem = filesystem_of(os.fsencode(existing))
        if filesystem.network:
            raise RegistryError(
                f"lies on a network filesystem ({filesystem.type}), where SQLite's locks fail",
                operation="open registry",
                subject=self.path,
                remedy="put the database on a local disk with --database",
            )
        if existing != folder:
            try:
                self._fs.make_directories(folder)
            except OSError as error:
                raise RegistryError(
                    error.strerror or str(error),
                    operation="make the folder of the registry",
                    subject=folder,
                    remedy="choose another place with --database",
                ) from error

    def _make_private(self) -> None:
        """A new database is its owner's alone: it names all files. SQLite gives its log and its
        shared memory the mode of the database."""
        try:
            self._fs.close(self._fs.create(self.path, mode=0o600))
        except FileExistsError:
            pass

    def _check_file(self) -> None:
        """Refuse what is no registry before SQLite can touch it."""
        if any(other.path == self.path and not other._closed for other in _open_databases):
            # It was looked at before, and closing a descriptor of it drops this process's locks.
            return
        if not os.path.lexists(self.path):
            return
        check_header(self._fs, self.path, newest_version())
        if log_size(self.path):
            # The newest header is in the log. A reader recovers that, but never checkpoints it.
            with closing(self._open(apsw.SQLITE_OPEN_READONLY)) as connection:
                version_of(connection, self.path)

    def _check_shared_memory(self) -> None:
        """See that reading changes nothing, not even the files beside the database (but for marks
        in the memory that the processes share)."""
        shared = os.path.exists(self.path + "-shm")
        if log_size(self.path) and not shared:
            raise RegistryError(
                "cannot be read without a change: its -shm file is not there",
                operation="look at the registry",
                subject=self.path,
                remedy="any command that opens it, such as `lifecycle status`, makes that again",
            )
        # Without its log nobody has the database open, and SQLite need not make one.
        self._immutable = not (shared and os.path.exists(self.path + "-wal"))

    def _check_version(self) -> None:
        """Refuse an older schema, which only migrating would make readable."""
        with self.read() as connection:
            version = version_of(connection, self.path)
        newest = newest_version()
        if version < newest:
            raise RegistryError(
                f"has schema version {version}, and this program uses {newest}",
                operation="look at the registry",
                subject=self.path,
                remedy="the next command that opens it, such as `lifecycle status`, copies it and"
                " brings it up to date",
            )

    def _open(self, flags: int) -> apsw.Connection:
        if self._immutable:
            uri = f"file:{quote(self.path)}?immutable=1"
            connection = apsw.Connection(uri, flags=flags | apsw.SQLITE_OPEN_URI)
        else:
            connection = apsw.Connection(self.path, flags=flags)
        connection.set_busy_timeout(int(self._lock_timeout * 1000))
        persist = ctypes.c_int(1)
        connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(persist))
        # Bounded caches: 4 MB here, 40 MB for bulk; sorting spills to disk, not to memory.
        connection.execute("PRAGMA cache_size=-4000")
        connection.execute("PRAGMA temp_store=FILE")
        return connection

    def _connect(self, *, durable: bool) -> apsw.Connection:
        connection = self._open(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        if connection.execute("PRAGMA journal_mode").get != "wal":
            version_of(connection, self.path)
            # Of a new file only. Fewer, larger pages took a twelfth off a first index.
            connection.execute("PRAGMA page_size=8192")
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute(f"PRAGMA cache_size={-12_000 if durable else -40_000}")
        # 96 MB: the rarer a checkpoint, the fewer times the pages that all batches touch go out.
        connection.execute("PRAGMA wal_autocheckpoint=12000")
        connection.execute("PRAGMA journal_size_limit=67108864")
        self._writers[durable] = connection
        return connection

    # -- locks and ends --------------------------------------------------------------------

    @contextmanager
    def _flocked(self) -> Iterator[None]:
        """Hold the file lock (re-entrant within the thread that holds the mutex)."""
        if self._lock_fd is None:
            # Only looked at, and never opened by anybody who would write.
            yield
            return
        if self._depth == 0:
            deadline = time.monotonic() + self._lock_timeout
            pause = 0.0005
            while not self._fs.lock(self._lock_fd, wait=False):
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"locked by {lock_holder(self._lock_fd)} for over {self._lock_timeout:g} s",
                        operation="use the registry",
                        subject=self.path,
                        remedy="wait for that process, or stop it",
                    )
                time.sleep(pause)
                pause = min(pause * 1.5, 0.02)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._fs.unlock(self._lock_fd)

    def _check_usable(self) -> None:
        if self._closed:
            raise RegistryError(
                self._closed,
                operation="use the registry",
                subject=self.path,
                remedy="open it anew in this process",
            )

    def _close_lock(self) -> None:
        if self._lock_fd is not None:
            self._fs.close(self._lock_fd)

    def _close_connections(self, *, checkpoint: bool) -> None:
        """Without `checkpoint` nothing is written: the log is not the database's any more."""
        for connection in [*self._readers, *self._writers.values()]:
            self._close_connection(connection, checkpoint=checkpoint)
        self._readers.clear()
        self._writers.clear()

    def _close_connection(self, connection: apsw.Connection, *, checkpoint: bool) -> None:
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(not checkpoint))
                connection.close()
                return
            except apsw.ThreadingViolationError:
                # Its thread is on its way out of it, giving back a cursor perhaps.
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.001)

    def _abandon(self) -> None:
        """In a forked child: keep everything open and never use it."""
        _abandoned.append((self._readers, self._writers, self._local))
        self._readers, self._writers, self._local = [], {}, threading.local()
        self._closed = "was opened before a fork, and this is the child"


def lock_holder(lock_fd: int) -> str:
    """Who holds the flock of a lock file, in words."""
    inode = os.fstat(lock_fd).st_ino
    try:
        with open("/proc/locks", encoding="ascii") as locks:
            for line in locks:
                # 1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF
                fields = line.split()
                if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                    return f"process {fields[4]}"
    except (OSError, IndexError):
        pass
    return "another process"


def _abandon_all() -> None:
    for database in list(_open_databases):
        database._abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _trim() -> None:
    """Let the C library give back what it keeps of what was freed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
