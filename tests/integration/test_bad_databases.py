"""Databases that cannot be used: each is refused with its remedy, and nothing of it is changed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import apsw
import pytest

from lifecycle_sync import mounts
from lifecycle_sync.errors import (
    BusyError,
    LifecycleError,
    RegistryCorruptError,
    RegistryError,
    RegistryForeignError,
    RegistryNewerError,
    StorageFullError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.registry import schema
from lifecycle_sync.registry.database import Database
from lifecycle_sync.registry.schema import migrations
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail
from tests.support.house import House

PAGE = 8192
# What every other process begins with.
PROLOGUE = """
import os, sys, time
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.registry.sqlite import SqliteRegistry
path = sys.argv[1]

def operations(count):
    return [
        Operation(os.urandom(16), bytes(16), "test", 1, "completed") for _ in range(count)
    ]
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, which shares nothing with this one."""
    return subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(code: str, *arguments: object) -> None:
    process = start(code, *arguments)
    process.communicate()
    assert process.returncode == 0


@contextmanager
def unchanged(*paths: Path) -> Iterator[None]:
    """Neither the bytes nor the times of the files change, and none comes or goes beside them."""

    def look() -> dict[Path, tuple[bytes, int]]:
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    before = look()
    yield
    assert look() == before


def operation() -> Operation:
    return Operation(os.urandom(16), bytes(16), "test", 1, "completed")


def make_registry(path: Path, operations: int = 0) -> None:
    with closing(SqliteRegistry.open(path)) as registry:
        if operations:
            registry.add_operations([operation() for _ in range(operations)])


def refused(path: Path, kind: type[LifecycleError]) -> LifecycleError:
    with pytest.raises(kind) as caught:
        SqliteRegistry.open(path)
    assert type(caught.value) is kind
    assert caught.value.subject == str(path)
    assert caught.value.remedy
    assert caught.value.exit_code == 1
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


# -- no registry at all --------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary,\n" * 100,
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)) * 16,
        b"SQLite",
        b"SQLite format 3\0",
        b"\0" * 8192,
    ],
    ids=["a letter", "a picture", "half a word", "only the magic", "zeros"],
)
def test_a_file_that_is_no_database_is_refused(path, content):
    path.write_bytes(content)
    with unchanged(path):
        error = refused(path, RegistryCorruptError)
    assert "not a SQLite database" in error.cause
    assert "lifecycle rebuild" in error.remedy
    assert not (path.parent / "registry.db-wal").exists()


def test_a_folder_and_a_pipe_are_refused(tmp_path):
    refused(tmp_path, RegistryError)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", RegistryError)


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("application_id", [0, 0x12345678])
def test_another_programs_database_is_refused(path, mode, application_id):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute(f"PRAGMA application_id={application_id}")
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.commit()
    with unchanged(path):
        error = refused(path, RegistryForeignError)
    assert "--database" in error.remedy
    assert not (path.parent / "registry.db-wal").exists()


def test_another_programs_database_with_a_log_is_refused_without_a_checkpoint(path):
    kill_in_the_middle(
        """
import sqlite3
connection = sqlite3.connect(path)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE bookmarks (url TEXT)")
connection.execute("INSERT INTO bookmarks VALUES ('x')")
connection.commit()
""",
        path,
    )
    log = path.parent / "registry.db-wal"
    assert log.stat().st_size > 0
    with unchanged(path, log):
        refused(path, RegistryForeignError)


def kill_in_the_middle(code: str, path: Path) -> None:
    """Run `code` in a process that dies by SIGKILL right after it."""
    process = start(code + "\nprint('ready', flush=True)\ntime.sleep(60)", path)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()


# -- of another version --------------------------------------------------------------------


def test_a_database_of_a_newer_version_is_refused(path):
    make_registry(path)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"PRAGMA user_version={len(migrations()) + 1}")
    with unchanged(path):
        error = refused(path, RegistryNewerError)
    assert "upgrade" in error.remedy


def test_a_newer_database_with_a_log_is_refused_without_a_checkpoint(path):
    make_registry(path)
    kill_in_the_middle(
        f"""
