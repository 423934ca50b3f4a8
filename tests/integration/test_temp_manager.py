"""Temporary files of one process: tracked, removed, never more than was meant."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync import FileCleanupManager, TempFileContext, temp_file_async
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import FileOpsWrapper

HOUR = 3600


@pytest.fixture
def base(tmp_path):
    return tmp_path / "temp"


@pytest.fixture
def manager(base):
    made = FileCleanupManager(base)
    yield made
    made.close()


def made(path: Path, *, hours_old: float = 0, text: str = "test") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - hours_old * HOUR
    os.utime(path, (then, then))
    return path


# -- age ---------------------------------------------------------------------------------------


def test_old_tracked_files_go_and_young_ones_stay(manager, base):
    old, young = made(base / "old", hours_old=30, text="12345"), made(base / "young")
    manager.track_file(old)
    manager.track_file(young)
    result = asyncio.run(manager.cleanup_old_files())
    assert result == {
        "removed_count": 1,
        "removed_size_bytes": 5,
        "removed_size_mb": 5 / 2**20,
        "errors": 0,
        "tracked_files_remaining": 1,
    }
    assert not old.exists()
    assert young.exists()


def test_age_is_the_mtime_alone(manager, base):
    file = made(base / "file", hours_old=30)
    os.utime(file, (time.time(), time.time() - 30 * HOUR))  # read just now
    manager.track_file(file)
    asyncio.run(manager.cleanup_old_files())
    assert not file.exists()


def test_a_time_in_the_future_is_not_old(manager, base):
    file = made(base / "file", hours_old=-1000)
    manager.track_file(file)
    asyncio.run(manager.cleanup_old_files(max_age_hours=1))
    assert file.exists()


def test_untracked_files_stay_however_old(manager, base):
    mine, other = made(base / "a", hours_old=99), made(base / "b", hours_old=99)
    manager.track_file(mine)
    asyncio.run(manager.cleanup_old_files())
    assert not mine.exists()
    assert other.exists()


def test_untracked_files_go_where_that_is_asked_for(base, manager):
    old = made(base / "folder" / "old", hours_old=99)
    young = made(base / "other" / "young")
    (base / "empty").mkdir()
    theirs = made(base / "theirs", hours_old=99)
    with FileCleanupManagerOf(base) as other:
        other.track_file(theirs)
        result = asyncio.run(manager.cleanup_old_files(include_untracked=True))
        assert theirs.exists(), "a living manager tracks it"
    assert result["removed_count"] == 1
    assert not old.parent.exists(), "emptied by this"
    assert young.exists()
    assert (base / "empty").is_dir(), "not emptied by this"


class FileCleanupManagerOf:
    """Another manager on the same folder; what it tracks is kept at the end."""

    def __init__(self, base: Path) -> None:
        self.manager = FileCleanupManager(base)

    def __enter__(self):
        return self.manager

    def __exit__(self, *_):
        for path in list(self.manager._tracked):
            self.manager.untrack_file(path)
        self.manager.close()


def test_a_file_open_for_writing_stays_until_it_is_closed(manager, base):
    file = made(base / "file", hours_old=99)
    manager.track_file(file)
    with open(file, "ab"):
        assert asyncio.run(manager.cleanup_old_files())["removed_count"] == 0
        assert file.exists()
    assert asyncio.run(manager.cleanup_old_files())["removed_count"] == 1


class _NobodyKnows(FileOpsWrapper):
    """A filesystem that gives no leases."""

    def around(self, method, proceed, args, kwargs):
        return None if method == "has_writers" else proceed(*args, **kwargs)


def test_where_nobody_can_say_who_writes_tracked_files_go_and_others_stay(base):
    manager = FileCleanupManager(base, fs=_NobodyKnows(FileOps()))
    mine, other = made(base / "mine", hours_old=99), made(base / "other", hours_old=99)
    manager.track_file(mine)
    asyncio.run(manager.cleanup_old_files(include_untracked=True))
    assert not mine.exists()
    assert other.exists()


def test_only_folders_that_were_emptied_by_it_are_removed(manager, base):
    file = made(base / "a" / "b" / "file", hours_old=99)
    (base / "a" / "empty").mkdir()
    manager.track_file(file)
    asyncio.run(manager.cleanup_old_files())
    assert not (base / "a" / "b").exists()
    assert (base / "a" / "empty").is_dir()
    assert base.is_dir()


def test_a_tracked_folder_goes_by_the_age_of_what_is_in_it(manager, base):
    folder = base / "session"
    old, young = made(folder / "old", hours_old=99), made(folder / "young")
    manager.track_file(folder)
    asyncio.run(manager.cleanup_old_files())
    assert not old.exists()
    assert young.exists()


def test_a_tracked_folder_stays_while_its_owner_works_in_it(manager, base):
    folder = base / "session"
    made(folder / "old", hours_old=99)
    manager.track_file(folder)
    asyncio.run(manager.cleanup_old_files())
    assert folder.is_dir(), "its own mtime is young"
    then = time.time() - 99 * HOUR
    os.utime(folder, (then, then))
    asyncio.run(manager.cleanup_old_files())
    assert not folder.exists()


@pytest.mark.parametrize("hours", [0, -1, float("nan")])
def test_no_time_to_live_of_zero_or_less(manager, base, hours):
    with pytest.raises(UsageError, match="must be over 0"):
        asyncio.run(manager.cleanup_old_files(max_age_hours=hours))
    with pytest.raises(UsageError, match="must be over 0"):
        FileCleanupManager(base, default_ttl_hours=hours)


# -- by name -----------------------------------------------------------------------------------


def test_one_file_is_removed_and_forgotten(manager, base):
    file = made(base / "file")
    manager.track_file(file)
    assert asyncio.run(manager.cleanup_file(file)) is True
    assert not file.exists()
    assert manager.get_stats()["tracked_files"] == 0
    assert asyncio.run(manager.cleanup_file(file)) is False


def test_a_symlink_goes_itself_and_not_what_it_points_to(manager, base, tmp_path):
    target = made(tmp_path / "target")
    link = base / "link"
    link.symlink_to(target)
    assert asyncio.run(manager.cleanup_file(link)) is True
    assert target.exists()
    assert not link.is_symlink()


def test_a_folder_that_became_a_symlink_protects_what_is_behind_it(manager, base, tmp_path):
    outside = made(tmp_path / "outside" / "file", hours_old=99)
    tracked = base / "folder" / "file"
    manager.track_file(tracked)
    (base / "folder").symlink_to(outside.parent)
    result = asyncio.run(manager.cleanup_old_files())
    assert outside.exists()
    assert result["errors"] == 1
    asyncio.run(manager.cleanup_all_tracked())
    assert asyncio.run(manager.cleanup_directory(base / "folder")) is False
    assert outside.exists()
    manager.untrack_file(tracked)


def test_a_folder_goes_with_all_in_it_and_its_files_are_forgotten(manager, base):
    file = made(base / "session" / "deep" / "file")
    manager.track_file(file)
    manager.track_file(file.parent)
    assert asyncio.run(manager.cleanup_directory(base / "session")) is True
    assert not (base / "session").exists()
    assert manager.get_stats()["tracked_files"] == 0
    assert asyncio.run(manager.cleanup_directory(base / "session")) is False


def test_a_folder_that_is_not_to_be_entered_stays_with_its_folders(manager, base):
    file, deep = made(base / "session" / "file"), made(base / "session" / "deep" / "file")
    assert asyncio.run(manager.cleanup_directory(base / "session", recursive=False)) is False
    assert not file.exists()
    assert deep.exists()


def test_all_tracked_files_and_folders_go_whatever_their_age(manager, base):
    file, folder = made(base / "file"), made(base / "session" / "file").parent
    manager.track_file(file)
    manager.track_file(folder)
    result = asyncio.run(manager.cleanup_all_tracked())
    assert result["removed_count"] == 2
    assert result["tracked_files_remaining"] == 0
    assert not file.exists()
    assert not folder.exists()


def test_what_is_untracked_stays(manager, base):
    file = made(base / "file", hours_old=99)
    manager.track_file(file)
    manager.untrack_file(str(file))
    asyncio.run(manager.cleanup_old_files())
    asyncio.run(manager.cleanup_all_tracked())
    assert file.exists()


def test_files_that_vanish_are_no_errors_and_are_forgotten(manager, base):
    manager.track_file(base / "never")
    result = asyncio.run(manager.cleanup_old_files())
    assert result["errors"] == 0
    assert result["tracked_files_remaining"] == 0


class _NoUnlink(FileOpsWrapper):
    """Refuses to unlink what is named "stuck"."""

    def around(self, method, proceed, args, kwargs):
        if method == "unlink" and os.path.basename(os.fsencode(args[0])) == b"stuck":
            raise PermissionError(1, "not permitted")
        return proceed(*args, **kwargs)


def test_a_file_that_cannot_go_is_counted_and_stops_nothing(base, caplog):
    manager = FileCleanupManager(base, fs=_NoUnlink(FileOps()))
    names = ["a", "stuck", "z"]
    for name in names:
        manager.track_file(made(base / name, hours_old=99))
    result = asyncio.run(manager.cleanup_old_files())
    assert (result["removed_count"], result["errors"]) == (2, 1)
    assert str(base / "stuck") in caplog.text
    assert "immutable" in caplog.text
    manager.untrack_file(base / "stuck")


# -- the base ----------------------------------------------------------------------------------


def test_the_whole_disk_a_home_and_a_root_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "root" / ".lifecycle").mkdir(parents=True)
    (tmp_path / "root" / ".lifecycle" / "root.json").write_text("{}")
    for place in ("/", tmp_path / "home", tmp_path / "root", tmp_path / "root" / "below"):
        with pytest.raises(UsageError, match="for temporary files alone"):
            FileCleanupManager(place)
    FileCleanupManager(tmp_path / "root" / "below", force=True)


def test_an_order_on_a_folder_elsewhere_is_looked_at_in_the_same_way(manager, tmp_path):
    (tmp_path / "root" / ".lifecycle").mkdir(parents=True)
    (tmp_path / "root" / ".lifecycle" / "root.json").write_text("{}")
    with pytest.raises(UsageError, match="under management"):
        asyncio.run(manager.cleanup_directory(tmp_path / "root"))
    made(tmp_path / "elsewhere" / "file")
    assert asyncio.run(manager.cleanup_directory(tmp_path / "elsewhere")) is True


def test_the_base_may_be_reached_through_a_symlink(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    manager = FileCleanupManager(tmp_path / "link")
    file = made(tmp_path / "link" / "file", hours_old=99)
    manager.track_file(file)
    assert asyncio.run(manager.cleanup_old_files())["removed_count"] == 1


# -- statistics, periodic ----------------------------------------------------------------------


def test_statistics_have_the_documented_keys(manager, base):
    manager.track_file(made(base / "file", text="x" * 1024))
    made(base / "session" / "file", text="y" * 1024)
    manager.track_file(base / "session")
    assert manager.get_stats() == {
        "tracked_files": 2,
        "total_size_bytes": 2048,
        "total_size_mb": 2048 / 2**20,
        "periodic_cleanup_running": False,
        "default_ttl_hours": 24,
        "cleanup_interval_minutes": 30,
    }


def test_the_periodic_cleanup_removes_what_gets_old_and_stops_at_once(base):
    manager = FileCleanupManager(base, cleanup_interval_minutes=0.0005)
    file = made(base / "file", hours_old=99)
    manager.track_file(file)
    manager.start_periodic_cleanup()
    manager.start_periodic_cleanup()
    assert manager.get_stats()["periodic_cleanup_running"]
    deadline = time.monotonic() + 30
    while file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    asyncio.run(manager.stop_periodic_cleanup())
    assert not file.exists()
    assert not manager.get_stats()["periodic_cleanup_running"]


def test_the_periodic_cleanup_outlives_an_error(base, monkeypatch):
    manager = FileCleanupManager(base, cleanup_interval_minutes=0.0005)
    calls = threading.Semaphore(0)

    def fail(*_):
        calls.release()
        raise RuntimeError("broken")

    monkeypatch.setattr(manager, "clean", fail)
    manager.start_periodic_cleanup()
    assert calls.acquire(timeout=30)
    assert calls.acquire(timeout=30)
    asyncio.run(manager.stop_periodic_cleanup())


# -- threads, the loop, cancellation, copies ---------------------------------------------------


class _Slow(FileOpsWrapper):
    """Lets a test hold an unlink."""

    def __init__(self, _inner: FileOps) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def around(self, method, proceed, args, kwargs):
        if method == "unlink" and os.path.basename(os.fsencode(args[0])).startswith(b"file"):
            self.reached.set()
            assert self.go_on.wait(30)
        return proceed(*args, **kwargs)


def test_the_loop_goes_on_while_a_file_is_removed(base):
    fs = _Slow(FileOps())
    manager = FileCleanupManager(base, fs=fs)
    file = made(base / "file")

    async def scene() -> Any:
        removing = asyncio.ensure_future(manager.cleanup_file(file))
        while not fs.reached.is_set():
            await asyncio.sleep(0.001)
        assert not removing.done()
        fs.go_on.set()
        return await removing

    assert asyncio.run(scene()) is True


def test_a_cancelled_cleanup_ends_after_the_file_that_it_is_at(base):
    fs = _Slow(FileOps())
    manager = FileCleanupManager(base, fs=fs)
    for number in range(3):
        manager.track_file(made(base / f"file{number}", hours_old=99))

    async def scene() -> Any:
        cleaning = asyncio.ensure_future(manager.cleanup_old_files())
        while not fs.reached.is_set():
            await asyncio.sleep(0.001)
        cleaning.cancel()
        await asyncio.sleep(0.01)
        assert not cleaning.done(), "the file that it is at is not left behind"
        fs.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await cleaning

    asyncio.run(scene())
    assert len(list(base.glob("file*"))) == 2
    asyncio.run(manager.cleanup_all_tracked())


def test_who_forgets_a_file_that_is_going_waits_until_it_has_gone(base):
    fs = _Slow(FileOps())
    manager = FileCleanupManager(base, fs=fs)
    file = made(base / "file", hours_old=99)
    manager.track_file(file)
    sweeping = threading.Thread(target=manager.clean, args=(1, False))
    sweeping.start()
    assert fs.reached.wait(30)
    forgotten = threading.Event()

    def forget():
        manager.untrack_file(file)
        forgotten.set()

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    assert not forgotten.wait(0.05)
    fs.go_on.set()
    assert forgotten.wait(30)
    forgetting.join(30)
    sweeping.join(30)
    # From here on the name is the caller's: nothing that is put there goes.
    file.write_text("new")
    assert file.exists()


def test_many_threads_may_track_and_clean_at_once(manager, base):
    def work(number: int) -> None:
        for turn in range(50):
            file = made(base / f"{number}-{turn}", hours_old=99 * (turn % 2))
            manager.track_file(file)
            if turn % 5 == 0:
                manager.untrack_file(file)
            if turn % 10 == 3:
                manager.clean(24, False)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    manager.clean(24, False)
    left = {path.name for path in base.iterdir() if path.is_file()}
    young = {f"{n}-{t}" for n in range(4) for t in range(0, 50, 2)}
    # Old ones that are tracked no longer, unless another thread cleaned before that.
    untracked = {f"{n}-{t}" for n in range(4) for t in range(5, 50, 10)}
    assert young <= left <= young | untracked


def test_a_copy_for_another_process_tracks_nothing(manager, base):
    manager.track_file(made(base / "file"))
    copy = pickle.loads(pickle.dumps(manager))
    assert copy.get_stats()["tracked_files"] == 0
    assert copy.default_ttl_hours == manager.default_ttl_hours


# -- contexts ----------------------------------------------------------------------------------


def test_the_file_of_a_context_is_gone_after_it(tmp_path):
    with TempFileContext(tmp_path / "file") as path:
        assert path == tmp_path / "file"
        path.write_text("x")
    assert not path.exists()


def test_a_context_may_keep_its_file(tmp_path):
    context = TempFileContext(made(tmp_path / "file"))
    with context:
        context.keep()
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("cleanup", [True, False])
def test_an_error_keeps_the_file_only_where_that_was_said(tmp_path, cleanup, kind):
    context = TempFileContext(made(tmp_path / "file"), cleanup_on_error=cleanup)
    with pytest.raises(kind), context:
        raise kind
    assert (tmp_path / "file").exists() is not cleanup


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
@pytest.mark.parametrize("cleanup", [True, False])
def test_the_asynchronous_context_does_the_same(tmp_path, cleanup, kind):
    async def scene() -> Any:
        async with temp_file_async(made(tmp_path / "file"), cleanup_on_error=cleanup):
            raise kind

    with pytest.raises(kind):
        asyncio.run(scene())
    assert (tmp_path / "file").exists() is not cleanup


def test_a_cancelled_block_has_removed_its_file_when_the_cancellation_comes_out(tmp_path):
    async def block(inside: asyncio.Event):
        async with temp_file_async(made(tmp_path / "file")):
            inside.set()
            await asyncio.sleep(60)

    async def scene() -> Any:
        inside = asyncio.Event()
        task = asyncio.ensure_future(block(inside))
        await inside.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # once more, while the file is going
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not (tmp_path / "file").exists()

    asyncio.run(scene())


def test_a_context_without_a_file_is_no_error(tmp_path):
    with TempFileContext(tmp_path / "never"):
        pass

    async def scene() -> Any:
        async with temp_file_async(tmp_path / "never"):
            pass

    asyncio.run(scene())


def test_a_context_means_the_same_file_after_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    made(tmp_path / "other" / "file")
    with TempFileContext("file") as path:
        path.write_text("x")
        monkeypatch.chdir(tmp_path / "other")
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "other" / "file").exists()


def test_a_manager_knows_the_file_of_a_context_for_as_long_as_it_lasts(manager, base):
    with TempFileContext(base / "file", manager=manager):
        assert manager.get_stats()["tracked_files"] == 1
    assert manager.get_stats()["tracked_files"] == 0
