"""A walk in a process of its own says what a walk here says, and ends when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.children import start_worker
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.errors import CancelledError, LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Listing
from lifecycle_sync.observe import walk_process
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.listing import unpacked
from lifecycle_sync.observe.walk_process import walk_in_process
from lifecycle_sync.observe.walker import walk

MARGIN_NS = 20_000_000
RULES = IgnoreRules(["*.log", "!keep.log"])


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def tree(tmp_path: Path) -> bytes:
    root = os.fsencode(tmp_path / "tree")
    for directory in (b"a", b"a/b", b"empty", b"caf\xe9", b".hidden", b"wide"):
        os.makedirs(os.path.join(root, directory))
    for name in (b"a/one.txt", b"a/b/new\nline", b"caf\xe9/\xff", b"x.log", b"keep.log", b"a/~"):
        Path(os.fsdecode(os.path.join(root, name))).write_bytes(name * 3)
    for number in range(300):
        Path(os.fsdecode(os.path.join(root, b"wide/%d" % number))).write_bytes(b"x" * number)
    os.symlink(b"a", os.path.join(root, b"link"))
    os.mkfifo(os.path.join(root, b"fifo"))
    # Out of the racy margin, so that there are signatures.
    time.sleep(2 * MARGIN_NS / 1e9)
    return root


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that walks start."""
    processes = []

    def start(module: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        processes.append(start_worker(module, arguments))
        return processes[-1]

    monkeypatch.setattr(walk_process, "start_worker", start)
    return processes


def here(root: bytes) -> list[Listing]:
    return list(walk(root, RULES, fs=FileOps(), clock=SystemClock(), cancel=CancelToken()))


def there(root: bytes, **options: Any) -> list[Listing]:
    return list(walk_in_process(root, RULES, cancel=CancelToken(), margin_ns=MARGIN_NS, **options))


def facts(listing: Listing) -> tuple[object, ...]:
    names = ("path", "inode", "error", "signature", "file_count", "byte_count")
    counts = ("ignored_count", "special_count", "columns")
    return tuple(getattr(listing, name) for name in (*names, *counts))


def test_it_says_what_a_walk_in_this_process_says(tree):
    expected = [facts(listing) for listing in here(tree)]
    assert len(expected) == 6
    assert [facts(listing) for listing in there(tree)] == expected


def test_a_folder_that_cannot_be_listed_is_an_error_there_too(tmp_path):
    missing = os.fsencode(tmp_path / "missing")
    (listing,) = there(missing)
    assert facts(listing) == facts(here(missing)[0])
    assert listing.error


def test_columns_of_a_known_signature_are_not_sent_and_still_to_be_had(tree, monkeypatch):
    expected = {listing.path: facts(listing) for listing in here(tree)}
    known = {path: fact[3] for path, fact in expected.items()}
    known[b"a"] = b"another signature"
    sent = []

    def noted(data: tuple[Any, ...]) -> Listing:
        sent.append(data[0])
        return unpacked(data)

    monkeypatch.setattr(walk_process, "unpacked", noted)
    listings = there(tree, known=known)
    assert sent == [b"a"]
    assert {listing.path: facts(listing) for listing in listings} == expected


def test_cancelling_ends_the_walk_and_its_process(tree, started):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        list(walk_in_process(tree, RULES, cancel=cancel, margin_ns=MARGIN_NS))
    assert started[0].returncode is not None


def test_closing_the_iterator_ends_the_process(tree, started):
    walking = walk_in_process(tree, RULES, cancel=CancelToken(), margin_ns=MARGIN_NS)
    next(walking)
    walking.close()
    assert started[0].returncode is not None


def test_a_process_that_is_killed_is_an_error_and_not_an_end(tree, monkeypatch):
    def start_and_kill(module: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        process = start_worker(module, arguments)
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(walk_process, "start_worker", start_and_kill)
    with pytest.raises(LifecycleError, match="ended early"):
        there(tree)


def test_a_parent_killed_with_sigkill_leaves_no_process(tmp_path):
    # A listing of a FIFO's worth of time: the child waits for a reader of its output.
    script = """
import os, sys
from lifecycle_sync.observe import walk_process
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.cancel import CancelToken
start = walk_process.start_worker
def told(*args):
    process = start(*args)
    print(process.pid, flush=True)
    return process
walk_process.start_worker = told
walking = walk_process.walk_in_process(
    os.fsencode(sys.argv[1]), IgnoreRules(), cancel=CancelToken(), margin_ns=0
)
next(walking)
print("walking", flush=True)
sys.stdin.read()
"""
    wide = tmp_path / "wide"
    for number in range(400):
        (wide / str(number)).mkdir(parents=True)
        for name in range(20):
            (wide / str(number) / f"{name}-{'x' * 200}").touch()
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(wide)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "walking\n"
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not is_running(child))
