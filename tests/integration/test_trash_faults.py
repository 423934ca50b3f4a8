"""Whatever goes wrong on the way into the trash or out of it, every file is in its place or in the
trash, where a readable sidecar tells what it is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from lifecycle_sync.act.taking import Taking
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.trash import TrashBatch, TrashEntry, TrashOutcome
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail
from tests.support.trashing import Yard
from tests.support.tripwire import Tripwire

FILES = {"a/one": b"1", "a/two": b"22", "b/c/three": b"333"}
ANY = frozenset(name for name in vars(FileOps) if not name.startswith("_"))


@pytest.fixture
def yard(tmp_path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open(yard):
    before = os.listdir("/proc/self/fd")
    yield
    yard.close()
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def fill(yard: Yard) -> list[TrashEntry]:
    return [yard.put(name, content) for name, content in FILES.items()]


def whole(yard: Yard) -> dict[str, bytes]:
    """What lies in the root and in the trash together; nothing lies in both."""
    here = yard.files()
    there = {os.fsdecode(path): content for path, content in yard.in_trash().items()}
    assert not here.keys() & there.keys()
    return here | there


def readable(trash: Trash) -> Iterator[TrashBatch]:
    return (it for it in trash.batches() if isinstance(it, TrashBatch))


def no_open(method: str, _: object) -> bool:
    """An open that fails after it was made would leave its descriptor to nobody."""
    return not method.startswith(("open", "create"))


def fault(code: int, nth: int, after: bool) -> Fault:
    return Fault(fail(code), nth=nth, after=after, where=no_open if after else None)


# -- errors --------------------------------------------------------------------------------------


def at_every_call(
    base: Path, work: Callable[[Yard, FileOps], object], fault_at: Callable[[int], Fault]
) -> Iterator[Yard]:
    """A new yard each time, after `work` in which the nth call went wrong."""
    for nth in count(1):
        place = base / str(nth)
        place.mkdir()
        yard = Yard(place)
        faulty = FaultyFileOps(FileOps(), fault_at(nth))
        try:
            work(yard, faulty)
        except (LifecycleError, OSError):
            pass
        finally:
            yard.close()
        if not faulty.fired:
            assert nth > 20
            return
        yield yard
        yard.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_any_operation_leaves_every_file_in_its_place_or_in_the_trash(
    tmp_path, code, after
):
    outcomes: list[TrashOutcome] = []

    def work(yard: Yard, fs: FileOps) -> None:
        entries = fill(yard)
        outcomes.clear()
        with yard.begin(entries, fs) as taking:
            outcomes.extend(taking.take(entry) for entry in entries)
            taking.sync()

    for yard in at_every_call(
        tmp_path,
        work,
        lambda nth: fault(code, nth, after),
    ):
        assert whole(yard) == FILES
        in_trash = {os.fsdecode(path) for path in yard.in_trash()}
        for name, outcome in zip(FILES, outcomes, strict=False):
            # What is said is so, and where a file was left in the trash it is said loudly.
            assert outcome.ok <= (name in in_trash)
            assert (name in in_trash) <= (outcome.ok or outcome.alarm)
        # And all of it comes back.
        trash = yard.trash()
        for batch in yard.batches():
            for entry in trash.left(batch):
                assert trash.put_back(batch, entry).ok
        assert yard.files() == FILES


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_error_of_any_operation_on_the_way_back_loses_nothing(tmp_path, after):
    def work(yard: Yard, fs: FileOps) -> None:
        yard.take(*fill(yard))
        for folder in ("a", "b/c", "b"):
            yard.path(folder).rmdir()
        trash = yard.trash(fs)
        for batch in readable(trash):
            for entry in batch.entries:
                trash.put_back(batch, entry)
        trash.sync()

    for yard in at_every_call(
        tmp_path,
        work,
        lambda nth: fault(errno.EIO, nth, after),
    ):
        assert whole(yard) == FILES


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_error_of_any_operation_of_a_purge_keeps_a_sidecar_for_what_is_left(tmp_path, after):
    def work(yard: Yard, fs: FileOps) -> None:
        yard.take(*fill(yard))
        trash = yard.trash(fs)
        for batch in readable(trash):
            for entry in batch.entries:
                trash.purge(batch, entry)
        trash.sync()

    for yard in at_every_call(
        tmp_path,
        work,
        lambda nth: fault(errno.EIO, nth, after),
    ):
        # Nothing unreadable, and a second purge takes the rest.
        trash = yard.trash()
        for batch in yard.batches():
            for entry in trash.left(batch):
                assert trash.purge(batch, entry).ok
            assert trash.tidy(batch)
        # An error between the sidecar and its directory leaves that one empty.
        yard.clock.advance(2 * 3600)
        trash.sweep()
        assert os.listdir(yard.root / ".lifecycle/trash") == []


def test_a_sync_that_fails_is_an_error_and_is_not_tried_again(yard):
    entries = fill(yard)
    faulty = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="syncfs", lasting=True))
    with yard.begin(entries, faulty) as taking:
        assert taking.take(entries[0]).ok
        with pytest.raises(OSError, match="Input/output"):
            taking.sync()
    assert faulty.fired == 1


def test_a_full_disk_is_told_as_one_and_nothing_is_left(yard):
    entries = fill(yard)
    for method in ("mkdir", "write", "fsync"):
        faulty = FaultyFileOps(FileOps(), Fault(fail(errno.ENOSPC), method=method, nth=1))
        with pytest.raises(LifecycleError) as caught:
            yard.begin(entries, faulty)
        assert caught.value.code == "disk_full"
        assert yard.files() == FILES
        assert list((yard.root / ".lifecycle").rglob("trash/*")) == []


# -- killed --------------------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, kill
from lifecycle_sync.clock import FixedClock
from tests.support.trashing import START_NS, Yard
yard = Yard.__new__(Yard)
yard.root, yard._open = Path(sys.argv[1]), []
yard.clock = FixedClock(START_NS)
nth, method, after = int(sys.argv[2]), sys.argv[3] or None, sys.argv[4] == "after"
fs = FaultyFileOps(FileOps(), Fault(kill, nth=nth, method=method, after=after))
entries = [yard.entry(name) for name in ("a/one", "a/two", "b/c/three")]
with yard.begin(entries, fs) as taking:
    for entry in entries:
        taking.take(entry)
    taking.sync()
"""


