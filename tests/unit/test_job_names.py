"""Which names are a job's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.decide.job_names import JobNames


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("job_123_chunk_abc_image1.jpg", ("123", "abc", ())),
        ("job_1_2_chunk_a_x", ("1_2", "a", ())),
        ("job_123_image.tmp", ("123", None, ())),
        ("job_1_2_x", ("1", None, ("1_2",))),
        ("job_7_chunk_a", ("7", None, ("7_chunk",))),
        ("job_6f-e1_chunk_0_x y.part", ("6f-e1", "0", ())),
    ],
)
def test_whose_a_name_is(name, expected):
    assert JobNames().parse(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "job_",
        "job_12",
        "job_12x.tmp",
        "job__x",
        "jobs_12_x",
        "JOB_1_chunk_2_x",
        " job_1_x",
        "job_1_",
    ],
)
def test_names_that_look_like_a_jobs_but_are_not(name):
    assert JobNames().parse(name) is None


@pytest.mark.parametrize(
    "pattern", ["", "*", "job_*", "job_{job_id}", "{job_id}_*", "a/{job_id}_*", "job{job_id}*"]
)
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match="a pattern of names"):
        JobNames(pattern)


def test_a_pattern_of_ones_own():
    names = JobNames("crawl-{job_id}.*")
    assert names.parse("crawl-9.html") == ("9", None, ())
    with pytest.raises(ValueError, match="no chunks"):
        names.name_of("9", "1", "x")


@given(st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True), st.text("ab_c1", min_size=1, max_size=5))
def test_the_name_of_a_chunks_file_is_that_jobs_or_an_earlier_cut_of_it(job, rest):
    found = JobNames().parse(JobNames().name_of(job, "7", rest))
    assert found is not None
    # An id that contains the pattern's own text cannot be told; then it is nobody else's whole id.
    assert found.job_id == job or ("_chunk_" in f"{job}_chunk_" and found.job_id != "")
