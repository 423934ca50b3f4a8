"""`LifecycleSync` as an application uses it: what the document shows, and what may go wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lifecycle_sync import (
    FileMetadata,
    FileType,
    LifecycleError,
    LifecycleState,
    LifecycleSync,
    Settings,
    load_config,
)
from lifecycle_sync.config import with_overrides
from lifecycle_sync.errors import (
    FilesFailedError,
    NotFoundError,
    OfflineError,
    RootError,
    TransitionError,
    UsageError,
)
from lifecycle_sync.service.engine import Engine
from tests.support import oracle

_NO_ID = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A working directory set up as the document says: `mkdir -p storage archive backup`."""
    monkeypatch.chdir(tmp_path)
    for name in ("storage", "archive", "backup", "documents"):
        (tmp_path / name).mkdir()
    documented = {
        "database_path": "file_registry.db",
        "local_storage_path": "./storage",
        "archive_path": "./archive",
        "backup_path": "./backup",
        "registry_sync_interval": 300,
        "cleanup_interval": 3600,
        "moonshot_api_base": "https://api.moonshot.cn",
        "moonshot_api_key": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(documented))
    return tmp_path


def _run(use: Callable[[LifecycleSync], Awaitable[None]], config: Settings | None = None) -> None:
    async def main() -> None:
        async with LifecycleSync(config or load_config("config.json")) as lifecycle:
            await use(lifecycle)

    asyncio.run(main())


def test_the_documents_basic_example_works(place: Path, capsys):
    (place / "documents" / "report.pdf").write_bytes(b"%PDF")

    async def main() -> None:
        # Load configuration
        config = load_config("config.json")

        # Initialize lifecycle management
        lifecycle = LifecycleSync(config)

        # Register a file
        file_id = await lifecycle.register_file("./documents/report.pdf")
        print(f"File registered with ID: {file_id}")

        # Get file status
        status = await lifecycle.get_file_status(file_id)
        assert status is not None
        print(f"File status: {status.state}")

        # Run manual sync
        await lifecycle.sync_now()
        await lifecycle.close()

    asyncio.run(main())
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("File registered with ID: ") and out[1] == "File status: uploaded"


def test_a_status_has_the_documented_fields(place: Path):
    path = place / "storage" / "a" / "photo.JPG"
    path.parent.mkdir()
    path.write_bytes(b"jpeg")
    os.utime(path, ns=(1_700_000_000_000_000_000, 1_600_000_000_000_000_000))

    async def use(lifecycle: LifecycleSync) -> None:
        file_id = await lifecycle.register_file(path, "media")
        status = await lifecycle.get_file_status(file_id)
        assert status is not None
        assert [field.name for field in dataclasses.fields(FileMetadata)] == [
            "file_id",
            "file_path",
            "file_name",
            "file_type",
            "file_size",
            "created_at",
            "modified_at",
            "accessed_at",
            "state",
            "policy_name",
            "checksum",
            "version",
            "parent_id",
            "backup_path",
            "archive_path",
            "expiry_date",
            "last_state_change",
        ]
        assert status.file_id == file_id
        assert status.file_path == str(path)
        assert status.file_name == "photo.JPG"
        assert status.file_type is FileType.IMAGE
        assert status.file_size == 4
        assert status.modified_at == datetime.fromtimestamp(1_600_000_000, UTC)
        assert status.created_at == status.modified_at
        assert status.state is LifecycleState.UPLOADED
        assert status.policy_name == "media"
        assert status.checksum == hashlib.sha256(b"jpeg").hexdigest()
        assert status.version == 1
        assert status.last_state_change is not None
        assert datetime.now(UTC) - status.last_state_change < timedelta(minutes=1)

    _run(use)


