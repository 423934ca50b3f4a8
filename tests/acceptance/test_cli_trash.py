"""`delete`, `undelete`, `purge`: into the trash, out of it, and for good, by the real command."""

from __future__ import annotations

import getpass
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.clock import NS_PER_DAY, SystemClock
from lifecycle_sync.config import load_config
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.service import clock_doubt
from lifecycle_sync.service.engine import Engine
from tests.support.command import Done, lifecycle, lifecycle_process, wait_for_line


@pytest.fixture
def managed(tree: Path) -> Path:
    """The tree under management."""
    lifecycle("run", tree, "--once", "-q")
    return tree


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty days after what is done until then."""
    real = SystemClock.now_ns

    def now_ns(self: SystemClock) -> int:
        return real(self) + 40 * NS_PER_DAY

    monkeypatch.setattr(SystemClock, "now_ns", now_ns)


@pytest.fixture
def unsynchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_doubt, "kernel_clock_is_synchronised", lambda: False)


def hold(path: Path, reason: str = "court order 7") -> None:
    with Engine.open(load_config()) as engine:
        file_id = engine.find_record(os.fspath(path)).file_id
        now_ns = engine.now_ns()
        engine.registry.add_hold(
            Hold(uuid.uuid4().bytes, file_id, None, reason=reason, owner="me", created_ns=now_ns)
        )


def root_of(done: Done) -> dict[str, Any]:
    (root,) = done.document["roots"]
    assert isinstance(root, dict)
    return root


# -- delete and undelete -------------------------------------------------------------------


def test_a_deleted_file_comes_back_as_it_was_with_its_id(managed):
    notes = managed / "notes.txt"
    before = notes.stat()
    file_id = lifecycle("show", notes, "--json").document["file_id"]
    done = lifecycle("delete", notes, "--reason", "superseded")
    assert (done.code, "moved to the trash: 1 file" in done.out) == (0, True)
    assert "`lifecycle undelete`" in done.err
    assert not notes.exists()
    shown = lifecycle("show", notes)
    assert "deleted" in shown.out
    assert "`lifecycle undelete` gives it back" in shown.out
    (operation, *_) = lifecycle("history", notes, "--json").document["operations"]
    assert operation["operation_type"] == "delete"
    details = json.loads(operation["details"])
    assert (details["reason"], details["by"]) == ("superseded", getpass.getuser())
    assert lifecycle("undelete", notes).code == 0
    after = notes.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert lifecycle("show", notes, "--json").document["file_id"] == file_id
    assert lifecycle("sync").code == 0


def test_a_folder_goes_and_comes_back(managed):
    photos = managed / "photos"
    before = sorted(photos.rglob("*"))
    assert lifecycle("delete", photos).code == 0
    assert [it for it in photos.rglob("*") if not it.is_dir()] == []
    listed = lifecycle("undelete", "--list")
    assert listed.out.count("deleted") == 4
    assert "4 files" in listed.err
    assert lifecycle("undelete", "--list", managed / "notes.txt").out == ""
    done = lifecycle("undelete", photos)
    assert (done.code, "gave back 4 files" in done.out) == (0, True)
    assert sorted(photos.rglob("*")) == before
    assert lifecycle("undelete", "--list").out == ""


def test_files_whose_names_and_reasons_are_no_text_go_and_come_back(managed):
    folder = os.fsencode(managed / "photos")
    names = [folder + b"/caf\xe9.jpg", folder + b"/\xff"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(name)
    before = sorted((managed / "photos").rglob("*"))
    reason = os.fsdecode(b"d\xe9j\xe0 vu")
    assert lifecycle("backup", "-q").code == 0
    for there, back in (
        (("delete", "--reason", reason), ("undelete",)),
        (("archive", "--reason", reason), ("recall",)),
        (("delete",), ("restore", "--deleted")),
    ):
        assert lifecycle(*there, managed / "photos").code == 0
        assert not any(os.path.lexists(name) for name in names)
        assert lifecycle(*back, managed / "photos").code == 0
        assert sorted((managed / "photos").rglob("*")) == before
    again = lifecycle("restore", managed / "photos", "--conflict", "replace")
    assert (again.code, again.err) == (0, "")
    for name in names:
        assert Path(os.fsdecode(name)).read_bytes() == name
        assert "to: photos/" in lifecycle("history", os.fsdecode(name)).out
    held = lifecycle("hold", os.fsdecode(names[0]), "--reason", reason, "--owner", reason)
    assert held.code == 0
    done = lifecycle("delete", os.fsdecode(names[0]))
    assert (done.code, os.path.lexists(names[0])) == (4, True)
    assert lifecycle("release", os.fsdecode(names[0])).code == 0
    assert lifecycle("delete", os.fsdecode(names[0])).code == 0


def test_all_names_of_a_file_go_with_one_order(managed):
    notes = managed / "notes.txt"
    os.link(notes, managed / "photos/also")
    os.link(notes, managed / "photos/2025/too")
    done = lifecycle("delete", notes, managed / "photos")
    assert (done.code, "7 files" in done.out) == (0, True), done.out
    assert lifecycle("undelete", managed).code == 0
    assert notes.stat().st_nlink == 3
    assert lifecycle("archive", managed).code == 0
    assert not notes.exists()


def test_a_delete_takes_what_no_pass_has_seen(managed):
    (managed / "photos/new.jpg").write_bytes(b"new")
    (managed / "notes.txt").write_bytes(b"changed since")
    assert root_of(lifecycle("delete", managed / "notes.txt", "--json"))["completed"] == 1
    assert root_of(lifecycle("delete", managed / "photos", "--json"))["completed"] == 5


def test_a_file_that_may_not_be_read_goes_and_comes_back_all_the_same(managed, monkeypatch):
    real = os.access
    closed = os.fspath(managed / "notes.txt")

    def access(path: Any, mode: int, **options: Any) -> bool:
        return False if os.fspath(path) == closed else real(path, mode, **options)

    monkeypatch.setattr(os, "access", access)
    assert lifecycle("delete", managed / "notes.txt").code == 0
    assert lifecycle("undelete", managed / "notes.txt").code == 0
    assert lifecycle("history", managed / "notes.txt").code == 0


def test_a_second_delete_does_no_harm(managed):
    lifecycle("delete", managed / "notes.txt", "-q")
    done = lifecycle("delete", managed / "notes.txt")
    assert (done.code, done.out) == (0, f"{managed}: 1 gone already\n")


def test_a_whole_root_needs_to_be_confirmed(managed):
    done = lifecycle("delete", managed)
    assert (done.code, "--yes" in done.err) == (2, True)
    assert (managed / "notes.txt").exists()
    assert lifecycle("delete", managed, "--yes").code == 0
    assert not (managed / "notes.txt").exists()
    assert lifecycle("undelete", managed).code == 0


def test_an_undelete_leaves_a_place_that_is_taken(managed):
    notes = managed / "notes.txt"
    lifecycle("delete", notes, "-q")
    notes.write_bytes(b"another")
    looked = lifecycle("undelete", notes, "--dry-run")
    done = lifecycle("undelete", notes)
    for told in (looked, done):
        assert told.code == 3
        assert "its place is taken" in told.out
    assert notes.read_bytes() == b"another"


def test_of_two_deleted_files_of_one_name_the_last_one_comes_back(managed):
    notes = managed / "notes.txt"
    lifecycle("delete", notes, "-q")
    notes.write_bytes(b"another")
    lifecycle("delete", notes, "-q")
    assert lifecycle("undelete", notes).code == 0
    assert notes.read_bytes() == b"another"


def test_of_a_folder_only_what_was_deleted_comes_back(managed):
    photos = managed / "photos"
    lifecycle("backup", "-q")
    lifecycle("archive", photos / "a.jpg", "-q")
    lifecycle("delete", photos / "link", "-q")
    (photos / "2025/b.jpg").write_bytes(b"newer")
    lifecycle("restore", photos / "2025/b.jpg", "--conflict", "replace", "-q")
    reasons = {it["reason"] for it in lifecycle("undelete", "--list", "--json").lines}
    assert reasons == {"archive", "delete", "replace"}
    done = lifecycle("undelete", photos, "--json")
    assert (done.code, root_of(done)["completed"]) == (0, 1)
    assert (photos / "link").is_symlink()
    assert not (photos / "a.jpg").exists()
    # By its own name an archived file comes back out of the trash, too.
    assert lifecycle("undelete", photos / "a.jpg").code == 0
    assert (photos / "a.jpg").exists()


def test_nothing_in_the_trash_is_said_with_a_remedy(managed):
    done = lifecycle("undelete", managed / "notes.txt")
    assert (done.code, "lies in the trash" in done.err, "--list" in done.err) == (2, True, True)
    assert lifecycle("undelete").code == 2


def test_the_list_is_json_lines(managed):
    lifecycle("delete", managed / "notes.txt", "-q")
    (line,) = lifecycle("undelete", "--list", "--json").lines
    assert (line["item"], line["path"], line["reason"]) == (
        "trashed",
        str(managed / "notes.txt"),
        "delete",
    )
    assert line["until"] > line["taken_at"]


def test_a_damaged_batch_is_told_of_by_list_status_and_doctor(managed):
    lifecycle("delete", managed / "notes.txt", "-q")
    (sidecar,) = (managed / ".lifecycle/trash").rglob("batch.jsonl")
    sidecar.chmod(0o600)
    sidecar.write_text("{")
    listed = lifecycle("undelete", "--list")
    assert listed.code == 3
    assert sidecar.parent.name in listed.err
    assert "1 batch cannot be read" in lifecycle("status").out
    found = lifecycle("doctor", "--json").document["findings"]
    (fault,) = [it for it in found if it["check"] == "root.trash"]
    assert (fault["level"], bool(fault["remedy"])) == ("fault", True)


# -- holds and guards ----------------------------------------------------------------------


def test_downloads_are_noted_for_policies_that_count_from_them(managed: Path):
    file = managed / "notes.txt"
    rules = ("--path", "*/notes.txt", "--age-from", "downloaded", "--delete-after-days", "2")
    assert lifecycle("policy", "set", "export", *rules, "--auto-delete").code == 0

    def delete_at() -> object:
        return lifecycle("explain", file, "--json").document["dates"]["delete"]

    assert delete_at() is None
    assert "it was never downloaded" in lifecycle("explain", file).out
    assert lifecycle("policy", "downloaded", file, "--at", "5d", "--dry-run").code == 0
    assert delete_at() is None
    assert lifecycle("policy", "downloaded", file, "--at", "5d").code == 0
    assert delete_at() is not None
    done = lifecycle("policy", "downloaded", file, "--at", "+1d")
    assert done.code == 2
    assert "a time yet to come" in done.err


def test_status_tells_of_a_pause(managed: Path):
    assert lifecycle("status", "--json").document["stops"] == []
    assert lifecycle("pause", "--reason", "moving house", "--owner", "me").code == 0
    assert "moving house" in lifecycle("status").out
    (stop,) = lifecycle("status", "--json").document["stops"]
    assert stop["guard"] == "pause"
    assert "moving house" in stop["reason"]
    assert lifecycle("resume").code == 0


def test_a_hold_on_what_is_not_there_says_so(managed: Path):
    done = lifecycle("hold", managed / "no such file", "--reason", "case 4711")
    assert done.code == 0
    assert "there is nothing by that name now" in done.err
    assert lifecycle("hold", managed, "--reason", "case 4711").err == ""


def test_a_hold_stops_delete_and_archive(managed):
    hold(managed / "notes.txt")
    for order in ("delete", "archive"):
        for options in ([], ["--dry-run"]):
            done = lifecycle(order, managed / "notes.txt", *options)
            assert (done.code, "held: court order 7" in done.out) == (4, True), done.out
            assert (managed / "notes.txt").exists()
    error = root_of(lifecycle("delete", managed / "notes.txt", "--json"))["error"]
    assert error["code"] == "guard"
    assert error["remedy"]


def test_what_is_not_held_goes_all_the_same(managed):
    hold(managed / "notes.txt")
    done = lifecycle("delete", managed, "--yes")
    assert done.code == 3
    assert "moved to the trash: 4 files" in done.out
    assert "1 left as it is" in done.out
    assert (managed / "notes.txt").exists()


def test_a_root_that_is_not_itself_stops_every_order(managed, work):
    lifecycle("backup", "-q")
    lifecycle("delete", managed / "notes.txt", "-q")
    os.rename(managed, work / "elsewhere")
    for order in (
        ["backup"],
        ["backup", "--dry-run"],
        ["delete", managed / "photos"],
        ["archive", managed / "photos/a.jpg"],
        ["undelete", managed],
        ["restore", managed],
        ["purge"],
    ):
        done = lifecycle(*order)
        assert (done.code, "Remedy: " in done.err) == (5, True), (order, done)
    assert (work / "elsewhere/photos/a.jpg").exists()


def test_a_root_that_a_guard_holds_stops_a_look_ahead_too(managed):
    (managed / ".lifecycle/root.json").write_text("{")
    for order in ("backup", "delete", "archive"):
        for options in ([], ["--dry-run"]):
            done = lifecycle(order, managed / "notes.txt", *options)
            assert (done.code, "`lifecycle accept`" in done.err) == (4, True), done
    assert (managed / "notes.txt").exists()


def test_one_root_that_is_offline_does_not_keep_the_other_waiting(managed, work):
    other = work / "other"
    other.mkdir()
    (other / "x.txt").write_bytes(b"x")
    lifecycle("run", other, "--once", "-q")
    os.rename(managed, work / "elsewhere")
    done = lifecycle("backup")
    assert done.code == 3
    assert f"{other}: backed up 1 file" in done.out
    assert f"{managed}: FAILED: " in done.out


def test_what_an_application_works_on_is_left_alone(managed):
    with Engine.open(load_config()) as engine:
        record = engine.find_record(os.fspath(managed / "notes.txt"))
        from lifecycle_sync.model.ids import to_text

        engine.claim(to_text(record.file_id))
    for order in ("delete", "archive", "backup"):
        done = lifecycle(order, managed / "notes.txt")
        assert (done.code, "claimed" in done.out) == (3, True)
    assert (managed / "notes.txt").exists()


# -- purge ---------------------------------------------------------------------------------


def test_a_purge_waits_for_the_grace(managed):
    lifecycle("delete", managed / "notes.txt", "-q")
    done = lifecycle("purge")
    assert (done.code, done.out) == (0, f"{managed}: purged nothing\n")
    assert lifecycle("undelete", managed / "notes.txt").code == 0


def test_a_purge_waits_while_the_clock_is_in_doubt(managed, request):
    lifecycle("backup", "-q")
    lifecycle("delete", managed / "notes.txt", managed / "photos")
    request.getfixturevalue("later")
    request.getfixturevalue("unsynchronised")
    # What is done meanwhile does not make it right.
    photos = managed / "photos"
    for order in (("undelete", photos), ("restore", photos), ("delete", photos), ("sync",)):
        lifecycle(*order)
        done = lifecycle("purge")
        assert (done.code, "confirm --guard clock" in done.err) == (4, True), order
    ahead = lifecycle("purge", "--dry-run")
    assert (ahead.code, "the clock is in doubt" in ahead.out) == (0, True)
    assert lifecycle("undelete", managed / "notes.txt").code == 0


def test_a_purge_past_the_grace_is_for_good(managed, request):
    lifecycle("delete", managed / "notes.txt", "-q")
    request.getfixturevalue("later")
    assert lifecycle("confirm", "--guard", "clock", "--yes").code == 0
    looked = lifecycle("purge", "--dry-run")
    assert "would purge 1 file" in looked.out
    assert list((managed / ".lifecycle/trash").rglob("0"))
    done = lifecycle("purge")
    assert (done.code, "purged 1 file, 2.9 KiB" in done.out) == (0, True)
    assert not list((managed / ".lifecycle/trash").iterdir())
    assert lifecycle("undelete", managed / "notes.txt").code == 2


def test_a_purge_leaves_what_is_held(managed, request):
    lifecycle("delete", managed / "notes.txt", "-q")
    hold(managed / "notes.txt")
    request.getfixturevalue("later")
    assert lifecycle("confirm", "--guard", "clock", "--yes").code == 0
    for options in (["--dry-run"], []):
        done = lifecycle("purge", *options)
        assert (done.code, "held: court order 7" in done.out) == (0, True)
    assert lifecycle("undelete", managed / "notes.txt").code == 0


def test_a_purge_leaves_what_was_written_to_in_the_trash(managed, request):
    late = os.open(managed / "notes.txt", os.O_WRONLY | os.O_APPEND)
    lifecycle("delete", managed / "notes.txt", "-q")
    os.write(late, b"late")
    os.close(late)
    request.getfixturevalue("later")
    assert lifecycle("confirm", "--guard", "clock", "--yes").code == 0
    done = lifecycle("purge")
    assert done.code == 3
    assert "it changed after it was taken" in done.out


# -- the run loop --------------------------------------------------------------------------


def test_the_run_loop_settles_what_was_interrupted(managed):
    """A pending row of a killed process, its file where it was."""
    with Engine.open(load_config()) as engine:
        from lifecycle_sync.model.act import Intent

        record = engine.find_record(os.fspath(managed / "notes.txt"))
        act = engine.registry.begin_act(record.repository_id, "delete", engine.now_ns())
        engine.registry.begin_operations(
            act,
            [Intent(uuid.uuid4().bytes, record.file_id, "delete")],
            engine.now_ns(),
            unless_held=False,
        )
        assert engine.registry.pending_operations(None)
    assert lifecycle("run", "--once", "-q").code == 0
    with Engine.open(load_config()) as engine:
        assert not engine.registry.pending_operations(None)
    assert (managed / "notes.txt").exists()


def test_the_run_loop_purges_and_does_not_back_up(managed):
    lifecycle("delete", managed / "notes.txt", "-q")
    (sidecar,) = (managed / ".lifecycle/trash").rglob("batch.jsonl")
    text = sidecar.read_text()
    first, rest = text.split("\n", 1)
    head = json.loads(first)
    until = next(key for key in head if key.startswith("until"))
    head[until] = 1_000 if isinstance(head[until], int) else "2020-01-01T00:00:00Z"
    sidecar.chmod(0o600)
    sidecar.write_text(json.dumps(head) + "\n" + rest)
    process = lifecycle_process("run", "--interval", "1")
    try:
        wait_for_line(process.stderr, "Following")
        for _ in range(600):
            if not list((managed / ".lifecycle/trash").iterdir()):
                break
            import time

            time.sleep(0.1)
        assert not list((managed / ".lifecycle/trash").iterdir())
    finally:
        process.terminate()
        process.communicate(timeout=120)
    (root,) = lifecycle("status", "--json").document["roots"]
    assert root["last_backup"] is None
