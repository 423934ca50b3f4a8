"""One token to stop work at its next safe point: checked per directory and per batch."""

from __future__ import annotations

import threading

from lifecycle_sync.errors import CancelledError


class CancelToken:
    """Set once, from any thread or signal handler; never unset."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises `CancelledError` once the token is set."""
        if self._event.is_set():
            raise CancelledError("asked to stop", remedy="run again to go on where it stopped")

    def wait(self, seconds: float) -> bool:
        """Sleep until the token is set or the time is over; True when it is set."""
        return self._event.wait(seconds)