def test_what_the_storage_holds_is_found_by_its_state(place: Path):
    for name in ("a.txt", "b/c.jpg", "b/d.zip"):
        (place / "storage" / name).parent.mkdir(exist_ok=True)
        (place / "storage" / name).write_text(name)

    async def use(lifecycle: LifecycleSync) -> None:
        reports = await lifecycle.sync_now()
        assert [report.counts.files for report in reports] == [3]
        uploaded = await lifecycle.get_files_by_state(LifecycleState.UPLOADED)
        assert [item.file_name for item in uploaded] == ["a.txt", "c.jpg", "d.zip"]
        (place / "storage" / "a.txt").unlink()
        await lifecycle.sync_now()
        deleted = await lifecycle.get_files_by_state(LifecycleState.DELETED)
        assert [item.file_id for item in deleted] == [uploaded[0].file_id]
        assert await lifecycle.get_files_by_state(LifecycleState.ARCHIVED) == []
        # A state may be given by its name.
        assert len(await lifecycle.get_files_by_state("uploaded")) == 2  # type: ignore[arg-type]

    _run(use)


def test_statistics_have_the_documented_keys(place: Path):
    (place / "storage" / "a.txt").write_text("aaa")
    (place / "storage" / "b.jpg").write_text("bb")
    (place / "storage" / "c.jpg").write_text("c")

    async def use(lifecycle: LifecycleSync) -> None:
        empty = await lifecycle.get_statistics()
        assert (empty["total_files"], empty["recent_operations_24h"]) == (0, 0)
        file_id = await lifecycle.register_file("storage/c.jpg")
        await lifecycle.sync_now()
        await lifecycle.claim(file_id)
        (place / "storage" / "a.txt").unlink()
        await lifecycle.sync_now()
        stats = await lifecycle.get_statistics()
        assert stats["total_files"] == 2
        assert stats["total_bytes"] == 3
        assert stats["files_by_state"] == {
            "uploaded": 1,
            "processing": 1,
            "archived": 0,
            "deleted": 1,
            "backup_pending": 0,
            "backup_complete": 0,
            "expired": 0,
        }
        assert stats["files_by_type"] == {"image": 2}
        assert stats["policies"] == 4
        assert stats["repositories"] == 1
        assert stats["recent_operations_24h"] == 2  # register and claim
        assert stats["running"] is False
        assert [run["files_removed"] for run in stats["last_runs"]] == [1, 0]
        json.dumps(stats)

    _run(use)


def test_unregistering_leaves_the_file_and_a_sync_does_not_take_it_up_again(place: Path):
    path = place / "storage" / "a.txt"
    path.write_text("a")

    async def use(lifecycle: LifecycleSync) -> None:
        await lifecycle.sync_now()
        (status,) = await lifecycle.get_files_by_state(LifecycleState.UPLOADED)
        await lifecycle.unregister_file(status.file_id)
        await lifecycle.sync_now()
        assert await lifecycle.get_files_by_state(LifecycleState.UPLOADED) == []
        assert (await lifecycle.get_statistics())["total_files"] == 0
        assert path.read_text() == "a"
        assert await lifecycle.register_file(path) == status.file_id

    _run(use)


def test_claim_and_release_say_who_works_on_a_file(place: Path):
    (place / "storage" / "a.txt").write_text("a")

    async def use(lifecycle: LifecycleSync) -> None:
        file_id = await lifecycle.register_file("storage/a.txt")
        await lifecycle.claim(file_id)
        (claimed,) = await lifecycle.get_files_by_state(LifecycleState.PROCESSING)
        assert claimed.file_id == file_id
        await lifecycle.sync_now()
        assert len(await lifecycle.get_files_by_state(LifecycleState.PROCESSING)) == 1
        await lifecycle.release(file_id)
        assert len(await lifecycle.get_files_by_state(LifecycleState.UPLOADED)) == 1
        (place / "storage" / "a.txt").unlink()
        await lifecycle.sync_now()
        with pytest.raises(TransitionError):
            await lifecycle.claim(file_id)

    _run(use)


def test_unknown_ids_are_none_for_a_question_and_an_error_for_an_order(place: Path):
    async def use(lifecycle: LifecycleSync) -> None:
        for text in (_NO_ID, "no id", ""):
            assert await lifecycle.get_file_status(text) is None
            for order in (lifecycle.unregister_file, lifecycle.claim, lifecycle.release):
                with pytest.raises(NotFoundError):
                    await order(text)

    _run(use)


