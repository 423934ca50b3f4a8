"""The examples that the people of the crawler gave, run as they stand but for imports and paths."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from celery import Celery
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from lifecycle_sync import (
    TempStorageCleanupService,
    TempStorageCleanupSettings,
    get_storage_provider,
)
from lifecycle_sync.model.temp import Usage
from lifecycle_sync.tasks.temp_storage_cleanup import (
    configure_cleanup,
    task_cleanup_after_chunk,
    task_cleanup_after_crash,
    task_cleanup_orphaned_files,
    task_emergency_cleanup,
    task_scheduled_cleanup,
)
from lifecycle_sync.web.cleanup_router import cleanup_router

RESULT_KEYS = set(
    json.loads("""{
  "trigger": "emergency_threshold",
  "start_time": "2024-01-15T10:30:00Z",
  "end_time": "2024-01-15T10:32:15Z",
  "duration_seconds": 135.0,
  "files_scanned": 1500,
  "files_deleted": 800,
  "bytes_freed": 83886080,
  "storage_before_percent": 96.5,
  "storage_after_percent": 78.2,
  "errors": []
}""")
)
STATS = json.loads("""{
  "storage_usage_percent": 75.0,
  "emergency_threshold": 95.0,
  "temp_files_count": 1250,
  "temp_files_size_bytes": 104857600,
  "active_jobs_count": 5,
  "failed_jobs_count": 2,
  "orphaned_files_count": 8,
  "orphaned_files_size_bytes": 2097152,
  "cleanup_needed": false
}""")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temp_storage").mkdir()
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "0")


@pytest.fixture
def session(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE crawl_jobs (id INTEGER, status TEXT, updated_at TEXT)")
        )
        for number, status in ((123, "running"), (456, "failed"), (7, "cancelled")):
            connection.execute(
                sa.text("INSERT INTO crawl_jobs VALUES (:id, :status, '2024-01-15 10:30:00')"),
                {"id": number, "status": status},
            )
    with Session(engine) as made:
        yield made
    engine.dispose()


def put(name: str, *, size: int = 10, hours_old: float = 48) -> None:
    path = Path("temp_storage") / name
    with path.open("wb") as file:
        file.truncate(size)
    then = time.time() - hours_old * 3600
    os.utime(path, (then, then))


def left() -> set[str]:
    return {path.name for path in Path("temp_storage").iterdir() if path.is_file()}


def test_programmatic_usage(session):
    for name in ("image1.jpg", "image2.jpg", "image3.jpg"):
        put(f"job_123_chunk_abc_{name}")
    put("job_456_chunk_a_x")
    put("orphan")

    async def main() -> None:
        # Initialize service
        storage_provider = get_storage_provider()
        cleanup_service = TempStorageCleanupService(
            storage_provider=storage_provider, session=session
        )

        # Get storage statistics
        stats = await cleanup_service.get_storage_stats()
        assert set(stats) == set(STATS)

        # Trigger emergency cleanup
        emergency_stats = await cleanup_service.emergency_cleanup()

        # Clean up after chunk completion
        chunk_stats = await cleanup_service.cleanup_after_chunk_completion(
            job_id=123, chunk_id="abc", completed_files=["image1.jpg", "image2.jpg"]
        )

        # Clean up after crash
        crash_stats = await cleanup_service.cleanup_after_crash(job_id=456)

        # Clean orphaned files
        orphan_stats = await cleanup_service.cleanup_orphaned_files(max_age_hours=24)
        for result in (emergency_stats, chunk_stats, crash_stats, orphan_stats):
            assert set(result) == RESULT_KEYS
            assert datetime.fromisoformat(result["start_time"]).tzinfo is not None
        assert chunk_stats["files_deleted"] == 2

    asyncio.run(main())
    assert left() == {"job_123_chunk_abc_image3.jpg"}


def test_the_documented_statistics(session):
    for number in range(1242):
        put(f"job_123_chunk_a_{number}", size=(104857600 - 2097152) // 1242)
    put("job_123_chunk_b_x", size=(104857600 - 2097152) % 1242)
    for number in range(7):
        put(f"orphan{number}", size=2097152 // 7)
    put("job_123_chunk_b_y", size=2097152 % 7)
    with session.get_bind().begin() as connection:
        for number in range(200, 204):
            connection.execute(sa.text(f"INSERT INTO crawl_jobs VALUES ({number}, 'running', '')"))

    class Provider:
        def usage(self) -> Usage:
            return Usage(75, 25)

    service = TempStorageCleanupService(storage_provider=Provider(), session=session)
    stats = asyncio.run(service.get_storage_stats())
    assert stats["temp_files_size_bytes"] == 104857600
    assert stats["temp_files_count"] == 1251
    different = ("temp_files_count", "orphaned_files_count", "orphaned_files_size_bytes")
    assert {k: v for k, v in stats.items() if k not in different} == {
        k: v for k, v in STATS.items() if k not in different
    }


def test_configuration():
    settings = TempStorageCleanupSettings(
        temp_storage_path=Path("./temp_storage"),
        emergency_cleanup_threshold=95.0,  # Trigger emergency at 95%
        warning_threshold=85.0,  # Log warnings at 85%
        cleanup_batch_size=1000,  # Process 1000 files per batch
        max_orphan_age_hours=24,  # Files older than 24h are orphaned
        scheduled_cleanup_interval_minutes=60,  # Run cleanup every hour
        cleanup_failed_jobs_after_hours=1,  # Clean failed jobs after 1 hour
        enable_storage_monitoring=True,  # Enable continuous monitoring
        log_cleanup_stats=True,  # Log detailed statistics
    )
    assert settings == TempStorageCleanupSettings()
    # Enable dry run mode (logs what would be deleted)
    settings.cleanup_dry_run = True
    # Keep temp files for debugging
    settings.keep_temp_files_for_debugging = True


@pytest.fixture
def celery_app(session):
    app = Celery(broker="memory://", backend="cache+memory://", set_as_current=True)
    app.conf.task_always_eager = True
    app.conf.task_store_eager_result = True
    configure_cleanup(app, lambda: TempStorageCleanupService(get_storage_provider(), session))
    yield app
    app.close()


@pytest.mark.usefixtures("celery_app")
def test_celery_tasks():
    put("orphan")
    # Trigger tasks
    task_result = task_emergency_cleanup.delay()
    result = task_result.get()  # Wait for completion
    assert set(result) == RESULT_KEYS

    # Check task status
    task_id = task_result.id
    status = task_result.status
    assert task_id
    assert status == "SUCCESS"
    for task, arguments in (
        (task_scheduled_cleanup, ()),
        (task_cleanup_orphaned_files, ()),
        (task_cleanup_after_crash, (456,)),
        (task_cleanup_after_chunk, (123, "abc", ["image1.jpg"])),
    ):
        assert set(task.delay(*arguments).get()) == RESULT_KEYS
    assert left() == set()


def test_the_requests_of_the_manual(session):
    app = FastAPI()
    service = TempStorageCleanupService(get_storage_provider(), session)
    app.include_router(cleanup_router(service, authenticate=lambda: None))
    with TestClient(app) as client:
        assert set(client.get("/api/v1/cleanup/stats").json()) == set(STATS)
        task_ids = []
        for path, body in (
            ("emergency", None),
            ("orphaned", {"max_age_hours": 12}),
            ("crash/123", None),
            ("crash/0", None),
            ("scheduled", None),
        ):
            answer = client.post(f"/api/v1/cleanup/{path}", json=body)
            assert answer.status_code == 202
            task_ids.append(answer.json()["task_id"])
        for task_id in task_ids:
            assert client.get(f"/api/v1/cleanup/task/{task_id}/status").status_code == 200
        status = client.get("/api/v1/cleanup/health").json()["status"]
        assert status in {"healthy", "warning", "critical"}
