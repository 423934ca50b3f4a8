"""The documented endpoints, in an application of somebody's own."""

from __future__ import annotations

import time
from typing import Annotated

import pytest
from fastapi import FastAPI, Header, HTTPException
from fastapi.testclient import TestClient

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.temp import Job, JobState
from lifecycle_sync.service.temp.cleanup import TempStorageCleanupService
from lifecycle_sync.web.cleanup_router import cleanup_router
from tests.support.temp_jobs import Place, Storage


def admin(token: Annotated[str, Header()] = "") -> None:
    if token != "secret":
        raise HTTPException(401, "who are you?")


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "temp")


@pytest.fixture
def client(storage):
    service = TempStorageCleanupService(Place(storage.base, 10_000), storage.jobs, storage.settings)
    app = FastAPI()
    app.include_router(cleanup_router(service, authenticate=admin))
    with TestClient(app, headers={"token": "secret"}) as made:
        yield made


def ended(client: TestClient, answer) -> dict[str, object]:
    """Wait for the task that an answer speaks of; its result."""
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"task_id", "status"}
    deadline = time.monotonic() + 30
    while True:
        told = client.get(f"/api/v1/cleanup/task/{answer.json()['task_id']}/status").json()
        assert set(told) == {"task_id", "status", "result", "error"}
        if told["status"] in ("SUCCESS", "FAILURE"):
            assert told["status"] == "SUCCESS", told
            result = told["result"]
            assert isinstance(result, dict)
            return result
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_statistics_and_health(client, storage):
    storage.put("x", size=9_000)
    assert client.get("/api/v1/cleanup/stats").json() == {
        "storage_usage_percent": 90.0,
        "emergency_threshold": 95.0,
        "temp_files_count": 1,
        "temp_files_size_bytes": 9_000,
        "active_jobs_count": 0,
        "failed_jobs_count": 0,
        "orphaned_files_count": 1,
        "orphaned_files_size_bytes": 9_000,
        "cleanup_needed": False,
    }
    health = client.get("/api/v1/cleanup/health").json()
    assert (health["status"], health["storage_usage_percent"]) == ("warning", 90.0)


def test_each_post_answers_202_and_is_done(client, storage):
    storage.put("x", size=9_600)
    assert ended(client, client.post("/api/v1/cleanup/emergency"))["files_deleted"] == 1
    storage.put("x", hours_old=13)
    answer = client.post("/api/v1/cleanup/orphaned", json={"max_age_hours": 12})
    assert ended(client, answer)["files_deleted"] == 1
    assert ended(client, client.post("/api/v1/cleanup/orphaned"))["files_deleted"] == 0
    storage.put("job_123_chunk_a_x")
    assert ended(client, client.post("/api/v1/cleanup/crash/123"))["files_deleted"] == 1
    storage.jobs.set("7", Job(JobState.FAILED, 0))
    storage.put("job_7_chunk_a_x")
    assert ended(client, client.post("/api/v1/cleanup/crash/0"))["files_deleted"] == 1
    assert ended(client, client.post("/api/v1/cleanup/scheduled"))["trigger"] == "scheduled"


@pytest.mark.parametrize("hours", [0, -1, "old", 1e99])
def test_an_age_that_is_none_is_refused(client, hours):
    body = {"max_age_hours": hours}
    assert client.post("/api/v1/cleanup/orphaned", json=body).status_code == 422


def test_a_task_that_is_not_known_is_not_found(client):
    assert client.get("/api/v1/cleanup/task/none/status").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "stats"),
        ("GET", "health"),
        ("GET", "task/x/status"),
        ("POST", "emergency"),
        ("POST", "orphaned"),
        ("POST", "crash/1"),
        ("POST", "scheduled"),
    ],
)
def test_nobody_comes_in_without_the_applications_own_authentication(client, storage, method, path):
    storage.put("x")
    answer = client.request(method, f"/api/v1/cleanup/{path}", headers={"token": "wrong"})
    assert answer.status_code == 401
    assert storage.left() == {"x"}


@pytest.mark.parametrize("nothing", [None, "", False])
def test_without_authentication_there_is_no_router(storage, nothing):
    service = TempStorageCleanupService(None, None, storage.settings)
    with pytest.raises(UsageError, match="no dependency that authenticates"):
        cleanup_router(service, authenticate=nothing)
    with pytest.raises(TypeError):
        cleanup_router(service)  # type: ignore[call-arg]
