"""The walk in C and the walk in Python: the same directories, columns and signatures, whatever the
tree."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock, SystemClock
from lifecycle_sync.errors import CancelledError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Listing
from lifecycle_sync.observe import native_walker
from lifecycle_sync.observe.ignore import IgnoreRules, Sifted
from lifecycle_sync.observe.native_walker import unavailable, walk_native
from lifecycle_sync.observe.walker import walk
from lifecycle_sync.testing.fileops import fail
from lifecycle_sync.testing.walker_contract_base import (
    IN_MEMORY,
    LATER_NS,
    expected_tree,
    open_descriptors,
    put,
)
from lifecycle_sync.testing.walker_contract_faults import faulty
from tests.support.native import can_be_built, needs_native

_FACTS = (
    "path inode error signature file_count byte_count ignored_count special_count columns"
).split()
_MANY = 9_000  # names in a directory, more than are looked at in one go

many_examples = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def many_readers(monkeypatch):
    monkeypatch.setattr(native_walker, "READERS", 3)
    monkeypatch.setattr(native_walker, "ALONE_DIRECTORIES", 0)


@contextmanager
def folder_in_memory() -> Iterator[bytes]:
    parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield os.fsencode(folder)


@pytest.fixture
def root() -> Iterator[bytes]:
    with folder_in_memory() as folder:
        yield folder


def facts(listings: Iterator[Listing]) -> list[tuple[object, ...]]:
    return [tuple(getattr(listing, name) for name in _FACTS) for listing in listings]


def both(root: bytes, rules: IgnoreRules, **options: Any) -> list[list[tuple[object, ...]]]:
    """What each of them says: Python, C, and C by way of Python's file operations."""
    options.setdefault("clock", FixedClock(LATER_NS))
    options.setdefault("cancel", CancelToken())
    fs = faulty(root, "stat", b"no such name", fail(errno.EIO))
    return [
        facts(walk(root, rules, fs=FileOps(), **options)),
        facts(walk_native(root, rules, fs=FileOps(), **options)),
        facts(walk_native(root, rules, fs=fs, **options)),
    ]


# -- random trees ------------------------------------------------------------------------------

_LETTERS = b"ab.~\xc3\xa9\xff\nB-"
_SPOKEN = (
    b".hidden .gvfs Thumbs.db a~ a.tmp a.bak a.swp .tmp tmp .lifecycle keep.log x.log file_0001"
    b" file_0002 file_00010 file_0001a build"
).split()
_names = st.one_of(
    st.lists(st.sampled_from(_LETTERS), min_size=1, max_size=12)
    .map(bytes)
    .filter(lambda name: name not in {b".", b".."}),
    st.sampled_from(_SPOKEN),
    st.just(b"n" * 255),
)
_times = st.sampled_from([0, 5, -1, 10**18 + 7, 2**62, LATER_NS - 1, LATER_NS, LATER_NS + 1])
_leaves = st.one_of(
    st.tuples(st.just("file"), st.integers(0, 3_000), _times),
    st.tuples(st.just("symlink"), st.just(0), _times),
    st.tuples(st.just("fifo"), st.just(0), _times),
    st.tuples(st.just("socket"), st.just(0), _times),
)
_trees: st.SearchStrategy[dict[bytes, Any]] = st.recursive(
    st.dictionaries(_names, _leaves, max_size=8),
    lambda inner: st.dictionaries(_names, st.one_of(_leaves, inner), max_size=8),
    max_leaves=25,
)
_patterns = st.lists(
    st.sampled_from(
        ["*.log", "!keep.log", "build/", "/a*", "a/**/b", "!.hidden", "[!a]", "?", "é*", "!*~"]
    ),
    max_size=4,
)


def grow(folder: bytes, tree: dict[bytes, Any]) -> None:
    for name, entry in tree.items():
        place = os.path.join(folder, name)
        if isinstance(entry, dict):
            os.mkdir(place)
            grow(place, entry)
            continue
        kind, size, time_ns = entry
        if kind == "file":
            with open(place, "wb") as file:
                file.truncate(size)
        elif kind == "symlink":
            os.symlink(b"a/b", place)
        elif kind == "fifo":
            os.mkfifo(place)
        else:
            bind(folder, name)
        os.utime(place, ns=(time_ns, time_ns), follow_symlinks=False)


