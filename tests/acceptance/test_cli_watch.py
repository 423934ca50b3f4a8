"""`lifecycle run` and `watch` while things change, `sync --now`, and what `status` says of it."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import lifecycle, lifecycle_process, wait_for_line

HOUSE = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0


@contextmanager
def following(tree: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = lifecycle_process("run", str(tree), *options)
    try:
        wait_for_line(process.stderr, "Following 1 root")
        yield process
    finally:
        process.terminate()
        process.communicate()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_a_run_shows_what_changes_in_a_calm_line(tree):
    with following(tree) as process:
        (tree / "new.txt").write_text("new")
        line = wait_for_line(process.stdout, "1 added")
        assert line.endswith(f"{tree}: 6 files, 198 KiB; 1 added\n")


def test_a_run_shows_a_line_a_file_on_request(tree):
    with following(tree, "--events") as process:
        (tree / "new.txt").write_text("new")
        line = wait_for_line(process.stdout, "new.txt")
        assert line.endswith(f"  +  {tree}/new.txt  (3 B)\n")
        (tree / "notes.txt").unlink()
        assert wait_for_line(process.stdout, "notes.txt").endswith(f"  -  {tree}/notes.txt\n")


def test_who_watches_beside_a_run_sees_what_it_records(tree):
    with following(tree):
        process = lifecycle_process("watch", "--json")
        try:
            number = 0
            assert process.stdout is not None
            while not select.select([process.stdout], [], [], 0.5)[0]:
                # Until it has begun to watch.
                number += 1
                (tree / f"new-{number}.txt").write_text("new")
            change = json.loads(wait_for_line(process.stdout, "}\n").splitlines()[0])
            assert (change["item"], change["change"]) == ("change", "added")
            assert change["path"].startswith(f"{tree}/new-")
        finally:
            process.terminate()
            process.communicate()


def test_who_watches_alone_follows_the_roots_itself(tree):
    assert lifecycle("run", tree, "--once", "-q").code == 0
    process = lifecycle_process("watch")
    try:
        wait_for_line(process.stderr, "Watching 1 root")
        until(lambda: "watching (process" in lifecycle("status").out)
        (tree / "new.txt").write_text("new")
        assert "+" in wait_for_line(process.stdout, "new.txt")
    finally:
        process.terminate()
        process.communicate()


def test_a_sync_now_waits_until_what_happened_is_recorded(tree):
    with following(tree):
        for number in range(5):
            (tree / f"{number}.txt").write_text(str(number))
            done = lifecycle("sync", "--now")
            assert done.code == 0
            assert "all that happened until now is recorded" in done.err
            assert f"{number}.txt" in lifecycle("ls", tree).out


def test_a_sync_now_that_nobody_answers_is_a_pass(tree):
    assert lifecycle("run", tree, "--once", "-q").code == 0
    (tree / "new.txt").write_text("new")
    done = lifecycle("sync", "--now")
    assert done.code == 0
    assert "1 added" in done.out


def test_the_status_says_how_a_root_is_followed(tree):
    with following(tree):
        until(lambda: "watching (process" in lifecycle("status").out)
        (root,) = json.loads(lifecycle("status", "--json").out)["roots"]
        assert root["watching"]["mode"] == "watching"
        assert root["watching"]["watched_directories"] == 3
        assert root["watching"]["alarms"] == []
    until(lambda: "by nobody" in lifecycle("status").out)
    (root,) = json.loads(lifecycle("status", "--json").out)["roots"]
    assert root["watching"] is None


def test_a_run_that_does_not_watch_passes_at_intervals(tree):
    with following(tree, "--no-watch", "--interval", "1") as process:
        (tree / "new.txt").write_text("new")
        assert "1 added" in wait_for_line(process.stdout, "1 added")
        assert "by nobody" in lifecycle("status").out


@pytest.mark.parametrize(
    "code",
    re.findall(
        r"```python\n(.*?)```",
        (HOUSE / "docs/how-to/watch.md").read_text(encoding="utf-8"),
        re.DOTALL,
    ),
)
def test_the_python_of_the_page_on_watching_runs(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "new.jpg uploaded\n"


# The command, with a process that begins anew whatever it holds.
_RENEWING = """
import os, signal, sys
from lifecycle_sync.cli import main, process
process.RENEW_BYTES = 0
execv = os.execv
def become(*arguments):
    if {stopped}:
        os.kill(os.getpid(), signal.SIGTERM)
    execv(*arguments)
os.execv = become
sys.exit(main())
"""


@contextmanager
def renewing(tree: Path, *, stopped: bool) -> Iterator[subprocess.Popen[str]]:
    code = _RENEWING.format(stopped=stopped)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", str(tree)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_the_first_pass_had_in_memory_goes_with_the_process_that_made_it(tree):
    with renewing(tree, stopped=False) as process:
        said = wait_for_line(process.stderr, "Following 1 root")
        # It went on as another image of itself, which did not tell again what was told.
        assert b"_LIFECYCLE_RENEWED=1" in Path(f"/proc/{process.pid}/environ").read_bytes()
        assert (said.count("Indexing"), said.count("Following")) == (1, 1)
        assert wait_for_line(process.stdout, "Largest").count("Largest") == 1
        (tree / "new.txt").write_text("new")
        assert "Largest" not in wait_for_line(process.stdout, "1 added").partition("1 added")[2]
        process.terminate()
        _, err = process.communicate(timeout=30)
        assert (process.returncode, "Ended by a signal" in err) == (0, True)


def test_a_signal_that_comes_while_a_process_becomes_anew_is_heard(tree):
    with renewing(tree, stopped=True) as process:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "Following" not in err
        assert "Ended" in err
