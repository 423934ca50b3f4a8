"""From records and rules to a Plan: what is due, why, and what stands against it.

Everything is given: nothing is read here, and the time is a parameter. Each file that is looked at
gets a verdict, an action or a reason to stay, and of several things that are due the one that ends
the others: a deletion before an archiving, then a backup, then the end of a retention.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from lifecycle_sync.decide import guards
from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.dates import BLOCKING_FLAGS, Dates, dates_of, next_of
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.plan import (
    DESTRUCTIVE,
    Action,
    Decided,
    Kept,
    Plan,
    RootPlan,
    Subject,
    Total,
    Verb,
)
from lifecycle_sync.model.policy import LifecyclePolicy

_TURNS = {Verb.ARCHIVE: "archiving it", Verb.EXPIRE: "its expiry", Verb.DELETE: "deleting it"}
_UNREADABLE = "it could not be read the last time"
NO_REASON = "no reason given"
# Actions of one plan; what is due beyond them is counted, and comes with the next.
ACTIONS_MAX = 100_000
MASS, PROOF = "mass", "proof"
# Different reasons of one total.
_REASONS = 100


@dataclass(frozen=True)
class Root:
    """What deciding needs to know of a root. `guard` and `waits` are what stands against it as a
    whole; `mass` says how the guard of that name stands against deletions, empty where not;
    `space` why room is needed on its disk."""

    repository_id: bytes
    path: bytes
    enforce: bool = True
    scanned: bool = True
    guard: str = ""
    waits: str = ""
    mass: str = ""
    files: int = 0
    deleted: int = 0
    confirmed: int = 0
    # Whether a reading leaves its time with a file.
    atime: bool = True
    space: str = ""


@dataclass(frozen=True)
class Situation:
    """What is the same for all files of one plan. `paused` and `clock` say why nothing may be taken
    away now; `held` gives the reason of the hold on a file, `unproven` what it lacks of the copies
    that its policy demands. `min_age_ns` is the *young* guard's."""

    rules: Rules
    roots: Mapping[bytes, Root]
    at_ns: int
    held: Mapping[bytes, str] = field(default_factory=dict)
    paused: str = ""
    clock: str = ""
    min_age_ns: int = guards.MIN_AGE_NS
    unproven: Mapping[bytes, str] = field(default_factory=dict)


def judge(file: Subject, situation: Situation) -> Action | Kept:
    """The verdict on one file at the time of the situation."""
    policy = situation.rules.choose(file, situation.at_ns)
    dates = dates_of(file, policy)
    verb, due_ns, reason = _due(file, policy, dates, situation.at_ns)
    if verb is None:
        changes_ns = situation.rules.changes_ns(file, situation.at_ns)
        return Kept(file.file_id, reason, next_of(dates, changes_ns))
    guard, waits = _against(file, policy, verb, situation)
    backup_ns = dates.backup_ns
    if guard and verb in DESTRUCTIVE and backup_ns is not None and backup_ns <= situation.at_ns:
        # What has to wait, perhaps for years, is not left without a copy meanwhile.
        against, _ = _against(file, policy, Verb.BACKUP, situation)
        if not against:
            reason = f"{_why_backup(file)}; {_TURNS[verb]} {_waits(guard)}"
            verb, due_ns, guard, waits = Verb.BACKUP, backup_ns, "", ""
    return Action(
        verb=verb,
        file_id=file.file_id,
        repository_id=file.repository_id,
        path=file.path,
        policy_name=policy.name,
        reason=reason,
        due_ns=due_ns,
        size=file.size,
        fingerprint=file.fingerprint,
        checksum=None if file.hash_due else file.checksum,
        state=file.state,
        guard=guard,
        waits=waits,
    )


def _waits(guard: str) -> str:
    return f"waits ({guard})"


def waits_for(action: Action, guard: str) -> bool:
    """Whether a guard holds what is due: the action itself, or what it is done instead of."""
    return action.guard == guard or action.reason.endswith(_waits(guard))


