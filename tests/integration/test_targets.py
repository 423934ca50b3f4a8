"""Names in orders: what they stand for, and what the registry knows of it before an act."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lifecycle_sync.errors import GuardError, NotFoundError, OfflineError, UsageError
from lifecycle_sync.model.file import LifecycleState, Tracking
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.service import act_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.choosing import RestoreOrder
from lifecycle_sync.service.restoring import restore
from lifecycle_sync.service.targets import (
    Target,
    TargetKind,
    files_of,
    refresh,
    resolve,
    resolve_all,
)
from tests.support.house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    for path in ("a.txt", "d/b.txt", "d/e/c.txt", "da.txt"):
        house.write(path, path)
    os.symlink("a.txt", house.path("link"))
    house.sync()
    return house


def named(house: House, *names: str | bytes) -> list[Target]:
    return resolve_all(house.engine, [os.fsdecode(house.path(name)) for name in names], "backup")


def paths(house: House, *names: str | bytes) -> list[bytes]:
    return [file.path for file in files_of(house.engine, named(house, *names))]


# -- what a name stands for ----------------------------------------------------------------


def test_a_file_a_folder_and_a_root_are_told_apart(house: House):
    kinds = {
        "a.txt": TargetKind.FILE,
        "link": TargetKind.FILE,
        "d": TargetKind.FOLDER,
        "": TargetKind.ROOT,
    }
    for name, kind in kinds.items():
        (target,) = named(house, name)
        assert target.kind is kind, name


def test_ids_name_files_and_roots(house: House):
    record = house.record("d/b.txt")
    target = resolve(house.engine, to_text(record.file_id), "backup")
    assert (target.path, target.file_id) == (b"d/b.txt", record.file_id)
    root = resolve(house.engine, to_text(house.repository.repository_id), "backup")
    assert root.kind is TargetKind.ROOT
    with pytest.raises(NotFoundError, match="has this id"):
        resolve(house.engine, to_text(bytes(16)), "backup")


def test_a_root_may_be_named_by_a_symlink_to_it(house: House, tmp_path: Path):
    (tmp_path / "way").symlink_to(house.root)
    assert resolve(house.engine, str(tmp_path / "way"), "backup").kind is TargetKind.ROOT
    target = resolve(house.engine, str(tmp_path / "way/d/b.txt"), "backup")
    assert target.path == b"d/b.txt"


def test_names_are_bytes(house: House):
    house.write(b"odd\xff\n.txt")
    (target,) = named(house, b"odd\xff\n.txt")
    assert target.path == b"odd\xff\n.txt"


def test_what_lies_in_another_name_is_left_out(house: House):
    assert paths(house, "d/b.txt", "d", "d/e", "d") == [b"d/b.txt", b"d/e/c.txt"]
    # A name that only begins like a folder's is none of it.
    assert paths(house, "d", "da.txt") == [b"d/b.txt", b"d/e/c.txt", b"da.txt"]
    assert len(paths(house, "", "a.txt", "d")) == 5


def test_what_is_gone_can_be_named(house: House):
    house.remove("a.txt")
    shutil.rmtree(house.path("d"))
    house.sync()
    file, folder = named(house, "a.txt", "d")
    assert (file.kind, file.there, bool(file.file_id)) == (TargetKind.FILE, False, True)
    assert (folder.kind, folder.there) == (TargetKind.FOLDER, False)


@pytest.mark.parametrize("name", [".lifecycle", ".lifecycle/root.json", ".lifecycle/trash/x"])
def test_what_is_ours_is_no_subject(house: House, name):
    with pytest.raises(UsageError, match="belongs to lifecycle itself"):
        named(house, name)


# -- looking again -------------------------------------------------------------------------


def look_again(house: House, *names: str) -> list[Target]:
    return refresh(house.engine, named(house, *names), "backup")


def test_a_named_file_is_recorded_as_it_is_now_and_nothing_else(house: House):
    house.write("a.txt", "changed")
    house.write("d/b.txt", "changed, too")
    look_again(house, "a.txt")
    assert house.record("a.txt").size == 7
    assert house.record("a.txt").hash_due
    assert house.record("d/b.txt").size == len("d/b.txt")
    house.sync()
    house.check()


def test_a_new_file_gets_a_record(house: House):
    house.write("d/new.txt", "new")
    os.symlink("x", house.path("d/new-link"))
    targets = look_again(house, "d/new.txt", "d/new-link")
    assert all(target.file_id for target in targets)
    house.sync()
    house.check()


def test_a_file_in_the_place_of_one_that_was_deleted_is_another(house: House):
    old = house.record("a.txt").file_id
    house.remove("a.txt")
    house.sync()
    house.write("a.txt", "another")
    (target,) = look_again(house, "a.txt")
    assert target.file_id not in (None, old)
    assert house.by_id(old).state is LifecycleState.DELETED


def test_a_folder_is_passed_over_without_hashing(house: House):
    house.write("d/new.txt", "new")
    look_again(house, "d")
    assert house.record("d/new.txt").hash_due


def test_what_is_not_followed_is_refused_and_stays_so(house: House):
    record = house.record("a.txt")
    house.engine.unregister_file(to_text(record.file_id))
    with pytest.raises(UsageError, match="taken out of management"):
        look_again(house, "a.txt")
    assert house.by_id(record.file_id).tracking is Tracking.UNREGISTERED
    house.write(".hidden")
    with pytest.raises(UsageError, match="ignored by a rule"):
        look_again(house, ".hidden")


def test_siblings_of_a_file_that_was_registered_by_name_stay_unobserved(tmp_path: Path):
    house = House(tmp_path)
    loose = tmp_path / "loose"
    loose.mkdir()
    for name in ("mine.txt", "sibling.txt"):
        (loose / name).write_text(name)
    house.engine.register_file(loose / "mine.txt")
    with pytest.raises(UsageError, match="is not under management"):
        refresh(
            house.engine, [resolve(house.engine, str(loose / "sibling.txt"), "backup")], "backup"
        )
    (outcome,) = act_orders.back_up(house.engine, [str(loose)], How())
    assert [it.path for it in outcome.report.sample] == [b"mine.txt"]


def test_a_root_that_is_not_itself_is_neither_looked_at_nor_acted_on(house: House):
    targets = named(house, "a.txt")
    (house.root / ".lifecycle/root.json").unlink()
    with pytest.raises(OfflineError):
        refresh(house.engine, targets, "backup")
    house.engine.accept(house.root)
    (house.root / ".lifecycle/root.json").write_text("{")
    with pytest.raises(GuardError):
        refresh(house.engine, targets, "backup")


def test_what_shrink_holds_does_not_stop_an_explicit_order(house: House):
    for number in range(40):
        house.write(f"many/{number}", str(number))
    house.sync()
    assert act_orders.back_up(house.engine, [str(house.root)], How())[0].exit_code == 0
    shutil.rmtree(house.path("many"))
    assert house.pass_over().verdict is not None
    house.write("a.txt", "changed")
    (outcome,) = act_orders.back_up(house.engine, [str(house.root)], How())
    assert (outcome.report.completed, outcome.exit_code) == (1, 0)
    (back,) = restore(house.engine, RestoreOrder([str(house.root)]), How())
    assert (back.report.completed, back.exit_code) == (40, 0)
    house.sync()
    house.check()


# -- a restore of what was kept in two vaults -----------------------------------------------


def test_a_file_that_was_archived_recalled_and_lost_comes_back_in_its_newest_kept_version(
    house: House,
):
    engine, path = house.engine, str(house.root / "a.txt")
    act_orders.back_up(engine, [path], How())
    house.write("a.txt", "newer, only in the archive")
    assert act_orders.archive(engine, [path], How())[0].report.completed == 1
    assert act_orders.recall(engine, [path], How())[0].report.completed == 1
    house.remove("a.txt")
    (outcome,) = restore(engine, RestoreOrder([str(house.root)]), How())
    assert outcome.report.completed == 1
    with open(house.path("a.txt"), "rb") as file:
        assert file.read() == b"a.txt"
