"""The clean-up of an application's own files and table."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from lifecycle_sync import CleanupService
from lifecycle_sync.errors import ConfigError, UsageError
from lifecycle_sync.service.host.local_uploads import LocalUploads
from lifecycle_sync.service.host.service import read_environment
from lifecycle_sync.service.host.starting import cleanup_handler, run_from_cron
from tests.support.forks import in_child
from tests.support.uploads import Files, Folder


def local(days: float = 0) -> datetime:
    """A naive local time that many days from now."""
    return datetime.now() + timedelta(days=days)  # noqa: DTZ005 - as applications have it


def aware(minutes: float) -> datetime:
    """A time with a zone that many minutes from now."""
    return datetime.now(UTC) + timedelta(minutes=minutes)


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def storage(tmp_path):
    return Folder(tmp_path / "uploads")


@pytest.fixture
def service(files, storage):
    made = CleanupService(None, storage, files)
    yield made
    if made.running:
        made.stop()


def add(files: Files, storage: Folder, name: str, **row: object) -> int:
    storage.put(name)
    return files.create({"path": f"uploads/{name}", "status": "active", **row})


# -- expired -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expiry", "expired"),
    [
        (lambda: local(-1).isoformat(), True),
        (lambda: local(-1), True),
        (lambda: local(1).isoformat(), False),
        (lambda: aware(-1).isoformat(), True),
        (lambda: aware(1).isoformat(), False),
        (lambda: aware(-1), True),
        (lambda: "yesterday", False),
        (lambda: "", False),
        (lambda: None, False),
        (lambda: 12, False),
    ],
)
def test_dates_of_all_kinds(service, files, storage, expiry, expired):
    expiry = expiry()
    number = add(files, storage, "x", expiry_at=expiry)
    service.cleanup_expired_files()
    assert (files.get_by_id(number)["status"] == "expired") is expired
    assert (not (storage.folder / "x").exists()) is expired


def test_a_naive_time_is_local_wherever_that_is(service, files, storage, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        number = add(files, storage, "x", expiry_at=local(-0.01).isoformat())
        later = add(files, storage, "y", expiry_at=local(0.01).isoformat())
        service.cleanup_expired_files()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert files.get_by_id(number)["status"] == "expired"
    assert files.get_by_id(later)["status"] == "active"


def test_what_is_invalid_or_fails_is_logged_and_stops_nothing(service, files, storage, caplog):
    add(files, storage, "bad", expiry_at="31.12.2020")
    stuck = add(files, storage, "stuck", expiry_at=local(-1).isoformat())
    (storage.folder / "stuck").unlink()
    (storage.folder / "stuck").mkdir()
    good = add(files, storage, "good", expiry_at=local(-1).isoformat())
    files.create({"status": "active", "expiry_at": local(-1).isoformat()})  # without a path
    assert service.cleanup_expired_files() == 1
    assert files.get_by_id(good)["status"] == "expired"
    assert files.get_by_id(stuck)["status"] == "active", "it is still there"
    assert "31.12.2020" in caplog.text
    assert len([it for it in caplog.records if it.levelno == logging.ERROR]) == 3


def test_a_file_that_is_gone_already_is_marked_all_the_same(service, files, storage):
    number = add(files, storage, "x", expiry_at=local(-1).isoformat())
    (storage.folder / "x").unlink()
    assert service.cleanup_expired_files() == 1
    assert files.get_by_id(number)["status"] == "expired"


# -- orphans -----------------------------------------------------------------------------------


def test_files_without_a_row_go_and_those_with_one_stay(service, files, storage):
    add(files, storage, "known")
    add(files, storage, "expired one", expiry_at=None)
    storage.put("orphan")
    assert service.cleanup_orphaned_files() == 1
    assert sorted(storage.list_files()) == ["expired one", "known"]


def test_only_a_local_storage_is_asked(service, files, storage):
    storage.backend_type = "s3"
    add(files, storage, "known")
    storage.put("orphan")
    assert service.cleanup_orphaned_files() == 0


def test_an_empty_table_makes_nothing_an_orphan(service, storage, caplog):
    storage.put("x")
    assert service.cleanup_orphaned_files() == 0
    assert storage.list_files() == ["x"]
    assert "the table of files is empty" in caplog.text


def test_a_table_that_is_emptied_meanwhile_makes_nothing_an_orphan(
    service, files, storage, monkeypatch, caplog
):
    add(files, storage, "known")
    storage.put("orphan")
    answers = [list(files.get_all()), []]
    monkeypatch.setattr(files, "get_all", lambda: answers.pop(0))
    assert service.cleanup_orphaned_files() == 0
    assert sorted(storage.list_files()) == ["known", "orphan"]
    assert "the table of files is empty" in caplog.text


def test_a_table_that_is_down_deletes_nothing(service, files, storage, monkeypatch):
    add(files, storage, "known", expiry_at=local(-1).isoformat())
    storage.put("orphan")

    def down(*_):
        raise ConnectionError("down")

    for name in ("get_all", "get_all_active", "get_downloaded_before"):
        monkeypatch.setattr(files, name, down)
    assert service.run_cleanup_cycle() == 3
    assert len(storage.list_files()) == 2


def test_very_many_orphans_wait_for_a_person(service, files, storage, caplog):
    add(files, storage, "known")
    for number in range(25):
        storage.put(f"{number}")
    assert service.cleanup_orphaned_files() == 0
    assert "25 of 26 files have no row" in caplog.text
    assert service.cleanup_orphaned_files(confirm_mass=True) == 25


def test_a_row_that_comes_right_before_saves_its_file(service, files, storage, monkeypatch):
    add(files, storage, "known")
    storage.put("upload")
    calls = []
    get_all = files.get_all

    def late():
        calls.append(1)
        if len(calls) == 2:
            files.create({"path": "uploads/upload", "status": "active"})
        return get_all()

    monkeypatch.setattr(files, "get_all", late)
    assert service.cleanup_orphaned_files() == 0
    assert "upload" in storage.list_files()


def test_a_cycle_leaves_uploads_alone_that_may_still_get_their_row(files, storage, tmp_path):
    add(files, storage, "known")
    young, old = storage.put("young"), storage.put("old")
    os.utime(old, (time.time() - 300,) * 2)
    CleanupService(None, storage, files).run_cleanup_cycle()
    assert old.exists(), "this storage does not know ages, and it was seen just now"
    CleanupService(None, LocalUploads(storage.folder), files).run_cleanup_cycle()
    assert not old.exists()
    assert young.exists()


# -- downloads, statistics ---------------------------------------------------------------------


def test_rows_of_long_ago_go(service, files, storage):
    old = files.create({"path": "x", "downloaded_at": local(-8).isoformat()})
    new = files.create({"path": "y", "downloaded_at": local(-6).isoformat()})
    assert service.cleanup_old_downloaded_files() == 1
    assert set(files.rows) == {new}
    assert old not in files.rows
    assert service.cleanup_old_downloaded_files(days=5) == 1


def test_the_cutoff_is_of_the_kind_that_the_application_has(service, files, storage):
    add(files, storage, "x", expiry_at=datetime.now(UTC) + timedelta(days=1))
    files.create({"path": "y", "downloaded_at": (datetime.now(UTC) - timedelta(9)).isoformat()})
    assert service.run_cleanup_cycle() == 0
    assert len(files.rows) == 1


@pytest.mark.parametrize("days", [0, -1])
def test_no_days_at_all_are_refused(service, days):
    with pytest.raises(UsageError, match="days must be over 0"):
        service.cleanup_old_downloaded_files(days=days)


def test_statistics_have_the_documented_keys(service, files, storage):
    assert service.get_stats() == {
        "total_cycles": 0,
        "expired_files_removed": 0,
        "orphaned_files_removed": 0,
        "old_records_removed": 0,
        "last_run": None,
        "last_duration": 0,
    }
    add(files, storage, "x", expiry_at=local(-1).isoformat())
    files.create({"path": "gone", "downloaded_at": local(-8).isoformat()})
    service.run_cleanup_cycle()
    stats = service.get_stats()
    stats["last_run"] = None
    duration = stats.pop("last_duration")
    assert duration > 0
    assert stats == {
        "total_cycles": 1,
        "expired_files_removed": 1,
        "orphaned_files_removed": 0,
        "old_records_removed": 1,
        "last_run": None,
    }
    assert service.get_stats()["last_run"] is not None, "a copy was given"


# -- start and stop ----------------------------------------------------------------------------


def test_it_starts_at_once_and_stops_at_once(service, files, storage, caplog):
    number = add(files, storage, "x", expiry_at=local(-1).isoformat())
    service.start()
    deadline = time.monotonic() + 30
    while service.get_stats()["last_duration"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    service.start()
    assert "runs already" in caplog.text
    assert files.get_by_id(number)["status"] == "expired"
    service.stop()
    assert not service.thread.is_alive()
    service.stop()
    assert "does not run" in caplog.text
    # By hand, and once more in the background.
    assert service.run_cleanup_cycle() == 0
    service.start()
    assert service.running


def test_a_stop_in_the_middle_ends_after_the_file_that_it_is_at(files, storage):
    for number in range(20):
        add(files, storage, f"{number}", expiry_at=local(-1).isoformat())
    reached, go_on = threading.Event(), threading.Event()
    delete = storage.delete

    def slow(path):
        reached.set()
        assert go_on.wait(30)
        delete(path)

    storage.delete = slow
    service = CleanupService(None, storage, files)
    service.start()
    assert reached.wait(30)
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    while not service._stop.cancelled:
        time.sleep(0.001)
    go_on.set()
    stopping.join(30)
    assert service.thread is not None
    assert not service.thread.is_alive()
    assert len(storage.list_files()) == 19


def test_where_it_is_not_enabled_it_does_not_start(files, storage):
    service = CleanupService.from_environment(None, storage, files, {"CLEANUP_ENABLED": "false"})
    service.start()
    assert not service.running


def test_the_environment_is_read_with_every_fault_at_once():
    assert read_environment({}) == {
        "enabled": True,
        "interval_minutes": 60,
        "old_files_days": 7,
    }
    given = {"CLEANUP_ENABLED": "False", "CLEANUP_INTERVAL_MINUTES": "5"}
    assert read_environment({**given, "CLEANUP_OLD_FILES_DAYS": "3"}) == {
        "enabled": False,
        "interval_minutes": 5,
        "old_files_days": 3,
    }
    wrong = {"CLEANUP_ENABLED": "maybe", "CLEANUP_INTERVAL_MINUTES": "0"}
    with pytest.raises(ConfigError) as raised:
        read_environment({**wrong, "CLEANUP_OLD_FILES_DAYS": "week"})
    assert len(raised.value.faults) == 3


def test_the_context_of_the_application_is_entered(files, storage):
    entered = []

    class App:
        @contextmanager
        def app_context(self):
            entered.append("in")
            yield
            entered.append("out")

    CleanupService(App(), storage, files).run_cleanup_cycle()
    assert entered == ["in", "out"] * 3


# -- cron, clouds ------------------------------------------------------------------------------


def test_cron_gets_an_exit_code(files, storage, tmp_path, capsys):
    lock = tmp_path / "lock"
    service = CleanupService(None, storage, files, lock_file=lock)
    assert run_from_cron(service) == 0
    add(files, storage, "x", expiry_at="never")
    assert run_from_cron(service) == 3
    assert "1 files failed" in capsys.readouterr().err

    def other() -> None:
        other_service = CleanupService(None, storage, files, lock_file=lock)
        assert run_from_cron(other_service) == 5

    with service._locked():
        assert in_child(other, tmp_path) == 0, (tmp_path / "error").read_text()
    lock.unlink()
    lock.mkdir()
    assert run_from_cron(service) == 1


def test_a_function_in_a_cloud(files, storage):
    add(files, storage, "x", expiry_at=local(-1).isoformat())
    made = []

    def factory():
        made.append(1)
        return CleanupService(None, storage, files)

    handler = cleanup_handler(factory)
    answer = handler({"task": "expired"}, None)
    assert (answer["status"], answer["stats"]["expired_files_removed"]) == ("done", 1)
    assert handler({}, None)["stats"]["total_cycles"] == 1
    assert len(made) == 1
    with pytest.raises(UsageError, match="there is no task 'all'"):
        handler({"task": "all"}, None)


# -- a folder ----------------------------------------------------------------------------------


def test_nothing_outside_of_the_folder_is_reached(tmp_path):
    folder = tmp_path / "uploads"
    (folder / "sub").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("x")
    (folder / "link").symlink_to(secret)
    (folder / "away").symlink_to(tmp_path)
    uploads = LocalUploads(folder)
    for path in ("../secret", str(secret), "sub/../../secret", "", ".", "/"):
        with pytest.raises((ValueError, OSError)):
            uploads.delete(path)
    for path in ("link", "away/secret", "sub"):
        with pytest.raises((ValueError, OSError)):
            uploads.delete(path)
    for name in ("../secret", "sub/x", "..", ""):
        with pytest.raises(ValueError, match="is no name"):
            uploads.delete_by_name(name)
    assert secret.exists()
    assert list(uploads.list_files()) == []


@pytest.mark.parametrize("path", ["a", "uploads/a", "{folder}/a"])
def test_the_paths_of_a_table_are_understood(tmp_path, path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "a").write_text("x")
    LocalUploads(folder).delete(path.format(folder=folder))
    assert not (folder / "a").exists()
    with pytest.raises(FileNotFoundError):
        LocalUploads(folder).delete(path.format(folder=folder))


def test_without_its_folder_nothing_is_gone(tmp_path):
    (tmp_path / "uploads").mkdir()
    uploads = LocalUploads(tmp_path / "uploads")
    (tmp_path / "uploads").rmdir()
    with pytest.raises(OSError, match="is it mounted") as raised:
        uploads.delete("a")
    assert not isinstance(raised.value, FileNotFoundError)


def test_an_orphan_that_is_being_uploaded_stays(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    with (folder / "a").open("wb"), pytest.raises(OSError, match="open for writing"):
        LocalUploads(folder).delete_by_name("a")
    LocalUploads(folder).delete_by_name("a")
