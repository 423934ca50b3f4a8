"""Ignored and unregistered files: out of sight, never DELETED, and back with their ids."""

from __future__ import annotations

import os

from lifecycle_sync.model.file import LifecycleState, Tracking
from lifecycle_sync.model.ids import to_text
from tests.support import oracle
from tests.support.house import House


def _hides(*names: bytes) -> oracle.Ignores:
    """The documented rules, and every path that has one of `names` as a component or suffix."""

    def ignores(path: bytes, is_directory: bool) -> bool:
        name = path.rpartition(b"/")[2]
        return oracle.documented_ignores(path, is_directory) or name.endswith(names)

    return ignores


def test_what_a_new_rule_hides_is_untracked_and_comes_back_with_its_id(house: House):
    for name in ("a.log", "d/b.log", "d/keep.txt"):
        house.write(name)
    house.sync()
    before = house.ids()
    house.reopen(ignore=("*.log",))
    report = house.sync()
    assert report.removed == 0
    house.check(ignores=_hides(b".log"))
    assert set(house.ids()) == {b"d/keep.txt"}
    for path in (b"a.log", b"d/b.log"):
        hidden = house.by_id(before[path])
        assert (hidden.state, hidden.tracking) == (LifecycleState.UPLOADED, Tracking.IGNORED)
    house.reopen(ignore=())
    house.sync()
    house.check()
    assert house.ids() == before


def test_a_folder_that_a_new_rule_hides_comes_back_with_all_ids(house: House):
    for number in range(30):
        house.write(f"cache/{number % 3}/{number}", b"%d" % number)
    house.write("keep")
    house.sync()
    before = house.ids()
    house.reopen(ignore=("cache/",))
    for _ in range(2):
        report = house.sync()
        assert report.removed == 0
        house.check(ignores=_hides(b"cache"))
    assert all(
        house.by_id(file_id).state is not LifecycleState.DELETED for file_id in before.values()
    )
    house.reopen(ignore=())
    house.sync()
    house.check()
    assert house.ids() == before


def test_a_file_changed_while_it_was_ignored_is_updated_when_it_comes_back(house: House):
    house.write("a.log", b"one")
    house.sync()
    before = house.record("a.log")
    house.reopen(ignore=("*.log",))
    house.sync()
    house.write("a.log", b"changed meanwhile")
    house.sync()
    house.reopen(ignore=())
    house.sync()
    house.check()
    after = house.record("a.log")
    assert (after.file_id, after.version) == (before.file_id, before.version + 1)


def test_a_file_that_went_while_it_was_ignored_is_deleted_once_the_rule_goes(house: House):
    house.write("a.log")
    house.write("b")
    house.sync()
    before = house.record("a.log").file_id
    house.reopen(ignore=("*.log",))
    house.sync()
    house.remove("a.log")
    house.sync()
    assert house.by_id(before).state is LifecycleState.UPLOADED
    house.reopen(ignore=())
    house.sync()
    house.check()
    assert house.by_id(before).state is LifecycleState.DELETED


def test_many_ignored_files_that_go_hold_nothing(house: House):
    for number in range(60):
        house.write(f"d/{number}.log")
    for number in range(5):
        house.write(f"{number}")
    house.sync()
    house.reopen(ignore=("*.log",))
    house.sync()
    os.rename(house.path("d"), house.base / "d")
    house.sync()
    house.check(ignores=_hides(b".log"))


def test_the_documented_names_are_ignored_and_counted_as_unprotected(house: House):
    for name in (
        ".hidden",
        ".git/config",
        "a~",
        "b.tmp",
        "c.bak",
        "d.swp",
        "Thumbs.db",
        "2024.bak/x",
    ):
        house.write(name)
    house.write("seen")
    house.sync()
    house.check()
    assert set(house.ids()) == {b"seen", b"2024.bak/x"}
    totals = house.engine.registry.directory_totals(house.repository.repository_id)
    # The marker's own folder is ours and counts for nothing.
    assert totals.ignored == 7


def test_an_unregistered_file_stays_out_whatever_becomes_of_it(house: House):
    house.write("f", b"one")
    house.write("g", b"two")
    house.sync()
    before = house.ids()
    house.engine.unregister_file(to_text(before[b"f"]))
    assert set(house.ids()) == {b"g"}
    house.sync()
    house.save("f", b"saved anew")
    house.sync()
    os.chmod(house.path("f"), 0o600)
    house.sync()
    assert set(house.ids()) == {b"g"}
    house.rename("f", "renamed")
    house.sync()
    house.rename("renamed", "d/again")
    house.sync()
    assert set(house.ids()) == {b"g"}
    oracle.assert_sound(house.engine)


def test_an_unregistered_file_comes_back_as_itself_and_as_it_is_now(house: House):
    house.write("f", b"one")
    house.sync()
    before = house.record("f")
    house.engine.unregister_file(to_text(before.file_id))
    house.write("f", b"changed while it was out")
    os.chmod(house.path("f"), 0o600)
    house.sync()
    registered = house.engine.register_file(os.fsdecode(house.path("f")))
    assert registered.file_id == before.file_id
    house.check()
    house.sync()
    house.check()


def test_a_file_that_is_not_regular_any_more_comes_back_as_what_it_was(house: House):
    os.symlink("nowhere", house.path("f"))
    house.sync()
    before = house.record("f")
    house.engine.unregister_file(to_text(before.file_id))
    house.remove("f")
    house.write("f")
    house.sync()
    house.engine.register_file(os.fsdecode(house.path("f")))
    house.check()


def test_many_unregistered_files_that_go_hold_nothing(house: House):
    for number in range(40):
        house.write(f"{number}")
    house.sync()
    for number in range(30):
        house.engine.unregister_file(to_text(house.record(f"{number}").file_id))
    for number in range(30):
        house.remove(f"{number}")
    report = house.sync()
    assert report.removed == 0
    house.check()


def test_an_unregistered_file_that_a_rule_hides_stays_out_when_the_rule_goes(house: House):
    house.write("a.log")
    house.sync()
    before = house.record("a.log").file_id
    house.engine.unregister_file(to_text(before))
    house.reopen(ignore=("*.log",))
    house.sync()
    house.reopen(ignore=())
    house.sync()
    assert house.ids() == {}
    assert house.by_id(before).tracking is Tracking.UNREGISTERED
    registered = house.engine.register_file(os.fsdecode(house.path("a.log")))
    assert registered.file_id == before


def test_unregistering_twice_is_once(house: House):
    house.write("f")
    house.sync()
    file_id = to_text(house.record("f").file_id)
    house.engine.unregister_file(file_id)
    house.engine.unregister_file(file_id)
    operations = house.engine.registry.operations(house.engine.find_record(file_id).file_id, 10)
    assert [operation.operation_type for operation in operations] == ["unregister"]


def test_the_number_of_unprotected_entries_is_true_when_nothing_else_changed(house: House):
    house.write("d/seen")
    house.sync()
    for name in (".one", "two.tmp"):
        house.write(f"d/{name}")
        house.sync()
    assert house.engine.registry.directory_totals(None).ignored == 2
    os.unlink(house.path("d/.one"))
    house.sync()
    assert house.engine.registry.directory_totals(None).ignored == 1
