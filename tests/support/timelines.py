"""Random histories of a file, keep rules, and by the definition which of its versions are kept.

The definition is counted out for each version by itself: it is kept for a period where no later
version shares the period, and fewer periods that have a version come after it than the rule has
places. Days, months and weeks are made of integers here, without a calendar of Python's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from lifecycle_sync.decide.retention import Timed
from lifecycle_sync.model.policy import KeepRules, LifecyclePolicy

SECOND = 10**9
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND
_RULES = ("hourly", "daily", "weekly", "monthly", "yearly")
# Where calendars are wrong when they are: turns of years with 52 and 53 weeks, leap days and the
# days that are none, changes of the clocks in Europe and America, the epoch, the ends of the range.
_EDGES = [
    (2019, 12, 30), (2020, 1, 1), (2020, 12, 28), (2021, 1, 4), (2024, 12, 30), (2026, 1, 1),
    (2000, 2, 29), (2024, 2, 29), (2023, 2, 28), (1900, 3, 1), (2100, 3, 1),
    (2026, 3, 8), (2026, 3, 29), (2026, 10, 25), (2026, 11, 1),
    (1970, 1, 1), (1969, 12, 31), (1678, 1, 1), (2262, 4, 11),
]  # fmt: skip


def day_number(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01, of the Gregorian calendar."""
    months = [31, 28 + _is_leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    before = (year - 1) * 365 + (year - 1) // 4 - (year - 1) // 100 + (year - 1) // 400
    return before + sum(months[: month - 1]) + day - 1 - 719_162


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _year_and_month(day: int) -> tuple[int, int]:
    year = 1968 + day // 366 if day >= 0 else 1968 + day // 365
    while day_number(year + 1, 1, 1) <= day:
        year += 1
    month = max(it for it in range(1, 13) if day_number(year, it, 1) <= day)
    return year, month


def _periods(at_ns: int) -> dict[str, object]:
    day = at_ns // DAY
    year, month = _year_and_month(day)
    return {
        "hourly": at_ns // HOUR,
        "daily": day,
        # The first of January 1970 was a Thursday.
        "weekly": (day + 3) // 7,
        "monthly": (year, month),
        "yearly": year,
    }


def kept(versions: Sequence[Timed], policy: LifecyclePolicy) -> dict[bytes, list[str]]:
    """By version, all that speaks for it, as this policy has it."""
    periods = {it.version_id: _periods(it.kept_ns) for it in versions}
    reasons: dict[bytes, list[str]] = {}
    for one in versions:
        later = [it for it in versions if (it.kept_ns, it.version_id) > (one.kept_ns, one[0])]
        found = reasons[one.version_id] = []
        newest = policy.max_versions if policy.versioning_enabled else min(policy.max_versions, 1)
        if len(later) < newest:
            found.append(f"version {len(later) + 1} of {newest}")
        if not policy.versioning_enabled:
            continue
        if len(later) < policy.keep.last:
            found.append(f"last {len(later) + 1} of {policy.keep.last}")
        for rule in _RULES:
            places = getattr(policy.keep, rule)
            mine = periods[one.version_id][rule]
            after = {periods[it.version_id][rule] for it in later}
            if mine not in after and len(after) < places:
                found.append(f"{rule} {len(after) + 1} of {places}")
    return reasons


def timeline(chosen: random.Random) -> list[Timed]:
    """In no order. Some close together, some on the edges of periods, to the nanosecond."""
    moment = day_number(*chosen.choice(_EDGES)) * DAY
    found = set()
    for number in range(chosen.randrange(0, 24)):
        step = chosen.choice([0, SECOND, HOUR, DAY, 7 * DAY, 31 * DAY, 366 * DAY])
        moment += chosen.choice([-1, 1]) * chosen.randrange(0, 3) * step
        if chosen.random() < 0.5:
            # Onto the edge of an hour, a day or a year, or a little beside it.
            unit = chosen.choice([HOUR, DAY, 7 * DAY])
            moment = moment // unit * unit + chosen.choice([-1, 0, 1, 999])
        elif chosen.random() < 0.2:
            moment = day_number(*chosen.choice(_EDGES)) * DAY - chosen.randrange(0, 2)
        moment = max(-(2**63), min(moment, 2**63 - 1))
        found.add(Timed(number.to_bytes(2, "big"), moment))
    order = sorted(found)
    chosen.shuffle(order)
    return order


def policies(chosen: random.Random) -> Iterator[LifecyclePolicy]:
    for number in range(chosen.choice([1, 1, 2, 3])):
        places = [chosen.choice([0, 0, 1, 2, 3, 7, 30]) for _ in range(7)]
        yield LifecyclePolicy(
            f"p{number}",
            max_versions=places[0],
            keep=KeepRules(*places[1:]),
            versioning_enabled=chosen.random() < 0.9,
        )
