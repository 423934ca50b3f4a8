"""Days in the life of a root in which policies act: each evening everything is explained for the
next day, and whatever happens then must be in the day's plan and must have been named the evening
before.

The clock of the registry is the simulation's own; files are real. What the simulation itself knows
of every file (its content, when it was written and found, and whether it is held) is kept apart
from the registry, so that it can say where its bytes have to be.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lifecycle_sync.clock import NS_PER_DAY, NS_PER_SECOND, FixedClock
from lifecycle_sync.decide.planning import MASS, waits_for
from lifecycle_sync.model.file import FileRecord, FileType
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.model.plan import DESTRUCTIVE, Action, Kept, Plan, Verb
from lifecycle_sync.model.policy import AgeFrom, LifecyclePolicy, Match, faults_of
from lifecycle_sync.service import guarding
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.applying import apply
from lifecycle_sync.service.decisions import Explanation
from tests.support.house import House

# Readings are those of the machine, and not of the simulation.
_AGES = [it for it in AgeFrom if it is not AgeFrom.ACCESSED]
_SUFFIXES = (".txt", ".pdf", ".jpg", ".mp3", ".zip", ".bin")
_FOLDERS = 40
# Of files that nothing is due for, so many are asked each evening whether that stays so.
_SAMPLE = 50
# What changes in a day is chosen among so many.
_CHOICE = 20
# So many of all that is explained at once are asked about alone, too.
_SINGLY = 3
_ACTS = frozenset(verb.value for verb in Verb)
_MANY = 1_000_000


class MispredictionError(AssertionError):
    """Something happened that nobody had been told of, or bytes are not where they have to be."""


@dataclass
class _Known:
    """What the simulation itself knows of a file that it made. Times are of its clock."""

    content: bytes
    written_ns: int
    found_ns: int
    downloaded_ns: int | None = None


@dataclass
class Tally:
    """What a simulation came to."""

    days: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    explained: int = 0

    def __str__(self) -> str:
        acts = ", ".join(f"{count:,} {verb}" for verb, count in sorted(self.acts.items()))
        held = ", ".join(f"{count:,} {guard}" for guard, count in sorted(self.waiting.items()))
        return (
            f"{self.days} days, {self.explained:,} explanations; done: {acts or 'nothing'};"
            f" held: {held or 'nothing'}"
        )


class Simulation:
    """One root with `files` files, and what `seed` makes happen to it."""

    def __init__(self, base: Path, *, seed: int, files: int) -> None:
        self.random = random.Random(seed)
        self.clock = FixedClock(time.time_ns())
        self.house = House(base, clock=self.clock, calculate_hashes=seed % 3 != 0)
        self.tally = Tally()
        self._files: dict[str, _Known] = {}
        self._holds: dict[str, Hold] = {}
        self._serial = 0
        self._agreed = False
        self._last: bytes | None = None
        for _ in range(files):
            self._new_file()
        self._root = self.house.engine.add_root(self.house.root, enforce=True).repository
        for number in range(self.random.randint(2, 6)):
            self._put_policy(f"random-{number}")
        self._observe()

    def close(self) -> None:
        self.house.engine.close()

    def run(self, days: int) -> Tally:
        """Raises `MispredictionError`."""
        for _ in range(days):
            self._change_the_world()
            self._observe()
            told = self._explain_tomorrow()
            self.clock.advance(86_400)
            self._one_day(told)
            self.tally.days += 1
        self._check_bytes()
        return self.tally

    # -- what people and applications do ---------------------------------------------------

    def _change_the_world(self) -> None:
        rng, there = self.random, self._some_there(_CHOICE)
        for path in rng.sample(there, min(len(there), rng.randint(0, 4))):
            self._write(path)
        for path in rng.sample(there, min(len(there), rng.randint(0, 2))):
            if path not in self._holds:
                os.remove(self.house.path(path))
                del self._files[path]
        there = [path for path in there if path in self._files]
        for _ in range(rng.randint(0, 4)):
            self._new_file()
        if rng.random() < 0.2:
            self._put_policy(f"random-{rng.randrange(6)}")
        if there and rng.random() < 0.3:
            self._hold(rng.choice(there))
        if self._holds and rng.random() < 0.2:
            self._release(rng.choice(sorted(self._holds)))
        if there and rng.random() < 0.3:
            self._assign(rng.choice(there))
        if there and rng.random() < 0.5:
            self._download(rng.choice(there))
        statements = self.house.engine.statements
        if rng.random() < 0.05:
            statements.pause("a test of patience")
        elif rng.random() < 0.5:
            statements.resume()

    def _some_there(self, number: int) -> list[str]:
        """So many of the files that lie at their places, as far as there are."""
        chosen: list[str] = []
        for path in self.random.sample(list(self._files), len(self._files)):
            if len(chosen) == number:
                break
            if self._lies_there(path):
                chosen.append(path)
        return chosen

    def _lies_there(self, path: str) -> bool:
        return os.path.lexists(self.house.path(path))

    def _new_file(self) -> None:
        self._serial += 1
        suffix = self.random.choice(_SUFFIXES)
        self._write(f"{self._serial % _FOLDERS:02}/{self._serial}{suffix}")

    def _write(self, path: str) -> None:
        """Written now, or with a time that lies in the past, as a copy that keeps times does."""
        content = b"%d of %s" % (self.random.randrange(10**9), path.encode())
        where = self.house.write(path, content)
        age_days = self.random.choice([0, 0, 0, self.random.uniform(0, 200)])
        now_ns = self.clock.now_ns()
        at_ns = now_ns - int(age_days * NS_PER_DAY)
        os.utime(where, ns=(at_ns, at_ns))
        before = self._files.get(path)
        if before is None:
            self._files[path] = _Known(content, at_ns, now_ns)
        else:
            before.content, before.written_ns = content, at_ns

    def _put_policy(self, name: str) -> None:
        rng = self.random
        while True:
            archive, delete = rng.randint(0, 60), rng.randint(0, 90)
            policy = LifecyclePolicy(
                name,
                rng.sample(list(FileType), rng.randint(1, 3)),
                retention_days=rng.randint(0, 60),
                archive_after_days=archive,
                delete_after_days=delete,
                backup_frequency_hours=rng.choice([0, 6, 24, 100]),
                auto_archive=rng.random() < 0.6,
                auto_delete=rng.random() < 0.6,
                max_versions=rng.randint(1, 5),
                match=Match(
                    [f"*/{rng.randrange(4)}?/*"] if rng.random() < 0.5 else [],
                    older_than_days=rng.choice([0, 0, 10, 40]),
                ),
                age_from=rng.choice(_AGES),
                grace_days=rng.choice([1, 7, 30]),
            )
            if not faults_of(policy):
                self.house.engine.statements.put_policy(policy)
                return

    def _hold(self, path: str) -> None:
        if path not in self._holds:
            query = os.fspath(self.house.root / path)
            self._holds[path] = self.house.engine.statements.hold(query=query, reason="a test")

    def _release(self, path: str) -> None:
        self.house.engine.statements.release(self._holds.pop(path))

    def _assign(self, path: str) -> None:
        record = self._record(path)
        if record is not None:
            names = [policy.name for policy in self.house.engine.statements.policies()]
            name = self.random.choice([None, *names])
            self.house.engine.statements.assign(record.file_id, name)

    def _download(self, path: str) -> None:
        record = self._record(path)
        if record is not None:
            self._files[path].downloaded_ns = self.clock.now_ns()
            self.house.engine.registry.note_download(
                record.file_id, self.clock.now_ns(), self.clock.now_ns()
            )

    def _record(self, path: str) -> FileRecord | None:
        engine = self.house.engine
        return engine.registry.file_at(self._root.repository_id, path.encode())

    # -- what the machine does ---------------------------------------------------------------

    def _observe(self) -> None:
        engine = self.house.engine
        (report,) = engine.sync([self.house.repository])
        assert report.error is None and report.verdict is None, report
        engine.decisions.settle()

    def _explain_tomorrow(self) -> dict[bytes, Action | Kept]:
        """What every file that may be due is told for tomorrow, and some for which nothing is."""
        decisions = self.house.engine.decisions
        at_ns = self.clock.now_ns() + NS_PER_DAY
        ids = {action.file_id for action in decisions.plan(at_ns=at_ns).actions}
        for path in self.random.sample(list(self._files), min(len(self._files), _SAMPLE)):
            record = self._record(path)
            if record is not None:
                ids.add(record.file_id)
        told: dict[bytes, Action | Kept] = {}
        asked = sorted(ids)
        for tomorrow in decisions.explain_all(asked, at_ns=at_ns):
            told[tomorrow.file.file_id] = tomorrow.verdict
        for tonight in decisions.explain_all(asked):
            self._check_dates(tonight, told[tonight.file.file_id], at_ns)
        # One by one is the same.
        for file_id in self.random.sample(asked, min(len(asked), _SINGLY)):
            if decisions.explain(file_id, at_ns=at_ns).verdict != told[file_id]:
                raise MispredictionError(f"asked alone, it says something else: {told[file_id]}")
        self.tally.explained += len(told)
        return told

    def _check_dates(self, tonight: Explanation, tomorrow: Action | Kept, at_ns: int) -> None:
        """What is said tonight of the days to come agrees with what is said for tomorrow."""
        verdict = tonight.verdict
        if isinstance(verdict, Action) or isinstance(tomorrow, Kept):
            return
        if verdict.next_ns is None or verdict.next_ns > at_ns:
            raise MispredictionError(
                f"{tomorrow.path!r}: {tomorrow.verb} tomorrow, and tonight it says {verdict}"
            )

    def _one_day(self, told: dict[bytes, Action | Kept]) -> None:
        engine = self.house.engine
        before = self.clock.now_ns()
        last = self._last_operation()
        plan = engine.decisions.plan()
        # That a person will agree is nothing that can be told the evening before.
        self._agreed = self.random.random() < 0.7
        if self._agreed:
            plan = self._confirmed(plan)
        self.tally.waiting.update(action.guard for action in plan.actions if action.guard)
        for outcome in apply(engine, plan, How()):
            if outcome.error is not None and outcome.error.code != "guard":
                raise outcome.error
        engine.decisions.settle()
        assert self.clock.now_ns() == before
        self._check_acts(plan, told, last)
        for path in self._holds:
            if not self._lies_there(path):
                raise MispredictionError(f"{path}: was held, and is gone")

    def _confirmed(self, plan: Plan) -> Plan:
        """A person agrees to what the *mass* guard holds."""
        engine = self.house.engine
        held = guarding.waiting(engine)
        for it in held:
            guarding.confirm_waiting(engine, it)
        if not held:
            return plan
        return engine.decisions.plan()

    def _last_operation(self) -> bytes | None:
        """The newest row of the journal: what is done from now on comes after it."""
        registry = self.house.engine.registry
        while page := registry.journal(self._last, _MANY):
            self._last = page[-1].operation_id
        return self._last

    # -- what must hold ----------------------------------------------------------------------

    def _check_acts(self, plan: Plan, told: dict[bytes, Action | Kept], last: bytes | None) -> None:
        planned = {action.file_id: action for action in plan.actions if not action.guard}
        policies = {policy.name: policy for policy in self.house.engine.statements.policies()}
        for row in self.house.engine.registry.journal(last, _MANY, types=_ACTS):
            if row.status != "completed":
                continue
            action = planned.get(row.file_id)
            if action is None or action.verb.value != row.operation_type:
                raise MispredictionError(f"{row.operation_type} was not in the plan: {row}")
            expected = told.get(row.file_id)
            if not isinstance(expected, Action):
                raise MispredictionError(
                    f"{action.path!r}: {action.verb}, and the evening before: {expected}"
                )
            said = (expected.verb, expected.policy_name, expected.reason)
            if self._agreed and action.verb is Verb.DELETE and waits_for(expected, MASS):
                # It was told to wait for a person, perhaps backed up meanwhile; one has agreed.
                as_told = expected.policy_name == action.policy_name
            else:
                now = (action.verb, action.policy_name, action.reason)
                as_told = said == now and not expected.guard
            if not as_told:
                raise MispredictionError(
                    f"{action.path!r}: {action.verb} by {action.policy_name}, and the evening"
                    f" before: {expected}"
                )
            self._check_act(action, policies[action.policy_name])
            self.tally.acts[row.operation_type] += 1

    def _check_act(self, action: Action, policy: LifecyclePolicy) -> None:
        """By the simulation's own books: old enough, not held, and gone from its place or not."""
        path = os.fsdecode(action.path)
        if action.verb not in DESTRUCTIVE:
            return
        if path in self._holds:
            raise MispredictionError(f"{path}: {action.verb} though it is held")
        known = self._files[path]
        born = {
            AgeFrom.LATER: max(known.written_ns, known.found_ns),
            AgeFrom.MODIFIED: known.written_ns,
            AgeFrom.REGISTERED: known.found_ns,
            AgeFrom.DOWNLOADED: known.downloaded_ns,
        }[policy.age_from]
        if born is None:
            raise MispredictionError(f"{path}: {action.verb}, and it was never downloaded")
        days = {
            Verb.ARCHIVE: policy.archive_after_days if policy.auto_archive else 0,
            Verb.DELETE: policy.delete_after_days if policy.auto_delete else 0,
            Verb.EXPIRE: policy.retention_days,
        }[action.verb]
        # A second for the moment between a file's being written and found.
        age_ns = self.clock.now_ns() - born + NS_PER_SECOND
        if not days or age_ns < days * NS_PER_DAY:
            raise MispredictionError(f"{path}: {action.verb} at {age_ns / NS_PER_DAY:.2f} days")
        if self._lies_there(path) != (action.verb is Verb.EXPIRE):
            raise MispredictionError(f"{path}: {action.verb} left it where it should not be")

    def _check_bytes(self) -> None:
        """Every content is at its place, in the archive, or was deleted by a rule."""
        archived = {
            record.path: record.file_id
            for record in self.house.records().values()
            if record.state.value == "archived"
        }
        for path, known in self._files.items():
            where = self.house.path(path)
            if os.path.lexists(where):
                with open(where, "rb") as file:
                    if file.read() != known.content:
                        raise MispredictionError(f"{path}: holds other bytes")
            elif path.encode() in archived:
                self._check_archived(path, archived[path.encode()], known.content)

    def _check_archived(self, path: str, file_id: bytes, content: bytes) -> None:
        from lifecycle_sync.vault.vault import VaultKind

        vault = self.house.engine.vaults.get(VaultKind.ARCHIVE, create=False)
        version = next(vault.versions_of(file_id), None)
        if version is None or version.content is None:
            raise MispredictionError(f"{path}: the archive does not know it")
        if b"".join(vault.read(version.content)) != content:
            raise MispredictionError(f"{path}: the archive has other bytes")
