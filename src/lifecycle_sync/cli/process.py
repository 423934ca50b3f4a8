"""The process of the command: its standard streams, and the signals that end it."""

from __future__ import annotations

import ctypes
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
_HEARD = {*_STOPPING, signal.SIGHUP}
# `M_ARENA_MAX` of glibc's malloc.h.
_ARENAS_MAX = -8
_RENEWED = "_LIFECYCLE_RENEWED"
# Who holds more at rest had much in its hands, and cannot give all of it back: what it keeps lies
# scattered among what it had. An idle one that follows a million files takes less than this.
RENEW_BYTES = 50_000_000


class _Ours:
    """What kind of process this is."""

    # Whether it belongs to the command, and whether it is one that a process became.
    own = renewed = False


def prepare() -> None:
    """Set up a process of our own.

    An interrupt ends it at once and without a traceback: everything that lasts is committed in
    steps, and what is worth a clean end installs `cancelled_by_signals`.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _Ours.own, _Ours.renewed = True, bool(os.environ.pop(_RENEWED, ""))
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
    share_heap()


def share_heap() -> None:
    """Let all threads take their memory from one heap, where the C library is one that has several:
    what a backup of many files hands from thread to thread lay in pieces in each of them, a tenth
    of what it needed. Nothing is slower for it: they take turns at the interpreter anyway."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENAS_MAX, 1)


def spare_collections() -> None:
    """Let the collector of cycles look less often: records of files are many and make no cycles,
    and to go through them again and again took a fifth of a backup's time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def was_renewed() -> bool:
    """Whether this process has begun its work before, as another image of itself."""
    return _Ours.renewed


def is_worth_renewing() -> bool:
    """Whether this process would come to rest much smaller if it began anew."""
    if not _Ours.own or _Ours.renewed:
        return False
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return False
    return resident > RENEW_BYTES


def renew(cancel: CancelToken) -> None:
    """Become the same command anew, under the same process id. Signals that come meanwhile wait for
    `hear_signals`. Returns where that cannot be, and where `cancel` is set."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    if not cancel.cancelled:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.environ[_RENEWED] = "1"
        try:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - itself
        except OSError:
            del os.environ[_RENEWED]
    hear_signals()


def hear_signals() -> None:
    """Take what came since `renew`: for when it has its handlers."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


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
