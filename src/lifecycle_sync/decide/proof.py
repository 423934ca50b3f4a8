"""Whether enough places hold a content, each of which was verified a short time ago.

A policy may demand it before a file goes: see `LifecyclePolicy.verified_copies`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from lifecycle_sync.decide.dates import NS_PER_DAY
from lifecycle_sync.model.policy import LifecyclePolicy


class HeldAt(NamedTuple):
    """A place that holds a content whole: its path, and when that was last read there and right, in
    nanoseconds since 1970 UTC; 0 where it never was."""

    place: str
    checked_ns: int


def lacking(places: Collection[HeldAt], policy: LifecyclePolicy, now_ns: int) -> str:
    """What a policy demands of the places that hold a content and that is not so, in words; empty
    where nothing is. A time in the future proves nothing."""
    if not policy.verified_copies:
        return ""
    since_ns = now_ns - policy.verified_within_days * NS_PER_DAY
    proven = {it.place for it in places if since_ns <= it.checked_ns <= now_ns}
    absent = [place for place in policy.verified_places if place not in proven]
    if len(proven) >= policy.verified_copies and not absent:
        return ""
    held = {it.place for it in places}
    days = policy.verified_within_days
    wanted = (
        "1 verified copy"
        if policy.verified_copies == 1
        else (f"{policy.verified_copies} verified copies")
    )
    text = f"{wanted} not older than {days} days demanded, and there are {len(proven)}"
    if absent:
        text += f"; not verified at {', '.join(absent)}"
    unread = len(held - proven)
    if unread:
        return f"{text} ({unread} more to be verified: `lifecycle verify --all`)"
    return f"{text} (another place has to hold it: `lifecycle vault copy`)"
