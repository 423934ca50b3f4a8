"""Who says which jobs are alive: tables in any database, functions, results of tasks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from enum import Enum

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from lifecycle_sync.clock import FixedClock, from_datetime
from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.temp import Job, JobState
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.temp.cleanup import TempStorageCleanupService, job_source
from lifecycle_sync.service.temp.jobs import CallableJobs, job_of, moment_ns
from lifecycle_sync.service.temp.jobs_celery import CeleryJobs
from lifecycle_sync.service.temp.jobs_registry import RegistryJobs
from lifecycle_sync.service.temp.jobs_sql import SqlJobs
from tests.conftest import START_NS
from tests.support.temp_jobs import HOUR, Place, Storage

METADATA = sa.MetaData()
CRAWL_JOBS = sa.Table(
    "crawl_jobs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("status", sa.String),
    sa.Column("updated_at", sa.DateTime),
)
LONG_AGO = datetime(2020, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as a table without time zones has it


def fill(connection: sa.Connection, *rows: tuple[int, str | None, object]) -> None:
    for number, status, when in rows:
        connection.execute(CRAWL_JOBS.insert().values(id=number, status=status, updated_at=when))


@pytest.fixture
def engine(tmp_path):
    made = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    METADATA.create_all(made)
    yield made
    made.dispose()


def test_a_table_says_what_it_knows(engine):
    with engine.begin() as connection:
        fill(
            connection,
            (1, "running", LONG_AGO),
            (2, "FAILED", LONG_AGO),
            (3, "completed", None),
            (4, "on the moon", LONG_AGO),
            (5, None, LONG_AGO),
        )
    with Session(engine) as session:
        source = job_source(session)
        assert isinstance(source, SqlJobs)
        found = source.look({"1", "2", "3", "4", "5", "6", "1_2", "x'; DROP TABLE crawl_jobs --"})
    when = from_datetime(LONG_AGO)
    assert found == {
        "1": Job(JobState.LIVE, when),
        "2": Job(JobState.FAILED, when),
        "3": Job(JobState.FINISHED, None),
        "4": Job(JobState.UNKNOWN, when),
        "5": Job(JobState.UNKNOWN, when),
        "6": Job(JobState.ABSENT),
        "1_2": Job(JobState.ABSENT),
        "x'; DROP TABLE crawl_jobs --": Job(JobState.ABSENT),
    }
    assert SqlJobs(engine).counts() == (3, 1)


def test_an_empty_table_says_nothing_of_any_job(engine):
    assert SqlJobs(engine).look({"1"}) == {}


def test_many_ids_are_asked_in_parts(engine):
    with engine.begin() as connection:
        fill(connection, *((number, "failed", None) for number in range(1200)))
    found = SqlJobs(engine).look({str(number) for number in range(1201)})
    assert sum(job.state is JobState.FAILED for job in found.values()) == 1200
    assert found["1200"].state is JobState.ABSENT


def test_a_query_of_ones_own(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE runs (name TEXT, state INTEGER)"))
        connection.execute(sa.text("INSERT INTO runs VALUES ('a', 0), ('b', 9)"))
    query = (
        "SELECT name AS job_id, CASE state WHEN 0 THEN 'go' ELSE 'stop' END AS status,"
        " NULL AS since FROM runs"
    )
    source = SqlJobs(engine, query, {"go": JobState.LIVE, "stop": JobState.FAILED})
    found = source.look(["a", "b"])
    assert found == {"a": Job(JobState.LIVE), "b": Job(JobState.FAILED)}


def test_a_missing_table_deletes_nothing(tmp_path):
    storage = Storage(tmp_path / "temp")
    storage.put("job_1_chunk_a_x")
    engine = sa.create_engine("sqlite://")
    service = TempStorageCleanupService(None, engine, storage.settings)
    result = asyncio.run(service.scheduled_cleanup())
    engine.dispose()
    assert storage.left() == {"job_1_chunk_a_x"}
    assert "OperationalError" in result["errors"][0]


@pytest.mark.parametrize("kind", ["session", "engine"])
def test_an_asynchronous_session_is_asked_in_its_own_loop(tmp_path, kind):
    storage = Storage(tmp_path / "temp")
    storage.put("job_1_chunk_a_x")
    storage.put("job_2_chunk_a_x")

    async def scene() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/app.db")
        async with engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
            await connection.run_sync(fill, (1, "failed", LONG_AGO), (2, "running", LONG_AGO))
        async with AsyncSession(engine) as session:
            service = TempStorageCleanupService(
                storage_provider=None,
                session=session if kind == "session" else engine,
                settings=storage.settings,
            )
            stats = await service.get_storage_stats()
            assert (stats["active_jobs_count"], stats["failed_jobs_count"]) == (1, 1)
            await service.cleanup_after_crash()
        await engine.dispose()

    asyncio.run(scene())
    assert storage.left() == {"job_2_chunk_a_x"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2020, 1, 1, tzinfo=UTC), 1_577_836_800_000_000_000),
        ("2020-01-01T00:00:00+00:00", 1_577_836_800_000_000_000),
        (LONG_AGO, from_datetime(LONG_AGO)),
        (1.5, 1_500_000_000),
        (None, None),
        ("yesterday", None),
        (True, None),
        (timedelta(1), None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_dates_of_all_kinds(value, expected):
    assert moment_ns(value) == expected


class Status(Enum):
    RUNNING = "running"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("Failed ", JobState.FAILED),
        (Status.RUNNING, JobState.LIVE),
        (JobState.FINISHED, JobState.FINISHED),
        (("success", None), JobState.FINISHED),
        (None, JobState.UNKNOWN),
        (7, JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_answers_of_all_kinds(answer, state):
    assert job_of(answer).state is state
    assert CallableJobs(lambda _id: answer).look(["1"])["1"].state is state


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", JobState.UNKNOWN),
        ("STARTED", JobState.LIVE),
        ("RETRY", JobState.LIVE),
        ("SUCCESS", JobState.FINISHED),
        ("FAILURE", JobState.FAILED),
        ("REVOKED", JobState.FAILED),
        ("CUSTOM", JobState.UNKNOWN),
    ],
)
def test_results_of_tasks(status, state):
    class App:
        class backend:  # noqa: N801
            @staticmethod
            def get_task_meta(_job_id):
                return {"status": status, "date_done": "2020-01-01T00:00:00+00:00"}

    job = CeleryJobs(App()).look(["x"])["x"]
    assert job.state is state


def test_jobs_that_are_kept_in_a_registry(tmp_path):
    clock = FixedClock(START_NS)
    registry = SqliteRegistry.open(tmp_path / "registry.db", clock=clock)
    jobs = RegistryJobs(registry, silent_after_hours=2, clock=clock)
    assert jobs.look(["1"]) == {}, "nothing was ever started"
    assert not jobs.beat(1)
    for number in (1, 2, 3):
        jobs.start(number)
    jobs.end(2)
    jobs.end(3, failed=True)
    clock.advance(2 * HOUR - 1)
    assert {k: v.state for k, v in jobs.look(["1", "2", "3", "4"]).items()} == {
        "1": JobState.LIVE,
        "2": JobState.FINISHED,
        "3": JobState.FAILED,
        "4": JobState.ABSENT,
    }
    assert jobs.counts() == (1, 1)
    clock.advance(1)
    assert jobs.look(["1"])["1"] == Job(JobState.FAILED, START_NS + int(2 * HOUR * 1e9))
    assert jobs.beat(1)
    assert jobs.look(["1"])["1"].state is JobState.LIVE
    clock.advance(40 * 24 * HOUR)
    assert RegistryJobs(registry, clock=clock).look(["1"])["1"].state is JobState.LIVE
    assert jobs.forget(days=30) == 2
    assert jobs.look(["2"])["2"].state is JobState.ABSENT
    registry.close()


# -- files that are a job's by declaration -----------------------------------------------------


@pytest.fixture
def declaring(tmp_path):
    registry = SqliteRegistry.open(tmp_path / "registry.db")
    jobs = RegistryJobs(registry)
    jobs.start(1)
    jobs.start(2)
    yield Storage(tmp_path / "temp"), jobs
    registry.close()


def cleaned(storage, jobs) -> None:
    cleanup = storage.cleanup(jobs=jobs, provider=Place(storage.base, 1))
    cleanup.orphaned()
    cleanup.scheduled()
    cleanup.emergency()
    cleanup.after_crash()
    cleanup.after_crash(1)


def test_a_declared_file_lives_as_long_as_its_job_and_goes_with_it(declaring):
    storage, jobs = declaring
    mine = [storage.put(name) for name in ("a.bin", "folder/b.bin")]
    later, other = storage.base / "later.bin", storage.put("other.bin")
    jobs.declare(1, [*mine, later])
    jobs.declare(2, [other])
    storage.put("later.bin")
    storage.put("nobodys.bin")
    cleaned(storage, jobs)
    assert storage.left() == {"a.bin", "folder/b.bin", "later.bin", "other.bin"}
    jobs.end(1, failed=True)
    cleanup = storage.cleanup(jobs=jobs)
    assert cleanup.after_crash()["files_deleted"] == 0, "it failed just now"
    assert cleanup.after_crash(1)["files_deleted"] == 3
    assert storage.left() == {"other.bin"}


def test_a_file_that_took_the_place_of_a_declared_one_is_the_jobs_only_while_that_lives(declaring):
    storage, jobs = declaring
    path = storage.put("a.bin")
    jobs.declare(1, [path])
    storage.put("new").rename(path)
    cleaned(storage, jobs)
    assert path.exists(), "it may have been saved anew by the job"
    jobs.end(1, failed=True)
    storage.cleanup(jobs=jobs).after_crash(1)
    assert path.exists(), "that job has never spoken of it"
    storage.cleanup(jobs=jobs).orphaned()
    assert not path.exists(), "it is old, and nobody's"


def test_a_chunks_declared_files_go_when_it_is_complete(declaring):
    storage, jobs = declaring
    for name in ("a.bin", "b.bin", "folder/c.bin"):
        jobs.declare(1, [storage.put(name)], chunk_id="x")
    jobs.declare(1, [storage.put("d.bin")], chunk_id="y")
    done = storage.cleanup(jobs=jobs).after_chunk(1, "x", ["a.bin", "folder/c.bin", "d.bin"])
    assert done["files_deleted"] == 2
    assert storage.left() == {"b.bin", "d.bin"}


def test_declarations_that_cannot_be_read_let_nothing_go(declaring, monkeypatch):
    storage, jobs = declaring
    storage.put("a.bin")

    def down(_paths):
        raise ConnectionError("the database is down")

    monkeypatch.setattr(jobs, "declared", down)
    cleaned(storage, jobs)
    assert storage.left() == {"a.bin"}


def test_only_a_job_that_was_started_has_files(declaring):
    storage, jobs = declaring
    with pytest.raises(NotFoundError, match="a job is started before"):
        jobs.declare(3, [storage.put("a.bin")])
