"""When a watermark will be reached, by the usage that was seen: Theil and Sen's median of slopes,
which a clean-up or a burst in between does not mislead as a mean would."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

_POINTS_MAX = 200


def slope(samples: Sequence[tuple[float, float]]) -> float | None:
    """The median slope of all pairs of (time, value); None of fewer than three moments.

    Long series are thinned evenly to 200 points, so that it stays a matter of milliseconds.
    """
    step = max(1, -(-len(samples) // _POINTS_MAX))
    points = list(samples)[::-1][::step][::-1]
    if len({time for time, _ in points}) < 3:
        return None
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for at, earlier in enumerate(points)
        for later in points[at + 1 :]
        if later[0] != earlier[0]
    ]
    return median(slopes)


def reaches(samples: Sequence[tuple[float, float]], level: float) -> float | None:
    """At which time the value will be at `level`, going on from the last sample; that sample's own
    time if it is there; None where it is not growing, or nobody can tell."""
    if not samples:
        return None
    now, value = samples[-1]
    if value >= level:
        return now
    growth = slope(samples)
    if growth is None or growth <= 0:
        return None
    return now + (level - value) / growth


def since_last_drop(
    samples: Sequence[tuple[float, float]], drop: float
) -> Sequence[tuple[float, float]]:
    """The samples after the last fall of at least `drop` from one to the next: a clean-up ends
    what was growing before."""
    for at in range(len(samples) - 1, 0, -1):
        if samples[at - 1][1] - samples[at][1] >= drop:
            return samples[at:]
    return samples
