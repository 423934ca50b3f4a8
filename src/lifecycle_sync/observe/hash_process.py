"""One worker process of the hash pool, as its parent sees it: what it owes, and the pipes to it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Iterator
from marshal import loads
from typing import Any

from lifecycle_sync.children import start_worker
from lifecycle_sync.model.record import HashTask
from lifecycle_sync.observe.hash_worker import LENGTH_BYTES

# The work of opening and looking at a file, as the bytes that could be hashed meanwhile.
_FILE_COST = 6000
_READ_BYTES = 64 << 10
# How long a killed worker is waited for.
_REAP_SECONDS = 0.5


class Batch:
    """Consecutive tasks, hashed by one worker in one go."""

    __slots__ = ("cost", "groups", "retried", "tasks")

    def __init__(self, tasks: list[HashTask], retried: bool = False) -> None:
        self.tasks = tasks
        self.retried = retried
        self.cost = sum(task.size for task in tasks) + _FILE_COST * len(tasks)
        self.groups: list[tuple[bytes, list[bytes]]] = []
        directory: bytes | None = None
        names: list[bytes] = []
        for task in tasks:
            if task.directory != directory:
                directory, names = task.directory, []
                self.groups.append((directory, names))
            names.append(task.name)


class Worker:
    """A place for a worker process: what it owes, and the two pipes to it, neither of which is
    ever waited for. The process is started by the first batch."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        # Whether a process has ever come as far as to say that it is ready.
        self.proven = False
        self._reset()

    def _reset(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.owed: deque[Batch] = deque()
        self.owed_cost = 0
        self.ready = False
        self.ended = False
        self._unsent = bytearray()
        self._received = bytearray()

    def give(self, batch: Batch, request: bytes) -> None:
        if self.process is None:
            self.process = start_worker("lifecycle_sync.observe.hash_worker", self._arguments)
            for pipe in (self.process.stdin, self.process.stdout):
                os.set_blocking(_fd(pipe), False)
        self.owed.append(batch)
        self.owed_cost += batch.cost
        self._unsent += request
        self.flush()

    def settle(self) -> Batch:
        """The batch that was answered just now."""
        batch = self.owed.popleft()
        self.owed_cost -= batch.cost
        return batch

    def register(self, selector: selectors.BaseSelector) -> None:
        if self.process is None:
            return
        selector.register(_fd(self.process.stdout), selectors.EVENT_READ, self)
        if self._unsent:
            selector.register(_fd(self.process.stdin), selectors.EVENT_WRITE, self)

    def flush(self) -> None:
        """Send what the pipe takes."""
        assert self.process is not None
        while self._unsent:
            try:
                sent = os.write(_fd(self.process.stdin), self._unsent)  # noqa: TID251 - a pipe
            except BlockingIOError:
                return
            except BrokenPipeError:
                # It died; the end of its output says so too, after its last answers.
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def receive(self) -> Iterator[tuple[Any, ...]]:
        """The whole messages that have come; sets `ended` at the end of the output."""
        assert self.process is not None
        try:
            data = os.read(_fd(self.process.stdout), _READ_BYTES)
        except BlockingIOError:
            return
        self.ended = not data
        self._received += data
        start = 0
        while (body := start + LENGTH_BYTES) <= len(self._received):
            end = body + int.from_bytes(self._received[start:body], "little")
            if end > len(self._received):
                break
            # From our own child, over a pipe that nobody else writes to.
            message = loads(memoryview(self._received)[body:end])  # noqa: S302
            start = end
            if message[0] == "ready":
                self.ready = self.proven = True
            else:
                yield message
        del self._received[:start]

    def stop(self) -> str:
        """End the process, if there is one; says how it ended."""
        process = self.process
        self._reset()
        if process is None:
            return "was not running"
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            code = process.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            return "does not end"  # it hangs in a system call; it will, when that returns
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _fd(pipe: Any) -> int:
    return int(pipe.fileno())
