"""Files registered by name: in roots, and in folders of which nothing else is observed."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from lifecycle_sync.errors import (
    GuardError,
    LifecycleError,
    NotFoundError,
    OfflineError,
    TransitionError,
    UsageError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import FileFlag, FileRecord, LifecycleState, Tracking
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.repository import RepositoryKind
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail
from tests.support import oracle
from tests.support.house import House
from tests.support.tripwire import Tripwire, passes


def _register(house: House, path: str | Path, policy: str = "default") -> FileRecord:
    where = path if isinstance(path, Path) else os.fsdecode(house.path(path))
    return house.engine.register_file(where, policy)


def _loose(house: House, name: str = "loose") -> Path:
    folder = house.base / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# -- in a root -------------------------------------------------------------------------------


def test_a_registered_file_has_its_checksum_at_once(house: House):
    house.write("d/f", b"content")
    house.add()
    record = _register(house, "d/f")
    assert oracle.known(record) == oracle.disk(house.root)[b"d/f"]
    assert set(house.ids()) == {b"d/f"}


def test_a_pass_keeps_the_id_that_a_registered_file_was_given(house: House):
    house.write("d/f")
    house.write("d/g")
    house.add()
    given = _register(house, "d/f").file_id
    house.sync()
    house.check()
    assert house.record("d/f").file_id == given


def test_registering_again_brings_the_record_in_step_and_keeps_the_id(house: House):
    house.write("f", b"one")
    house.add()
    first = _register(house, "f")
    house.write("f", b"two, longer")
    os.chmod(house.path("f"), 0o600)
    second = _register(house, "f")
    house.check()
    assert (second.file_id, second.version) == (first.file_id, 2)


def test_a_file_known_by_a_pass_is_registered_under_its_id(house: House):
    house.write("f")
    house.sync()
    before = house.record("f").file_id
    assert _register(house, "f").file_id == before


def test_a_deleted_file_that_is_back_is_registered_as_another(house: House):
    house.write("f")
    house.sync()
    before = house.record("f").file_id
    house.remove("f")
    house.sync()
    house.write("f")
    assert _register(house, "f").file_id != before
    house.sync()
    house.check()


def test_a_missing_file_that_is_back_is_registered_as_itself(house: House):
    for number in range(25):
        house.write(f"d/{number}")
    house.sync()
    before = house.ids()
    house.root.joinpath("d").rename(house.base / "d")
    assert house.pass_over().verdict is not None
    house.write("d/7")
    assert _register(house, "d/7").file_id == before[b"d/7"]
    house.pass_over()
    assert house.ids() == before
    house.engine.accept(house.root)
    house.sync()
    house.check()
    assert house.ids() == {b"d/7": before[b"d/7"]}


@pytest.mark.parametrize("policy", ["media", "archives", "default"])
def test_a_policy_that_is_named_is_remembered(house: House, policy: str):
    house.write("f.txt")
    house.add()
    record = _register(house, "f.txt", policy)
    expected = "documents" if policy == "default" else policy
    assert (record.policy_name, record.policy_explicit) == (expected, policy != "default")
    house.save("f.txt", b"anew")
    house.sync()
    assert house.record("f.txt").policy_name == expected
    # "default" leaves what was chosen.
    assert _register(house, "f.txt").policy_name == expected


# -- what cannot be registered ---------------------------------------------------------------


def _in_root(house: House) -> Path:
    house.add()
    return house.root


def _outside(house: House) -> Path:
    return _loose(house)


@pytest.mark.parametrize("place", [_in_root, _outside])
@pytest.mark.parametrize(
    ("kind", "error", "cause"),
    [
        ("missing", NotFoundError, "does not exist"),
        ("missing folder", NotFoundError, "does not exist"),
        ("below a file", NotFoundError, "does not exist"),
        ("symlink", UsageError, "not a regular file"),
        ("dangling symlink", UsageError, "not a regular file"),
        ("fifo", UsageError, "not a regular file"),
        ("folder", UsageError, "not a regular file"),
    ],
)
def test_what_is_no_file_is_refused_and_leaves_nothing_behind(
    house: House, place, kind: str, error: type[LifecycleError], cause: str
):
    folder = place(house)
    before = house.engine.roots.all()
    path = folder / "x"
    if kind == "symlink":
        (folder / "real").write_text("x")
        path.symlink_to("real")
    elif kind == "dangling symlink":
        path.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "missing folder":
        path = path / "y"
    elif kind == "below a file":
        path.write_text("x")
        path = path / "y"
    with pytest.raises(error, match=cause) as caught:
        house.engine.register_file(path)
    assert caught.value.remedy and caught.value.exit_code == 2
    assert house.engine.roots.all() == before
    assert oracle.records(house.engine) == {}
    assert house.engine.registry.query("SELECT * FROM operations")[1] == []


@pytest.mark.parametrize("place", [_in_root, _outside])
def test_an_unknown_policy_is_refused_and_leaves_nothing_behind(house: House, place):
    folder = place(house)
    before = house.engine.roots.all()
    (folder / "f").write_text("x")
    with pytest.raises(NotFoundError, match="no such policy"):
        house.engine.register_file(folder / "f", "no such")
    assert house.engine.roots.all() == before
    assert oracle.records(house.engine) == {}


@pytest.mark.parametrize("name", [".hidden", "f~", "f.bak", ".git/config", ".lifecycle/root.json"])
def test_a_file_that_a_rule_hides_is_refused_in_a_root(house: House, name: str):
    house.add()
    if not name.startswith(".lifecycle"):
        house.write(name)
    with pytest.raises(UsageError, match="ignored by a rule"):
        _register(house, name)
    assert house.ids() == {}


def test_own_files_are_refused(house: House):
    house.sync()
    (house.base / "vault").mkdir()
    (house.base / "vault" / "FORMAT").write_text("{}")
    own = [house.settings.database_path, Path(f"{house.settings.database_path}.lock")]
    for path in [*own, house.base / "vault" / "FORMAT"]:
        with pytest.raises(UsageError, match="lifecycle itself"):
            house.engine.register_file(path)
    assert len(house.engine.roots.all()) == 1


def test_a_file_in_a_root_that_is_not_itself_is_refused(house: House):
    house.write("f")
    house.add()
    shutil.rmtree(house.root / ".lifecycle")
    with pytest.raises(OfflineError):
        _register(house, "f")
    house.engine.accept(house.root)
    _register(house, "f")
    copy = house.base / "copy"
    shutil.copytree(house.root, copy)
    shutil.rmtree(house.root)
    copy.rename(house.root)
    with pytest.raises(GuardError):
        _register(house, "f")


def test_a_file_that_cannot_be_read_is_registered_and_flagged(house: House):
    house.write("f")
    house.add()
    fault = Fault(
        fail(errno.EACCES),
        "open_read_stat",
        where=lambda _method, arguments: arguments["name"] == b"f",
        lasting=True,
    )
    house.reopen(fs=FaultyFileOps(FileOps(), fault))
    record = _register(house, "f")
    assert record.flags & FileFlag.UNREADABLE and record.checksum is None
    house.reopen()
    house.sync()
    house.check()


# -- loose files -----------------------------------------------------------------------------


def test_a_file_outside_every_root_leaves_its_siblings_unobserved(house: House):
    folder = _loose(house)
    (folder / "f").write_text("mine")
    (folder / "sibling").write_text("not mine")
    (folder / "inner").mkdir()
    (folder / "inner" / "g").write_text("not mine")
    record = _register(house, folder / "f")
    assert oracle.known(record) == oracle.disk(folder)[b"f"]
    (loose,) = house.engine.roots.all()
    assert (loose.kind, loose.path) == (RepositoryKind.LOOSE, os.fsencode(folder))
    assert not (folder / ".lifecycle").exists()
    for _ in range(2):
        (report,) = house.engine.sync()
        assert report.scanned and report.counts.files == 1
    assert set(oracle.records(house.engine)) == {b"f"}


def test_changes_of_a_loose_file_are_seen_by_a_pass(house: House):
    folder = _loose(house)
    (folder / "f").write_text("one")
    (folder / "g").write_text("one")
    first = _register(house, folder / "f")
    _register(house, folder / "g")
    (folder / "f").write_text("two, longer")
    house.engine.sync()
    changed = house.by_id(first.file_id)
    assert oracle.known(changed) == oracle.disk(folder)[b"f"]
    assert changed.version == 2
    (folder / "f").unlink()
    (report,) = house.engine.sync()
    assert report.removed == 1
    assert house.by_id(first.file_id).state is LifecycleState.DELETED
    assert set(oracle.records(house.engine)) == {b"g"}
    # What comes back was not registered.
    (folder / "f").write_text("three")
    house.engine.sync()
    assert set(oracle.records(house.engine)) == {b"g"}
    assert _register(house, folder / "f").file_id != first.file_id


@pytest.mark.parametrize("name", [".env", "notes.bak", "Thumbs.db"])
def test_a_loose_file_that_a_rule_would_hide_is_deleted_when_it_goes(house: House, name: str):
    folder = _loose(house)
    (folder / name).write_text("one")
    record = _register(house, folder / name)
    house.engine.sync()
    assert house.by_id(record.file_id).tracking is Tracking.TRACKED
    (folder / name).unlink()
    house.engine.sync()
    assert house.by_id(record.file_id).state is LifecycleState.DELETED


def test_a_loose_file_may_lie_below_another_ones_folder(house: House):
    folder = _loose(house)
    inner = _loose(house, "loose/a/b")
    (folder / "f").write_text("f")
    (inner / "g").write_text("g")
    _register(house, folder / "f")
    _register(house, inner / "g")
    (loose,) = house.engine.roots.all()
    assert set(oracle.records(house.engine, loose)) == {b"f", b"a/b/g"}
    shutil.rmtree(folder / "a")
    house.engine.sync()
    assert set(oracle.records(house.engine, loose)) == {b"f"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_loose_file_that_becomes_something_else_is_deleted(house: House, make):
    folder = _loose(house)
    (folder / "f").write_text("f")
    record = _register(house, folder / "f")
    (folder / "f").unlink()
    make(folder / "f")
    house.engine.sync()
    house.engine.sync()
    assert house.by_id(record.file_id).state is LifecycleState.DELETED
    oracle.assert_sound(house.engine)


def test_an_unregistered_loose_file_stays_out_and_comes_back_as_itself(house: House):
    folder = _loose(house)
    (folder / "f").write_text("f")
    record = _register(house, folder / "f")
    house.engine.unregister_file(to_text(record.file_id))
    house.engine.sync()
    assert oracle.records(house.engine) == {}
    assert _register(house, folder / "f").file_id == record.file_id


def test_a_loose_folder_that_is_unmounted_is_offline(house: House):
    folder = _loose(house)
    (folder / "f").write_text("f")
    record = _register(house, folder / "f")
    folder.rename(house.base / "away")
    (report,) = house.engine.sync()
    assert report.verdict is not None
    assert house.by_id(record.file_id).state is LifecycleState.UPLOADED
    folder.mkdir()  # the empty mount point
    (report,) = house.engine.sync()
    assert report.verdict is not None
    assert house.by_id(record.file_id).state is LifecycleState.UPLOADED


# -- a root around loose files ---------------------------------------------------------------


@pytest.mark.parametrize("around", ["itself", "parent", "child"])
def test_a_root_takes_over_loose_files_with_their_ids(house: House, around: str):
    top = _loose(house, "top")
    middle = _loose(house, "top/middle")
    bottom = _loose(house, "top/middle/bottom")
    for folder in (middle, bottom):
        for name in ("f", "g", "sibling"):
            (folder / name).write_text(f"{folder} {name}")
    given = {
        path: _register(house, path, "archives")
        for path in (middle / "f", bottom / "f", bottom / "g")
    }
    house.engine.unregister_file(to_text(given[bottom / "g"].file_id))
    root = {"itself": middle, "parent": top, "child": bottom}[around]
    added = house.engine.add_root(root)
    # At once, before the first pass.
    for path, record in given.items():
        taken = house.by_id(record.file_id)
        if path.is_relative_to(root):
            assert taken.repository_id == added.repository.repository_id
            assert taken.path == os.fsencode(path.relative_to(root))
        else:
            assert taken.repository_id != added.repository.repository_id
    reports = house.engine.sync()
    assert all(report.scanned and report.verdict is None for report in reports)
    for record in given.values():
        now = house.by_id(record.file_id)
        assert (now.checksum, now.policy_name, now.state) == (
            record.checksum,
            "archives",
            LifecycleState.UPLOADED,
        )
    loose = [item for item in house.engine.roots.all() if item.kind is RepositoryKind.LOOSE]
    assert len(loose) == (1 if around == "child" else 0)
    live = oracle.records(house.engine, added.repository)
    left_out = os.fsencode((bottom / "g").relative_to(root))
    assert live.keys() == oracle.disk(root).keys() - {left_out}
    if around == "child":
        assert set(oracle.records(house.engine, loose[0])) == {b"f"}
    again = _register(house, bottom / "f")
    assert again.file_id == given[bottom / "f"].file_id
    oracle.assert_sound(house.engine)


def test_several_loose_folders_come_into_one_root(house: House):
    top = _loose(house, "top")
    given = {}
    # The deeper ones first: each folder is a repository of its own then.
    for name in ("a/b/c", "a/b", "a", ""):
        folder = _loose(house, f"top/{name}")
        (folder / "f").write_text(name)
        given[os.path.join(name, "f")] = _register(house, folder / "f").file_id
    assert len(house.engine.roots.all()) == 4
    added = house.engine.add_root(top)
    assert house.engine.roots.all() == [added.repository]
    house.engine.sync()
    live = oracle.records(house.engine, added.repository)
    assert {os.fsdecode(path): record.file_id for path, record in live.items()} == given


def test_a_loose_file_that_went_before_the_root_came_is_deleted(house: House):
    folder = _loose(house)
    for name in ("f", "g"):
        (folder / name).write_text(name)
    gone, kept = _register(house, folder / "f"), _register(house, folder / "g")
    (folder / "f").unlink()
    (folder / "g").rename(folder / "renamed")
    added = house.engine.add_root(folder)
    house.engine.sync()
    assert house.by_id(gone.file_id).state is LifecycleState.DELETED
    live = oracle.records(house.engine, added.repository)
    assert {path: record.file_id for path, record in live.items()} == {b"renamed": kept.file_id}


def test_a_root_that_moves_onto_loose_files_takes_them_over(house: House):
    house.write("f")
    house.sync()
    before = house.ids()
    folder = _loose(house)
    (folder / "g").write_text("g")
    _register(house, folder / "g")
    shutil.rmtree(folder)
    house.root.rename(folder)
    added = house.engine.add_root(folder)
    assert not added.created
    assert [item.kind for item in house.engine.roots.all()] == [RepositoryKind.ROOT]
    house.root = folder
    house.sync()
    house.check()
    assert house.ids() == before


# -- claims ----------------------------------------------------------------------------------


def test_a_claimed_file_is_processing_until_it_is_released(house: House):
    house.write("f", b"one")
    house.sync()
    file_id = to_text(house.record("f").file_id)
    for _ in range(2):
        assert house.engine.claim(file_id).state is LifecycleState.PROCESSING
    house.write("f", b"written by the application")
    house.sync()
    house.check()
    during = house.record("f")
    assert during.state is LifecycleState.PROCESSING
    assert during.flags & FileFlag.CLAIMED
    for _ in range(2):
        assert house.engine.release(file_id).state is LifecycleState.UPLOADED
    operations = house.engine.registry.operations(during.file_id, 10)
    assert [operation.operation_type for operation in operations][:2] == ["release", "claim"]


def test_releasing_a_file_that_went_does_not_bring_it_back(house: House):
    house.write("f")
    house.write("g")
    house.sync()
    old = house.record("f").file_id
    house.engine.claim(to_text(old))
    house.remove("f")
    house.sync()
    house.write("f", b"another")
    house.sync()
    assert house.engine.release(to_text(old)).state is LifecycleState.DELETED
    house.check()
    assert not house.by_id(old).flags & FileFlag.CLAIMED


def test_a_deleted_file_cannot_be_claimed(house: House):
    house.write("f")
    house.write("g")
    house.sync()
    file_id = house.record("f").file_id
    house.remove("f")
    house.sync()
    with pytest.raises(TransitionError):
        house.engine.claim(to_text(file_id))


@pytest.mark.parametrize("order", ["claim", "release", "unregister_file"])
@pytest.mark.parametrize("text", ["", "no id", "00000000-0000-7000-8000-000000000000"])
def test_an_order_on_an_unknown_id_is_an_error(house: House, order: str, text: str):
    with pytest.raises(NotFoundError):
        getattr(house.engine, order)(text)


# -- registering beside a scan ---------------------------------------------------------------


def test_a_file_registered_at_any_step_of_a_pass_keeps_its_id(wired):
    house, wire = wired
    for path in ("d/f", "e/g", "h"):
        house.write(path)
    house.sync()
    house.write("e/g", b"changed")
    given: dict[bytes, bytes] = {}

    def register() -> None:
        house.write("d/new")
        os.chmod(house.path("e/g"), 0o600)
        given[b"d/new"] = _register(house, "d/new").file_id
        given[b"e/g"] = _register(house, "e/g").file_id

    for nth in passes(house, wire, register):
        house.sync(wait=False)
        house.check()
        ids = house.ids()
        assert {path: ids[path] for path in given} == given, nth
        os.chmod(house.path("e/g"), 0o644)
        house.remove("d/new")
        house.sync(wait=False)
        house.write("e/g", b"changed %d" % nth)


def test_a_missing_file_registered_at_any_step_of_a_pass_keeps_its_id(wired):
    house, wire = wired
    house.write("other")
    house.write("f", b"0")
    house.sync()
    before = house.record("f").file_id
    house.remove("f")
    given: list[bytes] = []

    def back() -> None:
        house.write("f", b"back %d" % len(given))
        given.append(_register(house, "f").file_id)

    for nth in passes(house, wire, back):
        house.sync(wait=False)
        house.check()
        # Once it has been recorded as deleted, it is another file.
        deleted = house.by_id(before).state is LifecycleState.DELETED
        assert (given[-1] != before) == deleted, nth
        assert house.record("f").file_id == given[-1], nth
        before = given[-1]
        house.remove("f")


def test_a_renamed_file_registered_at_any_step_of_a_pass_keeps_the_id_it_was_given(wired):
    house, wire = wired
    house.write("other")
    house.write("d/old", b"content")
    house.sync()
    house.rename("d/old", "e/new")
    given: list[bytes] = []

    def register() -> None:
        given.append(_register(house, "e/new").file_id)

    for nth in passes(house, wire, register):
        house.sync(wait=False)
        house.check()
        assert house.record("e/new").file_id == given[-1], nth
        house.rename("e/new", "d/old")
        house.sync(wait=False)
        # Found by a scan, not by name: then it may move again.
        house.engine.unregister_file(to_text(house.record("d/old").file_id))
        house.remove("d/old")
        house.sync(wait=False)
        house.write("d/old", b"content %d" % nth)
        house.sync(wait=False)
        house.rename("d/old", "e/new")


def test_a_file_unregistered_at_any_step_of_a_pass_stays_out(wired):
    house, wire = wired
    for path in ("d/f", "h"):
        house.write(path)
    house.sync()
    file_id = house.record("d/f").file_id
    house.write("d/f", b"changed")
    house.rename("h", "e/h")

    def unregister() -> None:
        house.engine.unregister_file(to_text(file_id))

    for nth in passes(house, wire, unregister):
        for _ in range(2):
            record = house.by_id(file_id)
            assert record.tracking is Tracking.UNREGISTERED, nth
            assert record.state is not LifecycleState.DELETED
            house.sync(wait=False)
        assert _register(house, "d/f").file_id == file_id
        house.check()
        house.write("d/f", b"changed %d" % nth)
        house.rename("e/h", "h")
        house.sync(wait=False, hashes=False)
        house.rename("h", "e/h")


def test_a_file_claimed_at_any_step_of_a_pass_is_processing(wired):
    house, wire = wired
    house.write("d/f")
    house.sync()
    file_id = house.record("d/f").file_id
    house.write("d/f", b"changed")

    def claim() -> None:
        house.engine.claim(to_text(file_id))

    for nth in passes(house, wire, claim):
        for _ in range(2):
            record = house.by_id(file_id)
            assert record.state is LifecycleState.PROCESSING, nth
            assert record.flags & FileFlag.CLAIMED
            house.sync(wait=False)
            house.check()
        house.engine.release(to_text(file_id))
        house.write("d/f", b"changed %d" % nth)


def test_many_threads_may_register_and_scan_at_once(house: House):
    house.add()
    each, threads = 60, 4
    for number in range(each * threads):
        house.write(f"{number % 5}/{number}", b"%d" % number)
    given: dict[str, bytes] = {}
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + each):
                name = f"{number % 5}/{number}"
                given[name] = _register(house, name).file_id
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(each * n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        house.pass_over()
    for worker in workers:
        worker.join()
    assert not failures
    house.sync()
    house.check()
    assert {os.fsdecode(path): file_id for path, file_id in house.ids().items()} == given


def test_a_file_registered_while_a_root_is_put_around_its_folder_is_the_roots(tmp_path: Path):
    wire = Tripwire(FileOps())
    house = House(tmp_path, fs=wire)
    house.write("f")
    # The folder is no root yet, so the file begins in a loose repository.
    wire.arm(lambda: house.engine.add_root(house.root), 8)
    record = house.engine.register_file(house.root / "f")
    (repository,) = house.engine.roots.all()
    assert wire.sprung
    assert repository.kind is RepositoryKind.ROOT
    assert record.repository_id == repository.repository_id
    house.engine.close()
