"""The Celery tasks: how they are declared, and what becomes of them with real workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.schedules import crontab

from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.temp.cleanup import TempStorageCleanupService
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from lifecycle_sync.tasks.runner import CeleryRunner
from lifecycle_sync.tasks.temp_storage_cleanup import (
    QUEUE,
    TASKS,
    beat_schedule,
    configure_cleanup,
    priority_for,
    task_cleanup_after_chunk,
    task_cleanup_after_crash,
    task_cleanup_orphaned_files,
    task_emergency_cleanup,
    task_scheduled_cleanup,
)
from tests.support.brokers import backend_of, running_broker
from tests.support.rabbitmq import running_rabbitmq
from tests.support.temp_jobs import Place, Storage

HOUSE = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("celery")


# -- declared ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "priority"),
    [
        ("amqp://guest@localhost//", 2),
        ("pyamqp://localhost", 2),
        ("redis://localhost/0", 7),
        ("rediss://localhost/0", 7),
        ("sentinel://localhost", 7),
        ("redis+socket:///tmp/x", 7),
        ("memory://", 2),
    ],
)
def test_priority_two_is_a_low_one_whichever_way_the_broker_counts(broker, priority):
    app = Celery(broker=broker, set_as_current=False)
    assert priority_for(app) == priority


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name.rpartition(".")[2])
def test_how_each_task_is_declared(task):
    assert task.queue == "maintenance"
    assert task.max_retries == 3
    assert task.retry_backoff
    assert task.retry_jitter
    assert task.rate_limit
    assert task.acks_late
    assert task.reject_on_worker_lost


def test_the_beat_schedule_is_the_documented_one():
    settings = TempStorageCleanupSettings(environment={})
    schedule = {entry["task"]: entry["schedule"] for entry in beat_schedule(settings).values()}
    assert schedule == {
        task_scheduled_cleanup.name: crontab(minute="0"),
        task_emergency_cleanup.name: crontab(minute="*/5"),
        task_cleanup_orphaned_files.name: crontab(minute="30", hour="*/6"),
    }
    settings.scheduled_cleanup_interval_minutes = 10
    entry = beat_schedule(settings)["lifecycle-temp-storage-scheduled"]
    assert entry["schedule"].total_seconds() == 600


def test_an_application_keeps_its_own_queues_and_schedule():
    app = Celery(broker="amqp://", set_as_current=False)
    app.conf.beat_schedule = {"mine": {"task": "x", "schedule": 5}}
    configure_cleanup(app)
    configure_cleanup(app)
    assert "mine" in app.conf.beat_schedule
    assert [queue.name for queue in app.conf.task_queues] == ["celery", "maintenance"]
    assert app.conf.task_queues[1].queue_arguments == {"x-max-priority": 9}


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "temp")


@pytest.fixture
def eager(storage):
    """An application that does its tasks at once, here."""
    app = Celery(broker="memory://", set_as_current=True)
    app.conf.task_always_eager = True
    app.conf.task_eager_propagates = True
    provider = Place(storage.base, 10_000)
    configure_cleanup(
        app, lambda: TempStorageCleanupService(provider, storage.jobs, storage.settings)
    )
    yield app
    app.close()


@pytest.mark.usefixtures("eager")
def test_each_task_does_what_it_says(storage):
    storage.put("job_1_chunk_a_x")
    assert task_cleanup_after_chunk.delay(1, "a", ["x"]).get()["files_deleted"] == 1
    storage.put("job_1_chunk_a_x")
    assert task_cleanup_after_crash.delay(1).get()["files_deleted"] == 1
    storage.put("x")
    assert task_cleanup_orphaned_files.delay(max_age_hours=24).get()["files_deleted"] == 1
    storage.put("x")
    assert task_scheduled_cleanup.delay().get()["files_deleted"] == 1
    storage.put("x", size=9_000)
    looked = task_emergency_cleanup.delay(only_if_needed=True).get()
    assert (looked["files_deleted"], looked["storage_before_percent"]) == (0, 90.0)
    assert task_emergency_cleanup.delay().get()["files_deleted"] == 1
    # Delivered twice, done once.
    assert task_emergency_cleanup.delay().get()["files_deleted"] == 0
    with pytest.raises(UsageError):
        task_cleanup_orphaned_files.delay(max_age_hours=0).get()


# -- with a broker and workers -----------------------------------------------------------------


@pytest.fixture(params=["redis"])
def broker(request, tmp_path):
    # One a test: a task that is delivered once more is not another test's.
    if request.param == "rabbitmq":
        running = running_rabbitmq(tmp_path / "rabbitmq")
    else:
        running = running_broker()
    with running as address:
        yield address


class Crawler:
    """A crawler's folder, its workers, and an application that sends them tasks."""

    def __init__(self, base: Path, broker: str) -> None:
        self.base = base
        self.broker = broker
        self._environment = {
            **os.environ,
            "CRAWLER_BASE": str(base),
            "CRAWLER_BROKER": broker,
            "PYTHONPATH": str(HOUSE),
        }
        self.storage = Storage(base / "temp")
        self._engine = sa.create_engine(f"sqlite:///{base}/app.db")
        with self._engine.begin() as connection:
            connection.execute(
                sa.text("CREATE TABLE crawl_jobs (id INTEGER, status TEXT, updated_at TEXT)")
            )
        self.app = Celery(
            "crawler", broker=broker, backend=backend_of(broker), set_as_current=False
        )
        configure_cleanup(self.app)
        self.workers: list[subprocess.Popen[bytes]] = []

    def job(self, number: int, status: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                sa.text("INSERT INTO crawl_jobs VALUES (:id, :status, '2020-01-01 00:00:00')"),
                {"id": number, "status": status},
            )

    def worker(self, *, visibility: float = 3600) -> subprocess.Popen[bytes]:
        log = (self.base / f"worker-{len(self.workers)}.log").open("wb")
        command = "-m celery -A tests.support.crawler_app worker -Q celery,maintenance -c 1 -l INFO"
        command += f" --without-gossip --without-mingle -n w{len(self.workers)}@%h"
        with log:
            started = subprocess.Popen(
                [sys.executable, *command.split()],
                env={**self._environment, "CRAWLER_VISIBILITY": str(visibility)},
                cwd=self.base,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(started)
        return started

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.base.glob("worker-*.log"))

    def send(self, task, *args, **kwargs):
        return self.app.tasks[task.name].apply_async(args, kwargs)

    def reached(self) -> int:
        """Wait until a task is held in an unlink; the number of the process."""
        deadline = time.monotonic() + 60
        path = self.base / "reached"
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.02)
        process = int(path.read_text())
        path.unlink()
        return process

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait(30)
        self._engine.dispose()
        # Else the connection that answers come through stays open.
        self.app.backend.result_consumer.stop()
        self.app.close()


