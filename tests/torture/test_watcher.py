"""What is known to make watchers lose track, by name: after it the registry is the disk."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.service import pace
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.watch_health import WatchMode
from lifecycle_sync.service.watch_keeper import FollowOptions
from lifecycle_sync.service.watching import Watching
from tests.support import oracle
from tests.support.watched import PATIENCE_SECONDS, Watched, until

pytestmark = pytest.mark.torture


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    house = Watched(tmp_path)
    yield house
    house.engine.close()


def becomes_equal(watched: Watched) -> None:
    """Once what is polled was looked at, too."""

    watching = watched.watching
    assert watching is not None

    def equal() -> bool:
        watched.follower.look_soon()
        watching.wait_settled(PATIENCE_SECONDS)
        try:
            oracle.assert_equal_to_disk(watched.engine, watched.repository)
        except (AssertionError, FileNotFoundError):
            return False
        return True

    until(equal)


def test_a_tree_of_200_directories_is_copied_in_three_times(watched):
    for number in range(200):
        watched.write(f"source/{number % 14}/{number}/file", b"%d" % number)
    with watched.following():
        for copy in range(3):
            shutil.copytree(watched.path("source"), watched.path(f"copy-{copy}"))
        watched.assert_equal()


def test_a_leaf_is_written_right_after_its_directories_were_made(watched):
    with watched.following():
        for number in range(100):
            watched.write(f"a/{number}/b/c/d/leaf", b"%d" % number)
        watched.assert_equal()


@pytest.mark.usefixtures("at_length")
def test_the_reader_is_suspended_while_20_000_files_and_a_late_directory_are_made(watched):
    with watched.following():
        watched.faults.suspend()
        os.mkdir(watched.path("many"))
        for number in range(20_000):
            with open(watched.path(f"many/{number}"), "wb"):
                pass
        watched.write("late/directory/file")
        watched.faults.resume()
        watched.assert_equal()
        assert watched.health.overflows >= 1
        assert watched.health.recrawls >= 2
        note = watched.engine.registry.watch_note(watched.repository.repository_id)
        assert not note.needs_recrawl


def test_the_queue_is_full_again_while_all_is_watched_anew(watched):
    for number in range(300):
        watched.write(f"{number}/file")
    with watched.following():
        for turn in range(3):
            watched.faults.suspend()
            for number in range(17_000):
                # Events of two files in turn are not made one.
                os.utime(watched.path(f"{number % 2}/file"))
            watched.write(f"{turn}/unseen/file")
            watched.faults.resume()
        watched.assert_equal()
        assert watched.health.overflows >= 1


def test_a_limit_of_60_watches_with_600_directories_is_raised(watched):
    watched.faults.watch_limit = 60
    for number in range(600):
        watched.write(f"{number % 10}/{number}/file")
    with watched.following():
        assert not watched.health.healthy
        (alarm,) = watched.health.alarms
        assert alarm.name == "watch-limit"
        assert "max_user_watches" in alarm.remedy
        assert watched.health.polled_directories > 500
        for number in range(0, 600, 7):
            watched.write(f"{number % 10}/{number}/other")
        watched.write("new/below/what/is/polled")
        shutil.rmtree(watched.path("3/33"))
        becomes_equal(watched)
        watched.faults.watch_limit = None
        until(lambda: watched.health.mode is WatchMode.WATCHING)
        assert watched.health.alarms == ()
        watched.write("5/15/now/watched")
        watched.assert_equal()


def test_no_watch_at_all_can_be_had(watched):
    watched.faults.watch_limit = 0
    watched.write("a/file")
    with watched.following():
        assert [alarm.name for alarm in watched.health.alarms] == ["watch-limit"]
        watched.write("a/other")
        watched.write("b/other")
        watched.remove("a/file")
        becomes_equal(watched)


def test_no_queue_can_be_had_and_then_there_is_one(watched):
    watched.faults.exhausted = True
    watched.write("a/file")
    with watched.following():
        assert not watched.health.healthy
        assert [alarm.name for alarm in watched.health.alarms] == ["no-queue"]
        watched.write("a/other")
        until(lambda: b"a/other" in oracle.records(watched.engine))
        watched.faults.exhausted = False
        until(lambda: watched.health.mode is WatchMode.WATCHING)
        assert watched.health.alarms == ()
        watched.write("a/third")
        watched.assert_equal()


def test_a_directory_is_renamed_twice_with_writes_between(watched):
    watched.write("A/sub/file")
    with watched.following():
        kept = oracle.records(watched.engine)[b"A/sub/file"].file_id
        os.rename(watched.path("A"), watched.path("B"))
        watched.write("B/sub/between")
        os.rename(watched.path("B"), watched.path("C"))
        watched.write("C/after")
        watched.assert_equal()
        assert oracle.records(watched.engine)[b"C/sub/file"].file_id == kept


def test_a_directory_is_moved_out_written_to_and_moved_back(watched):
    watched.write("d/sub/file")
    outside = watched.base / "outside"
    with watched.following():
        os.rename(watched.path("d"), outside)
        (outside / "sub/file").write_text("written outside")
        (outside / "sub/new").write_text("made outside")
        os.rename(outside, watched.path("d"))
        watched.assert_equal()
        os.rename(watched.path("d"), outside)
        watched.assert_equal()
        (outside / "unseen").write_text("not in the root")
        os.rename(outside, watched.path("e"))
        watched.write("e/sub/more")
        watched.assert_equal()


def test_a_directory_is_removed_made_again_and_written_to_later(watched):
    watched.write("d/sub/file")
    with watched.following():
        shutil.rmtree(watched.path("d"))
        os.mkdir(watched.path("d"))
        watched.settle()
        watched.write("d/new")
        watched.assert_equal()


def test_a_file_is_replaced_by_a_symlink_and_a_directory_and_back(watched):
    watched.write("file")
    watched.write("target")
    with watched.following():
        watched.remove("file")
        os.symlink("target", watched.path("file"))
        watched.assert_equal()
        watched.remove("file")
        watched.write("file/inside")
        watched.assert_equal()
        shutil.rmtree(watched.path("file"))
        watched.write("file", "again")
        watched.assert_equal()


def test_directories_are_moved_into_another_and_all_out_again(watched):
    for number in range(20):
        watched.write(f"d1/{number}/file", b"1")
        watched.write(f"d2/x{number}/file", b"2")
    os.mkdir(watched.path("d3"))
    with watched.following():
        before = {record.file_id for record in oracle.records(watched.engine).values()}
        subprocess.run(["sh", "-c", "mv d1 d2 d3; mv d3/* ."], cwd=watched.root, check=True)
        watched.write("d1/7/more")
        watched.assert_equal()
        after = {record.file_id for record in oracle.records(watched.engine).values()}
        assert before < after


def test_a_thousand_atomic_saves_are_one_record(watched):
    watched.write("document.txt", "0")
    with watched.following():
        (kept,) = (record.file_id for record in oracle.records(watched.engine).values())
        for number in range(1_000):
            watched.save("document.txt", f"content {number}")
        watched.assert_equal()
        (record,) = oracle.records(watched.engine).values()
        assert record.file_id == kept
        assert oracle.deleted(watched.engine) == {}


def test_a_slow_writer_is_followed_and_hashed_when_it_is_done(watched):
    with watched.following():
        with open(watched.path("slow"), "wb", buffering=0) as file:
            for number in range(20):
                file.write(b"%d" % number * 1_000)
                time.sleep(0.03)
            watched.settle()
            assert oracle.records(watched.engine)[b"slow"].size == file.tell()
            file.write(b"the end")
        watched.assert_equal()


def test_a_store_through_a_mapping_is_hashed_though_the_tuple_is_equal(watched):
    watched.write("mapped", b"a" * 4096)
    with watched.following():
        before = watched.stat("mapped")
        with open(watched.path("mapped"), "r+b") as file, mmap.mmap(file.fileno(), 4096) as view:
            view[100] = ord("b")
            view.flush()
        watched.keep_times("mapped", before)
        watched.assert_equal()
        assert oracle.records(watched.engine)[b"mapped"].version == 2


def test_a_write_that_leaves_the_whole_tuple_equal_is_found_by_its_event(watched):
    """What only the event tells: the records are made to agree with the disk without a hash."""
    watched.write("file", b"one")
    with watched.following():
        record = oracle.records(watched.engine)[b"file"]
        watched.write("file", b"two")
        now = watched.stat("file")
        with watched.engine.registry._db.write() as connection:
            connection.execute(
                "UPDATE files SET mtime_ns = ?, ctime_ns = ? WHERE file_id = ?",
                (now.st_mtime_ns, now.st_ctime_ns, record.file_id),
            )
        watched.assert_equal()


def test_a_rewrite_of_equal_size_with_its_time_restored_is_seen(watched):
    watched.write("file", b"one")
    with watched.following():
        before = watched.stat("file")
        watched.write("file", b"two")
        watched.keep_times("file", before)
        watched.assert_equal()


def test_a_write_through_one_hard_link_is_seen_at_the_others(watched):
    watched.write("a/file", b"one")
    os.mkdir(watched.path("b"))
    with watched.following():
        os.link(watched.path("a/file"), watched.path("b/link"))
        watched.assert_equal()
        watched.write("b/link", b"longer")
        watched.assert_equal()
        os.chmod(watched.path("a/file"), 0o600)
        watched.assert_equal()
        watched.remove("b/link")
        watched.assert_equal()


def test_a_name_that_goes_before_the_first_look_has_come_to_it_leaves_the_others_right(watched):
    watched.write("a/file", b"one")
    for number in range(100):
        watched.write(f"b/{number}/file")
    os.mkdir(watched.path("z"))
    watched.sync()
    os.link(watched.path("a/file"), watched.path("z/link"))

    class Remover(NoProgress):
        def advance(self, files: int, bytes_: int) -> None:
            # After the first folders, of which `a` is one and `z` is none.
            if os.path.exists(watched.path("z/link")):
                watched.remove("z/link")

    with Watching(watched.engine, FollowOptions(debounce_seconds=0.05)) as watching:
        watched.watching = watching
        report = watching.follow(watched.repository, progress=Remover())
        assert report is not None and report.counts.link_folders == {b"a"}
        until(lambda: oracle.records(watched.engine)[b"a/file"].nlink == 1)
        watched.assert_equal()


def test_a_name_that_goes_while_a_pass_has_read_another_leaves_it_right(watched):
    # The one that reads no further than what is asked for.
    watched.reopen(walker="python")
    watched.write("a/file", b"one")
    os.mkdir(watched.path("z"))
    os.link(watched.path("a/file"), watched.path("z/link"))
    for number in range(100):
        watched.write(f"b/{number}/file")
    watched.sync()

    class Remover(NoProgress):
        def advance(self, files: int, bytes_: int) -> None:
            if os.path.exists(watched.path("z/link")):
                watched.remove("z/link")

    with watched.following():
        report = watched.follower.look_at_all(progress=Remover())
        # It had read of `a` by then, and of `z` only after.
        assert report.removed + report.missing == 1
        assert report.counts.link_folders == set()
        until(lambda: oracle.records(watched.engine)[b"a/file"].nlink == 1)
        watched.assert_equal()


def test_what_a_pass_finds_of_links_is_told_to_other_roots(watched, monkeypatch):
    # What is new and has several names is looked at again in any case.
    monkeypatch.setattr(pace, "_LINKS_SECONDS", (3_600.0,))
    watched.write("a/file", b"one")
    (watched.base / "other").mkdir()
    os.link(watched.path("a/file"), watched.base / "other/link")
    first, other = watched.add(), watched.engine.add_root(watched.base / "other").repository
    watched.debounce_seconds = 60.0
    with watched.following(first, other) as watching:
        watched.remove("a/file")
        # The pass takes what the watcher had to say with it.
        watched.follower.look_at_all()
        there = watching.follower(other.repository_id)
        assert there is not None
        there.look_soon()
        until(lambda: oracle.records(watched.engine, other)[b"link"].nlink == 1)


def test_a_file_and_a_directory_are_swapped(watched):
    watched.write("one", b"file")
    watched.write("two/inside", b"inside")
    with watched.following():
        for _ in range(5):
            os.rename(watched.path("one"), watched.path("three"))
            os.rename(watched.path("two"), watched.path("one"))
            os.rename(watched.path("three"), watched.path("two"))
        watched.assert_equal()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Readme", b"README"),
        ("caf\u00e9".encode(), "cafe\u0301".encode()),
        (b"plain", b"in\xff\xfevalid"),
        (b"plain", b"with\nnewline"),
        (b"plain", b"n" * 255),
    ],
)
def test_names_of_every_kind_are_followed(watched, old, new):
    watched.write(old)
    watched.write(b"d-" + old[:200] + b"/inside")
    with watched.following():
        kept = oracle.records(watched.engine)[old].file_id
        watched.rename(old, new)
        os.rename(watched.path(b"d-" + old[:200]), watched.path(b"d-" + new[:200]))
        watched.write(b"d-" + new[:200] + b"/more")
        watched.assert_equal()
        assert oracle.records(watched.engine)[new].file_id == kept
        watched.write(old, b"a twin")
        watched.assert_equal()


def test_a_path_longer_than_the_kernel_takes_is_followed(watched):
    with watched.following():
        here = os.open(watched.root, os.O_RDONLY)
        for _ in range(30):
            os.mkdir(b"d" * 200, dir_fd=here)
            there = os.open(b"d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = there
        fd = os.open(b"leaf", os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(fd, b"deep")
        os.close(fd)
        watched.settle()
        path = b"/".join([b"d" * 200] * 30) + b"/leaf"
        assert len(path) > 4096
        assert oracle.records(watched.engine)[path].size == 4
        fd = os.open(b"leaf", os.O_WRONLY | os.O_APPEND, dir_fd=here)
        os.write(fd, b"er")
        os.close(fd)
        os.close(here)
        watched.settle()
        assert oracle.records(watched.engine)[path].size == 6


def test_the_root_is_renamed_and_comes_back(watched):
    for number in range(50):
        watched.write(f"{number}")
    away = watched.base / "away"
    with watched.following():
        os.rename(watched.root, away)
        watched.follower.look_soon()
        until(lambda: watched.health.mode is WatchMode.OFFLINE)
        assert [alarm.name for alarm in watched.health.alarms] == ["root"]
        (away / "while away").write_text("new")
        assert len(oracle.records(watched.engine)) == 50
        os.rename(away, watched.root)
        until(lambda: watched.health.mode is not WatchMode.OFFLINE)
        watched.assert_equal()
        assert len(oracle.records(watched.engine)) == 51


def test_the_root_comes_back_empty_or_as_another_folder(watched):
    for number in range(50):
        watched.write(f"{number}")
    away = watched.base / "away"
    with watched.following():
        os.rename(watched.root, away)
        watched.root.mkdir()
        watched.follower.look_soon()
        until(lambda: watched.health.mode is WatchMode.OFFLINE)
        watched.write("not ours")
        watched.follower.look_soon()
        time.sleep(0.3)
        assert len(oracle.records(watched.engine)) == 50
        watched.remove("not ours")
        watched.root.rmdir()
        os.rename(away, watched.root)
        until(lambda: watched.health.mode is not WatchMode.OFFLINE)
        watched.assert_equal()


def test_everything_vanishes_at_once_and_is_held_for_a_person(watched):
    for number in range(50):
        watched.write(f"{number % 5}/{number}")
    with watched.following():
        for number in range(5):
            shutil.rmtree(watched.path(f"{number}"))
        watched.settle()
        assert [alarm.name for alarm in watched.health.alarms] == ["held"]
        assert len(oracle.deleted(watched.engine)) == 0
        watched.engine.accept(watched.root)
        watched.write("more")
        watched.assert_equal()
        assert len(oracle.deleted(watched.engine)) == 50
        assert watched.health.alarms == ()


def test_what_is_deleted_little_by_little_is_held_as_if_it_were_at_once(watched):
    for number in range(60):
        watched.write(f"{number}")
    with watched.following():
        for number in range(60):
            watched.remove(f"{number}")
            if number % 10 == 9:
                watched.settle()
        watched.settle()
        assert [alarm.name for alarm in watched.health.alarms] == ["held"]
        assert len(oracle.deleted(watched.engine)) < 40


class _Failing(FileOps):
    """Listing fails below one directory, as a disk that dies does."""

    def __init__(self) -> None:
        self.broken: set[int] = set()

    def listdir(self, fd: int) -> list[str]:  # type: ignore[override]
        if os.fstat(fd).st_ino in self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().listdir(fd)


def test_a_directory_that_cannot_be_listed_keeps_its_records(tmp_path):
    fs = _Failing()
    watched = Watched(tmp_path, fs=fs)
    watched.write("bad/file")
    watched.write("bad/sub/file")
    watched.write("good/file")
    with watched.following():
        fs.broken.add(watched.stat("bad").st_ino)
        watched.write("bad/more")
        watched.write("good/more")
        watched.settle()
        found = oracle.records(watched.engine)
        assert found.keys() == {b"bad/file", b"bad/sub/file", b"good/file", b"good/more"}
        fs.broken.clear()
        watched.write("bad/third")
        watched.assert_equal()
    watched.engine.close()


def test_it_is_killed_in_the_recrawl_while_files_change(watched):
    for number in range(400):
        watched.write(f"{number % 40}/{number}")
    watched.add()
    watched.engine.close()
    code = """