def test_what_cannot_be_registered_is_an_error_with_a_remedy(place: Path):
    storage = place / "storage"
    (storage / "real").write_text("x")
    (storage / "symlink").symlink_to("real")
    (storage / "folder").mkdir()
    os.mkfifo(storage / "fifo")
    (storage / ".hidden").write_text("x")

    async def use(lifecycle: LifecycleSync) -> None:
        await lifecycle.sync_now()
        for name, kind in {
            "symlink": UsageError,
            "folder": UsageError,
            "fifo": UsageError,
            ".hidden": UsageError,
            "missing": NotFoundError,
        }.items():
            with pytest.raises(kind) as error:
                await lifecycle.register_file(storage / name)
            assert error.value.remedy and error.value.cause and str(storage) in str(error.value)
        with pytest.raises(NotFoundError, match="no such policy"):
            await lifecycle.register_file(storage / "real", "no such")
        with pytest.raises(UsageError):
            await lifecycle.register_file("a\0b")
        assert (await lifecycle.get_statistics())["total_files"] == 2

    _run(use)


def test_files_elsewhere_are_followed_by_name_and_their_siblings_are_not(place: Path):
    for name in ("one.txt", "two.txt", "sibling.txt"):
        (place / "documents" / name).write_text(name)

    async def use(lifecycle: LifecycleSync) -> None:
        one = await lifecycle.register_file("documents/one.txt")
        two = await lifecycle.register_file("documents/two.txt")
        await lifecycle.sync_now()
        (place / "documents" / "one.txt").write_text("changed, and longer")
        (place / "documents" / "two.txt").unlink()
        await lifecycle.sync_now()
        changed = await lifecycle.get_file_status(one)
        gone = await lifecycle.get_file_status(two)
        assert changed is not None and gone is not None
        assert (changed.version, changed.file_size) == (2, 19)
        assert changed.checksum == hashlib.sha256(b"changed, and longer").hexdigest()
        assert gone.state is LifecycleState.DELETED
        assert (await lifecycle.get_statistics())["total_files"] == 1
        assert not (place / "documents" / ".lifecycle").exists()

    _run(use)


def test_a_folder_put_under_management_later_keeps_the_ids_that_were_given(place: Path):
    (place / "documents" / "one.txt").write_text("one")
    (place / "documents" / "two.txt").write_text("two")
    config = load_config("config.json")
    given: list[str] = []

    async def first(lifecycle: LifecycleSync) -> None:
        given.append(await lifecycle.register_file("documents/one.txt", "archives"))
        await lifecycle.sync_now()

    async def second(lifecycle: LifecycleSync) -> None:
        await lifecycle.sync_now()
        files = await lifecycle.get_files_by_state(LifecycleState.UPLOADED)
        assert [item.file_name for item in files] == ["one.txt", "two.txt"]
        assert (files[0].file_id, files[0].policy_name) == (given[0], "archives")

    _run(first, config)
    _run(second, with_overrides(config, roots=[place / "documents"]))


# -- roots that are not there ----------------------------------------------------------------


def test_a_storage_that_is_not_there_is_an_error_and_loses_nothing(place: Path):
    (place / "storage" / "a.txt").write_text("a")

    async def use(lifecycle: LifecycleSync) -> None:
        await lifecycle.sync_now()
        (place / "storage").rename(place / "unmounted")
        for _ in range(2):
            with pytest.raises(OfflineError):
                await lifecycle.sync_now()
        assert len(await lifecycle.get_files_by_state(LifecycleState.UPLOADED)) == 1
        (place / "unmounted").rename(place / "storage")
        await lifecycle.sync_now()
        assert len(await lifecycle.get_files_by_state(LifecycleState.UPLOADED)) == 1

    _run(use)