import apsw
connection = apsw.Connection(path)
connection.execute("PRAGMA user_version={len(migrations()) + 1}")
""",
        path,
    )
    log = path.parent / "registry.db-wal"
    assert log.stat().st_size > 0
    with unchanged(path, log):
        refused(path, RegistryNewerError)


def test_a_migration_takes_a_copy_first(path, monkeypatch):
    make_registry(path, operations=3)
    with_another_migration(monkeypatch, "CREATE TABLE more (x INTEGER) STRICT;")
    with closing(SqliteRegistry.open(path)) as registry:
        assert registry.operation_count(0) == 3
        assert registry.query("SELECT count(*) FROM more") == (["count(*)"], [(0,)])
    copy = path.parent / f"registry.db.v{len(migrations())}.bak"
    monkeypatch.undo()
    with closing(SqliteRegistry.open(copy)) as registry:
        assert registry.operation_count(0) == 3
        assert registry.check_integrity() == []


def test_a_migration_that_fails_leaves_the_database_as_it_was(path, monkeypatch):
    make_registry(path, operations=3)
    with_another_migration(monkeypatch, "DELETE FROM operations; CREATE TABLE broken (")
    with unchanged(path), pytest.raises(apsw.SQLError):
        SqliteRegistry.open(path)
    monkeypatch.undo()
    with closing(SqliteRegistry.open(path)) as registry:
        assert registry.operation_count(0) == 3


def test_half_a_copy_does_not_count_as_the_copy_of_a_migration(path, monkeypatch):
    make_registry(path, operations=3)
    with_another_migration(monkeypatch, "CREATE TABLE more (x INTEGER) STRICT;")
    (path.parent / f"registry.db.v{len(migrations())}.bak.part").write_bytes(b"half")
    faulty = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), "fsync"))
    with unchanged(path), pytest.raises(RegistryError):
        SqliteRegistry.open(path, fs=faulty)
    assert not list(path.parent.glob("*.bak*"))
    with closing(SqliteRegistry.open(path)):
        assert [found.name for found in path.parent.glob("*.bak*")] == [
            f"registry.db.v{len(migrations())}.bak"
        ]


def with_another_migration(monkeypatch, script: str) -> None:
    scripts = [*migrations(), script]
    monkeypatch.setattr(schema, "migrations", lambda: scripts)


# -- damaged -------------------------------------------------------------------------------


def test_a_torn_database_is_refused(path):
    make_registry(path, operations=100)
    os.truncate(path, path.stat().st_size // 2)
    with unchanged(path):
        error = refused(path, RegistryCorruptError)
    assert "torn" in error.cause
    assert "lifecycle rebuild" in error.remedy


def test_a_page_of_garbage_is_found_when_it_is_used(path):
    make_registry(path, operations=1_000)
    page = root_page(path, "operations")
    with open(path, "r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"garbage!" * (PAGE // 8))
    with closing(SqliteRegistry.open(path)) as registry:
        assert registry.check_integrity()
        with pytest.raises(RegistryCorruptError) as caught:
            registry.operations(bytes(16), 10)
        assert "lifecycle rebuild" in caught.value.remedy
        with pytest.raises(RegistryCorruptError):
            registry.add_operations([operation()])
        # What lies on other pages is still to be had.
        assert len(registry.policies()) == 4


def root_page(path: Path, table: str) -> int:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return int(
            connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
        )


def test_a_database_that_cannot_be_read_is_refused(path):
    make_registry(path)
    faulty = FaultyFileOps(FileOps(), Fault(fail(errno.EACCES), "open_read_stat"))
    with unchanged(path), pytest.raises(RegistryError) as caught:
        SqliteRegistry.open(path, fs=faulty)
    assert "ermission" in caught.value.cause
    assert caught.value.remedy


# -- in use --------------------------------------------------------------------------------


def test_a_database_that_another_process_holds_is_busy_and_names_it(path):
    make_registry(path, operations=1)
    process = start(
        """
registry = SqliteRegistry.open(path)
with registry._db.write():
    print("held", flush=True)
    sys.stdin.readline()
""",
        path,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with unchanged(path), pytest.raises(BusyError) as caught:
            SqliteRegistry.open(path, lock_timeout=0.1)
        process.communicate("go on\n")
    assert f"process {process.pid}" in caught.value.cause
    assert caught.value.exit_code == 5
    assert caught.value.remedy
    make_registry(path, operations=1)


def test_a_database_that_another_program_holds_is_busy(path):
    make_registry(path)
    process = start(
        """
