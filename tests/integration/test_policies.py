"""Policies that act: planned, applied, held back, by a real engine on real files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.clock import NS_PER_DAY, FixedClock
from lifecycle_sync.errors import GuardError, PlanError, UsageError
from lifecycle_sync.model.file import FileType, LifecycleState
from lifecycle_sync.model.plan import DESTRUCTIVE, Action, Kept, Plan, Verb
from lifecycle_sync.model.policy import AgeFrom, KeepRules, LifecyclePolicy, Match
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.applying import apply
from lifecycle_sync.service.guarding import set_enforcement, waiting
from lifecycle_sync.service.plan_file import read_plan, write_plan
from tests.support.house import House

_S = LifecycleState


class Estate(House):
    """A root in which policies act, days after its files were written."""

    def __init__(self, base: Path, **options: Any) -> None:
        # Not before the ctimes of its files, which are the machine's.
        self.clock = FixedClock(time.time_ns())
        super().__init__(base, clock=self.clock)
        self.options = options

    def later(self, days: float) -> None:
        self.clock.advance(days * 86_400)

    def file(self, name: str, age_days: float = 0) -> None:
        """A file that was last written so many days ago, by the clock of the test."""
        path = self.write(name, name.encode() * 9)
        at_ns = self.clock.now_ns() - int(age_days * NS_PER_DAY)
        os.utime(path, ns=(at_ns, at_ns))

    def ready(self, **options: Any) -> None:
        """Everything indexed, the clock trusted, and old enough to be acted on."""
        self.engine.add_root(self.root, **{"enforce": True, **options})
        report = self.sync()
        assert report.scanned
        self.engine.decisions.settle()

    def plan(self, **how: Any) -> Plan:
        return self.engine.decisions.plan(**how)

    def due(self, **how: Any) -> dict[str, Verb]:
        """What would be done, by path."""
        return {os.fsdecode(it.path): it.verb for it in self.plan(**how).actions if not it.guard}

    def guards(self) -> set[str]:
        return {action.guard for action in self.plan().actions}

    def apply(self, plan: Plan | None = None) -> dict[str, int]:
        totals = {"completed": 0, "skipped": 0, "failed": 0}
        for outcome in apply(self.engine, plan or self.plan(), How()):
            assert outcome.error is None, outcome.error
            for name in totals:
                totals[name] += getattr(outcome.report, name)
        self.engine.decisions.settle()
        return totals

    def state(self, name: str) -> LifecycleState:
        return self.engine.find_record(os.fspath(self.root / name)).state

    def id(self, name: str) -> bytes:
        return self.engine.find_record(os.fspath(self.root / name)).file_id


# Its ctime is that of the machine, which no test can set: what must be old has aged by this.
FAR = 3_000


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    """Three years after its files came."""
    estate = Estate(tmp_path)
    for name in ("report.txt", "photo.jpg", "box.zip", "thing.bin"):
        estate.file(name)
    estate.ready()
    yield estate
    estate.engine.close()


def trusted(estate: Estate) -> None:
    """A person has looked at the clock."""
    estate.engine.clock_doubt.trust()
    estate.sync()
    estate.engine.decisions.settle()


def years_later(estate: Estate) -> None:
    # Registered long ago, as far as the registry knows.
    estate.later(FAR)
    trusted(estate)


def backed_up(estate: Estate) -> None:
    """There is a copy of everything: what has to wait is not backed up meanwhile, it waits."""
    estate.later(0.01)
    assert estate.apply()["failed"] == 0


def test_a_life_by_the_shipped_policies(estate: Estate):
    backup = Verb.BACKUP
    estate.later(0.01)
    assert estate.due() == dict.fromkeys(
        ("report.txt", "photo.jpg", "box.zip", "thing.bin"), backup
    )
    assert estate.apply()["completed"] == 4
    assert estate.due() == {}
    estate.later(90)
    trusted(estate)
    assert estate.due() == {"report.txt": Verb.ARCHIVE}
    estate.apply()
    assert estate.state("report.txt") is _S.ARCHIVED
    assert not (estate.root / "report.txt").exists()
    estate.later(90)
    trusted(estate)
    assert estate.due() == {"photo.jpg": Verb.ARCHIVE}
    estate.apply()
    estate.later(185)
    trusted(estate)
    assert estate.due() == {"report.txt": Verb.DELETE}
    estate.apply()
    assert estate.state("report.txt") is _S.DELETED
    estate.later(1825)
    trusted(estate)
    assert estate.due() == {"box.zip": Verb.EXPIRE}
    estate.apply()
    assert estate.state("box.zip") is _S.EXPIRED
    assert (estate.root / "box.zip").exists()
    assert (estate.root / "thing.bin").exists()
    assert estate.due() == {}


def test_a_plan_changes_nothing_at_all(estate: Estate):
    years_later(estate)
    before = {path: path.read_bytes() for path in estate.base.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in before}
    assert estate.plan().actions
    estate.engine.decisions.explain(estate.id("report.txt"))
    after = {path: path.read_bytes() for path in estate.base.rglob("*") if path.is_file()}
    assert after == before
    assert {path: path.stat().st_mtime_ns for path in after} == times


def test_planning_what_is_due_equals_planning_everything(estate: Estate):
    estate.engine.statements.put_policy(
        LifecyclePolicy("old", match=Match(["*.bin"], older_than_days=50), auto_archive=True,
                        archive_after_days=60)
    )  # fmt: skip
    for days in (0.01, 30, 60, 100, 400):
        estate.later(days)
        trusted(estate)
        by_date = estate.plan()
        # As if nothing had ever been decided.
        estate.engine.statements.put_policy(LifecyclePolicy("unused"))
        everything = estate.plan()
        assert [replace(it) for it in by_date.actions] == list(everything.actions)
        estate.engine.decisions.settle()
        estate.apply()


def test_a_root_that_only_advises_is_backed_up_and_nothing_else(tmp_path: Path):
    estate = Estate(tmp_path)
    estate.file("report.txt")
    estate.ready(enforce=False)
    estate.later(0.01)
    assert estate.apply()["completed"] == 1
    years_later(estate)
    assert estate.guards() == {"advice"}
    assert estate.apply()["completed"] == 0
    assert (estate.root / "report.txt").exists()
    estate.engine.close()


def test_what_waits_in_a_root_that_only_advises_has_a_copy(tmp_path: Path):
    estate = Estate(tmp_path)
    estate.file("report.txt")
    estate.ready(enforce=False)
    years_later(estate)
    assert estate.due() == {"report.txt": Verb.BACKUP}
    assert estate.apply()["completed"] == 1
    assert estate.guards() == {"advice"}
    assert (estate.root / "report.txt").exists()
    estate.engine.close()


def test_a_hold_beats_a_policy(estate: Estate):
    backed_up(estate)
    years_later(estate)
    hold = estate.engine.statements.hold(query=f"{estate.root}/report.txt", reason="a lawsuit")
    held = [it for it in estate.plan().actions if it.path == b"report.txt"]
    assert [(it.guard, it.waits) for it in held] == [("hold", "a lawsuit")]
    estate.apply()
    assert (estate.root / "report.txt").exists()
    estate.engine.statements.release(hold)
    assert estate.due()["report.txt"] is Verb.DELETE


def test_a_hold_set_after_the_plan_stops_it(estate: Estate):
    years_later(estate)
    plan = estate.plan()
    estate.engine.statements.hold(file_id=estate.id("report.txt"), reason="wait")
    estate.apply(plan)
    assert (estate.root / "report.txt").exists()


def test_a_pause_stops_what_takes_files_away_at_once(estate: Estate):
    backed_up(estate)
    years_later(estate)
    plan = estate.plan()
    estate.engine.statements.pause("moving house", "me")
    assert {it.guard for it in estate.plan().actions if it.verb in DESTRUCTIVE} == {"pause"}
    outcomes = apply(estate.engine, plan, How())
    assert isinstance(outcomes[0].error, GuardError)
    assert outcomes[0].error.guard == "pause"
    assert (estate.root / "report.txt").exists()
    assert estate.engine.statements.resume()
    assert estate.due(), "it goes on"


def test_a_clock_that_was_set_keeps_everything_until_somebody_has_looked(estate: Estate):
    backed_up(estate)
    estate.later(FAR)
    estate.sync()
    assert estate.guards() == {"clock"}
    estate.apply()
    assert (estate.root / "report.txt").exists()
    assert estate.engine.clock_doubt.trust()
    assert estate.due()["report.txt"] is Verb.DELETE


def test_many_deletions_wait_until_a_person_confirms_that_many(tmp_path: Path):
    estate = Estate(tmp_path)
    for n in range(50):
        estate.file(f"{n:02}.txt")
    estate.ready()
    years_later(estate)
    # There is no copy of them yet, and who knows when somebody confirms.
    assert set(estate.due().values()) == {Verb.BACKUP}
    explained = estate.engine.decisions.explain(estate.id("07.txt")).verdict
    assert explained.verb is Verb.BACKUP
    (held,) = waiting(estate.engine)
    assert (held.deletions, len(held.sample)) == (50, 20)
    assert estate.apply() == {"completed": 50, "skipped": 0, "failed": 0}
    plan = estate.plan()
    assert {action.guard for action in plan.actions} == {"mass"}
    explained = estate.engine.decisions.explain(estate.id("07.txt")).verdict
    assert isinstance(explained, Action)
    assert (explained.guard, explained.waits) == ("mass", plan.roots[0].waits)
    assert estate.apply(plan)["completed"] == 0
    estate.engine.statements.confirm(estate.repository.repository_id, "mass", '{"deletions":49}')
    assert {action.guard for action in estate.plan().actions} == {"mass"}
    estate.engine.statements.confirm(estate.repository.repository_id, "mass", '{"deletions":50}')
    assert estate.apply()["completed"] == 50
    estate.engine.close()


def test_what_is_asked_about_a_time_to_come_counts_the_deletions_of_the_day_before_it(
    tmp_path: Path,
):
    estate = Estate(tmp_path)
    for n in range(60):
        estate.file(f"{n:02}.txt", age_days=20 if n < 30 else 0)
    for n in range(40):
        estate.file(f"{n:02}.bin")
    mine = LifecyclePolicy(
        "mine", [FileType.DOCUMENT], auto_delete=True, delete_after_days=FAR,
        age_from=AgeFrom.MODIFIED, match=Match(),
    )  # fmt: skip
    estate.engine.statements.put_policy(mine)
    estate.ready()
    estate.later(FAR - 10)
    trusted(estate)
    assert estate.apply()["completed"] >= 30
    # Thirty and thirty would be too many for one day, and these are two.
    then = estate.clock.now_ns() + 11 * NS_PER_DAY
    files = [estate.id(f"{n:02}.txt") for n in range(30, 60)]
    told = [it.verdict for it in estate.engine.decisions.explain_all(files, at_ns=then)]
    assert {(it.verb, isinstance(it, Action) and it.guard) for it in told} == {(Verb.DELETE, "")}
    assert told == [estate.engine.decisions.explain(it, at_ns=then).verdict for it in files]
    estate.later(11)
    trusted(estate)
    assert set(estate.due().values()) == {Verb.DELETE}
    estate.engine.close()


def test_plans_that_are_small_enough_alone_and_not_together_stop_at_a_person(tmp_path: Path):
    estate = Estate(tmp_path)
    for n in range(60):
        estate.file(f"{n:02}.txt")
    for n in range(40):
        estate.file(f"{n:02}.bin")
    estate.ready()
    years_later(estate)
    confirm, mine = estate.engine.statements.confirm, estate.repository.repository_id
    confirm(mine, "mass", '{"deletions":60}')
    plan = estate.plan()
    deletions = [it for it in plan.actions if it.verb is Verb.DELETE]
    assert len(deletions) == 60
    assert not any(it.guard for it in deletions)
    # The confirmation is over, and each half is under the limit for itself.
    estate.later(2)
    trusted(estate)
    halves = [replace(plan, actions=tuple(it)) for it in (deletions[:30], deletions[30:])]
    assert estate.apply(halves[0])["completed"] == 30
    assert estate.apply(halves[1]) == {"completed": 0, "skipped": 30, "failed": 0}
    confirm(mine, "mass", '{"deletions":60}')
    assert estate.apply(halves[1])["completed"] == 30
    estate.engine.close()


def test_a_root_that_only_advises_since_the_plan_loses_nothing(estate: Estate):
    years_later(estate)
    plan = estate.plan()
    assert {it.verb for it in plan.actions if not it.guard} >= {Verb.DELETE, Verb.ARCHIVE}
    set_enforcement(estate.engine, estate.repository, enforce=False)
    estate.apply(plan)
    assert (estate.root / "report.txt").exists()
    assert (estate.root / "photo.jpg").exists()


def test_a_clock_that_was_set_after_the_plan_lets_nothing_be_taken_away(estate: Estate):
    years_later(estate)
    plan = estate.plan()
    estate.later(400)
    estate.apply(plan)
    assert (estate.root / "report.txt").exists()
    trusted(estate)
    estate.apply(plan)
    assert not (estate.root / "report.txt").exists()


def test_what_changed_since_the_plan_is_skipped(estate: Estate):
    years_later(estate)
    plan = estate.plan()
    estate.write("report.txt", "something new")
    estate.sync()
    estate.apply(plan)
    assert (estate.root / "report.txt").read_text() == "something new"


def test_what_changed_behind_the_registrys_back_is_skipped(estate: Estate):
    years_later(estate)
    plan = estate.plan()
    estate.write("report.txt", "something new")
    assert estate.apply(plan)["skipped"] >= 1
    assert (estate.root / "report.txt").read_text() == "something new"


def test_what_was_read_since_it_was_indexed_is_not_old_where_reading_counts(tmp_path: Path):
    # A reading changes neither the tuple nor the folder: no scan sees it, the last look has to.
    estate = Estate(tmp_path)
    for name in ("read.txt", "unread.txt"):
        estate.file(name, 400)
    unread = LifecyclePolicy(
        "unread", archive_after_days=90, auto_archive=True, match=Match(),
        age_from=AgeFrom.ACCESSED,
    )  # fmt: skip
    estate.engine.statements.put_policy(unread)
    estate.ready()
    estate.later(1)
    plan = estate.plan()
    assert {it.path: it.verb for it in plan.actions} == dict.fromkeys(
        (b"read.txt", b"unread.txt"), Verb.ARCHIVE
    )
    before = (estate.root / "read.txt").stat()
    (estate.root / "read.txt").read_bytes()
    after = (estate.root / "read.txt").stat()
    assert after.st_ctime_ns == before.st_ctime_ns
    if after.st_atime_ns == before.st_atime_ns:
        pytest.skip("this filesystem does not record when files are read")
    assert estate.apply(plan)["skipped"] == 1
    assert (estate.root / "read.txt").exists()
    assert not (estate.root / "unread.txt").exists()
    estate.engine.close()


def by_download(estate: Estate) -> None:
    estate.engine.statements.put_policy(
        LifecyclePolicy(
            "export", auto_delete=True, delete_after_days=7, backup_frequency_hours=0,
            age_from=AgeFrom.DOWNLOADED, match=Match(["*.txt"]),
        )
    )  # fmt: skip


def test_a_file_ages_from_its_last_download_and_without_one_not_at_all(estate: Estate):
    by_download(estate)
    years_later(estate)
    assert "report.txt" not in estate.due()
    engine, path = estate.engine, os.fspath(estate.root / "report.txt")
    engine.note_download(path, estate.clock.now_ns() - 5 * NS_PER_DAY)
    assert "report.txt" not in estate.due()
    later = estate.clock.now_ns() + 2 * NS_PER_DAY
    assert estate.due(at_ns=later)["report.txt"] is Verb.DELETE
    assert engine.decisions.explain(estate.id("report.txt"), at_ns=later).dates.delete_ns == later
    with pytest.raises(UsageError, match="yet to come"):
        engine.note_download(path, later)
    engine.decisions.settle()
    estate.later(2)
    assert estate.due()["report.txt"] is Verb.DELETE


def test_a_download_after_the_plan_keeps_the_file(estate: Estate):
    by_download(estate)
    years_later(estate)
    path = os.fspath(estate.root / "report.txt")
    estate.engine.note_download(path, estate.clock.now_ns() - 9 * NS_PER_DAY)
    plan = estate.plan()
    assert Verb.DELETE in {it.verb for it in plan.actions if it.path == b"report.txt"}
    estate.engine.note_download(path)
    estate.apply(plan)
    assert (estate.root / "report.txt").exists()


def test_what_somebody_writes_is_skipped(estate: Estate):
    years_later(estate)
    with open(estate.root / "report.txt", "r+b"):
        estate.apply()
        assert (estate.root / "report.txt").exists()
    estate.apply()
    assert not (estate.root / "report.txt").exists()


def test_applied_twice_the_second_time_does_nothing(estate: Estate):
    years_later(estate)
    plan = estate.plan()
    assert estate.apply(plan)["completed"] > 0
    assert estate.apply(plan)["completed"] == 0
    (outcome,) = apply(estate.engine, plan, How())
    # Nothing was left undone that was to be done.
    assert outcome.failure is None
    assert outcome.report.spared == outcome.report.skipped > 0


def test_a_plan_comes_back_from_its_file(estate: Estate):
    estate.write(b"odd\xff.txt", "x")
    estate.sync()
    years_later(estate)
    plan = estate.plan()
    assert read_plan(write_plan(plan)) == plan


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"verb": "delete"', '"verb": "backup"'),
        ('"size": ', '"size": 1'),
        ('"guard": ""', '"guard": "mass"'),
        ('"more": 0', '"more": 1'),
    ],
)
def test_a_plan_that_was_edited_is_refused(estate: Estate, old: str, new: str):
    years_later(estate)
    text = write_plan(estate.plan())
    assert old in text
    with pytest.raises(PlanError, match="somebody changed it"):
        read_plan(text.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"plan_format": 1}', "no json"])
def test_what_is_no_plan_is_refused(text: str):
    with pytest.raises(PlanError):
        read_plan(text)


def test_a_plan_of_a_newer_program_is_refused():
    with pytest.raises(PlanError, match="format 2"):
        read_plan('{"plan_format": 2}')


def test_a_plan_of_another_registry_or_of_other_rules_is_refused(estate: Estate):
    plan = estate.plan()
    with pytest.raises(PlanError, match="another registry"):
        apply(estate.engine, replace(plan, registry_id=b"x" * 16), How())
    estate.engine.statements.put_policy(LifecyclePolicy("mine"))
    with pytest.raises(PlanError, match="other rules"):
        apply(estate.engine, plan, How())


def test_a_plan_for_a_time_to_come_is_shown_and_not_applied(estate: Estate):
    at_ns = estate.clock.now_ns() + 400 * NS_PER_DAY
    plan = estate.plan(at_ns=at_ns)
    assert {os.fsdecode(it.path): it.verb for it in plan.actions}["report.txt"] is Verb.DELETE
    with pytest.raises(PlanError, match="yet to come"):
        apply(estate.engine, plan, How())


def test_what_is_explained_is_what_happens(estate: Estate):
    estate.later(0.01)
    estate.apply()
    found = estate.engine.decisions.explain(estate.id("report.txt"))
    assert isinstance(found.verdict, Kept)
    assert found.coming is not None
    assert (found.coming.verb, found.policy.name) == (Verb.ARCHIVE, "documents")
    when = found.verdict.next_ns
    assert when is not None
    days = (when - estate.clock.now_ns()) / NS_PER_DAY
    assert 89 < days <= 90
    estate.later(days)
    trusted(estate)
    again = estate.engine.decisions.explain(estate.id("report.txt"))
    assert isinstance(again.verdict, Action)
    assert estate.due()["report.txt"] is again.verdict.verb is Verb.ARCHIVE


def test_a_policy_that_is_removed_leaves_its_files_to_the_rules(estate: Estate):
    mine = LifecyclePolicy("mine", auto_delete=True, delete_after_days=1)
    estate.engine.statements.put_policy(mine)
    estate.engine.statements.assign(estate.id("thing.bin"), "mine")
    estate.later(2)
    trusted(estate)
    assert estate.due()["thing.bin"] is Verb.DELETE
    estate.engine.statements.remove_policy("mine")
    assert estate.due()["thing.bin"] is Verb.BACKUP


def changed(estate: Estate, name: str, times: int) -> None:
    """Written and backed up again and again."""
    for number in range(times):
        estate.write(name, f"edition {number} of {times}")
        estate.sync()
        estate.later(2)
        estate.apply()


def test_versions_beyond_their_number_are_marked_and_told_and_stay(estate: Estate):
    changed(estate, "photo.jpg", 5)
    file_id = estate.id("photo.jpg")
    vault = estate.engine.vaults.backup()
    plan = estate.plan()
    assert [(it.path, it.number, it.policy_name) for it in plan.versions] == [
        (b"photo.jpg", 2, "media"),
        (b"photo.jpg", 1, "media"),
    ]
    assert plan.versions[0].reason == "3 versions are kept and 3 are newer"
    assert read_plan(write_plan(plan)) == plan
    marked = {it.number for it in estate.engine.registry.kept_versions([file_id])[file_id]
              if it.beyond_ns is not None}  # fmt: skip
    assert marked == {1, 2}
    explained = estate.engine.decisions.explain(file_id).versions
    assert [reasons for _version, reasons in explained] == [
        ("version 1 of 3",), ("version 2 of 3",), ("version 3 of 3",), (), (),
    ]  # fmt: skip
    # A plan marks, and nothing more.
    assert len(list(vault.versions_of(file_id))) == 5
    estate.engine.statements.hold(file_id=file_id, reason="a lawsuit")
    assert {it.guard for it in estate.plan().versions} == {"hold"}


def test_a_rule_that_changed_is_heard_before_anything_is_settled(estate: Estate):
    changed(estate, "photo.jpg", 5)
    media = estate.engine.statements.policy("media")
    estate.engine.statements.put_policy(replace(media, max_versions=4))
    assert [it.number for it in estate.plan().versions] == [1]
    estate.engine.statements.put_policy(replace(media, keep=KeepRules(yearly=1), max_versions=1))
    assert len(estate.plan().versions) == 4
    estate.engine.decisions.settle()
    assert len(estate.plan().versions) == 4
    estate.engine.statements.put_policy(media)
    estate.engine.statements.put_policy(
        LifecyclePolicy("all", match=Match(["*.jpg"]), keep=KeepRules(last=50))
    )
    assert estate.plan().versions == ()
    estate.engine.decisions.settle()
    assert estate.engine.registry.files_with_versions_beyond(None, 10) == []


def test_every_deletion_has_exactly_one_entry_that_says_why_and_where(estate: Estate):
    years_later(estate)
    estate.apply()
    rows = [
        it
        for it in estate.engine.registry.journal(None, 1_000, types=["delete"])
        if it.status == "completed"
    ]
    (row,) = [it for it in rows if it.file_id == estate.id("report.txt")]
    assert row.details is not None
    assert "policy documents: 365 days old" in row.details
    assert '"trash"' in row.details


def test_what_people_said_outlives_the_database(estate: Estate):
    from lifecycle_sync.service.engine import Engine
    from lifecycle_sync.service.rebuild import rebuild

    mine = LifecyclePolicy("mine", match=Match(["*.bin"]), grace_days=3)
    estate.engine.statements.put_policy(mine)
    estate.later(0.01)
    estate.apply()
    estate.engine.statements.assign(estate.id("box.zip"), "media")
    estate.engine.statements.hold(file_id=estate.id("photo.jpg"), reason="a lawsuit")
    statements = estate.engine.registry.statements()
    estate.engine.close()
    Path(estate.settings.database_path).unlink()
    rebuild(estate.settings, [estate.root])
    with Engine.open(estate.settings, clock=estate.clock) as engine:
        assert mine in engine.registry.policies()
        told = engine.registry.statements()
        assert all(it in told for it in statements)
        assert engine.find_record(os.fspath(estate.root / "box.zip")).policy_name == "media"
