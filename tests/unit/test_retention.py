"""Which versions keep rules keep: examples by hand, and everything against a slow oracle."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.retention import (
    Timed,
    as_marked,
    beyond,
    marks_of,
    newest_alone,
    of_file,
    prunable,
    retained,
    unkept,
)
from lifecycle_sync.model.file import FileFlag, FileType, Tracking
from lifecycle_sync.model.plan import KeptVersion, MarkedFile, VersionMark
from lifecycle_sync.model.policy import SHIPPED, KeepRules, LifecyclePolicy, Match
from lifecycle_sync.testing.memory_due import as_told
from tests.support import timelines as timelines_
from tests.support.subjects import DAY, NOW, subject

SECOND = 1_000_000_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def policy(max_versions: int = 0, **rules: int) -> LifecyclePolicy:
    return LifecyclePolicy("p", max_versions=max_versions, keep=KeepRules(**rules))


def versions(*texts: str) -> list[Timed]:
    return [Timed(bytes([number]), at(text)) for number, text in enumerate(texts)]


def kept(found: Sequence[Timed], *policies: LifecyclePolicy) -> dict[str, tuple[str, ...]]:
    return {
        datetime.fromtimestamp(it.version.kept_ns // SECOND, UTC).strftime("%Y-%m-%d %H:%M"): (
            it.reasons
        )
        for it in retained(found, policies)
        if it.kept
    }


WEEK = versions(
    "2026-01-01 08:10",
    "2026-01-01 08:50",
    "2026-01-02 09:00",
    "2026-01-04 10:00",
    "2026-01-05 10:00",
    "2026-02-01 10:00",
)


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        (policy(2), ["2026-02-01 10:00", "2026-01-05 10:00"]),
        (policy(last=1), ["2026-02-01 10:00"]),
        (policy(hourly=9), [
            "2026-02-01 10:00", "2026-01-05 10:00", "2026-01-04 10:00", "2026-01-02 09:00",
            "2026-01-01 08:50",
        ]),
        (policy(daily=2), ["2026-02-01 10:00", "2026-01-05 10:00"]),
        # The 4th of January 2026 is a Sunday, the last day of the first week; the 5th a Monday.
        (policy(weekly=9), ["2026-02-01 10:00", "2026-01-05 10:00", "2026-01-04 10:00"]),
        (policy(monthly=9), ["2026-02-01 10:00", "2026-01-05 10:00"]),
        (policy(yearly=9), ["2026-02-01 10:00"]),
        (policy(), []),
    ],
)  # fmt: skip
def test_each_rule_keeps_the_last_version_of_its_periods(rules, days):
    assert list(kept(WEEK, rules)) == days


def test_weeks_at_the_turn_of_a_year_are_whole():
    # Monday the 29th of December 2025 to Sunday the 4th of January 2026 is one week.
    found = versions("2025-12-28 12:00", "2025-12-29 12:00", "2026-01-04 12:00")
    assert list(kept(found, policy(weekly=9))) == ["2026-01-04 12:00", "2025-12-28 12:00"]


def test_periods_without_a_version_do_not_count():
    found = versions("2016-05-05 05:05", "2026-05-05 05:05")
    assert len(kept(found, policy(daily=2))) == 2


def test_all_that_speaks_for_a_version_is_said():
    assert kept(WEEK, policy(1, daily=1, yearly=3))["2026-02-01 10:00"] == (
        "version 1 of 1",
        "daily 1 of 1",
        "yearly 1 of 3",
    )


def test_what_is_held_stays_whatever_the_rules_say():
    found = retained(WEEK, [policy(1)], pinned={WEEK[0].version_id}, pinned_reason="suspect")
    assert found[-1].reasons == ("suspect",)
    assert WEEK[0].version_id not in prunable(found)
    assert len(prunable(found)) == 4


def test_a_time_that_no_calendar_has_is_no_fault():
    found = [Timed(b"a", -(2**62) * 5), Timed(b"b", 2**63 * 100)]
    assert len(retained(found, [policy(yearly=2)])) == 2
    assert not prunable(retained(found, [policy(yearly=2)]))


# -- against an oracle -----------------------------------------------------------------------

FORMATS = {
    "hourly": "%Y-%m-%d-%H", "daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m",
    "yearly": "%Y",
}  # fmt: skip


def oracle(found: Sequence[Timed], rules: LifecyclePolicy) -> set[bytes]:
    """As one would do it by hand: sort into boxes, take the newest so many boxes, and the newest
    of each."""
    order = sorted(found, key=lambda it: (it.kept_ns, it.version_id))
    keep: set[bytes] = set()
    for number in (rules.max_versions, rules.keep.last):
        keep |= {it.version_id for it in (order[-number:] if number else [])}
    for name, form in FORMATS.items():
        boxes: dict[str, Timed] = {}
        for it in order:
            boxes[datetime.fromtimestamp(it.kept_ns // SECOND, UTC).strftime(form)] = it
        newest = sorted(boxes.values(), key=lambda it: (it.kept_ns, it.version_id), reverse=True)
        keep |= {it.version_id for it in newest[: getattr(rules.keep, name)]}
    return keep


NUMBERS = st.integers(0, 6)
POLICIES = st.builds(
    LifecyclePolicy,
    name=st.just("p"),
    max_versions=NUMBERS,
    keep=st.builds(KeepRules, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
)
# Many within an hour, a week and some years, so that periods are shared and are not.
STEPS = st.one_of(st.integers(0, 3_600), st.integers(0, 700_000), st.integers(0, 40_000_000))


@st.composite
def timelines(draw: st.DrawFn) -> list[Timed]:
    moment = at("2019-12-25 00:00")
    found = []
    for number, step in enumerate(draw(st.lists(STEPS, max_size=25))):
        moment += step * SECOND
        found.append(Timed(number.to_bytes(2, "big"), moment))
    return draw(st.permutations(found))


@given(timelines(), st.lists(POLICIES, min_size=1, max_size=2))
def test_kept_is_what_the_oracle_keeps(found, policies):
    verdicts = retained(found, policies)
    expected = set().union(*(oracle(found, rules) for rules in policies))
    assert {it.version.version_id for it in verdicts if it.kept} == expected
    assert [it.version for it in verdicts] == sorted(
        found, key=lambda it: (it.kept_ns, it.version_id), reverse=True
    )
    assert len(prunable(verdicts)) == len(found) - len(expected)


@given(timelines(), POLICIES)
def test_a_rule_more_never_keeps_less(found, rules):
    alone = {it.version for it in retained(found, [rules]) if it.kept}
    joined = {it.version for it in retained(found, [rules, policy(3, weekly=2)]) if it.kept}
    assert alone <= joined


@pytest.fixture(params=["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns"])
def zone(request, monkeypatch):
    """Where the machine stands, which is of no concern."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def compare_with_definition(zone: str, number: int) -> None:
    for seed in range(number):
        chosen = random.Random(f"{zone} {seed}")
        found, rules = timelines_.timeline(chosen), list(timelines_.policies(chosen))
        expected: dict[bytes, list[str]] = {it.version_id: [] for it in found}
        for rule in rules:
            for version_id, reasons in timelines_.kept(found, rule).items():
                expected[version_id] += reasons
        got = {it.version.version_id: list(it.reasons) for it in retained(found, rules)}
        for version_id, reasons in expected.items():
            assert got[version_id] == list(dict.fromkeys(reasons)), (
                f"zone {zone}, seed {seed}: {rules} over {sorted(found, key=lambda it: it.kept_ns)}"
            )


