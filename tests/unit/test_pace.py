"""When a root that is followed is looked at, by a clock of the test's own."""

from __future__ import annotations

from lifecycle_sync.service.pace import NEVER, Pace


def test_nothing_is_due_where_nothing_happened():
    assert Pace(0.5, 600.0, 0.0).due_at() == NEVER


def test_dirt_is_looked_at_once_it_is_quiet():
    pace = Pace(0.5, 600.0, 0.0)
    pace.dirty(10.0)
    assert pace.due_at() == 10.5
    pace.dirty(10.4)
    assert pace.due_at() == 10.9


def test_dirt_that_keeps_coming_is_looked_at_after_four_times_as_long():
    pace = Pace(0.5, 600.0, 0.0)
    for tenth in range(100):
        pace.dirty(10.0 + tenth / 10)
    assert pace.due_at() == 12.0


def test_a_look_that_took_long_is_followed_by_a_pause():
    pace = Pace(0.5, 600.0, 0.0)
    pace.looked(10.0, 13.0)
    pace.dirty(13.1)
    assert pace.due_at() == 16.0
    # And where events come all the time, by one of five times as long.
    for tenth in range(1, 1000):
        pace.dirty(13.1 + tenth / 10)
    assert pace.due_at() == 13.1 + 15.0


def test_what_fails_is_tried_again_ever_later_until_it_goes_well():
    pace = Pace(0.5, 600.0, 0.0)
    waits = []
    for _ in range(12):
        pace.try_again(100.0)
        waits.append(round(pace.due_at() - 100.0, 3))
        assert not pace.take_retry(100.0)
        assert pace.take_retry(200.0) and pace.retry_at == NEVER
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8] and waits[-1] == 60.0
    pace.went_well()
    pace.try_again(100.0)
    assert round(pace.due_at() - 100.0, 3) == 0.1


def test_files_with_several_names_are_looked_at_three_times_more():
    pace = Pace(0.5, 600.0, 0.0)
    pace.links([b"a", b"b"], 10.0)
    assert pace.due_at() == 11.0
    assert pace.take_links(10.9) == []
    assert sorted(pace.take_links(11.0)) == [b"a", b"b"]
    pace.links([b"b"], 12.0)
    assert pace.take_links(13.0) == [b"b"]
    assert pace.take_links(16.0) == [b"a"]
    assert pace.take_links(18.0) == [b"b"]
    assert sorted(pace.take_links(60.0)) == [b"a", b"b"]
    assert pace.due_at() == NEVER


def test_a_doubt_is_looked_into_when_it_is_quiet_and_no_more_often_than_it_may_cost():
    pace = Pace(0.5, 600.0, 0.0)
    pace.doubt(10.0)
    pace.doubt(11.0)
    assert pace.due_at() == 10.5
    assert not pace.doubt_due(10.4, asked=False) and pace.doubt_due(10.4, asked=True)
    pace.looked_at_all(20.0, 21.0)
    assert pace.due_at() == NEVER and not pace.doubt_due(1e9, asked=True)
    pace.doubt(22.0)
    assert pace.due_at() == 21.0 + 600.0
    # Half an hour after a look that took four seconds; a doubt that came meanwhile stays.
    pace.doubt(623.0)
    pace.looked_at_all(10.0, 14.0)
    assert pace.due_at() == 14.0 + 2_000.0
