"""What is to happen to files: due dates kept up to date, plans made, single files explained.

Making a plan writes nothing at all: what changed since the dates were last decided is judged on the
way. `settle` writes the dates down, so that the next plan reads only what is due.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_SECOND, Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.decide import guards
from lifecycle_sync.decide.choice import Considered, Rules
from lifecycle_sync.decide.copies import CopyPlace, places_of
from lifecycle_sync.decide.dates import Dates, dates_of
from lifecycle_sync.decide.planning import (
    ACTIONS_MAX,
    MASS,
    Root,
    Situation,
    backups,
    decide,
    judge,
    plan,
)
from lifecycle_sync.model.file import Tracking
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.model.plan import (
    DESTRUCTIVE,
    Action,
    Decided,
    Kept,
    MarkedKind,
    Plan,
    Subject,
    Unkept,
    Verb,
    VersionMark,
)
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.clock_doubt import ClockDoubt
from lifecycle_sync.service.order import pause_words
from lifecycle_sync.service.proof import Proof
from lifecycle_sync.service.retaining import (
    VERSIONS_MAX,
    Found,
    Retained,
    Retaining,
    kinds_of,
    retained,
)
from lifecycle_sync.service.root_facts import RootFacts
from lifecycle_sync.service.roots import Roots
from lifecycle_sync.service.space import Space

_PAGE = 2_000
# Of the files that are next by their dates so many are asked what will happen.
_NEXT = 10
# And of those that are due by now, whether they only have to grow older.
_YOUNG = 100
YOUNG = "young"


@dataclass(frozen=True)
class Explanation:
    """Why what happens to a file happens: every rule that was asked, in order, the dates of the one
    that won, the verdict now, and what holds the file. `versions` are those of it in the backup
    vault, the newest first, each with what keeps it; `copies` are those of the vaults, and whether
    versions of it go there."""

    file: Subject
    considered: tuple[Considered, ...]
    policy: LifecyclePolicy
    dates: Dates
    verdict: Action | Kept
    coming: Action | None
    holds: tuple[Hold, ...]
    root: Root
    versions: tuple[Retained, ...] = ()
    copies: tuple[CopyPlace, ...] = ()


class Decisions:
    """The decisions on one registry. Thread-safe."""

    def __init__(
        self,
        registry: Registry,
        roots: Roots,
        space: Space,
        proof: Proof,
        clock_doubt: ClockDoubt,
        *,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._root_facts = RootFacts(registry, roots, space)
        self._proof = proof
        self._clock_doubt = clock_doubt
        self._settings = settings
        self._clock = clock
        self._retaining = Retaining(registry)

    # -- dates -----------------------------------------------------------------------------

    def settle(self, cancel: CancelToken | None = None) -> int:
        """Write down the policy and the dates of what changed since, and of what was due and led to
        nothing; how many records that were."""
        count = self.settle_changed(cancel)
        rules = Rules(self._registry.policies())
        now_ns = self._clock.now_ns()
        after: tuple[int, int] | None = None
        while True:
            due, after = self._registry.due(now_ns, after, _PAGE)
            anew = [decide(file, rules, now_ns) for file in due]
            changed = [
                (it, file)
                for it, file in zip(anew, due, strict=True)
                if (it.policy_name, it.expiry_ns, it.next_due_ns)
                != (file.governed_by, file.expiry_ns, file.next_due_ns)
            ]
            if changed:
                files = [file for _it, file in changed]
                decided = [it for it, _file in changed]
                self._write_down(files, decided, rules, now_ns, all_before=False)
                count += len(changed)
            if after is None:
                return count

    def settle_changed(self, cancel: CancelToken | None = None) -> int:
        """Write down the policy and the dates of what changed since; how many records that were."""
        rules = Rules(self._registry.policies())
        now_ns = self._clock.now_ns()
        count = 0
        while page := self._registry.undecided(None, _PAGE):
            if cancel is not None:
                cancel.check()
            self._write_down(page, [decide(file, rules, now_ns) for file in page], rules, now_ns)
            count += len(page)
        return count

    def _write_down(
        self,
        files: Sequence[Subject],
        decided: Sequence[Decided],
        rules: Rules,
        now_ns: int,
        *,
        all_before: bool = True,
    ) -> None:
        """Write what was decided about files, with the marks of their versions before it;
        `all_before`: nothing up to the last of them is undecided then."""
        last: list[VersionMark] = []
        for marks in self._retaining.marks(files, rules, now_ns):
            if last:
                self._registry.write_decided([], None, last)
            last = marks
        self._registry.write_decided(decided, files[-1].seq if all_before else None, last)

    # -- plans -----------------------------------------------------------------------------

    def plan(
        self,
        repositories: Sequence[Repository] | None = None,
        *,
        at_ns: int | None = None,
        actions_max: int = ACTIONS_MAX,
        cancel: CancelToken | None = None,
    ) -> Plan:
        """All that is to be done, in these roots or all, at a time, by default now. Changes
        nothing."""
        now_ns = self._clock.now_ns()
        at_ns = now_ns if at_ns is None else at_ns
        policies = self._registry.policies()
        held: dict[bytes, str] = {}
        unproven: dict[bytes, str] = {}
        roots = self._root_facts.of(repositories, now_ns, at_ns)
        situation = self._situation(policies, roots, at_ns, held, unproven)
        seq = self._registry.last_seq()
        beyond = Found(min(actions_max, VERSIONS_MAX))
        cancel = cancel or CancelToken()

        def candidates() -> Iterator[Subject]:
            """What may be due: by its date, or because it changed since that was written."""
            for page in self._pages(at_ns):
                cancel.check()
                mine = self._look_up(page, situation, held, unproven)
                self._retaining.add(mine, situation, held, beyond)
                yield from mine

        made = plan(
            candidates(),
            situation,
            registry_id=self._registry.registry_id,
            seq=seq,
            made_ns=now_ns,
            policies_hash=hash_of(policies),
            actions_max=actions_max,
        )
        self._retaining.add_marked(situation, beyond, cancel)
        versions = sorted(beyond.versions, key=lambda it: (roots[it.repository_id].path, it.path))
        return replace(made, versions=tuple(versions), more_versions=beyond.more)

    def backups(
        self, whole: Plan, files_min: int, cancel: CancelToken | None = None
    ) -> Iterator[Plan]:
        """What is to be backed up of a plan that has no room for all of it: plans of some more than
        `files_min` files, each made when it is asked for, over one look at what is due. Ends early
        where the rules have changed since. What is not settled is left out. Changes nothing."""
        cancel = cancel or CancelToken()
        held: dict[bytes, str] = {}
        unproven: dict[bytes, str] = {}
        # What waits because a root has too many deletions is not left without a copy meanwhile.
        massed = {it.repository_id: it.waits for it in whole.roots if it.guard == MASS}
        after: tuple[int, int] | None = None
        more = True
        while more:
            policies, now_ns = self._registry.policies(), self._clock.now_ns()
            if hash_of(policies) != whole.policies_hash:
                return
            known = [self._registry.repository(it.repository_id) for it in whole.roots]
            roots = {
                key: replace(root, mass=massed.get(key, ""))
                for key, root in self._root_facts.of(
                    list(filter(None, known)), now_ns, now_ns
                ).items()
            }
            situation = self._situation(policies, roots, now_ns, held, unproven)
            seq = self._registry.last_seq()
            actions: list[Action] = []
            while more and len(actions) < files_min:
                cancel.check()
                page, after = self._registry.due(whole.at_ns, after, _PAGE)
                more = after is not None
                actions += backups(self._look_up(page, situation, held, unproven), situation)
            actions.sort(key=lambda it: (roots[it.repository_id].path, it.path))
            yield replace(
                whole,
                seq=seq,
                made_ns=now_ns,
                actions=tuple(actions),
                more=0,
                kept=(),
                versions=(),
                totals=(),
            )
            del actions

    def alike(self) -> tuple[list[bytes], list[MarkedKind]]:
        """What can be given up without a look at any single file: the roots against which nothing
        stands, and the kinds of files of which one rule keeps the newest versions. Judged now."""
        now_ns = self._clock.now_ns()
        roots = self._root_facts.of(None, now_ns, now_ns)
        rules = Rules(self._registry.policies())
        return [root_id for root_id, it in roots.items() if not it.guard], kinds_of(rules)

    def unkept(self, cancel: CancelToken | None = None) -> Iterator[list[Unkept]]:
        """The versions that no rule keeps, judged now, page by page: of each file all, with what
        stands against it that they go, the guard of their root before all. Changes nothing."""
        now_ns = self._clock.now_ns()
        roots = self._root_facts.of(None, now_ns, now_ns)
        situation = Situation(Rules(self._registry.policies()), roots, now_ns)
        return self._retaining.unkept(situation, cancel or CancelToken())

    def _situation(
        self,
        policies: Sequence[LifecyclePolicy],
        roots: Mapping[bytes, Root],
        at_ns: int,
        held: dict[bytes, str],
        unproven: dict[bytes, str],
    ) -> Situation:
        return Situation(
            Rules(policies),
            roots,
            at_ns,
            held,
            paused=self._paused(),
            clock=self._clock_doubt.reason(),
            min_age_ns=self._min_age_ns,
            unproven=unproven,
        )

    def _look_up(
        self,
        page: Sequence[Subject],
        situation: Situation,
        held: dict[bytes, str],
        unproven: dict[bytes, str],
    ) -> list[Subject]:
        """Those of a page that are in these roots; what holds them is in `held` and `unproven`."""
        mine = [file for file in page if file.repository_id in situation.roots]
        held.clear()
        held.update(self._registry.held([file.file_id for file in mine], situation.at_ns))
        unproven.clear()
        unproven.update(self._proof.unproven(mine, situation.rules, situation.at_ns))
        return mine

    def _pages(self, at_ns: int) -> Iterator[list[Subject]]:
        after: tuple[int, int] | None = None
        while True:
            page, after = self._registry.due(at_ns, after, _PAGE)
            yield page
            if after is None:
                break
        last: int | None = None
        while page := self._registry.undecided(last, _PAGE):
            last = page[-1].seq
            yield [file for file in page if file.tracking == Tracking.TRACKED.value]

    def _paused(self) -> str:
        paused = self._registry.switch("pause")
        return "" if paused is None else pause_words(paused)

    # -- what stands against it now ---------------------------------------------------------

    def barred(self, repository: Repository, deletions: int) -> dict[Verb, str]:
        """What may not be done in a root now, and why, by the guards that may have come up since a
        plan was made; `deletions` are to be done."""
        now_ns = self._clock.now_ns()
        root = self._root_facts.of_one(repository, now_ns, now_ns)
        clock = self._clock_doubt.reason()
        why = ""
        if clock:
            why = f"clock: {clock}"
        elif not root.enforce:
            why = "advice: its root only advises"
        barred = dict.fromkeys(DESTRUCTIVE, why) if why else {}
        mass = guards.mass(deletions, root.deleted, root.files, root.confirmed)
        if not mass.passed:
            barred.setdefault(Verb.DELETE, f"{mass.guard}: {mass.reason}")
        return barred

    # -- what comes next ------------------------------------------------------------------

    def upcoming(self) -> Action | None:
        """What happens next by the dates that are known, as things are; None where nothing will.
        Of what is due already and waits only that which has to grow older is it."""
        young = self._growing()
        if young is not None:
            return young
        after: tuple[int, int] | None = (self._clock.now_ns(), 2**62)
        while after is not None:
            page, after = self._registry.due(2**63 - 1, after, _NEXT)
            for file in page:
                coming = self.explain(file.file_id).coming
                if coming is not None:
                    return coming
            if page:
                return None
        return None

    def _growing(self) -> Action | None:
        """The first of what is due and only too young to be touched, at the time when it is not any
        more."""
        now_ns = self._clock.now_ns()
        page, _after = self._registry.due(now_ns, None, _YOUNG)
        found: list[Action] = []
        for it in self.explain_all([file.file_id for file in page]):
            until_ns = max(it.file.mtime_ns, it.file.ctime_ns) + self._min_age_ns
            if isinstance(it.verdict, Action) and it.verdict.guard == YOUNG and it.root.scanned:
                found.append(replace(it.verdict, due_ns=until_ns, guard="", waits=""))
        return min(found, key=lambda action: action.due_ns, default=None)

    @property
    def _min_age_ns(self) -> int:
        return self._settings.min_age_seconds * NS_PER_SECOND

    # -- one file --------------------------------------------------------------------------

    def explain(self, file_id: bytes, *, at_ns: int | None = None) -> Explanation:
        """Why what happens to a file happens. Raises `KeyError` for one that is not known."""
        return next(self.explain_all([file_id], at_ns=at_ns))

    def explain_all(
        self, file_ids: Sequence[bytes], *, at_ns: int | None = None
    ) -> Iterator[Explanation]:
        """The same for many files, in their order; what concerns them all is read once. Raises
        `KeyError`."""
        now_ns = self._clock.now_ns()
        at_ns = now_ns if at_ns is None else at_ns
        roots: dict[bytes, Root] = {}
        counted: set[bytes] = set()
        held: dict[bytes, str] = {}
        unproven: dict[bytes, str] = {}
        situation = self._situation(self._registry.policies(), roots, at_ns, held, unproven)
        settings = self._settings
        copies = list(map(os.fspath, (*settings.backup_copies, *settings.archive_copies)))
        for start in range(0, len(file_ids), _PAGE):
            page = file_ids[start : start + _PAGE]
            subjects = self._registry.subjects(page)
            held.clear()
            held.update(self._registry.held(page, at_ns))
            unproven.clear()
            unproven.update(self._proof.unproven(subjects.values(), situation.rules, at_ns))
            versions = self._retaining.of(list(subjects.values()))
            held_now = held if at_ns == now_ns else self._registry.held(page, now_ns)
            for file_id in page:
                file = subjects[file_id]
                root_id = file.repository_id
                if root_id not in roots:
                    repository = self._registry.repository(root_id)
                    assert repository is not None, "a record has its repository"
                    roots[root_id] = self._root_facts.of_one(repository, now_ns, at_ns)
                verdict = judge(file, situation)
                deleted = verdict.verb is Verb.DELETE and not verdict.guard
                if deleted and root_id not in counted:
                    # It may have to wait because so many others are due with it.
                    counted.add(root_id)
                    roots[root_id] = replace(roots[root_id], mass=self._mass(root_id, at_ns))
                    verdict = judge(file, situation)
                policy = situation.rules.choose(file, at_ns)
                yield Explanation(
                    file=file,
                    considered=tuple(situation.rules.consider(file, at_ns)),
                    policy=policy,
                    dates=dates_of(file, policy),
                    verdict=verdict,
                    coming=_coming(file, verdict, situation),
                    holds=tuple(self._registry.holds(file_id, now_ns))
                    if file_id in held_now
                    else (),
                    root=roots[root_id],
                    versions=retained(file, versions.get(file_id, ()), situation),
                    copies=tuple(places_of(policy, copies, held=file_id in held_now)),
                )

    def _mass(self, repository_id: bytes, at_ns: int) -> str:
        """How *mass* stands against the deletions that are due in a root; empty where not."""
        repository = self._registry.repository(repository_id)
        assert repository is not None, "a record has its repository"
        (root,) = self.plan([repository], at_ns=at_ns, actions_max=0).roots
        return root.waits if root.guard == MASS else ""


def _coming(file: Subject, verdict: Action | Kept, situation: Situation) -> Action | None:
    """What happens at the next date, as things are."""
    if isinstance(verdict, Action) or verdict.next_ns is None:
        return None
    then = Situation(
        situation.rules, situation.roots, verdict.next_ns, situation.held, min_age_ns=0
    )
    later = judge(file, then)
    return later if isinstance(later, Action) else None


def hash_of(policies: Sequence[LifecyclePolicy]) -> str:
    """What tells one set of rules from another."""
    text = json.dumps([asdict(policy) for policy in policies], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
