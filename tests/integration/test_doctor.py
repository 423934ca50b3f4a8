"""The doctor finds what is wrong, says how to mend it, and changes nothing."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from lifecycle_sync import mounts
from lifecycle_sync.clock import FixedClock, SystemClock
from lifecycle_sync.config import load_config
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.registry import schema
from lifecycle_sync.registry.schema import migrations
from lifecycle_sync.service.doctor import Finding, examine
from lifecycle_sync.service.doctor_machine import (
    judge_clock,
    judge_open_files,
    judge_sqlite,
    judge_watches,
)
from lifecycle_sync.service.doctor_settings import examine_settings
from lifecycle_sync.service.doctor_space import judge_inodes, judge_space
from lifecycle_sync.testing.fileops import RecordingFileOps
from tests.support.house import House, settings_in

MIB, GIB = 1 << 20, 1 << 30
DAY_SECONDS = 86_400
PAGE = 4096
# What the disk under the tests has is not the tests' business.
ELSEWHERE = {"space.bytes", "space.inodes", "settings.disks"}


@pytest.fixture
def sound(tmp_path) -> Iterator[House]:
    """A registry of one root that is scanned and hashed; closed."""
    house = House(tmp_path)
    house.write("folder/file.txt", "content")
    house.write("other.txt", "other")
    house.sync()
    house.engine.close()
    yield house
    house.engine.close()


def findings(house: House, **options: object) -> list[Finding]:
    found = examine(house.settings, **options)  # type: ignore[arg-type]
    for finding in found:
        assert finding.check
        assert finding.subject
        assert finding.message
        assert bool(finding.remedy) is (finding.level != "ok"), finding
    return found


def troubles(house: House, **options: object) -> dict[str, Finding]:
    """What is not ok, by its check."""
    return {
        finding.check: finding
        for finding in findings(house, **options)
        if finding.level != "ok" and finding.check not in ELSEWHERE
    }


def only(found: dict[str, Finding]) -> Finding:
    (finding,) = found.values()
    return finding


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Nothing comes, goes or changes in a folder, but for memory shared between processes."""

    def look() -> dict[str, tuple[bytes, int]]:
        return {
            str(path): (path.read_bytes() if path.is_file() else b"", path.lstat().st_mtime_ns)
            for path in folder.rglob("*")
            if not path.name.endswith("-shm")
        }

    before = look()
    yield
    assert look() == before


# -- all well ------------------------------------------------------------------------------


def test_a_sound_installation_has_no_trouble(sound):
    with untouched(sound.base):
        found = findings(sound)
    assert [f for f in found if f.level != "ok" and f.check not in ELSEWHERE] == []
    assert {finding.check for finding in found} >= {
        "machine.python",
        "machine.sqlite",
        "machine.walker",
        "machine.inotify",
        "machine.open_files",
        "machine.clock",
        "settings.source",
        "settings.intervals",
        "settings.folders",
        "registry.filesystem",
        "registry.permissions",
        "registry.open",
        "registry.integrity",
        "registry.log",
        "root.root",
        "root.filesystem",
        "root.scan",
        "space.bytes",
    }


def test_nothing_is_made_where_nothing_is(tmp_path):
    settings = settings_in(tmp_path / "not there yet")
    with untouched(tmp_path):
        found = {finding.check: finding for finding in examine(settings)}
    assert found["registry.exists"].level == "ok"
    assert "lifecycle run" in found["registry.exists"].message
    assert not (tmp_path / "not there yet").exists()


def test_a_registry_that_is_being_written_to_is_examined_with_its_log(house):
    house.write("file")
    house.sync()
    with untouched(house.base):
        assert troubles(house) == {}
    house.write("new")
    house.sync()


def test_a_registry_left_by_a_kill_is_examined_and_left_so(sound):
    """The log has the newest rows, and nobody has closed the database."""
    database = sound.base / "registry.db"
    sound.reopen()
    sound.write("newest", "x")
    sound.sync()
    kept = {path: path.read_bytes() for path in sound.base.glob("registry.db*") if path.is_file()}
    sound.engine.close()
    for path, content in kept.items():
        path.write_bytes(content)
    with untouched(sound.base):
        assert troubles(sound) == {}
    # Copied without the shared memory, it could only be read by making that.
    (sound.base / "registry.db-shm").unlink()
    with untouched(sound.base):
        finding = only(troubles(sound))
    assert finding.check == "registry.open"
    assert "-shm" in finding.message
    assert not (sound.base / "registry.db-shm").exists()
    # As the remedy says.
    sound.reopen()
    assert b"newest" in sound.ids()
    sound.engine.close()
    assert database.exists()


