from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.act.trash import Trash
from lifecycle_sync.errors import OfflineError, TrashError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.trash import TrashReason, TrashTotals
from lifecycle_sync.testing.fileops import RecordingFileOps
from tests.support.trashing import GRACE_NS, START_NS, Yard, entry_of

DAY_SECONDS = 86_400


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


# -- into the trash ------------------------------------------------------------------------------


def test_a_file_goes_into_the_trash_as_it_is(yard):
    entry = yard.put("a/b/name", b"content")
    path = yard.path("a/b/name")
    path.chmod(0o640)
    before = path.stat()
    entry = yard.entry("a/b/name", b"content")
    assert yard.take(entry) == [(True, "", False, 0, False)]
    assert not path.exists()
    batch, found = yard.only()
    assert found == entry
    lies = yard.item(batch).stat()
    assert (lies.st_ino, lies.st_mode, lies.st_mtime_ns, lies.st_uid) == (
        before.st_ino,
        before.st_mode,
        before.st_mtime_ns,
        before.st_uid,
    )
    assert (batch.at_ns, batch.until_ns) == (START_NS, START_NS + GRACE_NS)
    assert batch.reason is TrashReason.DELETE


def test_the_other_names_of_a_file_follow_it_unless_somebody_changed_it(yard):
    yard.put("one")
    for name in ("two", "three"):
        os.link(yard.path("one"), yard.path(name))
    entries = [yard.entry(name) for name in ("one", "two", "three")]
    with yard.trash() as trash:
        with trash.begin(entries[:1], grace_ns=1, reason=TrashReason.DELETE) as batch:
            assert batch.take(entries[0]).ok
        with trash.begin(entries[1:], grace_ns=1, reason=TrashReason.DELETE) as batch:
            assert batch.take(entries[1]).ok
            yard.path("three").chmod(0o600)
            assert batch.take(entries[2]).reason == "it changed: ctime"


def test_nobody_but_the_owner_looks_into_the_trash(yard):
    yard.take(yard.put("name"))
    batch, _ = yard.only()
    for path in (yard.root / ".lifecycle", yard.root / ".lifecycle/trash", yard.batch_path(batch)):
        assert path.stat().st_mode & 0o777 == 0o700


def test_the_sidecar_is_durable_before_anything_is_moved(yard):
    fs = RecordingFileOps(FileOps())
    yard.take(yard.put("name"), fs=fs)
    calls = [str(call) for call in fs.calls]
    move = next(n for n, it in enumerate(calls) if it.startswith("rename_noreplace"))
    written = next(n for n, it in enumerate(calls) if it.startswith("write_file"))
    synced = [n for n, it in enumerate(calls) if it.startswith("fsync") and n < move]
    # The sidecar, its directory, the trash, and the directories that were made for it.
    assert written < synced[0]
    ends = ("", "/trash", "/.lifecycle", "/root")
    for end in ends:
        assert any(calls[n].endswith(end + ")") for n in synced), end
    assert len(synced) == 5
    assert any(it.startswith("syncfs") for it in calls[move:])


def test_nothing_is_synced_file_by_file(yard):
    fs = RecordingFileOps(FileOps())
    entries = [yard.put(f"a/{number}") for number in range(50)]
    yard.take(*entries, fs=fs)
    assert fs.methods.count("fsync") <= 5
    assert fs.methods.count("syncfs") == 1
    # Once to describe the folder, once to take from it; the rest is for the trash itself.
    assert fs.methods.count("open_directory") < 15


def test_where_a_filesystem_cannot_be_synced_whole_every_changed_folder_is(yard, monkeypatch):
    monkeypatch.setattr(FileOps, "syncfs", lambda self, fd: self.fsync(fd))
    entries = [yard.put("a/1"), yard.put("b/c/2"), yard.put("b/c/3"), yard.put("4")]
    fs = RecordingFileOps(FileOps())
    with yard.begin(entries, fs) as taking:
        for entry in entries:
            assert taking.take(entry).ok
        (yard.root / "a").rmdir()  # gone with all its names
        fs.calls.clear()
        taking.sync()
        batch = taking.batch
    synced = {call.arguments["fd"] for call in fs.calls if call.method == "fsync"}
    assert synced == {str(it) for it in (yard.batch_path(batch), yard.root, yard.root / "b/c")}


