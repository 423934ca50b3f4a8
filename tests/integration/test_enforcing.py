"""Policies enforced over more files than one plan has room for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.errors import StorageFullError
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.plan import Plan, Verb
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.service import applying, decisions, enforcing
from lifecycle_sync.service.act_orders import How, RootOutcome
from lifecycle_sync.service.enforcing import enforce
from tests.integration.test_policies import Estate, years_later

FILES, PAGE, BACKUPS, ACTS = 50, 7, 10, 15


class Small:
    """An estate whose plans have room for a few files, and the plans that are carried out in it."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch) -> None:
        self.estate = Estate(base)
        for number in range(FILES):
            self.estate.file(f"{number:02}.txt")
        self.estate.ready()
        self.estate.later(0.1)
        patch.setattr(decisions, "_PAGE", PAGE)
        patch.setattr(enforcing, "_BACKUPS_MAX", BACKUPS)
        patch.setattr(enforcing, "_ACTS_MAX", ACTS)
        self.plans: list[Plan] = []
        self._apply = applying.apply
        patch.setattr(enforcing, "apply", self.apply)

    def apply(self, engine, plan: Plan, how: How) -> list[RootOutcome]:
        self.plans.append(plan)
        return self._apply(engine, plan, how)

    def states(self) -> list[LifecycleState]:
        return [self.estate.state(f"{number:02}.txt") for number in range(FILES)]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    small = Small(tmp_path, monkeypatch)
    yield small
    small.estate.engine.close()


def enforced(small: Small) -> enforcing.Enforced:
    return enforce(small.estate.engine, [small.estate.repository], How())


def test_many_backups_are_made_by_small_plans(small: Small):
    done = enforced(small)
    assert set(small.states()) == {LifecycleState.BACKUP_COMPLETE}
    assert max(len(plan.actions) for plan in small.plans) < BACKUPS + PAGE
    assert sum(len(plan.actions) for plan in small.plans) == FILES
    # Told as what it is, one order: all that was due, and what came of it.
    (total,) = done.plan.totals
    assert (total.verb, total.guard, total.files) == (Verb.BACKUP, "", FILES)
    (outcome,) = done.outcomes
    assert (outcome.report.completed, outcome.report.by_verb) == (FILES, {"backup": FILES})
    assert not small.estate.plan().actions


def test_what_waits_for_a_person_is_backed_up_by_small_plans_meanwhile(small: Small):
    years_later(small.estate)
    done = enforced(small)
    assert max(len(plan.actions) for plan in small.plans) < BACKUPS + PAGE
    assert sum(outcome.report.completed for outcome in done.outcomes) == FILES
    assert set(small.states()) == {LifecycleState.BACKUP_COMPLETE}
    (total,) = enforced(small).plan.totals
    # More of them than the plan has room for.
    assert (total.verb, total.guard, total.files) == (Verb.DELETE, "mass", FILES)


def test_a_root_that_failed_is_left_for_the_next_time(small: Small, monkeypatch):
    before = small.apply

    def fails(engine, plan: Plan, how: How) -> list[RootOutcome]:
        (outcome,) = before(engine, plan, how)
        return [RootOutcome(outcome.repository, outcome.report, StorageFullError("is full"))]

    monkeypatch.setattr(enforcing, "apply", fails)
    done = enforced(small)
    acted = [plan for plan in small.plans if plan.actions]
    assert len(acted) == 1
    (outcome,) = done.outcomes
    assert isinstance(outcome.error, StorageFullError)
    assert outcome.report.completed == len(acted[0].actions)


def test_rules_that_change_meanwhile_count(small: Small, monkeypatch):
    before = small.apply
    engine = small.estate.engine

    def changes(of_it, plan: Plan, how: How) -> list[RootOutcome]:
        done = before(of_it, plan, how)
        if len(small.plans) == 1:
            engine.statements.put_policy(LifecyclePolicy("new", backup_frequency_hours=1))
        return done

    monkeypatch.setattr(enforcing, "apply", changes)
    enforced(small)
    assert set(small.states()) == {LifecycleState.BACKUP_COMPLETE}
    assert len({plan.policies_hash for plan in small.plans}) == 2


def test_backups_by_several_rules_are_one_order(tmp_path: Path):
    estate = Estate(tmp_path)
    for name in ("a.txt", "b.jpg", "c.zip", "d.bin"):
        estate.file(name)
    estate.ready()
    estate.later(0.1)
    (outcome,) = enforce(estate.engine, [estate.repository], How()).outcomes
    assert outcome.report.completed == 4
    orders = estate.engine.registry.acts(estate.repository.repository_id, 10)
    assert [it.verb for it in orders] == ["backup"]
    estate.engine.close()
