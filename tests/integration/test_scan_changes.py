"""What a pass makes of each kind of change to a file."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.model.file import FileFlag, Kind, LifecycleState
from tests.support import oracle
from tests.support.house import House

_OTHER = b"CONTENT"  # of the size of House.write's own


def test_a_first_pass_records_everything_there_is(house: House):
    house.write("a.txt", b"one")
    house.write("d/e/f.jpg", b"two")
    house.write("empty", b"")
    os.mkdir(house.path("hollow"))
    os.symlink("a.txt", house.path("link"))
    report = house.sync()
    assert set(house.records()) == {b"a.txt", b"d/e/f.jpg", b"empty", b"link"}
    house.check()
    assert (report.counts.files, report.counts.added, report.counts.updated) == (4, 4, 0)
    assert (report.hashes.hashed, report.removed, report.moved) == (3, 0, 0)
    assert house.repository.complete_generation == house.repository.generation == 1
    assert all(record.state is LifecycleState.UPLOADED for record in house.records().values())


def test_a_file_that_grows_is_updated_and_hashed_again(house: House):
    house.write("f")
    house.sync()
    before = house.record("f")
    with open(house.path("f"), "ab") as file:
        file.write(b" and more")
    report = house.sync()
    house.check()
    after = house.record("f")
    assert (after.file_id, after.version) == (before.file_id, before.version + 1)
    assert after.checksum != before.checksum
    assert (report.counts.updated, report.hashes.changed) == (1, 1)


def test_a_rewrite_of_the_same_size_with_its_mtime_restored_is_noticed(house: House):
    house.write("f")
    house.sync()
    before, status = house.record("f"), house.stat("f")
    house.write("f", _OTHER)
    house.keep_times("f", status)
    house.sync()
    house.check()
    after = house.record("f")
    assert (after.size, after.mtime_ns) == (before.size, before.mtime_ns)
    assert (after.file_id, after.version) == (before.file_id, before.version + 1)


def test_a_change_of_mode_keeps_version_and_checksum(house: House):
    house.write("f")
    house.sync()
    before = house.record("f")
    os.chmod(house.path("f"), 0o400)
    report = house.sync()
    house.check()
    after = house.record("f")
    assert (after.file_id, after.version, after.checksum, after.state_since_ns) == (
        before.file_id,
        before.version,
        before.checksum,
        before.state_since_ns,
    )
    assert report.hashes.changed == 0


def test_a_touch_makes_no_version(house: House):
    house.write("f")
    house.sync()
    before = house.record("f")
    os.utime(house.path("f"), ns=(1, 1_600_000_000_123_456_789))
    house.sync()
    house.check()
    after = house.record("f")
    assert (after.version, after.checksum) == (before.version, before.checksum)
    assert after.mtime_ns == 1_600_000_000_123_456_789


def test_a_truncated_file_is_updated(house: House):
    house.write("f")
    house.sync()
    os.truncate(house.path("f"), 0)
    house.sync()
    house.check()
    assert house.record("f").size == 0


@pytest.mark.parametrize("moment", [-1, 0, -(2**62), 2**33 * 10**9, 15_032_385_535 * 10**9])
def test_any_time_that_the_disk_can_hold_is_recorded(house: House, moment: int):
    house.write("f")
    try:
        os.utime(house.path("f"), ns=(moment, moment))
    except OSError:
        pytest.skip("not on this filesystem")
    house.pass_over()
    limit = 2**63 - 1
    assert house.record("f").mtime_ns == min(max(house.stat("f").st_mtime_ns, -limit - 1), limit)
    house.engine.registry.query("SELECT * FROM file_registry")


def test_a_deleted_file_keeps_its_record(house: House):
    house.write("f")
    house.write("g")
    house.sync()
    before = house.record("f")
    house.remove("f")
    report = house.sync()
    house.check()
    assert report.removed == 1
    after = house.by_id(before.file_id)
    assert (after.state, after.path, after.checksum) == (
        LifecycleState.DELETED,
        b"f",
        before.checksum,
    )
    assert after.state_since_ns > before.state_since_ns


def test_a_file_that_comes_back_after_its_deletion_was_recorded_is_another(house: House):
    house.write("f")
    house.sync()
    old = house.record("f").file_id
    house.remove("f")
    house.sync()
    house.write("f")
    house.sync()
    house.check()
    assert house.record("f").file_id != old
    assert house.by_id(old).state is LifecycleState.DELETED


def test_a_file_that_goes_and_comes_back_between_two_passes_stays_itself(house: House):
    house.write("f")
    house.sync()
    before = house.record("f").file_id
    house.remove("f")
    house.write("f", b"anew")
    house.sync()
    house.check()
    assert house.record("f").file_id == before


def test_a_folder_that_goes_takes_its_files_along(house: House):
    for number in range(10):
        house.write(f"d/e/{number}")
    house.write("keep")
    house.sync()
    ids = house.ids()
    os.rename(house.path("d"), house.base / "elsewhere")
    report = house.sync()
    house.check()
    assert report.removed == 10
    assert all(
        house.by_id(file_id).state is LifecycleState.DELETED
        for path, file_id in ids.items()
        if path != b"keep"
    )
    totals = house.engine.registry.directory_totals(house.repository.repository_id)
    assert (totals.directories, totals.files) == (1, 1)


# -- things that take each other's place -----------------------------------------------------


def _make_folder(path: bytes) -> None:
    os.mkdir(path)


def _make_full_folder(path: bytes) -> None:
    os.mkdir(path)
    with open(os.path.join(path, b"inside"), "wb") as file:
        file.write(b"inside")


def _make_symlink(path: bytes) -> None:
    os.symlink(b"nowhere", path)


def _make_fifo(path: bytes) -> None:
    os.mkfifo(path)


def _make_socket(path: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(os.path.dirname(path), os.O_PATH)
        made.bind(b"/proc/self/fd/%d/" % here + os.path.basename(path))
        os.close(here)


_MAKERS = [_make_folder, _make_full_folder, _make_symlink, _make_fifo, _make_socket]


def _clear(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            os.remove(os.path.join(path, name))
        os.rmdir(path)
    else:
        os.remove(path)


@pytest.mark.parametrize("make", _MAKERS)
def test_a_file_may_become_anything_else_and_a_file_again(house: House, make):
    house.write("d/f", b"first")
    house.sync()
    _clear(house.path("d/f"))
    make(house.path("d/f"))
    house.sync()
    house.check()
    _clear(house.path("d/f"))
    house.write("d/f", b"second")
    house.sync()
    house.check()
    house.sync(wait=False)
    house.check()
    assert set(house.records()) == {b"d/f"}


@pytest.mark.parametrize("make", _MAKERS[2:])
def test_a_folder_may_become_anything_else_and_a_folder_again(house: House, make):
    house.write("d/e/f", b"first")
    house.write("d/g", b"first")
    house.sync()
    os.rename(house.path("d"), house.base / "old")
    make(house.path("d"))
    house.sync()
    house.check()
    _clear(house.path("d"))
    os.rename(house.base / "old", house.path("d"))
    house.sync()
    house.check()


def test_a_file_that_becomes_a_symlink_has_no_checksum_any_more(house: House):
    house.write("f")
    house.sync()
    old = house.record("f").file_id
    house.remove("f")
    os.symlink("f2", house.path("f"))
    house.sync()
    after = house.record("f")
    assert (after.file_id, after.kind, after.checksum) == (old, Kind.SYMLINK, None)


def test_a_file_replaced_by_a_folder_is_deleted(house: House):
    house.write("f")
    house.sync()
    old = house.record("f").file_id
    house.remove("f")
    os.mkdir(house.path("f"))
    house.sync()
    assert house.by_id(old).state is LifecycleState.DELETED


# -- links, and odd things -------------------------------------------------------------------


def test_hard_links_are_two_records_with_one_content(house: House):
    house.write("a")
    os.link(house.path("a"), house.path("b"))
    house.sync()
    house.check()
    assert house.record("a").file_id != house.record("b").file_id
    assert house.record("a").nlink == 2


def test_a_write_through_one_hard_link_shows_in_both_records(house: House):
    house.write("d/a")
    os.mkdir(house.path("e"))
    os.link(house.path("d/a"), house.path("e/b"))
    house.sync()
    house.write("d/a", b"changed through a")
    house.sync()
    house.check()
    assert house.record("d/a").checksum == house.record("e/b").checksum


def test_a_hard_link_that_goes_leaves_the_others_record_alone(house: House):
    for number in range(50):  # of several milliseconds, so that their ids differ in time
        house.write(f"d/{number}", b"%d" % number)
        os.makedirs(house.path("e"), exist_ok=True)
        os.link(house.path(f"d/{number}"), house.path(f"e/{number}"))
    house.sync()
    before = house.ids()
    for number in range(10):
        house.remove(f"d/{number}")
    house.sync()
    house.check()
    assert house.ids() == {
        path: file_id
        for path, file_id in before.items()
        if path not in {b"d/%d" % number for number in range(10)}
    }


def test_symlinks_are_recorded_and_never_followed(house: House):
    outside = house.base / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    house.write("d/f")
    os.symlink(outside, house.path("to-folder"))
    os.symlink(outside / "secret", house.path("to-file"))
    os.symlink(".", house.path("d/loop"))
    os.symlink("self", house.path("self"))
    os.symlink("/", house.path("to-top"))
    house.sync()
    house.check()
    assert set(house.records()) == {
        b"d/f",
        b"d/loop",
        b"self",
        b"to-file",
        b"to-folder",
        b"to-top",
    }
    assert house.record("to-file").size == len(os.fsencode(outside / "secret"))


def test_a_symlink_that_points_elsewhere_is_updated(house: House):
    os.symlink("one", house.path("link"))
    house.sync()
    before = house.record("link")
    house.remove("link")
    os.symlink("two", house.path("link"))
    house.sync()
    house.check()
    assert house.record("link").file_id == before.file_id


def test_a_sparse_file_is_hashed_as_it_reads(house: House):
    with open(house.path("f"), "wb") as file:
        file.truncate(3 << 20)
    house.sync()
    house.check()


@pytest.mark.parametrize(
    "name",
    [
        b"line\nbreak",
        b"\xff\xfe not utf-8",
        b"tab\t",
        "ünïcödé 🐘".encode(),
        b" space",
        b"trailing ",
        b"*?[x]",
        b"quote'\"",
        b"back\\slash",
        b"-rf",
        b"\x01\x7f",
        b"%s%n",
        b"x" * 255,
    ],
)
def test_any_name_is_a_name(house: House, name: bytes):
    house.write(os.path.join(name, name))
    house.write(name + b"2" if len(name) < 255 else b"2")
    house.sync()
    house.check()
    record = house.record(os.path.join(name, name))
    assert house.engine.find_record(os.fsdecode(house.path(record.path))).file_id == record.file_id
    rows = house.engine.registry.query("SELECT file_path FROM file_registry")[1]
    for (path,) in rows:
        assert path.encode()  # text that is valid UTF-8
    house.rename(name, b"renamed")
    house.sync()
    house.check()
    assert house.record(b"renamed/" + name).file_id == record.file_id


def test_names_that_differ_by_case_or_by_composition_are_different_files(house: House):
    names = ["a.txt", "A.txt", "A.TXT", "\u00e9", "e\u0301"]
    for name in names:
        house.write(name, name.encode())
    house.sync()
    house.check()
    assert len(house.ids()) == len(names)
    house.rename("a.txt", "aa.txt")
    os.rename(house.path("A.txt"), house.path("a.txt"))
    ids = house.ids()
    house.sync()
    house.check()
    # a.txt is a tracked path, so it keeps its id; aa.txt has the inode of what was there.
    assert house.record("a.txt").file_id == ids[b"a.txt"]


def test_a_rename_that_only_changes_the_case_keeps_the_id(house: House):
    house.write("d/photo.JPG")
    house.sync()
    before = house.record("d/photo.JPG")
    house.rename("d/photo.JPG", "d/Photo.jpg")
    house.sync()
    house.check()
    assert house.record("d/Photo.jpg").file_id == before.file_id


def test_a_deep_tree_beyond_the_longest_path_is_recorded(house: House):
    here = os.getcwd()
    os.chdir(house.root)
    try:
        for _ in range(25):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        with open("f", "wb") as file:
            file.write(b"deep")
    finally:
        os.chdir(here)
    house.sync()
    (record,) = house.records().values()
    assert len(record.path) > 5_000
    assert record.checksum is not None
    house.sync(wait=False)
    assert next(iter(house.records().values())).file_id == record.file_id
    # So that pytest can clear up: nothing takes a path that long.
    os.rename(house.path("d" * 200), house.base / "x")
    house.engine.sync(house.engine.roots.all())


def test_special_files_are_counted_and_skipped(house: House):
    house.write("f")
    _make_fifo(house.path("fifo"))
    _make_socket(house.path("socket"))
    house.sync()
    house.check()
    totals = house.engine.registry.directory_totals(house.repository.repository_id)
    assert (totals.files, totals.special) == (1, 2)


def test_own_files_are_never_subjects(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    made = House(tmp_path, root=root, database_path=root / "deep" / "registry.db")
    made.write("deep/f")
    for _ in range(2):
        made.sync()
    assert set(made.records()) == {b"deep/f"}
    made.engine.close()


# -- hashing ---------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path) -> Iterator[tuple[House, FixedClock]]:
    """A root with a file that was written just now, by a clock that stands still."""
    clock = FixedClock(time.time_ns())
    made = House(tmp_path, clock=clock)
    made.write("f", b"one")
    yield made, clock
    made.engine.close()


def test_a_racy_file_is_hashed_again_although_its_tuple_stays(fresh):
    house, clock = fresh
    house.sync(wait=False)
    record = house.record("f")
    assert record.flags & FileFlag.RACY and record.hash_due
    assert record.checksum is not None
    clock.advance(10)
    report = house.sync(wait=False)
    assert report.hashes.hashed == 1
    after = house.record("f")
    assert not after.flags & FileFlag.RACY and not after.hash_due
    clock.advance(10)
    report = house.sync(wait=False)
    assert (report.hashes.hashed, report.counts.unchanged_directories) == (0, 1)


def test_a_write_within_the_clocks_grain_is_found_by_the_next_pass(fresh):
    house, clock = fresh
    house.sync(wait=False)
    with house.engine.registry._db.write() as connection:
        # What the registry would hold, had the content been another when it was read: a store into
        # a mapped page right after the look changes no time.
        connection.execute("UPDATE files SET checksum = zeroblob(32)")
    clock.advance(10)
    house.sync(wait=False)
    house.check()
    assert house.record("f").version == 2


def test_without_hashing_the_registry_is_in_step_and_hashes_follow_later(house: House):
    for number in range(5):
        house.write(f"{number}")
    house.sync(hashes=False)
    house.check(hashes=False)
    assert all(record.checksum is None for record in house.records().values())
    assert house.engine.registry.to_hash_totals(house.repository.repository_id)[0] == 5
    house.sync()
    house.check()


def test_damage_without_a_write_is_suspect_until_a_person_decides(house: House):
    house.write("f", b"sound")
    house.sync()
    good = house.record("f").checksum
    with house.engine.registry._db.write() as connection:
        # The disk cannot be made to rot, so the registry remembers something else.
        connection.execute("UPDATE files SET checksum = zeroblob(32)")
    report = house.sync(scrub=True)
    assert report.hashes.suspect == 1
    assert oracle.flagged(house.engine, FileFlag.SUSPECT) == [b"f"]
    assert house.record("f").checksum == bytes(32)
    house.sync(scrub=True)
    assert oracle.flagged(house.engine, FileFlag.SUSPECT) == [b"f"]
    house.engine.accept(os.fsdecode(house.path("f")))
    house.sync()
    house.check()
    assert oracle.flagged(house.engine, FileFlag.SUSPECT) == []
    assert house.record("f").checksum == good


def test_a_suspect_file_that_is_written_is_suspect_no_more(house: House):
    house.write("f", b"sound")
    house.sync()
    with house.engine.registry._db.write() as connection:
        connection.execute("UPDATE files SET checksum = zeroblob(32)")
    house.sync(scrub=True)
    house.write("f", b"written anew")
    house.sync()
    house.check()
    assert oracle.flagged(house.engine, FileFlag.SUSPECT) == []
