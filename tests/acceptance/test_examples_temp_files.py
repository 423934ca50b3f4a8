"""The examples that the people of the media pipeline gave, run as they stand but for imports and
paths."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle_sync import FileCleanupManager, TempFileContext, load_config, temp_file_async
from lifecycle_sync.config_values import TempFiles
from lifecycle_sync.service.temp.lifespan import managed_temp_files, working_folder

logger = logging.getLogger("example")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temp").mkdir()


def download_to(path: Path) -> None:
    path.write_bytes(b"video")


async def download_video(url: str, path: Path) -> None:
    await asyncio.to_thread(download_to, path)


async def transcribe_video(path: Path) -> str:
    return path.read_text()


process_video = process_audio = transcribe_video


def test_a_context():
    with TempFileContext(Path("temp/video.mp4")) as temp_file:
        download_to(temp_file)
        assert temp_file.exists()
    assert not Path("temp/video.mp4").exists()


def test_an_asynchronous_context():
    async def main() -> Any:
        async with temp_file_async(Path("temp/audio.wav")) as temp_file:
            download_to(temp_file)
            await process_audio(temp_file)

    asyncio.run(main())
    assert not Path("temp/audio.wav").exists()


def test_tracking_and_orders():
    async def main() -> Any:
        manager = FileCleanupManager(Path("./temp"))
        temp_file = Path("./temp/video.mp4")
        manager.track_file(temp_file)
        # File was processed and moved to permanent storage
        manager.untrack_file(temp_file)
        download_to(Path("./temp/old_video.mp4"))
        success = await manager.cleanup_file(Path("./temp/old_video.mp4"))
        assert success is True
        Path("./temp/session_123/deep").mkdir(parents=True)
        # Remove entire temp directory
        await manager.cleanup_directory(Path("./temp/session_123"), recursive=True)
        assert not Path("./temp/session_123").exists()
        # Remove files older than 12 hours
        result = await manager.cleanup_old_files(max_age_hours=12)
        assert set(result) == {
            "removed_count",
            "removed_size_bytes",
            "removed_size_mb",
            "errors",
            "tracked_files_remaining",
        }

    asyncio.run(main())


def test_the_figures_of_the_documented_result():
    async def main() -> Any:
        manager = FileCleanupManager(Path("./temp"))
        for number in range(15):
            path = Path(f"./temp/{number}")
            with path.open("wb") as file:
                file.truncate(524288000 // 15 + (524288000 % 15 if number == 0 else 0))
            os.utime(path, (time.time() - 86400, time.time() - 86400))
            manager.track_file(path)
        for number in range(5):
            Path(f"./temp/young{number}").touch()
            manager.track_file(Path(f"./temp/young{number}"))
        return await manager.cleanup_old_files(max_age_hours=12)

    assert asyncio.run(main()) == {
        "removed_count": 15,
        "removed_size_bytes": 524288000,
        "removed_size_mb": 500.0,
        "errors": 0,
        "tracked_files_remaining": 5,
    }


def test_periodic_cleanup_and_statistics():
    async def main() -> Any:
        manager = FileCleanupManager(
            base_temp_dir=Path("./temp"), default_ttl_hours=24, cleanup_interval_minutes=30
        )
        manager.start_periodic_cleanup()
        for number in range(10):
            path = Path(f"./temp/{number}")
            with path.open("wb") as file:
                file.truncate(104857600 // 10)
            manager.track_file(path)
        stats = manager.get_stats()
        assert stats == {
            "tracked_files": 10,
            "total_size_bytes": 104857600,
            "total_size_mb": 100.0,
            "periodic_cleanup_running": True,
            "default_ttl_hours": 24,
            "cleanup_interval_minutes": 30,
        }
        await manager.stop_periodic_cleanup()
        await manager.cleanup_all_tracked()

    asyncio.run(main())


def test_the_life_of_an_application():
    hooks: dict[str, Any] = {}
    app = SimpleNamespace(on_event=lambda name: lambda hook: hooks.setdefault(name, hook))

    # Initialize
    cleanup_manager = FileCleanupManager(
        base_temp_dir=Path("./temp"), default_ttl_hours=24, cleanup_interval_minutes=30
    )

    # Startup: cleanup old files from previous runs
    @app.on_event("startup")
    async def startup():
        await cleanup_manager.cleanup_old_files()
        cleanup_manager.start_periodic_cleanup()

    # Shutdown: stop cleanup and remove tracked files
    @app.on_event("shutdown")
    async def shutdown():
        await cleanup_manager.stop_periodic_cleanup()
        await cleanup_manager.cleanup_all_tracked()

    def generate_session_id() -> str:
        return uuid.uuid4().hex

    async def process_video_endpoint(url: str):
        temp_dir = Path("./temp") / generate_session_id()
        temp_dir.mkdir(parents=True, exist_ok=True)

        # Track directory
        cleanup_manager.track_file(temp_dir)

        try:
            video_path = temp_dir / "video.mp4"

            # Download and process
            await download_video(url, video_path)
            result = await transcribe_video(video_path)

            return result  # noqa: RET504
        finally:
            # Cleanup after processing
            await cleanup_manager.cleanup_directory(temp_dir)

    async def download_and_process(url: str):
        temp_path = Path("./temp/video.mp4")

        async with temp_file_async(temp_path) as file:
            await download_video(url, file)
            result = await process_video(file)
            return result  # noqa: RET504
        # File auto-deleted here

    async def serve() -> Any:
        await hooks["startup"]()
        results = await asyncio.gather(*(process_video_endpoint("url") for _ in range(5)))
        assert results == ["video"] * 5
        assert await download_and_process("url") == "video"
        left = Path("./temp/left")
        left.touch()
        cleanup_manager.track_file(left)
        await hooks["shutdown"]()

    asyncio.run(serve())
    assert [path for path in Path("temp").iterdir() if path.name != ".lifecycle"] == []


@pytest.mark.parametrize("important", [True, False])
def test_a_file_that_may_be_important(important):
    def process_file(file_path: Path) -> SimpleNamespace:
        return SimpleNamespace(is_important=important)

    def move_to_permanent_storage(file_path: Path) -> None:
        Path("permanent").mkdir()
        file_path.rename(Path("permanent") / file_path.name)

    def process_important_file(file_path: Path):
        context = TempFileContext(file_path)

        with context as temp_file:
            result = process_file(temp_file)

            if result.is_important:
                context.keep()  # Don't delete
                move_to_permanent_storage(temp_file)

            return result

    download_to(Path("temp/file"))
    process_important_file(Path("temp/file"))
    assert Path("permanent/file").exists() is important
    assert not Path("temp/file").exists()


def test_cleanup_old_files():
    async def test() -> Any:
        manager = FileCleanupManager(base_temp_dir=Path("./test_temp"), default_ttl_hours=1)

        # Create old file
        old_file = Path("./test_temp/old.txt")
        old_file.write_text("test")
        manager.track_file(old_file)

        # Set mtime to 2 hours ago
        old_time = time.time() - (2 * 3600)
        os.utime(old_file, (old_time, old_time))

        # Cleanup
        result = await manager.cleanup_old_files()

        assert result["removed_count"] >= 1
        assert not old_file.exists()

    asyncio.run(test())


def test_context_manager():
    Path("./test_temp").mkdir()

    async def test() -> Any:
        temp_path = Path("./test_temp/temp.txt")

        async with temp_file_async(temp_path) as file:
            file.write_text("test data")
            assert file.exists()

        # File should be deleted after context
        assert not temp_path.exists()

    asyncio.run(test())


def test_errors_are_logged_and_stop_nothing():
    async def main() -> Any:
        manager = FileCleanupManager(Path("./temp"))
        problematic_file = Path("./temp/folder")
        problematic_file.mkdir()
        try:
            await manager.cleanup_file(problematic_file)
        except Exception as e:
            logger.error(f"Cleanup failed: {e}")
            raise
        # Manager continues with other files
        try:
            await manager.cleanup_all_tracked()
        except Exception as e:
            logger.error(f"Shutdown cleanup failed: {e}")
            raise

    asyncio.run(main())


def test_the_integration_with_settings(tmp_path):
    (tmp_path / "lifecycle.toml").write_text(
        '[temp_files]\ntemp_dir = "temp"\nmax_temp_age_hours = 12\ncleanup_interval_minutes = 5\n'
    )
    settings = load_config(tmp_path / "lifecycle.toml").temp_files
    # Cleanup settings
    assert settings.cleanup_on_startup is True
    assert settings.cleanup_after_processing is True
    # Periodic cleanup
    assert settings.enable_periodic_cleanup is True

    manager = FileCleanupManager(
        base_temp_dir=Path(settings.temp_dir),
        default_ttl_hours=settings.max_temp_age_hours,
        cleanup_interval_minutes=settings.cleanup_interval_minutes,
    )
    assert manager.base_temp_dir == tmp_path / "temp"
    assert manager.get_stats()["default_ttl_hours"] == 12
    assert manager.get_stats()["cleanup_interval_minutes"] == 5


def test_the_settings_are_gone_by(tmp_path):
    settings = TempFiles(temp_dir=tmp_path / "temp", cleanup_after_processing=False)

    async def main() -> Any:
        async with managed_temp_files(settings) as manager:
            assert manager.get_stats()["periodic_cleanup_running"]
            async with working_folder(manager, settings) as folder:
                (folder / "video.mp4").write_text("x")
            assert folder.exists()
        assert not folder.exists()
        assert not manager.get_stats()["periodic_cleanup_running"]
        off = TempFiles(temp_dir=tmp_path / "temp", enable_periodic_cleanup=False)
        async with managed_temp_files(off) as manager:
            assert not manager.get_stats()["periodic_cleanup_running"]
            async with working_folder(manager, off) as folder:
                pass
            assert not folder.exists()

    asyncio.run(main())


def test_the_defaults_are_the_documented_ones():
    settings = TempFiles()
    assert settings.max_temp_age_hours == 24
    assert settings.cleanup_interval_minutes == 30