def decide(file: Subject, rules: Rules, now_ns: int) -> Decided:
    """What is written back about a record: its policy and its dates, as they are at a time."""
    policy = rules.choose(file, now_ns)
    dates = dates_of(file, policy)
    return Decided(
        file.row_id,
        file.seq,
        policy.name,
        dates.retention_ns,
        next_of(dates, rules.changes_ns(file, now_ns)),
    )


def _due(
    file: Subject, policy: LifecyclePolicy, dates: Dates, at_ns: int
) -> tuple[Verb | None, int, str]:
    """What is due, since when, and why; with None, why nothing is."""
    if dates.delete_ns is not None and dates.delete_ns <= at_ns:
        return (
            Verb.DELETE,
            dates.delete_ns,
            f"{_days(policy.delete_after_days)} old: its time is over",
        )
    if dates.archive_ns is not None and dates.archive_ns <= at_ns:
        return Verb.ARCHIVE, dates.archive_ns, f"{_days(policy.archive_after_days)} old"
    if dates.backup_ns is not None and dates.backup_ns <= at_ns:
        return Verb.BACKUP, dates.backup_ns, _why_backup(file)
    if dates.expire_ns is not None and dates.expire_ns <= at_ns:
        return (
            Verb.EXPIRE,
            dates.expire_ns,
            f"its retention of {_days(policy.retention_days)} is over",
        )
    return None, 0, _why_not(file, policy, dates)


def _why_backup(file: Subject) -> str:
    why = "never backed up" if file.last_version_ns is None else "changed since its last backup"
    return f"{why}; {_UNREADABLE}" if file.flags & FileFlag.UNREADABLE else why


def could_not_be_read(action: Action) -> bool:
    """Whether a backup is due of a file that could not be read the last time."""
    return action.verb is Verb.BACKUP and _UNREADABLE in action.reason


def _why_not(file: Subject, policy: LifecyclePolicy, dates: Dates) -> str:
    if file.state is LifecycleState.DELETED:
        return "it is gone"
    if file.missing:
        return "it was not found by the last scan"
    if file.state is LifecycleState.EXPIRED:
        return f"its retention is over, and {policy.name} deletes nothing by itself"
    if file.state is LifecycleState.PROCESSING:
        return "it is being worked on"
    if next_of(dates, None) is None:
        return f"{policy.name} asks for nothing more"
    return "nothing is due yet"


def _against(
    file: Subject, policy: LifecyclePolicy, verb: Verb, situation: Situation
) -> tuple[str, str]:
    """The first guard that stands against an action, and how."""
    root = situation.roots[file.repository_id]
    destructive = verb in DESTRUCTIVE
    if root.guard:
        return root.guard, root.waits
    if not root.scanned:
        return "young", "its root has not been looked at from end to end yet"
    if file.file_id in situation.held and destructive:
        return "hold", situation.held[file.file_id] or NO_REASON
    for flag, (name, waits) in BLOCKING_FLAGS.items():
        if file.flags & flag:
            return name, waits
    young = guards.young(file.mtime_ns, file.ctime_ns, situation.at_ns, situation.min_age_ns)
    if young and file.state is not LifecycleState.ARCHIVED:
        return "young", young
    if not destructive:
        return "", ""
    if situation.paused:
        return "pause", situation.paused
    if situation.clock:
        return "clock", situation.clock
    if policy.age_from == "accessed" and not root.atime:
        return "atime", "its filesystem does not record when files are read"
    if not root.enforce:
        return "advice", "its root only advises: `lifecycle enforce` lets policies act in it"
    if verb is Verb.DELETE and file.file_id in situation.unproven:
        return PROOF, situation.unproven[file.file_id]
    if root.mass and verb is Verb.DELETE:
        return MASS, root.mass
    return "", ""