import sqlite3
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
""",
        path,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BusyError) as caught:
            SqliteRegistry.open(path, lock_timeout=0.1)
        process.communicate("go on\n")
    assert "another program" in caught.value.cause


def test_one_database_under_two_names_has_one_lock(path):
    make_registry(path)
    link = path.parent / "link.db"
    link.symlink_to(path)
    with closing(Database(str(path))) as one, closing(Database(str(link), lock_timeout=1)) as two:
        assert one.path == two.path
        with one.write(), pytest.raises(BusyError):
            Database(str(link), lock_timeout=0.05)
    assert not (path.parent / "link.db.lock").exists()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_database_on_a_network_filesystem_is_refused(path, monkeypatch, kind):
    monkeypatch.setattr(mounts, "_type_of", lambda path, device: kind)
    error = refused(path, RegistryError)
    assert kind in error.cause
    assert "--database" in error.remedy
    assert list(path.parent.iterdir()) == []


def test_a_database_that_was_replaced_while_it_was_open_is_not_written_to(path, tmp_path):
    make_registry(path)
    other = tmp_path / "other.db"
    make_registry(other, operations=1)
    registry = SqliteRegistry.open(path)
    os.replace(other, path)
    with unchanged(path):
        with pytest.raises(RegistryError) as caught:
            registry.add_operations([operation()])
        assert "replaced" in caught.value.cause
        assert caught.value.remedy
        registry.close()
    with closing(SqliteRegistry.open(path)) as found:
        assert found.operation_count(0) == 1
        assert found.check_integrity() == []


def test_a_database_that_was_removed_while_it_was_open_is_not_written_to(path):
    with closing(SqliteRegistry.open(path)) as registry:
        path.unlink()
        with pytest.raises(RegistryError, match="removed"):
            registry.add_operations([operation()])


def test_a_log_that_another_program_took_away_is_made_anew(path):
    with closing(SqliteRegistry.open(path)) as registry:
        registry.add_operations([operation()])
        # As the last to close it does, when nobody seems to have the database open.
        drop_posix_locks(path)
        run(
            """
import sqlite3
connection = sqlite3.connect(path)
connection.execute("SELECT count(*) FROM operations").fetchall()
connection.close()
assert not os.path.exists(path + "-wal")
""",
            path,
        )
        registry.add_operations([operation()])
        run(
            """
registry = SqliteRegistry.open(path)
assert registry.operation_count(0) == 2
registry.add_operations(operations(1))
registry.close()
""",
            path,
        )
        registry.add_operations([operation()])
        assert registry.operation_count(0) == 4
        assert registry.check_integrity() == []


def test_the_last_to_close_leaves_the_log_in_place(path):
    """Who believes to be the last may be wrong."""
    make_registry(path, operations=1)
    log = path.parent / "registry.db-wal"
    inode = log.stat().st_ino
    make_registry(path, operations=1)
    assert log.stat().st_ino == inode


def drop_posix_locks(path: Path) -> None:
    """What any second library in this process does to the first one's locks by closing the file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT count(*) FROM operations").fetchall()


def test_a_second_sqlite_library_in_the_process_loses_no_row(path):
    written = 0
    with closing(SqliteRegistry.open(path)) as registry:
        for _ in range(4):
            registry.add_operations([operation()])
            drop_posix_locks(path)
            run(
                """
registry = SqliteRegistry.open(path)
registry.add_operations(operations(20))
registry.close()
""",
                path,
            )
            registry.add_operations([operation() for _ in range(20)])
            written += 41
            assert registry.operation_count(0) == written
        assert registry.check_integrity() == []
    with closing(SqliteRegistry.open(path)) as registry:
        assert registry.operation_count(0) == written
        assert registry.check_integrity() == []


def test_a_write_under_way_is_alone_even_without_the_locks_of_sqlite(path):
    with closing(SqliteRegistry.open(path)) as registry:
        with registry._db.write() as connection:
            connection.execute("INSERT INTO commits VALUES (1, 1)")
            drop_posix_locks(path)
            run(
                """
from lifecycle_sync.errors import BusyError
try:
    SqliteRegistry.open(path, lock_timeout=0.1).add_operations(operations(1))
except BusyError:
    sys.exit(0)
sys.exit(1)
""",
                path,
            )
        assert registry.last_seq() == 1
        assert registry.check_integrity() == []


