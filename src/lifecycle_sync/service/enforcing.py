"""Policies enforced in roots: dates settled, a plan made, and what of it may be done, done.

Each round plans anew and does what the plan says; what waits (advice, a guard, a hold) stays in the
plan for people to see. A round follows another only while there is more than one plan can hold.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from lifecycle_sync.model.plan import Action, Plan, Verb
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.act_orders import How, RootOutcome
from lifecycle_sync.service.applying import apply
from lifecycle_sync.service.conflicts import resolve_conflicts
from lifecycle_sync.service.engine import Engine

BACKUPS = frozenset({Verb.BACKUP})
ALL = frozenset(Verb)


@dataclass
class Enforced:
    """What came of it: the first plan, and what was done, root by root."""

    plan: Plan
    outcomes: list[RootOutcome] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(outcome.report.completed for outcome in self.outcomes)


def enforce(
    engine: Engine,
    repositories: Sequence[Repository],
    how: How,
    *,
    verbs: Collection[Verb] = ALL,
) -> Enforced:
    """Resolve conflicts, and do what policies ask for in these roots. Raises `CancelledError`; what
    concerns one root is in its outcome."""
    # Backups alone take nothing away, and what waits for more is not theirs.
    resolved = resolve_conflicts(engine, repositories, how) if verbs != BACKUPS else []
    engine.decisions.settle(how.cancel)
    plan = engine.decisions.plan(repositories, cancel=how.cancel)
    enforced = Enforced(plan, resolved)
    while chosen := tuple(action for action in plan.actions if _may(action, verbs)):
        outcomes = apply(engine, replace(plan, actions=chosen), how)
        enforced.outcomes += outcomes
        engine.decisions.settle(how.cancel)
        done = sum(outcome.report.completed for outcome in outcomes)
        if not plan.more or not done:
            break
        # A full plan takes some 70 MB: this one goes before the next is made.
        del plan, chosen
        plan = engine.decisions.plan(repositories, cancel=how.cancel)
    return enforced


def _may(action: Action, verbs: Collection[Verb]) -> bool:
    return not action.guard and action.verb in verbs