def bind(folder: bytes, name: bytes) -> None:
    """A socket, through a short name for the folder: a socket's path has 107 bytes at most."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(b"/proc/self/fd/%d/s" % fd)
        os.rename(b"s", name, src_dir_fd=fd, dst_dir_fd=fd)
    finally:
        os.close(fd)


@needs_native
@many_examples
@given(
    tree=_trees,
    patterns=_patterns,
    defaults=st.booleans(),
    stable_inodes=st.booleans(),
    margin_ns=st.sampled_from([0, 1, 20_000_000]),
    racy=st.booleans(),
    owned=st.integers(0, 3),
)
def test_they_say_the_same_of_a_random_tree(
    tree, patterns, defaults, stable_inodes, margin_ns, racy, owned
):
    with folder_in_memory() as root:
        grow(root, tree)
        own = set()
        for path in sorted(expected_tree(root))[1 : 1 + owned]:
            status = os.lstat(os.path.join(root, path))
            own.add((status.st_dev, status.st_ino))
        python, native, through = both(
            root,
            IgnoreRules(patterns, defaults=defaults),
            stable_inodes=stable_inodes,
            margin_ns=margin_ns,
            clock=SystemClock() if racy else FixedClock(LATER_NS),
            own=frozenset(own),
        )
        if racy:
            # Where a file is within the margin of the look depends on when it is looked at.
            python, native, through = (
                [fact[:3] + fact[4:-1] for fact in each] for each in (python, native, through)
            )
        assert native == python
        assert through == python


@needs_native
@many_examples
@given(
    tree=_trees,
    method=st.sampled_from(["open_directory", "fstat", "listdir", "stat"]),
    code=st.sampled_from([errno.EIO, errno.EACCES, errno.ENOENT, errno.ESTALE, errno.ELOOP]),
    chosen=st.integers(0, 20),
)
def test_they_say_the_same_of_a_tree_in_which_something_fails(tree, method, code, chosen):
    with folder_in_memory() as root:
        grow(root, tree)
        paths = sorted(expected_tree(root))
        path = paths[chosen % len(paths)]

        def look(how: Any) -> list[tuple[object, ...]]:
            fs = faulty(root, method, path, fail(code), lasting=True)
            return facts(
                how(root, IgnoreRules(), fs=fs, clock=FixedClock(LATER_NS), cancel=CancelToken())
            )

        assert look(walk_native) == look(walk)


@needs_native
def test_they_say_the_same_of_a_large_folder(root):
    folder = os.path.join(root, b"large")
    os.mkdir(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(_MANY):
        suffix = (b"", b".tmp", b".log", b"~")[number % 37 % 4]
        os.close(os.open(b"file_%d%b" % (number, suffix), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        if number % 1000 == 0:
            os.mkdir(b"file_%d.d" % number, dir_fd=fd)
    os.close(fd)
    for patterns in ((), ("*.log", "!file_1*", "*.d/")):
        python, native, _ = both(root, IgnoreRules(patterns))
        assert native == python


@needs_native
def test_they_say_the_same_of_a_wide_and_deep_tree(root):
    # Wider than what is read ahead, and with more to come at every level.
    wide(root, 700)
    for number in range(700):
        os.makedirs(os.path.join(root, b"w%d/x/y" % number))
    python, native, _ = both(root, IgnoreRules())
    assert len(native) == 2_101
    assert native == python


# -- what only the one in C can do wrong -------------------------------------------------------


class BrokenRules(IgnoreRules):
    """Cannot say anything of one folder."""

    def sift(self, directory: bytes, names: list[bytes], joined: bytes) -> Sifted:
        if directory == b"w55":
            raise ZeroDivisionError
        return super().sift(directory, names, joined)


def wide(root: bytes, folders: int = 100) -> None:
    for number in range(folders):
        put(root, b"w%d/file" % number)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lifecycle-walk"]


def wait_until_they_rest() -> None:
    """Until all threads that read ahead wait for something, or have ended."""
    deadline = time.monotonic() + 10
    while any(state_of(thread) == "R" for thread in reading_threads()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def state_of(thread: threading.Thread) -> str:
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "ended"


def native(root: bytes, rules: IgnoreRules | None = None, **options: Any) -> Iterator[Listing]:
    options.setdefault("fs", FileOps())
    options.setdefault("clock", SystemClock())
    options.setdefault("cancel", CancelToken())
    return walk_native(root, rules or IgnoreRules(), **options)


@needs_native
def test_what_the_rules_raise_in_any_thread_ends_the_walk(root):
    wide(root)
    before = open_descriptors()
    with pytest.raises(ZeroDivisionError):
        list(native(root, BrokenRules(["*.log"])))
    assert open_descriptors() == before


@needs_native
def test_what_file_operations_raise_ends_the_walk(root):
    wide(root)
    before = open_descriptors()

    def act() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(native(root, fs=faulty(root, "stat", b"w55/file", act)))
    assert open_descriptors() == before


@needs_native
def test_a_large_folder_is_left_when_the_walk_is_cancelled(root):
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(_MANY):
        os.close(os.open(b"%d" % number, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)

    class Counting(CancelToken):
        """Cancelled by a question of that number."""

        def __init__(self, last: int) -> None:
            super().__init__()
            self.questions, self.last = 0, last

        def check(self) -> None:
            self.questions += 1
            if self.questions == self.last:
                self.cancel()
            super().check()

    never = Counting(0)
    next(native(root, cancel=never))
    # Before the walk, among the names, before each of two blocks of entries, before it is shown.
    assert never.questions == 5
    for last in range(1, 6):
        cancel = Counting(last)
        with pytest.raises(CancelledError):
            next(native(root, cancel=cancel))
        assert cancel.questions == last


@needs_native
def test_folders_are_opened_as_themselves_and_not_for_children(root):
    os.makedirs(os.path.join(root, b"a/b"))
    walking = native(root)
    next(walking)
    (fd,) = (fd for fd in os.listdir("/proc/self/fd") if _target(fd) == root)
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        flags = int(next(line.split()[1] for line in file if line.startswith("flags:")), 8)
    for flag in (os.O_DIRECTORY, os.O_NOFOLLOW, os.O_NONBLOCK, os.O_CLOEXEC):
        assert flags & flag == flag
    walking.close()  # type: ignore[attr-defined]


def _target(fd: str) -> bytes:
    try:
        return os.readlink(b"/proc/self/fd/" + fd.encode())
    except OSError:
        return b""


@needs_native
def test_no_thread_is_left_after_a_walk_however_it_ends(root):
    # More than is read ahead, so that they still wait.
    wide(root, 700)
    list(native(root))
    assert not reading_threads()
    walking = native(root)
    for _ in range(20):
        next(walking)
    assert len(reading_threads()) == 3
    walking.close()  # type: ignore[attr-defined]
    assert not reading_threads()


@needs_native
def test_no_more_is_read_ahead_than_there_is_room_for(root):
    # While nothing is taken only so much is read: the rest is removed meanwhile, and is not seen.
    for number in range(1_000):
        put(root, b"w%04d/file" % number)
    walking = native(root)
    first = [next(walking) for _ in range(3)]
    wait_until_they_rest()
    for number in range(500, 1_000):
        shutil.rmtree(os.path.join(root, b"w%04d" % number))
    paths = [listing.path for listing in (*first, *walking)]
    assert len(paths) == 501
    assert paths[-1] == b"w0499"


@needs_native
@given(st.binary(max_size=700))
def test_its_hash_is_blake2b(data):
    from lifecycle_sync.observe import _native

    assert _native.digest(data) == hashlib.blake2b(data, digest_size=16).digest()


@pytest.mark.skipif(not can_be_built(), reason="no C compiler, or no headers of Python")
def test_where_it_can_be_built_it_is_there():
    assert unavailable() is None