@pytest.mark.parametrize("field", ["kind", "size", "mtime_ns", "ctime_ns", "inode"])
def test_a_file_that_is_not_what_was_planned_stays(yard, field):
    entry = yard.put("name")
    values = entry.fingerprint._asdict()
    values[field] = 10 if field == "kind" else values[field] + 1
    (outcome,) = yard.take(entry._replace(fingerprint=Fingerprint(**values)))
    assert not outcome.ok and not outcome.alarm
    assert outcome.reason == f"it changed: {field.removesuffix('_ns')}"
    assert yard.files() == {"name": b"bytes"}


def test_an_inode_that_changes_at_every_mount_is_not_compared(yard):
    entry = yard.put("name")
    prints = entry.fingerprint
    other = Fingerprint(prints.kind, prints.size, prints.mtime_ns, prints.ctime_ns, 1)
    with (
        Trash(
            FileOps(),
            yard.clock,
            os.fsencode(yard.root),
            repository_id=b"r" * 16,
            registry_id=b"g" * 16,
            stable_inodes=False,
        ) as trash,
        trash.begin(
            [entry._replace(fingerprint=other)], grace_ns=1, reason=TrashReason.DELETE
        ) as taking,
    ):
        assert taking.take(taking.batch.entries[0]).ok
    assert yard.files() == {}


def test_numbers_are_compared_as_the_registry_keeps_them(yard):
    """A time of the year 2446 is clamped there, and a large inode negative."""
    path = yard.path("name")
    yard.put("name")
    try:
        os.utime(path, ns=(2**63 + 10**9, 2**63 + 10**9))
    except OSError:
        pytest.skip("no such times here")
    entry = yard.entry("name")
    if entry.fingerprint.mtime_ns < 2**63:
        pytest.skip("no such times here")
    prints = entry.fingerprint
    kept = Fingerprint(8, prints.size, 2**63 - 1, prints.ctime_ns, prints.inode - 2**64)
    assert yard.take(entry._replace(fingerprint=kept))[0].ok
    batch, entry = yard.only()
    assert yard.trash().purge(batch, entry).ok


def test_what_is_not_there_is_skipped_with_its_reason(yard):
    gone = [yard.put("gone"), yard.put("folder/gone"), yard.put("file/gone"), yard.put("link/gone")]
    for entry in gone:
        yard.path(entry.path).unlink()
    for name in ("folder", "file", "link"):
        yard.path(name).rmdir()
    yard.path("file").touch()
    (yard.outside / "gone").touch()
    yard.path("link").symlink_to(yard.outside)
    outcomes = yard.take(*gone)
    assert [it.reason for it in outcomes] == [
        "it is not there",
        "it is not there",
        "its folder is not there: something else has that name",
        "its folder is not there: something else has that name",
    ]
    assert not any(it.ok or it.alarm for it in outcomes)
    assert list(yard.outside_files()) == ["gone"]
    # Nothing came of this batch, so it is gone.
    assert os.listdir(yard.root / ".lifecycle/trash") == []


def test_what_cannot_be_a_batch_is_refused_before_anything_happens(yard):
    entry = yard.put("a/name")
    folder = entry_of(yard.root / "a", b"a")
    for entries, word in (
        ([entry, entry], "twice"),
        ([folder], "directories"),
        ([entry._replace(path=b"../outside/file")], "path"),
        ([entry._replace(path=b".lifecycle/root.json")], "our own"),
        ([entry._replace(path=b"%d" % n) for n in range(1001)], "too many"),
    ):
        with pytest.raises(ValueError, match=word):
            yard.begin(entries)
    assert os.listdir(yard.root) == ["a"]
    with yard.begin([entry]) as taking, pytest.raises(ValueError, match="not an entry"):
        taking.take(entry._replace(path=b"other"))


def test_a_root_that_is_not_there_is_offline(yard):
    yard.root.rmdir()
    with pytest.raises(OfflineError):
        yard.trash()
    yard.root.mkdir()