def plan(
    files: Iterable[Subject],
    situation: Situation,
    *,
    registry_id: bytes,
    seq: int,
    made_ns: int,
    policies_hash: str,
    actions_max: int = ACTIONS_MAX,
) -> Plan:
    """Judge all files, then each root as a whole: too many deletions at once wait for a person."""
    heaps: tuple[list[Action], ...] = ([], [], [])
    found = 0
    kept: Counter[str] = Counter()
    totals = _Totals()
    deletions: Counter[bytes] = Counter()
    # What is judged once more where its root turns out to have too many deletions.
    deleted: dict[bytes, Subject] = {}
    for file in files:
        verdict = judge(file, situation)
        if isinstance(verdict, Kept):
            kept[verdict.reason] += 1
            continue
        found += 1
        totals.add(verdict)
        heap = heaps[_heap(verdict)]
        if len(heap) < actions_max:
            heap.append(verdict)
        if verdict.verb is Verb.DELETE and not verdict.guard:
            deletions[verdict.repository_id] += 1
            if len(deleted) < actions_max:
                deleted[verdict.file_id] = file
    actions = [action for heap in heaps for action in heap][:actions_max]
    roots = []
    massed: dict[bytes, Root] = {}
    for root in situation.roots.values():
        mass = guards.mass(deletions[root.repository_id], root.deleted, root.files, root.confirmed)
        guard, waits = root.guard, root.waits
        if not guard and not mass.passed:
            guard, waits = mass.guard, mass.reason
            massed[root.repository_id] = replace(root, mass=mass.reason)
        roots.append(
            RootPlan(
                root.repository_id,
                root.path,
                root.enforce,
                root.files,
                root.deleted,
                deletions[root.repository_id],
                guard,
                waits,
                root.space,
            )
        )
    if massed:
        # Nothing is done, not even a little of it, until somebody has looked.
        anew = replace(situation, roots={**situation.roots, **massed})
        again = {
            file.file_id: _judged_anew(file, anew)
            for file in deleted.values()
            if file.repository_id in massed
        }
        actions = [again.get(action.file_id, action) for action in actions]
        for root in massed.values():
            totals.hold(
                root, [it for it in again.values() if it.repository_id == root.repository_id]
            )
    actions.sort(key=lambda it: (situation.roots[it.repository_id].path, it.path))
    return Plan(
        registry_id=registry_id,
        seq=seq,
        at_ns=situation.at_ns,
        made_ns=made_ns,
        policies_hash=policies_hash,
        roots=tuple(sorted(roots, key=lambda it: it.path)),
        actions=tuple(actions),
        more=found - len(actions),
        kept=tuple(sorted(kept.items())),
        totals=totals.all(),
    )


def backups(files: Iterable[Subject], situation: Situation) -> list[Action]:
    """The backups among what is due that may be made now. They take nothing away, so no root has to
    be judged as a whole for them."""
    verdicts = [judge(file, situation) for file in files]
    return [it for it in verdicts if it.verb is Verb.BACKUP and not it.guard]


class _Totals:
    """Counts what is due."""

    def __init__(self) -> None:
        self._files: Counter[tuple[bytes, Verb, str]] = Counter()
        self._waits: dict[tuple[bytes, Verb, str], set[str]] = {}

    def add(self, action: Action) -> None:
        key = action.repository_id, action.verb, action.guard
        self._files[key] += 1
        if action.guard:
            waits = self._waits.setdefault(key, set())
            if len(waits) < _REASONS:
                waits.add(action.waits)

    def hold(self, root: Root, again: Collection[Action]) -> None:
        """All deletions of a root wait, those that were judged `again` as they came out."""
        left = self._files.pop((root.repository_id, Verb.DELETE, ""), 0) - len(again)
        for action in again:
            self.add(action)
        if left:
            key = root.repository_id, Verb.DELETE, MASS
            self._files[key] += left
            self._waits.setdefault(key, set()).add(root.mass)

    def all(self) -> tuple[Total, ...]:
        return tuple(
            Total(*key, count, frozenset(self._waits.get(key, ())))
            for key, count in sorted(self._files.items())
        )


def _heap(action: Action) -> int:
    """In which order actions find room in a plan: what waits, perhaps for years, must not keep what
    can be done out of it, and what takes files away (which may have to wait) not a backup."""
    if action.guard:
        return 2
    return 1 if action.verb in DESTRUCTIVE else 0


def _judged_anew(file: Subject, situation: Situation) -> Action:
    verdict = judge(file, situation)
    assert isinstance(verdict, Action), "it is as due as before"
    return verdict


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days:,} days"
