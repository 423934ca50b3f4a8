"""Restores: how much is to come, told when they begin; durable also where there is no `syncfs`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service import act_orders, trash_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.restoring import RestoreOrder, conflict_of, restore
from lifecycle_sync.testing.fileops import RecordingFileOps
from lifecycle_sync.testing.steps import PlainFileOps
from tests.support.house import House


class Watching(NoProgress):
    """Remembers what it was told."""

    wants_totals = True

    def __init__(self) -> None:
        self.totals: list[tuple[int | None, int | None]] = []
        self.done = [0, 0]

    def begin(self, phase: str, root: bytes, files: int | None, bytes_: int | None) -> None:
        if phase in ("restore", "purge"):
            self.totals.append((files, bytes_))
            self.done = [0, 0]

    def advance(self, files: int, bytes_: int) -> None:
        self.done[0] += files
        self.done[1] += bytes_


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    for number in range(4):
        made.write(f"a/{number}", b"x" * 1000 * (number + 1))
    made.sync()
    act_orders.back_up(made.engine, [os.fspath(made.root)], How())
    yield made
    made.engine.close()


@pytest.mark.parametrize("conflict", ["skip", "replace", "keep-both", "newest"])
def test_a_restore_tells_how_much_is_to_come_and_comes_to_that(house, conflict):
    for number in (2, 3):
        house.remove(f"a/{number}")
    watching = Watching()
    order = RestoreOrder([os.fspath(house.root)], conflict=conflict_of(conflict))
    (outcome,) = restore(house.engine, order, How(progress=watching))
    assert watching.totals == [(outcome.report.completed, outcome.report.size)]
    assert tuple(watching.done) == watching.totals[0]


def test_a_restore_to_elsewhere_and_a_purge_tell_it_too(house, tmp_path):
    watching = Watching()
    order = RestoreOrder([os.fspath(house.root / "a")], to=os.fspath(tmp_path / "out"))
    restore(house.engine, order, How(progress=watching))
    assert watching.totals == [(4, 10_000)] == [tuple(watching.done)]
    files = act_orders.delete(house.engine, [os.fspath(house.root / "a")], How())
    assert files[0].report.completed == 4
    watching = Watching()
    (outcome,) = trash_orders.purge(house.engine, [], How(progress=watching))
    assert (outcome.report.completed, watching.totals) == (0, [])


def test_what_was_left_out_is_counted_over_all_names(house):
    other = house.write("b/1", b"other")
    house.sync()
    act_orders.back_up(house.engine, [os.fspath(house.root)], How())
    for name in (house.root / "a/1", os.fsdecode(other)):
        act_orders.delete(house.engine, [os.fspath(name)], How())
    names = [os.fspath(house.root / it) for it in "ab"]
    (outcome,) = restore(house.engine, RestoreOrder(names, to=os.fspath(house.base / "out")), How())
    assert any("left out: 2" in note for note in outcome.notes), outcome.notes


def test_without_syncfs_each_file_and_each_folder_is_synced(house):
    shutil.rmtree(house.root / "a")
    fs = RecordingFileOps(PlainFileOps())
    house.reopen(fs=fs)
    fs.calls.clear()
    restore(house.engine, RestoreOrder([os.fspath(house.root)]), How())
    calls = [str(call) for call in fs.calls]
    moves = [n for n, it in enumerate(calls) if it.startswith("rename_noreplace")]
    synced = [it for it in calls[: moves[0]] if it.startswith("fsync") and ".lifecycle/tmp/" in it]
    assert len(synced) == 4
    after = [it for it in calls[moves[-1] :] if it.startswith("fsync")]
    for end in ("/root/a)", "/root)"):
        assert any(it.endswith(end) for it in after), after


def test_bytes_are_durable_before_they_get_their_names_and_the_names_after(house):
    shutil.rmtree(house.root / "a")
    fs = RecordingFileOps(FileOps())
    house.reopen(fs=fs)
    restore(house.engine, RestoreOrder([os.fspath(house.root)]), How())
    steps = [it for it in fs.methods if it in ("write", "rename_noreplace", "syncfs")]
    last = len(steps) - steps[::-1].index("rename_noreplace")
    first = steps.index("rename_noreplace")
    assert steps[first - 1] == "syncfs"
    assert "syncfs" in steps[last:]