def test_one_root_that_is_not_there_does_not_keep_the_others_waiting(place: Path):
    (place / "storage" / "a.txt").write_text("a")
    (place / "documents" / "b.txt").write_text("b")
    config = with_overrides(load_config("config.json"), roots=[place / "documents"])

    async def use(lifecycle: LifecycleSync) -> None:
        await lifecycle.sync_now()
        (place / "documents").rename(place / "unmounted")
        (place / "storage" / "c.txt").write_text("c")
        with pytest.raises(FilesFailedError) as error:
            await lifecycle.sync_now()
        assert error.value.failed == 1
        names = [i.file_name for i in await lifecycle.get_files_by_state(LifecycleState.UPLOADED)]
        assert sorted(names) == ["a.txt", "b.txt", "c.txt"]

    _run(use, config)


def test_a_configured_folder_that_never_was_does_not_keep_the_others_waiting(place: Path):
    (place / "storage" / "a.txt").write_text("a")
    config = with_overrides(load_config("config.json"), roots=[place / "nowhere"])

    async def use(lifecycle: LifecycleSync) -> None:
        with pytest.raises(FilesFailedError, match="nowhere"):
            await lifecycle.sync_now()
        assert (await lifecycle.get_statistics())["total_files"] == 1

    _run(use, config)
    shutil.rmtree(place / "storage" / ".lifecycle")
    only = with_overrides(config, database=place / "other.db", local_storage=place / "none")

    async def refused(lifecycle: LifecycleSync) -> None:
        with pytest.raises(RootError):
            await lifecycle.sync_now()

    _run(refused, only)


# -- many calls, and calls that are given up -------------------------------------------------


def test_many_calls_may_be_awaited_together(place: Path):
    count = 120
    for number in range(count):
        (place / "storage" / f"{number}.txt").write_text(str(number))

    async def use(lifecycle: LifecycleSync) -> None:
        given, *_ = await asyncio.gather(
            asyncio.gather(
                *(lifecycle.register_file(f"storage/{number}.txt") for number in range(count))
            ),
            lifecycle.sync_now(),
            lifecycle.get_statistics(),
            lifecycle.sync_now(),
        )
        await lifecycle.sync_now()
        files = await lifecycle.get_files_by_state(LifecycleState.UPLOADED)
        assert {item.file_id for item in files} == set(given)
        assert len(files) == count

    _run(use)


@pytest.fixture
def slow_tree(place: Path) -> Path:
    """A storage whose sync takes a while."""
    for number in range(3_000):
        path = place / "storage" / f"{number % 60}" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    return place


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.08, 0.15])
def test_a_cancelled_sync_stops_and_leaves_a_registry_that_the_next_one_completes(
    slow_tree: Path, delay: float
):
    config = load_config("config.json")

    async def main() -> None:
        async with LifecycleSync(config) as lifecycle:
            task = asyncio.ensure_future(lifecycle.sync_now())
            await asyncio.sleep(delay)
            # More than once, as a closing application does.
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            begun = time.monotonic()
            try:
                await task
            except asyncio.CancelledError:
                pass
            else:
                assert delay, "it was not stopped at all"
            assert time.monotonic() - begun < 5
            assert not [t for t in threading.enumerate() if t.name == "lifecycle-record"]
        with Engine.open(config) as engine:
            oracle.assert_sound(engine, settled=False)
            assert engine.registry.query("SELECT * FROM runs WHERE status = 'running'")[1] == []
        async with LifecycleSync(config) as lifecycle:
            await lifecycle.sync_now()
        with Engine.open(config) as engine:
            oracle.assert_equal_to_disk(engine, engine.roots.get(slow_tree / "storage"))

    asyncio.run(main())


def test_a_cancelled_registration_is_whole_or_was_never(place: Path):
    path = place / "storage" / "large"
    with open(path, "wb") as file:
        file.truncate(200 << 20)

    async def main() -> None:
        async with LifecycleSync(load_config("config.json")) as lifecycle:
            await lifecycle.get_statistics()
            task = asyncio.ensure_future(lifecycle.register_file(path))
            await asyncio.sleep(0.02)
            task.cancel()
            begun = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - begun < 1
            files = await lifecycle.get_files_by_state(LifecycleState.UPLOADED)
            assert [item.checksum == "" for item in files] in ([], [False])

    asyncio.run(main())


