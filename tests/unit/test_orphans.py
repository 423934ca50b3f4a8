"""The five rules, as a matrix of what is known."""

from __future__ import annotations

from itertools import product

import pytest

from lifecycle_sync.decide.orphans import OrphanRule, OrphanVerdict, after_crash, orphan
from lifecycle_sync.model.temp import Job, JobState, Reference, TempFile

HOUR = 3_600_000_000_000
NOW = 1_000_000 * HOUR


def file(
    *, hours_old: float = 48, job: str | None = "1", perhaps: tuple[str, ...] = ()
) -> TempFile:
    return TempFile(b"", b"x", 1, 4096, NOW - int(hours_old * HOUR), 1, 1, 1, job, None, perhaps)


def judge(
    one: TempFile,
    job: Job | None = None,
    reference: Reference = Reference.NOT_ASKED,
    hours: int = 24,
) -> OrphanVerdict:
    jobs = {} if job is None else {"1": job}
    return orphan(one, jobs, now_ns=NOW, max_age_ns=hours * HOUR, reference=reference)


@pytest.mark.parametrize(
    ("job", "rule"),
    [
        (Job(JobState.FINISHED), OrphanRule.NO_ACTIVE_JOB),
        (Job(JobState.FINISHED, NOW - 25 * HOUR), OrphanRule.NO_ACTIVE_JOB),
        (Job(JobState.FINISHED, NOW - 23 * HOUR), None),
        (Job(JobState.FAILED), OrphanRule.FAILED_JOB),
        (Job(JobState.FAILED, NOW - 25 * HOUR), OrphanRule.FAILED_JOB),
        (Job(JobState.FAILED, NOW - 23 * HOUR), None),
        (Job(JobState.FAILED, NOW + HOUR), None),
        (Job(JobState.ABSENT), OrphanRule.NO_SUCH_JOB),
        (Job(JobState.LIVE), None),
        (Job(JobState.UNKNOWN), None),
        (None, None),
    ],
)
def test_an_old_file_of_a_job(job, rule):
    assert judge(file(), job).rule == rule


@pytest.mark.parametrize(
    ("reference", "rule"),
    [
        (Reference.NOT_ASKED, OrphanRule.NO_JOB_PATTERN),
        (Reference.NO, OrphanRule.NO_REFERENCE),
        (Reference.YES, None),
        (Reference.UNKNOWN, None),
    ],
)
def test_an_old_file_without_a_job(reference, rule):
    assert judge(file(job=None), reference=reference).rule == rule


@pytest.mark.parametrize("reference", list(Reference))
@pytest.mark.parametrize("state", [*JobState, None])
def test_all_rules_wait_for_the_age(state, reference):
    for hours_old in (-5, 0, 23.9):
        one = file(hours_old=hours_old, job="1" if state else None)
        assert judge(one, None if state is None else Job(state), reference).rule is None


def test_nothing_of_a_live_or_unknown_job_is_ever_an_orphan():
    for state, reference, age in product(
        (JobState.LIVE, JobState.UNKNOWN), Reference, (0, 30, 10_000)
    ):
        assert not judge(file(hours_old=age), Job(state), reference).orphan
        assert not after_crash(
            file(hours_old=age), {"1": Job(state)}, now_ns=NOW, wait_ns=0, named=True
        ).orphan


def test_what_the_database_refers_to_is_no_orphan():
    for state in JobState:
        assert not judge(file(), Job(state), Reference.YES).orphan


def test_a_live_job_that_the_name_may_mean_as_well_keeps_the_file():
    one = file(perhaps=("1_2",))
    jobs = {"1": Job(JobState.FAILED), "1_2": Job(JobState.LIVE)}
    assert not orphan(one, jobs, now_ns=NOW, max_age_ns=HOUR).orphan
    assert not after_crash(one, jobs, now_ns=NOW, wait_ns=0, named=True).orphan
    jobs["1_2"] = Job(JobState.ABSENT)
    assert orphan(one, jobs, now_ns=NOW, max_age_ns=HOUR).orphan


@pytest.mark.parametrize(
    ("job", "named", "expected"),
    [
        (Job(JobState.FAILED, NOW - HOUR), False, True),
        (Job(JobState.FAILED, NOW - HOUR + 1), False, False),
        (Job(JobState.FAILED, NOW - HOUR + 1), True, True),
        (Job(JobState.FAILED), False, True),  # the file itself is old enough
        (Job(JobState.FINISHED), False, False),
        (Job(JobState.FINISHED), True, True),
        (Job(JobState.ABSENT), False, False),
        (Job(JobState.ABSENT), True, True),
    ],
)
def test_after_a_crash(job, named, expected):
    verdict = after_crash(file(), {"1": job}, now_ns=NOW, wait_ns=HOUR, named=named)
    assert verdict.orphan is expected


def test_a_failed_job_of_unknown_time_waits_for_its_youngest_sign_of_life():
    one = file(hours_old=0.5)
    jobs = {"1": Job(JobState.FAILED)}
    assert not after_crash(one, jobs, now_ns=NOW, wait_ns=HOUR, named=False).orphan


def test_every_verdict_has_a_reason():
    for state, reference, age in product([*JobState, None], Reference, (0, 48)):
        one = file(hours_old=age, job="1" if state else None)
        assert judge(one, None if state is None else Job(state), reference).reason