import sys
from tests.support.watched import Watched
from pathlib import Path
watched = Watched(Path(sys.argv[1]))
with watched.following() as watching:
    print("follows", flush=True)
    watching.wait_settled(3600)
    import time; time.sleep(3600)
"""
    for turn in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(watched.base)],
            cwd=Path(__file__).resolve().parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        if turn % 2:
            assert process.stdout is not None
            assert process.stdout.readline() == "follows\n"
        else:
            time.sleep(0.25 + 0.1 * turn)
        for number in range(60):
            watched.write(f"{number % 40}/{turn}-{number}")
        shutil.rmtree(watched.path(f"{turn}"))
        process.kill()
        process.communicate()
    watched.reopen()
    with watched.following():
        watched.assert_equal()


def test_hashing_a_thousand_files_causes_no_events(watched):
    for number in range(1_000):
        watched.write(f"{number % 10}/{number}", os.urandom(2_000))
    with watched.following():
        before = watched.health.events
        with watched.engine.registry._db.write() as connection:
            connection.execute("UPDATE files SET hash_due = 1")
        assert watched.watching is not None
        watched.watching._hashing.wake(watched.repository.repository_id)
        assert watched.watching.wait_settled(PATIENCE_SECONDS)
        root = watched.repository.repository_id
        assert watched.engine.registry.to_hash_totals(root) == (0, 0)
        assert watched.health.events == before


def test_a_registry_inside_its_root_does_not_set_itself_off(tmp_path):
    watched = Watched(tmp_path / "outer", database_path=tmp_path / "outer/root/registry.db")
    watched.write("file")
    with watched.following():
        watched.write("other")
        watched.settle()
        assert oracle.records(watched.engine).keys() == {b"file", b"other"}
        looks = watched.health.looks
        time.sleep(6 * watched.debounce_seconds)
        watched.settle()
        assert watched.health.looks - looks <= 2
    watched.engine.close()


def test_a_record_that_goes_is_deleted_and_not_forgotten(watched):
    watched.write("a/file")
    watched.write("b/file")
    with watched.following():
        shutil.rmtree(watched.path("a"))
        watched.assert_equal()
        (record,) = oracle.deleted(watched.engine).values()
        assert (record.path, record.state) == (b"a/file", LifecycleState.DELETED)
