"""The child side of the hash pool: a fresh interpreter that hashes what its standard input says.

`python -m lifecycle_sync.observe.hash_worker PARENT_PID ALGORITHM MARGIN_NS BYTES_PER_SECOND
CHECKPOINTS`; where the last two are empty there is no limit, and there are no checkpoints. Requests
and answers are marshal data behind a length of four bytes (both ends are the same interpreter). A
request is (root, drop_cache, [(directory, [name, ...]), ...]); the answers, in the order of the
requests, are ("results", outcomes, bytes read since the last answer), and ("offline", cause) where
the root cannot be opened. ("ready",) comes once before all, ("progress", bytes read) in between.

A worker changes nothing but checkpoints and can be killed at any moment. It ends by itself when its
parent does.
"""

from __future__ import annotations

import os
import signal
import sys
from marshal import dumps, loads
from time import monotonic
from typing import Any, BinaryIO

from lifecycle_sync.clock import SystemClock
from lifecycle_sync.errors import OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.observe.hasher import Hasher, hash_in_root

LENGTH_BYTES = 4
_PROGRESS_SECONDS = 0.1


def frame(message: tuple[Any, ...]) -> bytes:
    """A message as it goes over a pipe."""
    data = dumps(message)
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


class _Parent:
    """The other end: where answers go, and whose death ends the work."""

    def __init__(self, pid: int, pipe: BinaryIO) -> None:
        self._pid = pid
        self._pipe = pipe
        self._unsaid_bytes = 0
        self._said = monotonic()

    def check(self) -> None:
        """Ends this process when the parent is gone: the end of standard input is seen only
        between requests. (PR_SET_PDEATHSIG would kill when the parent's *thread* ends.)"""
        if os.getppid() != self._pid:
            raise SystemExit

    def say(self, *message: Any) -> None:
        try:
            self._pipe.write(frame(message))
            self._pipe.flush()
        except BrokenPipeError:
            # Nothing more can be said, not even by the interpreter's own last flush.
            os._exit(0)

    def progress(self, count: int) -> None:
        self._unsaid_bytes += count
        now = monotonic()
        if now - self._said >= _PROGRESS_SECONDS:
            self._said = now
            self.say("progress", self.take_bytes())

    def take_bytes(self) -> int:
        count, self._unsaid_bytes = self._unsaid_bytes, 0
        return count


def serve(requests: BinaryIO, parent: _Parent, fs: FileOps, hasher: Hasher) -> None:
    """Answer requests until there are no more."""
    while True:
        size = int.from_bytes(requests.read(LENGTH_BYTES), "little")
        data = requests.read(size)
        if not data or len(data) < size:
            # The end, or a request that a parent began and did not live to finish.
            return
        # From our own parent, over a pipe that nobody else writes to.
        root, drop_cache, groups = loads(data)  # noqa: S302
        try:
            outcomes = hash_in_root(fs, hasher, root, groups, drop_cache=drop_cache)
        except OfflineError as error:
            parent.say("offline", error.cause)
        else:
            parent.say("results", outcomes, parent.take_bytes())


def main(arguments: list[str]) -> None:
    """Serve the parent that the arguments name."""
    parent_pid, algorithm, margin_ns, bytes_per_second, folder = arguments
    # Whoever stops a whole group of processes means the parent, which then decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = _Parent(int(parent_pid), sys.stdout.buffer)
    fs = FileOps()
    checkpoints = None
    if folder:
        from lifecycle_sync.observe.checkpoints import Checkpoints

        checkpoints = Checkpoints(fs, folder)
    hasher = Hasher(
        fs,
        algorithm=algorithm,
        margin_ns=int(margin_ns),
        clock=SystemClock(),
        cancel=parent,
        on_bytes=parent.progress,
        bytes_per_second=float(bytes_per_second) if bytes_per_second else None,
        checkpoints=checkpoints,
    )
    parent.say("ready")
    serve(sys.stdin.buffer, parent, fs, hasher)


if __name__ == "__main__":
    main(sys.argv[1:])
