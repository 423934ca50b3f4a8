"""How much has to go, in which order, and when it will be needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.decide.forecast import reaches, since_last_drop, slope
from lifecycle_sync.decide.pressure import (
    MIN_AGE_NS,
    Choice,
    Health,
    Limits,
    Tier,
    excess,
    health,
    tier_of,
)
from lifecycle_sync.model.temp import Job, JobState, Reference, TempFile, Usage

HOUR = 3_600_000_000_000
NOW = 1_000_000 * HOUR
LONG_FAILED = Job(JobState.FAILED, NOW - 2 * HOUR)
LIMITS = Limits(95.0, 85.0, 10)


def file(
    name: str = "x", *, hours_old: float = 48, job: str | None = None, links: int = 1
) -> TempFile:
    mtime = NOW - int(hours_old * HOUR)
    return TempFile(b"", name.encode(), 1, 4096, mtime, 1, 1, links, job)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (0, Health.HEALTHY),
        (8499, Health.HEALTHY),
        (8500, Health.WARNING),
        (9499, Health.WARNING),
        (9500, Health.CRITICAL),
        (10_000, Health.CRITICAL),
    ],
)
def test_health_by_bytes_and_by_inodes(used, expected):
    assert health(Usage(used, 10_000 - used), Limits(95.0, 85.0, 0)) is expected
    inodes = Usage(0, 10_000, used, 10_000 - used)
    assert health(inodes, Limits(95.0, 85.0, 0)) is expected


def test_too_little_free_is_critical_however_full():
    assert health(Usage(0, 9), LIMITS) is Health.CRITICAL
    assert health(Usage(0, 10), LIMITS) is Health.HEALTHY


def test_a_filesystem_without_a_number_of_inodes_has_no_share_of_them():
    assert Usage(50, 50).percent == 50.0
    assert Usage(0, 0).percent == 0.0


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**12))
def test_what_exceeds_is_exactly_what_has_to_go(used, available, least):
    limits = Limits(95.0, 85.0, least)
    over, _ = excess(Usage(used, available), limits)
    after = Usage(used - over, available + over)
    assert after.available_bytes >= least
    # To the byte, as far as a share of so many can be told.
    assert after.used_bytes <= (used + available) * 0.85 + 1
    if over:
        less = Usage(used - over + 1, available + over - 1)
        assert excess(less, limits)[0] <= 2


@pytest.mark.parametrize(
    ("one", "jobs", "tier"),
    [
        (file(hours_old=2), {}, Tier.ORPHAN),
        (file(hours_old=0.5), {}, Tier.OLDEST),
        (file(hours_old=0.01), {}, None),
        (file(hours_old=-1), {}, None),
        (file(links=2), {}, None),
        (file(job="1"), {}, None),
        (file(job="1"), {"1": Job(JobState.LIVE)}, None),
        (file(job="1"), {"1": Job(JobState.UNKNOWN)}, None),
        (file(job="1"), {"1": Job(JobState.FINISHED)}, Tier.ORPHAN),
        (file(job="1", hours_old=0.5), {"1": Job(JobState.FINISHED)}, Tier.OLDEST),
        (
            file(job="1", hours_old=0.5),
            {"1": Job(JobState.FAILED, NOW - 2 * HOUR)},
            Tier.FAILED_JOB,
        ),
        (file(job="1", hours_old=0.5), {"1": Job(JobState.FAILED, NOW)}, Tier.OLDEST),
    ],
)
def test_with_whom_a_file_goes(one, jobs, tier):
    assert tier_of(one, jobs, now_ns=NOW, failed_wait_ns=HOUR)[0] is tier


@pytest.mark.parametrize("reference", [Reference.YES, Reference.UNKNOWN])
def test_what_the_database_refers_to_stays_under_pressure(reference):
    one = file()
    assert tier_of(one, {}, now_ns=NOW, failed_wait_ns=0, reference=reference)[0] is None


def test_two_minutes_are_young():
    assert MIN_AGE_NS == 120 * 10**9


def test_the_order_is_by_tier_then_by_the_longest_idle_with_a_jobs_files_together():
    choice = Choice(100)
    choice.add(file("old", hours_old=90), Tier.OLDEST)
    choice.add(file("b1", hours_old=50, job="b"), Tier.FAILED_JOB)
    choice.add(file("a1", hours_old=99, job="a"), Tier.FAILED_JOB)
    choice.add(file("orphan", hours_old=2), Tier.ORPHAN)
    choice.add(file("b2", hours_old=40, job="b"), Tier.FAILED_JOB)
    choice.add(file("a2", hours_old=30, job="a"), Tier.FAILED_JOB)
    assert [one.name for one in choice.in_order()] == [
        b"orphan",
        b"b1",
        b"b2",
        b"a1",
        b"a2",
        b"old",
    ]


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=300))
def test_what_is_kept_of_many_is_the_first_of_them(limit, given_files):
    choice, all_files = Choice(limit), []
    for number, (age, tier) in enumerate(given_files):
        one = file(f"{number}", hours_old=age)
        choice.add(one, Tier(tier))
        all_files.append((tier, one.mtime_ns, number))
    kept = [(one.mtime_ns) for one in choice.in_order()]
    first = [mtime for _, mtime, _ in sorted(all_files)]
    assert kept[:limit] == first[:limit]
    assert len(kept) <= 4 * limit + 1


# -- forecast ----------------------------------------------------------------------------------


@given(st.floats(0.01, 10), st.floats(-50, 50))
def test_a_straight_line_is_foreseen(growth, start):
    samples = [(float(t), start + growth * t) for t in range(10)]
    at = reaches(samples, start + growth * 100)
    assert at == pytest.approx(100, rel=1e-3, abs=1e-2)


def test_a_burst_misleads_nobody():
    samples = [(float(t), 10.0 + 0.1 * t) for t in range(30)]
    samples[12] = (12.0, 90.0)
    assert slope(samples) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    "samples",
    [[], [(0.0, 1.0)], [(0.0, 1.0), (1.0, 2.0)], [(0.0, 1.0)] * 5, [(0.0, 3.0), (1, 2), (2, 1)]],
)
def test_nobody_can_tell(samples):
    assert reaches(samples, 50.0) is None


def test_what_is_there_is_reached_now():
    assert reaches([(7.0, 96.0)], 95.0) == 7.0


def test_a_cleanup_ends_what_was_growing_before():
    samples = [(0.0, 80.0), (1.0, 90.0), (2.0, 60.0), (3.0, 61.0)]
    assert since_last_drop(samples, 2.0) == [(2.0, 60.0), (3.0, 61.0)]
    assert since_last_drop(samples[:2], 2.0) == samples[:2]


def test_a_long_series_is_no_long_work():
    samples = [(float(t), t * 0.01) for t in range(5000)]
    assert slope(samples) == pytest.approx(0.01)
