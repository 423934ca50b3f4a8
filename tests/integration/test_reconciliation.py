"""Parts of a root looked at by themselves, several roots at once, and the rolling scrub."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.errors import CancelledError
from lifecycle_sync.model.file import FileFlag
from lifecycle_sync.model.watch import ScrubNote
from lifecycle_sync.observe.dirt import Dirt
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.look import Settled
from lifecycle_sync.service.parallel import in_parallel
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.scrubbing import Scrubber, scrub_slice
from lifecycle_sync.service.settling import Settler
from tests.support.house import GRAIN_SECONDS, House
from tests.support.watched import until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.engine.close()


def below(house: House, *folders: bytes) -> list[SyncReport]:
    time.sleep(GRAIN_SECONDS)
    repository = house.add()
    reports = house.engine.sync([repository], below={repository.repository_id: folders})
    assert [it.error for it in reports] == [None] * len(reports)
    return reports


# -- a part of a root --------------------------------------------------------------------------


def test_a_folder_is_looked_at_with_all_below_it_and_nothing_else(house):
    for path in ("a/one", "a/b/c/two", "ab/three", "d/four"):
        house.write(path)
    (report,) = below(house, b"a")
    assert set(house.records()) == {b"a/one", b"a/b/c/two"}
    assert all(it.checksum for it in house.records().values())
    assert (report.below, report.counts.directories, report.counts.added) == (b"a", 3, 2)
    assert report.run is not None and not report.run.whole
    below(house, b"ab", b"d")
    house.check()


def test_what_changed_elsewhere_is_left_for_another_time(house):
    for path in ("a/one", "b/two"):
        house.write(path)
    house.sync()
    house.write("a/one", "changed")
    house.write("b/two", "changed too")
    below(house, b"a")
    assert house.record("a/one").size == len("changed")
    assert house.record("b/two").size == len("content")
    house.sync()
    house.check()


def test_what_has_gone_from_a_folder_keeps_its_id_where_it_went(house):
    for name in "abcdefgh":
        house.write(f"a/{name}", name)
    house.write("b/other")
    house.sync()
    before = house.record("a/c").file_id
    house.rename("a/c", "b/c")
    (report,) = below(house, b"a")
    # Only the whole root could tell: it was looked at.
    assert report.below == b"" and report.moved == 1
    assert house.record("b/c").file_id == before
    house.check()


def test_a_folder_that_is_gone_is_recorded_as_gone(house):
    for number in range(30):
        house.write(f"{number % 3}/{number}")
    house.sync()
    for number in range(0, 30, 3):
        house.remove(f"0/{number}")
    os.rmdir(house.path("0"))
    below(house, b"0")
    assert len(house.records()) == 20
    house.check()


def test_the_shrink_guard_holds_for_a_part_as_well(house):
    for number in range(40):
        house.write(f"{number % 2}/{number}")
    house.sync()
    for number in range(0, 40, 2):
        house.remove(f"0/{number}")
    for number in range(1, 20, 2):
        house.remove(f"1/{number}")
    (report,) = below(house, b"0")
    assert report.verdict is not None and report.verdict.guard == "shrink"
    assert len(house.records()) == 40


@pytest.mark.parametrize("batch_size", [1, 10, 1_000])
def test_a_transaction_takes_so_many_files(tmp_path, batch_size):
    house = House(tmp_path, batch_size=batch_size)
    for number in range(60):
        house.write(f"{number % 4}/{number}")
    house.sync()
    _, rows = house.engine.registry.query(
        "SELECT (SELECT min(last_seq) FROM commits c WHERE c.last_seq >= f.registered_seq) AS at,"
        " count(*) FROM files f GROUP BY at"
    )
    counts = [count for _, count in rows]
    assert sum(counts) == 60 and max(counts) == min(batch_size, 60)
    # What is followed keeps to it as well.
    house.check()
    house.engine.close()


def settle(house: House, dirt: Dirt) -> Settled:
    settler = Settler(
        house.engine.registry,
        house.engine.roots,
        house.engine.cycle.rules,
        fs=house.engine.fs,
        clock=house.engine.clock,
    )
    return settler.settle(house.repository, dirt, own=frozenset(), cancel=CancelToken())


def test_what_moved_is_due_though_the_look_that_finds_out_adds_nothing(house):
    """Where it went an earlier look has seen, and its hash may be done by now."""
    for number in range(3):
        house.write(f"a/{number}")
    house.sync()
    for number in range(3):
        house.rename(f"a/{number}", f"b/{number}")
    os.rmdir(house.path("a"))
    came, went = Dirt(), Dirt()
    came.tree(b"b")
    went.tree(b"a")
    time.sleep(GRAIN_SECONDS)
    assert settle(house, came).counts.added == 3
    house.engine.cycle.hashes.due(house.repository)
    settled = settle(house, went)
    assert (settled.moved, settled.counts.added, settled.counts.updated) == (3, 0, 0)
    assert settled.due and house.engine.registry.to_hash_totals(house.repository.repository_id)[0]


def test_what_was_there_after_all_is_looked_at_once_more(house):
    """Else nobody would know when it goes again before it was seen."""
    for number in range(40):
        house.write(f"a/{number}")
    house.sync()
    os.rename(house.path("a"), house.base / "away")
    gone = Dirt()
    gone.tree(b"a")
    settled = settle(house, gone)
    assert settled.verdict is not None and settled.verdict.guard == "shrink"
    house.write("a/3", "came")
    house.engine.accept(house.root)
    settled = settle(house, Dirt())
    assert b"a" in settled.again
    house.remove("a/3")
    os.rmdir(house.path("a"))
    again = Dirt()
    for path in settled.again:
        again.folder(path)
    settle(house, again)
    house.pass_over()
    house.check()


# -- several roots at once ---------------------------------------------------------------------


def test_several_roots_are_looked_at_at_once_and_reported_in_their_order(tmp_path):
    house = House(tmp_path, max_concurrency=3)
    roots = []
    for number in range(5):
        folder = tmp_path / f"root-{number}"
        (folder / "d").mkdir(parents=True)
        (folder / "d/file").write_text(str(number))
        roots.append(house.engine.add_root(folder).repository)
    told = []
    reports = house.engine.sync(roots, on_report=lambda it: told.append(it.repository.path))
    assert [it.repository.path for it in reports] == [it.path for it in roots]
    assert sorted(told) == sorted(it.path for it in roots)
    assert [it.hashes.hashed for it in reports] == [1] * 5
    house.engine.close()


def test_no_more_than_so_many_are_worked_on_at_once():
    lock, both = threading.Lock(), threading.Barrier(2)
    now = most = 0

    def work(item: int, _: object) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        both.wait(30)
        with lock:
            now -= 1
        return item

    assert in_parallel(work, range(8), at_once=2) == list(range(8))
    assert most == 2


def test_one_progress_is_that_of_one_root_at_a_time():
    class Told(NoProgress):
        def __init__(self) -> None:
            self.open = 0
            self.begun: list[bytes] = []

        def begin(self, phase: str, root: bytes, files: object, bytes_: object) -> None:
            self.open += 1
            assert self.open == 1
            self.begun.append(root)

        def end(self) -> None:
            self.open -= 1

    told, both = Told(), threading.Barrier(2)

    def work(item: bytes, progress: object) -> None:
        assert isinstance(progress, NoProgress)
        progress.begin("index", item, None, None)
        both.wait(30)
        progress.advance(1, 1)
        progress.end()

    in_parallel(work, [b"a", b"b"], at_once=2, progress=told)
    assert len(told.begun) == 1 and told.open == 0


def test_the_first_that_raises_is_raised_when_the_others_have_ended():
    ended = []

    def work(item: int, _: object) -> None:
        if item == 0:
            raise CancelledError("stopped", operation="test")
        ended.append(item)

    with pytest.raises(CancelledError):
        in_parallel(work, range(100), at_once=2)
    assert len(ended) < 100


# -- scrub -------------------------------------------------------------------------------------


@pytest.fixture
def rotting(tmp_path: Path) -> Iterator[House]:
    """A hundred files, by a clock that a test moves."""
    house = House(tmp_path, clock=FixedClock(time.time_ns() + 10**12), scrub_days=10)
    for number in range(100):
        house.write(f"{number % 7}/{number:03}", f"content {number}")
    house.sync()
    yield house
    house.engine.close()


def rot(house: House, path: str) -> None:
    """Other bytes, and nothing else of the file: as a disk does it."""
    record = house.record(path)
    before = house.stat(path)
    with open(house.path(path), "r+b") as file:
        file.write(b"ROT")
    house.keep_times(path, before)
    now = house.stat(path)
    with house.engine.registry._db.write() as connection:
        connection.execute(
            "UPDATE files SET ctime_ns = ?, hash_due = 0, flags = 0 WHERE file_id = ?",
            (now.st_ctime_ns, record.file_id),
        )


def days(house: House, count: float) -> None:
    clock = house._clock
    assert isinstance(clock, FixedClock)
    clock.advance(count * 86_400)


def slice_of(house: House) -> ScrubNote:
    scrub_slice(house.engine, house.repository, CancelToken(), interval=86_400)
    return house.engine.registry.scrub_note(house.repository.repository_id)


def test_a_round_reads_everything_once_within_its_days(rotting):
    rot(rotting, "4/074")
    notes: list[ScrubNote] = []
    while not notes or not notes[-1].ended_ns:
        notes.append(slice_of(rotting))
        days(rotting, 1)
    assert [it.files for it in notes[:3]] == [10, 20, 30]
    assert len(notes) <= 11 and not notes[-1].begun_ns
    # What rotted on the way is found, and nothing else is.
    suspects = [path for path, it in rotting.records().items() if it.flags & FileFlag.SUSPECT]
    assert suspects == [b"4/074"]


def test_a_round_goes_on_where_another_process_stopped(rotting):
    assert slice_of(rotting).files == 10
    rotting.reopen()
    days(rotting, 2)
    assert slice_of(rotting).files == 30
    # Nothing is due twice.
    assert slice_of(rotting).files == 31


def test_after_a_long_time_away_only_some_is_made_up_for(rotting):
    slice_of(rotting)
    days(rotting, 365)
    assert slice_of(rotting).files == 50


def test_one_large_file_is_read_at_once_and_the_next_wait(rotting):
    rotting.write("0/000", b"x" * 100_000)
    rotting.sync()
    note = slice_of(rotting)
    assert note.files == 1
    days(rotting, 5)
    assert slice_of(rotting) == note
    days(rotting, 5)
    assert slice_of(rotting).files > 1


def test_a_root_that_is_not_there_is_passed_over(rotting):
    os.rename(rotting.root, rotting.base / "away")
    assert slice_of(rotting) == ScrubNote()
    assert not any(it.flags for it in rotting.records().values())


def test_the_scrubber_works_by_itself_until_it_is_stopped(rotting):
    scrubber = Scrubber(rotting.engine, rotting.engine.roots.all, interval_seconds=0.02)
    with_none = Scrubber(rotting.engine, list, interval_seconds=0.02)
    for each in (scrubber, with_none):
        each.start()
    repository_id = rotting.repository.repository_id
    until(lambda: rotting.engine.registry.scrub_note(repository_id).files >= 1)
    until(lambda: [it.name for it in rotting.engine.registry.loops()] == ["scrub"])
    for each in (scrubber, with_none):
        each.stop()