@pytest.fixture
def crawler(tmp_path, broker):
    made = Crawler(tmp_path, broker)
    yield made
    made.close()


def test_a_real_worker_does_them_and_a_child_killed_in_the_middle_costs_nothing(crawler):
    crawler.job(1, "failed")
    crawler.job(2, "running")
    for number in range(5):
        crawler.storage.put(f"job_1_chunk_a_{number}")
        crawler.storage.put(f"job_2_chunk_a_{number}")
    (crawler.base / "slow").touch()
    worker = crawler.worker()
    result = crawler.send(task_cleanup_after_crash, 1)
    os.kill(crawler.reached(), signal.SIGKILL)
    (crawler.base / "slow").unlink()
    told = result.get(timeout=90)
    assert worker.poll() is None
    assert told["files_deleted"] == 5, crawler.logs()
    assert crawler.storage.left() == {f"job_2_chunk_a_{number}" for number in range(5)}
    # And each of the others once, by the same worker.
    crawler.storage.put("job_2_chunk_b_x")
    done = crawler.send(task_cleanup_after_chunk, 2, "b", ["x"]).get(timeout=60)
    assert done["files_deleted"] == 1
    assert crawler.send(task_scheduled_cleanup).get(timeout=60)["files_deleted"] == 0
    assert crawler.send(task_emergency_cleanup, only_if_needed=True).get(timeout=60)
    assert crawler.send(task_cleanup_orphaned_files, 24).get(timeout=60)["errors"] == []
    # As the API asks for them.
    runner = CeleryRunner(crawler.app)
    crawler.storage.put("job_1_chunk_b_x")
    task_id = runner.start("crash", job_id="1")
    deadline = time.monotonic() + 60
    while (told := runner.status(task_id))["status"] != "SUCCESS":
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    assert told["result"]["files_deleted"] == 1
    assert runner.status("never")["status"] == "PENDING"


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"], indirect=True)
def test_cleanups_wait_for_what_matters_more_and_outlive_their_worker(crawler):
    crawler.job(1, "failed")
    for number in range(5):
        crawler.storage.put(f"job_1_chunk_a_{number}")
    (crawler.base / "slow").touch()
    # Both wait for a worker: the clean-up was first, the application's own task is more urgent.
    cleaned = crawler.send(task_cleanup_after_crash, 1)
    urgent = 0 if crawler.broker.startswith("redis") else 9
    counted = crawler.app.send_task("crawler.count_files", queue=QUEUE, priority=urgent)
    first = crawler.worker()
    crawler.reached()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(30)
    assert counted.get(timeout=60) == 5, crawler.logs()
    (crawler.base / "slow").unlink()
    assert len(crawler.storage.left()) == 5
    # What the killed worker had begun the next one ends.
    crawler.worker(visibility=1)
    assert cleaned.get(timeout=120)["files_deleted"] == 5, crawler.logs()
    assert crawler.storage.left() == set()
