"""Locks between processes on one registry: one scan a root at a time, one `run` a root.

Each is a flock on a file in `<database>.locks/`: the kernel gives it back when its holder dies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import BusyError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.registry.faults import translated

_OPERATIONS = {
    "run": "run on root",
    "scan": "scan root",
    "add": "add root",
    "act": "act on root",
    "turn": "act on root",
    "drill": "restore for a trial",
}


class Locks:
    """The lock files of one registry."""

    def __init__(self, fs: FileOps, database_path: str) -> None:
        self._fs = fs
        self._folder = database_path + ".locks"

    @contextmanager
    def hold(
        self,
        purpose: str,
        repository_id: bytes,
        root: bytes,
        *,
        wait_seconds: float = 0.0,
        cancel: CancelToken | None = None,
    ) -> Iterator[None]:
        """Hold the lock for `purpose` ("scan", "run" or "act" on a root, "add" for the list of
        roots).

        Raises `BusyError`, naming the process that has it, after `wait_seconds`, and
        `StorageFullError` or `RegistryError` where a lock file cannot be made.
        """
        path = os.path.join(self._folder, f"{purpose}-{to_text(repository_id)}.lock")
        with translated(path):
            self._fs.make_directories(self._folder)
            fd = self._fs.open_lock_file(path)
        try:
            deadline = time.monotonic() + wait_seconds
            while not self._fs.lock(fd, wait=False):
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"another process{self._holder(fd)} has it",
                        operation=_OPERATIONS[purpose],
                        subject=root,
                        remedy="wait for it to end, or stop it",
                    )
                if cancel is not None:
                    cancel.check()
                time.sleep(0.02)
            self._sign(fd)
            yield
        finally:
            self._fs.close(fd)

    def taken(self, purpose: str, repository_id: bytes) -> bool:
        """Whether somebody holds a lock now. Makes no file."""
        path = os.path.join(self._folder, f"{purpose}-{to_text(repository_id)}.lock")
        if not os.path.exists(path):
            return False
        with translated(path):
            fd = self._fs.open_lock_file(path)
        try:
            return not self._fs.lock(fd, wait=False)
        finally:
            self._fs.close(fd)

    @contextmanager
    def take_turn(
        self,
        purpose: str,
        repository_id: bytes,
        root: bytes,
        *,
        wait_seconds: float,
        cancel: CancelToken | None = None,
    ) -> Iterator[None]:
        """`hold`, fair among those that take it again and again: who waits for it holds the lock
        "turn", which the one before has to take first to come back."""
        with ExitStack() as held:
            with self.hold("turn", repository_id, root, wait_seconds=wait_seconds, cancel=cancel):
                held.enter_context(
                    self.hold(
                        purpose, repository_id, root, wait_seconds=wait_seconds, cancel=cancel
                    )
                )
            yield

    def _sign(self, fd: int) -> None:
        try:
            self._fs.truncate(fd, 0)
            self._fs.write(fd, str(os.getpid()).encode())
        except OSError:
            # A full disk. The number is for people; the lock holds without it.
            pass

    def _holder(self, fd: int) -> str:
        text = self._fs.pread(fd, 32, 0).decode("ascii", "replace")
        return f" ({text})" if text.isdigit() else ""