def test_every_reason_is_the_one_of_the_definition(zone):
    """`make timelines`: 10,000 of them."""
    number = int(os.environ.get("TIMELINES", "600")) // 4
    compare_with_definition(zone, number)
    print(f"{number:,} timelines in {zone}: every version kept, and told why, as defined")


def test_a_week_that_ends_on_saturday_is_found(monkeypatch):
    right = timelines_._periods

    def wrong(at_ns):
        return right(at_ns) | {"weekly": (at_ns // timelines_.DAY + 4) // 7}

    monkeypatch.setattr(timelines_, "_periods", wrong)
    with pytest.raises(AssertionError):
        compare_with_definition("UTC", 150)


# -- of a file -----------------------------------------------------------------------------


def of_days(*days: int, marked: Sequence[int] = ()) -> list[KeptVersion]:
    """A version so many days ago each, the newest first."""
    return [
        KeptVersion(
            b"%16d" % day, 1_000 - day, NOW - day * DAY, 5, NOW - 9 if day in marked else None
        )
        for day in days
    ]


def kept_days(rules: Rules, *days: int, **fields) -> list[int]:
    found = of_file(subject(500, **fields), of_days(*days), rules, NOW)
    return [(NOW - it.version.kept_ns) // DAY for it in found if it.kept]


def test_the_policy_of_a_file_says_how_many_versions_stay():
    assert kept_days(Rules(SHIPPED), *range(1, 9)) == [1, 2, 3, 4, 5]
    assert kept_days(Rules([*SHIPPED, policy(2)]), *range(1, 9), explicit="p") == [1, 2]
    # Fewer than may stay all stay.
    assert kept_days(Rules(SHIPPED), 1, 2) == [1, 2]


def test_without_versioning_the_newest_stays():
    plain = LifecyclePolicy("p", versioning_enabled=False, keep=KeepRules(daily=9))
    assert kept_days(Rules([*SHIPPED, plain]), 1, 2, 3, explicit="p") == [1]


def test_keep_rules_of_every_policy_that_matches_join():
    tall = LifecyclePolicy("tall", match=Match(["*"]), max_versions=2)
    yearly = LifecyclePolicy("rare", match=Match(["*"]), max_versions=9, keep=KeepRules(last=3))
    other = LifecyclePolicy("other", match=Match(["/nowhere/*"]), keep=KeepRules(last=8))
    assert kept_days(Rules([*SHIPPED, tall, yearly, other]), *range(1, 9)) == [1, 2, 3]


def test_what_is_judged_for_many_files_is_what_is_told_of_each():
    chosen = random.Random(30)
    different = 0
    for seed in range(400):
        found = timelines_.timeline(chosen)
        policies = [
            replace(it, name=f"p{number}", match=chosen.choice([None, Match(["*"])]))
            for number, it in enumerate(timelines_.policies(chosen))
        ]
        if seed % 2:
            # As nearly all are.
            policies = [replace(it, keep=KeepRules()) for it in policies]
        flags = chosen.choice([0, 0, int(FileFlag.SUSPECT)])
        file = subject(500, explicit=chosen.choice([None, "p0"]), flags=flags)
        of = [KeptVersion(it.version_id, 1, it.kept_ns, 5, None) for it in found]
        rules = Rules([*SHIPPED, *policies])
        told = [it.version.version_id for it in of_file(file, of, rules, NOW) if not it.kept]
        policy, judged = unkept(file, of, rules, NOW)
        assert [it.version_id for _, it in judged] == told
        assert policy is rules.choose(file, NOW)
        newest_first = [it.version.version_id for it in of_file(file, of, rules, NOW)]
        assert [newest_first[newer] for newer, _ in judged] == told
        different += 0 < len(told) < len(of)
    assert different > 100


def test_marks_are_believed_only_where_judging_anew_comes_to_the_same():
    chosen = random.Random(31)
    believed = doubted = 0
    for seed in range(4_000):
        # Some of the same time, and marks as they may be: right, of other rules, of other versions.
        of = [
            KeptVersion(b"%16d" % chosen.randrange(10**9), 1, chosen.randrange(12), 5, None)
            for _ in range(chosen.randrange(5))
        ]
        policies = [
            LifecyclePolicy(
                f"p{number}",
                match=chosen.choice([None, None, Match(["*"])]),
                file_types=chosen.choice([[], [FileType.DOCUMENT], [FileType.IMAGE]]),
                max_versions=chosen.randrange(4),
                versioning_enabled=chosen.random() < 0.8,
                keep=chosen.choice([KeepRules(), KeepRules(), KeepRules(last=2)]),
            )
            for number in range(chosen.randrange(3))
        ]
        rules = Rules([*SHIPPED, *policies])
        file = subject(500, explicit=chosen.choice([None, "p0", "gone"]))
        governing, right = unkept(file, of, rules, NOW)
        ids = {it.version_id for _newer, it in right}
        if seed % 2:
            ids = {it.version_id for it in of if chosen.random() < 0.5}
        marked = [it for it in of if it.version_id in ids]
        if not marked:
            continue
        told = as_told(file, marked, [it for it in of if it.version_id not in ids])
        found = newest_alone(rules, file.file_type, file.explicit)
        if found is None or not as_marked(told, found[1]):
            doubted += 1
            continue
        believed += 1
        assert found[0] is governing
        assert ids == {it.version_id for _newer, it in right}
        assert right[0][0] == found[1]
    assert min(believed, doubted) > 200


def test_a_mark_is_not_believed_where_two_versions_are_of_one_time():
    file = subject(500)
    told = MarkedFile(
        file.file_id, "1", "00" * 16, 5, 7, 1, 8,
        file.repository_id, file.file_type, None,
    )  # fmt: skip
    assert as_marked(told, 1)
    assert not as_marked(told._replace(kept_since_ns=7), 1)


def test_what_may_have_rotted_or_is_not_followed_keeps_all():
    many = range(1, 9)
    rotten, forgotten = int(FileFlag.SUSPECT), Tracking.IGNORED.value
    assert kept_days(Rules(SHIPPED), *many, flags=rotten) == list(many)
    assert kept_days(Rules(SHIPPED), *many, tracking=forgotten) == list(many)


def test_what_no_rule_keeps_is_told_with_its_reason_and_what_holds_it():
    file = subject(500)
    found = list(beyond(file, of_days(*range(1, 8)), Rules(SHIPPED), NOW, None))
    assert [(it.number, it.reason, it.guard) for it in found] == [
        (994, "5 versions are kept and 5 are newer", ""),
        (993, "5 versions are kept and 6 are newer", ""),
    ]
    (held, _) = beyond(file, of_days(*range(1, 8)), Rules(SHIPPED), NOW, "a lawsuit")
    assert (held.guard, held.waits, held.policy_name) == ("hold", "a lawsuit", "documents")
    rules = Rules([*SHIPPED, policy(1, daily=1)])
    (gone,) = beyond(subject(500, explicit="p"), of_days(1, 2), rules, NOW, None)
    assert gone.reason == "1 version is kept and 1 is newer, and no keep rule asks for it"


def test_only_what_changes_is_written_back():
    versions = of_days(*range(1, 9), marked=[2, 6])
    file = subject(500)
    ids = {(NOW - it.kept_ns) // DAY: it.version_id for it in versions}
    assert list(marks_of(file, versions, Rules(SHIPPED), NOW)) == [
        VersionMark(file.file_id, ids[2], None),
        VersionMark(file.file_id, ids[7], NOW),
        VersionMark(file.file_id, ids[8], NOW),
    ]
