"""Policies enforced in roots: dates settled, a plan made, and what of it may be done, done.

Each round plans anew and does what the plan says; what waits (advice, a guard, a hold) is counted
for people to see. A round follows another only while there is more than one plan can hold. Of many
backups, as of a first one, small plans are made over one look at what is due: a plan of all of them
would be most of what is in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from lifecycle_sync.model.plan import Plan, Verb
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.act_orders import How, RootOutcome
from lifecycle_sync.service.applying import apply
from lifecycle_sync.service.conflicts import resolve_conflicts
from lifecycle_sync.service.engine import Engine

BACKUPS = frozenset({Verb.BACKUP})
ALL = frozenset(Verb)
# Acts of one plan: some 0.7 KB each. The first is most often all there is, and may be made right
# after an index, which leaves little room; and backups take memory of their own.
_ACTS_MAX = 50_000
_BACKUPS_MAX = 10_000


@dataclass
class Enforced:
    """What came of it: what the first plan counts (its acts are let go of), and what was done, root
    by root."""

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
    concerns one root is in its outcome, and nothing more is done there."""
    # Backups alone take nothing away, and what waits for more is not theirs.
    resolved = resolve_conflicts(engine, repositories, how) if verbs != BACKUPS else []
    engine.decisions.settle(how.cancel)
    plan = _plan(engine, repositories, how, _BACKUPS_MAX)
    enforced = Enforced(replace(plan, actions=(), versions=()), resolved)
    acted = _Acted(engine, how)
    if plan.more:
        # A full plan goes before the next is made.
        backups = Verb.BACKUP in verbs and _backups(plan) > _BACKUPS_MAX
        del plan
        if backups:
            _back_up(engine, enforced.plan, acted, how)
        plan = _plan(engine, repositories, how)
    while (chosen := acted.chosen(plan, verbs)).actions:
        done = acted.apply(chosen)
        engine.decisions.settle(how.cancel)
        if not plan.more or not done:
            break
        del plan, chosen
        plan = _plan(engine, repositories, how)
    enforced.outcomes += acted.outcomes.values()
    return enforced


def _back_up(engine: Engine, plan: Plan, acted: _Acted, how: How) -> None:
    """All the backups that a plan counts."""
    for part in engine.decisions.backups(plan, _BACKUPS_MAX, how.cancel):
        acted.apply(acted.chosen(part, BACKUPS))
        engine.decisions.settle_changed(how.cancel)
        del part


class _Acted:
    """What was done by several plans, one outcome a root."""

    def __init__(self, engine: Engine, how: How) -> None:
        self._engine = engine
        self._how = how
        self.outcomes: dict[bytes, RootOutcome] = {}

    def chosen(self, plan: Plan, verbs: Collection[Verb]) -> Plan:
        """What may be done of a plan. Where a root failed the rest is left for the next time."""
        failed = {key for key, outcome in self.outcomes.items() if outcome.error is not None}
        actions = [
            action
            for action in plan.actions
            if not action.guard and action.verb in verbs and action.repository_id not in failed
        ]
        return replace(plan, actions=tuple(actions))

    def apply(self, plan: Plan) -> int:
        """Do it; how many files that were."""
        done = 0
        if not plan.actions:
            return done
        for outcome in apply(self._engine, plan, self._how):
            done += outcome.report.completed
            key = outcome.repository.repository_id
            if key in self.outcomes:
                before = self.outcomes[key]
                before.report.join(outcome.report)
                outcome = replace(before, error=outcome.error)
            self.outcomes[key] = outcome
        return done


def _plan(engine: Engine, repositories: Sequence[Repository], how: How, acts_max: int = 0) -> Plan:
    acts_max = acts_max or _ACTS_MAX
    return engine.decisions.plan(repositories, actions_max=acts_max, cancel=how.cancel)


def _backups(plan: Plan) -> int:
    return sum(it.files for it in plan.totals if it.verb is Verb.BACKUP and not it.guard)
