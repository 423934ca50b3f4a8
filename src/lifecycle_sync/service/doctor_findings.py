"""What the doctor finds: one sentence about one thing, and how to mend it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from lifecycle_sync.errors import LifecycleError

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names what was looked at ("registry.integrity"), `subject` is the path or setting it
    was about. A "warning" works but should not stay so, a "fault" does not work or loses something;
    both have a `remedy`."""

    check: str
    level: Level
    subject: str
    message: str
    remedy: str = ""


def fine(check: str, subject: str | bytes, message: str) -> Finding:
    """Something that is as it should be."""
    return Finding(check, "ok", os.fsdecode(subject), message)


def warning(check: str, subject: str | bytes, message: str, remedy: str) -> Finding:
    """Something that works but should not stay so."""
    return Finding(check, "warning", os.fsdecode(subject), message, remedy)


def fault(check: str, subject: str | bytes, message: str, remedy: str) -> Finding:
    """Something that does not work, or loses something."""
    return Finding(check, "fault", os.fsdecode(subject), message, remedy)


def fault_from(check: str, subject: str | bytes, error: LifecycleError) -> Finding:
    """An error as a finding; it names its remedy itself."""
    return fault(check, subject, error.cause, error.remedy or "see the message")


def size_text(size: int) -> str:
    """Bytes for people: `1.5 GiB`."""
    for unit, exponent in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << exponent:
            return f"{size / (1 << exponent):.1f} {unit}"
    return f"{size} bytes"


def age_text(seconds: float) -> str:
    """A duration for people: `3 hours`."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length):,} {unit}"
    return f"{int(seconds)} seconds"
