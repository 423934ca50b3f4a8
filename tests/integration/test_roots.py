"""Roots: what can be one, how one is known again, and what the guards hold."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.errors import (
    LifecycleError,
    NotFoundError,
    RegistryNewerError,
    RootError,
    StorageFullError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import RepositoryStatus
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail
from tests.support import oracle
from tests.support.house import House, settings_in
from tests.support.tripwire import CHANGES, Tripwire, passes

_MARKER = ".lifecycle/root.json"


def _copy(source: Path, target: Path) -> None:
    """As `cp -a` does it."""
    shutil.copytree(source, target, symlinks=True)


def _empty(root: Path) -> None:
    for entry in root.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _fill(house: House, count: int, folder: str = "d") -> None:
    for number in range(count):
        house.write(f"{folder}/{number}", b"%d" % number)


# -- what can be a root ----------------------------------------------------------------------


def _missing(base: Path) -> Path:
    return base / "nowhere"


def _file(base: Path) -> Path:
    (base / "file").write_text("x")
    return base / "file"


def _top(_base: Path) -> Path:
    return Path("/")


def _home(_base: Path) -> Path:
    return Path("~").expanduser()


def _vault(base: Path) -> Path:
    (base / "vault" / "objects").mkdir(parents=True)
    return base / "vault"


def _in_vault(base: Path) -> Path:
    return _vault(base) / "objects"


def _around_vault(base: Path) -> Path:
    return base


def _link_to_nowhere(base: Path) -> Path:
    (base / "link").symlink_to("nowhere")
    return base / "link"


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        (_missing, "does not exist"),
        (_link_to_nowhere, "does not exist"),
        (_file, "is not a folder"),
        (_top, "the whole filesystem"),
        (_home, "home directory"),
        (_vault, "in the vault"),
        (_in_vault, "in the vault"),
        (_around_vault, "contains the"),
    ],
)
def test_what_cannot_be_a_root_is_refused_and_nothing_is_changed(house: House, place, cause: str):
    path = place(house.base)
    before = oracle.disk(house.base, hashes=False, ignores=lambda _path, _directory: False)
    with pytest.raises(RootError, match=cause) as error:
        house.engine.add_root(path)
    assert error.value.exit_code == 2
    assert error.value.remedy
    assert house.engine.roots.all() == []
    after = oracle.disk(house.base, hashes=False, ignores=lambda _path, _directory: False)
    assert not {path for path in after.keys() - before.keys() if not path.startswith(b"registry")}


def test_an_unreadable_folder_is_no_root(house: House):
    house.reopen(fs=FaultyFileOps(FileOps(), Fault(fail(errno.EACCES), "listdir", lasting=True)))
    with pytest.raises(RootError, match="cannot be read"):
        house.add()
    assert house.engine.roots.all() == []


def test_roots_do_not_nest(house: House):
    house.write("inner/f")
    house.add()
    with pytest.raises(RootError, match="lies inside the root"):
        house.engine.add_root(house.root / "inner")
    (house.base / "outer").mkdir()
    (house.base / "outer" / "root").mkdir()
    house.engine.add_root(house.base / "outer" / "root")
    with pytest.raises(RootError, match="contains the root"):
        house.engine.add_root(house.base / "outer")
    # A name that only begins like another is beside it.
    (house.base / "root2").mkdir()
    assert house.engine.add_root(house.base / "root2").created


def test_a_root_named_through_a_symlink_is_the_folder_it_means(house: House):
    link = house.base / "link"
    link.symlink_to(house.root)
    added = house.engine.add_root(link)
    assert added.repository.path == os.fsencode(house.root)
    again = house.engine.add_root(house.root)
    assert not again.created and again.repository == added.repository
    inner = house.root / "inner"
    inner.mkdir()
    with pytest.raises(RootError, match="lies inside"):
        house.engine.add_root(link / "inner")


def test_a_root_that_becomes_a_symlink_is_offline(house: House):
    house.write("f")
    house.sync()
    before = house.ids()
    house.root.rename(house.base / "real")
    house.root.symlink_to(house.base / "real")
    (report,) = house.engine.sync()
    assert report.verdict is not None and report.verdict.outcome is Outcome.OFFLINE
    house.root.unlink()
    (house.base / "real").rename(house.root)
    house.sync()
    assert house.ids() == before


@pytest.mark.parametrize("name", [".lifecycle"])
@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_a_folder_with_something_where_the_marker_goes_is_refused(house: House, name, kind):
    outside = house.base / "outside"
    outside.mkdir()
    if kind == "file":
        (house.root / name).write_text("mine")
    else:
        (house.root / name).symlink_to(outside)
    with pytest.raises(LifecycleError, match="marked"):
        house.add()
    assert house.engine.roots.all() == []
    assert list(outside.iterdir()) == []


def test_a_full_disk_refuses_a_root_and_a_second_try_takes_it(house: House):
    house.write("f")
    wire = Tripwire(FileOps())
    house.reopen(fs=wire)
    for method in ("mkdir", "create", "write", "fsync", "rename"):
        # What is written first is the lock's process number, which nobody needs.
        wire.arm(fail(errno.ENOSPC), 2 if method == "write" else 1, frozenset({method}))
        with pytest.raises(StorageFullError):
            house.add()
        assert wire.sprung
        assert house.engine.roots.all() == []
    house.sync()
    house.check()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_root_that_cannot_be_written_keeps_its_marker_in_the_registry(house: House, code: int):
    house.write("f")
    house.reopen(fs=FaultyFileOps(FileOps(), Fault(fail(code), "mkdir", lasting=True)))
    repository = house.add()
    assert not repository.marker_in_root
    assert not (house.root / ".lifecycle").exists()
    house.sync()
    house.check()
    # Without a marker it is known by its inode.
    _copy(house.root, house.base / "copy")
    house.root.rename(house.base / "old")
    (house.base / "copy").rename(house.root)
    assert house.pass_over().verdict is not None


# The lock's process number; the marker's folder, file, bytes, two syncs and name.
_CHANGES_OF_ADD = 7


@pytest.mark.parametrize("nth", range(1, _CHANGES_OF_ADD + 2))
def test_adding_a_root_may_be_cut_short_at_any_step_and_done_again(house: House, nth: int):
    house.write("f")
    wire = Tripwire(FileOps())
    house.reopen(fs=wire)
    wire.arm(_cut, nth, CHANGES)
    try:
        house.add()
    except _Cut:
        pass
    assert wire.sprung == (nth <= _CHANGES_OF_ADD)
    house.reopen()
    house.sync()
    house.check()
    assert len(house.engine.roots.all()) == 1


class _Cut(BaseException):
    pass


def _cut() -> None:
    raise _Cut


# -- unmounted, emptied, swapped, copied, moved ----------------------------------------------


@pytest.fixture
def filled(house: House) -> House:
    """A root of 30 files, in step."""
    _fill(house, 30)
    house.sync()
    return house


def _status(house: House) -> RepositoryStatus:
    return house.repository.status


def _nothing_lost(house: House, ids: dict[bytes, bytes]) -> None:
    assert house.ids() == ids
    states = {house.by_id(file_id).state for file_id in ids.values()}
    assert states == {LifecycleState.UPLOADED}


@pytest.mark.parametrize("what", ["gone", "empty folder", "file"])
def test_an_unmounted_root_is_offline_and_comes_back_as_it_was(filled: House, what: str):
    before = filled.ids()
    away = filled.base / "away"
    filled.root.rename(away)
    if what == "empty folder":
        filled.root.mkdir()
    elif what == "file":
        filled.root.write_text("x")
    for _ in range(2):
        (report,) = filled.engine.sync()
        assert report.verdict is not None
        assert report.verdict.guard == "root"
        assert report.verdict.outcome is Outcome.OFFLINE
        assert report.run is None
        _nothing_lost(filled, before)
    assert _status(filled) == RepositoryStatus.OFFLINE
    if what == "empty folder":
        filled.root.rmdir()
    elif what == "file":
        filled.root.unlink()
    away.rename(filled.root)
    filled.sync()
    filled.check()
    _nothing_lost(filled, before)
    assert _status(filled) == RepositoryStatus.ACTIVE


def test_a_root_emptied_with_its_marker_is_offline_and_can_be_accepted_in_two_steps(filled: House):
    before = filled.ids()
    _empty(filled.root)
    assert filled.pass_over().verdict.outcome is Outcome.OFFLINE  # type: ignore[union-attr]
    _repository, done = filled.engine.accept(filled.root)
    assert "folder" in done
    # Its folder is right; that it is empty is a second question.
    report = filled.pass_over()
    assert report.verdict is not None and report.verdict.guard == "shrink"
    _nothing_lost(filled, before)
    _repository, done = filled.engine.accept(filled.root)
    assert "30" in done
    filled.sync()
    assert filled.ids() == {}
    filled.check()


def test_a_root_emptied_but_for_its_marker_is_held_by_shrink(filled: House):
    before = filled.ids()
    shutil.rmtree(filled.root / "d")
    for _ in range(3):
        report = filled.pass_over()
        assert report.verdict is not None
        assert (report.verdict.guard, report.verdict.outcome) == ("shrink", Outcome.HELD)
        assert (report.missing, report.removed) == (30, 0)
        _nothing_lost(filled, before)
    repository = filled.repository
    assert (repository.status, repository.held_guard) == (RepositoryStatus.HELD, "shrink")
    assert "30 of 30" in repository.held_reason


def test_a_copy_of_a_root_gets_an_id_of_its_own(filled: House):
    before = filled.ids()
    _copy(filled.root, filled.base / "copy")
    added = filled.engine.add_root(filled.base / "copy")
    assert added.created and "copy" in added.note
    assert added.repository.repository_id != filled.repository.repository_id
    reports = filled.engine.sync()
    assert all(report.scanned and report.verdict is None for report in reports)
    _nothing_lost(filled, before)
    copied = oracle.records(filled.engine, added.repository)
    assert copied.keys() == before.keys()
    assert not {record.file_id for record in copied.values()} & set(before.values())


def test_a_moved_root_keeps_its_id_and_its_records(filled: House):
    before, repository = filled.ids(), filled.repository
    filled.root.rename(filled.base / "new place")
    filled.root = filled.base / "new place"
    added = filled.engine.add_root(filled.root)
    assert not added.created and "moved" in added.note
    assert added.repository.repository_id == repository.repository_id
    filled.sync()
    filled.check()
    _nothing_lost(filled, before)


def test_a_root_moved_by_copying_is_held_until_it_is_accepted(filled: House):
    before = filled.ids()
    _copy(filled.root, filled.base / "new disk")
    shutil.rmtree(filled.root)
    filled.root = filled.base / "new disk"
    added = filled.engine.add_root(filled.root)
    assert added.repository.status is RepositoryStatus.HELD
    assert filled.pass_over().verdict is not None
    _nothing_lost(filled, before)
    filled.engine.accept(filled.root)
    filled.sync()
    filled.check()
    _nothing_lost(filled, before)


def test_a_root_copied_in_place_is_held_until_it_is_accepted(filled: House):
    before = filled.ids()
    _copy(filled.root, filled.base / "copy")
    shutil.rmtree(filled.root)
    (filled.base / "copy").rename(filled.root)
    for _ in range(2):
        report = filled.pass_over()
        assert report.verdict is not None
        assert (report.verdict.guard, report.verdict.outcome) == ("root", Outcome.HELD)
        assert "inode" in report.verdict.reason
    _nothing_lost(filled, before)
    filled.engine.accept(filled.root)
    filled.sync()
    filled.check()
    _nothing_lost(filled, before)
    assert filled.repository.status is RepositoryStatus.ACTIVE


@pytest.fixture
def pair(filled: House) -> tuple[House, Path]:
    """A second root beside the first, in step."""
    other = filled.base / "other"
    other.mkdir()
    for number in range(30):
        (other / f"other {number}").write_text(f"other {number}")
    filled.engine.add_root(other)
    filled.engine.sync()
    return filled, other


def test_two_roots_that_swapped_places_are_both_held(pair):
    house, other = pair
    before = {
        repository.path: oracle.records(house.engine, repository)
        for repository in house.engine.roots.all()
    }
    aside = house.base / "aside"
    house.root.rename(aside)
    other.rename(house.root)
    aside.rename(other)
    for report in house.engine.sync():
        assert report.verdict is not None
        assert report.verdict.outcome is Outcome.HELD
        assert "another root" in report.verdict.reason
    for repository in house.engine.roots.all():
        assert oracle.records(house.engine, repository).keys() == before[repository.path].keys()
        with pytest.raises(RootError, match="another root"):
            house.engine.accept(os.fsdecode(repository.path))


def test_a_root_in_the_place_of_a_removed_one_can_be_added_again(pair):
    house, _other = pair
    house.engine.roots.remove(house.repository)
    assert not (house.root / ".lifecycle").exists()
    assert {record.path for record in oracle.records(house.engine).values()} == {
        b"other %d" % number for number in range(30)
    }
    assert (house.root / "d" / "0").exists()
    with pytest.raises(NotFoundError):
        house.engine.roots.get(house.root)
    assert house.engine.add_root(house.root).created


# -- markers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": "x", "root_id": "", "registry_id": ""}',
        '{"format": 1, "root_id": 5, "registry_id": {}}',
        '{"format": 1, "root_id": "no id", "registry_id": "none"}',
        "\x00\xff",
    ],
)
def test_a_damaged_marker_holds_the_root_until_it_is_accepted(filled: House, text: str):
    before = filled.ids()
    (filled.root / _MARKER).write_text(text)
    for _ in range(2):
        (report,) = filled.engine.sync()
        assert report.verdict is not None
        assert report.verdict.outcome is Outcome.HELD
        assert "damaged" in report.verdict.reason
    _nothing_lost(filled, before)
    filled.engine.accept(filled.root)
    filled.sync()
    _nothing_lost(filled, before)


def test_a_marker_of_a_newer_format_is_left_alone(filled: House):
    before = filled.ids()
    newer = {"format": 2, "roots": {"this": "is", "not": "known"}}
    (filled.root / _MARKER).write_text(json.dumps(newer))
    (report,) = filled.engine.sync()
    assert report.verdict is not None and report.verdict.outcome is Outcome.HELD
    assert "upgrade" in report.verdict.remedy
    with pytest.raises(RegistryNewerError):
        filled.engine.accept(filled.root)
    assert json.loads((filled.root / _MARKER).read_text()) == newer
    _nothing_lost(filled, before)
    filled.engine.roots.remove(filled.repository)
    assert json.loads((filled.root / _MARKER).read_text()) == newer
    with pytest.raises(RegistryNewerError):
        filled.engine.add_root(filled.root)


@pytest.fixture
def elsewhere(tmp_path) -> Iterator[Engine]:
    """An engine on another registry."""
    (tmp_path / "elsewhere").mkdir()
    with Engine.open(settings_in(tmp_path / "elsewhere")) as engine:
        yield engine


def test_a_root_of_another_registry_needs_to_be_adopted(filled: House, elsewhere: Engine):
    before = filled.ids()
    with pytest.raises(RootError, match="another registry") as error:
        elsewhere.add_root(filled.root)
    assert "--adopt" in error.value.remedy
    assert elsewhere.roots.all() == []
    adopted = elsewhere.add_root(filled.root, adopt=True)
    assert adopted.created
    (report,) = elsewhere.sync()
    assert report.scanned
    # Now it is the first one's that is held, and the loss of the marker cannot be accepted away.
    report = filled.pass_over()
    assert report.verdict is not None and report.verdict.outcome is Outcome.HELD
    assert "another registry" in report.verdict.reason
    with pytest.raises(RootError, match="--adopt"):
        filled.engine.accept(filled.root)
    _nothing_lost(filled, before)
    filled.engine.add_root(filled.root, adopt=True)
    filled.sync()
    filled.check()
    _nothing_lost(filled, before)
    (report,) = elsewhere.sync()
    assert report.verdict is not None and report.verdict.outcome is Outcome.HELD


# -- a root that goes while it is looked at --------------------------------------------------


def test_a_root_that_goes_at_any_step_of_a_pass_loses_nothing(wired):
    house, wire = wired
    _fill(house, 6)
    _fill(house, 3, "e")
    house.sync()
    before = house.ids()
    away = house.base / "away"

    def unmount() -> None:
        house.root.rename(away)
        house.root.mkdir()

    for nth in passes(house, wire, unmount):
        house.root.rmdir()
        away.rename(house.root)
        _nothing_lost(house, before)
        house.write("new", b"%d" % nth)
        house.sync(wait=False)
        house.check()
        house.remove("new")
        house.sync(wait=False)
        _nothing_lost(house, before)


def test_a_marker_that_goes_before_the_losses_are_settled_saves_them(house: House):
    _fill(house, 5)
    house.sync()
    before = house.ids()
    marker = house.root / _MARKER

    def lose() -> None:
        # Files and marker go, as when the disk is pulled; the folder stays.
        shutil.rmtree(house.root / "d")
        marker.unlink()

    house.reopen(fs=FaultyFileOps(FileOps(), Fault(lose, "listdir")))
    (report,) = house.engine.sync([house.repository])
    assert report.verdict is not None and report.verdict.outcome is Outcome.OFFLINE
    assert report.run is not None and not report.scanned
    _nothing_lost(house, before)


# -- shrink ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "lost", "held"),
    [
        (1000, 200, False),  # 20 %, not over it
        (1000, 201, True),
        (400, 100, False),  # over 20 %, not over 100 files
        (400, 101, True),
        (40, 20, False),  # half, and 20
        (42, 21, False),  # over 20, but not over half
        (40, 21, True),
        (30, 20, False),  # over half, not over 20
        (19, 19, False),  # all, but fewer than 20
        (20, 20, True),
        (21, 20, False),
        (5, 5, False),
    ],
)
def test_shrink_holds_exactly_beyond_its_limits(house: House, known: int, lost: int, held: bool):
    _fill(house, known)
    house.sync(hashes=False)
    for number in range(lost):
        house.remove(f"d/{number}")
    report = house.pass_over(hashes=False)
    assert (report.verdict is not None) == held
    assert report.removed == (0 if held else lost)
    assert len(house.ids()) == (known if held else known - lost)


def test_new_files_do_not_outweigh_lost_ones(house: House):
    _fill(house, 20)
    house.sync(hashes=False)
    shutil.rmtree(house.root / "d")
    _fill(house, 500, "new")
    report = house.pass_over(hashes=False)
    assert report.verdict is not None
    assert "20 of 20" in report.verdict.reason


def test_new_files_of_a_pass_that_was_cut_short_do_not_outweigh_lost_ones(house: House):
    _fill(house, 20)
    house.sync(hashes=False)
    _fill(house, 500, "new")
    wire = house.wire_registry()
    wire.arm(_cut, methods=frozenset({"unseen_directories"}))
    with pytest.raises(_Cut):
        house.engine.sync([house.repository], hashes=False)
    assert len(house.ids()) == 520
    shutil.rmtree(house.root / "d")
    report = house.pass_over(hashes=False)
    assert report.verdict is not None
    assert "20 of 20" in report.verdict.reason


def test_renamed_files_are_not_lost_ones(house: House):
    _fill(house, 50)
    house.sync()
    house.rename("d", "e")
    report = house.sync()
    assert (report.moved, report.removed) == (50, 0)


def test_accepting_applies_to_no_more_than_was_shown(house: House):
    _fill(house, 100)
    house.sync(hashes=False)
    for number in range(60):
        house.remove(f"d/{number}")
    assert house.pass_over(hashes=False).missing == 60
    house.engine.accept(house.root)
    for number in range(60, 65):
        house.remove(f"d/{number}")
    report = house.pass_over(hashes=False)
    assert report.verdict is not None
    assert (report.missing, report.removed) == (65, 0)
    _repository, done = house.engine.accept(house.root)
    assert "65" in done
    assert house.pass_over(hashes=False).removed == 65
    assert house.repository.status is RepositoryStatus.ACTIVE
    assert house.repository.accepted_losses == 0
    house.check(hashes=False)


def test_an_acceptance_is_used_up_by_one_pass(house: House):
    _fill(house, 100)
    house.sync(hashes=False)
    for number in range(60):
        house.remove(f"d/{number}")
    house.pass_over(hashes=False)
    house.engine.accept(house.root)
    assert house.pass_over(hashes=False).removed == 60
    for number in range(60, 90):
        house.remove(f"d/{number}")
    assert house.pass_over(hashes=False).verdict is not None


def test_files_that_come_back_lift_the_hold(house: House):
    _fill(house, 40)
    house.sync()
    before = house.ids()
    house.root.joinpath("d").rename(house.base / "d")
    assert house.pass_over().verdict is not None
    (house.base / "d").rename(house.root / "d")
    report = house.sync()
    assert (report.removed, report.missing) == (0, 0)
    _nothing_lost(house, before)
    assert house.repository.status is RepositoryStatus.ACTIVE
    house.check()


def test_some_files_that_come_back_may_be_enough(house: House):
    _fill(house, 40)
    house.sync()
    before = house.ids()
    house.root.joinpath("d").rename(house.base / "d")
    assert house.pass_over().verdict is not None
    (house.root / "d").mkdir()
    for number in range(25):
        (house.base / "d" / f"{number}").rename(house.root / "d" / f"{number}")
    report = house.sync()
    assert report.removed == 15
    house.check()
    assert house.ids() == {path: before[path] for path in house.ids()}


def test_a_held_root_is_followed_in_all_else(house: House):
    _fill(house, 40)
    house.write("keep", b"one")
    house.sync()
    shutil.rmtree(house.root / "d")
    house.write("keep", b"two")
    house.write("new", b"new")
    assert house.pass_over().verdict is not None
    assert house.record("keep").version == 2
    assert house.record("new").checksum is not None
    assert len(house.ids()) == 42
    house.engine.accept(house.root)
    house.sync()
    house.check()


def test_a_hold_survives_a_time_offline(house: House):
    _fill(house, 40)
    house.sync()
    shutil.rmtree(house.root / "d")
    assert house.pass_over().verdict is not None
    house.root.rename(house.base / "away")
    assert house.engine.sync()[0].verdict.outcome is Outcome.OFFLINE  # type: ignore[union-attr]
    (house.base / "away").rename(house.root)
    report = house.pass_over()
    assert report.verdict is not None and report.verdict.guard == "shrink"
    assert len(house.ids()) == 40


def test_an_order_given_at_any_step_of_a_pass_is_not_lost(wired):
    house, wire = wired
    _fill(house, 25)
    house.write("f")
    house.sync()
    shutil.rmtree(house.root / "d")
    assert house.pass_over().verdict is not None
    accepted: list[str] = []

    def accept() -> None:
        accepted.append(house.engine.accept(house.root)[1])

    for nth in passes(house, wire, accept):
        # It came in time for this pass, or else for the next one.
        report = house.sync(wait=False)
        assert "25" in accepted[-1], nth
        house.check()
        assert report.repository.accepted_losses == 0
        _fill(house, 25)
        house.sync(wait=False)
        shutil.rmtree(house.root / "d")
        assert house.pass_over().verdict is not None


def test_accepting_what_is_not_held_says_so(filled: House):
    _repository, done = filled.engine.accept(filled.root)
    assert done.startswith("nothing")


def test_a_root_removed_at_any_step_of_a_pass_is_gone(wired):
    house, wire = wired
    _fill(house, 4)
    house.sync()
    for nth in count(1):
        repository = house.add()
        house.write("d/0", b"changed %d" % nth)
        wire.arm(lambda: house.engine.roots.remove(repository), nth)  # noqa: B023
        (report,) = house.engine.sync([repository])
        if not wire.sprung:
            assert nth > 10
            break
        wire.arm()
        assert house.engine.roots.all() == []
        assert house.engine.registry.query("SELECT * FROM files")[1] == []
        assert house.engine.registry.query("SELECT * FROM directories")[1] == []
        assert house.engine.registry.query("SELECT * FROM missing")[1] == []
        (report,) = house.engine.sync([repository])
        assert isinstance(report.error, NotFoundError)


def test_one_bad_root_does_not_keep_the_others_waiting(pair):
    house, other = pair
    (other / "new").write_text("new")
    house.root.rename(house.base / "away")
    reports = {report.repository.path: report for report in house.engine.sync()}
    assert reports[os.fsencode(house.root)].verdict is not None
    assert reports[os.fsencode(other)].counts.added == 1
