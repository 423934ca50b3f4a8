"""Numbers, times and names in words, both ways."""

from __future__ import annotations

import click
import pytest

from lifecycle_sync.cli.quantities import When, moment, size_bytes
from lifecycle_sync.cli.sheet import Block, Heading, Notes, Styled, Table, plain_lines
from lifecycle_sync.cli.words import ago_text, count_text, duration_text, name_text, size_text

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (102_300, "99.9 KiB"),
        (102_400, "100 KiB"),
        (1_048_575, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**63, "8.0 EiB"),
        (2**70, "1024 EiB"),
    ],
)
def test_sizes_are_binary(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("0", 0),
        ("500", 500),
        ("10k", 10_240),
        ("1.5M", 1_572_864),
        ("2GiB", 2**31),
        ("2 gb", 2**31),
        ("3B", 3),
    ],
)
def test_people_write_sizes(written: str, size: int) -> None:
    assert size_bytes(None, None, written) == size


@pytest.mark.parametrize("written", ["", "k", "-1", "1,5M", "10 kilo", "0x10", "1e3", "\x1b[2J"])
def test_what_is_no_size_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write 500, 10k, 1\.5M or 2GiB") as raised:
        size_bytes(None, None, written)
    assert raised.value.message.isprintable()


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("30min", 1800),
        ("12h", 43_200),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("1y", 31_536_000),
        ("1.5h", 5_400),
    ],
)
def test_people_write_ages(written: str, seconds: int) -> None:
    when = moment(None, None, written)
    assert when is not None
    assert when.ns(10**18) == 10**18 - seconds * SECOND_NS


def test_people_write_dates() -> None:
    assert moment(None, None, "1970-01-02T00:00:00Z") == When(at_ns=86_400 * SECOND_NS)
    assert moment(None, None, "1970-01-01T01:00+01:00") == When(at_ns=0)
    assert moment(None, None, "2026-01-31") is not None


@pytest.mark.parametrize("written", ["", "3m", "yesterday", "2026-02-30", "30", "d"])
def test_what_is_no_moment_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(click.BadParameter, match="write 12h, 30d, 2w or 1y"):
        moment(None, None, written)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.00 s"),
        (0.042, "0.04 s"),
        (0.5, "0.5 s"),
        (9.96, "10 s"),
        (59.7, "1 min"),
        (192, "3 min 12 s"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_ages_of_events() -> None:
    now = 1_767_323_045 * SECOND_NS
    assert ago_text(now, now) == "just now"
    assert ago_text(now - 300 * SECOND_NS, now) == "5 min ago"
    assert ago_text(now + 7_200 * SECOND_NS, now).startswith("2026-01-02 ")


def test_counts_have_their_plural() -> None:
    assert count_text(1, "file") == "1 file"
    assert count_text(2_000, "file") == "2,000 files"
    assert count_text(0, "entry", "entries") == "0 entries"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("größe 日本".encode(), "größe 日本"),
        (b"two\nlines\ttab", r"two\nlines\ttab"),
        (b"\x1b[31mred\x9b", r"\x1b[31mred\x9b"),
        (b"odd\xff", r"odd\xff"),
        ("right\u202eleft\u2028", r"right\u202eleft\u2028"),
        ("\udcff", r"\xff"),
        ("c1 \x9b control", r"c1 \x9b control"),
        ("می‌خواهم", "می‌خواهم"),
    ],
)
def test_names_are_shown_and_never_sent(name: bytes | str, shown: str) -> None:
    assert name_text(name) == shown


def test_a_sheet_in_a_pipe_is_aligned_and_escapes_everything() -> None:
    sheet: list[Block] = [
        Heading("/srv\x1b", Styled("held", "bad")),
        Table("Largest", [["10 B", "a"], ["1 B", "long\nname"]], ("size", "name"), frozenset({0})),
        Notes("", ["a note"]),
        Heading("/other"),
    ]
    assert plain_lines(sheet) == [
        r"/srv\x1b  (held)",
        "",
        "  Largest",
        "    size  name",
        "    10 B  a",
        r"     1 B  long\nname",
        "  a note",
        "",
        "/other",
    ]
