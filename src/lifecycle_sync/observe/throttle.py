"""So many bytes a second and no more."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Protocol

# How late a cancellation may be noticed while it waits.
_PIECE_SECONDS = 0.1


class _Stoppable(Protocol):
    def check(self) -> None: ...


class Throttle:
    """Makes a reader wait; without a limit it never does. One a thread."""

    def __init__(self, bytes_per_second: float | None, cancel: _Stoppable) -> None:
        self._rate = bytes_per_second
        self._cancel = cancel
        # When what was read so far may have been read, in monotonic seconds.
        self._free_at = monotonic()

    def took(self, count: int) -> None:
        """So many bytes were read: return when that was allowed. Raises what `cancel` raises."""
        if self._rate is None:
            return
        now = monotonic()
        # What was not used is not saved up.
        self._free_at = max(self._free_at, now) + count / self._rate
        while (left := self._free_at - monotonic()) > 0:
            self._cancel.check()
            sleep(min(left, _PIECE_SECONDS))