def killed_taking(yard: Yard, nth: int, method: str = "", when: str = "before") -> bool:
    """Whether it was killed before it was done."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(yard.root), str(nth), method, when],
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_killed_after_the_move_into_the_trash_the_sidecar_tells_what_is_there(yard, nth):
    fill(yard)
    assert killed_taking(yard, nth, "rename_noreplace", "after")
    assert len(yard.in_trash()) == nth
    assert whole(yard) == FILES
    # Recovery believes what it finds.
    trash = yard.trash()
    (batch,) = yard.batches()
    settled = [trash.settle(batch, entry) for entry in batch.entries]
    assert [outcome.ok for outcome in settled] == [number < nth for number in range(3)]
    assert {it.reason for it in settled if not it.ok} <= {"it is not there"}
    # And the undelete asks nobody else.
    for entry in trash.left(batch):
        assert trash.put_back(batch, entry).ok
    assert yard.files() == FILES


@pytest.mark.slow
def test_killed_at_any_step_every_file_is_in_its_place_or_in_the_trash(tmp_path):
    for nth in count(1):
        (tmp_path / str(nth)).mkdir()
        yard = Yard(tmp_path / str(nth))
        fill(yard)
        killed = killed_taking(yard, nth)
        assert whole(yard) == FILES
        yard.close()
        if not killed:
            assert nth > 30
            return


# -- changed between the look and the rename -----------------------------------------------------


def replacing(yard: Yard, path: str, content: bytes) -> Callable[[], None]:
    """What puts another file in a file's place, as an atomic save does."""

    def replace() -> None:
        other = yard.outside / "new"
        other.write_bytes(content)
        os.replace(other, yard.path(path))

    return replace


def take_with(yard: Yard, entry: TrashEntry, *faults: Fault) -> TrashOutcome:
    faulty = FaultyFileOps(FileOps(), *faults)
    (outcome,) = yard.take(entry, fs=faulty)
    assert faulty.fired == len(faults)
    return outcome


def test_a_file_replaced_between_the_look_and_the_rename_goes_back(yard):
    entry = yard.put("a/name", b"old")
    swap = Fault(replacing(yard, "a/name", b"new"), method="rename_noreplace")
    outcome = take_with(yard, entry, swap)
    assert (outcome.ok, outcome.alarm) == (False, False)
    assert "went back" in outcome.reason
    assert yard.files() == {"a/name": b"new"}
    assert os.listdir(yard.root / ".lifecycle/trash") == []