def test_it_can_be_closed_twice_and_opens_again_when_it_is_used(place: Path):
    (place / "storage" / "a.txt").write_text("a")

    async def main() -> None:
        lifecycle = LifecycleSync(load_config("config.json"))
        await lifecycle.close()
        file_id = await lifecycle.register_file("storage/a.txt")
        await lifecycle.close()
        await lifecycle.close()
        assert await lifecycle.get_file_status(file_id) is not None
        await lifecycle.close()

    asyncio.run(main())


def test_without_a_configuration_it_loads_the_one_that_is_there(place: Path):
    async def main() -> None:
        async with LifecycleSync() as lifecycle:
            await lifecycle.sync_now()

    asyncio.run(main())
    assert (place / "file_registry.db").exists()


def test_a_database_that_is_none_is_a_clear_error(place: Path):
    (place / "file_registry.db").write_text("This is a diary.\n" * 100)

    async def use(lifecycle: LifecycleSync) -> None:
        for _ in range(2):
            with pytest.raises(LifecycleError, match="not a SQLite database"):
                await lifecycle.sync_now()

    _run(use)
    assert (place / "file_registry.db").read_text().startswith("This is a diary.")


# -- acts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["storage", "documents"])
def test_a_forced_backup_makes_a_version_and_says_where(place: Path, folder):
    path = place / folder / "a.txt"
    path.write_bytes(b"first")

    async def use(lifecycle: LifecycleSync) -> None:
        await lifecycle.sync_now()
        file_id = await lifecycle.register_file(path)
        await lifecycle.force_backup(file_id)
        status = await lifecycle.get_file_status(file_id)
        assert status is not None
        assert status.state is LifecycleState.BACKUP_COMPLETE
        assert status.backup_path
        assert status.archive_path is None
        path.write_bytes(b"second")
        await lifecycle.force_backup(file_id)
        await lifecycle.restore(file_id, 1, conflict="replace")
        assert path.read_bytes() == b"first"
        await lifecycle.restore(file_id, 2, to=place / "out")
        assert (place / "out/a.txt").read_bytes() == b"second"

    _run(use)


@pytest.mark.parametrize("folder", ["storage", "documents"])
def test_an_archived_file_can_be_recalled_and_a_deleted_one_undeleted(place: Path, folder):
    path = place / folder / "a.txt"
    path.write_bytes(b"content")

    async def use(lifecycle: LifecycleSync) -> None:
        async def state() -> LifecycleState:
            status = await lifecycle.get_file_status(file_id)
            assert status is not None
            assert bool(status.archive_path) is (
                status.state is LifecycleState.ARCHIVED or recalled
            )
            return status.state

        recalled = False
        await lifecycle.sync_now()
        file_id = await lifecycle.register_file(path)
        await lifecycle.force_archive(file_id, "old")
        assert not path.exists()
        assert await state() is LifecycleState.ARCHIVED
        await lifecycle.recall(file_id)
        recalled = True
        assert path.read_bytes() == b"content"
        await lifecycle.force_delete(file_id, "superseded")
        assert not path.exists()
        assert await state() is LifecycleState.DELETED
        await lifecycle.undelete(file_id)
        assert path.read_bytes() == b"content"
        assert await state() is LifecycleState.UPLOADED

    _run(use)


def test_an_act_that_was_not_done_is_raised(place: Path):
    path = place / "storage/a.txt"
    path.write_bytes(b"content")

    async def use(lifecycle: LifecycleSync) -> None:
        file_id = await lifecycle.register_file(path)
        await lifecycle.claim(file_id)
        with pytest.raises(FilesFailedError, match="claimed"):
            await lifecycle.force_delete(file_id)
        with pytest.raises(NotFoundError):
            await lifecycle.force_backup(_NO_ID)
        assert path.exists()

    _run(use)
