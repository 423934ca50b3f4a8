from __future__ import annotations

import os
import pickle
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync import errors
from lifecycle_sync.clock import (
    NS_MAX,
    NS_MIN,
    NS_PER_DAY,
    NS_PER_SECOND,
    FixedClock,
    SystemClock,
    from_datetime,
    to_datetime,
    to_iso,
)
from lifecycle_sync.model.file import (
    TRANSITIONS,
    FileFlag,
    FileType,
    Kind,
    LifecycleState,
    may_become,
    type_of_name,
)
from lifecycle_sync.model.ids import IdSource, from_text, to_text
from lifecycle_sync.model.policy import SHIPPED

MS = 1_000_000
NOW_NS = 1_767_323_045_000_000_000  # 2026-01-02T03:04:05Z

# -- ids -----------------------------------------------------------------------------------------


def test_an_id_is_a_uuid_of_version_seven_with_its_time():
    ids = IdSource(lambda: NOW_NS).take(5000)
    for identifier in ids:
        parsed = uuid.UUID(bytes=identifier)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    first = uuid.UUID(bytes=ids[0])
    assert first.int >> 80 == NOW_NS // MS


def test_ids_grow_strictly_however_many_a_millisecond():
    source = IdSource(lambda: NOW_NS)
    ids = [one for count in (1, 4095, 1, 4096, 4097, 90_000) for one in source.take(count)]
    assert len(ids) > 100_000
    assert all(earlier < later for earlier, later in pairwise(ids))
    # 4096 fit into a millisecond; the rest borrows from those to come.
    assert uuid.UUID(bytes=ids[4095]).int >> 80 == NOW_NS // MS
    assert uuid.UUID(bytes=ids[4096]).int >> 80 == NOW_NS // MS + 1


def test_ids_grow_when_the_clock_goes_back_and_when_it_jumps_ahead():
    clock = FixedClock(NOW_NS)
    source = IdSource(clock.now_ns)
    ids = []
    for seconds in (0, -10, -10, 3600, -3600, 0.001, 7200):
        clock.advance(seconds)
        ids += source.take(3000)
    assert ids == sorted(set(ids))


@given(st.lists(st.tuples(st.integers(-5000, 5000), st.integers(0, 9000)), max_size=20))
def test_ids_grow_whatever_the_clock_does(steps):
    clock = FixedClock(NOW_NS)
    source = IdSource(clock.now_ns)
    last = b""
    for milliseconds, count in steps:
        clock.advance(milliseconds / 1000)
        ids = source.take(count)
        assert len(ids) == count
        for identifier in ids:
            assert identifier > last
            last = identifier


def test_the_time_of_an_id_is_the_clocks_once_that_has_caught_up():
    clock = FixedClock(NOW_NS)
    source = IdSource(clock.now_ns)
    source.take(3 * 4096)
    clock.advance(1)
    assert uuid.UUID(bytes=source.one()).int >> 80 == NOW_NS // MS + 1000


def test_ids_of_two_sources_differ():
    one, other = (IdSource(lambda: NOW_NS).take(1000) for _ in range(2))
    assert not set(one) & set(other)
    # 62 random bits each: no two share the half that is not the time and the sequence.
    assert len({identifier[8:] for identifier in one + other}) == 2000


def test_an_id_becomes_text_and_back():
    identifier = IdSource(SystemClock().now_ns).one()
    text = to_text(identifier)
    assert text == str(uuid.UUID(bytes=identifier))
    assert from_text(text) == from_text(text.replace("-", "").upper()) == identifier
    with pytest.raises(ValueError, match="UUID"):
        from_text("nonsense")


# -- states --------------------------------------------------------------------------------------

# Rows are what a file is, columns what it may become, in the order of `STATES`.
STATES = "uploaded processing backup_pending backup_complete archived expired deleted".split()
MATRIX = """
    = x x . x x x
    x = . . . . x
    x x = x . . x
    x x x = x x x
    x . . . = x x
    x x . . x = x
    x . . . . . =
"""


