"""Which copies of the vaults the versions of a file go to, and why: `LifecyclePolicy.copies`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lifecycle_sync.model.policy import LifecyclePolicy


class CopyPlace(NamedTuple):
    """A copy by its path, whether versions of a file go there, and why."""

    place: str
    goes: bool
    why: str


def goes_to(policy: LifecyclePolicy, place: str) -> bool:
    """Whether versions of its files go to a copy in that place."""
    return policy.copies is None or place in policy.copies


def places_of(policy: LifecyclePolicy, known: Sequence[str], *, held: bool) -> list[CopyPlace]:
    """All copies that the settings name (`known`) or the policy does. What is held goes to all."""
    found = []
    for place in known:
        if policy.copies is None:
            why = f"{policy.name} names no copies, so it goes to all"
        elif place in policy.copies:
            why = f"{policy.name} names it"
        elif held:
            why = f"{policy.name} does not name it, but what is held goes to all"
        else:
            why = f"{policy.name} does not name it"
        found.append(CopyPlace(place, held or goes_to(policy, place), why))
    found += (
        CopyPlace(place, False, f"{policy.name} names it, and the settings do not")
        for place in policy.copies or ()
        if place not in known
    )
    return found
