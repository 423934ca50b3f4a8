"""Events of vaults come in any order and in any portions, and teach a registry the same."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.model.event import (
    AssignmentEvent,
    ConfirmationEvent,
    Event,
    HoldEvent,
    PolicyEvent,
)
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.memory_registry import MemoryRegistry
from lifecycle_sync.testing.registry_contract_base import House, RegistryContractBase
from lifecycle_sync.testing.story import Story, hours, learned

STATES = st.sampled_from(list(LifecycleState))
HOURS = st.integers(1, 12)


class InMemory(RegistryContractBase):
    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return MemoryRegistry(clock)


class OnSqlite(RegistryContractBase):
    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return SqliteRegistry.open(folder / "registry.db", clock=clock)


@st.composite
def stories(draw: Any, story: Story) -> list[Event]:
    """Events about one root, whose files keep to places of their own."""
    events: list[Event] = [
        story.repository(at, enforce=draw(st.booleans()))
        for at in draw(st.sets(HOURS, min_size=1, max_size=3))
    ]
    for name in draw(st.sets(st.sampled_from("abc"), min_size=1)):
        places = [name.encode(), f"{name}/{name}.jpg".encode(), f"{name}.zip".encode()]
        place = st.sampled_from(places)
        for at in draw(st.sets(HOURS, max_size=3)):
            number = draw(st.integers(1, 3))
            policy = draw(st.sampled_from(["documents", "own"]))
            state = draw(STATES)
            events.append(
                story.version(
                    name,
                    at,
                    number,
                    draw(place),
                    state=state,
                    policy_name=policy,
                    policy_explicit=policy == "own",
                )
            )
        states = draw(st.sets(HOURS, max_size=3))
        events += [story.state(name, at, draw(STATES), draw(place)) for at in states]
        for at in draw(st.sets(HOURS, max_size=2)):
            policy = draw(st.sampled_from(["media", "own", "never made"]))
            event = story.assignment(name, at, policy, explicit=draw(st.booleans()))
            events.append(
                AssignmentEvent(
                    event.file_id,
                    event.repository_id,
                    draw(place),
                    event.policy_name,
                    event.explicit,
                    event.at_ns,
                )
            )
    for at in draw(st.sets(HOURS, max_size=3)):
        rules = LifecyclePolicy("own", retention_days=at)
        events.append(PolicyEvent(rules, draw(st.booleans()), hours(at)))
    for released in draw(st.lists(st.none() | HOURS.map(hours), max_size=3)):
        events.append(HoldEvent(story.id("hold"), story.id("a"), None, "r", "o", 1, None, released))
    for at in draw(st.sets(HOURS, max_size=2)):
        events.append(ConfirmationEvent(story.root, "mass", "e", hours(at)))
    return events


def house_of(suite: RegistryContractBase, folder: str) -> House:
    return House(suite, Path(folder))


FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("other", [InMemory(), OnSqlite()], ids=["memory", "sqlite"])
@FAST
@given(data=st.data())
def test_the_order_and_the_portions_in_which_events_come_do_not_matter(
    other: RegistryContractBase, data: st.DataObject
):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = house_of(InMemory(), one), house_of(other, two)
        with closing(first), closing(second):
            second.registry.remove_repository(second.root)
            first.registry.remove_repository(first.root)
            story = Story(first, first.ids.one())
            events = data.draw(stories(story))
            first.registry.apply_events(events, first.tick())
            # Its repository is told of first; what is told in portions needs it from the start.
            roots = [event for event in events if event in events[:1]]
            rest = data.draw(st.permutations([*events[1:], *events[:2]]))
            second.registry.apply_events(roots, second.tick())
            while rest:
                cut = data.draw(st.integers(1, len(rest)))
                second.registry.apply_events(rest[:cut], second.tick())
                rest = rest[cut:]
            files = [story.id(name) for name in "abc"]
            assert learned(second.registry, files) == learned(first.registry, files)
