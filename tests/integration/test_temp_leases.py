"""What a process that was killed has tracked is removed by the next one, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from lifecycle_sync import FileCleanupManager
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.temp.leases import Lease, dead_leases, leased
from lifecycle_sync.testing.fileops import FileOpsWrapper
from tests.support.forks import in_child
from tests.support.temp_processes import killed, ran, start


@pytest.fixture
def base(tmp_path):
    (tmp_path / "temp").mkdir()
    return tmp_path / "temp"


def names(base: Path) -> set[str]:
    return {
        str(path.relative_to(base))
        for path in base.rglob("*")
        if path.is_file() and ".lifecycle" not in path.parts
    }


def leases(base: Path) -> list[Path]:
    return sorted((base / ".lifecycle" / "leases").glob("*"))


def clean(base: Path) -> dict[str, object]:
    manager = FileCleanupManager(base)
    result = asyncio.run(manager.cleanup_old_files())
    manager.close()
    return result


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_start_removes_what_a_killed_process_left_and_only_that(base, how):
    killed(
        """
manager.track_file(made("left"))
manager.track_file(made("folder/left"))
manager.track_file(made("moved")); manager.untrack_file(base / "moved")
made("stranger")
""",
        base,
        how,
    )
    assert names(base) == {"left", "folder/left", "moved", "stranger"}
    result = clean(base)
    assert names(base) == {"moved", "stranger"}
    assert result["removed_count"] == 2
    assert not (base / "folder").exists()
    assert leases(base) == []


def test_the_periodic_cleanup_begins_with_it(base):
    killed('manager.track_file(made("left"))', base)
    manager = FileCleanupManager(base)
    manager.start_periodic_cleanup()
    deadline = time.monotonic() + 30
    while names(base) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert names(base) == set()
    manager.close()


def test_a_living_process_keeps_what_it_tracks(base):
    with start('manager.track_file(made("theirs"))\nready()', base) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert clean(base)["removed_count"] == 0
        assert names(base) == {"theirs"}
        process.kill()
        process.communicate(timeout=30)
    assert clean(base)["removed_count"] == 1


def test_another_file_under_a_tracked_name_stays(base):
    killed('manager.track_file(made("name"))', base)
    (base / "new").write_text("somebody else's")
    os.rename(base / "new", base / "name")
    clean(base)
    assert (base / "name").read_text() == "somebody else's"
    assert leases(base) == []


def test_what_a_living_process_took_over_stays(base):
    killed('manager.track_file(made("name"))', base)
    mine = FileCleanupManager(base)
    mine.track_file(base / "name")
    clean(base)
    assert names(base) == {"name"}
    mine.close()


def test_what_is_still_being_written_stays_for_the_next_time(base):
    killed('manager.track_file(made("name"))', base)
    with open(base / "name", "ab"):
        clean(base)
        assert names(base) == {"name"}
    clean(base)
    assert names(base) == set()


def test_a_path_that_is_tracked_before_its_file_exists_is_found_too(base):
    killed(
        """
manager.track_file(base / "later")
made("later")
while b"later" not in b"".join(
    it.read_bytes() for it in (base / ".lifecycle" / "leases").glob("*")
):
    time.sleep(0.01)
""",
        base,
    )
    assert names(base) == {"later"}
    clean(base)
    assert names(base) == set()


def test_a_tracked_folder_of_a_dead_process_goes_with_all_in_it(base):
    killed('made("session/a"); manager.track_file(base / "session"); made("session/b/c")', base)
    clean(base)
    assert not (base / "session").exists()


def test_the_contexts_of_a_killed_process_are_cleaned_up(base):
    killed(
        """
context = TempFileContext(made("one"), manager=manager); context.__enter__()
""",
        base,
    )
    clean(base)
    assert names(base) == set()


def test_at_the_end_of_the_interpreter_tracked_files_go(base):
    ran('manager.track_file(made("mine")); made("other"); manager.track_file(base / "never")', base)
    assert names(base) == {"other"}
    assert leases(base) == []


def test_a_manager_that_nobody_holds_any_more_still_removes_its_files(base):
    ran('manager.track_file(made("mine")); del manager', base)
    assert names(base) == set()


def test_an_unhandled_error_and_a_running_thread_change_nothing_of_that(base):
    code = 'manager.start_periodic_cleanup(); manager.track_file(made("mine")); raise ValueError'
    with start(code, base) as process:
        process.communicate(timeout=60)
        assert process.returncode == 1
    assert names(base) == set()


def test_a_loop_that_ends_with_the_interpreter_removes_the_file_of_its_block(base):
    ran(
        """
async def block():
    async with temp_file_async(made("mine")):
        await asyncio.sleep(600)
async def main():
    asyncio.ensure_future(block())
    await asyncio.sleep(0.05)
