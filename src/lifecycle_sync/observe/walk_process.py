"""A walk in a process of its own, so that listing and recording do not share one interpreter.

Two threads would: each `stat` gives up the interpreter's lock and takes it back, and beside a
thread that writes a million rows that costs more than the walk itself.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from marshal import loads
from typing import Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.children import start_worker
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Columns, DirectoryListing, Listing
from lifecycle_sync.observe.hash_worker import LENGTH_BYTES, frame
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.listing import DirectoryReader, unpacked


def walk_in_process(
    root: bytes,
    rules: IgnoreRules,
    *,
    cancel: CancelToken,
    margin_ns: int,
    own: frozenset[tuple[int, int]] = frozenset(),
    stable_inodes: bool = True,
    known: Mapping[bytes, bytes] | None = None,
) -> Generator[Listing, None, None]:
    """What `walker.walk` yields, made by another process.

    Columns of directories whose signature is the one in `known` (path to signature) are not sent;
    asking for them reads the directory again. Raises `CancelledError`, and `LifecycleError` when
    the process dies. Closing the iterator ends the process.
    """
    request = (
        root,
        list(rules.patterns),
        rules.defaults,
        margin_ns,
        list(own),
        stable_inodes,
        dict(known or {}),
    )
    reader = DirectoryReader(
        rules,
        fs=FileOps(),
        clock=SystemClock(),
        cancel=cancel,
        margin_ns=margin_ns,
        own=own,
        stable_inodes=stable_inodes,
    )
    reread = _Reread(root, reader)
    process = start_worker("lifecycle_sync.observe.walk_worker", [])
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin.fileno(), frame(request))
            process.stdin.close()
        except BrokenPipeError:
            pass  # It died; the end of its output says so.
        while True:
            cancel.check()
            message = _read(process.stdout.fileno())
            if message is None:
                raise LifecycleError(
                    f"the walking process ended early (exit status {process.wait()})",
                    operation="walk root",
                    subject=root,
                    remedy="run again: what was recorded stays",
                )
            if message[0] == "end":
                return
            for data in message[1]:
                yield _listing(data, reread)
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            pass  # It hangs in a system call; it will end when that returns.


def _listing(data: tuple[Any, ...], reread: _Reread) -> Listing:
    if len(data) == 2:  # a path, and why its listing failed
        return DirectoryListing(data[0], error=data[1])
    if data[7] is None:
        path, inode, signature, files, size, ignored, special = data[:7]
        return _SameListing(path, inode, signature, files, size, ignored, special, reread)
    return unpacked(data)


@dataclass(slots=True, eq=False)
class _SameListing:
    """A `Listing` whose signature is known; its columns were not sent."""

    path: bytes
    inode: int
    signature: bytes | None
    file_count: int
    byte_count: int
    ignored_count: int
    special_count: int
    _reread: _Reread
    error: str | None = None

    @property
    def columns(self) -> Columns:
        return self._reread.columns(self.path)


class _Reread:
    """Reads single directories in this process."""

    def __init__(self, root: bytes, reader: DirectoryReader) -> None:
        self._root = root
        self._reader = reader

    def columns(self, path: bytes) -> Columns:
        with Descent(FileOps(), self._root) as descent:
            return self._reader.read(descent.open(path), path, 0)[0].columns


def _write(fd: int, data: bytes) -> None:
    os.set_blocking(fd, True)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]  # noqa: TID251 - a pipe


def _read(fd: int) -> tuple[Any, ...] | None:
    """The next message, None at the end."""
    os.set_blocking(fd, True)
    head = _read_exactly(fd, LENGTH_BYTES)
    body = _read_exactly(fd, int.from_bytes(head, "little")) if head else b""
    # From our own child, over a pipe that nobody else writes to.
    return loads(body) if body else None  # noqa: S302


def _read_exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, size)
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
