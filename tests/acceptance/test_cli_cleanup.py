"""`lifecycle cleanup` and `lifecycle temp`."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from lifecycle_sync import FileCleanupManager, Settings
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.temp.jobs_registry import RegistryJobs
from tests.support.command import lifecycle
from tests.support.temp_jobs import Storage
from tests.support.temp_processes import killed


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "0")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_EMERGENCY_CLEANUP_THRESHOLD", "100")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_WARNING_THRESHOLD", "99.9")
    monkeypatch.delenv("LIFECYCLE_JOBS_URL", raising=False)
    return Storage(tmp_path / "temp")


@pytest.fixture
def database(tmp_path):
    url = f"sqlite:///{tmp_path}/app.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE crawl_jobs (id INTEGER, status TEXT, updated_at TEXT)")
        )
        connection.execute(
            sa.text("INSERT INTO crawl_jobs VALUES (1, 'failed', '2020-01-01'), (2, 'running', '')")
        )
        connection.execute(
            sa.text(
                "CREATE TABLE files (key INTEGER PRIMARY KEY, path TEXT, status TEXT,"
                " expiry_at TEXT, downloaded_at TEXT)"
            )
        )
    engine.dispose()
    return url


def rows(database: str, *given: tuple[int, str, str, datetime | None, datetime | None]) -> None:
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        for key, path, status, expiry, downloaded in given:
            values = {
                "key": key,
                "path": path,
                "status": status,
                "expiry": None if expiry is None else expiry.isoformat(),
                "downloaded": None if downloaded is None else downloaded.isoformat(),
            }
            connection.execute(
                sa.text("INSERT INTO files VALUES (:key, :path, :status, :expiry, :downloaded)"),
                values,
            )
    engine.dispose()


def test_orphans_are_shown_and_then_go(storage, database):
    storage.put("job_1_chunk_a_x")
    storage.put("job_2_chunk_a_x")
    storage.put("old")
    arguments = ("cleanup", "orphans", "--folder", storage.base, "--jobs", database)
    shown = lifecycle(*arguments, "--dry-run")
    assert shown.code == 0
    assert "no job pattern: it is old" in shown.out
    assert "failed job: job 1 failed or was cancelled" in shown.out
    assert "2 files would be removed; nothing was changed" in shown.err
    assert len(storage.left()) == 3
    told = lifecycle(*arguments, "--dry-run", "--json").document
    assert (told["would_remove"], told["removed"]) == (2, 0)
    done = lifecycle(*arguments, "--json").document
    assert (done["would_remove"], done["removed"]) == (0, 2)
    assert [it["path"] for it in done["files"]] == [it["path"] for it in told["files"]]
    assert done["result"]["trigger"] == "orphaned_files"
    assert storage.left() == {"job_2_chunk_a_x"}


def test_the_age_of_orphans_can_be_said(storage):
    storage.put("x", hours_old=5)
    arguments = ("cleanup", "orphans", "--folder", storage.base)
    assert lifecycle(*arguments).code == 0
    assert storage.left()
    assert lifecycle(*arguments, "--max-age", "4").code == 0
    assert not storage.left()
    refused = lifecycle(*arguments, "--max-age", "0")
    assert refused.code == 2
    assert "must be over 0" in refused.err


def test_a_job_that_is_over_loses_its_files_and_one_that_lives_does_not(storage, database):
    storage.put("job_1_chunk_a_x", hours_old=0)
    storage.put("job_2_chunk_a_x", hours_old=0)
    arguments = ("cleanup", "temp", "--folder", storage.base, "--jobs", database)
    assert lifecycle(*arguments, "--job", "2").code == 0
    assert len(storage.left()) == 2
    assert lifecycle(*arguments, "--job", "1").code == 0
    assert storage.left() == {"job_2_chunk_a_x"}


def test_without_a_database_of_jobs_it_says_why_their_files_stay(storage):
    storage.put("job_1_chunk_a_x")
    done = lifecycle("cleanup", "temp", "--job", "1", "--folder", storage.base)
    assert "nobody was asked which jobs are alive" in done.err
    assert storage.left()
    quiet = lifecycle("cleanup", "orphans", "--folder", storage.base.parent / "none")
    assert "nobody was asked" not in quiet.err


def test_a_database_that_is_down_is_an_error_and_nothing_goes(storage):
    storage.put("job_1_chunk_a_x")
    url = "sqlite:////nonexistent/app.db"
    done = lifecycle("cleanup", "temp", "--folder", storage.base, "--jobs", url)
    assert done.code == 3
    assert "nobody says which jobs are alive" in done.err
    assert "Background" not in done.err
    assert storage.left()
    wrong = lifecycle("cleanup", "temp", "--folder", storage.base, "--jobs", "no url")
    assert wrong.code == 2
    assert "a URL is like" in wrong.err


def test_what_a_killed_process_left_is_shown_and_goes(storage):
    killed('manager.track_file(made("left"))', storage.base, signal.SIGKILL)
    manager = FileCleanupManager(storage.base)
    manager.track_file(storage.put("mine"))
    status = lifecycle("temp", "status", "--folder", storage.base, "--json").document
    assert status["leases"] == {
        "living_processes": 1,
        "living_files": 1,
        "dead_processes": 1,
        "dead_files": 1,
    }
    shown = lifecycle("temp", "status", "--folder", storage.base)
    assert "1 by 1 living process, 1 by 1 dead process" in shown.out
    assert "lifecycle cleanup temp" in shown.err
    arguments = ("cleanup", "temp", "--folder", storage.base)
    foretold = lifecycle(*arguments, "--dry-run")
    assert "a killed process left it" in foretold.out
    assert storage.left() == {"left", "mine"}
    assert "1 file removed" in lifecycle(*arguments).err
    assert storage.left() == {"mine"}
    manager.untrack_file(storage.base / "mine")
    manager.close()


def test_emergency_and_scheduled(storage, monkeypatch):
    storage.put("x")
    done = lifecycle("cleanup", "emergency", "--folder", storage.base, "--json")
    assert (done.code, done.document["result"]["files_deleted"]) == (0, 0)
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "1e9")
    status = lifecycle("temp", "status", "--folder", storage.base)
    assert "critical" in status.out
    assert "an emergency clean-up is due" in status.err
    done = lifecycle("cleanup", "scheduled", "--folder", storage.base, "--json")
    assert done.code == 3
    assert "did not reach its target" in done.document["errors"][0]
    assert storage.left() == set()


def test_uploads_whose_time_is_over_and_rows_of_long_ago(tmp_path, database):
    now = datetime.now()  # noqa: DTZ005 - as applications have it
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    for name in ("a", "b", "orphan"):
        (uploads / name).write_text("x")
    rows(
        database,
        (1, "uploads/a", "active", now - timedelta(days=1), None),
        (2, "uploads/b", "active", now + timedelta(days=1), None),
        (3, "uploads/c", "expired", None, now - timedelta(days=9)),
    )
    table = ("--files", database, "--table", "files", "--column", "id=key")
    files = (*table, "--uploads", uploads)
    shown = lifecycle("cleanup", "expired", *files, "--dry-run")
    assert "1 file would be removed" in shown.err
    assert (uploads / "a").exists()
    assert lifecycle("cleanup", "expired", *files, "--json").document["removed"] == 1
    assert not (uploads / "a").exists()
    assert "0 files removed" in lifecycle("cleanup", "orphans", *files).err
    assert (uploads / "orphan").exists(), "it is no two minutes old"
    assert "1 record would" in lifecycle("cleanup", "downloads", *table, "-n").err
    assert lifecycle("cleanup", "downloads", *table, "--json").document["removed"] == 1
    assert "0 records" in lifecycle("cleanup", "downloads", *table).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("expired",), "--files URL and --table NAME and --uploads FOLDER are missing"),
        (("orphans", "--job", "1"), "--job goes with temp alone"),
        (("orphans", "--folder", "/"), "is the whole filesystem"),
        (("downloads", "--files", "sqlite://", "--table", "x"), "cannot be used"),
        (
            ("downloads", "--files", "sqlite://", "--table", "x", "--column", "id"),
            "names no column",
        ),
        (("everything",), "is not one of"),
    ],
)
def test_bad_orders(arguments, message):
    done = lifecycle("cleanup", *arguments)
    assert done.code == 2
    assert message in done.err


def test_the_jobs_of_the_registry_can_be_asked(storage, tmp_path):
    database = tmp_path / "registry.db"
    settings = Settings(database_path=database, local_storage_path=None)
    with Engine.open(settings) as engine:
        jobs = RegistryJobs(engine.registry)
        jobs.start(1)
        jobs.start(2)
        jobs.end(1, failed=True)
    for job in "12":
        storage.put(f"job_{job}_chunk_a_x")
    asked = ("--folder", storage.base, "--jobs", "registry", "--database", database)
    status = lifecycle("temp", "status", *asked, "--json").document["stats"]
    assert (status["active_jobs_count"], status["failed_jobs_count"]) == (1, 1)
    assert lifecycle("cleanup", "temp", "--job", "1", *asked).code == 0
    assert lifecycle("cleanup", "temp", "--job", "2", *asked).code == 0
    assert storage.left() == {"job_2_chunk_a_x"}
    missing = ("--jobs", "registry", "--database", tmp_path / "none.db")
    assert lifecycle("cleanup", "temp", *missing).code == 1


def test_what_is_held_by_the_command_stays_in_an_emergency_too(storage, tmp_path, monkeypatch):
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "1e9")
    database = ("--database", tmp_path / "registry.db")
    (tmp_path / "root").mkdir()
    assert lifecycle("add", tmp_path / "root", *database).code == 0
    held, other = storage.put("held"), storage.put("other")
    assert lifecycle("hold", held, "--reason", "evidence", *database).code == 0
    lifecycle("cleanup", "emergency", "--folder", storage.base, *database)
    assert storage.left() == {"held"}
    assert not other.exists()
    killed('manager.track_file(made("left"))', storage.base)
    dead = storage.base / "left"
    assert lifecycle("hold", dead, "--reason", "evidence", *database).code == 0
    shown = lifecycle("cleanup", "temp", "--folder", storage.base, *database, "--dry-run")
    assert "0 files would be removed" in shown.err
    assert (
        "0 files removed" in lifecycle("cleanup", "temp", "--folder", storage.base, *database).err
    )
    assert dead.exists()
    assert lifecycle("release", held, *database).code == 0
    lifecycle("cleanup", "orphans", "--folder", storage.base, *database)
    assert not held.exists()


def test_a_script_declares_its_files_by_the_command(storage, tmp_path):
    database = ("--database", tmp_path / "registry.db")
    (tmp_path / "root").mkdir()
    lifecycle("add", tmp_path / "root", *database)
    dump = storage.put("dump.sql")
    asked = ("--folder", storage.base, "--jobs", "registry", *database)
    early = lifecycle("temp", "declare", "7", dump, *database)
    assert early.code == 2
    assert "a job is started before it has files" in early.err
    assert lifecycle("temp", "beat", "7", *database).code == 1
    for words in (("start", "7"), ("declare", "7", dump), ("beat", "7")):
        assert lifecycle("temp", *words, *database).code == 0
    lifecycle("cleanup", "scheduled", *asked)
    assert dump.exists()
    assert lifecycle("temp", "end", "7", "--failed", *database).code == 0
    assert lifecycle("cleanup", "temp", "--job", "7", *asked, "--json").document["removed"] == 1
    assert not dump.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "7"), "takes neither JOB nor FILE"),
        (("start",), "takes a JOB"),
        (("declare", "7"), "takes a JOB and at least one FILE"),
        (("beat", "7", "file"), "takes a JOB"),
    ],
)
def test_bad_words_about_jobs(words, message):
    done = lifecycle("temp", *words)
    assert done.code == 2
    assert message in done.err