asyncio.run(main())
""",
        base,
    )
    assert names(base) == set()


def test_a_forked_child_does_not_touch_its_parents_files(base, tmp_path):
    manager = FileCleanupManager(base)
    (base / "parents").write_text("x")
    manager.track_file(base / "parents")

    def child() -> None:
        assert manager.get_stats()["tracked_files"] == 0
        asyncio.run(manager.cleanup_all_tracked())
        assert clean(base)["removed_count"] == 0, "the parent lives"
        (base / "childs").write_text("x")
        manager.track_file(base / "childs")

    assert in_child(child, tmp_path) == 0, (tmp_path / "error").read_text()
    assert names(base) == {"parents", "childs"}
    # The child is dead; the parent's files are still the parent's.
    clean(base)
    assert names(base) == {"parents"}
    manager.close()
    assert names(base) == set()


def test_a_child_that_outlives_its_parent_does_not_keep_the_lease(base):
    with start(
        """
manager.track_file(made("left"))
up, begun = os.pipe()
if os.fork() == 0:
    os.close(1); os.close(2)
    os.write(begun, b"x")
    while not (base / "end").exists():
        time.sleep(0.05)
    os._exit(0)
os.read(up, 1)
ready()
""",
        base,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait(timeout=30)
        try:
            clean(base)
            assert names(base) == set()
        finally:
            (base / "end").touch()
        process.communicate(timeout=30)


def test_a_spawned_child_has_a_lease_of_its_own(base):
    ran(
        """
import multiprocessing, pickle, subprocess
manager.track_file(made("parents"))
copy = pickle.dumps(manager)
child = "import pickle,sys,os; m = pickle.loads(sys.stdin.buffer.read()); " \\
        "p = os.path.join(m.base_temp_dir, 'childs'); open(p, 'w').close(); m.track_file(p)"
subprocess.run([sys.executable, "-c", child], input=copy, check=True)
assert not (base / "childs").exists() and (base / "parents").exists()
""",
        base,
    )
    assert names(base) == set()


# -- the file ----------------------------------------------------------------------------------


def test_a_long_log_is_written_anew_with_what_still_counts(base):
    lease = Lease(FileOps(), str(base))
    for name in ("kept", "coming"):
        (base / name).write_text("x")
    lease.add(str(base / "kept"))
    (first,) = leases(base)
    for _ in range(3000):
        lease.add(str(base / "coming"))
        lease.drop(str(base / "coming"))
    (last,) = leases(base)
    assert last != first
    assert last.stat().st_size < 600_000
    found = os.stat(base / "kept")
    assert leased(FileOps(), str(base)) == {(found.st_dev, found.st_ino)}
    lease.close()


def test_a_lease_of_a_newer_version_is_left_alone(base, caplog):
    folder = base / ".lifecycle" / "leases"
    folder.mkdir(parents=True)
    (folder / "1-x.lease").write_text('{"lifecycle_lease":2}\n["+",1,2,"/x"]\n')
    clean(base)
    assert len(leases(base)) == 1
    assert "newer version" in caplog.text


@pytest.mark.parametrize("text", ["", '{"lifecycle_le', '{"lifecycle_lease":1}\n["+",1,'])
def test_a_torn_lease_lists_what_is_whole_in_it(base, text):
    folder = base / ".lifecycle" / "leases"
    folder.mkdir(parents=True)
    (folder / "1-x.lease").write_text(text)
    clean(base)
    assert leases(base) == []


def test_names_that_are_no_text_come_back_as_they_were(base):
    odd = os.fsencode(base) + b'/\xff"\\\n\xe2\x98\x83'
    with open(odd, "w"):
        pass
    lease = Lease(FileOps(), str(base))
    lease.add(os.fsdecode(odd))
    lease._close()
    (dead,) = [dict(it.entries) for it in dead_leases(FileOps(), str(base))]
    assert [os.fsencode(path) for path in dead] == [odd]


class _Full(FileOpsWrapper):
    """No space left, once it is told so."""

    full = False

    def around(self, method, proceed, args, kwargs):
        if self.full and method == "write":
            raise OSError(28, "No space left on device")
        return proceed(*args, **kwargs)


def test_a_lease_that_cannot_be_written_is_given_up_and_names_nothing(base, caplog):
    fs = _Full(FileOps())
    manager = FileCleanupManager(base, fs=fs)
    (base / "a").write_text("x")
    manager.track_file(base / "a")
    fs.full = True
    manager.untrack_file(base / "a")
    assert leases(base) == [], "it would name a file that is to stay"
    assert "no lease can be kept" in caplog.text
    (base / "b").write_text("x")
    manager.track_file(base / "b")
    asyncio.run(manager.cleanup_all_tracked())
    assert names(base) == {"a"}


def test_without_leases_nothing_is_written(base):
    manager = FileCleanupManager(base, leases=False)
    (base / "a").write_text("x")
    manager.track_file(base / "a")
    assert not (base / ".lifecycle").exists()
    manager.close()
