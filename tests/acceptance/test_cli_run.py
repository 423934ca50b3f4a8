"""`lifecycle run` and `sync`: register, index, summarise, follow, stop."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lifecycle_sync.cli import passes, progress, run
from lifecycle_sync.cli.progress import SilentProgress
from tests.support import oracle
from tests.support.command import lifecycle, lifecycle_on_terminal, lifecycle_process, wait_for_line

GRAIN_SECONDS = 0.03


def settle() -> None:
    """Wait until nothing is so fresh that it would be hashed again."""
    time.sleep(GRAIN_SECONDS)


def exact(item: dict[str, str]) -> bytes:
    """The path of a JSON record as bytes."""
    return base64.b64decode(item["path_bytes"]) if "path_bytes" in item else item["path"].encode()


# -- the summary ---------------------------------------------------------------------------


def test_the_first_run_tells_what_there_is(tree):
    settle()
    done = lifecycle("run", tree, "--once")
    assert done.code == 0
    lines = [line.strip() for line in done.out.splitlines()]
    assert lines[0] == f"{tree}  (first index)"
    assert lines[1] == "5 files in 3 folders, 198 KiB"
    assert any(line.startswith("uploaded  video         1  195 KiB") for line in lines)
    assert any(line.endswith("photos/2025/long.mp4") for line in lines)
    assert "1 entry is ignored: hidden, temporary, or matched by your patterns" in lines
    assert "Duplicates: 1 group, 12 B could be spared" in lines
    assert not any("Changed since" in line for line in lines)
    assert f"Registered {tree}" in done.err


def test_the_second_run_tells_what_changed(tree):
    settle()
    lifecycle("run", tree, "--once")
    (tree / "new.txt").write_text("new")
    (tree / "notes.txt").write_text("other")
    (tree / "photos/2025/long.mp4").rename(tree / "moved.mp4")
    (tree / "photos/a.jpg").unlink()
    settle()
    done = lifecycle("run", tree, "--once")
    lines = [line.strip() for line in done.out.splitlines()]
    assert "Changed since last time: 1 added, 1 updated, 1 moved, 1 removed" in lines
    assert {
        "+  new.txt",
        "~  notes.txt",
        "→  photos/2025/long.mp4 → moved.mp4",
        "-  photos/a.jpg",
    } <= set(lines)


def test_a_run_on_an_unchanged_tree_says_so(tree):
    settle()
    lifecycle("run", tree, "--once")
    done = lifecycle("run", tree, "--once")
    assert f"{tree}  (unchanged)" in done.out
    assert "3 folders unchanged" in done.out


def test_a_pipe_gets_no_colours_and_two_lines_a_phase(tree):
    done = subprocess.run(
        [sys.executable, "-m", "lifecycle_sync", "run", tree, "--once"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stderr
    words = [line.split()[0] for line in done.stderr.splitlines()]
    assert words == ["Registered", "Indexing", "Indexed", "Hashing", "Hashed"]


def test_quiet_says_nothing_when_all_is_well(tree):
    done = lifecycle("run", tree, "--once", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_json_gives_a_line_a_root(tree, work):
    other = work / "other"
    other.mkdir()
    (other / "x").write_text("x")
    settle()
    done = lifecycle("run", tree, other, "--once", "--json")
    assert (done.code, done.err) == (0, "")
    # Several roots are looked at at once.
    first, _second = sorted(done.lines[:2], key=lambda line: line["path"])
    policies, upcoming = done.lines[2:]
    assert policies["item"] == "policies"
    # They have only just been written.
    assert (upcoming["item"], upcoming["verb"], upcoming["guard"]) == ("next", "backup", "")
    assert os.path.exists(upcoming["path"])
    assert timedelta(0) < datetime.fromisoformat(upcoming["due"]) - datetime.now(UTC)
    assert {line["path"] for line in done.lines[:2]} == {str(tree), str(other)}
    assert first["path"] == str(tree)
    assert first["item"] == "pass"
    assert first["first_index"] is True
    assert first["run"]["status"] == "completed"
    assert first["hashes"]["hashed"] == 4
    assert first["summary"]["files"] == 5
    assert first["summary"]["ignored_entries"] == 1
    assert first["summary"]["duplicates"]["wasted_bytes"] == 12
    assert sum(item["files"] for item in first["summary"]["by_state_and_type"]) == 5


def test_without_hashes_nothing_is_hashed(tree):
    done = lifecycle("run", tree, "--once", "--no-hash", "--no-policies", "--json")
    assert done.document["hashes"]["hashed"] == 0
    assert done.document["summary"]["to_hash"]["files"] == 4


def test_an_independent_look_agrees_with_ls(tree):
    names = [b"new\nline", b"esc\x1b[31mape", b"bad\xff\xfename", "größe[bold]".encode(), b"-rf"]
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(tree), name), "wb") as file:
            file.write(b"x" * number)
    (tree / "hard").hardlink_to(tree / "notes.txt")
    os.mkfifo(tree / "fifo")
    settle()
    assert lifecycle("run", tree, "--once").code == 0
    listed = lifecycle("ls", "-R", tree, "--json")
    found = {os.path.relpath(exact(item), os.fsencode(tree)): item for item in listed.lines}
    seen = oracle.disk(tree)
    assert found.keys() == seen.keys()
    for path, item in found.items():
        told = (item["size"], item["inode"], item["links"], item["checksum"] or None)
        assert told == (seen[path].size, seen[path].inode, seen[path].nlink, seen[path].checksum)
    by_name = {os.path.basename(path): item for path, item in found.items()}
    assert by_name[b"bad\xff\xfename"]["path"].endswith(r"bad\xff\xfename")
    assert "path_bytes" not in by_name[b"new\nline"]


def test_names_cannot_reach_the_terminal(tree):
    (tree / "esc\x1b]0;title\x07[red]x\n").write_text("x" * 9_000_00)
    settle()
    for done in (lifecycle("run", tree, "--once"), lifecycle("ls", tree), lifecycle("find")):
        assert "\x1b" not in done.out + done.err
        assert r"esc\x1b]0;title\x07[red]x\n" in done.out


def test_a_fifo_is_counted_and_skipped(tree):
    os.mkfifo(tree / "fifo")
    done = lifecycle("run", tree, "--once")
    assert done.code == 0
    assert "1 socket, FIFO or device skipped" in done.out


# -- what cannot be followed ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "cause"),
    [
        ("missing", "does not exist"),
        ("files/notes.txt", "is not a folder"),
        ("/", "is the whole filesystem"),
        ("../home", "is a home directory itself"),
    ],
)
@pytest.mark.parametrize("command", [["run", "--once"], ["add"], ["add", "--dry-run"]])
def test_a_bad_root_is_refused_and_nothing_is_made(work, tree, folder, cause, command):
    done = lifecycle(*command, folder)
    assert (done.code, done.out) == (2, "")
    head, remedy = done.err.splitlines()
    assert head.startswith("lifecycle: add root: ")
    assert cause in head
    assert remedy.startswith("  Remedy: ")
    assert not (work.parent / "home/data").exists()
    assert not (tree / ".lifecycle").exists()


def test_one_bad_folder_among_good_ones_keeps_all_out(work, tree):
    done = lifecycle("add", tree, work / "missing")
    assert done.code == 2
    assert not (tree / ".lifecycle").exists()


def test_folders_inside_one_another_are_refused(work, tree):
    done = lifecycle("add", tree / "photos", tree)
    assert done.code == 2
    assert "which is named too" in done.err
    lifecycle("add", tree)
    inside = lifecycle("add", tree / "photos")
    assert inside.code == 2
    assert f"lies inside the root {tree}" in inside.err
    around = lifecycle("add", work)
    assert around.code == 2
    assert f"contains the root {tree}" in around.err


def test_run_without_any_folder_tells_how_to_name_one(work):
    done = lifecycle("run", "--once")
    assert done.code == 2
    assert "`lifecycle run FOLDER`" in done.err
    assert not (work.parent / "home/data").exists()


def test_the_folders_of_the_settings_are_registered_and_enforced(work, tree):
    (work / "lifecycle.toml").write_text(f'database_path = "r.db"\nroots = ["{tree}"]\n')
    done = lifecycle("run", "--once", "--json")
    looked, _policies, _next = done.lines
    assert (done.code, looked["path"]) == (0, str(tree))
    assert looked["enforce"] is True


def test_the_default_folder_of_a_settings_file_is_taken_when_it_is_there(work):
    (work / "lifecycle.toml").write_text('database_path = "r.db"\n')
    for order in (["run", "--once"], ["sync"]):
        done = lifecycle(*order)
        assert done.code == 2
        assert "no folder is named" in done.err
    assert not (work / "r.db").exists()
    (work / "storage").mkdir()
    assert lifecycle("sync").code == 0
    assert lifecycle("ls", "--json").document["path"] == str(work / "storage")


def test_a_folder_that_the_settings_name_must_be_there(work):
    (work / "lifecycle.toml").write_text('database_path = "r.db"\nroots = ["gone"]\n')
    done = lifecycle("run", "--once")
    assert done.code == 2
    assert "gone: does not exist" in done.err
    assert not (work / "r.db").exists()


def test_five_faults_are_told_at_once(work):
    (work / "lifecycle.toml").write_text(
        "database_path = 5\nregistry_sync_interval = 0\nhash_algorithm = 'md5'\n"
        "ignore = 'x'\nnonsense = 1\n"
    )
    done = lifecycle("run", ".", "--once")
    assert done.code == 2
    assert "5 faults" in done.err
    names = ["database_path", "registry_sync_interval", "hash_algorithm", "ignore", "nonsense"]
    assert all(any(f"- {name}" in line for line in done.err.splitlines()) for name in names)
    assert len(lifecycle("status", "--json").error["faults"]) == 5


# -- guards --------------------------------------------------------------------------------


@pytest.fixture
def thirty(work: Path) -> Path:
    """A root of thirty files, indexed."""
    root = work / "thirty"
    root.mkdir()
    for number in range(30):
        (root / f"{number:02}.txt").write_text(str(number))
    settle()
    assert lifecycle("run", root, "--once").code == 0
    return root


def test_a_root_that_lost_too_much_is_held_until_it_is_accepted(thirty):
    for file in thirty.glob("[012]*.txt"):
        file.unlink()
    done = lifecycle("sync")
    assert done.code == 0
    assert "HELD BY THE GUARD SHRINK: 30 of 30 files (100 %) are gone" in done.out
    assert "lifecycle accept" in done.out
    held = lifecycle("status", "--json").document["roots"][0]
    assert (held["status"], held["guard"]["guard"], held["missing_files"]) == ("held", "shrink", 30)
    assert "lifecycle accept" in held["guard"]["remedy"]
    summary = lifecycle("run", "--once")
    assert summary.code == 0
    assert "Held by the guard shrink" in summary.out
    looked = lifecycle("accept", thirty, "--dry-run")
    assert "would accept the loss of 30 files" in looked.out
    accepted = lifecycle("accept", thirty)
    assert accepted.code == 0
    assert "accepted the loss of 30 files" in accepted.out
    assert "30 removed" in accepted.out
    assert lifecycle("status", "--json").document["roots"][0]["status"] == "active"


def test_a_root_that_is_not_there_is_offline(thirty, work):
    thirty.rename(work / "away")
    for order in (["sync"], ["run", "--once"], ["run", thirty, "--once"]):
        done = lifecycle(*order)
        assert done.code == 5, order
        assert "the folder is not there" in done.out
        assert "mount it" in done.out
    document = lifecycle("sync", "--json").document
    assert document["exit_code"] == 5
    assert document["roots"][0]["error"]["code"] == "offline"
    (root,) = lifecycle("status", "--json").document["roots"]
    assert (root["status"], root["files"]) == ("offline", 30)
    (work / "away").rename(thirty)
    assert lifecycle("sync").code == 0


def test_an_emptied_mount_point_is_offline_not_a_mass_deletion(thirty, work):
    thirty.rename(work / "disk")
    thirty.mkdir()
    done = lifecycle("sync")
    assert done.code == 5
    assert "unmounted, emptied or replaced" in done.out
    assert lifecycle("find", "--state", "deleted").out == ""


def test_a_swapped_root_is_held_and_nothing_is_done(thirty, work):
    other = work / "other"
    other.mkdir()
    lifecycle("add", other)
    thirty.rename(work / "away")
    other.rename(thirty)
    done = lifecycle("sync", thirty)
    assert done.code == 4
    assert "marker of another root" in done.out


def test_some_roots_failing_is_another_code_than_all(thirty, work):
    other = work / "other"
    other.mkdir()
    lifecycle("add", other)
    thirty.rename(work / "away")
    assert lifecycle("sync").code == 3
    assert lifecycle("sync", thirty).code == 5
    assert lifecycle("sync", other).code == 0


def test_a_copied_root_gets_an_id_of_its_own(thirty, work):
    subprocess.run(["cp", "-a", thirty, work / "copy"], check=True)
    done = lifecycle("add", work / "copy", "--json")
    (root,) = done.document["roots"]
    assert root["created"]
    assert "a copy of" in root["note"]


def test_the_marker_of_another_registry_needs_adopt(thirty):
    done = lifecycle("add", thirty, "--database", "another.db")
    assert done.code == 2
    assert "--adopt" in done.err
    assert not os.path.exists("another.db")
    assert lifecycle("add", thirty, "--database", "another.db", "--adopt").code == 0


def test_what_cannot_be_read_is_told_with_its_reason(tree, monkeypatch):
    from lifecycle_sync.fileops import FileOps

    real = FileOps.open_read_stat

    def refuse(self, name, dir_fd=None):
        if os.fsencode(name) == b"notes.txt":
            raise PermissionError(13, "Permission denied", name)
        return real(self, name, dir_fd)

    monkeypatch.setattr(FileOps, "open_read_stat", refuse)
    settle()
    done = lifecycle("run", tree, "--once")
    assert done.code == 3
    assert "Unreadable: 1 file" in done.out
    assert "notes.txt  (permission denied)" in done.out
    again = lifecycle("sync")
    assert again.code == 3
    assert "1 file unreadable" in again.out
    assert "notes.txt" in lifecycle("find", "--unreadable").out


# -- sync ----------------------------------------------------------------------------------


def test_sync_of_a_folder_below_a_root_looks_at_that_alone(tree):
    lifecycle("add", tree)
    done = lifecycle("sync", tree / "photos/2025")
    assert done.code == 0
    assert done.out.startswith(f"{tree}/photos/2025: ")
    assert "added" in done.out and "hashed" in done.out
    found = [it["path"] for it in lifecycle("find", "--json").lines]
    assert found and all(path.startswith(f"{tree}/photos/2025/") for path in found)
    # One folder that is named with what is in it is named once.
    both = lifecycle("sync", tree / "photos", tree / "photos/2025")
    assert len(both.out.splitlines()) == 1


def test_sync_of_a_folder_that_is_no_root_is_refused(tree, work):
    lifecycle("add", tree)
    done = lifecycle("sync", work)
    assert done.code == 2
    assert "lies in no root" in done.err
    assert "`lifecycle add`" in done.err


def test_sync_tells_in_one_line_what_it_found(tree):
    lifecycle("add", tree)
    settle()
    assert lifecycle("sync").out == f"{tree}: 5 files, 198 KiB; 5 added; 4 hashed\n"
    assert lifecycle("sync").out == f"{tree}: 5 files, 198 KiB; unchanged\n"


# -- signals -------------------------------------------------------------------------------


class Interrupted(SilentProgress):
    """A person presses ^C when indexing begins."""

    def begin(self, phase, root, total_files, total_bytes):
        super().begin(phase, root, total_files, total_bytes)
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("order", [["run", "--once"], ["sync"]])
def test_an_interrupted_pass_says_what_was_done_and_can_be_repeated(tree, monkeypatch, order):
    lifecycle("add", tree)
    with monkeypatch.context() as patched:
        for module in (passes, run):
            patched.setattr(module, "progress_for", lambda session, _: Interrupted(session))
        done = lifecycle(*order)
        assert done.code == 1
        assert f"stopped by a signal while indexing {tree}" in done.err
        assert "run again" in done.err
        assert lifecycle(*order, "--json").error["code"] == "cancelled"
    assert lifecycle("run", "--once").code == 0


def test_the_second_signal_is_no_longer_caught(tree, monkeypatch):
    lifecycle("add", tree)
    handlers: list[object] = []

    class Looking(Interrupted):
        def begin(self, phase, root, total_files, total_bytes):
            super().begin(phase, root, total_files, total_bytes)  # type: ignore[no-untyped-call]
            handlers.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)))

    monkeypatch.setattr(passes, "progress_for", lambda session, _: Looking(session))
    before = signal.getsignal(signal.SIGINT)
    lifecycle("sync")
    assert handlers == [signal.SIG_DFL] * 2
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def following(tree):
    """A `run` in its own process, which has done its first pass and waits."""
    settle()
    process = lifecycle_process("run", tree, "--interval", "1")
    wait_for_line(process.stderr, "Following 1 root")
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_run_follows_until_it_is_told_to_stop(following, tree):
    wait_for_line(following.stdout, "Duplicates")
    (tree / "late.txt").write_text("late")
    line = wait_for_line(following.stdout, "1 added")
    assert f"{tree}: 6 files" in line
    following.send_signal(signal.SIGTERM)
    out, err = following.communicate(timeout=20)
    assert following.returncode == 0
    assert "Ended by a signal" in err
    # Calm: passes that found nothing said nothing.
    assert out == ""
    assert "Indexing" not in err


def test_a_second_run_on_the_root_is_busy_and_names_the_first(following, tree):
    for order in (["run", tree, "--once"], ["run", "--once"], ["remove", tree, "--yes"]):
        done = lifecycle(*order)
        assert done.code == 5, order
        assert f"another process ({following.pid}) has it" in done.err
    assert lifecycle("sync", tree).code == 0
    following.send_signal(signal.SIGINT)
    assert following.wait(20) == 0


def test_a_closed_pipe_ends_quietly(tree):
    for number in range(3_000):
        (tree / f"{number:05}").touch()
    lifecycle("run", tree, "--once", "--no-hash")
    done = subprocess.run(
        f"{sys.executable} -m lifecycle_sync ls -R --json | head -n 1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


# -- a terminal ----------------------------------------------------------------------------


def test_a_terminal_gets_colours_but_no_escapes_from_names(tree):
    (tree / "esc\x1b[35mape[bold]").write_bytes(b"x" * 3_000_000)
    settle()
    code, text = lifecycle_on_terminal("run", tree, "--once")
    assert code == 0
    assert "\x1b[1;36m" in text
    assert "Indexing" in text
    assert r"esc\x1b[35mape[bold]" in text
    assert "\x1b[35m" not in text
    assert "\x1b[?25l" not in text[text.rindex("\x1b[?25h") :]


def test_progress_knows_the_time_left():
    phase = progress.Phase("hash", b"/srv", 10, 1_000_000)
    phase.files, phase.bytes = 5, 500_000
    assert phase.share == pytest.approx(0.5)
    assert phase.seconds_left((5.0, 500_000.0)) is None
    phase._begun -= 10
    assert phase.seconds_left((5.0, 500_000.0)) == pytest.approx(1.0)
    unknown = progress.Phase("index", b"/srv", None, None)
    assert unknown.share is None
    assert unknown.seconds_left((5.0, 5.0)) is None


# -- two stories about one file ------------------------------------------------------------


def test_a_conflict_waits_for_policies_and_is_told_of(tree, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_CONFLICT_STRATEGY", "keep_both")
    lifecycle("add", tree, "--enforce")
    lifecycle("sync")
    assert lifecycle("archive", tree / "notes.txt").code == 0
    (tree / "notes.txt").write_text("written meanwhile")
    settle()
    lifecycle("sync")
    assert "conflicts" in lifecycle("status").out
    (root,) = lifecycle("status", "--json").document["roots"]
    assert root["conflicts"] == 1
    assert lifecycle("run", "--once").code == 0
    assert (tree / "notes.txt").read_text() == "written meanwhile"
    assert (tree / "notes (restored 1).txt").read_bytes() == b"n" * 3_000
    assert "conflicts" not in lifecycle("status").out
    told = lifecycle("history", tree / "notes.txt").out
    assert "conflict" in told and "changed while archived" in told


def test_a_conflict_that_was_resolved_is_told(tree, monkeypatch):
    # What took a file from its place is never done without a word.
    monkeypatch.setenv("LIFECYCLE_CONFLICT_STRATEGY", "registry")
    monkeypatch.setenv("LIFECYCLE_MIN_AGE_SECONDS", "0")
    for number in range(20):
        (tree / f"{number}.txt").write_text(str(number))
    lifecycle("run", tree, "--once", "--enforce", "-q")
    lifecycle("archive", tree / "notes.txt", "-q")
    (tree / "notes.txt").write_bytes(b"it came again")
    settle()
    code, text = lifecycle_on_terminal("run", tree, "--once", "--enforce")
    assert code == 0, text
    assert "resolved conflicts: 1 file" in text
    assert not (tree / "notes.txt").exists()
