"""Holds of a registry on temporary files, which no registry has a record of: by their paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.model.hold import Hold, normal
from lifecycle_sync.model.plan import Subject

_PATTERN = frozenset("*?[")


class HoldSource(Protocol):
    """What is asked of a registry: its holds, and where the files are that it knows by id."""

    def holds(self, file_id: bytes | None = None, now_ns: int | None = None) -> list[Hold]:
        """Those that hold at a time."""

    def subjects(self, file_ids: Iterable[bytes]) -> dict[bytes, Subject]:
        """The records of these files, by their ids."""


class RegistryHolds:
    """Whether a path is held. Thread-safe.

    `refresh` reads the holds again, and a clean-up asks for that right before files go. What cannot
    be read raises, so that nothing goes then.
    """

    def __init__(self, registry: HoldSource, clock: Clock | None = None) -> None:
        self._registry = registry
        self._clock = clock or SystemClock()
        self._active: tuple[Hold, ...] | None = None
        # What a hold by an id or a path stands for, by the hold's own id.
        self._places: dict[bytes, Hold] = {}

    def refresh(self) -> None:
        """Take up what was held and released since."""
        now_ns = self._clock.now_ns()
        active = []
        for hold in self._registry.holds(now_ns=now_ns):
            active.append(hold)
            place = self._places.get(hold.hold_id)
            if place is None:
                place = self._places[hold.hold_id] = self._placed(hold)
            active.append(place)
        self._active = tuple(active)

    def __call__(self, path: bytes) -> bool:
        active = self._active
        if active is None:
            self.refresh()
            active = self._active or ()
        if not active:
            return False
        text = normal(os.fsdecode(path))
        return any(hold.names(text) for hold in active)

    def _placed(self, hold: Hold) -> Hold:
        """The same hold by the real path of what it names."""
        if hold.file_id is not None:
            file = self._registry.subjects([hold.file_id]).get(hold.file_id)
            if file is None:
                return hold
            path = os.fsdecode(os.path.join(file.root, file.path))
            return replace(hold, file_id=None, query=normal(path))
        query = hold.query or ""
        if _PATTERN.isdisjoint(query):
            return replace(hold, query=normal(os.path.realpath(query)))
        return hold
