"""Uploads that expire: a small Flask application that cleans up after itself.

    pip install 'lifecycle-sync[flask]'
    flask --app examples/flask_uploads/app run

    curl -F file=@photo.jpg -F hours=24 http://localhost:5000/files
    curl -X POST -H 'X-Admin-Token: change-me' http://localhost:5000/admin/cleanup

UPLOADS_FOLDER is where it keeps its files and its database.
"""

from __future__ import annotations

import hmac
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from flask import Flask, abort, jsonify, request, send_file
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lifecycle_sync.service.host.flask_extension import FlaskCleanup
from lifecycle_sync.service.host.local_uploads import LocalUploads
from lifecycle_sync.service.host.sqlalchemy_table import SqlAlchemyFiles

BASE = Path(os.environ.get("UPLOADS_FOLDER", "uploads-data")).resolve()
FOLDER = BASE / "uploads"
FOLDER.mkdir(parents=True, exist_ok=True)


class Base(DeclarativeBase):
    """The application's tables."""


class Upload(Base):
    """One uploaded file."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(primary_key=True)
    original_name: Mapped[str]
    path: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    expiry_at: Mapped[str | None]  # ISO, in UTC
    downloaded_at: Mapped[str | None]


engine = create_engine(f"sqlite:///{BASE}/app.db")
Base.metadata.create_all(engine)
sessions = sessionmaker(engine)

app = Flask(__name__)
app.config.from_mapping(
    ADMIN_TOKEN=os.environ.get("ADMIN_TOKEN", "change-me"),
    CLEANUP_ENABLED=os.environ.get("CLEANUP_ENABLED", "true"),
    CLEANUP_INTERVAL_MINUTES=os.environ.get("CLEANUP_INTERVAL_MINUTES", "60"),
    CLEANUP_OLD_FILES_DAYS=os.environ.get("CLEANUP_OLD_FILES_DAYS", "7"),
)


def admin_required(view: Callable[..., Any]) -> Callable[..., Any]:
    """Only for those who know the token."""

    @wraps(view)
    def checked(*args: Any, **kwargs: Any) -> Any:
        token = request.headers.get("X-Admin-Token", "")
        if not hmac.compare_digest(token, app.config["ADMIN_TOKEN"]):
            abort(403)
        return view(*args, **kwargs)

    return checked


cleanup = FlaskCleanup(
    app,
    LocalUploads(FOLDER),
    SqlAlchemyFiles(sessions, Upload),
    admin_required=admin_required,
    lock_file=BASE / "cleanup.lock",
)
cleanup.service.start()


@app.post("/files")
def upload() -> Any:
    """Store a file; `hours` is how long."""
    given = request.files["file"]
    hours = float(request.form.get("hours", 24))
    name = uuid.uuid4().hex
    row = Upload(
        id=name,
        original_name=given.filename or "file",
        path=f"uploads/{name}",
        expiry_at=(datetime.now(UTC) + timedelta(hours=hours)).isoformat(),  # noqa: TID251
    )
    # The row first: a file with a row is never an orphan.
    with sessions.begin() as session:
        session.add(row)
    given.save(FOLDER / name)
    return jsonify(id=name), 201


@app.get("/files/<name>")
def download(name: str) -> Any:
    """Give a file out, and remember that."""
    with sessions.begin() as session:
        row = session.get(Upload, name)
        if row is None or row.status != "active":
            abort(404)
        row.downloaded_at = datetime.now(UTC).isoformat()  # noqa: TID251
        original = row.original_name
    return send_file(FOLDER / name, download_name=original)
