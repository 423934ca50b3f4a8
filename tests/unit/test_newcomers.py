"""Names that came to a watched directory: which of them nobody has seen when they go."""

from __future__ import annotations

import pytest

from lifecycle_sync.observe import newcomers
from lifecycle_sync.observe.newcomers import Newcomers


@pytest.fixture
def passed(monkeypatch):
    """Seconds by the clock that they read."""
    seconds = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    return seconds


def test_what_came_and_goes_unseen_casts_a_doubt_once():
    names = Newcomers()
    assert not names.came(1, b"a")
    assert names.went(1, b"a")
    assert not names.went(1, b"a")
    assert not names.went(2, b"never there")


def test_what_was_seen_or_came_long_ago_casts_none(passed):
    names = Newcomers()
    names.came(1, b"seen")
    names.came(1, b"old")
    names.seen([(1, b"seen")])
    passed[0] += 10.0
    assert not names.went(1, b"seen") and not names.went(1, b"old")


def test_what_comes_in_the_place_of_one_that_nobody_saw_casts_a_doubt():
    names = Newcomers()
    names.came(1, b"a")
    assert names.came(1, b"a")
    names.seen([(1, b"a")])
    assert not names.came(1, b"a")


def test_any_name_that_goes_from_a_folder_that_just_came_casts_a_doubt(passed):
    names = Newcomers()
    assert not names.folder(7)
    assert names.went(7, b"was in it before it was watched")
    # It goes itself.
    assert names.went(7, b"") and not names.went(7, b"another")
    names.folder(8)
    passed[0] += 10.0
    assert not names.went(8, b"later")


def test_more_than_can_be_noted_are_a_doubt_until_the_first_are_old(passed, monkeypatch):
    monkeypatch.setattr(newcomers, "_NAMES_MAX", 3)
    names = Newcomers()
    assert [names.came(1, name) for name in (b"a", b"b")] == [False, False]
    passed[0] += 5.0
    # It is the newest now.
    names.seen([(1, b"a")])
    assert not names.came(1, b"a") and not names.came(1, b"c")
    assert names.came(1, b"d") and names.folder(2)
    passed[0] += 5.0
    # Of these only `b` is old.
    assert not names.came(1, b"e") and names.came(1, b"f")
    assert names.went(1, b"a") and names.went(1, b"c") and not names.went(1, b"b")


def test_no_more_are_looked_at_one_by_one_than_is_quick():
    names = Newcomers()
    for number in range(1_000):
        names.came(1, b"%d" % number)
    assert names.fresh == [(1, b"%d" % number) for number in range(256)]