def test_the_log_and_the_locks_are_not_made_for_a_look(sound):
    for name in ("registry.db-wal", "registry.db-shm", "registry.db.lock"):
        (sound.base / name).unlink()
    before = sorted(path.name for path in sound.base.iterdir())
    with untouched(sound.base):
        assert troubles(sound) == {}
    assert sorted(path.name for path in sound.base.iterdir()) == before


def test_only_reading_goes_through_the_door_for_files(sound):
    recording = RecordingFileOps(FileOps())
    findings(sound, fs=recording)
    assert set(recording.methods) <= {
        "stat", "fstat", "pread", "close", "listdir", "open_directory", "open_read",
        "open_read_stat", "read_file", "lock", "unlock", "open_lock_file",
    }  # fmt: skip


# -- the machine ---------------------------------------------------------------------------


def test_a_sqlite_that_can_corrupt_a_registry_is_a_fault():
    assert judge_sqlite((3, 51, 2)).level == "fault"
    assert judge_sqlite((3, 40, 1)).level == "fault"
    assert judge_sqlite((3, 51, 3)).level == "ok"


def test_more_folders_than_watches_are_a_warning():
    found = judge_watches(8_192, 10_000)
    assert found.level == "warning"
    assert "fs.inotify.max_user_watches=20000" in found.remedy
    assert judge_watches(8_192, 8_192).level == "ok"
    assert judge_watches(None, 10_000).level == "ok"


def test_too_few_open_files_are_a_warning():
    assert judge_open_files(255).level == "warning"
    assert judge_open_files(256).level == "ok"
    assert judge_open_files(resource.RLIM_INFINITY).level == "ok"


def test_a_clock_that_cannot_be_right_is_found(sound):
    now_ns = SystemClock().now_ns()
    assert judge_clock(0, None).level == "fault"
    assert judge_clock(now_ns, None).level == "ok"
    clock = FixedClock(now_ns)
    clock.advance(-DAY_SECONDS)
    assert troubles(sound, clock=clock)["machine.clock"].level == "fault"
    clock.advance(8.5 * DAY_SECONDS)
    found = troubles(sound, clock=clock)
    assert found["machine.clock"].level == "warning"
    assert found["root.scan"].level == "warning"
    assert "7 days ago" in found["root.scan"].message


# -- the settings --------------------------------------------------------------------------


def test_odd_settings_are_found(sound, tmp_path):
    odd = settings_in(tmp_path, registry_sync_interval=1, roots=(tmp_path / "gone", sound.root))
    found = {f.check: f for f in examine_settings(odd, {}) if f.level != "ok"}
    assert found.keys() == {"settings.intervals", "settings.folders"}
    late = settings_in(tmp_path, registry_sync_interval=3 * DAY_SECONDS)
    assert "3 days" in next(f.message for f in examine_settings(late, {}) if f.level != "ok")


def test_a_variable_that_is_no_setting_is_found(sound, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_ROOT", "/srv")
    monkeypatch.setenv("LIFECYCLE_ROOTS", "[]")
    monkeypatch.setenv("LIFECYCLE_CONFIG", "x.toml")
    finding = only(troubles(sound))
    assert (finding.subject, finding.check) == ("LIFECYCLE_ROOT", "settings.environment")
    assert "LIFECYCLE_ROOTS" in finding.remedy


def test_the_file_of_the_settings_is_named(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"database_path": "x.db"}))
    found = {f.check: f for f in examine_settings(load_config(file), {})}
    assert found["settings.source"].subject == str(file)


def test_a_vault_on_the_disk_of_a_root_is_a_warning(sound):
    found = [f for f in findings(sound) if f.check == "settings.disks"]
    assert [(f.level, f.subject) for f in found] == [
        ("warning", str(sound.base / "vault")),
        ("warning", str(sound.base / "archive")),
    ]


# -- the registry --------------------------------------------------------------------------