NAMES = [
    "café/naïve".encode(),
    b"nfc-\xc3\xa9",
    b"nfd-e\xcc\x81",
    b"\xff\xfe/\x80",
    b"\n\t \\'\"",
    b"x" * 255,
    b"\xff" * 255 + b"/" + b"\xe2\x82\xac" * 85,
    b"-rf",
    b"0",
    b"batch.jsonl",
    b"a/.lifecycle/name",
]


def test_names_of_all_kinds_go_and_come_back(yard):
    entries = [yard.put(name, name) for name in NAMES]
    before = yard.files()
    assert all(outcome.ok for outcome in yard.take(*entries))
    assert yard.files() == {}
    assert yard.in_trash() == {name: name for name in NAMES}
    trash = yard.trash()
    (batch,) = yard.batches()
    assert all(trash.put_back(batch, entry).ok for entry in batch.entries)
    assert yard.files() == before


def test_a_path_longer_than_the_kernel_takes_at_once_goes_and_comes_back(yard):
    part = b"d" * 250
    folder = b"/".join([part] * 20)
    trash = yard.trash()
    fd = trash._descent.make(folder)
    file_fd = os.open("name", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(file_fd, b"bytes")
    found = os.fstat(file_fd)
    os.close(file_fd)
    entry = yard.put("model")._replace(
        path=folder + b"/name",
        fingerprint=Fingerprint(8, 5, found.st_mtime_ns, found.st_ctime_ns, found.st_ino),
    )
    assert yard.take(entry)[0].ok
    batch, entry = yard.only()
    assert trash.put_back(batch, entry).ok
    fd = trash._descent.open(folder)
    assert os.stat("name", dir_fd=fd).st_ino == found.st_ino


def test_each_name_of_a_file_with_several_goes_by_itself(yard):
    yard.put("one", b"shared")
    os.link(yard.path("one"), yard.path("two"))
    one, two = yard.entry("one"), yard.entry("two")
    assert yard.take(one)[0].ok
    assert yard.files() == {"two": b"shared"}
    # Its ctime moved with the other name: what was planned is not what is there.
    assert yard.take(two)[0].reason == "it changed: ctime"
    assert yard.take(yard.entry("two"))[0].ok
    first, second = yard.batches()
    trash = yard.trash()
    # The bytes are free when the last name goes.
    assert trash.purge(first, first.entries[0]) == (True, "", False, 0, False)
    assert trash.purge(second, second.entries[0]).freed >= 512


def test_symlinks_and_pipes_go_themselves(yard):
    (yard.outside / "target").write_bytes(b"target")
    yard.path("link").symlink_to(yard.outside / "target")
    yard.path("dangling").symlink_to("nowhere")
    os.mkfifo(yard.path("pipe"))
    entries = [yard.entry(name) for name in ("link", "dangling", "pipe")]
    assert all(outcome.ok for outcome in yard.take(*entries))
    assert yard.files() == {}
    trash = yard.trash()
    (batch,) = yard.batches()
    assert trash.put_back(batch, batch.entries[0]).ok
    assert os.readlink(yard.path("link")) == str(yard.outside / "target")
    assert trash.purge(batch, batch.entries[1]).ok
    assert trash.purge(batch, batch.entries[2]).ok
    assert yard.outside_files() == {"target": b"target"}


@pytest.fixture
def immutable(yard) -> Iterator[Path]:
    path: Path = yard.path("immutable")
    path.write_bytes(b"bytes")
    done = subprocess.run(["chattr", "+i", path], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no immutable files here: {done.stderr.decode().strip()}")
    yield path
    for each in yard.root.rglob("*"):
        if each.is_file():
            subprocess.run(["chattr", "-i", each], check=False, capture_output=True)


def test_an_immutable_file_stays_and_the_others_go(yard, immutable):
    entries = [yard.entry("immutable"), yard.put("other")]
    first, second = yard.take(*entries)
    assert (first.ok, first.alarm) == (False, False)
    assert "immutable" in first.reason
    assert second.ok
    assert list(yard.files()) == ["immutable"]


def test_a_file_that_became_immutable_in_the_trash_is_not_purged(yard, immutable):
    subprocess.run(["chattr", "-i", immutable], check=True)
    assert yard.take(yard.entry("immutable"))[0].ok
    batch, entry = yard.only()
    subprocess.run(["chattr", "+i", yard.item(batch)], check=True)
    assert "immutable" in yard.trash().purge(batch, entry).reason
    assert yard.in_trash() == {b"immutable": b"bytes"}


# -- other filesystems ---------------------------------------------------------------------------


@pytest.fixture
def mount() -> Iterator[object]:
    mounted: list[Path] = []

    def mount_at(place: Path, *arguments: str | Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", *arguments, place], check=False, capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
        mounted.append(place)

    yield mount_at
    for place in reversed(mounted):
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_a_file_on_another_filesystem_than_the_trash_is_skipped_never_copied(yard, mount, how):
    if how == "tmpfs":
        mount(yard.path("mounted"), "-t", "tmpfs", "tmpfs")
    else:
        # The same device, and yet no rename goes across.
        mount(yard.path("mounted"), "--bind", yard.outside)
    entries = [yard.put("mounted/file"), yard.put("file")]
    first, second = yard.take(*entries)
    assert (first.ok, first.alarm) == (False, False)
    assert first.reason == "it lies on another filesystem than the trash"
    assert second.ok
    assert yard.files() == {"mounted/file": b"bytes"}


@pytest.mark.parametrize("place", [".lifecycle", ".lifecycle/trash"])
def test_a_trash_on_another_filesystem_is_refused_and_nothing_is_moved(yard, mount, place):
    entry = yard.put("file")
    mount(yard.path(place), "-t", "tmpfs", "tmpfs")
    with pytest.raises(TrashError, match="another filesystem") as caught:
        yard.begin([entry])
    assert caught.value.subject.endswith(".lifecycle/trash")
    assert yard.files() == {"file": b"bytes"}


@pytest.mark.parametrize("place", [".lifecycle", ".lifecycle/trash"])
@pytest.mark.parametrize("what", ["symlink", "file"])
def test_what_stands_in_the_place_of_the_trash_is_refused(yard, place, what):
    entry = yard.put("file")
    path = yard.path(place)
    path.parent.mkdir(exist_ok=True)
    if what == "symlink":
        path.symlink_to(yard.outside)
    else:
        path.touch()
    with pytest.raises(TrashError, match="root's own filesystem"):
        yard.begin([entry])
    trash = yard.trash()
    with pytest.raises(TrashError):
        list(trash.batches())
    assert yard.files()["file"] == b"bytes"
    assert yard.outside_files() == {}


# -- what lies there -----------------------------------------------------------------------------


def test_files_are_found_by_id_and_by_path_the_newest_first(yard):
    first, other = yard.put("name", b"1"), yard.put("other")
    yard.take(first, other)
    yard.clock.advance(1)
    second = yard.put("name", b"2")
    yard.take(second)
    trash = yard.trash()
    assert [entry for _, entry in trash.find(path=b"name")] == [second, first]
    assert [entry for _, entry in trash.find(file_id=other.file_id)] == [other]
    assert trash.find(path=b"missing") == []
    assert trash.find() == []
    batch, entry = trash.find(path=b"name")[0]
    assert trash.put_back(batch, entry).ok
    assert [it for _, it in trash.find(path=b"name")] == [first]


def test_batches_are_due_when_their_grace_has_ended(yard):
    yard.take(yard.put("early"))
    yard.clock.advance(60)
    yard.take(yard.put("late"))
    trash = yard.trash()
    assert list(trash.due(START_NS + GRACE_NS - 1)) == []
    assert [it.entries[0].path for it in trash.due(START_NS + GRACE_NS)] == [b"early"]
    assert len(list(trash.due(2**62))) == 2


def test_totals_count_what_still_lies_there(yard):
    assert yard.trash().totals() == TrashTotals()
    yard.take(yard.put("one", b"1"), yard.put("two", b"22"), yard.put("three", b"333"))
    trash = yard.trash()
    assert trash.totals() == TrashTotals(batches=1, files=3, bytes=6)
    (batch,) = yard.batches()
    trash.put_back(batch, batch.entries[1])
    (yard.root / ".lifecycle/trash/stray").touch()
    assert trash.totals() == TrashTotals(batches=1, files=2, bytes=4, damaged=1)


def test_what_is_no_batch_is_told_and_left_alone(yard):
    yard.take(yard.put("name"))
    (batch,) = yard.batches()
    top = yard.root / ".lifecycle/trash"
    twin = "019b7c5e-0000-7000-8000-000000000000"
    (top / "stray").touch()
    (top / batch.batch_id.hex()).mkdir()
    (top / twin).mkdir()
    (top / twin / "batch.jsonl").write_bytes((yard.batch_path(batch) / "batch.jsonl").read_bytes())
    (top / "019b7c5e-0000-7000-8000-000000000001").symlink_to(yard.outside)
    orphans = top / "019b7c5e-0000-7000-8000-000000000002"
    orphans.mkdir()
    (orphans / "0").write_bytes(b"somebody's")
    linked = top / "019b7c5e-0000-7000-8000-000000000003"
    linked.mkdir()
    (linked / "batch.jsonl").symlink_to(yard.batch_path(batch) / "batch.jsonl")
    piped = top / "019b7c5e-0000-7000-8000-000000000004"
    piped.mkdir()
    os.mkfifo(piped / "batch.jsonl")
    huge = top / "019b7c5e-0000-7000-8000-000000000005"
    huge.mkdir()
    with (huge / "batch.jsonl").open("wb") as file:
        file.truncate(1 << 40)
    damaged = {it.name.decode(): it.error.cause for it in yard.damaged()}
    assert len(damaged) == 8
    assert damaged["stray"] == damaged[batch.batch_id.hex()] == "it is no batch"
    assert damaged[twin] == "its sidecar is that of another batch"
    assert damaged[orphans.name] == "it has no sidecar"
    assert damaged[huge.name] == "a sidecar of that size is not ours"
    yard.clock.advance(10 * DAY_SECONDS)
    before = sorted(str(it) for it in top.rglob("*"))
    assert yard.trash().sweep() == 0
    assert sorted(str(it) for it in top.rglob("*")) == before
    found = [it for it in yard.trash().batches() if it == batch]
    assert found == [batch]


def test_a_batch_of_a_newer_program_is_told_and_never_purged(yard):
    yard.take(yard.put("name"))
    (batch,) = yard.batches()
    sidecar = yard.batch_path(batch) / "batch.jsonl"
    sidecar.write_bytes(sidecar.read_bytes().replace(b'"trash":1', b'"trash":2'))
    (damaged,) = yard.damaged()
    assert damaged.error.code == "trash_newer"
    trash = yard.trash()
    assert list(trash.due(2**62)) == []
    assert trash.find(path=b"name") == []
    yard.clock.advance(10 * DAY_SECONDS)
    assert trash.sweep() == 0
    assert yard.item(batch).read_bytes() == b"bytes"


def test_hostile_paths_in_a_sidecar_move_nothing(yard):
    yard.take(yard.put("name"))
    (batch,) = yard.batches()
    sidecar = yard.batch_path(batch) / "batch.jsonl"
    text = sidecar.read_bytes()
    for hostile in (b"../outside/name", b"/etc/name", b".lifecycle/root.json", b"a/../../name"):
        sidecar.write_bytes(text.replace(b'"path":"name"', b'"path":"' + hostile + b'"'))
        (damaged,) = yard.damaged()
        assert damaged.error.code == "trash"
        # Also where a caller has it from elsewhere.
        entry = batch.entries[0]
        assert not yard.trash().put_back(batch, entry._replace(path=hostile)).ok
        assert not yard.trash().put_back(batch, entry, to=hostile).ok
    assert yard.outside_files() == {}
    assert yard.item(batch).exists()


# -- undelete ------------------------------------------------------------------------------------


def test_an_undelete_needs_no_database_and_no_program(yard):
    """What the sidecar says is enough for a person with `mv`."""
    names = [b"a/b/name", "café".encode(), b"odd\xff"]
    yard.take(*(yard.put(name, name) for name in names))
    assert yard.files() == {}
    for sidecar in yard.root.glob(".lifecycle/trash/*/batch.jsonl"):
        for line in sidecar.read_text().splitlines():
            fields = json.loads(line)
            if fields["line"] == "file" and "path_bytes" not in fields:
                os.rename(sidecar.parent / fields["name"], yard.root / fields["path"])
    assert yard.files() == {"a/b/name": b"a/b/name", "café": "café".encode()}
    # The program knows what is left.
    ((batch, entry),) = yard.trash().find(path=b"odd\xff")
    assert yard.trash().put_back(batch, entry).ok
    assert len(yard.files()) == 3


def test_a_file_comes_back_as_it_was_and_an_empty_batch_goes(yard):
    entry = yard.put("a/name")
    before = yard.path("a/name").stat()
    yard.take(entry)
    batch, entry = yard.only()
    trash = yard.trash()
    assert trash.put_back(batch, entry) == (True, "", False, 0, False)
    trash.sync()
    after = yard.path("a/name").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_mode,
    )
    assert os.listdir(yard.root / ".lifecycle/trash") == []
    assert trash.put_back(batch, entry).reason == "it is not there"


def test_folders_that_are_missing_are_made_as_they_were(yard):
    entries = [yard.put("a/b/name"), yard.put("a/other")]
    yard.path("a").chmod(0o2751)
    yard.path("a/b").chmod(0o700)
    yard.take(*(yard.entry(entry.path) for entry in entries))
    yard.path("a/b").rmdir()
    yard.path("a").rmdir()
    (batch,) = yard.batches()
    trash = yard.trash()
    assert trash.put_back(batch, batch.entries[0]).ok
    assert yard.path("a").stat().st_mode & 0o7777 == 0o2751
    assert yard.path("a/b").stat().st_mode & 0o7777 == 0o700
    # One that nobody remembers is private.
    assert trash.put_back(batch, batch.entries[1], to=b"new/name").ok
    assert yard.path("new").stat().st_mode & 0o7777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_folders_come_back_to_their_owners(yard):
    entry = yard.put("a/name")
    os.chown(yard.path("a"), 1234, 5678)
    yard.take(entry)
    yard.path("a").rmdir()
    assert yard.trash().put_back(*yard.only()).ok
    found = yard.path("a").stat()
    assert (found.st_uid, found.st_gid) == (1234, 5678)


@pytest.mark.parametrize("what", ["file", "folder", "dangling symlink"])
def test_a_place_that_is_taken_is_refused(yard, what):
    yard.take(yard.put("name"))
    place = yard.path("name")
    if what == "file":
        place.write_bytes(b"new")
    elif what == "folder":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    inode = place.lstat().st_ino
    outcome = yard.trash().put_back(*yard.only())
    assert (outcome.ok, outcome.reason) == (False, "its place is taken")
    assert place.lstat().st_ino == inode
    assert yard.trash().put_back(*yard.only(), to=b"beside").ok
    assert yard.path("beside").read_bytes() == b"bytes"


def test_a_symlink_or_a_file_in_the_place_of_a_folder_is_refused(yard):
    yard.take(yard.put("a/b/name"))
    yard.path("a/b").rmdir()
    yard.path("a/b").symlink_to(yard.outside)
    assert "something else" in yard.trash().put_back(*yard.only()).reason
    yard.path("a/b").unlink()
    yard.path("a/b").touch()
    assert "something else" in yard.trash().put_back(*yard.only()).reason
    assert yard.outside_files() == {}
    assert yard.in_trash() == {b"a/b/name": b"bytes"}


def test_no_folder_is_made_for_what_is_not_there(yard):
    yard.take(yard.put("a/name"), yard.put("other"))
    (batch,) = yard.batches()
    yard.item(batch, 0).unlink()
    yard.path("a").rmdir()
    assert yard.trash().put_back(batch, batch.entries[0]).reason == "it is not there"
    assert not yard.path("a").exists()


def test_where_a_filesystem_cannot_be_synced_whole_what_came_back_is(yard, monkeypatch):
    monkeypatch.setattr(FileOps, "syncfs", lambda self, fd: self.fsync(fd))
    yard.take(yard.put("a/b/name"), yard.put("other"))
    (batch,) = yard.batches()
    yard.path("a/b").rmdir()
    fs = RecordingFileOps(FileOps())
    trash = yard.trash(fs)
    assert trash.put_back(batch, batch.entries[0]).ok
    fs.calls.clear()
    trash.sync()
    synced = {call.arguments["fd"] for call in fs.calls if call.method == "fsync"}
    places = (yard.root, yard.path("a"), yard.path("a/b"), yard.batch_path(batch))
    assert synced == {str(it) for it in places}


# -- purge ---------------------------------------------------------------------------------------


def test_a_purge_unlinks_what_was_taken_and_says_what_it_freed(yard):
    yard.take(yard.put("one", b"x" * 100_000), yard.put("two"))
    (batch,) = yard.batches()
    trash = yard.trash()
    outcome = trash.purge(batch, batch.entries[0])
    assert outcome.ok and outcome.freed >= 100_000
    assert yard.in_trash() == {b"two": b"bytes"}
    assert trash.purge(batch, batch.entries[0]).reason == "it is not there"
    assert trash.purge(batch, batch.entries[1]).ok
    trash.sync()
    assert os.listdir(yard.root / ".lifecycle/trash") == []


def test_the_sidecar_goes_last_and_when_it_is_certain_that_the_files_are_gone(yard):
    yard.take(yard.put("name"))
    fs = RecordingFileOps(FileOps())
    assert yard.trash(fs).purge(*yard.only()).ok
    changes = [
        (call.method, call.arguments.get("name", ""))
        for call in fs.calls
        if call.method in {"unlink", "rmdir", "fsync"}
    ]
    assert [method for method, _ in changes] == ["unlink", "fsync", "unlink", "rmdir"]
    assert [name for _, name in changes][:3] == ["0", "", "batch.jsonl"]


def test_a_file_that_changed_in_the_trash_is_kept_with_an_alarm(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()
    with yard.item(batch).open("ab") as file:
        file.write(b" and more")
    outcome = yard.trash().purge(batch, entry)
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert outcome.reason == "it changed after it was taken: size, mtime; it is kept"
    assert yard.in_trash() == {b"name": b"bytes and more"}
    # Unless a person says so.
    assert yard.trash().purge(batch, entry, changed_too=True).ok


def test_a_writer_that_has_not_written_yet_keeps_its_file(yard):
    entry = yard.put("name")
    with yard.path("name").open("ab") as late:
        yard.take(entry)
        batch, entry = yard.only()
        trash = yard.trash()
        fd = os.open(yard.item(batch), os.O_RDONLY)
        known = FileOps().has_writers(fd)
        os.close(fd)
        if known is None:
            pytest.skip("leases are refused here")
        outcome = trash.purge(batch, entry)
        assert (outcome.ok, outcome.alarm) == (False, True)
        assert "open for writing" in outcome.reason
        late.write(b"late")
    outcome = trash.purge(batch, entry)
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert yard.in_trash() == {b"name": b"byteslate"}


def test_another_file_under_the_name_in_the_trash_is_kept(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()
    other = yard.path("other")
    other.write_bytes(b"other")
    os.utime(other, ns=(entry.fingerprint.mtime_ns, entry.fingerprint.mtime_ns))
    os.replace(other, yard.item(batch))
    outcome = yard.trash().purge(batch, entry)
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert "inode" in outcome.reason
    assert yard.in_trash() == {b"name": b"other"}


def test_a_content_that_the_check_refuses_is_kept(yard):
    """Written through a memory map, say, with the times put back."""
    entry = yard.put("name", b"right")
    yard.take(entry)
    batch, entry = yard.only()
    yard.item(batch).write_bytes(b"wrong")
    os.utime(yard.item(batch), ns=(1, entry.fingerprint.mtime_ns))
    seen = []

    def check(fd: int, it) -> bool:
        seen.append((os.pread(fd, 100, 0), it))
        return bool(os.pread(fd, 100, 0) == b"right")

    outcome = yard.trash().purge(batch, entry, check=check)
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert "content" in outcome.reason
    assert seen == [(b"wrong", entry)]
    yard.item(batch).write_bytes(b"right")
    os.utime(yard.item(batch), ns=(1, entry.fingerprint.mtime_ns))
    assert yard.trash().purge(batch, entry, check=check).ok


def test_a_file_that_changes_while_its_content_is_checked_is_kept(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()

    def check(fd: int, _: object) -> bool:
        with yard.item(batch).open("ab") as file:
            file.write(b"late")
        return True

    outcome = yard.trash().purge(batch, entry, check=check)
    assert (outcome.ok, outcome.alarm) == (False, True)
    assert "looked at" in outcome.reason


def test_a_check_that_cannot_read_keeps_the_file(yard):
    yard.take(yard.put("name"))

    def check(fd: int, _: object) -> bool:
        raise OSError(5, "Input/output error")

    assert yard.trash().purge(*yard.only(), check=check).reason == "Input/output error"
    assert len(yard.in_trash()) == 1


def test_a_name_whose_content_lives_on_under_another_goes_though_it_changed(yard):
    yard.put("one")
    os.link(yard.path("one"), yard.path("two"))
    yard.take(yard.entry("one"))
    yard.path("two").write_bytes(b"changed through the other name")
    assert yard.trash().purge(*yard.only()).ok
    assert yard.files() == {"two": b"changed through the other name"}


def test_the_trash_of_a_copied_tree_is_not_purged_by_another_repository(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()
    with Trash(
        FileOps(),
        yard.clock,
        os.fsencode(yard.root),
        repository_id=b"x" * 16,
        registry_id=b"g" * 16,
    ) as other:
        outcome = other.purge(batch, entry)
        assert (outcome.ok, outcome.reason) == (False, "it belongs to another repository")
        assert other.put_back(batch, entry).ok


def test_a_batch_with_a_stranger_in_it_stays(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()
    (yard.batch_path(batch) / "stranger").write_bytes(b"whose?")
    trash = yard.trash()
    assert trash.purge(batch, entry).ok
    assert not trash.tidy(batch)
    assert (yard.batch_path(batch) / "stranger").read_bytes() == b"whose?"
    assert (yard.batch_path(batch) / "batch.jsonl").exists()


# -- what dead writers left ----------------------------------------------------------------------


def test_what_dead_writers_left_empty_is_swept_when_it_is_old(yard):
    entry = yard.put("name")
    taking = yard.begin([entry])  # killed before it took anything
    os.close(taking._batch_fd)
    taking._batch_fd = -1
    taking._descent.__exit__()
    (batch,) = yard.batches()
    top = yard.root / ".lifecycle/trash"
    torn = top / "019b7c5e-0000-7000-8000-000000000000"
    torn.mkdir()
    (torn / ".batch.jsonl.0123456789abcdef").write_bytes(b'{"line":')
    assert yard.batches() == [batch]
    kept = yard.put("kept")
    yard.take(kept)
    trash = yard.trash()
    assert trash.sweep() == 1  # the torn one is from 2025
    yard.clock.advance(2 * 3600)
    assert trash.sweep() == 1
    assert not yard.batch_path(batch).exists()
    assert yard.in_trash() == {b"kept": b"bytes"}


def test_a_batch_that_went_meanwhile_is_tidy(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()
    trash, other = yard.trash(), yard.trash()
    assert trash.left(batch) == [entry]
    assert other.purge(batch, entry).ok
    assert trash.purge(batch, entry).reason == "it is not there"
    assert trash.left(batch) == []
    assert trash.tidy(batch)


def test_an_entry_of_another_batch_is_refused(yard):
    yard.take(yard.put("name"))
    batch, entry = yard.only()
    stranger = entry._replace(path=b"other")
    trash = yard.trash()
    for outcome in (
        trash.purge(batch, stranger),
        trash.put_back(batch, stranger),
        trash.settle(batch, stranger),
    ):
        assert (outcome.ok, outcome.reason) == (False, "not an entry of this batch")
