"""How the watching of roots fares: counters, and alarms by name, for people and for JSON."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import Registry

_log = logging.getLogger(__name__)

_NOTE_SECONDS = 5.0


class WatchMode(StrEnum):
    STARTING = "starting"
    WATCHING = "watching"  # told by the kernel
    PARTLY_POLLED = "partly polled"  # some directories cannot be watched
    POLLING = "polling"  # a filesystem that tells nothing, or no queue to be had
    OFFLINE = "offline"  # the root is not there, or a guard holds it
    STOPPED = "stopped"


# The alarms, and what to do about each.
REMEDIES = {
    "watch-limit": "raise fs.inotify.max_user_watches (`sysctl`), see docs/how-to/watch.md;"
    " until then these folders are polled",
    "no-queue": "raise fs.inotify.max_user_instances, or the limit of open files; until then the"
    " root is polled",
    "unreadable": "check the permissions of these folders; they are polled",
    "overflow": "nothing is lost: the whole root was looked at again; a larger"
    " fs.inotify.max_queued_events makes it rarer",
    "seen-twice": "a folder is mounted inside the root a second time; it is polled",
    "not-told": "network and FUSE filesystems do not tell what changes on them; the root is polled",
    "root": "put the folder back, or `lifecycle accept` it",
    "held": "look at the folder; `lifecycle accept` it if it is right",
    "failing": "what could not be recorded is tried again",
}


@dataclass(frozen=True, slots=True)
class Alarm:
    """`name` is one of `REMEDIES`."""

    name: str
    text: str

    @property
    def remedy(self) -> str:
        return REMEDIES[self.name]


@dataclass(frozen=True, slots=True)
class RootHealth:
    """One root. `lag_seconds` is how long the oldest event has been waiting to be recorded, 0 when
    none is; `coalesced` are events that came to a look together with others. `process_id` is that
    of the watching process, 0 for none."""

    mode: WatchMode
    events: int = 0
    coalesced: int = 0
    looks: int = 0
    overflows: int = 0
    recrawls: int = 0
    watched_directories: int = 0
    polled_directories: int = 0
    lag_seconds: float = 0.0
    alarms: tuple[Alarm, ...] = field(default_factory=tuple)
    process_id: int = 0

    @property
    def healthy(self) -> bool:
        """Whether what happens is told by the kernel, all of it."""
        return self.mode is WatchMode.WATCHING


def health_fields(health: RootHealth) -> dict[str, Any]:
    """As a part of a JSON document."""
    fields = asdict(health)
    fields["mode"] = health.mode.value
    fields["lag_seconds"] = round(health.lag_seconds, 3)
    fields["alarms"] = [
        {"name": alarm.name, "text": _utf8(alarm.text), "remedy": alarm.remedy}
        for alarm in health.alarms
    ]
    return fields


def health_text(health: RootHealth) -> str:
    """As the registry keeps it."""
    return json.dumps(health_fields(health))


def health_of_text(text: str) -> RootHealth | None:
    """What `health_text` made; None for what is empty or cannot be understood."""
    try:
        fields = json.loads(text)
        alarms = tuple(
            Alarm(it["name"], it["text"]) for it in fields.pop("alarms") if it["name"] in REMEDIES
        )
        return RootHealth(**{**fields, "mode": WatchMode(fields["mode"]), "alarms": alarms})
    except (ValueError, KeyError, TypeError):
        return None


def _utf8(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")


class HealthNotes:
    """Notes in the registry how the watching of one root fares, and logs alarms as they come."""

    def __init__(self, registry: Registry, repository: Repository, clock: Clock) -> None:
        self._registry = registry
        self._repository = repository
        self._clock = clock
        self._noted: tuple[WatchMode, tuple[str, ...], int] | None = None
        self._noted_at = float("-inf")

    def note(self, health: RootHealth) -> None:
        """When there is something new, and not all the time."""
        before, now = self._noted, time.monotonic()
        what = (health.mode, tuple(alarm.name for alarm in health.alarms), health.looks)
        if what == before or (
            before is not None and what[:2] == before[:2] and now - self._noted_at < _NOTE_SECONDS
        ):
            return
        for alarm in health.alarms:
            if before is None or alarm.name not in before[1]:
                _log.warning(
                    "%s: %s: %s (%s)",
                    os.fsdecode(self._repository.path),
                    alarm.name,
                    alarm.text,
                    alarm.remedy,
                )
        self._noted, self._noted_at = what, now
        self._write(health)

    def stopped(self, health: RootHealth) -> None:
        """Nobody watches any more."""
        try:
            self._write(replace(health, mode=WatchMode.STOPPED, process_id=0))
        except LifecycleError:
            pass  # the root was removed, or the disk is full: nobody watches either way

    def _write(self, health: RootHealth) -> None:
        self._registry.note_health(
            self._repository.repository_id, self._clock.now_ns(), health_text(health)
        )
