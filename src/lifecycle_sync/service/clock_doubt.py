"""Whether the time may be wrong: then nothing is taken away by it."""

from __future__ import annotations

from lifecycle_sync.clock import Clock, SystemClock, kernel_clock_is_synchronised
from lifecycle_sync.decide import guards
from lifecycle_sync.model.hold import Switch
from lifecycle_sync.registry.protocol import Registry

_DOUBTED = "clock"
# When a person last said that the time is right.
_TRUSTED = "clock-trusted"


class ClockDoubt:
    """What is known of the clock that one registry is written by. Thread-safe."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock

    def heartbeat(self) -> None:
        """Note it if the clock was set since the last run: called before a run is begun. What it
        says stays until the kernel's clock is synchronised or a person confirms."""
        reason = self._is_off()
        if reason and self._registry.switch(_DOUBTED) is None:
            self._registry.set_switch(Switch(_DOUBTED, reason, "", self._clock.now_ns()))

    def reason(self) -> str:
        """Why the clock is in doubt; empty when it is not."""
        if type(self._clock) is SystemClock and kernel_clock_is_synchronised():
            return ""
        noted = self._registry.switch(_DOUBTED)
        return noted.reason if noted is not None else self._is_off()

    def trust(self) -> bool:
        """A person says that the time is right; whether it was in doubt."""
        doubted = bool(self.reason())
        self._registry.set_switch(Switch(_TRUSTED, "", "", self._clock.now_ns()))
        self._registry.clear_switch(_DOUBTED)
        return doubted

    def _is_off(self) -> str:
        now_ns = self._clock.now_ns()
        beats = [it.ended_ns or it.started_ns for it in self._registry.runs(None, 1)]
        beats += [it.ended_ns or it.started_ns for it in self._registry.acts(None, 1)]
        verdict = guards.clock(now_ns, max(beats, default=None))
        trusted = self._registry.switch(_TRUSTED)
        if verdict.passed or (trusted and guards.clock(now_ns, trusted.at_ns).passed):
            return ""
        return verdict.reason
