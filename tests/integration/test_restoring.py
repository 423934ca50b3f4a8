"""Restores: how much is to come, told when they begin; durable also where there is no `syncfs`."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.act.occupied import Conflict
from lifecycle_sync.act.returning import Back
from lifecycle_sync.errors import StorageFullError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service import act_orders, trash_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.act_report import Report
from lifecycle_sync.service.choosing import RestoreOrder
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.restoring import conflict_of, restore
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail
from lifecycle_sync.testing.steps import PlainFileOps
from lifecycle_sync.vault.vault import VaultKind
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
    report = outcome.report
    same = (2, 3_000) if conflict == "replace" else (0, 0)
    assert watching.totals == [(report.completed + same[0], report.size + same[1])]
    assert tuple(watching.done) == watching.totals[0]


def test_what_comes_from_a_copy_is_told_once(tmp_path):
    copy = tmp_path / "copy"
    house = House(tmp_path, backup_copies=[copy])
    house.write("large", os.urandom(3_000_000))
    house.sync()
    act_orders.back_up(house.engine, [os.fspath(house.root)], How())
    shutil.copytree(tmp_path / "vault", copy)
    (part,) = (tmp_path / "vault" / "objects").rglob("*.zst")
    data = bytearray(part.read_bytes())
    data[-1000] ^= 1
    part.chmod(0o600)
    part.write_bytes(data)
    house.remove("large")
    watching = Watching()
    order = RestoreOrder([os.fspath(house.root)])
    (outcome,) = restore(house.engine, order, How(progress=watching))
    assert outcome.report.from_copies == {os.fspath(copy): 1}
    assert watching.done == [1, 3_000_000]
    house.engine.close()


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


def _backs(house: House, *paths: bytes) -> list[Back]:
    """The last versions of these files."""
    vault = house.engine.vaults.get(VaultKind.BACKUP, create=False)
    events = {event.path: event for event in vault.all_versions(house.repository.repository_id)}
    files = house.engine.registry.act_files([events[path].file_id for path in paths])
    return [Back(files[events[it].file_id], events[it], it) for it in paths]


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (b"../outside", "leaves the target"),
        (b"a/../../outside", "leaves the target"),
        (b"/outside", "leaves the target"),
        (b".lifecycle/root.json", "lifecycle's own"),
        (b".lifecycle/trash/x", "lifecycle's own"),
    ],
)
def test_no_version_gets_a_place_outside_or_among_our_own(house, to, reason):
    marker = (house.root / ".lifecycle/root.json").read_bytes()
    (back,) = _backs(house, b"a/1")
    for conflict in Conflict:
        report = house.engine.acts.restore(
            house.repository, [back._replace(to=to)], conflict=conflict
        )
        assert (report.completed, report.failed) == (0, 1)
        assert reason in report.done[0].reason
    assert (house.root / ".lifecycle/root.json").read_bytes() == marker
    assert not (house.base / "outside").exists()


def test_what_is_held_does_not_give_way_to_a_restore(house):
    house.write("a/1", b"newer, and held")
    house.sync()
    house.engine.statements.hold(file_id=house.record("a/1").file_id, reason="court order 7")
    order = RestoreOrder([os.fspath(house.root / "a/1")], conflict=Conflict.REPLACE)
    (outcome,) = restore(house.engine, order, How())
    assert (outcome.report.completed, outcome.report.skipped) == (0, 1)
    assert "court order 7" in outcome.report.done[0].reason
    assert (house.root / "a/1").read_bytes() == b"newer, and held"


def _replace_all(house: House) -> Report:
    (outcome,) = restore(
        house.engine, RestoreOrder([os.fspath(house.root)], conflict=Conflict.REPLACE), How()
    )
    return outcome.report


def test_all_that_gives_way_goes_into_one_batch_of_the_trash(house):
    for number in range(4):
        house.write(f"a/{number}", b"changed %d" % number)
    house.sync()
    assert _replace_all(house).completed == 4
    assert [(house.root / f"a/{n}").read_bytes() for n in range(4)] == [
        b"x" * 1000 * (n + 1) for n in range(4)
    ]
    with house.engine.acts.trash(house.repository) as trash:
        (batch,) = trash.batches()
        assert len(trash.left(batch)) == 4


def test_what_is_there_already_is_not_replaced_but_what_only_looks_so_is(house):
    before = [(house.root / f"a/{n}").stat() for n in range(4)]
    report = _replace_all(house)
    assert (report.completed, report.spared, report.failed) == (0, 4, 0)
    after = [(house.root / f"a/{n}").stat() for n in range(4)]
    assert [it.st_ino for it in after] == [it.st_ino for it in before]
    # As bits rot: other bytes, and the same times.
    (house.root / "a/1").write_bytes(b"x" * 1999 + b"y")
    os.utime(house.root / "a/1", ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    report = _replace_all(house)
    assert (report.completed, report.spared) == (1, 3)
    assert (house.root / "a/1").read_bytes() == b"x" * 2000


def test_a_disk_that_fills_up_on_the_way_leaves_every_place_with_a_file(house):
    for number in range(4):
        house.write(f"a/{number}", b"changed")
    house.sync()
    # Each file gives way by such a rename, and gets its place by one.
    house.reopen(fs=FaultyFileOps(FileOps(), Fault(fail(errno.ENOSPC), "rename_noreplace", 6)))
    with pytest.raises(StorageFullError):
        house.engine.acts.restore(
            house.repository,
            _backs(house, *(b"a/%d" % n for n in range(4))),
            conflict=Conflict.REPLACE,
        )
    contents = [(house.root / f"a/{n}").read_bytes() for n in range(4)]
    assert sorted(contents) == sorted([b"changed"] * 3 + [contents[0]])
    assert contents.count(b"changed") == 3


class Refusing(FileOps):
    """A disk that takes a restored file only once: into an empty place no more."""

    def rename_noreplace(self, source: Any, target: Any, source_fd: int, target_fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{source_fd}").endswith(".lifecycle/tmp"):
            try:
                os.stat(target, dir_fd=target_fd)
            except FileNotFoundError:
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        super().rename_noreplace(source, target, source_fd, target_fd)


def test_what_gave_way_comes_back_when_nothing_came_in_its_place(house):
    house.write("a/1", b"never kept")
    house.sync()
    house.reopen(fs=Refusing())
    order = RestoreOrder([os.fspath(house.root / "a/1")], conflict=Conflict.REPLACE)
    (outcome,) = restore(house.engine, order, How())
    assert (outcome.report.completed, outcome.report.failed) == (0, 1)
    assert (house.root / "a/1").read_bytes() == b"never kept"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK])
def test_names_of_one_file_become_files_where_there_are_no_hard_links(house, tmp_path, code):
    for number in (5, 6):
        os.link(house.root / "a/1", house.root / f"a/{number}")
    house.sync()
    act_orders.back_up(house.engine, [os.fspath(house.root)], How())
    house.reopen(fs=FaultyFileOps(FileOps(), Fault(fail(code), "link", lasting=True)))
    order = RestoreOrder([os.fspath(house.root / "a")], to=os.fspath(tmp_path / "out"))
    (outcome,) = restore(house.engine, order, How())
    assert (outcome.report.completed, outcome.report.failed) == (6, 0)
    for number in (1, 5, 6):
        there = tmp_path / "out/a" / str(number)
        assert there.read_bytes() == b"x" * 2000
        assert there.stat().st_nlink == 1
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == ["a"]
