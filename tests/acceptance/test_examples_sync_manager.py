"""Each example of the documented sync system, in Python: `SyncManager` and its settings."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle_sync import (
    FileType,
    FileWatcherConfig,
    LifecycleState,
    ReconciliationConfig,
    SyncManager,
    SyncManagerConfig,
)
from lifecycle_sync.errors import BusyError, ConfigError, NotFoundError, RootError, UsageError

PATIENCE_SECONDS = 60.0


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def repo_path(tmp_path: Path) -> Path:
    """A repository with a user area."""
    path = tmp_path / "repository"
    (path / "user").mkdir(parents=True)
    (path / "inbox").mkdir()
    (path / "inbox/not-ours.jpg").write_bytes(b"inbox")
    (path / "user/old.jpg").write_bytes(b"old picture")
    return path


@pytest.fixture
def manager(database: Path) -> Iterator[SyncManager]:
    with SyncManager(database) as started:
        yield started


def until(true) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


# -- the examples --------------------------------------------------------------------------


def test_basic_setup(database):
    config = SyncManagerConfig()
    sync_manager = SyncManager(database, config)
    sync_manager.start()
    try:
        assert sync_manager.get_sync_operations is not None
    finally:
        sync_manager.stop()
        sync_manager.close()


def test_adding_a_repository_performs_the_startup_sync(manager, repo_path):
    repo_id = uuid.uuid4()
    run = manager.add_repository(repo_id, repo_path, user_area="user")
    assert (run.operation_type, run.status, run.files_added) == ("startup", "completed", 1)
    assert manager.get_file_record(repo_id, "old.jpg") is not None
    assert manager.get_file_record(repo_id, "not-ours.jpg") is None


def test_removing_a_repository(manager, repo_path):
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    manager.remove_repository(repo_id)
    manager.remove_repository(repo_id)
    with pytest.raises(NotFoundError):
        manager.get_sync_status(repo_id)
    assert (repo_path / "user/old.jpg").read_bytes() == b"old picture"
    assert not (repo_path / "user/.lifecycle").exists()


def test_manual_reconciliation(manager, repo_path):
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    run = manager.trigger_reconciliation(repo_id, repo_path)
    assert (run.operation_type, run.status) == ("reconciliation", "completed")
    with pytest.raises(UsageError, match="is neither the folder"):
        manager.trigger_reconciliation(repo_id, repo_path / "inbox")
    # A folder of it, by itself.
    run = manager.trigger_reconciliation(repo_id, repo_path / "user/2024")
    assert (run.operation_type, run.status) == ("reconciliation", "completed")


def test_querying_the_sync_status(manager, repo_path, caplog):
    caplog.set_level(logging.INFO)
    log = logging.getLogger("application")
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    status = manager.get_sync_status(repo_id)
    log.info("Repository %s:", status.repository_id)
    log.info("  Total Files: %d", status.total_files)
    log.info("  Is Watching: %s", status.is_watching)
    if status.last_sync_operation is not None:
        log.info(
            "  Last Sync: %s (%s)",
            status.last_sync_operation.start_time,
            status.last_sync_operation.status,
        )
    assert f"Repository {repo_id}:" in caplog.text
    assert "Total Files: 1" in caplog.text
    assert "Is Watching: True" in caplog.text
    assert "(completed)" in caplog.text
    manager.stop()
    assert not manager.get_sync_status(repo_id).is_watching


def test_listing_file_records(manager, repo_path):
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    digest = hashlib.sha256(b"old picture").hexdigest()
    until(lambda: manager.list_file_records(repo_id)[0].content_hash == digest)
    (record,) = manager.list_file_records(repo_id)
    assert (record.file_path, record.file_size) == ("old.jpg", 11)
    assert record.repository_id == str(repo_id)
    assert record.scan_generation == 1
    assert record.mod_time.timestamp() == pytest.approx(
        os.stat(repo_path / "user/old.jpg").st_mtime, abs=1e-5
    )


def test_getting_the_sync_history(manager, repo_path):
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    for _ in range(3):
        manager.trigger_reconciliation(repo_id)
    operations = manager.get_sync_operations(repo_id, 10)
    kinds = [operation.operation_type for operation in operations]
    assert kinds == ["reconciliation"] * 3 + ["startup"]
    lines = [
        f"Sync {op.operation_type} at {op.start_time}:"
        f" +{op.files_added} ~{op.files_updated} -{op.files_removed} files"
        for op in operations
    ]
    assert lines[-1].endswith("+1 ~0 -0 files")
    assert [len(manager.get_sync_operations(repo_id, limit)) for limit in (0, 2)] == [0, 2]


def test_the_columns_of_a_run_are_the_documented_ones(manager, repo_path):
    run = manager.add_repository(uuid.uuid4(), repo_path, user_area="user")
    assert [field.name for field in dataclasses.fields(run)] == [
        "id",
        "repository_id",
        "operation_type",
        "files_scanned",
        "files_added",
        "files_updated",
        "files_removed",
        "start_time",
        "end_time",
        "duration_ms",
        "status",
        "error_message",
    ]
    assert run.duration_ms is not None and run.duration_ms >= 0


def test_the_configuration_in_full(database):
    config = SyncManagerConfig(
        reconciliation_interval=timedelta(hours=24),
        file_watcher_config=FileWatcherConfig(debounce_interval=timedelta(milliseconds=500)),
        reconciliation_config=ReconciliationConfig(
            batch_size=100, max_concurrency=4, calculate_hashes=True
        ),
    )
    assert config == SyncManagerConfig()
    SyncManager(database, config).close()


def test_the_example_test(tmp_path, database, repo_path):
    config = SyncManagerConfig()
    config.reconciliation_interval = timedelta(minutes=1)  # faster for testing
    sync_manager = SyncManager(database, config)
    sync_manager.start()
    try:
        repo_id = uuid.uuid4()
        sync_manager.add_repository(repo_id, repo_path, user_area="user")
        (repo_path / "user" / "test.txt").write_text("test content")
        until(lambda: sync_manager.get_file_record(repo_id, "test.txt") is not None)
        # What was written after it was seen is another run's.
        # A run tells what it came to when it ends, a moment after its files can be seen.
        until(
            lambda: any(
                run.operation_type == "realtime" and run.files_added == 1
                for run in sync_manager.get_sync_operations(repo_id)
            )
        )
    finally:
        sync_manager.close()


def test_the_integration_into_a_repository_manager(manager, repo_path):
    class RepositoryManager:
        """As an application has one."""

        def __init__(self, sync_manager: SyncManager) -> None:
            self.sync_manager = sync_manager

        def add_repository(self, path: Path) -> uuid.UUID:
            repo_id = uuid.uuid4()
            try:
                self.sync_manager.add_repository(repo_id, path, user_area="user")
            except RootError as error:
                logging.getLogger(__name__).warning("not synchronised: %s", error)
            return repo_id

        def remove_repository(self, repo_id: str) -> None:
            self.sync_manager.remove_repository(uuid.UUID(repo_id))

    repositories = RepositoryManager(manager)
    repo_id = repositories.add_repository(repo_path)
    assert manager.get_sync_status(repo_id).is_watching
    repositories.remove_repository(str(repo_id))
    repositories.add_repository(repo_path / "nothing here")


# -- beyond them ---------------------------------------------------------------------------


def test_changes_are_told_from_a_cursor_on(manager, repo_path):
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    cursor = max((it.seq for it in manager.changes()), default=0)
    (repo_path / "user/new.jpg").write_bytes(b"new")
    (repo_path / "user/old.jpg").unlink()
    manager.sync_to_now(repo_id)
    told = {it.path: it.state for it in manager.changes(since=cursor)}
    assert told[b"old.jpg"] is LifecycleState.DELETED
    assert told[b"new.jpg"] is not LifecycleState.DELETED
    assert manager.changes(since=10**12) == []


def test_a_sync_to_now_sees_all_that_happened_before(manager, repo_path):
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    for number in range(20):
        (repo_path / f"user/{number}.txt").write_text(str(number))
        manager.sync_to_now(repo_id)
        assert manager.get_file_record(repo_id, f"{number}.txt") is not None


def test_only_the_wanted_types_are_tracked(database, repo_path):
    config = SyncManagerConfig(file_types=[FileType.IMAGE, "video"])
    for name in ("a.JPG", "deep/b.mp4", "c.txt", ".hidden.jpg", "none"):
        path = repo_path / "user" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    with SyncManager(database, config) as manager:
        repo_id = uuid.uuid4()
        manager.add_repository(repo_id, repo_path, user_area="user")
        paths = [record.file_path for record in manager.list_file_records(repo_id)]
        assert paths == ["a.JPG", "old.jpg", "deep/b.mp4"]
        videos = manager.list_file_records(repo_id, file_types=["video"])
        assert [record.file_path for record in videos] == ["deep/b.mp4"]


def test_without_hashes_none_are_made(database, repo_path):
    config = SyncManagerConfig()
    config.reconciliation_config.calculate_hashes = False
    with SyncManager(f"sqlite:///{database}", config) as manager:
        repo_id = uuid.uuid4()
        manager.add_repository(repo_id, repo_path, user_area="user")
        manager.trigger_reconciliation(repo_id)
        assert [it.content_hash for it in manager.list_file_records(repo_id)] == [None]


def test_a_second_start_follows_what_is_known_and_finds_what_changed(database, repo_path):
    repo_id = uuid.uuid4()
    with SyncManager(database) as manager:
        manager.add_repository(repo_id, repo_path, user_area="user")
    (repo_path / "user/while-away.txt").write_text("away")
    with SyncManager(database) as manager:
        assert manager.get_file_record(repo_id, "while-away.txt") is not None
        assert manager.get_sync_status(repo_id).is_watching
        other = SyncManager(database)
        with pytest.raises(BusyError):
            other.start()
        other.close()


def test_an_id_and_a_folder_belong_together(manager, repo_path):
    repo_id = uuid.uuid4()
    manager.add_repository(repo_id, repo_path, user_area="user")
    manager.add_repository(str(repo_id), repo_path, user_area="user")
    with pytest.raises(UsageError, match="the repository"):
        manager.add_repository(uuid.uuid4(), repo_path, user_area="user")
    with pytest.raises(UsageError, match="the repository"):
        manager.add_repository(repo_id, repo_path / "inbox")
    with pytest.raises(UsageError, match="no UUID"):
        manager.get_sync_status("seven")


def test_wrong_settings_are_all_told_at_once(database):
    config = SyncManagerConfig(
        reconciliation_interval=timedelta(0),
        reconciliation_config=ReconciliationConfig(batch_size=0, max_concurrency=0),
        file_types=["pictures"],
    )
    with pytest.raises(ConfigError) as caught:
        SyncManager(database, config)
    for name in ("reconciliation_interval", "batch_size", "max_concurrency", "pictures"):
        assert name in str(caught.value)
    assert not database.exists()
    with pytest.raises(UsageError, match="mysql"):
        SyncManager("mysql://host/database")