def test_what_cannot_go_back_for_its_place_is_taken_is_kept_with_an_alarm(yard):
    entry = yard.put("a/name", b"old")
    swap = Fault(replacing(yard, "a/name", b"second"), method="rename_noreplace")
    again = Fault(replacing(yard, "a/name", b"third"), method="rename_noreplace", after=True)
    outcome = take_with(yard, entry, swap, again)
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert "kept in the trash" in outcome.reason
    assert yard.files() == {"a/name": b"third"}
    assert yard.in_trash() == {b"a/name": b"second"}
    # It is nothing that a purge would take, and it can be had.
    batch, found = yard.only()
    trash = yard.trash()
    assert trash.purge(batch, found).alarm
    assert trash.put_back(batch, found, to=b"a/name.second").ok


def test_a_file_written_to_between_the_look_and_the_rename_goes_back(yard):
    entry = yard.put("name", b"old")

    def write() -> None:
        with yard.path("name").open("ab") as file:
            file.write(b" and new")

    outcome = take_with(yard, entry, Fault(write, method="rename_noreplace"))
    assert not outcome.ok
    assert yard.files() == {"name": b"old and new"}


def test_what_cannot_be_looked_at_after_the_rename_goes_back(yard):
    entry = yard.put("name")
    outcome = take_with(yard, entry, Fault(fail(errno.EIO), method="stat", nth=2))
    assert (outcome.ok, outcome.alarm) == (False, False)
    assert yard.files() == {"name": b"bytes"}


def test_a_file_that_goes_between_the_look_and_the_rename_is_skipped(yard):
    entry = yard.put("name")
    gone = Fault(yard.path("name").unlink, method="rename_noreplace")
    assert take_with(yard, entry, gone) == (False, "it is not there", False, 0, False)


def test_recovery_gives_back_what_came_in_the_stead_of_a_file(yard):
    """Killed right after the rename, before what came was looked at."""
    entry = yard.put("a/name", b"old")
    with yard.begin([entry]) as taking:
        replacing(yard, "a/name", b"new")()
        os.rename(yard.path("a/name"), yard.item(taking.batch))
    batch, entry = yard.only()
    outcome = yard.trash().settle(batch, entry)
    assert (outcome.ok, outcome.alarm) == (False, False)
    assert yard.files() == {"a/name": b"new"}
    assert yard.batches() == []


def test_recovery_keeps_it_with_an_alarm_where_the_place_is_taken(yard):
    entry = yard.put("name", b"old")
    with yard.begin([entry]) as taking:
        replacing(yard, "name", b"second")()
        os.rename(yard.path("name"), yard.item(taking.batch))
        yard.path("name").write_bytes(b"third")
    outcome = yard.trash().settle(*yard.only())
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert yard.files() == {"name": b"third"}
    assert yard.in_trash() == {b"name": b"second"}


def test_recovery_ends_a_rename_that_was_cut_off_between_its_two_names(yard):
    """Where there is no system call for it, the file has both for a moment."""
    entry = yard.put("name")
    with yard.begin([entry]) as taking:
        os.link(yard.path("name"), yard.item(taking.batch))
    outcome = yard.trash().settle(*yard.only())
    assert (outcome.ok, outcome.reason) == (False, "it is still in its place")
    assert yard.files() == {"name": b"bytes"}
    assert yard.batches() == []


def test_a_file_with_another_name_elsewhere_is_taken_for_recovery(yard):
    yard.put("name")
    os.link(yard.path("name"), yard.path("other"))
    yard.take(yard.entry("name"))
    assert yard.trash().settle(*yard.only()).ok


# -- a late writer -------------------------------------------------------------------------------


def test_a_late_writer_through_an_open_descriptor_loses_nothing(yard):
    entry = yard.put("name", b"early ")
    with yard.path("name").open("ab", buffering=0) as late:
        assert yard.take(entry)[0].ok
        late.write(b"late")
        outcome = yard.trash().purge(*yard.only())
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert yard.in_trash() == {b"name": b"early late"}
    assert yard.trash().put_back(*yard.only()).ok
    assert yard.files() == {"name": b"early late"}


