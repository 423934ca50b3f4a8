"""Tables of SQLAlchemy and Django, and a Flask application."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, abort, render_template_string, request
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lifecycle_sync import CleanupService
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.host.flask_extension import FlaskCleanup
from lifecycle_sync.service.host.sqlalchemy_table import SqlAlchemyFiles
from lifecycle_sync.service.host.starting import cleanup_lifespan
from lifecycle_sync.tasks.host_cleanup import cleanup_expired_files, configure_host_cleanup
from tests.support.uploads import Files, Folder


class Base(DeclarativeBase):
    pass


class Upload(Base):
    __tablename__ = "uploads"
    key: Mapped[int] = mapped_column(primary_key=True)
    location: Mapped[str]
    state: Mapped[str | None]
    expires: Mapped[datetime | None]
    fetched: Mapped[str | None]  # ISO text, as some have it


COLUMNS: dict[str, str | None] = {
    "id": "key",
    "path": "location",
    "status": "state",
    "expiry_at": "expires",
    "downloaded_at": "fetched",
}


def now() -> datetime:
    return datetime.now()  # noqa: DTZ005 - as applications have it


@pytest.fixture
def sessions(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)
    yield sessionmaker(engine)
    engine.dispose()


@pytest.fixture
def storage(tmp_path):
    return Folder(tmp_path / "uploads")


def fill(put: Any, storage: Folder) -> None:
    old, soon = now() - timedelta(days=1), now() + timedelta(days=1)
    for number, (state, expires, fetched) in enumerate(
        [
            ("active", old, None),
            (None, old, None),
            ("active", soon, None),
            ("deleted", old, None),
            ("expired", old, (now() - timedelta(days=8)).isoformat()),
            ("expired", None, (datetime.now(UTC) - timedelta(days=6)).isoformat()),
            ("expired", None, "long ago"),
        ],
        start=1,
    ):
        storage.put(f"file{number}")
        put(number, f"uploads/file{number}", state, expires, fetched)
    storage.put("orphan")


def check(service: CleanupService, states: Any, storage: Folder) -> None:
    assert service.cleanup_expired_files() == 2
    assert service.cleanup_orphaned_files() == 1
    assert service.cleanup_old_downloaded_files() == 1
    assert states() == {
        1: "expired",
        2: "expired",
        3: "active",
        4: "deleted",
        6: "expired",
        7: "expired",
    }
    assert sorted(storage.list_files()) == ["file3", "file4", "file5", "file6", "file7"]
    assert service.run_cleanup_cycle() == 0


def test_a_sqlalchemy_model_is_a_table_of_files(sessions, storage):
    def put(key, location, state, expires, fetched):
        with sessions.begin() as session:
            session.add(
                Upload(key=key, location=location, state=state, expires=expires, fetched=fetched)
            )

    def states() -> dict[int, str | None]:
        with sessions() as session:
            return {it.key: it.state for it in session.scalars(sa.select(Upload))}

    fill(put, storage)
    files = SqlAlchemyFiles(sessions, Upload, COLUMNS)
    check(CleanupService(None, storage, files), states, storage)


def test_columns_that_are_not_there_are_told_at_once(sessions):
    with pytest.raises(UsageError, match="no column 'id' for id"):
        SqlAlchemyFiles(sessions, Upload)
    with pytest.raises(UsageError, match="no column 'name' to be named"):
        SqlAlchemyFiles(sessions, Upload, {**COLUMNS, "name": "x"})
    with pytest.raises(UsageError, match="needs a column for path"):
        SqlAlchemyFiles(sessions, Upload, {**COLUMNS, "path": None})


def test_a_table_without_status_or_downloads(sessions, storage):
    columns = {**COLUMNS, "status": None, "downloaded_at": None}
    with sessions.begin() as session:
        session.add(Upload(key=1, location="a", expires=now() - timedelta(days=1)))
    storage.put("a")
    service = CleanupService(None, storage, SqlAlchemyFiles(sessions, Upload, columns))
    assert service.cleanup_expired_files() == 1
    assert service.cleanup_expired_files() == 0
    assert service.cleanup_old_downloaded_files() == 0


@pytest.fixture(scope="module")
def django_model(tmp_path_factory):
    import django
    from django.conf import settings
    from django.db import connection, models

    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path_factory.mktemp("django") / "app.db"),
    }
    settings.configure(DATABASES={"default": database}, USE_TZ=False)
    django.setup()

    class Stored(models.Model):  # type: ignore[misc]
        key = models.IntegerField(primary_key=True)
        location = models.CharField(max_length=100)
        state = models.CharField(max_length=20, null=True)
        expires = models.DateTimeField(null=True)
        fetched = models.CharField(max_length=50, null=True)

        class Meta:
            app_label = "uploads"

    with connection.schema_editor() as editor:
        editor.create_model(Stored)
    yield Stored
    connection.close()


def test_a_django_model_is_a_table_of_files(django_model, storage):
    from lifecycle_sync.service.host.django_table import DjangoFiles

    def put(key, location, state, expires, fetched):
        django_model.objects.create(
            key=key, location=location, state=state, expires=expires, fetched=fetched
        )

    def states() -> dict[int, str | None]:
        return {it.key: it.state for it in django_model.objects.all()}

    fill(put, storage)
    check(CleanupService(None, storage, DjangoFiles(django_model, COLUMNS)), states, storage)
    with pytest.raises(UsageError, match="no column 'id' for id"):
        DjangoFiles(django_model)


# -- Flask -------------------------------------------------------------------------------------


def admin_required(view):
    def checked(*args, **kwargs):
        if request.headers.get("X-Admin") != "yes":
            abort(403)
        return view(*args, **kwargs)

    checked.__name__ = view.__name__
    return checked


@pytest.fixture
def app(tmp_path):
    made = Flask("buzzdrop", root_path=str(tmp_path))
    made.config.update(TESTING=True, SECRET_KEY="x", CLEANUP_INTERVAL_MINUTES=5)
    return made


@pytest.fixture
def files():
    return Files()


def test_the_routes_stand_behind_the_applications_own_check(app, files, storage):
    cleanup = FlaskCleanup(app, storage, files, admin_required=admin_required)
    assert cleanup.service.interval == 300
    client = app.test_client()
    for method, path in (("POST", "/admin/cleanup"), ("GET", "/admin/stats")):
        assert client.open(path, method=method).status_code == 403
    assert cleanup.service.get_stats()["total_cycles"] == 0
    assert client.get("/admin/cleanup", headers={"X-Admin": "yes"}).status_code == 405
    with pytest.raises(UsageError, match="an administrator"):
        FlaskCleanup(Flask("other"), storage, files, admin_required=None)  # type: ignore[arg-type]


def test_a_cycle_by_hand_and_its_statistics(app, files, storage):
    FlaskCleanup(app, storage, files, admin_required=admin_required)
    storage.put("x")
    yesterday = (now() - timedelta(days=1)).isoformat()
    files.create({"path": "uploads/x", "status": "active", "expiry_at": yesterday})
    client = app.test_client()
    answer = client.post("/admin/cleanup", headers={"X-Admin": "yes"})
    assert answer.status_code == 200
    assert answer.json["cleanup_stats"]["expired_files_removed"] == 1
    stats = client.get("/admin/stats", headers={"X-Admin": "yes"}).json
    assert stats["total_cycles"] == 1
    assert stats["last_run"] is not None


def test_it_answers_with_the_applications_own_pages(app, files, storage, tmp_path):
    FlaskCleanup(app, storage, files, admin_required=admin_required)

    @app.route("/dashboard")
    def admin_dashboard():
        return render_template_string("{{ get_flashed_messages() }}")

    (tmp_path / "templates" / "admin").mkdir(parents=True)
    page = "cycles: {{ cleanup_stats.total_cycles }}"
    (tmp_path / "templates" / "admin" / "stats.html").write_text(page)
    client = app.test_client()
    browser = {"X-Admin": "yes", "Accept": "text/html"}
    answer = client.post("/admin/cleanup", headers=browser, follow_redirects=True)
    assert "Cleanup completed successfully" in answer.text
    assert client.get("/admin/stats", headers=browser).text == "cycles: 1"


def test_it_lives_as_long_as_an_asgi_application(files, storage):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    service = CleanupService(None, storage, files)
    with TestClient(FastAPI(lifespan=cleanup_lifespan(service))):
        assert service.running
    assert not service.running


def test_it_is_a_task_of_celery(files, storage):
    from celery import Celery

    app = Celery(broker="memory://", set_as_current=True)
    app.conf.task_always_eager = True
    configure_host_cleanup(app, lambda: CleanupService(None, storage, files))
    assert app.conf.beat_schedule["cleanup-every-hour"]["schedule"] == 3600.0
    told = cleanup_expired_files.delay().get()
    assert (told["status"], told["total_cycles"]) == ("done", 1)
    app.close()
