"""The six clean-ups of temporary files, and what none of them ever touches."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from typing import Any

import pytest

from lifecycle_sync import FileCleanupManager
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.temp import Job, JobState
from lifecycle_sync.service.temp.cleanup import (
    OrphanedFileDetector,
    TempStorageCleanupService,
    job_source,
)
from lifecycle_sync.service.temp.provider import get_storage_provider
from lifecycle_sync.service.temp.sweep import Sweep
from lifecycle_sync.testing.fileops import FileOpsWrapper
from tests.support.temp_jobs import HOUR, Place, Storage

RESULT_KEYS = [
    "trigger",
    "start_time",
    "end_time",
    "duration_seconds",
    "files_scanned",
    "files_deleted",
    "bytes_freed",
    "storage_before_percent",
    "storage_after_percent",
    "errors",
]
STATS_KEYS = [
    "storage_usage_percent",
    "emergency_threshold",
    "temp_files_count",
    "temp_files_size_bytes",
    "active_jobs_count",
    "failed_jobs_count",
    "orphaned_files_count",
    "orphaned_files_size_bytes",
    "cleanup_needed",
]


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "temp")


def ago(hours: float) -> int:
    return time.time_ns() - int(hours * HOUR * 1e9)


# -- a chunk -----------------------------------------------------------------------------------


def test_a_completed_chunk_loses_exactly_the_files_that_are_named(storage):
    storage.jobs.set("123", JobState.LIVE)
    for name in ("image1.jpg", "image2.jpg", "image3.jpg", "image1.jpg.part"):
        storage.put(f"job_123_chunk_abc_{name}", hours_old=0)
    for name in ("job_123_chunk_abcd_image1.jpg", "job_1234_chunk_abc_image1.jpg", "image1.jpg"):
        storage.put(name)
    result = storage.cleanup().after_chunk(123, "abc", ["image1.jpg", "image2.jpg", "none.jpg"])
    assert result["files_deleted"] == 2
    assert result["trigger"] == "chunk_completion"
    assert list(result) == RESULT_KEYS
    assert storage.left() == {
        "job_123_chunk_abc_image3.jpg",
        "job_123_chunk_abc_image1.jpg.part",
        "job_123_chunk_abcd_image1.jpg",
        "job_1234_chunk_abc_image1.jpg",
        "image1.jpg",
    }


def test_a_chunks_files_are_found_in_folders_too_and_by_path(storage):
    storage.put("sub/job_1_chunk_2_a.jpg")
    storage.put("job_1_chunk_2_b.jpg")
    given = ["/images/a.jpg", "job_1_chunk_2_b.jpg", "", "..", "../../etc/passwd"]
    assert storage.cleanup().after_chunk("1", "2", given)["files_deleted"] == 2


# -- a crash -----------------------------------------------------------------------------------


def test_a_named_job_that_is_over_loses_all_its_files_at_once(storage):
    storage.jobs.set("1", Job(JobState.FAILED, ago(0)))
    storage.put("job_1_chunk_a_x", hours_old=0)
    storage.put("job_1_y", hours_old=0)
    storage.put("job_12_chunk_a_x")
    result = storage.cleanup().after_crash(1)
    assert result["trigger"] == "crash_recovery"
    assert storage.left() == {"job_12_chunk_a_x"}


@pytest.mark.parametrize("state", [JobState.LIVE, JobState.UNKNOWN])
def test_a_named_job_that_may_live_loses_nothing(storage, state):
    storage.jobs.set("1", state)
    storage.put("job_1_chunk_a_x")
    assert storage.cleanup().after_crash(1)["files_deleted"] == 0
    assert storage.left()


def test_all_failed_jobs_wait_for_their_hour(storage):
    storage.jobs.set("1", Job(JobState.FAILED, ago(1.1)))
    storage.jobs.set("2", Job(JobState.FAILED, ago(0.9)))
    storage.jobs.set("3", JobState.LIVE)
    storage.jobs.set("4", Job(JobState.FINISHED, ago(9)))
    for job in "1234":
        storage.put(f"job_{job}_chunk_a_x")
    storage.put("job_1_chunk_a_just_now", hours_old=0)
    storage.cleanup().after_crash()
    assert storage.left() == {f"job_{job}_chunk_a_x" for job in "234"} | {"job_1_chunk_a_just_now"}


def test_job_zero_means_all_failed_ones(storage):
    storage.jobs.set("1", Job(JobState.FAILED, ago(2)))
    storage.put("job_1_chunk_a_x")
    assert storage.cleanup().after_crash(0)["files_deleted"] == 1


# -- orphans -----------------------------------------------------------------------------------


def test_orphans_by_all_five_rules(storage):
    storage.jobs.set("1", Job(JobState.FINISHED, ago(30)))
    storage.jobs.set("2", Job(JobState.FAILED, ago(30)))
    storage.jobs.set("4", JobState.LIVE)
    for name in ("job_1_chunk_a_x", "job_2_chunk_a_x", "job_3_chunk_a_x", "job_4_chunk_a_x", "x"):
        storage.put(name)
    young = storage.put("young", hours_old=23)
    refers = storage.put("referred")
    detector = OrphanedFileDetector(None, storage.jobs, storage.settings)
    found = asyncio.run(detector.detect_orphaned_files())
    assert {(os.path.basename(it.path), it.rule) for it in found} == {
        ("job_1_chunk_a_x", "no active job"),
        ("job_2_chunk_a_x", "failed job"),
        ("job_3_chunk_a_x", "no such job"),
        ("x", "no job pattern"),
        ("referred", "no job pattern"),
    }
    cleanup = storage.cleanup(references=lambda paths: [p for p in paths if p == str(refers)])
    result = cleanup.orphaned()
    assert result["trigger"] == "orphaned_files"
    assert result["files_deleted"] == 4
    assert storage.left() == {"job_4_chunk_a_x", "young", "referred"}
    assert young.exists()


def test_a_job_source_that_is_down_or_says_nothing_deletes_nothing_of_a_job(storage):
    storage.put("job_1_chunk_a_x")
    storage.jobs.down = True
    for cleanup in (storage.cleanup(), storage.cleanup(jobs=None)):
        for result in (cleanup.orphaned(), cleanup.after_crash(1), cleanup.after_crash()):
            assert result["files_deleted"] == 0
        cleanup.emergency()
        cleanup.scheduled()
    assert storage.left() == {"job_1_chunk_a_x"}
    errors = storage.cleanup().orphaned()["errors"]
    assert len(errors) == 1
    assert "so all count as live: ConnectionError: the database is down" in errors[0]


def test_references_that_are_down_make_nothing_an_orphan(storage):
    storage.put("x")

    def down(paths):
        raise ConnectionError

    storage.cleanup(references=down).orphaned()
    assert storage.left() == {"x"}


@pytest.mark.parametrize("hours", [0, -1])
def test_an_age_of_zero_or_less_is_refused(storage, hours):
    service = TempStorageCleanupService(None, storage.jobs, storage.settings)
    with pytest.raises(UsageError, match="must be over 0"):
        asyncio.run(service.cleanup_orphaned_files(max_age_hours=hours))


# -- what always stays -------------------------------------------------------------------------


def test_symlinks_folders_and_devices_under_a_jobs_name_stay(storage, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    os.utime(target, (1, 1))
    (storage.base / "job_1_chunk_a_link").symlink_to(target)
    (storage.base / "job_1_chunk_a_folder").mkdir()
    (storage.base / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(storage.base / "job_1_chunk_a_fifo")
    cleanup = storage.cleanup()
    cleanup.after_crash(1)
    cleanup.orphaned(max_age_hours=0.1)
    cleanup.after_chunk(1, "a", ["link", "folder", "fifo"])
    assert target.read_text() == "precious"
    assert {path.name for path in storage.base.iterdir()} == {
        "job_1_chunk_a_link",
        "job_1_chunk_a_folder",
        "job_1_chunk_a_fifo",
        "elsewhere",
    }


def test_a_file_open_for_writing_stays(storage):
    path = storage.put("x")
    with path.open("ab"):
        assert storage.cleanup().scheduled()["files_deleted"] == 0
    assert storage.cleanup().scheduled()["files_deleted"] == 1


def test_where_nobody_can_say_who_writes_a_file_stays_unless_that_is_set(storage):
    class Unknown(FileOpsWrapper):
        def around(self, method, proceed, args, kwargs):
            return None if method == "bar_writers" else proceed(*args, **kwargs)

    storage.put("x")
    assert storage.cleanup(fs=Unknown(FileOps())).orphaned()["files_deleted"] == 0
    storage.settings.delete_where_writers_unknown = True
    assert storage.cleanup(fs=Unknown(FileOps())).orphaned()["files_deleted"] == 1


def test_a_hold_beats_everything(storage):
    held = storage.put("job_1_chunk_a_held")
    place = Place(storage.base, 20, 10)
    cleanup = storage.cleanup(held=lambda path: path == os.fsencode(held), provider=place)
    cleanup.after_chunk(1, "a", ["held"])
    cleanup.after_crash(1)
    cleanup.scheduled()
    cleanup.emergency()
    assert held.exists()


def test_what_a_living_process_has_leased_stays(storage):
    manager = FileCleanupManager(storage.base)
    manager.track_file(storage.put("x"))
    storage.cleanup().scheduled()
    assert storage.left() == {"x"}
    manager.close()


def test_own_files_are_never_subjects(storage):
    storage.put(".lifecycle/root.json")
    storage.settings.temp_storage_path = storage.base / "deeper"
    with pytest.raises(UsageError, match="in the root"):
        storage.cleanup()
    (storage.base / ".lifecycle" / "root.json").rename(storage.base / ".lifecycle" / "old")
    storage.settings.temp_storage_path = storage.base
    storage.cleanup().scheduled()
    assert (storage.base / ".lifecycle" / "old").exists()


def test_a_folder_swapped_for_a_symlink_at_any_moment_touches_nothing_outside(storage, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("a", "b", "c"):
        storage.put(f"folder/{name}")
        (outside / name).write_text("precious")
        os.utime(outside / name, (1, 1))

    class Swaps(FileOpsWrapper):
        countdown = 0

        def around(self, method, proceed, args, kwargs):
            self.countdown -= 1
            if self.countdown == 0 and (storage.base / "folder").exists():
                os.rename(storage.base / "folder", tmp_path / "moved")
                (storage.base / "folder").symlink_to(outside)
            return proceed(*args, **kwargs)

    for moment in range(1, 60, 3):
        fs = Swaps(FileOps())
        type(fs).countdown = moment
        storage.cleanup(fs=fs).scheduled()
        assert len(list(outside.iterdir())) == 3
        if (storage.base / "folder").is_symlink():
            (storage.base / "folder").unlink()
            for name in ("a", "b", "c"):
                storage.put(f"folder/{name}")
            for path in (tmp_path / "moved").iterdir():
                path.unlink()
            (tmp_path / "moved").rmdir()


def test_a_file_that_changes_after_it_was_judged_stays(storage):
    path = storage.put("x")

    class Touches(FileOpsWrapper):
        descents = 0

        def around(self, method, proceed, args, kwargs):
            if method == "open_directory" and args[0] == os.fsencode(storage.base):
                # The second descent is that of the discarding.
                type(self).descents += 1
                if self.descents == 2:
                    os.utime(path)
            return proceed(*args, **kwargs)

    fs = Touches(FileOps())
    storage.cleanup(fs=fs).orphaned()
    assert fs.descents >= 2
    assert path.exists()


def test_a_job_that_came_back_to_life_before_its_files_went_keeps_them(storage):
    storage.put("job_1_chunk_a_x", size=100)
    cleanup = storage.cleanup(provider=Place(storage.base, 110))
    storage.jobs.set("1", Job(JobState.FAILED, ago(9)))
    look = storage.jobs.look

    def revived(job_ids):
        answer = look(job_ids)
        storage.jobs.set("1", JobState.LIVE)
        return answer

    storage.jobs.look = revived
    cleanup.emergency()
    assert storage.left() == {"job_1_chunk_a_x"}


# -- limits, interruption, dry runs ------------------------------------------------------------


def test_no_more_than_the_maximum_goes_and_the_next_goes_on(storage):
    for number in range(25):
        storage.put(f"x{number}")
    storage.settings.max_files_per_cleanup = 10
    storage.settings.cleanup_batch_size = 4
    cleanup = storage.cleanup()
    assert [cleanup.orphaned()["files_deleted"] for _ in range(4)] == [10, 10, 5, 0]


def test_batches_ask_for_their_jobs_together(storage):
    storage.settings.cleanup_batch_size = 10
    for number in range(25):
        storage.put(f"job_{number}_chunk_a_x")
    storage.cleanup().orphaned()
    assert [len(ids) for ids in storage.jobs.asked] == [10, 10, 5]


def test_a_clean_up_that_is_stopped_leaves_the_rest_to_the_next(storage):
    storage.settings.cleanup_batch_size = 5
    for number in range(20):
        storage.put(f"x{number}")
    cancel = CancelToken()
    seen: list[bytes] = []

    def witness(path, _size, _reason):
        seen.append(path)
        if len(seen) == 7:
            cancel.cancel()

    result = storage.cleanup().orphaned(cancel=cancel, witness=witness)
    # It ends after the file that it is at, or, where C unlinks, after what it has in hand.
    assert 7 <= result["files_deleted"] <= 10
    assert len(storage.left()) == 20 - result["files_deleted"]
    storage.cleanup().orphaned()
    assert storage.left() == set()


@pytest.mark.parametrize("setting", ["cleanup_dry_run", "keep_temp_files_for_debugging"])
def test_a_dry_run_and_debugging_keep_everything(storage, setting, caplog):
    caplog.set_level("INFO", "lifecycle_sync")
    setattr(storage.settings, setting, True)
    storage.jobs.set("1", Job(JobState.FAILED, ago(9)))
    storage.put("job_1_chunk_a_x", size=100)
    storage.put("x", size=100)
    cleanup = storage.cleanup(provider=Place(storage.base, 210))
    before = {path: os.stat(path) for path in storage.base.rglob("*")}
    for result in (
        cleanup.after_chunk(1, "a", ["x"]),
        cleanup.after_crash(1),
        cleanup.orphaned(),
        cleanup.emergency(),
        cleanup.scheduled(),
    ):
        assert result["files_deleted"] == 0
        assert result["bytes_freed"] == 0
    assert {path: os.stat(path) for path in storage.base.rglob("*")} == before
    wanted = "would delete" if setting == "cleanup_dry_run" else "kept for debugging"
    assert wanted in caplog.text


def test_a_dry_run_tells_what_the_clean_up_then_does(storage):
    for number in range(8):
        storage.put(f"x{number}", size=100, hours_old=48 + number)
    place = Place(storage.base, 1000, 160)
    foretold: list[bytes] = []
    storage.settings.cleanup_dry_run = True
    storage.cleanup(provider=place).orphaned(witness=lambda path, _s, _r: foretold.append(path))
    assert len(foretold) == 8
    storage.settings.cleanup_dry_run = False
    gone: list[bytes] = []
    storage.cleanup(provider=place).orphaned(witness=lambda path, _s, _r: gone.append(path))
    assert sorted(gone) == sorted(foretold)


class _Stuck(FileOpsWrapper):
    def around(self, method, proceed, args, kwargs):
        name = (
            os.path.basename(os.fsencode(args[0])) if args and not isinstance(args[0], int) else b""
        )
        if method == "unlink" and name == b"stuck":
            raise PermissionError(1, "not permitted")
        if method == "unlink" and name == b"vanished":
            raise FileNotFoundError(2, "gone")
        if method == "open_directory" and name == b"closed":
            raise PermissionError(13, "denied")
        return proceed(*args, **kwargs)


def test_one_failing_file_never_stops_a_batch(storage, caplog):
    for name in ("a", "stuck", "vanished", "z", "closed/x", "open/x"):
        storage.put(name)
    result = storage.cleanup(fs=_Stuck(FileOps())).orphaned()
    assert result["files_deleted"] == 3
    assert len(result["errors"]) == 2
    assert any("stuck: not permitted" in error for error in result["errors"])
    assert any("closed: no permission" in error for error in result["errors"])
    assert str(storage.base / "stuck") in caplog.text


def test_a_folder_that_does_not_exist_is_an_empty_one(tmp_path):
    storage = Storage(tmp_path / "temp")
    storage.base.rmdir()
    cleanup = storage.cleanup()
    assert cleanup.scheduled()["files_scanned"] == 0
    assert cleanup.after_chunk(1, 1, ["x"])["files_deleted"] == 0
    assert cleanup.emergency()["errors"] == []
    assert cleanup.stats()["temp_files_count"] == 0


# -- pressure ----------------------------------------------------------------------------------


def test_an_emergency_stops_exactly_at_its_target_and_takes_the_oldest_first(storage):
    for number in range(90):
        storage.put(f"x{number:02}", size=10, hours_old=0.2 + number / 1000)
    storage.settings.max_cleanup_workers = 1
    place = Place(storage.base, 1000, 60)  # 96 %
    cleanup = storage.cleanup(provider=place)
    result = cleanup.emergency()
    assert result["trigger"] == "emergency_threshold"
    assert result["storage_before_percent"] == 96.0
    assert place.usage().percent == 85.0
    assert storage.left() == {f"x{number:02}" for number in range(79)}
    assert cleanup.emergency()["files_deleted"] == 0


@pytest.mark.parametrize("waits", [False, True])
def test_many_workers_overshoot_by_at_most_a_file_each(storage, monkeypatch, waits):
    if waits:
        # As on a disk that is waited for: all of them take part.
        monkeypatch.setattr(Sweep, "probe", lambda self, *_: setattr(self, "_waits", True))
    for number in range(300):
        storage.put(f"x{number}", size=10, hours_old=2)
    storage.settings.max_cleanup_workers = 8
    place = Place(storage.base, 3000)
    storage.cleanup(provider=place).emergency()
    deleted = 300 - len(storage.left())
    assert 45 <= deleted <= 45 + 8


def test_the_order_under_pressure(storage):
    storage.jobs.set("2", Job(JobState.FAILED, ago(0.99)))
    storage.jobs.set("3", JobState.LIVE)
    storage.jobs.set("5", Job(JobState.FAILED, ago(5)))
    storage.put("job_3_chunk_a_live", size=10)
    storage.put("orphan", size=10, hours_old=1.5)
    storage.put("job_5_chunk_a_failed", size=10, hours_old=0.5)
    storage.put("old", size=10, hours_old=0.9)
    storage.put("newer", size=10, hours_old=0.3)
    storage.put("just now", size=10, hours_old=0)
    linked = storage.put("linked", size=10)
    os.link(linked, storage.base / "second name")
    os.utime(linked, (1, 1))
    order: list[str] = []
    storage.settings.max_cleanup_workers = 1

    def emergency(capacity: int) -> Any:
        order.clear()
        return storage.cleanup(provider=Place(storage.base, capacity)).emergency(
            witness=lambda path, _s, _r: order.append(os.path.basename(os.fsdecode(path)))
        )

    emergency(81)
    assert order == ["orphan", "job_5_chunk_a_failed"]
    result = emergency(45)
    assert order == ["old", "newer"]
    assert storage.left() == {"job_3_chunk_a_live", "just now", "linked", "second name"}
    assert "did not reach" in result["errors"][0]


def test_a_target_out_of_reach_is_an_alarm(storage, caplog):
    storage.jobs.set("3", JobState.LIVE)
    storage.put("job_3_chunk_a_live", size=95)
    result = storage.cleanup(provider=Place(storage.base, 100)).emergency()
    assert result["files_deleted"] == 0
    assert "did not reach its target of 85 %: wanted 0.0 MB, freed 0" in result["errors"][0]
    assert [it.levelname for it in caplog.records] == ["CRITICAL"]
    assert storage.left() == {"job_3_chunk_a_live"}


def test_what_others_write_once_the_target_is_reached_is_no_alarm(storage, caplog):
    class Shared(Place):
        def usage(self):
            usage = super().usage()
            if usage.percent <= 85:
                # Somebody writes as soon as there is room.
                self.other += 20
            return usage

    for number in range(96):
        storage.put(f"x{number}", size=10, hours_old=2)
    storage.settings.max_cleanup_workers = 1
    result = storage.cleanup(provider=Shared(storage.base, 1000)).emergency()
    assert result["files_deleted"] >= 11
    assert result["errors"] == [] and not caplog.records


def test_the_minimum_free_is_kept_too(storage):
    storage.settings.min_free_space_gb = 500 / (1 << 30)
    for number in range(60):
        storage.put(f"x{number}", size=10, hours_old=2)
    place = Place(storage.base, 1000)
    assert storage.cleanup(provider=place).is_emergency()
    storage.settings.max_cleanup_workers = 1
    storage.cleanup(provider=place).emergency()
    assert place.usage().available_bytes == 500


def test_inodes_are_watched_as_bytes_are(storage):
    from lifecycle_sync.model.temp import Usage

    class Inodes:
        def usage(self):
            count = len(storage.left())
            return Usage(0, 100, count, 100 - count)

    for number in range(96):
        storage.put(f"x{number}", hours_old=2)
    storage.settings.max_cleanup_workers = 1
    storage.cleanup(provider=Inodes()).emergency()
    assert len(storage.left()) == 85


def test_a_scheduled_clean_up_meets_an_emergency_first(storage):
    for number in range(96):
        storage.put(f"x{number}", size=10, hours_old=0.5)
    place = Place(storage.base, 1000)
    result = storage.cleanup(provider=place).scheduled()
    assert result["trigger"] == "scheduled"
    assert result["files_scanned"] == 96
    assert place.usage().percent <= 85


# -- statistics, the service -------------------------------------------------------------------


def test_statistics_have_exactly_the_documented_keys(storage):
    storage.jobs.set("1", JobState.LIVE)
    storage.jobs.set("2", Job(JobState.FAILED, ago(50)))
    storage.put("job_1_chunk_a_x", size=100)
    storage.put("job_2_chunk_a_x", size=50)
    service = TempStorageCleanupService(
        Place(storage.base, 200), storage.jobs, settings=storage.settings
    )
    stats = asyncio.run(service.get_storage_stats())
    assert list(stats) == STATS_KEYS
    assert stats == {
        "storage_usage_percent": 75.0,
        "emergency_threshold": 95.0,
        "temp_files_count": 2,
        "temp_files_size_bytes": 150,
        "active_jobs_count": 1,
        "failed_jobs_count": 1,
        "orphaned_files_count": 1,
        "orphaned_files_size_bytes": 50,
        "cleanup_needed": False,
    }


def test_the_service_awaits_all_of_it(storage):
    async def scene() -> None:
        service = TempStorageCleanupService(
            get_storage_provider(storage.settings), None, storage.settings
        )
        for result in (
            await service.cleanup_after_chunk_completion(1, "a", ["x"]),
            await service.cleanup_after_crash(1),
            await service.cleanup_orphaned_files(max_age_hours=24),
            await service.emergency_cleanup(),
            await service.scheduled_cleanup(),
        ):
            assert list(result) == RESULT_KEYS
        health = await service.get_health()
        assert health["status"] in {"healthy", "warning", "critical"}
        service.start_monitoring()
        assert (await service.get_health())["monitoring"]
        await service.stop_monitoring()
        assert not (await service.get_health())["monitoring"]

    asyncio.run(scene())


def test_a_cancelled_await_stops_at_the_next_batch(storage):
    storage.settings.cleanup_batch_size = 1
    for number in range(50):
        storage.put(f"job_{number}_chunk_a_x")
    reached, go_on = threading.Event(), threading.Event()
    look = storage.jobs.look

    def slow(job_ids):
        reached.set()
        assert go_on.wait(30)
        return look(job_ids)

    storage.jobs.look = slow

    async def scene() -> None:
        service = TempStorageCleanupService(None, storage.jobs, storage.settings)
        task = asyncio.ensure_future(service.cleanup_orphaned_files())
        while not reached.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert len(storage.left()) >= 49


def test_what_cannot_say_which_jobs_live_is_refused():
    with pytest.raises(UsageError, match="a int cannot say which jobs are alive"):
        job_source(7)


def test_a_function_may_say_it(storage):
    storage.put("job_1_chunk_a_x")
    storage.put("job_2_chunk_a_x")
    storage.put("job_3_chunk_a_x")
    answers = {"1": ("failed", time.time() - 90 * HOUR), "2": "something odd"}
    service = TempStorageCleanupService(None, answers.get, storage.settings)
    asyncio.run(service.cleanup_orphaned_files())
    assert storage.left() == {"job_2_chunk_a_x", "job_3_chunk_a_x"}


# -- jobs that come and go ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_no_file_of_a_live_job_goes_and_none_of_a_dead_one_stays(storage, seed):
    chance = random.Random(seed)
    files: dict[str, str] = {}
    for number in range(120):
        job = str(chance.randrange(30))
        state = chance.choice([JobState.LIVE, JobState.FAILED, JobState.FINISHED, JobState.UNKNOWN])
        storage.jobs.jobs.setdefault(job, Job(state, chance.choice([None, ago(30)])))
        name = f"job_{job}_chunk_{chance.randrange(4)}_{number}"
        storage.put(chance.choice(["", "sub/"]) + name, hours_old=25)
        files[name] = job
    place = Place(storage.base, 1300, 0)
    cleanup = storage.cleanup(provider=place)
    for _ in range(4):
        chance.choice(
            [cleanup.orphaned, cleanup.emergency, cleanup.after_crash, cleanup.scheduled]
        )()
    cleanup.scheduled()
    left = {name.rpartition("/")[2] for name in storage.left()}
    live = {n for n, job in files.items() if storage.jobs.jobs[job].may_be_live}
    assert left == live