def make_foreign(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


@pytest.mark.parametrize(
    ("spoil", "check", "words"),
    [
        (lambda path: path.write_bytes(b"Dear diary"), "registry.open", "not a SQLite database"),
        (lambda path: os.truncate(path, 3 * PAGE), "registry.open", "torn"),
        (lambda path: set_version(path, len(migrations()) + 1), "registry.open", "version"),
        (make_foreign, "registry.open", "another program"),
    ],
    ids=["a letter", "torn", "newer", "another program's"],
)
def test_a_database_that_cannot_be_used_is_a_fault(
    sound, spoil: Callable[[Path], None], check, words
):
    spoil(sound.base / "registry.db")
    with untouched(sound.base):
        finding = only(troubles(sound))
    assert (finding.level, finding.check) == ("fault", check)
    assert words in finding.message


def set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={version}")


def test_an_older_schema_is_said_and_not_brought_up_to_date(sound, monkeypatch):
    scripts = [*migrations(), "CREATE TABLE more (x INTEGER) STRICT;"]
    monkeypatch.setattr(schema, "migrations", lambda: scripts)
    with untouched(sound.base):
        finding = only(troubles(sound))
    assert f"version {len(scripts) - 1}" in finding.message


def test_a_damaged_page_is_a_fault(sound):
    path = sound.base / "registry.db"
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'files_seq'"
        ).fetchone()[0]
    with open(path, "r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"garbage!" * (PAGE // 8))
    with untouched(sound.base):
        found = troubles(sound)
    assert found["registry.integrity"].level == "fault"
    assert "lifecycle rebuild" in found["registry.integrity"].remedy


def test_a_lost_registry_is_a_fault(sound):
    for name in ("registry.db", "registry.db-wal", "registry.db-shm"):
        (sound.base / name).unlink()
    sound.settings = settings_in(sound.base, roots=(sound.root,))
    with untouched(sound.base):
        finding = only(troubles(sound))
    assert (finding.level, finding.check) == ("fault", "registry.exists")
    assert "lifecycle rebuild" in finding.remedy


def test_a_rebuild_that_was_stopped_is_a_warning(sound):
    (sound.base / "registry.db.rebuild").mkdir()
    assert only(troubles(sound)).check == "registry.rebuild"


@pytest.mark.parametrize(
    ("name", "mode", "level"),
    [
        ("registry.db", 0o666, "fault"),
        ("registry.db", 0o660, "warning"),
        (".", 0o777, "fault"),
    ],
)
def test_a_registry_that_others_may_change_is_found(sound, name, mode, level):
    (sound.base / name).chmod(mode)
    finding = only(troubles(sound))
    assert (finding.check, finding.level) == ("registry.permissions", level)
    assert "chmod" in finding.remedy


def test_a_registry_that_is_locked_is_named_with_its_holder(sound):
    fs = FileOps()
    fd = fs.open_lock_file(sound.base / "registry.db.lock")
    try:
        assert fs.lock(fd, wait=False)
        finding = only(troubles(sound))
    finally:
        fs.close(fd)
    assert (finding.level, finding.check) == ("warning", "registry.lock")
    assert f"process {os.getpid()}" in finding.message


def test_a_registry_on_a_network_filesystem_is_a_fault(sound, monkeypatch):
    monkeypatch.setattr(mounts, "_type_of", lambda path, device: "nfs4")
    found = troubles(sound)
    assert found["registry.filesystem"].level == "fault"
    assert "nfs4" in found["registry.filesystem"].message


# -- the roots -----------------------------------------------------------------------------


def test_a_root_that_is_not_itself_is_a_warning(sound):
    marker = sound.root / ".lifecycle" / "root.json"
    content = marker.read_text()
    marker.unlink()
    with untouched(sound.base):
        finding = only(troubles(sound))
    assert (finding.check, finding.subject) == ("root.root", str(sound.root))
    assert finding.message.startswith("offline:")
    marker.write_text("{")
    assert "damaged" in only(troubles(sound)).message
    marker.write_text(content)
    assert troubles(sound) == {}
    sound.root.rename(sound.base / "away")
    assert "not there" in only(troubles(sound)).message


def test_a_root_that_is_held_is_a_warning_with_its_evidence(sound):
    sound.reopen()
    for number in range(40):
        sound.write(f"many/{number}", "x")
    sound.sync()
    for path in (sound.root / "many").iterdir():
        path.unlink()
    sound.pass_over()
    sound.engine.close()
    finding = only(troubles(sound))
    assert finding.check == "root.shrink"
    assert "40 of 42" in finding.message
    assert "lifecycle accept" in finding.remedy


def test_a_root_that_was_never_scanned_is_a_warning(sound, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    sound.reopen()
    sound.engine.add_root(second)
    sound.engine.close()
    finding = only(troubles(sound))
    assert (finding.check, finding.subject) == ("root.scan", str(second))


def test_a_root_of_the_settings_that_is_none_yet_is_a_warning(sound, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    sound.settings = settings_in(tmp_path, roots=(second,))
    finding = only(troubles(sound))
    assert (finding.check, finding.subject) == ("root", str(second))
    assert "lifecycle add" in finding.remedy


def test_damaged_and_unreadable_files_and_folders_are_found(sound):
    sound.reopen()
    record = sound.record("other.txt")
    registry = sound.engine.registry
    registry.set_state(record.file_id, record.state, SystemClock().now_ns(), set_flags=4 | 8)
    with registry._db.write() as connection:
        connection.execute("UPDATE directories SET error = 'permission denied' WHERE path <> x''")
    sound.engine.close()
    found = troubles(sound)
    assert found.keys() == {"root.suspect", "root.files", "root.folders"}
    assert found["root.suspect"].level == "fault"
    assert "folder: permission denied" in found["root.folders"].message


class CaselessFileOps(FileOps):
    """As on a filesystem that does not tell upper case from lower."""

    @staticmethod
    def stat(path, *, dir_fd=None, follow_symlinks=True):
        try:
            return os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        except FileNotFoundError:
            return os.stat(path.swapcase(), dir_fd=dir_fd, follow_symlinks=follow_symlinks)


def test_a_root_that_does_not_tell_case_is_a_warning(sound):
    finding = only(troubles(sound, fs=CaselessFileOps()))
    assert finding.check == "root.case"


def test_a_root_on_a_network_filesystem_is_a_warning(sound):
    sound.reopen()
    registry = sound.engine.registry
    with registry._db.write() as connection:
        connection.execute("UPDATE repositories SET network = 1, filesystem_type = ''")
    sound.engine.close()
    found = findings(sound)
    assert "root.network" in {finding.check for finding in found if finding.level == "warning"}
    filesystem = next(finding for finding in found if finding.check == "root.filesystem")
    assert "coarse times" in filesystem.message


# -- free space ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "total", "level"),
    [
        (500 * GIB, 1000 * GIB, "ok"),
        (100 * GIB, 1000 * GIB, "ok"),
        (99 * GIB, 1000 * GIB, "warning"),
        (GIB - 1, 2 * GIB, "warning"),
        (10 * GIB, 1000 * GIB, "warning"),
        (9 * GIB, 1000 * GIB, "fault"),
        (50 * MIB - 1, 100 * MIB, "fault"),
        (0, 0, "fault"),
    ],
)
def test_free_space_is_judged_by_share_and_by_bytes(free, total, level):
    assert judge_space("/srv", "root", free, total).level == level


@pytest.mark.parametrize(
    ("free", "total", "levels"),
    [(50, 100, ["ok"]), (9, 100, ["warning"]), (9, 1000, ["fault"]), (0, 0, [])],
)
def test_free_inodes_are_judged_by_share(free, total, levels):
    assert [finding.level for finding in judge_inodes("/srv", "root", free, total)] == levels


def test_each_disk_is_named_once_with_all_that_is_on_it(sound):
    found = [finding for finding in findings(sound) if finding.check == "space.bytes"]
    assert len(found) == 1
    assert "(database, vault, archive, root)" in found[0].message


def test_a_disk_that_is_nearly_full_is_found(sound, monkeypatch):
    real = os.statvfs(sound.base)
    names = [name for name in dir(real) if name.startswith("f_")]
    sizes = SimpleNamespace(**{name: getattr(real, name) for name in names})
    sizes.f_blocks, sizes.f_bavail, sizes.f_files, sizes.f_favail = 1_000, 5, 1_000, 20
    monkeypatch.setattr(os, "statvfs", lambda path: sizes)
    levels = {f.check: f.level for f in findings(sound) if f.check.startswith("space.")}
    assert levels == {"space.bytes": "fault", "space.inodes": "warning"}
