"""Every Python example of the document on lifecycle synchronisation, adapted only in its paths and
in how long it lasts; and `LifecycleScheduler` as an application uses it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lifecycle_sync import (
    FileType,
    LifecyclePolicy,
    LifecycleScheduler,
    LifecycleState,
    LifecycleSync,
    load_config,
)
from lifecycle_sync.errors import BusyError, NotFoundError, UsageError

_EXAMPLES = Path(__file__).parents[2] / "examples"
_DOCUMENTED = {
    "database_path": "file_registry.db",
    "local_storage_path": "./storage",
    "archive_path": "./archive",
    "backup_path": "./backup",
    "registry_sync_interval": 300,
    "cleanup_interval": 3600,
    "moonshot_api_base": "https://api.moonshot.cn",
    "moonshot_api_key": None,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory set up as the document says."""
    monkeypatch.chdir(tmp_path)
    for name in ("storage", "archive", "backup", "documents"):
        (tmp_path / name).mkdir()
    configure(tmp_path)
    return tmp_path


def configure(place: Path, **changes: object) -> None:
    (place / "config.json").write_text(json.dumps(_DOCUMENTED | changes))


async def until(true: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


async def indexed(scheduler: LifecycleScheduler, files: int) -> bool:
    return bool((await scheduler.get_statistics())["total_files"] == files)


# -- the document's examples ---------------------------------------------------------------


def test_advanced_usage_with_the_scheduler(place: Path):
    (place / "storage" / "a.txt").write_text("a")

    async def main() -> None:
        config = load_config("config.json")

        # Start background scheduler
        scheduler = LifecycleScheduler(config)
        await scheduler.start()

        # Keep running
        try:
            await until(lambda: indexed(scheduler, 1))
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            await scheduler.stop()
        assert not scheduler.running

    asyncio.run(main())


def test_custom_policies_force_operations_and_queries(place: Path, capsys):
    (place / "file.txt").write_text("content")

    async def main() -> None:
        lifecycle = LifecycleSync(load_config("config.json"))
        # Create custom policy
        policy = LifecyclePolicy(
            name="quick_cleanup",
            file_types=[FileType.IMAGE, FileType.DOCUMENT],
            retention_days=30,
            archive_after_days=7,
            delete_after_days=30,
            backup_frequency_hours=24,
            auto_archive=True,
            auto_delete=True,
            versioning_enabled=True,
            max_versions=3,
        )

        # Apply policy to lifecycle management
        lifecycle.create_policy(policy)

        # Register file with custom policy
        file_id = await lifecycle.register_file("./file.txt", "quick_cleanup")
        status = await lifecycle.get_file_status(file_id)
        assert status is not None
        assert status.policy_name == "quick_cleanup"
        assert status.expiry_date is not None

        # Force backup of specific file
        await lifecycle.force_backup(file_id)

        # Force archive of specific file
        await lifecycle.force_archive(file_id)

        # Get files by state
        archived_files = await lifecycle.get_files_by_state(LifecycleState.ARCHIVED)
        assert [file.file_id for file in archived_files] == [file_id]

        # Force deletion of specific file
        await lifecycle.recall(file_id)
        await lifecycle.force_delete(file_id)

        # Change file policy
        lifecycle.create_policy(LifecyclePolicy("new_policy_name"))
        await lifecycle.change_file_policy(file_id, "new_policy_name")
        await lifecycle.record_download(file_id)

        # Get expired files
        expired_files = await lifecycle.get_expired_files()
        assert expired_files == []

        # Get statistics
        stats = await lifecycle.get_statistics()
        print(f"Total files: {stats['total_files']}")
        print(f"Files by state: {stats['files_by_state']}")
        await lifecycle.close()

    asyncio.run(main())
    out = capsys.readouterr().out
    assert "Total files: 0" in out
    assert "'deleted': 1" in out


def test_the_monitoring_script(place: Path, capsys):
    (place / "storage" / "a.txt").write_text("a")

    async def monitor_lifecycle() -> None:
        lifecycle = LifecycleSync(load_config())

        while True:
            stats = await lifecycle.get_statistics()

            print(f"Total files: {stats['total_files']}")
            print(f"Uploading files: {stats['files_by_state'].get('uploaded', 0)}")
            print(f"Archived files: {stats['files_by_state'].get('archived', 0)}")
            print(f"Recent operations: {stats['recent_operations_24h']}")

            await lifecycle.close()
            return

    asyncio.run(monitor_lifecycle())
    assert capsys.readouterr().out.splitlines() == [
        "Total files: 0",
        "Uploading files: 0",
        "Archived files: 0",
        "Recent operations: 0",
    ]


def test_debug_logging_tells_what_is_done(place: Path, caplog):
    (place / "storage" / "a.txt").write_text("a")
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with LifecycleSync(load_config("config.json")) as lifecycle:
            await lifecycle.sync_now()

    asyncio.run(main())
    assert all(record.name.startswith(("lifecycle_sync", "asyncio")) for record in caplog.records)


def test_the_shipped_example_runs(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, _EXAMPLES / "usage_example.py", "here"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Restored: The first version." in done.stdout
    assert "Archived: ['report.txt']" in done.stdout
    assert "Total files: 2" in done.stdout
    assert "Running: True" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


# -- policies and expiry -------------------------------------------------------------------


def test_what_is_past_its_retention_is_told_of(place: Path):
    old, new = place / "storage" / "old.bin", place / "storage" / "new.bin"
    for path in (old, new):
        path.write_text("x")
    long_ago = time.time() - 40 * 86_400
    os.utime(old, (long_ago, long_ago))

    async def main() -> None:
        async with LifecycleSync(load_config("config.json")) as lifecycle:
            await lifecycle.sync_now()
            lifecycle.create_policy(
                LifecyclePolicy("short", retention_days=30, age_from="modified")  # type: ignore[arg-type]
            )
            ids = {
                file.file_name: file.file_id
                for file in await lifecycle.get_files_by_state(LifecycleState.UPLOADED)
            }
            for file_id in ids.values():
                await lifecycle.change_file_policy(file_id, "short")
            (expired,) = await lifecycle.get_expired_files()
            assert expired.file_name == "old.bin"
            await lifecycle.change_file_policy(ids["old.bin"], "default")
            assert await lifecycle.get_expired_files() == []

    asyncio.run(main())


def test_a_policy_with_faults_and_names_that_are_not_known_are_errors(place: Path):
    (place / "storage" / "a.txt").write_text("a")

    async def main() -> None:
        async with LifecycleSync(load_config("config.json")) as lifecycle:
            with pytest.raises(UsageError, match=r"retention_days.*delete_after_days"):
                lifecycle.create_policy(
                    LifecyclePolicy("x", retention_days=-1, auto_delete=True, delete_after_days=0)
                )
            with pytest.raises(UsageError, match="keeps no version"):
                lifecycle.create_policy(LifecyclePolicy("x", max_versions=0))
            with pytest.raises(UsageError, match="age_from"):
                lifecycle.create_policy(LifecyclePolicy("x", age_from="birth"))  # type: ignore[arg-type]
            lifecycle.create_policy(LifecyclePolicy("x", max_versions=0), allow_empty=True)
            file_id = await lifecycle.register_file("storage/a.txt")
            with pytest.raises(NotFoundError):
                await lifecycle.change_file_policy(file_id, "no such")
            with pytest.raises(NotFoundError):
                await lifecycle.change_file_policy("no id", "x")

    asyncio.run(main())


def test_a_key_of_the_mirror_is_accepted_and_told_to_do_nothing_yet(place: Path, caplog):
    configure(place, moonshot_api_key="sk-secret-1234")

    async def main() -> None:
        async with LifecycleSync(load_config("config.json")) as lifecycle:
            await lifecycle.get_statistics()

    asyncio.run(main())
    assert "not there yet" in caplog.text
    assert "sk-secret" not in caplog.text


# -- the scheduler -------------------------------------------------------------------------


def test_the_scheduler_indexes_backs_up_and_says_that_it_runs(place: Path):
    (place / "storage" / "a.txt").write_text("a")
    # What changed within the last two minutes is left alone.
    configure(place, min_age_seconds=0)

    async def main() -> None:
        config = load_config("config.json")
        async with LifecycleScheduler(config) as scheduler, LifecycleSync(config) as lifecycle:

            async def kept() -> bool:
                state = LifecycleState.BACKUP_COMPLETE
                return bool(await lifecycle.get_files_by_state(state))

            await until(kept)
            stats = await lifecycle.get_statistics()
            assert stats["running"] is True
            assert (await scheduler.get_statistics())["running"] is True
            assert stats["last_runs"][0]["files_added"] == 1
            acts = [act["operation_type"] for act in stats["last_acts"]]
            assert acts == ["backup"]
            with pytest.raises(BusyError):
                await LifecycleScheduler(config).start()
            await scheduler.stop()
            await scheduler.stop()
            assert (await lifecycle.get_statistics())["running"] is False
            assert (await scheduler.get_statistics())["running"] is False

    asyncio.run(main())


def test_a_hangup_reads_the_configuration_again_and_a_faulty_one_is_left(place: Path, caplog):
    caplog.set_level(logging.INFO)
    other = place / "other"
    other.mkdir()
    (other / "b.txt").write_text("b")

    async def main() -> None:
        async with LifecycleScheduler(load_config("config.json")) as scheduler:
            (place / "config.json").write_text("{")
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: asyncio.sleep(0, "stays as it was" in caplog.text))
            assert scheduler.running
            configure(place, roots=[os.fspath(other)])
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: indexed(scheduler, 1))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL

    asyncio.run(main())


def test_a_folder_that_cannot_be_a_root_keeps_it_from_starting(place: Path):
    configure(place, local_storage_path="/")

    async def main() -> None:
        with pytest.raises(Exception, match="root"):
            await LifecycleScheduler(load_config("config.json")).start()

    asyncio.run(main())
