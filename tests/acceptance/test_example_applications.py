"""The three applications in examples/, started as people start them, used, killed, cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from celery import Celery

from tests.support.brokers import free_port, running_broker
from tests.support.temp_jobs import HOUR

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.xdist_group("celery")


def until(condition: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)


class Application:
    """A process that serves HTTP, and a client of it."""

    def __init__(self, command: list[str], base: Path, port: int, **environment: str) -> None:
        self.log = base / "log"
        self._command = [sys.executable, "-m", *command]
        self._environment = {**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"}
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def start(self, ready: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, cwd=self.log.parent
            )
        until(lambda: self._answers(ready), self.process, self.log)

    def _answers(self, path: str) -> bool:
        try:
            self.client.get(path)
        except httpx2.TransportError:
            return False
        return True

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        self.client.close()


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".lifecycle" not in path.parts
    }


def test_uploads_in_flask(tmp_path):
    port = free_port()
    app = Application(
        ["flask", "--app", str(EXAMPLES / "flask_uploads" / "app"), "run", "--port", str(port)],
        tmp_path,
        port,
        UPLOADS_FOLDER=str(tmp_path / "data"),
        ADMIN_TOKEN="secret",
    )
    uploads = tmp_path / "data" / "uploads"
    try:
        app.start("/admin/stats")

        def upload(hours: float) -> str:
            answer = app.client.post(
                "/files", files={"file": ("a.txt", b"hello")}, data={"hours": hours}
            )
            assert answer.status_code == 201
            name: str = answer.json()["id"]
            return name

        kept, expired = upload(1), upload(-1)
        orphan = uploads / "orphan"
        orphan.write_text("x")
        os.utime(orphan, (time.time() - HOUR,) * 2)
        assert app.client.get(f"/files/{kept}").text == "hello"
        assert app.client.post("/admin/cleanup").status_code == 403
        admin = {"X-Admin-Token": "secret"}
        answer = app.client.post("/admin/cleanup", headers=admin)
        assert answer.status_code == 200, app.log.read_text()
        assert files(uploads) == {kept}
        assert app.client.get(f"/files/{expired}").status_code == 404
        stats = app.client.get("/admin/stats", headers=admin).json()
        assert (stats["expired_files_removed"], stats["orphaned_files_removed"]) == (1, 1)
    finally:
        app.close()


def test_a_media_pipeline_in_fastapi(tmp_path):
    port = free_port()
    app = Application(
        [
            "uvicorn",
            "--app-dir",
            str(EXAMPLES / "fastapi_pipeline"),
            "app:app",
            "--port",
            str(port),
        ],
        tmp_path,
        port,
        TEMP_FOLDER=str(tmp_path / "temp"),
    )
    temp = tmp_path / "temp"
    try:
        app.start("/temp")
        answer = app.client.post("/transcriptions", content=b"video" * 1000)
        assert answer.json()["bytes"] == 5000
        assert files(temp) == set()
        # Killed in the middle of a request.
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys, urllib.request as r; r.urlopen(sys.argv[1], b'v')",
                f"http://127.0.0.1:{port}/transcriptions?seconds=600",
            ],
            stderr=subprocess.DEVNULL,
        ) as request:
            until(lambda: len(files(temp)) == 2, app.process, app.log)
            app.stop(signal.SIGKILL)
            request.wait(60)
        assert len(files(temp)) == 2
        app.start("/temp")
        assert files(temp) == set()
        assert app.client.get("/temp").json()["tracked_files"] == 0
        app.stop()
        assert "Application shutdown complete" in app.log.read_text()
    finally:
        app.close()


def test_a_crawler_with_celery(tmp_path):
    data = tmp_path / "data"
    with running_broker() as broker:
        environment = {
            **os.environ,
            "CRAWLER_FOLDER": str(data),
            "CRAWLER_BROKER": broker,
            "TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        log = tmp_path / "log"
        folder = EXAMPLES / "celery_crawler"
        command = "-m celery -A crawler worker -c 1 -Q celery,maintenance"
        command += " --without-gossip --without-mingle"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "crawler",
                    "worker",
                    "-c",
                    "1",
                    "-Q",
                    "celery,maintenance",
                    "--without-gossip",
                    "--without-mingle",
                ],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        app = Celery("client", broker=broker, backend=broker, set_as_current=False)
        try:
            subprocess.run(
                [sys.executable, "crawler.py", "2"], cwd=folder, env=environment, check=True
            )
            images, temp = data / "images", data / "temp"
            until(lambda: len(files(images)) == 20 and not files(temp), worker, log)
            # A job that fails leaves its files, until somebody says so.
            with_failure: Any = (
                "from crawler import start_job, crawl_chunk, set_status;"
                "start_job(2, {'a': ['x.jpg', 'broken.jpg']})"
            )
            subprocess.run(
                [sys.executable, "-c", with_failure], cwd=folder, env=environment, check=True
            )
            until(lambda: "is no image" in log.read_text(), worker, log)
            assert files(temp) == {"job_2_chunk_a_x.jpg", "job_2_chunk_a_broken.jpg"}
            name = "lifecycle_sync.tasks.temp_storage_cleanup.task_cleanup_after_crash"
            result = app.send_task(name, args=[2], queue="maintenance", priority=7)
            assert result.get(timeout=60)["files_deleted"] == 2
            assert files(temp) == set()
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(30)
            app.close()