def test_processes_that_write_at_the_same_time_lose_no_row(path):
    make_registry(path)
    writers = [
        start(
            """
registry = SqliteRegistry.open(path)
print("open", flush=True)
sys.stdin.readline()
for _ in range(40):
    registry.add_operations(operations(5))
registry.close()
""",
            path,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
    with closing(SqliteRegistry.open(path)) as registry:
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for _ in range(30):
            registry.add_operations([operation()])
            drop_posix_locks(path)
        for writer in writers:
            writer.communicate()
            assert writer.returncode == 0
        assert registry.operation_count(0) == 430
        assert registry.check_integrity() == []


def test_threads_of_one_process_write_at_the_same_time(path):
    with closing(SqliteRegistry.open(path)) as registry:

        def write() -> None:
            for _ in range(50):
                registry.add_operations([operation()])

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert registry.operation_count(0) == 200


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_refused_and_harms_nothing(path):
    with closing(SqliteRegistry.open(path)) as registry:
        registry.add_operations([operation()])
        child = os.fork()
        if child == 0:
            # Whatever happens here, no code of pytest may run in the child.
            try:
                os._exit(in_the_child(registry))
            finally:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        registry.add_operations([operation()])
        assert registry.operation_count(0) == 2
        assert registry.check_integrity() == []


def in_the_child(registry: SqliteRegistry) -> int:
    for use in (lambda: registry.operation_count(0), lambda: registry.add_operations([])):
        try:
            use()
            return 1
        except RegistryError as error:
            if "fork" not in error.cause or not error.remedy:
                return 2
    registry.close()
    # The child may open it by itself.
    with closing(SqliteRegistry.open(registry.path)) as own:
        return 0 if own.operation_count(0) == 1 else 3


def test_what_was_committed_survives_a_kill(path):
    kill_in_the_middle(
        "registry = SqliteRegistry.open(path); registry.add_operations(operations(10))", path
    )
    with closing(SqliteRegistry.open(path)) as registry:
        assert registry.operation_count(0) == 10


# -- full ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A filesystem of two megabytes; only the superuser can have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        reason = f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_while_indexing_keeps_what_was_committed(small_disk, tmp_path):
    house = House(small_disk, root=tmp_path / "root")
    fill(house, folders=60, files=100)
    with closing(house.engine):
        report = house.pass_over(hashes=False)
        assert isinstance(report.error, StorageFullError)
        assert "free some space" in report.error.remedy
        assert house.engine.registry.check_integrity() == []
        kept = house.ids()
        again = house.pass_over()
        assert isinstance(again.error, StorageFullError)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        house.sync()
        house.check()
        assert kept.items() <= house.ids().items()


def test_a_disk_without_any_space_is_said_to_be_full(small_disk, tmp_path):
    house = House(small_disk, root=tmp_path / "root")
    house.write("file")
    house.sync()
    before = house.ids()
    house.engine.close()
    ballast = small_disk / "ballast"
    fill_up(ballast)
    house.write("other")
    with pytest.raises(StorageFullError), closing(SqliteRegistry.open(small_disk / "more.db")):
        pass
    house.reopen()
    assert isinstance(house.pass_over().error, StorageFullError)
    # Not even the lock files are there now, nor is there space for one.
    shutil.rmtree(small_disk / "registry.db.locks")
    fill_up(small_disk / "more ballast")
    assert isinstance(house.pass_over().error, StorageFullError)
    ballast.unlink()
    house.sync()
    house.check()
    assert before.items() <= house.ids().items()
    house.engine.close()


def fill_up(ballast: Path) -> None:
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        write_for_ever(file)


def write_for_ever(file: IO[bytes]) -> None:
    while True:
        file.write(bytes(PAGE))


def fill(house: House, *, folders: int, files: int) -> None:
    for folder in range(folders):
        where = house.root / f"folder {folder:03}"
        where.mkdir(parents=True)
        for file in range(files):
            (where / f"a file with a name of some length {file:03}.txt").touch()


def test_a_database_that_may_not_grow_is_said_to_be_full(house):
    fill(house, folders=40, files=50)
    house.add()
    writer = house.engine.registry._db._writers
    with house.engine.registry._db.write():
        pass
    for connection in writer.values():
        pages = connection.execute("PRAGMA page_count").get
        connection.execute(f"PRAGMA max_page_count={pages + 20}")
    report = house.pass_over(hashes=False)
    assert isinstance(report.error, StorageFullError)
    assert house.engine.registry.check_integrity() == []
    for connection in writer.values():
        connection.execute("PRAGMA max_page_count=1000000")
    house.sync()
    house.check()


def test_a_killed_holder_gives_the_lock_back(path):
    make_registry(path)
    process = start(
        """
registry = SqliteRegistry.open(path)
with registry._db.write():
    print("held", flush=True)
    time.sleep(60)
""",
        path,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    make_registry(path, operations=1)


def test_a_new_database_is_readable_by_its_owner_alone(tmp_path):
    registry = SqliteRegistry.open(tmp_path / "deep" / "registry.db")
    try:
        for suffix in ("", "-wal", "-shm", ".lock"):
            mode = os.stat(f"{tmp_path}/deep/registry.db{suffix}").st_mode
            assert mode & 0o077 == 0, suffix
    finally:
        registry.close()