def matrix() -> list[tuple[str, str, str]]:
    rows = [line.split() for line in MATRIX.strip().splitlines()]
    return [
        (old, new, rows[row][column])
        for row, old in enumerate(STATES)
        for column, new in enumerate(STATES)
    ]


@pytest.mark.parametrize(("old", "new", "verdict"), matrix())
def test_a_state_may_become_what_the_table_says(old, new, verdict):
    before, after = LifecycleState(old), LifecycleState(new)
    assert may_become(before, after) == (verdict in "=x")
    assert (after in TRANSITIONS[before]) == (verdict == "x")


def test_the_table_has_every_state():
    assert set(TRANSITIONS) == set(LifecycleState)
    assert {state.value for state in LifecycleState} == set(STATES)


def test_a_vanished_file_may_become_deleted_and_a_changed_one_uploaded_from_anywhere():
    for state in LifecycleState:
        assert may_become(state, LifecycleState.DELETED)
        assert may_become(state, LifecycleState.UPLOADED)


# -- kinds, types, policies ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file_type"),
    [
        (b"a.txt", FileType.DOCUMENT),
        (b"a.PDF", FileType.DOCUMENT),
        (b"a.jpeg", FileType.IMAGE),
        (b"a.JpG", FileType.IMAGE),
        (b"a.mkv", FileType.VIDEO),
        (b"a.m2ts", FileType.VIDEO),
        (b"a.flac", FileType.AUDIO),
        (b"a.tar.gz", FileType.ARCHIVE),
        (b"a.zip", FileType.ARCHIVE),
        (b"a.zip.txt", FileType.DOCUMENT),
        (b"\xff\xfe.png", FileType.IMAGE),
        (b"..txt", FileType.DOCUMENT),
        (b"a", FileType.OTHER),
        (b"txt", FileType.OTHER),
        (b".txt", FileType.DOCUMENT),
        (b"a.", FileType.OTHER),
        (b"a.txt ", FileType.OTHER),
        (b"a.t\xffxt", FileType.OTHER),
        (b"a.unknown", FileType.OTHER),
        (b"a.txttxt", FileType.OTHER),
        (b"", FileType.OTHER),
    ],
)
def test_the_type_of_a_file_is_that_of_its_last_suffix(name, file_type):
    assert type_of_name(name) is file_type


def test_kinds_are_the_file_types_of_a_mode(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    kinds = {name: Kind(os.lstat(tmp_path / name).st_mode >> 12) for name in os.listdir(tmp_path)}
    assert kinds == {"file": Kind.REGULAR, "link": Kind.SYMLINK, "fifo": Kind.FIFO}
    assert Kind(os.stat("/dev/null").st_mode >> 12) is Kind.CHARACTER_DEVICE
    assert Kind(os.stat(tmp_path).st_mode >> 12) is Kind.DIRECTORY


def test_flags_are_bits_of_their_own():
    assert sum(FileFlag).bit_count() == len(FileFlag)


def test_every_type_has_at_most_one_shipped_policy_and_default_governs_the_rest():
    governed = [file_type for policy in SHIPPED for file_type in policy.file_types]
    assert len(governed) == len(set(governed))
    assert set(FileType) - set(governed) == {FileType.OTHER}
    assert not SHIPPED[0].file_types and SHIPPED[0].name == "default"
    assert not (SHIPPED[0].auto_archive or SHIPPED[0].auto_delete)


# -- time ----------------------------------------------------------------------------------------


def test_a_moment_becomes_an_aware_utc_datetime_with_its_microseconds():
    assert to_datetime(NOW_NS + 6_789) == datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert to_datetime(-1) == datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert to_datetime(0).utcoffset() == timedelta(0)
    assert to_iso(NOW_NS + 6_789) == "2026-01-02T03:04:05.000006Z"
    assert to_iso(-NS_PER_DAY) == "1969-12-31T00:00:00.000000Z"


@pytest.mark.parametrize("beyond", [1, 10**9, 2**64, 10**40])
def test_what_an_int64_cannot_hold_is_clamped(beyond):
    assert to_datetime(NS_MAX + beyond) == to_datetime(NS_MAX)
    assert to_datetime(NS_MIN - beyond) == to_datetime(NS_MIN)
    assert to_datetime(NS_MAX).year == 2262
    assert to_datetime(NS_MIN).year == 1677
    assert to_iso(NS_MAX + beyond) == to_iso(NS_MAX)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [(datetime(1, 1, 1, tzinfo=UTC), NS_MIN), (datetime(9999, 12, 31, tzinfo=UTC), NS_MAX)],
)
def test_a_datetime_that_an_int64_cannot_hold_is_clamped(moment, expected):
    assert from_datetime(moment) == expected


