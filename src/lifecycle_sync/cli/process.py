"""The process of the command: its standard streams, and the signals that end it."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifecycle_sync.service.api import CancelToken

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def prepare() -> None:
    """Set up a process of our own.

    An interrupt ends it at once and without a traceback: everything that lasts is committed in
    steps, and what is worth a clean end installs `cancelled_by_signals`.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A supervisor may start us without them.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the whole process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the whole process
    # A locale that cannot show a name shows its escape.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    spare_collections()


def spare_collections() -> None:
    """Let the collector of cycles look less often: records of files are many and make no cycles,
    and to go through them again and again took a fifth of a backup's time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@contextmanager
def cancelled_by_signals(cancel: CancelToken) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM set the token; the next one kills at once, as ever."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)
        cancel.cancel()

    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def noted_hangup() -> Iterator[Event]:
    """An event that a SIGHUP sets, where nobody sits before the process: a terminal that is closed
    ends what runs on it, and who said `nohup` does not want to hear of it."""
    noted = Event()
    on_terminal = any(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
    if on_terminal or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield noted
        return
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: noted.set())
    try:
        yield noted
    finally:
        signal.signal(signal.SIGHUP, before)


def abandon_output() -> None:
    """After standard output failed: what is still buffered goes nowhere, so that the interpreter's
    last flush does not fail once more."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        # Not a real descriptor (a test's): nothing will be flushed into a pipe.
        pass
