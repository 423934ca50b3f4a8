"""The child side of a walk in a process of its own: a fresh interpreter that lists directories.

`python -m lifecycle_sync.observe.walk_worker PARENT_PID`. Standard input has one request, standard
output answers, both marshal data behind a length of four bytes. A request is (root, patterns,
default rules, margin_ns, own, stable_inodes, known), where `known` maps paths to signatures. The
answers are ("listings", [...]), where a listing is what `listing.packed` makes of it, without its
columns where its signature is the known one, or (path, error); then ("end",), or ("failed", cause).

A worker changes nothing and can be killed at any moment. It ends by itself when its parent does.
"""

from __future__ import annotations

import os
import signal
import sys
from marshal import loads
from typing import Any

from lifecycle_sync.clock import SystemClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.observe.hash_worker import LENGTH_BYTES, frame
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.listing import ReadListing, packed
from lifecycle_sync.observe.walker import walk

_BATCH_DIRECTORIES = 64
_BATCH_FILES = 4_000


class _Parent:
    """The other end: where answers go, and whose death ends the walk."""

    cancelled = False

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def check(self) -> None:
        if os.getppid() != self._pid:
            raise SystemExit

    def say(self, *message: Any) -> None:
        try:
            sys.stdout.buffer.write(frame(message))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # The parent has heard enough; nothing more can be said, not even at exit.
            os._exit(0)


def main(arguments: list[str]) -> None:
    """Walk once for the parent that the arguments name."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = _Parent(int(arguments[0]))
    size = int.from_bytes(sys.stdin.buffer.read(LENGTH_BYTES), "little")
    data = sys.stdin.buffer.read(size)
    if not data or len(data) < size:
        return
    # From our own parent, over a pipe that nobody else writes to.
    root, patterns, defaults, margin_ns, own, stable_inodes, known = loads(data)  # noqa: S302
    batch: list[tuple[Any, ...]] = []
    files = 0
    for listing in walk(
        root,
        IgnoreRules(patterns, defaults=defaults),
        fs=FileOps(),
        clock=SystemClock(),
        cancel=parent,  # type: ignore[arg-type]  # of a token it needs `check` only
        margin_ns=margin_ns,
        own=frozenset(own),
        stable_inodes=stable_inodes,
    ):
        if isinstance(listing, ReadListing):
            same = listing.signature is not None and known.get(listing.path) == listing.signature
            batch.append(packed(listing, columns=not same))
            files += 0 if same else listing.file_count
        else:
            batch.append((listing.path, listing.error))
        if len(batch) >= _BATCH_DIRECTORIES or files >= _BATCH_FILES:
            parent.say("listings", batch)
            batch, files = [], 0
    parent.say("listings", batch)
    parent.say("end")


if __name__ == "__main__":
    main(sys.argv[1:])
