"""What the walker's contract is written with: trees, and a look at them that shares no code."""

# ruff: noqa: TID251 - makes and changes the trees that a walk is tested on
from __future__ import annotations

import os
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Columns, Listing
from lifecycle_sync.observe.ignore import IgnoreRules

# In the year 2200: seen from there nothing that a test makes is racy.
LATER_NS = 7_258_118_400_000_000_000
# Longer than the grain of any kernel's clock for file times.
_TICK_SECONDS = 0.015
IN_MEMORY = "/dev/shm"  # noqa: S108 - each test makes a folder of its own in it


class WalkerContractBase:
    """Derive and say how a walk begins; see `walker_contract`."""

    def walk(self, root: bytes, rules: IgnoreRules, **options: Any) -> Iterator[Listing]:
        """What `observe.walker.walk` does, with its keyword arguments."""
        raise NotImplementedError

    @pytest.fixture
    def root(self, tmp_path: Path) -> bytes:
        """An empty folder."""
        folder = tmp_path / "root"
        folder.mkdir()
        return os.fsencode(folder)

    @pytest.fixture
    def light_root(self, tmp_path: Path) -> Iterator[bytes]:
        """An empty folder in memory, if may be: thousands of directories come and go at once."""
        parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else str(tmp_path)
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            root = os.path.join(os.fsencode(folder), b"root")
            os.mkdir(root)
            yield root

    def begin(
        self, root: bytes, rules: IgnoreRules | None = None, **options: Any
    ) -> Iterator[Listing]:
        """A walk with what it needs, where the test does not care."""
        options.setdefault("fs", FileOps())
        options.setdefault("clock", FixedClock(LATER_NS))
        options.setdefault("cancel", CancelToken())
        return self.walk(root, IgnoreRules() if rules is None else rules, **options)

    def look(
        self, root: bytes, rules: IgnoreRules | None = None, **options: Any
    ) -> dict[bytes, Listing]:
        """A whole walk by path, in its order."""
        listings = list(self.begin(root, rules, **options))
        found = {listing.path: listing for listing in listings}
        assert len(found) == len(listings), "a directory was yielded twice"
        return found

    def signatures(
        self, root: bytes, rules: IgnoreRules | None = None, **options: Any
    ) -> dict[bytes, bytes | None]:
        return {
            path: listing.signature for path, listing in self.look(root, rules, **options).items()
        }


# -- trees -------------------------------------------------------------------------------------


def put(root: bytes, path: bytes, content: bytes = b"content") -> bytes:
    """Write a file, with the directories above it; its absolute path."""
    place = os.path.join(root, path)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb") as file:
        file.write(content)
    return place


def tick() -> None:
    """Let so much time go by that another change gets another ctime."""
    time.sleep(_TICK_SECONDS)


def make_chain(root: bytes, name: bytes, depth: int, beside: bytes = b"") -> None:
    """Directories inside each other, at every level a second one if `beside` names it, and a file
    `leaf` in the innermost. Works at any depth."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        if beside:
            os.mkdir(beside, dir_fd=fd)
        fd = _step(fd, name)
    os.close(os.open(b"leaf", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd))
    os.close(fd)


def remove_chain(root: bytes, name: bytes, depth: int, beside: bytes = b"") -> None:
    """What `make_chain` made: deeper than a recursive removal could go."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        fd = _step(fd, name)
    os.unlink(b"leaf", dir_fd=fd)
    for _ in range(depth):
        fd = _step(fd, b"..")
        os.rmdir(name, dir_fd=fd)
        if beside:
            os.rmdir(beside, dir_fd=fd)
    os.close(fd)


def _step(fd: int, name: bytes) -> int:
    """From a directory to another; the descriptor of the first is closed."""
    other = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    os.close(fd)
    return other


def open_descriptors() -> list[str]:
    """What this process has open, as paths."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            pass  # the descriptor of this very listing
    return sorted(found)


# -- an independent look -----------------------------------------------------------------------


@dataclass
class Expected:
    """One directory as `os.lstat` tells it: (name, status) of what a listing shows."""

    inode: int
    files: list[tuple[bytes, os.stat_result]] = field(default_factory=list)
    others: list[tuple[bytes, os.stat_result]] = field(default_factory=list)
    ignored: int = 0

    @property
    def specials(self) -> int:
        return sum(not stat.S_ISDIR(status.st_mode) for _, status in self.others)


def expected_tree(root: bytes, rules: IgnoreRules | None = None) -> dict[bytes, Expected]:
    """Every directory by path, in the order of a walk."""
    found: dict[bytes, Expected] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        place = os.path.join(root, path) if path else root
        directory = found[path] = Expected(signed(os.lstat(place).st_ino))
        inner = []
        for name in sorted(os.listdir(place)):
            entry = os.path.join(path, name)
            status = os.lstat(os.path.join(root, entry))
            is_directory = stat.S_ISDIR(status.st_mode)
            if rules is not None and rules.ignores(entry, is_directory):
                directory.ignored += 1
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                directory.files.append((name, status))
            else:
                directory.others.append((name, status))
                if is_directory:
                    inner.append(entry)
        pending += reversed(inner)
    return found


def signed(inode: int) -> int:
    """The 64 bits of an inode number as a signed integer."""
    return struct.unpack("<q", struct.pack("<Q", inode))[0]  # type: ignore[no-any-return]


def clamp(ns: int) -> int:
    """The nearest number that 64 bits hold."""
    return min(max(ns, -(2**63)), 2**63 - 1)


def table(columns: Columns) -> list[tuple[object, ...]]:
    """The columns as rows, without the access times, which every look may change, and the birth
    times, which need not be known."""
    return list(
        zip(
            columns.names,
            columns.kinds,
            columns.sizes,
            columns.mtimes_ns,
            columns.ctimes_ns,
            columns.inodes,
            columns.modes,
            columns.uids,
            columns.gids,
            columns.nlinks,
            strict=True,
        )
    )


def expected_table(directory: Expected) -> list[tuple[object, ...]]:
    """The rows that `table` must give."""
    return [
        (
            name,
            stat.S_IFMT(status.st_mode) >> 12,
            status.st_size,
            clamp(status.st_mtime_ns),
            clamp(status.st_ctime_ns),
            signed(status.st_ino),
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_nlink,
        )
        for name, status in directory.files
    ]


def expected_signature(
    directory: Expected, rules: IgnoreRules, *, stable_inodes: bool = True
) -> bytes:
    """The signature as `observe.signature` documents it, part by part."""
    names = b"\0".join(name for name, _ in directory.files)
    others = b"\0".join(name for name, _ in directory.others)
    digest = blake2b(digest_size=16)
    digest.update(b"lcs-dir1")
    digest.update(rules.hash)
    digest.update(
        struct.pack("<4Q", len(directory.files), len(names), len(directory.others), len(others))
    )

    def inodes(entries: list[tuple[bytes, os.stat_result]]) -> None:
        for _, status in entries:
            digest.update(struct.pack("<Q", status.st_ino if stable_inodes else 0))

    digest.update(names)
    for _, status in directory.files:
        digest.update(struct.pack("<B", stat.S_IFMT(status.st_mode) >> 12))
    for attribute in ("st_size", "st_mtime_ns", "st_ctime_ns"):
        for _, status in directory.files:
            digest.update(struct.pack("<q", clamp(getattr(status, attribute))))
    inodes(directory.files)
    digest.update(others)
    for _, status in directory.others:
        digest.update(struct.pack("<B", stat.S_IFMT(status.st_mode) >> 12))
    inodes(directory.others)
    return digest.digest()
