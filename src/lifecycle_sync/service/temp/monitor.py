"""Watches how full the place is: a sample every 30 seconds, a clean-up at once when a watermark is
crossed, and one ahead of its time when the forecast says that it will be."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.decide.forecast import reaches, since_last_drop
from lifecycle_sync.decide.pressure import Health, health
from lifecycle_sync.service.temp.core import TempCleanup

_SAMPLES_MAX = 2880  # a day of them
# A fall by that many percent from one sample to the next is a clean-up.
_DROP_PERCENT = 2.0
_JOIN_SECONDS = 30.0

_log = logging.getLogger("lifecycle_sync.temp")


class Monitor:
    """One thread beside a `TempCleanup`.

    `urgent` and `early` are what is done at the high watermark and ahead of time; by default the
    emergency and the scheduled clean-up, here. A watermark that stays crossed is acted on again at
    the interval of emergency checks.
    """

    def __init__(
        self,
        cleanup: TempCleanup,
        *,
        urgent: Callable[[], Any] | None = None,
        early: Callable[[], Any] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cleanup = cleanup
        self._stop = CancelToken()
        self._urgent = urgent or (lambda: cleanup.emergency(cancel=self._stop))
        self._early = early or (lambda: cleanup.scheduled(cancel=self._stop))
        self._now = now
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES_MAX)
        self._level = Health.HEALTHY
        self._urgent_at = self._early_at = float("-inf")
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a second call does nothing."""
        with self._lock:
            if self.running:
                return
            self._stop = CancelToken()
            self._thread = threading.Thread(
                target=self._watch, args=(self._stop,), name="lifecycle-temp-monitor", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End, at once: a clean-up that is running stops at its next safe point."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.cancel()
        if thread is not None:
            thread.join(_JOIN_SECONDS)

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._thread is not None and self._thread.is_alive()

    def forecast_seconds(self) -> float | None:
        """In how many seconds the high watermark will be reached, by what was seen since the last
        clean-up; 0.0 where it is; None where it is not coming nearer, or nobody can tell."""
        samples = since_last_drop(list(self._samples), _DROP_PERCENT)
        at = reaches(samples, self._cleanup.settings.emergency_cleanup_threshold)
        return None if at is None else max(at - samples[-1][0], 0.0)

    def look(self) -> Health:
        """Take one sample, and do what it asks for."""
        usage = self._cleanup.usage()
        now = self._now()
        self._samples.append((now, usage.percent))
        level = health(usage, self._cleanup.limits)
        before, self._level = self._level, level
        if level is not before:
            say = _log.info if level is Health.HEALTHY else _log.warning
            say("the temporary storage is %s: %.1f %% full", level, usage.percent)
        settings = self._cleanup.settings
        if level is Health.CRITICAL:
            again = now - self._urgent_at >= settings.emergency_check_interval_minutes * 60
            if before is not Health.CRITICAL or again:
                self._urgent_at = now
                self._urgent()
            return level
        interval = settings.scheduled_cleanup_interval_minutes * 60
        coming = self.forecast_seconds()
        if coming is not None and coming < interval and now - self._early_at >= interval / 4:
            self._early_at = now
            _log.warning("it will be full in %.0f minutes: cleaning up ahead of time", coming / 60)
            self._early()
        return level

    def _watch(self, stop: CancelToken) -> None:
        while not stop.cancelled:
            try:
                self._cleanup.make_reserve()
                self.look()
            except Exception:  # noqa: BLE001 - it goes on watching
                _log.exception("the temporary storage could not be looked at")
            if stop.wait(self._cleanup.settings.storage_check_interval_seconds):
                return
