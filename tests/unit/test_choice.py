"""Which policy a file goes by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.model.file import FileType
from lifecycle_sync.model.policy import SHIPPED, AgeFrom, KeepRules, LifecyclePolicy, Match
from tests.support.subjects import DAY, NOW, subject


def chosen(file, *policies: LifecyclePolicy, at_ns: int = NOW) -> str:
    return Rules([*SHIPPED, *policies]).choose(file, at_ns).name


def matching(name: str = "mine", **match) -> LifecyclePolicy:
    return LifecyclePolicy(name, match=Match(**match))


@pytest.mark.parametrize(
    ("file_type", "name"),
    [
        (FileType.DOCUMENT, "documents"),
        (FileType.IMAGE, "media"),
        (FileType.VIDEO, "media"),
        (FileType.AUDIO, "media"),
        (FileType.ARCHIVE, "archives"),
        (FileType.OTHER, "default"),
    ],
)
def test_without_a_rule_the_type_chooses(file_type, name):
    assert chosen(subject(file_type=file_type)) == name


def test_what_is_said_of_all_files_of_a_type_is_so_of_each():
    keeping = replace(matching("keeping", paths=["*.txt"]), keep=KeepRules(daily=1))
    images = replace(matching("images"), file_types=[FileType.IMAGE])
    plain = LifecyclePolicy("plain")
    said = 0
    for policies in ([plain], [plain, images], [images, keeping], [keeping, plain]):
        rules = Rules([*SHIPPED, *policies])
        for file_type in FileType:
            for explicit in (None, "plain", "gone"):
                found = rules.regardless(file_type, explicit)
                for path in (b"a.txt", b"a.jpg"):
                    file = subject(file_type=file_type, explicit=explicit, path=path)
                    if found is not None:
                        assert rules.choose(file, NOW) is found
                        assert not rules.joining(file, NOW)
                        said += 1
    assert said > 40


def test_what_was_set_for_the_file_comes_first():
    file = subject(explicit="media")
    assert chosen(file, matching(paths=["*"])) == "media"


def test_a_policy_that_was_set_and_is_gone_leaves_the_choice_to_the_rules():
    assert chosen(subject(explicit="gone")) == "documents"


def test_the_first_match_in_declared_order_comes_before_the_type():
    first, second = matching("first", paths=["/srv/*"]), matching("second", paths=["*"])
    assert chosen(subject(), first, second) == "first"
    assert chosen(subject(), second, first) == "second"


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"paths": ["/srv/docs/*"]}, True),
        ({"paths": ["/srv/other/*", "*.txt"]}, True),
        ({"paths": ["/srv/docs"]}, False),
        ({"exclude": ["*/docs/*"]}, False),
        ({"paths": ["*.txt"], "exclude": ["*/a.*"]}, False),
        ({"min_size": 10}, True),
        ({"min_size": 11}, False),
        ({"max_size": 10}, True),
        ({"max_size": 9}, False),
        ({"owners": [0, 1000]}, True),
        ({"owners": [0]}, False),
        ({"older_than_days": 5}, True),
        ({"older_than_days": 6}, False),
        ({"paths": ["*.txt"], "min_size": 11}, False),
    ],
)
def test_all_that_a_match_says_must_hold(match, holds):
    assert (chosen(subject(5), matching(**match)) == "mine") is holds


def test_a_match_is_for_its_types_alone():
    policy = LifecyclePolicy("mine", [FileType.IMAGE], match=Match(paths=["*"]))
    assert chosen(subject(), policy) == "documents"
    assert chosen(subject(file_type=FileType.IMAGE), policy) == "mine"


def test_bytes_that_are_no_text_can_be_matched_as_they_are_shown():
    assert chosen(subject(path=b"docs/\xff.txt"), matching(paths=["*/\\xff.txt"])) == "mine"


def test_when_age_makes_another_rule_hold_is_known():
    rules = Rules([*SHIPPED, matching("old", older_than_days=30), matching(older_than_days=9)])
    file = subject(5)
    assert rules.changes_ns(file, NOW) == NOW + 4 * DAY
    assert rules.choose(file, NOW + 4 * DAY).name == "mine"
    assert rules.changes_ns(file, NOW + 4 * DAY) == NOW + 25 * DAY
    assert rules.changes_ns(file, NOW + 25 * DAY) is None
    assert rules.changes_ns(subject(5, explicit="media"), NOW) is None


def test_age_counts_from_what_the_policy_says():
    file = subject(5, mtime_ns=NOW - 50 * DAY, atime_ns=NOW - 2 * DAY)

    def holds(age_from: AgeFrom, days: int) -> bool:
        policy = LifecyclePolicy("m", match=Match(older_than_days=days), age_from=age_from)
        return chosen(file, policy) == "m"

    ages = {AgeFrom.LATER: 5, AgeFrom.REGISTERED: 5, AgeFrom.MODIFIED: 50, AgeFrom.ACCESSED: 2}
    for age_from, days in ages.items():
        assert holds(age_from, days)
        assert not holds(age_from, days + 1)


def test_every_rule_that_was_asked_says_why():
    asked = list(Rules([*SHIPPED, matching(min_size=99)]).consider(subject(), NOW))
    assert [(it.policy.name, it.chosen) for it in asked] == [("mine", False), ("documents", True)]
    assert asked[0].why == "it is for files of 99 bytes and more"


@given(st.sampled_from(list(FileType)), st.floats(0, 100), st.sampled_from([None, "media", "gone"]))
def test_the_quick_choice_is_the_one_that_is_explained(file_type, age, explicit):
    rules = Rules([*SHIPPED, matching("old", older_than_days=30), matching("big", min_size=11)])
    file = subject(age, file_type=file_type, explicit=explicit)
    (chosen_one,) = [it.policy for it in rules.consider(file, NOW) if it.chosen]
    assert rules.choose(file, NOW) == chosen_one
