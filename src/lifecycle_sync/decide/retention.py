"""Which versions of a file are kept, and why: the newest so many, the last of so many hours, days,
weeks, months and years, and what somebody holds.

A version is kept as soon as one rule asks for it. Periods are those of UTC, weeks begin on Monday
(ISO 8601), and only periods that have a version count: a file that was written twice in ten years
has two years, not ten. Nothing is ever a reason against a version, there are only reasons for one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from lifecycle_sync.model.policy import KeepRules, LifecyclePolicy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Period = tuple[int, ...]


class Timed(NamedTuple):
    """A version as far as keeping needs it: its id, and when it was kept, in nanoseconds since 1970
    UTC."""

    version_id: bytes
    kept_ns: int


class VersionVerdict(NamedTuple):
    """Whether a version is kept. `reasons` are all that speak for it; without one it may go."""

    version: Timed
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


def retained(
    versions: Sequence[Timed],
    policies: Sequence[LifecyclePolicy],
    *,
    pinned: Collection[bytes] = (),
    pinned_reason: str = "held",
) -> list[VersionVerdict]:
    """The verdict on each version of one file, the newest first.

    Of several policies each keeps what it keeps. `pinned` are ids that stay whatever the rules say.
    Where two versions were kept in the same nanosecond the greater id is the newer one.
    """
    newest_first = sorted(versions, key=lambda it: (it.kept_ns, it.version_id), reverse=True)
    reasons: list[list[str]] = [[] for _ in newest_first]
    for policy in policies:
        rules = policy.keep
        _first(reasons, policy.max_versions, "version")
        _first(reasons, rules.last, "last")
        for name, number, period_of in _periods(rules):
            _last_of_each(newest_first, reasons, name, number, period_of)
    for version, found in zip(newest_first, reasons, strict=True):
        if version.version_id in pinned:
            found.append(pinned_reason)
    return [
        VersionVerdict(version, tuple(dict.fromkeys(found)))
        for version, found in zip(newest_first, reasons, strict=True)
    ]


def prunable(verdicts: Sequence[VersionVerdict]) -> list[bytes]:
    """The ids of the versions that no rule keeps."""
    return [it.version.version_id for it in verdicts if not it.kept]


def _periods(rules: KeepRules) -> list[tuple[str, int, Callable[[datetime], _Period]]]:
    return [
        ("hourly", rules.hourly, lambda it: (it.year, it.month, it.day, it.hour)),
        ("daily", rules.daily, lambda it: (it.year, it.month, it.day)),
        ("weekly", rules.weekly, lambda it: it.isocalendar()[:2]),
        ("monthly", rules.monthly, lambda it: (it.year, it.month)),
        ("yearly", rules.yearly, lambda it: (it.year,)),
    ]


def _first(reasons: Sequence[list[str]], number: int, name: str) -> None:
    for place, found in enumerate(reasons[:number], 1):
        found.append(f"{name} {place} of {number}")


def _last_of_each(
    newest_first: Sequence[Timed],
    reasons: Sequence[list[str]],
    name: str,
    number: int,
    period_of: Callable[[datetime], _Period],
) -> None:
    count = 0
    before: _Period | None = None
    for version, found in zip(newest_first, reasons, strict=True):
        if count == number:
            return
        period = period_of(_moment(version.kept_ns))
        if period != before:
            count += 1
            before = period
            found.append(f"{name} {count} of {number}")


def _moment(at_ns: int) -> datetime:
    """A time as a date; what no calendar reaches is at its end."""
    try:
        return _EPOCH + timedelta(microseconds=at_ns // 1_000)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if at_ns > 0 else datetime.min.replace(tzinfo=UTC)