@given(st.integers(NS_MIN, NS_MAX))
def test_a_moment_comes_back_cut_to_microseconds(ns):
    back = from_datetime(to_datetime(ns))
    assert back == max(ns - ns % 1000, NS_MIN)


def test_an_aware_datetime_of_another_zone_is_the_same_moment():
    zone = timezone(timedelta(hours=5, minutes=45))
    assert from_datetime(datetime(2026, 1, 2, 8, 49, 5, tzinfo=zone)) == NOW_NS


@pytest.mark.parametrize(("zone", "offset_hours"), [("UTC", 0), ("XST-5", 5), ("XST+8", -8)])
def test_a_naive_datetime_is_local_time(monkeypatch, zone, offset_hours):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        naive = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  (naive on purpose)
        assert from_datetime(naive) == NOW_NS - offset_hours * 3600 * NS_PER_SECOND
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_fixed_clock_stands_still_until_it_is_moved(clock):
    before = clock.now_ns()
    assert clock.now_ns() == before
    clock.advance(1.5)
    assert clock.now_ns() == before + 1_500_000_000
    clock.advance(-3600)
    assert clock.now_ns() < before


def test_the_system_clock_is_the_machines():
    before = time.time_ns()
    assert before <= SystemClock().now_ns() <= time.time_ns()


# -- errors --------------------------------------------------------------------------------------


def every_error() -> list[errors.LifecycleError]:
    place = {"operation": "add root", "subject": "/srv", "remedy": "make it"}
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.LifecycleError)
        and kind not in {errors.ConfigError, errors.GuardError, errors.FilesFailedError}
    ]
    return [
        *(kind("it is missing", **place) for kind in kinds),
        errors.ConfigError(["one", "two"], subject="lifecycle.toml", remedy="mend it"),
        errors.GuardError("12 of 20 are gone", guard="shrink", **place),
        errors.FilesFailedError("3 failed", failed=3, operation="sync", remedy="see the list"),
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_all_it_has(error, protocol):
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert (str(back), back.args) == (str(error), error.args)
    assert (back.exit_code, back.code) == (error.exit_code, error.code)


def test_an_error_shows_operation_subject_cause_and_remedy():
    error = errors.RootError(
        "is a file", operation="add root", subject="/srv", remedy="name its folder"
    )
    assert str(error) == "add root: /srv: is a file (name its folder)"
    assert str(errors.BusyError("locked")) == "locked"


def test_the_subject_of_an_error_may_be_bytes_or_a_path(tmp_path):
    assert errors.RootError("x", subject=b"/srv/\xff").subject == os.fsdecode(b"/srv/\xff")
    assert errors.RootError("x", subject=tmp_path).subject == str(tmp_path)


def test_a_configuration_error_lists_its_faults():
    assert errors.ConfigError(["a is wrong"]).cause == "1 fault: a is wrong"
    assert "2 faults: a; b" in str(errors.ConfigError(["a", "b"], subject="file"))


def test_no_error_is_left_out():
    assert {errors.StorageFullError, errors.GuardError} < {type(error) for error in every_error()}


def test_codes_are_the_errors_own_and_exit_codes_those_that_are_documented():
    codes = [type(error).code for error in every_error()]
    assert len(codes) == len(set(codes))
    assert {type(error).exit_code for error in every_error()} <= {1, 2, 3, 4, 5}
