"""The examples that the people of the upload service gave, run as they stand but for imports and
paths."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from functools import wraps

import pytest
from celery import Celery
from flask import Flask, abort, flash, redirect, render_template, request, url_for

from lifecycle_sync import CleanupService
from lifecycle_sync.service.host.starting import cleanup_handler as make_handler
from tests.support.uploads import Files as FileRepository
from tests.support.uploads import Folder

# ruff: noqa: DTZ005 - the examples use local times without a zone


class Config:
    # Cleanup settings
    CLEANUP_ENABLED = os.getenv("CLEANUP_ENABLED", "true").lower() == "true"
    CLEANUP_INTERVAL_MINUTES = int(os.getenv("CLEANUP_INTERVAL_MINUTES", "60"))
    CLEANUP_OLD_FILES_DAYS = int(os.getenv("CLEANUP_OLD_FILES_DAYS", "7"))


def admin_required(view):
    @wraps(view)
    def checked(*args, **kwargs):
        if request.headers.get("X-Admin") != "yes":
            abort(403)
        return view(*args, **kwargs)

    return checked


@pytest.fixture
def app(tmp_path):
    made = Flask(__name__, root_path=str(tmp_path))
    made.config.from_object(Config)
    made.secret_key = "x"
    return made


@pytest.fixture
def storage(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def file_repo():
    made = FileRepository()
    # Any other file: of a table without a row nothing is believed.
    made.create({"path": "uploads/other", "status": "active", "uploaded_by": "testuser"})
    return made


def test_cleanup_expired_files(app, file_repo, storage):
    # Create expired file
    yesterday = (datetime.now() - timedelta(days=1)).isoformat()
    file_id = file_repo.create(
        {
            "original_name": "test.txt",
            "path": "uploads/test123",
            "uploaded_by": "testuser",
            "expiry_at": yesterday,
            "status": "active",
        }
    )

    # Run cleanup
    cleanup = CleanupService(app, storage, file_repo, interval_minutes=60)
    cleanup.cleanup_expired_files()

    # Verify file marked as expired
    file_info = file_repo.get_by_id(file_id)
    assert file_info["status"] == "expired"


def test_cleanup_orphaned_files(app, file_repo, storage, tmp_path):
    # Create orphaned file in storage
    orphaned_path = tmp_path / "orphaned.txt"
    orphaned_path.write_text("orphaned")

    # Run cleanup
    cleanup = CleanupService(app, storage, file_repo, interval_minutes=60)
    cleanup.cleanup_orphaned_files()

    # Verify orphaned file removed
    assert not orphaned_path.exists()


def test_usage_in_an_application(app, file_repo, storage, tmp_path):
    # Initialize cleanup service
    cleanup_service = CleanupService(
        app=app,
        storage_backend=storage,
        file_repository=file_repo,
        interval_minutes=60,  # Run every hour
    )

    # Start cleanup service
    cleanup_service.start()

    @app.route("/admin")
    def admin_dashboard():
        return "dashboard"

    @app.route("/admin/cleanup", methods=["POST"])
    @admin_required
    def manual_cleanup():
        """
        Manually trigger cleanup cycle (admin only).
        """
        try:
            cleanup_service.run_cleanup_cycle()
            flash("Cleanup completed successfully")
        except Exception as e:
            app.logger.error(f"Manual cleanup failed: {e}", exc_info=True)
            flash("Cleanup failed")

        return redirect(url_for("admin_dashboard"))

    @app.route("/admin/stats")
    @admin_required
    def admin_stats():
        """Show cleanup statistics."""
        stats = cleanup_service.get_stats()
        return render_template("admin/stats.html", cleanup_stats=stats)

    (tmp_path / "templates" / "admin").mkdir(parents=True)
    (tmp_path / "templates" / "admin" / "stats.html").write_text(
        "{{ cleanup_stats.total_cycles }} {{ cleanup_stats.last_run }}"
    )
    try:
        client = app.test_client()
        admin = {"X-Admin": "yes"}
        assert client.post("/admin/cleanup").status_code == 403
        assert client.post("/admin/cleanup", headers=admin).status_code == 302
        assert client.get("/admin/stats", headers=admin).text.split()[0] in {"1", "2"}
    finally:
        cleanup_service.stop()


def test_the_alternatives(app, file_repo, storage):
    celery = Celery("buzzdrop", broker="memory://", set_as_current=False)

    @celery.task(name="tasks.cleanup_expired_files")
    def cleanup_expired_files():
        CleanupService(app, storage, file_repo).cleanup_expired_files()

    # Beat schedule
    celery.conf.beat_schedule = {
        "cleanup-every-hour": {
            "task": "tasks.cleanup_expired_files",
            "schedule": 3600.0,
        },
    }
    cleanup_expired_files()
    celery.close()

    # For AWS Lambda / GCP Cloud Functions
    cleanup_handler = make_handler(lambda: CleanupService(app, storage, file_repo))
    assert cleanup_handler({}, None)["status"] == "done"
