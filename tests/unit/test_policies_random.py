"""Planning what is due by its date comes to the same as planning everything; bad rules are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.decide.planning import decide, plan
from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.file import FileType, LifecycleState
from lifecycle_sync.model.plan import Plan, Subject
from lifecycle_sync.model.policy import AgeFrom, KeepRules, LifecyclePolicy, Match, faults_of
from lifecycle_sync.service.policy_words import read_policies
from tests.support.subjects import DAY, NOW, situation, subject

DAYS = st.integers(0, 500)
TYPES = st.lists(st.sampled_from(list(FileType)), max_size=2, unique=True)
MATCHES = st.builds(
    Match,
    paths=st.lists(st.sampled_from(["*.txt", "*/docs/*", "*"]), max_size=1),
    exclude=st.lists(st.sampled_from(["*1.txt", "*2.txt"]), max_size=1),
    min_size=st.none() | st.integers(0, 20),
    older_than_days=DAYS,
)
POLICIES = st.lists(
    st.builds(
        LifecyclePolicy,
        name=st.uuids().map(str),
        file_types=TYPES,
        retention_days=DAYS,
        archive_after_days=DAYS,
        delete_after_days=DAYS,
        backup_frequency_hours=st.integers(0, 72),
        auto_archive=st.booleans(),
        auto_delete=st.booleans(),
        match=st.none() | MATCHES,
        age_from=st.sampled_from(list(AgeFrom)),
    ).filter(lambda policy: not faults_of(policy)),
    max_size=4,
    unique_by=lambda policy: policy.name,
)


@st.composite
def files(draw: st.DrawFn) -> list[Subject]:
    found = []
    for number in range(draw(st.integers(1, 8))):
        version = draw(st.none() | DAYS)
        found.append(
            subject(
                draw(DAYS),
                row_id=number + 1,
                file_id=number.to_bytes(16, "big"),
                path=b"docs/%d.txt" % number,
                size=draw(st.integers(0, 30)),
                atime_ns=NOW - draw(DAYS) * DAY,
                file_type=draw(st.sampled_from(list(FileType))),
                state=draw(st.sampled_from(list(LifecycleState))),
                last_version_ns=None if version is None else NOW - version * DAY,
            )
        )
    return found


@given(files(), POLICIES, st.integers(0, 700))
def test_planning_what_is_due_equals_planning_everything(found, policies, days):
    then = situation(*policies, at_ns=NOW + days * DAY)

    def made(some: list[Subject]) -> Plan:
        return plan(
            some, then, registry_id=b"g" * 16, seq=1, made_ns=NOW, policies_hash=""
        )  # fmt: skip

    dates = {file.file_id: decide(file, then.rules, NOW).next_due_ns for file in found}
    due = [
        file
        for file in found
        if (next_ns := dates[file.file_id]) is not None and next_ns <= then.at_ns
    ]
    assert made(due).actions == made(found).actions


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"retention_days": -1}, ["retention_days: -1"]),
        ({"backup_frequency_hours": -24}, ["backup_frequency_hours: -24"]),
        ({"auto_delete": True}, ["auto_delete: needs"]),
        ({"auto_archive": True}, ["auto_archive: needs"]),
        ({"auto_delete": True, "delete_after_days": 30, "auto_archive": True,
          "archive_after_days": 90}, ["before archive_after_days (90)"]),
        ({"auto_delete": True, "delete_after_days": 30, "retention_days": 31},
         ["before the end of the retention"]),
        ({"max_versions": 0}, ["--allow-empty"]),
        ({"keep": KeepRules(daily=-1)}, ["keep.daily: -1"]),
        ({"match": Match(min_size=2, max_size=1)}, ["nothing matches"]),
        ({"match": Match([""])}, ["an empty pattern"]),
        ({"grace_days": -1, "max_versions": -1, "archive_after_days": 10**9},
         ["grace_days: -1", "max_versions: -1", "archive_after_days: 1000000000"]),
    ],
)  # fmt: skip
def test_all_that_is_wrong_with_a_policy_is_said_at_once(fields: dict[str, Any], words):
    found = faults_of(LifecyclePolicy("mine", **fields))
    for word in words:
        assert any(word in fault for fault in found), found
    assert len(found) == len(words)


def test_a_policy_that_keeps_no_version_has_to_be_wanted():
    assert not faults_of(LifecyclePolicy("mine", max_versions=0), allow_empty=True)
    assert not faults_of(LifecyclePolicy("mine", max_versions=0, keep=KeepRules(daily=1)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["is no JSON"]),
        ("7", ["a policy: "]),
        ('{"name": "a", "delete_after": 3}', ["a: no policy has delete_after"]),
        ('{"name": "a", "retention_days": "3"}', ["a: ", "retention_days"]),
        ('{"name": "a", "retention_days": 1.5}', ["a: ", "retention_days"]),
        ('{"name": "a", "match": {"older_than": 3}}', ["a: ", "older_than"]),
        ('{"name": "a", "keep": {"dayly": 3}}', ["a: ", "dayly"]),
        ('[{"name": "a", "grace_days": -1}, {"name": "b", "odd": 1}, {"name": ""}]',
         ["a: grace_days: -1", "b: no policy has odd", "name: give it one"]),
        ('[{"name": "a"}, {"name": "a"}]', ["a: "]),
    ],
)  # fmt: skip
def test_a_file_of_policies_is_refused_with_every_fault(tmp_path: Path, text: str, words):
    path = tmp_path / "policies.json"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_policies(path)
    for word in words:
        assert word in str(refused.value)
    assert refused.value.remedy
