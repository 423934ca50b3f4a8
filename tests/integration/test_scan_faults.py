"""What goes wrong at any step of a pass leaves a registry that the next pass makes right."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import apsw
import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, StorageFullError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.operation import RunStatus
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, FileOpsWrapper, Proceed, fail
from tests.support import chaos, oracle
from tests.support.house import House
from tests.support.tripwire import Action, Tripwire

_READS_MIN = 40
_SECRET = b"of no concern to anybody"
_SECRET_HASH = hashlib.sha256(_SECRET).digest()


class _Course:
    """A small tree that is set up anew, by changes in place, before each faulted pass."""

    def __init__(self, house: House, wire: Tripwire) -> None:
        self.house = house
        self.wire = wire
        self.outside = house.base / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(_SECRET)
        self.round = 0

    def settle(self) -> dict[bytes, chaos.Known]:
        """Bring the tree into its first state, and the registry in step with it."""
        self.wire.arm()
        self.round += 1
        house, mark = self.house, b"%d" % self.round
        for path in ("g", "d", "moved", "new"):
            where = house.path(path)
            if os.path.isdir(where) and not os.path.islink(where):
                shutil.rmtree(os.fsdecode(where))
            elif os.path.lexists(where):
                os.remove(where)
        for path in ("a", "b", "i", "j", "link"):
            if os.path.lexists(house.path(path)):
                house.remove(path)
        for path in ("a", "b", "d/c", "g/h", "i"):
            house.write(path, path.encode() + mark)
        os.symlink("a", house.path("link"))
        report = house.pass_over()
        if report.verdict is not None:
            house.engine.accept(house.root)
            house.pass_over()
        return chaos.known(house.records(), oracle.disk(house.root))

    def change(self) -> None:
        """One change of each kind."""
        house = self.house
        house.write("a", b"changed %d" % self.round)
        house.remove("b")
        house.rename("d", "moved")
        house.rename("i", "j")
        house.write("new/k", b"new %d" % self.round)

    def finish(self, before: dict[bytes, chaos.Known]) -> None:
        """One clean pass, and the registry equals the disk."""
        self.wire.arm()
        self.house.sync(wait=False)
        self.house.check()
        records = self.house.records()
        assert _SECRET_HASH not in {record.checksum for record in records.values()}
        after = chaos.known(records, oracle.disk(self.house.root))
        chaos.assert_ids_follow_the_rules(before, after, seen_whole=False)

    def passes(self, action: Action) -> Iterator[tuple[int, dict[bytes, chaos.Known]]]:
        """For every read of a pass: the number of one, and what was known before, once there has
        been a pass in which `action` happened right before it."""
        for nth in count(1):
            before = self.settle()
            self.change()
            self.wire.arm(action, nth)
            self.house.engine.sync([self.house.repository])
            if not self.wire.sprung:
                # How often hashing looks depends on what is racy, so the end is where it is.
                assert nth > _READS_MIN
                return
            yield nth, before


@pytest.fixture
def course(tmp_path) -> Iterator[_Course]:
    wire = Tripwire(FileOps())
    house = House(tmp_path, fs=wire)
    yield _Course(house, wire)
    house.engine.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOENT, errno.ESTALE])
def test_an_error_at_any_read_of_a_pass_costs_no_record(course: _Course, code: int):
    house = course.house
    for nth, before in course.passes(fail(code)):
        there = oracle.disk(house.root, hashes=False)
        for path, known in before.items():
            if path in there:
                state = house.by_id(known.file_id).state
                assert state is not LifecycleState.DELETED, (nth, path)
        course.finish(before)


# -- what changes while it is looked at ------------------------------------------------------


def _vanish(course: _Course) -> None:
    course.house.remove("g/h")


def _change(course: _Course) -> None:
    course.house.write("g/h", b"written in the middle")


def _rewrite_in_place(course: _Course) -> None:
    status = course.house.stat("g/h")
    course.house.write("g/h", b"#" * status.st_size)
    course.house.keep_times("g/h", status)


def _save(course: _Course) -> None:
    course.house.save("g/h", b"saved in the middle")


def _change_the_mode(course: _Course) -> None:
    os.chmod(course.house.path("g/h"), 0o640)


def _link(course: _Course) -> None:
    os.link(course.house.path("g/h"), course.house.path("moved/link"))


def _become_a_symlink(course: _Course) -> None:
    course.house.remove("g/h")
    os.symlink(course.outside / "secret", course.house.path("g/h"))


def _become_a_fifo(course: _Course) -> None:
    course.house.remove("g/h")
    os.mkfifo(course.house.path("g/h"))


def _become_a_folder(course: _Course) -> None:
    course.house.remove("g/h")
    course.house.write("g/h/x", b"x")


def _lose_the_folder(course: _Course) -> None:
    shutil.rmtree(os.fsdecode(course.house.path("g")))


def _rename_the_folder(course: _Course) -> None:
    course.house.rename("g", "moved/elsewhere")


def _swap_the_folder_for_a_symlink(course: _Course) -> None:
    shutil.rmtree(os.fsdecode(course.house.path("g")))
    os.symlink(course.outside, course.house.path("g"))


def _swap_the_folder_for_a_file(course: _Course) -> None:
    shutil.rmtree(os.fsdecode(course.house.path("g")))
    course.house.write("g", b"g")


def _swap_the_folder_for_another(course: _Course) -> None:
    os.rename(course.house.path("g"), course.house.path("moved/old g"))
    course.house.write("g/h", b"of another folder")
    course.house.write("g/new", b"of another folder")


def _appear(course: _Course) -> None:
    course.house.write("a new folder/a new file", b"new")
    course.house.write("g/a new file", b"new")


_EVENTS = [
    _vanish,
    _change,
    _rewrite_in_place,
    _save,
    _change_the_mode,
    _link,
    _become_a_symlink,
    _become_a_fifo,
    _become_a_folder,
    _lose_the_folder,
    _rename_the_folder,
    _swap_the_folder_for_a_symlink,
    _swap_the_folder_for_a_file,
    _swap_the_folder_for_another,
    _appear,
]


@pytest.mark.parametrize("event", _EVENTS)
def test_whatever_changes_at_any_read_of_a_pass_the_next_one_gets_it_right(
    course: _Course, event: Callable[[_Course], None]
):
    for _nth, before in course.passes(partial(event, course)):
        course.finish(before)
        assert (course.outside / "secret").read_bytes() == _SECRET


# -- listings that fail for longer -----------------------------------------------------------


def _in_folder(house: House, folder: str) -> Callable[[str, dict[str, Any]], bool]:
    """Whether a call is on the descriptor of a folder of the tree."""
    path = os.fsdecode(house.path(folder)).rstrip("/")

    def matches(_method: str, arguments: dict[str, Any]) -> bool:
        return os.readlink(f"/proc/self/fd/{arguments['fd']}") == path

    return matches


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_folder_that_cannot_be_listed_keeps_all_that_lies_below_it(house: House, code: int):
    for path in ("d/f", "d/e/f", "d/e/deeper/f", "other/f", "other/g", "d2/f", "d/", "e"):
        house.write(path + "x", path.encode())
    house.sync()
    before = house.ids()
    fault = Fault(fail(code), "listdir", where=_in_folder(house, "d"), lasting=True)
    house.reopen(fs=FaultyFileOps(FileOps(), fault))
    house.remove("other/gx")
    shutil.rmtree(os.fsdecode(house.path("d/e")))
    house.write("other/new")
    for _ in range(2):
        report = house.sync(wait=False)
        assert report.counts.failed_directories == 1
    # What is not below it is in step; what is below it stands as it was.
    assert set(house.ids()) == {*before, b"other/new"} - {b"other/gx"}
    totals = house.engine.registry.directory_totals(house.repository.repository_id)
    assert totals.failed == ((b"d", os.strerror(code)),)
    house.reopen()
    house.sync()
    house.check()
    assert house.ids().keys() == {b"d/fx", b"other/fx", b"d2/fx", b"d/x", b"ex", b"other/new"}
    assert {path: before.get(path) for path in house.ids() if path in before} == {
        path: file_id for path, file_id in house.ids().items() if path in before
    }


def test_a_root_that_cannot_be_listed_removes_nothing_and_is_no_whole_scan(house: House):
    house.write("f")
    house.write("d/g")
    house.sync()
    before, generation = house.ids(), house.repository.complete_generation
    fault = Fault(fail(errno.EIO), "listdir", where=_in_folder(house, ""), lasting=True)
    house.reopen(fs=FaultyFileOps(FileOps(), fault))
    (report,) = house.engine.sync([house.repository])
    assert report.error is not None and report.error.exit_code == 5
    assert report.run is not None and not report.scanned
    assert house.ids() == before
    assert house.repository.complete_generation == generation
    house.reopen()
    house.sync()
    house.check()
    assert house.ids() == before


class _Mounted(FileOpsWrapper):
    """Another filesystem seems to be mounted on one name."""

    def __init__(self, inner: FileOps, name: bytes) -> None:
        self._name = name

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = proceed(*args, **kwargs)
        if method not in {"stat", "fstat"}:
            return result
        subject = args[0]
        name = os.readlink(f"/proc/self/fd/{subject}") if method == "fstat" else subject
        if os.path.basename(os.fsencode(name)) != self._name:
            return result
        visible = list(result)
        visible[stat.ST_DEV] += 1
        names = [name for name in dir(result) if name.startswith("st_")]
        return os.stat_result(visible, {name: getattr(result, name) for name in names})


def test_a_filesystem_mounted_on_a_folder_hides_its_records_and_removes_none(house: House):
    for path in ("d/f", "mnt/f", "mnt/e/f"):
        house.write(path)
    house.sync()
    before = house.ids()
    house.reopen(fs=_Mounted(FileOps(), b"mnt"))
    report = house.sync(wait=False)
    assert report.counts.failed_directories == 1
    assert house.ids() == before
    house.reopen()
    house.sync()
    house.check()
    assert house.ids() == before


def test_a_pass_can_be_stopped_at_any_read_and_another_goes_on(course: _Course):
    house = course.house
    for nth in count(1, 3):
        before = course.settle()
        course.change()
        token = CancelToken()
        course.wire.arm(token.cancel, nth)
        try:
            house.engine.sync([house.repository], cancel=token)
        except CancelledError:
            (run, *_) = house.engine.registry.runs(None, 1)
            assert run.status is not RunStatus.RUNNING
        if not course.wire.sprung:
            assert nth > _READS_MIN
            return
        course.finish(before)


def test_a_full_disk_stops_the_index_and_what_was_written_stays(house: House):
    for number in range(2_000):
        house.write(f"{number % 40}/{number}.txt", b"%d" % number)
    house.add()
    full = [True]

    def limit(connection: apsw.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").get
        connection.execute(f"PRAGMA max_page_count={pages + 10 if full[0] else 1_000_000}")

    apsw.connection_hooks.append(limit)
    try:
        house.reopen()
        report = house.pass_over()
        assert isinstance(report.error, StorageFullError)
        assert not report.scanned
        full[0] = False
        house.reopen()
    finally:
        apsw.connection_hooks.remove(limit)
    house.sync()
    house.check()


# -- files that cannot be hashed -------------------------------------------------------------


def _named(name: bytes) -> Callable[[str, dict[str, Any]], bool]:
    return lambda _method, arguments: arguments.get("name") == name


def test_an_unreadable_file_is_flagged_until_it_can_be_read(house: House):
    house.write("f", b"one")
    house.write("g", b"two")
    house.add()
    fault = Fault(fail(errno.EACCES), "open_read_stat", where=_named(b"f"), lasting=True)
    house.reopen(fs=FaultyFileOps(FileOps(), fault))
    for _ in range(2):
        report = house.sync()
        assert report.hashes.failed == 1
        assert oracle.flagged(house.engine, FileFlag.UNREADABLE) == [b"f"]
        assert house.record("f").checksum is None and house.record("f").hash_due
        assert house.record("g").checksum is not None
    house.reopen()
    house.sync()
    house.check()
    assert oracle.flagged(house.engine, FileFlag.UNREADABLE) == []


def test_a_file_that_changes_while_it_is_read_keeps_its_checksum_and_is_read_again(house: House):
    house.write("f", b"first")
    house.sync()
    before = house.record("f")
    house.write("f", b"second")

    def append() -> None:
        with open(house.path("f"), "ab") as file:
            file.write(b"+")

    def reads_f(_method: str, arguments: dict[str, Any]) -> bool:
        return os.readlink(f"/proc/self/fd/{arguments['fd']}").endswith("/f")

    fault = Fault(append, "pread", where=reads_f)
    house.reopen(fs=FaultyFileOps(FileOps(), fault))
    report = house.sync()
    assert report.hashes.unstable == 1
    during = house.record("f")
    assert (during.checksum, during.state) == (before.checksum, LifecycleState.PROCESSING)
    assert during.flags & FileFlag.UNSTABLE and during.hash_due
    house.sync()
    house.check()
    after = house.record("f")
    assert (after.state, after.version) == (LifecycleState.UPLOADED, 2)
    assert not after.flags & FileFlag.UNSTABLE
