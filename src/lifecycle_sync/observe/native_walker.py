"""The walk of `walker.walk` by the extension in C, `_native`, where that could be built.

Directories are read ahead by threads that do not need the interpreter, within a bound of memory,
and come here in the same order; a directory costs this thread the few steps of taking its listing
and comparing the signature. What the columns are made of stays packed until they are asked for.

The extension asks Python for what only Python can say: patterns of one's own, a clock or file
operations that a test has made. Such file operations are called from this thread alone, as the walk
in Python calls them.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Columns, DirectoryListing, Listing
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY
from lifecycle_sync.observe.ignore import NOTHING, IgnoreRules
from lifecycle_sync.observe.listing import BLOCK
from lifecycle_sync.observe.walker import MARGIN_NS, MOUNT_POINT, SWAPPED

# What this module was written for; an extension left over from another version has another.
_INTERFACE = 1
_TAKEN_AT_ONCE = 64
# A smaller tree is read before another thread has started.
ALONE_DIRECTORIES = 16
# Threads beside the one that takes, which reads as well while there is nothing to take.
READERS = min(max((os.cpu_count() or 1) - 1, 1), 3)
_CLOSE_SECONDS = 5.0


@cache
def unavailable() -> str | None:
    """Why the extension cannot be used; None where it can."""
    try:
        _native = import_module("lifecycle_sync.observe._native")
    except ModuleNotFoundError:
        return "not built"
    except ImportError as error:
        return f"not fit for this machine ({error})"
    if getattr(_native, "INTERFACE", None) != _INTERFACE:
        return "built for another version"
    if refusal := _native.refusal():
        return f"the kernel refuses statx ({os.strerror(refusal)})"
    return None


def walk_native(
    root: bytes,
    rules: IgnoreRules,
    *,
    fs: FileOps,
    clock: Clock,
    cancel: CancelToken,
    margin_ns: int = MARGIN_NS,
    own: frozenset[tuple[int, int]] = frozenset(),
    stable_inodes: bool = True,
) -> Generator[Listing, None, None]:
    """What `walker.walk` yields. Only where `unavailable` is None."""
    from lifecycle_sync.observe import _native

    alone = type(fs) is not FileOps
    walk = _native.Walk(
        root,
        rules.hash,
        PRIVATE_DIRECTORY,
        margin_ns,
        list(own),
        rules.defaults,
        stable_inodes,
        _marks_of(rules) if rules.patterns else None,
        cancel.check,
        None if type(clock) is SystemClock else clock.now_ns,
        fs if alone else None,
    )
    readers: list[threading.Thread] = []
    seen = 0
    try:
        cancel.check()
        while (taken := walk.next(1 if alone else _TAKEN_AT_ONCE)) is not None:
            seen += len(taken)
            taken.reverse()
            while taken:
                cancel.check()
                # Not kept while the next one is made.
                yield _listing(*taken.pop())
            cancel.check()
            if not alone and not readers and seen >= ALONE_DIRECTORIES:
                readers = _start_readers(walk.work)
    finally:
        walk.close()
        until = time.monotonic() + _CLOSE_SECONDS
        for reader in readers:
            # One that hangs in a system call ends when that returns.
            reader.join(max(until - time.monotonic(), 0.0))


def _start_readers(work: Callable[[], None]) -> list[threading.Thread]:
    readers = [
        threading.Thread(target=work, name="lifecycle-walk", daemon=True) for _ in range(READERS)
    ]
    for reader in readers:
        reader.start()
    return readers


def _marks_of(rules: IgnoreRules) -> Callable[[bytes, bytes], bytes | None]:
    """What the extension asks of patterns: a byte a name, 1 where it is ignored as anything but a
    directory, 2 as a directory, 3 as both; None where none is."""

    def marks(directory: bytes, joined: bytes) -> bytes | None:
        names = joined.split(b"\0")
        sifted = rules.sift(directory, names, joined)
        if sifted is NOTHING:
            return None
        always, unless, where = sifted
        return bytes(
            [3 if name in always else (name in unless) | (name in where) << 1 for name in names]
        )

    return marks


def _listing(path: bytes, inode: int, error: int, *rest: Any) -> Listing:
    if error:
        return DirectoryListing(path, inode, error=_reason(error))
    return NativeListing(path, inode, *rest)


@cache
def _reason(error: int) -> str:
    from lifecycle_sync.observe import _native

    known = {_native.MOUNT_POINT: MOUNT_POINT, _native.SWAPPED: SWAPPED}
    return known.get(error) or os.strerror(error)


@dataclass(slots=True, eq=False)
class NativeListing:
    """A `Listing` as the extension gives it; `columns` are unpacked when asked for.

    `_tuples` are sizes, mtimes, ctimes and inodes, numbers of 64 bits, one column after the other;
    `_owners` modes, uids, gids and link counts, of 32 bits.
    """

    path: bytes
    inode: int
    signature: bytes | None
    file_count: int
    byte_count: int
    ignored_count: int
    special_count: int
    _names: bytes
    _kinds: bytes
    _tuples: bytes
    _owners: bytes
    _atimes: bytes
    _racy: Sequence[int]
    error: str | None = None
    _columns: Columns | None = None

    @property
    def columns(self) -> Columns:
        if self._columns is None:
            sizes, mtimes, ctimes, inodes = _parted("q", self._tuples, self.file_count)
            modes, uids, gids, nlinks = _parted("I", self._owners, self.file_count)
            self._columns = Columns(
                names=self._names.split(b"\0") if self._names else [],
                kinds=self._kinds,
                sizes=sizes,
                mtimes_ns=mtimes,
                ctimes_ns=ctimes,
                inodes=inodes,
                modes=modes,
                uids=uids,
                gids=gids,
                nlinks=nlinks,
                atimes_ns=array("q", self._atimes),
                btimes_ns=[None] * self.file_count,
                racy=frozenset(self._racy),
            )
        return self._columns


def _parted(typecode: Literal["q", "I"], packed: bytes, count: int) -> list[Sequence[int]]:
    """Four columns of `count` numbers each."""
    width = len(packed) // 4
    parts = [slice(at * width, (at + 1) * width) for at in range(4)]
    if count > BLOCK:
        # Slower to go through, and not there twice.
        view = memoryview(packed)
        return [view[part].cast(typecode) for part in parts]
    return [array(typecode, packed[part]) for part in parts]
