"""What a policy demands of the places that hold a content."""

from __future__ import annotations

import pytest

from lifecycle_sync.decide.dates import NS_PER_DAY
from lifecycle_sync.decide.proof import HeldAt, lacking
from lifecycle_sync.model.policy import LifecyclePolicy, faults_of

NOW = 1_000 * NS_PER_DAY


def places(*days_ago: float | None) -> list[HeldAt]:
    """Places /0, /1 and so on, verified so many days ago; None: never."""
    return [
        HeldAt(f"/{number}", 0 if days is None else NOW - int(days * NS_PER_DAY))
        for number, days in enumerate(days_ago)
    ]


def policy(**given: object) -> LifecyclePolicy:
    given = {"verified_copies": 2, "verified_within_days": 10} | given
    return LifecyclePolicy("p", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "enough"),
    [
        (places(1, 9.9), True),
        (places(1, 10), True),
        (places(1, 10.1), False),
        (places(1, None), False),
        (places(1), False),
        (places(), False),
        (places(1, 2, None), True),
        # A clock that was set back: a time to come proves nothing.
        (places(1, -1), False),
        # One place twice is one place.
        (places(1) * 2, False),
    ],
)
def test_so_many_places_each_verified_within_so_many_days(held, enough):
    assert (lacking(held, policy(), NOW) == "") is enough


def test_nothing_is_asked_where_nothing_is_demanded():
    assert lacking([], LifecyclePolicy("p"), NOW) == ""


def test_a_place_that_is_named_has_to_be_among_them():
    assert lacking(places(1, 1), policy(verified_places=["/1"]), NOW) == ""
    assert "not verified at /2" in lacking(places(1, 1), policy(verified_places=["/2"]), NOW)


def test_what_is_missing_is_said_with_what_helps():
    assert "1 more to be verified: `lifecycle verify" in lacking(places(1, None), policy(), NOW)
    assert "`lifecycle vault copy`" in lacking(places(1), policy(), NOW)


@pytest.mark.parametrize(
    "given",
    [
        {"verified_copies": -1},
        {"verified_copies": 17},
        {"verified_within_days": 0},
        {"verified_copies": 0, "verified_places": ["/x"]},
        {"verified_places": ["x"]},
        {"backup_frequency_hours": 0},
    ],
)
def test_a_demand_that_makes_no_sense_is_refused(given):
    assert len(faults_of(policy(**given))) == 1
    assert faults_of(policy()) == []