def test_a_writer_that_opens_the_file_during_the_purge_is_seen(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()
    late: list[int] = []
    opened = Fault(
        lambda: late.append(os.open(yard.item(batch), os.O_WRONLY)), method="has_writers"
    )
    outcome = yard.trash(FaultyFileOps(FileOps(), opened)).purge(batch, entry)
    os.close(late[0])
    assert (outcome.ok, outcome.alarm) == (False, True) or outcome.ok is True
    if outcome.ok:
        pytest.skip("leases are refused here")
    assert yard.in_trash() == {b"name": b"bytes"}


# -- a directory swapped for a symlink -----------------------------------------------------------

OUTSIDE = {"one": b"outside 1", "two": b"outside 2", "c/three": b"outside 3"}


def swapping(yard: Yard, name: str) -> Callable[[], None]:
    """What puts a symlink to `outside`, where the same names are, in a folder's place."""

    def swap() -> None:
        yard.path(name).rename(yard.path(name + ".moved"))
        yard.path(name).symlink_to(yard.outside)

    return swap


def swapped_at_every_step(
    base: Path,
    folder: str,
    prepare: Callable[[Yard], None],
    work: Callable[[Yard, FileOps], object],
) -> Iterator[Yard]:
    for nth in count(1):
        (base / str(nth)).mkdir()
        yard = Yard(base / str(nth))
        for name, content in OUTSIDE.items():
            path = yard.outside / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        fill(yard)
        prepare(yard)
        wire = Tripwire(FileOps())
        wire.arm(swapping(yard, folder), nth, ANY)
        try:
            work(yard, wire)
        except (LifecycleError, OSError):
            pass
        finally:
            yard.close()
        if not wire.sprung:
            assert nth > 10
            return
        yield yard
        yard.close()


def take_all(yard: Yard, fs: FileOps) -> None:
    entries = [yard.entry(name, content) for name, content in FILES.items()]
    taking: Taking = yard.begin(entries, fs)
    with taking:
        for entry in entries:
            taking.take(entry)
        taking.sync()


@pytest.mark.parametrize("folder", ["a", "b", "b/c"])
def test_a_folder_swapped_for_a_symlink_at_any_step_of_a_taking_touches_nothing_outside(
    tmp_path, folder
):
    for yard in swapped_at_every_step(tmp_path, folder, lambda yard: None, take_all):
        assert yard.outside_files() == OUTSIDE
        contents = sorted(content for content in whole(yard).values() if content)
        assert contents == sorted(FILES.values())


@pytest.mark.parametrize("folder", ["a", "b", "b/c"])
def test_a_folder_swapped_for_a_symlink_at_any_step_of_a_putting_back_touches_nothing_outside(
    tmp_path, folder
):
    def prepare(yard: Yard) -> None:
        take_all(yard, FileOps())
        # Only the names that are free outside would tempt anyone.
        for name in ("one", "two", "c/three"):
            (yard.outside / name).unlink()

    def work(yard: Yard, fs: FileOps) -> None:
        trash = yard.trash(fs)
        for batch in readable(trash):
            for entry in batch.entries:
                trash.put_back(batch, entry)

    for yard in swapped_at_every_step(tmp_path, folder, prepare, work):
        assert yard.outside_files() == {}
        assert sorted(whole(yard).values()) == sorted(FILES.values())


@pytest.mark.parametrize("folder", [".lifecycle", ".lifecycle/trash"])
@pytest.mark.parametrize("what", ["take", "purge", "put back", "settle"])
def test_the_trash_swapped_for_a_symlink_at_any_step_touches_nothing_outside(
    tmp_path, folder, what
):
    def prepare(yard: Yard) -> None:
        if what == "take":
            yard.path(".lifecycle/trash").mkdir(parents=True)
        else:
            take_all(yard, FileOps())
            # A copy outside, which a purge through the symlink would find.
            source = yard.path(".lifecycle/trash")
            for place in (yard.outside, yard.outside / "trash"):
                subprocess.run(["cp", "-a", f"{source}/.", place], check=True)
        yard.outside_before = yard.outside_files()  # type: ignore[attr-defined]

    def work(yard: Yard, fs: FileOps) -> None:
        if what == "take":
            take_all(yard, fs)
            return
        trash = yard.trash(fs)
        verb = getattr(trash, what.replace(" ", "_"))
        for batch in readable(trash):
            for entry in batch.entries:
                verb(batch, entry)
            trash.tidy(batch)
        trash.sweep()

    (tmp_path / "yards").mkdir()
    for yard in swapped_at_every_step(tmp_path / "yards", folder, prepare, work):
        assert yard.outside_files() == yard.outside_before  # type: ignore[attr-defined]
