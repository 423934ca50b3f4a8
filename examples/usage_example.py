"""What an application does with Lifecycle Sync: run it, and look at what it made.

    python usage_example.py [FOLDER]

It makes a few files of its own below FOLDER (./lifecycle-example) and touches nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from lifecycle_sync import (
    FileType,
    LifecyclePolicy,
    LifecycleScheduler,
    LifecycleState,
    LifecycleSync,
    Settings,
)


def settings_in(folder: Path) -> Settings:
    """A configuration in code; `load_config("config.json")` reads one from a file."""
    (folder / "storage").mkdir(parents=True, exist_ok=True)
    return Settings(
        database_path=folder / "file_registry.db",
        local_storage_path=folder / "storage",
        archive_path=folder / "archive",
        backup_path=folder / "backup",
        registry_sync_interval=300,
        cleanup_interval=3600,
        # Files that changed within this time are left alone; a real application keeps the default.
        min_age_seconds=0,
    )


async def basic_registration(lifecycle: LifecycleSync, folder: Path) -> str:
    """A file is registered, and its status read."""
    report = folder / "storage" / "report.txt"
    report.write_text("The first version.\n")
    file_id = await lifecycle.register_file(report)
    status = await lifecycle.get_file_status(file_id)
    assert status is not None
    print(f"Registered {status.file_name} as {file_id}: {status.state}, {status.policy_name}")
    await lifecycle.sync_now()
    return file_id


async def custom_policy(lifecycle: LifecycleSync, folder: Path) -> None:
    """A policy is created, and a file registered with it."""
    lifecycle.create_policy(
        LifecyclePolicy(
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
    )
    upload = folder / "storage" / "upload.txt"
    upload.write_text("Needed for some days.\n")
    file_id = await lifecycle.register_file(upload, "quick_cleanup")
    status = await lifecycle.get_file_status(file_id)
    assert status is not None and status.expiry_date is not None
    print(f"{status.file_name} goes by {status.policy_name}, until {status.expiry_date:%Y-%m-%d}")


async def force_operations(lifecycle: LifecycleSync, folder: Path, file_id: str) -> None:
    """Backed up, changed, brought back, archived, recalled, deleted, undeleted."""
    report = folder / "storage" / "report.txt"
    await lifecycle.force_backup(file_id)
    report.write_text("Overwritten by mistake.\n")
    await lifecycle.restore(file_id, 1, conflict="replace")
    print(f"Restored: {report.read_text().strip()}")
    await lifecycle.force_archive(file_id, reason="an example")
    archived = await lifecycle.get_files_by_state(LifecycleState.ARCHIVED)
    print(f"Archived: {[file.file_name for file in archived]}")
    await lifecycle.recall(file_id)
    await lifecycle.force_delete(file_id, reason="an example")
    await lifecycle.undelete(file_id)
    await lifecycle.change_file_policy(file_id, "documents")


async def monitoring(lifecycle: LifecycleSync) -> None:
    """What there is to watch."""
    stats = await lifecycle.get_statistics()
    print(f"Total files: {stats['total_files']}")
    print(f"Archived files: {stats['files_by_state'].get('archived', 0)}")
    print(f"Recent operations: {stats['recent_operations_24h']}")
    print(f"Expired files: {len(await lifecycle.get_expired_files())}")


async def background_scheduling(settings: Settings) -> None:
    """The loops run beside the application, until it stops them."""
    async with LifecycleScheduler(settings) as scheduler:
        while not (await scheduler.get_statistics())["last_runs"]:
            await asyncio.sleep(0.1)
        stats = await scheduler.get_statistics()
        print(f"Running: {stats['running']}")


async def main(folder: Path) -> None:
    """All of it, one after the other."""
    settings = settings_in(folder)
    async with LifecycleSync(settings) as lifecycle:
        file_id = await basic_registration(lifecycle, folder)
        await custom_policy(lifecycle, folder)
        await force_operations(lifecycle, folder, file_id)
        await monitoring(lifecycle)
    await background_scheduling(settings)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "lifecycle-example")))
