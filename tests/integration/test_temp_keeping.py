"""Temporary files and the registry: holds on them, and the clean-up that `run` does by itself."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from lifecycle_sync import FileCleanupManager
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY, SystemClock
from lifecycle_sync.errors import LifecycleError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.temp import JobState, Usage
from lifecycle_sync.service import guarding
from lifecycle_sync.service.daemon import TEMP, Daemon
from lifecycle_sync.service.temp.holds import RegistryHolds
from lifecycle_sync.service.temp.jobs_registry import RegistryJobs
from lifecycle_sync.service.temp.keeping import TempKeeping
from lifecycle_sync.service.temp.monitor import Monitor
from lifecycle_sync.testing.fileops import FileOpsWrapper
from tests.support.house import House
from tests.support.temp_jobs import HOUR, Place, Storage


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "temp")


def hold(house: House, name: object) -> None:
    guarding.hold_named(house.engine, str(name), reason="evidence", owner=None, ends_ns=None)


def release(house: House, name: object) -> None:
    for held in guarding.holds_named(house.engine, str(name)):
        house.engine.statements.release(held)


@pytest.fixture
def held(house):
    return RegistryHolds(house.engine.registry)


# -- holds -------------------------------------------------------------------------------------


def test_what_is_held_in_the_registry_stays_until_it_is_released(house, storage, held):
    for name in ("file", "folder/a", "folder/b/c", "x-1.log", "other"):
        storage.put(name, size=100)
    hold(house, storage.base / "file")
    hold(house, storage.base / "folder")
    hold(house, storage.base / "*.log")
    cleanup = storage.cleanup(held=held, provider=Place(storage.base, 510))
    cleanup.emergency()
    kept = {"file", "folder/a", "folder/b/c", "x-1.log"}
    assert storage.left() == kept
    for work in (cleanup.orphaned, cleanup.scheduled):
        work()
        assert storage.left() == kept
    assert cleanup.stats()["orphaned_files_count"] == 0
    release(house, storage.base / "folder")
    cleanup.orphaned()
    assert storage.left() == {"file", "x-1.log"}


def test_a_hold_by_another_name_of_the_folder_is_the_same(house, storage, held, tmp_path):
    storage.put("file")
    (tmp_path / "link").symlink_to(storage.base)
    hold(house, tmp_path / "link")
    storage.cleanup(held=held).orphaned()
    assert storage.left() == {"file"}


def test_a_hold_that_comes_during_a_clean_up_holds_from_then_on(house, storage, held):
    names = [f"file{number}" for number in range(300)]
    for name in names:
        storage.put(name)

    class Holding(FileOpsWrapper):
        unlinked = 0

        def around(self, method, proceed, args, kwargs):
            answer = proceed(*args, **kwargs)
            if method == "unlink":
                type(self).unlinked += 1
                if self.unlinked == 1:
                    hold(house, storage.base)
            return answer

    storage.settings.max_cleanup_workers = 1
    fs = Holding(FileOps())
    storage.cleanup(held=held, fs=fs).orphaned()
    # Those that it had in hand then, at most.
    assert len(storage.left()) >= len(names) - 64


def test_in_an_emergency_it_holds_from_the_next_file_on(house, storage, held):
    for number in range(10):
        storage.put(f"file{number}", size=100)

    class Holding(Place):
        held = False

        def usage(self) -> Usage:
            if len(storage.left()) == 9 and not self.held:
                self.held = True
                hold(house, storage.base)
            return super().usage()

    place = Holding(storage.base, 1000)
    storage.settings.max_cleanup_workers = 1
    storage.settings.warning_threshold = 10
    storage.cleanup(held=held, provider=place).emergency()
    assert len(storage.left()) == 9


def test_a_manager_of_temporary_files_honours_holds_too(house, storage, held):
    base = storage.base
    manager = FileCleanupManager(base, held=held, include_untracked=True, force=True)
    for name in ("tracked", "untracked", "folder/x", "folder/y"):
        storage.put(name)
    manager.track_file(base / "tracked")
    manager.track_file(base / "folder")
    for name in ("tracked", "untracked", "folder/x"):
        hold(house, base / name)

    async def clean() -> None:
        assert not await manager.cleanup_file(base / "tracked")
        assert not await manager.cleanup_directory(base / "folder")
        await manager.cleanup_old_files()
        await manager.cleanup_all_tracked()

    asyncio.run(clean())
    assert storage.left() == {"tracked", "untracked", "folder/x"}
    # At the end of the process the registry is closed.
    manager.untrack_file(base / "tracked")
    manager.untrack_file(base / "folder")


def test_holds_that_cannot_be_read_let_nothing_go(storage):
    storage.put("file")

    class Down:
        def holds(self, file_id=None, now_ns=None):
            raise LifecycleError("the database is down")

        def subjects(self, file_ids):
            return {}

    with pytest.raises(LifecycleError, match="down"):
        storage.cleanup(held=RegistryHolds(Down())).orphaned()
    assert storage.left() == {"file"}


# -- what is no temporary file whatever lies around it -----------------------------------------


def test_a_root_or_a_vault_below_a_temporary_folder_is_none_of_its_files(house, storage):
    for name in ("photos/a.jpg", "vault/packs/x", "temp/file", "theirs/file"):
        storage.put(name)
    (storage.base / "theirs" / ".lifecycle" / "leases").mkdir(parents=True)
    house.engine.add_root(storage.base / "photos")
    (storage.base / "vault" / "FORMAT").write_text("{}")
    (storage.base / "vault" / "manifests").mkdir()
    result = storage.cleanup(provider=Place(storage.base, 40)).scheduled()
    assert storage.left() == {"photos/a.jpg", "vault/packs/x", "vault/FORMAT", "theirs/file"}
    told = [error for error in result["errors"] if "is a root or a vault" in error]
    assert len(told) == 2 * 2, "both sweeps, both folders"


# -- what `run` does by itself -----------------------------------------------------------------


@pytest.fixture
def eager_temp(monkeypatch):
    """An emergency whatever the disk of the tests is like, looked for all the time."""
    for name, value in {
        "EMERGENCY_CLEANUP_THRESHOLD": "0.000002",
        "WARNING_THRESHOLD": "0.000001",
        "STORAGE_CHECK_INTERVAL_SECONDS": "0.02",
        "EMERGENCY_CHECK_INTERVAL_MINUTES": "0.0001",
        "MIN_FREE_SPACE_GB": "0",
    }.items():
        monkeypatch.setenv(f"TEMP_STORAGE_CLEANUP_{name}", value)


class Run:
    """A daemon over one root, which notes what it tells, until `after` has had its turns."""

    def __init__(self, house: House, after) -> None:
        house.write("file")
        house.add()
        self.cancel = CancelToken()
        self.troubles: list[LifecycleError] = []
        self._following = False
        self._after = after
        with self.daemon(house) as daemon:
            daemon.once()
            self._following = True
            daemon.follow(0.01)

    def daemon(self, house: House) -> Daemon:
        return Daemon(
            house.engine,
            cancel=self.cancel,
            on_report=self._report,
            on_trouble=self.troubles.append,
        )

    def _report(self, _report) -> None:
        if self._following and self._after():
            self.cancel.cancel()


def test_run_cleans_the_temporary_folders_of_its_settings(house, storage, monkeypatch):
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_ENABLE_STORAGE_MONITORING", "false")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "0")
    house.reopen(temp_roots=(storage.base,), temp_jobs="registry")
    jobs = RegistryJobs(house.engine.registry)
    jobs.start(1)
    house.engine.registry.put_job("2", JobState.FINISHED, time.time_ns() - 48 * HOUR * 10**9)
    for name in ("old", "held", "job_1_chunk_a_x", "job_2_chunk_a_x"):
        storage.put(name)
    storage.put("young", hours_old=1)
    hold(house, storage.base / "held")
    run = Run(house, lambda: True)
    assert storage.left() == {"held", "job_1_chunk_a_x", "young"}
    assert not run.troubles
    (note,) = (it for it in house.engine.registry.loops() if it.name == TEMP)
    assert (note.status, note.due_ns - note.ended_ns) == ("completed", 60 * 60 * 10**9)


@pytest.mark.usefixtures("eager_temp")
def test_a_crossing_waits_for_no_other_loop(house, storage):
    house.reopen(temp_roots=(storage.base,))

    def busy() -> bool:
        # Meanwhile a loop is at work that does not end.
        storage.put("old")
        deadline = time.monotonic() + 60
        while storage.left():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return True

    Run(house, busy)
    assert storage.left() == set()


def test_a_forecast_makes_the_clean_up_due(house, storage, monkeypatch):
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "0")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_EMERGENCY_CLEANUP_THRESHOLD", "100")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_STORAGE_CHECK_INTERVAL_SECONDS", "0.02")
    coming: list[float | None] = [None]
    monkeypatch.setattr(Monitor, "forecast_seconds", lambda _self: coming[0])
    house.reopen(temp_roots=(storage.base,))
    deadline = time.monotonic() + 60

    def wait() -> bool:
        if coming[0] is None:
            # The clean-up of the start has been; from now on it will be full in a minute.
            storage.put("old")
            coming[0] = 60.0
        assert time.monotonic() < deadline
        return not storage.left()

    Run(house, wait)


def test_a_folder_that_may_not_be_cleaned_ends_the_start(house, tmp_path):
    house.write("below/file")
    house.add()
    house.reopen(temp_roots=(house.root / "below",))
    with pytest.raises(UsageError, match="lies in the root"):
        Run(house, lambda: True)
    assert os.path.exists(house.path("below/file"))


def test_what_cannot_be_done_is_told_and_the_loops_go_on(house, storage, monkeypatch):
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_ENABLE_STORAGE_MONITORING", "false")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "0")
    storage.put("photos/a.jpg")
    house.engine.add_root(storage.base / "photos")
    house.reopen(temp_roots=(storage.base,))
    run = Run(house, lambda: True)
    assert ["is a root or a vault" in str(it) for it in run.troubles] == [True]


def test_while_the_clock_is_in_doubt_no_file_counts_as_old(house, storage, monkeypatch):
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_ENABLE_STORAGE_MONITORING", "false")
    storage.put("old")
    house.reopen(temp_roots=(storage.base,))
    monkeypatch.setattr(house.engine.clock_doubt, "reason", lambda: "it is a year ahead")
    run = Run(house, lambda: True)
    assert storage.left() == {"old"}
    assert any(it.operation == "clean up temporary files" for it in run.troubles)


def test_a_clock_that_is_set_ahead_meanwhile_makes_no_file_old(house, storage, monkeypatch):
    storage.put("young", hours_old=1)
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB", "0")
    house.reopen(temp_roots=(storage.base,))
    by_itself = storage.cleanup()
    keeping = TempKeeping(house.engine, CancelToken())
    real = SystemClock.now_ns
    monkeypatch.setattr(SystemClock, "now_ns", lambda self: real(self) + 366 * NS_PER_DAY)
    monkeypatch.setattr(house.engine.clock_doubt, "reason", lambda: "")
    by_itself.scheduled()
    with keeping:
        keeping.clean()
    assert storage.left() == {"young"}
    # The clean-up that only begins then believes it.
    storage.cleanup().scheduled()
    assert storage.left() == set()
