"""A registry that is lost or damaged is made again from its roots, and nothing old is destroyed."""

from __future__ import annotations

import errno
import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.errors import (
    BusyError,
    CancelledError,
    RegistryForeignError,
    RegistryNewerError,
    RootError,
    StorageFullError,
    UsageError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActOutcome, Intent, RecordChange, VersionRow
from lifecycle_sync.model.file import FileFlag, FileRecord, LifecycleState, Tracking
from lifecycle_sync.model.hold import Confirmation, Hold
from lifecycle_sync.model.ids import IdSource, to_text
from lifecycle_sync.model.operation import ActRun
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.repository import RepositoryStatus
from lifecycle_sync.registry.schema import migrations
from lifecycle_sync.service import rebuild_files
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.rebuild import RebuildReport, RebuiltRoot, rebuild
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail, kill
from tests.support.house import House, settings_in

PAGE = 8192
SET_ASIDE = "registry.db.{}-*Z"
# What changes files so that a later run can see it.
CHANGES = (
    "create",
    "write",
    "mkdir",
    "make_directories",
    "rmdir",
    "unlink",
    "rename",
    "rename_noreplace",
)


@pytest.fixture
def old(tmp_path) -> Iterator[House]:
    """A root with files that are recorded and hashed; its registry is closed."""
    house = House(tmp_path)
    for number in range(30):
        house.write(f"folder {number % 3}/file {number}.txt", f"content {number}")
    house.write(b"odd \xff name", b"odd")
    house.sync()
    house.engine.close()
    yield house
    house.engine.close()


def database(house: House) -> Path:
    return house.base / "registry.db"


def remake(house: House, *roots: Path, **options: object) -> RebuildReport:
    """Rebuild the closed registry of a house, and open it again."""
    report = rebuild(house.settings, roots or [house.root], **options)  # type: ignore[arg-type]
    house.reopen()
    return report


def the_root(report: RebuildReport) -> RebuiltRoot:
    (root,) = report.roots
    return root


def ids_of(house: House) -> dict[bytes, bytes]:
    house.reopen()
    ids = house.ids()
    house.engine.close()
    return ids


def everything_in(folder: Path) -> dict[str, bytes]:
    """Names and bytes of the files in a folder, but for locks and shared memory."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and not path.name.endswith("-shm")
    }


def make_big(house: House, files: int = 1500) -> None:
    """Enough records that a page of garbage hits only some of them."""
    house.reopen()
    for number in range(files):
        house.write(f"many/a rather long name of a file {number:04}.txt", str(number))
    house.sync()
    house.engine.close()


def spoil(path: Path, *pages: int) -> bytes:
    """Overwrite pages (counted from 1) with garbage; the bytes of the file then."""
    noise = random.Random(1)
    with open(path, "r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(noise.randbytes(PAGE))
    return path.read_bytes()


def leaf_pages(path: Path, table: str) -> list[int]:
    with closing(apsw.Connection(str(path))) as connection:
        rows: list[Any] = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno",
            (table,),
        ).fetchall()
    return [row[0] for row in rows]


# -- lost ----------------------------------------------------------------------------------


def test_a_lost_registry_comes_back_with_the_ids_of_its_roots(old):
    old.reopen()
    before = (old.engine.registry.registry_id, old.repository.repository_id)
    paths = set(old.ids())
    old.engine.close()
    for suffix in ("", "-wal", "-shm"):
        (old.base / f"registry.db{suffix}").unlink()
    report = remake(old)
    assert the_root(report).outcome == "scanned"
    assert "keeps its id" in the_root(report).note
    assert report.set_aside == ""
    assert report.origin == "the markers of the roots"
    assert any("ids and history of files" in line for line in report.lost)
    assert (old.engine.registry.registry_id, old.repository.repository_id) == before
    assert set(old.ids()) == paths
    old.check()
    assert old.engine.registry.to_hash_totals(old.repository.repository_id) == (0, 0)


@pytest.mark.parametrize("content", [b"", b"Dear diary, " * 1000, b"\xff\xd8\xff\xe0 a picture"])
def test_what_stands_in_its_place_is_set_aside_unchanged(old, content):
    database(old).write_bytes(content)
    report = remake(old)
    kind = "corrupt" if content else "set-aside"
    (aside,) = old.base.glob(SET_ASIDE.format(kind))
    assert report.set_aside == str(aside)
    assert aside.read_bytes() == content
    old.check()
    assert not (old.base / "registry.db.rebuild").exists()


def test_what_was_set_aside_is_never_overwritten(old):
    clock = FixedClock(1_767_323_045_000_000_000)
    for content in (b"first", b"second"):
        database(old).write_bytes(content)
        rebuild(old.settings, [old.root], clock=clock)
        old.reopen()
        old.engine.close()
    kept = [path.read_bytes() for path in sorted(old.base.glob("registry.db.corrupt-*"))]
    assert b"first" in kept
    assert b"second" in kept


def test_a_registry_that_is_lost_takes_its_ids_from_one_that_was_set_aside(old):
    ids = ids_of(old)
    database(old).rename(old.base / "registry.db.corrupt-20260101T000000Z")
    # As a start without the lost one leaves it.
    old.reopen()
    with pytest.raises(RootError, match="another registry"):
        old.add()
    old.engine.close()
    report = remake(old)
    assert report.source.endswith("registry.db.corrupt-20260101T000000Z")
    assert the_root(report).outcome == "scanned"
    assert old.ids() == ids
    old.check()


# -- damaged -------------------------------------------------------------------------------


def test_ids_survive_around_damaged_pages(old):
    make_big(old)
    ids = ids_of(old)
    leaves = leaf_pages(database(old), "files")
    damaged = spoil(database(old), leaves[3], leaves[-4])
    report = remake(old)
    assert Path(report.set_aside).read_bytes() == damaged
    now = old.ids()
    same = sum(now[path] == ids[path] for path in ids)
    lost = len(ids) - same
    assert now.keys() == ids.keys()
    assert 0 < lost < 100
    assert the_root(report).kept == same
    assert report.lost == (
        f"up to {lost} records of files: their files get new ids, and their history begins anew",
    )
    old.check()
    assert old.engine.registry.check_integrity() == []


def test_ids_survive_in_what_is_left_of_a_torn_database(old):
    make_big(old)
    ids = ids_of(old)
    leaves = leaf_pages(database(old), "files")
    os.truncate(database(old), leaves[len(leaves) // 2] * PAGE)
    report = remake(old)
    now = old.ids()
    assert now.keys() == ids.keys()
    assert sum(now[path] == ids[path] for path in ids) == the_root(report).kept > 0
    assert report.lost
    old.check()


def test_damage_to_an_index_alone_loses_nothing(old):
    make_big(old)
    ids = ids_of(old)
    spoil(database(old), leaf_pages(database(old), "files_seq")[0])
    report = remake(old)
    assert report.lost == ()
    assert old.ids() == ids
    old.check()


def test_rows_that_make_no_sense_are_not_taken_over(old):
    with closing(sqlite3.connect(database(old), isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        rows = [row[0] for row in connection.execute("SELECT row_id FROM files LIMIT 9")]
        for row, change in zip(
            rows,
            (
                "state = 77",
                "kind = 4",
                "name = x'2e2e'",
                "name = x'612f62'",
                "file_id = x'00'",
                "directory_id = 999",
                "algorithm = 9",
                # These are mended.
                "policy = 99",
                "attribute_id = 99",
            ),
            strict=True,
        ):
            connection.execute(f"UPDATE files SET {change} WHERE row_id = ?", (row,))
        connection.execute("UPDATE files SET seq = 1 << 60")
        connection.execute("UPDATE files SET checksum = x'00' WHERE row_id % 2 = 0")
    report = remake(old, force=True)
    assert report.lost == (
        "7 records of files: their files get new ids, and their history begins anew",
    )
    old.check()
    assert old.engine.registry.last_seq() < 1 << 40


def test_blocks_that_the_disk_cannot_read_count_as_damage(old):
    make_big(old)
    ids = ids_of(old)
    bad = (leaf_pages(database(old), "files")[2] - 1) * PAGE

    def hits(_method: str, given: dict[str, int]) -> bool:
        here = os.readlink(f"/proc/self/fd/{given['fd']}") == str(database(old))
        return here and given["offset"] <= bad < given["offset"] + given["n"]

    class Disk(FaultyFileOps):
        def arguments(self, method, args, kwargs):
            # pread is the system's own, and nobody knows the names of its parameters.
            return dict(zip(("fd", "n", "offset"), args, strict=False))

    faulty = Disk(FileOps(), Fault(fail(errno.EIO), "pread", where=hits, lasting=True))
    report = remake(old, force=True, fs=faulty)
    now = old.ids()
    assert faulty.fired == 2  # a whole chunk, then the one block in it
    assert 0 < sum(now[path] != ids[path] for path in ids) < 100
    assert the_root(report).kept < len(ids)


# -- what is carried over ------------------------------------------------------------------


def test_what_the_registry_remembers_is_carried_over(old, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "letter.txt").write_text("dear")
    (outside / "sibling.txt").write_text("not registered")
    old.reopen()
    engine = old.engine
    names = [f"folder 0/file {number}.txt" for number in (0, 3, 6, 9)]
    claimed, unregistered, chosen, suspect = (old.record(name) for name in names)
    engine.claim(to_text(claimed.file_id))
    engine.unregister_file(to_text(unregistered.file_id))
    engine.register_file(old.root / names[2], "media")
    loose = engine.register_file(outside / "letter.txt")
    rot(old, names[3])
    old.sync(scrub=True)
    engine.registry.update_repository(old.repository.evolve(enforce=True))
    before = old.repository
    act, version, hold = leave_traces(old, claimed)
    history = engine.registry.operations(claimed.file_id, 10)
    runs = engine.registry.runs(None, 100)
    engine.close()

    report = remake(old, force=True)

    assert report.lost == ()
    assert {root.outcome for root in report.roots} == {"scanned"}
    registry = old.engine.registry
    assert old.repository.enforce
    assert old.repository.added_ns == before.added_ns
    now = old.by_id(claimed.file_id)
    assert now.state is LifecycleState.PROCESSING
    assert now.flags & FileFlag.CLAIMED
    assert registry.operations(claimed.file_id, 10) == history
    assert [row.operation_id for row in registry.pending_operations(None)] == [
        history[0].operation_id
    ]
    assert registry.acts(None, 10) == [act]
    assert registry.versions(claimed.file_id) == [version]
    assert registry.holds() == [hold]
    assert registry.confirmations(before.repository_id)[0].guard == "mass"
    # What the vaults tell is taken up again, and older than what is here.
    assert registry.applied_manifests(b"s" * 16) == set()
    assert [policy.name for policy in registry.policies()][-1] == "contracts"
    assert old.by_id(unregistered.file_id).tracking is Tracking.UNREGISTERED
    assert old.by_id(chosen.file_id).policy_name == "media"
    assert old.by_id(chosen.file_id).policy_explicit
    assert old.by_id(suspect.file_id).flags & FileFlag.SUSPECT
    assert old.by_id(suspect.file_id).checksum == suspect.checksum
    assert old.by_id(loose.file_id).checksum == loose.checksum
    assert len(registry.runs(None, 100)) > len(runs)
    assert registry.check_integrity() == []
    # And it goes on as any other registry does.
    old.engine.release(to_text(claimed.file_id))
    old.write("new")
    old.sync()


def leave_traces(house: House, record: FileRecord) -> tuple[ActRun, VersionRow, Hold]:
    """An act that is not finished, a version of an act before, a hold and a policy."""
    registry = house.engine.registry
    root, now_ns = record.repository_id, house.engine.now_ns()
    ids = IdSource(house.engine.now_ns)
    registry.put_policy(LifecyclePolicy("contracts"), now_ns)
    hold = Hold(ids.one(), record.file_id, None, "audit", "me", now_ns)
    registry.add_hold(hold)
    registry.add_confirmation(Confirmation(root, "mass", "5 of 6", now_ns))
    act = registry.begin_act(root, "backup", now_ns)
    version = VersionRow(ids.one(), 1, "blake3", b"v" * 32, 5, 6, now_ns, "ab/manifest")
    for change in (RecordChange(record.file_id, version=version), None):
        intent = Intent(ids.one(), record.file_id, "backup")
        assert registry.begin_operations(act, [intent], now_ns, unless_held=False) == {}
        if change is not None:
            outcome = ActOutcome(intent.operation_id, "completed", None, change)
            registry.finish_operations(act, [outcome], now_ns, manifests=[(b"s" * 16, "m")])
    return act, version, hold


def rot(house: House, name: str) -> None:
    """Change a file's content so that nobody can see it: the ctime is given back, too."""
    path = os.fsencode(house.root / name)
    status = os.lstat(path)
    with open(path, "r+b") as file:
        file.write(b"C")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    ctime = os.lstat(path).st_ctime_ns
    connection = house.engine.registry._db
    with connection.write() as writer:
        writer.execute("UPDATE files SET ctime_ns = ? WHERE inode = ?", (ctime, status.st_ino))
        writer.execute("UPDATE directories SET signature = NULL")


def test_the_disk_is_believed_and_not_the_old_registry(old):
    ids = ids_of(old)
    same_tuple = old.root / "folder 0" / "file 0.txt"
    status = os.lstat(same_tuple)
    same_tuple.write_text("CONTENT 0")
    os.utime(same_tuple, ns=(status.st_atime_ns, status.st_mtime_ns))
    with closing(sqlite3.connect(database(old), isolation_level=None)) as connection:
        # Not even a ctime that fits makes an old checksum true.
        connection.execute(
            "UPDATE files SET ctime_ns = ? WHERE inode = ?",
            (os.lstat(same_tuple).st_ctime_ns, status.st_ino),
        )
    old.remove("folder 1/file 1.txt")
    old.write("folder 1/file 4.txt", "longer than before")
    old.rename("folder 2/file 2.txt", "moved.txt")
    remake(old, force=True)
    old.check()
    now = old.ids()
    assert now[b"folder 0/file 0.txt"] == ids[b"folder 0/file 0.txt"]
    assert now[b"moved.txt"] == ids[b"folder 2/file 2.txt"]
    gone = old.by_id(ids[b"folder 1/file 1.txt"])
    assert gone.state is LifecycleState.DELETED


def test_a_great_loss_is_held_as_after_any_scan(old):
    for path in list(old.root.iterdir()):
        if path.name != ".lifecycle" and path.is_dir():
            for file in path.iterdir():
                file.unlink()
    report = remake(old, force=True)
    root = the_root(report)
    assert root.outcome == "held"
    assert "gone" in root.note
    assert "accept" in root.note
    assert old.engine.registry.live_count(old.repository.repository_id) == 31


# -- refusals ------------------------------------------------------------------------------


def test_a_whole_registry_is_refused_unless_forced(old):
    before = everything_in(old.base)
    with pytest.raises(UsageError, match="whole") as caught:
        rebuild(old.settings, [old.root])
    assert "--force" in caught.value.remedy
    assert everything_in(old.base) == before


def test_a_second_rebuild_does_no_harm(old):
    spoil(database(old), leaf_pages(database(old), "files_seq")[0])
    remake(old)
    ids = old.ids()
    old.engine.close()
    before = everything_in(old.base)
    with pytest.raises(UsageError, match="whole"):
        rebuild(old.settings, [old.root])
    assert everything_in(old.base) == before
    remake(old, force=True)
    assert old.ids() == ids


def test_a_rebuild_without_any_root_is_refused(old):
    database(old).write_bytes(b"nothing to be read")
    before = everything_in(old.base)
    with pytest.raises(UsageError, match="no root") as caught:
        rebuild(old.settings)
    assert "FOLDER" in caught.value.remedy
    assert everything_in(old.base) == before


@pytest.mark.parametrize("wrong", ["nowhere", "folder 0/file 0.txt", "/"])
def test_a_folder_that_can_be_no_root_is_refused_before_anything_changes(old, wrong):
    database(old).write_bytes(b"nothing to be read")
    before = everything_in(old.base)
    with pytest.raises(RootError):
        rebuild(old.settings, [old.root, old.root / wrong])
    assert everything_in(old.base) == before


def test_another_programs_database_is_set_aside_only_by_force(old):
    database(old).unlink()
    with closing(sqlite3.connect(database(old))) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = everything_in(old.base)
    with pytest.raises(RegistryForeignError) as caught:
        rebuild(old.settings, [old.root])
    assert caught.value.subject == str(database(old))
    assert everything_in(old.base) == before
    report = remake(old, force=True)
    assert Path(report.set_aside).read_bytes() == before["registry.db"]
    assert "another program" in report.lost[0]


def test_a_newer_registry_is_set_aside_only_by_force(old):
    with closing(sqlite3.connect(database(old))) as connection:
        connection.execute(f"PRAGMA user_version={len(migrations()) + 1}")
    before = everything_in(old.base)
    with pytest.raises(RegistryNewerError):
        rebuild(old.settings, [old.root])
    assert everything_in(old.base) == before
    assert remake(old, force=True).lost


def test_a_registry_in_use_is_left_alone(old, monkeypatch):
    monkeypatch.setattr(rebuild_files, "_LOCK_SECONDS", 0.05)
    database(old).write_bytes(b"nothing to be read")
    before = everything_in(old.base)
    fs = FileOps()
    for name in ("registry.db.lock", "registry.db.locks/run-1.lock"):
        fd = fs.open_lock_file(old.base / name)
        try:
            assert fs.lock(fd, wait=False)
            with pytest.raises(BusyError) as caught:
                rebuild(old.settings, [old.root])
            assert f"process {os.getpid()}" in caught.value.cause
            assert caught.value.exit_code == 5
        finally:
            fs.close(fd)
    assert everything_in(old.base) == before


# -- roots ---------------------------------------------------------------------------------


def test_roots_of_the_settings_and_of_the_old_registry_are_found_by_themselves(old, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    (second / "file").write_text("second")
    old.reopen()
    old.engine.add_root(second)
    old.engine.close()
    for roots in ({}, {"roots": (second,)}):
        report = rebuild(settings_in(tmp_path, **roots), force=True)
        assert [root.path for root in report.roots] == [
            os.fsencode(old.root),
            os.fsencode(second),
        ]
    database(old).write_bytes(b"nothing to be read")
    report = rebuild(settings_in(tmp_path, roots=(second,)), force=True)
    assert [root.path for root in report.roots] == [os.fsencode(second)]


def test_a_root_that_is_offline_keeps_its_row_and_its_records(old):
    ids = ids_of(old)
    away = old.base / "away"
    old.root.rename(away)
    report = rebuild(old.settings, force=True)
    assert the_root(report).outcome == "offline"
    assert the_root(report).kept == len(ids)
    away.rename(old.root)
    old.reopen()
    assert old.repository.status is RepositoryStatus.OFFLINE
    old.sync()
    assert old.ids() == ids


def test_a_root_of_the_settings_that_is_not_there_is_reported(old, tmp_path):
    database(old).write_bytes(b"nothing to be read")
    gone, empty = tmp_path / "gone", tmp_path / "empty"
    empty.mkdir()
    settings = settings_in(tmp_path, roots=(gone, empty))
    report = rebuild(settings, [old.root])
    outcomes = {root.path: root for root in report.roots}
    for path, word in ((gone, "not there"), (empty, "mounted")):
        assert outcomes[os.fsencode(path)].outcome == "offline"
        assert word in outcomes[os.fsencode(path)].note
    assert not (empty / ".lifecycle").exists()
    with Engine.open(settings) as engine:
        assert [root.path for root in engine.roots.all()] == [os.fsencode(old.root)]
    # Named in the order, an empty folder is meant.
    database(old).write_bytes(b"nothing to be read")
    report = rebuild(settings, [empty])
    assert next(r for r in report.roots if r.path == os.fsencode(empty)).outcome == "scanned"


def test_a_root_of_another_registry_is_reported_and_not_taken(old, tmp_path):
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    other.add()
    marker = other.root / ".lifecycle" / "root.json"
    before = marker.read_bytes()
    other.engine.close()
    report = rebuild(old.settings, [old.root, other.root], force=True)
    taken, left = sorted(report.roots, key=lambda root: root.outcome, reverse=True)
    assert (taken.outcome, left.outcome) == ("scanned", "not taken")
    assert "--adopt" in left.note
    assert marker.read_bytes() == before
    assert report.origin == "the old database; the markers of 1 roots name another"


def test_the_registry_goes_on_under_the_id_that_most_markers_name(old, tmp_path):
    second, strange = tmp_path / "second", tmp_path / "strange"
    for folder in (second, strange):
        folder.mkdir()
    old.reopen()
    old.engine.add_root(second)
    registry_id = old.engine.registry.registry_id
    old.engine.close()
    (strange / ".lifecycle").mkdir()
    (strange / ".lifecycle" / "root.json").write_text(
        json.dumps({"format": 1, "root_id": to_text(bytes(16)), "registry_id": to_text(b"x" * 16)})
    )
    database(old).unlink()
    report = rebuild(old.settings, [strange, old.root, second])
    assert report.registry_id == registry_id
    assert report.origin == "the markers of 2 of 3 roots"
    assert [root.outcome for root in report.roots] == ["scanned", "scanned", "not taken"]


def test_a_root_with_a_damaged_marker_is_reported_and_not_taken(old, tmp_path):
    broken = tmp_path / "broken"
    (broken / ".lifecycle").mkdir(parents=True)
    (broken / ".lifecycle" / "root.json").write_text("{")
    report = rebuild(settings_in(tmp_path, roots=(broken,)), [old.root], force=True)
    left = next(root for root in report.roots if root.path == os.fsencode(broken))
    assert left.outcome == "not taken"
    assert "damaged" in left.note


def test_what_was_set_aside_in_a_root_is_no_subject(tmp_path):
    base = tmp_path / "all"
    (base / "root").mkdir(parents=True)
    places = {"archive_path": tmp_path / "archive", "backup_path": tmp_path / "vault"}
    house = House(base, root=base, **places)
    house.write("file", "content")
    house.sync()
    house.engine.close()
    remake(house, base, force=True)
    assert list(base.glob(SET_ASIDE.format("set-aside")))
    house.sync()
    assert set(house.ids()) == {b"file"}


# -- stopped in the middle -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_rebuild_that_is_killed_anywhere_can_be_run_again(tmp_path):
    """At each change of a file: the old database and its log are never gone, and running again
    completes."""
    house = House(tmp_path)
    house.write("folder/file", "content")
    house.write("other", "other")
    house.sync()
    ids = house.ids()
    old = {suffix: (tmp_path / f"registry.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    assert old["-wal"]
    house.engine.close()

    start_again(tmp_path, old)
    recording = RecordingFileOps(FileOps())
    rebuild(house.settings, [house.root], force=True, fs=recording)
    changes = sum(call.method in CHANGES for call in recording.calls)
    assert changes > 20
    for stop in range(1, changes + 1):
        start_again(tmp_path, old)
        kill_rebuild(house, Fault(kill, nth=stop, where=lambda method, _: method in CHANGES))
        for suffix, content in old.items():
            # Beside each other or not: the bytes are there.
            kept = [path for path in tmp_path.glob(f"registry.db*{suffix}") if path.is_file()]
            assert any(path.read_bytes() == content for path in kept), (stop, suffix)
        rebuild(house.settings, [house.root], force=True)
        asides = tmp_path.glob("registry.db.set-aside-*Z")
        assert any(is_pair(aside, old) for aside in asides), stop
        assert not (tmp_path / "registry.db.rebuild").exists()
        house.reopen()
        assert house.ids() == ids, stop
        house.check()
        house.engine.close()


def is_pair(database: Path, old: dict[str, bytes]) -> bool:
    files = {suffix: Path(f"{database}{suffix}") for suffix in old}
    return all(file.exists() and file.read_bytes() == old[suffix] for suffix, file in files.items())


def start_again(folder: Path, old: dict[str, bytes]) -> None:
    for path in folder.glob("registry.db*"):
        if path.is_file():
            path.unlink()
    for suffix, content in old.items():
        (folder / f"registry.db{suffix}").write_bytes(content)


def kill_rebuild(house: House, fault: Fault) -> None:
    child = os.fork()
    if child == 0:
        try:
            fs = FaultyFileOps(FileOps(), fault)
            rebuild(house.settings, [house.root], force=True, fs=fs)
            os._exit(0)
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    # Renaming a scratch file of its own more or less, it may end before the fault.
    assert os.waitstatus_to_exitcode(status) in {0, -9}


class CancellingProgress:
    """Cancels as soon as a scan begins."""

    wants_totals = False

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel

    def begin(self, *_: object) -> None:
        self._cancel.cancel()

    def advance(self, files: int, bytes_: int) -> None:
        pass

    def end(self) -> None:
        pass


def test_a_rebuild_that_is_cancelled_in_the_scan_goes_on_when_it_is_run_again(old):
    ids = ids_of(old)
    spoil(database(old), leaf_pages(database(old), "files_seq")[0])
    cancel = CancelToken()
    with pytest.raises(CancelledError):
        rebuild(old.settings, [old.root], cancel=cancel, progress=CancellingProgress(cancel))
    report = remake(old)
    assert report.resumed
    assert the_root(report).kept == len(ids)
    assert Path(report.set_aside).exists()
    assert len(list(old.base.glob("registry.db.corrupt-*Z"))) == 1
    assert old.ids() == ids
    old.check()


def test_a_rebuild_that_is_cancelled_before_the_swap_changes_nothing(old):
    database(old).write_bytes(b"nothing to be read")
    before = everything_in(old.base)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        rebuild(old.settings, [old.root], cancel=cancel)
    assert everything_in(old.base) == before


@pytest.mark.parametrize("method", ["create", "write", "make_directories"])
def test_a_full_disk_before_the_swap_changes_nothing(old, method):
    before = everything_in(old.base)
    faulty = FaultyFileOps(
        FileOps(),
        Fault(
            fail(errno.ENOSPC),
            method,
            where=lambda _, given: method != "make_directories" or "rebuild" in given["path"],
        ),
    )
    with pytest.raises(StorageFullError) as caught:
        rebuild(old.settings, [old.root], force=True, fs=faulty)
    assert caught.value.remedy
    assert everything_in(old.base) == before


def test_a_full_disk_between_the_halves_of_the_swap_is_mended_by_running_again(old):
    ids = ids_of(old)
    faulty = FaultyFileOps(FileOps(), Fault(fail(errno.ENOSPC), "rename_noreplace", nth=2))
    with pytest.raises(StorageFullError):
        rebuild(old.settings, [old.root], force=True, fs=faulty)
    assert not database(old).exists()
    report = remake(old)
    assert report.resumed
    assert old.ids() == ids
