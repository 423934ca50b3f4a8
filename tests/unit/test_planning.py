"""What is due, why, and what stands against it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.decide import guards
from lifecycle_sync.decide.planning import decide, judge, plan
from lifecycle_sync.model.file import FileFlag, FileType, LifecycleState
from lifecycle_sync.model.plan import DESTRUCTIVE, Action, Kept, Plan, Subject, Verb
from lifecycle_sync.model.policy import AgeFrom, LifecyclePolicy
from tests.support.subjects import DAY, NOW, ROOT, situation, subject

_S = LifecycleState
HOUR = DAY // 24


def verdict(file: Subject, *policies: LifecyclePolicy, **fields) -> Action | Kept:
    return judge(file, situation(*policies, **fields))


def due(file: Subject, *policies: LifecyclePolicy, **fields) -> Verb | None:
    found = verdict(file, *policies, **fields)
    return found.verb if isinstance(found, Action) and not found.guard else None


def guard(file: Subject, **fields) -> str:
    found = verdict(file, **fields)
    assert isinstance(found, Action)
    return found.guard


# -- the documented figures ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("file_type", "days", "verb"),
    [
        (FileType.DOCUMENT, 89.9, None),
        (FileType.DOCUMENT, 90, Verb.ARCHIVE),
        (FileType.DOCUMENT, 364.9, Verb.ARCHIVE),
        (FileType.DOCUMENT, 365, Verb.DELETE),
        (FileType.IMAGE, 179.9, None),
        (FileType.VIDEO, 180, Verb.ARCHIVE),
        (FileType.AUDIO, 800, Verb.ARCHIVE),
        (FileType.ARCHIVE, 1824.9, None),
        (FileType.ARCHIVE, 1825, Verb.EXPIRE),
        (FileType.OTHER, 100_000, None),
    ],
)
def test_the_shipped_policies_act_at_their_documented_ages(file_type, days, verb):
    assert due(subject(days, file_type=file_type)) is verb


@pytest.mark.parametrize(
    ("state", "version_hours", "hours", "verb"),
    [
        (_S.UPLOADED, None, 0, Verb.BACKUP),
        (_S.UPLOADED, 30, 24, Verb.BACKUP),
        (_S.UPLOADED, 23.9, 24, None),
        (_S.BACKUP_PENDING, 25, 24, Verb.BACKUP),
        (_S.BACKUP_COMPLETE, 1_000, 24, None),
    ],
)
def test_what_changed_is_backed_up_at_most_as_often_as_the_policy_says(
    state, version_hours, hours, verb
):
    at_ns = None if version_hours is None else NOW - int(version_hours * HOUR)
    assert due(subject(1, state=state, last_version_ns=at_ns)) is verb
    assert hours in (0, 24)


def test_an_archived_file_is_deleted_in_the_end():
    assert due(subject(364, state=_S.ARCHIVED)) is None
    assert due(subject(365, state=_S.ARCHIVED)) is Verb.DELETE


def test_without_auto_delete_an_expired_file_is_only_reported():
    file = subject(2_000, file_type=FileType.ARCHIVE, state=_S.EXPIRED)
    found = verdict(file)
    assert isinstance(found, Kept)
    assert found.reason == "its retention is over, and archives deletes nothing by itself"


def test_nothing_is_deleted_before_its_retention_is_over():
    policy = LifecyclePolicy("mine", retention_days=30, delete_after_days=10, auto_delete=True)
    file = subject(20, explicit="mine")
    assert due(file, policy) is None
    assert due(subject(30, explicit="mine"), policy) is Verb.DELETE


@pytest.mark.parametrize("state", [_S.DELETED, _S.PROCESSING])
def test_what_is_gone_or_worked_on_is_left_alone(state):
    assert isinstance(verdict(subject(1_000, state=state)), Kept)


def test_what_the_last_scan_did_not_find_is_left_alone():
    assert isinstance(verdict(subject(1_000, missing=True)), Kept)


# -- guards --------------------------------------------------------------------------------

# What makes each guard of the table stand against a deletion of an old document.
SITUATIONS: dict[str, dict[str, Any]] = {
    "root": {"root": {"guard": "root", "waits": "swapped"}},
    "shrink": {"root": {"guard": "shrink", "waits": "half of it is gone"}},
    "young": {"root": {"scanned": False}},
    "hold": {"held": {b"f" * 16: "a lawsuit"}},
    "pause": {"paused": "somebody paused it"},
    "clock": {"clock": "the date was set"},
    "advice": {"root": {"enforce": False}},
    "claimed": {"flag": FileFlag.CLAIMED},
    "unstable": {"flag": FileFlag.UNSTABLE},
    "suspect": {"flag": FileFlag.SUSPECT},
    "atime": {"root": {"atime": False}},
    "mass": {"root": {"mass": "150 of 1,000 files would be deleted"}},
}
FILES: dict[Verb, dict[str, Any]] = {
    Verb.BACKUP: {"age_days": 1, "state": _S.UPLOADED, "last_version_ns": None},
    Verb.ARCHIVE: {"age_days": 100},
    Verb.EXPIRE: {"age_days": 2_000, "file_type": FileType.ARCHIVE},
    Verb.DELETE: {"age_days": 400},
}


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("name", SITUATIONS)
def test_each_guard_stands_against_the_verbs_of_the_table_and_no_others(name, verb):
    fields = dict(SITUATIONS[name])
    facts = dict(FILES[verb])
    file = subject(facts.pop("age_days"), flags=int(fields.pop("flag", 0)), **facts)
    policies = []
    if name == "atime":
        rules = situation().rules.choose(file, NOW)
        policies = [dataclasses.replace(rules, name="mine", age_from=AgeFrom.ACCESSED)]
        file = file._replace(explicit="mine")
    found = verdict(file, *policies, **fields)
    assert isinstance(found, Action)
    assert found.verb is verb
    assert found.guard == (name if verb.value in guards.GUARDED[name] else "")
    assert bool(found.waits) is bool(found.guard)


def test_the_table_of_guards_is_tried_whole():
    assert set(SITUATIONS) == set(guards.GUARDED)


@pytest.mark.parametrize(
    ("mtime", "ctime", "young"),
    [(-120, -120, False), (-119.9, -500, True), (-500, -119.9, True), (1, -500, True)],
)
def test_what_changed_in_the_last_two_minutes_is_left_alone(mtime, ctime, young):
    second = 1_000_000_000
    file = subject(
        1,
        state=_S.UPLOADED,
        last_version_ns=None,
        mtime_ns=NOW + int(mtime * second),
        ctime_ns=NOW + int(ctime * second),
        registered_ns=NOW - 500 * second,
    )
    found = verdict(file)
    # A time that is yet to come is due when it has come.
    assert (isinstance(found, Kept) or found.guard == "young") is young


@pytest.mark.parametrize(
    ("planned", "recent", "known", "confirmed", "held"),
    [
        (100, 0, 500, 0, False),
        (101, 0, 1_010, 0, False),
        (101, 0, 1_009, 0, True),
        (60, 41, 900, 0, True),
        (20, 0, 25, 0, False),
        (21, 0, 41, 0, True),
        (21, 0, 42, 0, False),
        (101, 0, 500, 101, False),
        (102, 0, 500, 101, True),
        (0, 400, 500, 0, False),
    ],
)
def test_too_many_deletions_in_a_day_wait_for_a_person(planned, recent, known, confirmed, held):
    assert guards.mass(planned, recent, known, confirmed).passed is not held


def test_a_clock_that_was_set_is_noticed():
    assert guards.clock(NOW, None).passed
    assert guards.clock(NOW, NOW - 7 * DAY).passed
    assert not guards.clock(NOW, NOW - 7 * DAY - 1).passed
    assert not guards.clock(NOW - 2_000_000_000, NOW).passed
    assert guards.clock(NOW - 1_000_000_000, NOW).passed


# -- plans ---------------------------------------------------------------------------------


def many(count: int, **fields) -> list[Subject]:
    return [
        subject(400, row_id=n, file_id=n.to_bytes(16, "big"), path=b"%03d.txt" % n, **fields)
        for n in range(count)
    ]


def made(files: list[Subject], *, actions_max: int = 100_000, **fields) -> Plan:
    return plan(
        files,
        situation(**fields),
        registry_id=b"g" * 16,
        seq=5,
        made_ns=NOW,
        policies_hash="",
        actions_max=actions_max,
    )


def test_when_too_many_are_due_not_one_is_deleted():
    found = made(many(150), root={"files": 1_000})
    assert {action.guard for action in found.actions} == {"mass"}
    (root,) = found.roots
    assert (root.guard, root.repository_id) == ("mass", ROOT)
    assert root.waits == "150 of 1,000 files (15 %) would be deleted"


def test_what_waits_for_a_mass_is_backed_up_meanwhile():
    bare = [it._replace(state=_S.UPLOADED, last_version_ns=None) for it in many(10)]
    found = made([*many(150)[10:], *bare], root={"files": 1_000})
    assert found.roots[0].waits == "150 of 1,000 files (15 %) would be deleted"
    verbs = [(it.verb, it.guard) for it in found.actions]
    assert verbs == [(Verb.BACKUP, "")] * 10 + [(Verb.DELETE, "mass")] * 140
    assert found.actions[0].reason == "never backed up; deleting it waits (mass)"
    totals = {(it.verb, it.guard): it.files for it in found.totals}
    assert totals == {(Verb.BACKUP, ""): 10, (Verb.DELETE, "mass"): 140}


def test_what_waits_for_a_mass_does_not_keep_others_waiting():
    kept = subject(100, file_id=b"a" * 16, path=b"zzz")
    found = made([*many(150), kept], root={"files": 1_000})
    assert found.actions[-1].verb is Verb.ARCHIVE
    assert found.actions[-1].guard == ""


def test_what_is_beyond_the_bound_is_counted_and_judged_with_the_rest():
    found = made(many(150), actions_max=10, root={"files": 1_000})
    assert (len(found.actions), found.more) == (10, 140)
    assert (found.roots[0].guard, found.roots[0].deletions) == ("mass", 150)
    (total,) = found.totals
    assert (total.verb, total.guard, total.files) == (Verb.DELETE, "mass", 150)
    assert total.waits == {"150 of 1,000 files (15 %) would be deleted"}


@pytest.mark.parametrize(
    "fields",
    [
        {"root": {"enforce": False}},
        {"held": {b"f" * 16: "case 4711"}},
        {"paused": "moving"},
        {"clock": "it was set"},
    ],
)
@pytest.mark.parametrize("days", [100, 400])
def test_what_has_to_wait_is_backed_up_meanwhile(days, fields):
    file = subject(days, state=_S.UPLOADED, last_version_ns=None)
    found = verdict(file, **fields)
    assert isinstance(found, Action)
    assert (found.verb, found.guard) == (Verb.BACKUP, "")
    assert "waits" in found.reason
    # With a copy of its content it waits, as it is.
    kept = verdict(file._replace(state=_S.BACKUP_COMPLETE, last_version_ns=NOW), **fields)
    assert isinstance(kept, Action)
    assert kept.guard


@pytest.mark.parametrize("root", [{"enforce": False}, {"files": 30}, {}])
def test_what_waits_takes_no_room_from_what_can_be_done(root):
    new = subject(1, file_id=b"n" * 16, state=_S.UPLOADED, last_version_ns=None)
    found = made([*many(30), new], root=root, actions_max=3)
    assert len(found.actions) == 3
    assert found.more == 28
    assert Verb.BACKUP in {action.verb for action in found.actions}


def test_what_is_kept_is_counted_by_its_reason():
    found = made([subject(1), subject(2), subject(1_000, state=_S.DELETED)])
    assert dict(found.kept) == {"nothing is due yet": 2, "it is gone": 1}


STATES = st.sampled_from(list(_S))
TYPES = st.sampled_from(list(FileType))
DAYS = st.floats(0, 3_000, allow_nan=False)


@given(DAYS, STATES, TYPES, st.none() | DAYS, st.floats(0, 4_000, allow_nan=False))
def test_nothing_is_due_before_its_next_date_and_something_is_judged_then(
    age, state, file_type, version, later
):
    at_ns = None if version is None else NOW - int(version * DAY)
    file = subject(age, state=state, file_type=file_type, last_version_ns=at_ns)
    next_ns = decide(file, situation().rules, NOW).next_due_ns
    then = NOW + int(later * DAY)
    found = verdict(file, at_ns=then)
    if next_ns is None or then < next_ns:
        assert isinstance(found, Kept)
    else:
        assert isinstance(found, Action)


@given(DAYS, STATES, TYPES)
def test_no_verdict_is_without_a_reason(age, state, file_type):
    found = verdict(subject(age, state=state, file_type=file_type))
    assert found.reason
    if isinstance(found, Action):
        assert found.due_ns <= NOW
        assert found.verb in DESTRUCTIVE or found.verb is Verb.BACKUP
