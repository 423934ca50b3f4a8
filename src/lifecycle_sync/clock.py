"""The only reader of wall time. Everything else is handed a `Clock`, so a test can set the time.

Inside the program a moment is an integer of nanoseconds since 1970 UTC; it becomes an aware
`datetime` only at the Python face and ISO text only in views and JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

NS_PER_SECOND = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What an int64 of nanoseconds can hold; a filesystem can say more (ext4 reaches the year 2446).
NS_MIN = -(2**63)
NS_MAX = 2**63 - 1
# Of Linux, for which `time` has no name.
_CLOCK_REALTIME_COARSE = 5
# What adjtimex(2) answers for a clock that nothing keeps right.
_TIME_ERROR = 5


class Clock(Protocol):
    """Wall time in nanoseconds since 1970 UTC; it can jump, so intervals use `time.monotonic`."""

    def now_ns(self) -> int: ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()


def seconds_since_boot() -> float:
    """For intervals that are to go on while the machine sleeps, as `time.monotonic` does not."""
    if sys.platform != "linux":
        return time.monotonic()
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def next_stamp_ns() -> int:
    """A moment that parts the changes of local files: what changed before the call bears an earlier
    time, what changes after it returns that time or a later one.

    The kernel stamps files by a clock that ticks every few milliseconds, or by the exact one, so
    this waits for a tick that lies after the call, and for the one after that: a tick can be read
    for a moment before files are stamped with it. It is the machine's own clock, whatever a program
    is told that the time is.
    """
    if sys.platform != "linux":
        return time.time_ns()
    moment_ns = _tick_after(time.time_ns())
    _tick_after(moment_ns)
    return moment_ns


def _tick_after(ns: int) -> int:
    # Should the clock be set back meanwhile, its own time is waited for no longer.
    until = time.monotonic() + 0.1
    while True:
        tick_ns = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
        if tick_ns > ns or time.monotonic() > until:
            return tick_ns
        time.sleep(0.000_5)


def kernel_clock_is_synchronised() -> bool:
    """Whether the kernel says that something (NTP, the host) keeps its clock right; False also
    where it says nothing."""
    if sys.platform != "linux":
        return False
    import ctypes

    # struct timex: with modes 0 nothing is set, and what comes back says how the clock stands.
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    return 0 <= int(answer) < _TIME_ERROR


class SteadyClock:
    """A clock that is never much further on than time has passed since this was made.

    For what deletes by age: were the machine's clock set a year ahead, every file would be old. A
    step ahead of over an hour is therefore not gone along with; a step back is.
    """

    _TOLERANCE_NS = 3600 * NS_PER_SECOND

    def __init__(
        self, clock: Clock | None = None, passed: Callable[[], float] | None = None
    ) -> None:
        """`passed` gives seconds of a clock that nobody sets; by default one that goes on while the
        machine sleeps, where there is one."""
        self._clock = clock or SystemClock()
        self._passed = passed or _since_boot
        self._offset_ns = self._clock.now_ns() - int(self._passed() * NS_PER_SECOND)

    def now_ns(self) -> int:
        latest = self._offset_ns + int(self._passed() * NS_PER_SECOND) + self._TOLERANCE_NS
        return min(self._clock.now_ns(), latest)


def _since_boot() -> float:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class FixedClock:
    """A clock that stands still until it is moved; for tests and for `--at`."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        self._now_ns += int(seconds * NS_PER_SECOND)


def to_datetime(ns: int) -> datetime:
    """An aware UTC datetime; microseconds are cut off, out-of-range values clamp."""
    return _EPOCH + timedelta(microseconds=min(max(ns, NS_MIN), NS_MAX) // 1000)


def from_datetime(moment: datetime) -> int:
    """Nanoseconds since 1970 UTC. A naive datetime is taken as this machine's local time."""
    if moment.tzinfo is None:
        moment = moment.astimezone()
    delta = moment - _EPOCH
    ns = (delta.days * 86_400 + delta.seconds) * NS_PER_SECOND + delta.microseconds * 1000
    return min(max(ns, NS_MIN), NS_MAX)


def to_iso(ns: int) -> str:
    """ISO 8601 in UTC with microseconds, as JSON shows it: `2026-01-02T03:04:05.000006Z`."""
    # Three times as fast as strftime, and a long listing has seven of them a line.
    return to_datetime(ns).isoformat(timespec="microseconds")[:-6] + "Z"
