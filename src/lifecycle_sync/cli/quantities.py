"""Sizes and moments as people write them: `10k`, `1.5M`, `30d`, `2026-01-31`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

import click

from lifecycle_sync.cli.words import name_text
from lifecycle_sync.service.api import NS_PER_SECOND, from_datetime

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtpe]?)(?:i?b)?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_AGE_SECONDS = {
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86_400,
    "w": 7 * 86_400,
    "y": 365 * 86_400,
}


def size_bytes(
    ctx: click.Context | None, param: click.Parameter | None, value: str | None
) -> int | None:
    """The callback of an option that takes a size: bytes, in binary units."""
    if value is None:
        return None
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(
            f"{name_text(value)!r} is no size; write 500, 10k, 1.5M or 2GiB"
            " (binary units: 1k is 1024 bytes)",
            ctx,
            param,
        )
    return int(float(match[1]) * 1024 ** ["", *"kmgtpe"].index(match[2].lower()))


@dataclass(frozen=True, slots=True)
class When:
    """A moment that is fixed, or counts back from now; both in nanoseconds."""

    at_ns: int | None = None
    ago_ns: int = 0

    def ns(self, now_ns: int) -> int:
        """The moment in nanoseconds since 1970 UTC."""
        return now_ns - self.ago_ns if self.at_ns is None else self.at_ns


def moment(
    ctx: click.Context | None, param: click.Parameter | None, value: str | None
) -> When | None:
    """The callback of an option that takes an age, or an ISO date or time (local without zone)."""
    if value is None:
        return None
    text = value.strip()
    coming = text.startswith("+")
    match = _AGE.fullmatch(text.removeprefix("+").lower())
    if match is not None and match[2] in _AGE_SECONDS:
        ago_ns = int(float(match[1]) * _AGE_SECONDS[match[2]] * NS_PER_SECOND)
        return When(ago_ns=-ago_ns if coming else ago_ns)
    try:
        return When(at_ns=from_datetime(datetime.fromisoformat(text)))
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{name_text(text)!r} is no age and no date; write 12h, 30d, 2w or 1y (also s and"
            " min), or 2026-01-31 or 2026-01-31T12:00",
            ctx,
            param,
        ) from None
