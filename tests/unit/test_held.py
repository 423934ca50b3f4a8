"""What versions hold, read off the lines of manifests: by a pattern, and as JSON says it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault import held as held_
from lifecycle_sync.vault.events import encode_event
from lifecycle_sync.vault.held import Held, read_held, told
from lifecycle_sync.vault.index import key_blob
from tests.support.vaults import VaultHouse

KEY = ContentKey("sha256", bytes(range(32)))
HOUSE = VaultHouse(Path())
_NATIVE = held_._native


@pytest.fixture(params=["python", "c"], autouse=True, scope="module")
def native(request):
    """By which of the two lines are read."""
    if request.param == "c" and _NATIVE() is None:
        pytest.skip("the part in C is not built")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(held_, "_native", lambda: None)
        yield


def held_and_rest(lines: Sequence[bytes]) -> tuple[list[Held], list[bytes] | None]:
    columns, others, rest = read_held(b"".join(line + b"\n" for line in lines))
    keys, ids, times, count = columns
    size = len(keys) // max(count, 1)
    numbers = [int(it) for it in times.split(",")] if count else []
    assert len(keys) == size * count and len(ids) == 16 * count and len(numbers) == count
    found = [(keys[at * size :][:size], ids[at * 16 :][:16], numbers[at]) for at in range(count)]
    return found + others, rest


def held(lines: Sequence[bytes]) -> list[Held]:
    return held_and_rest(lines)[0]


PATHS = [
    b"a",
    b"",
    b"with \xff",
    'ä"ö'.encode(),
    b"back\\",
    b'","content":"sha256:' + b"0" * 64 + b'","version":"' + b"1" * 32,
    b'x","at":5}',
    b"line\nbreak",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("by_pattern", [True, False])
def test_every_path_comes_to_the_same(path, by_pattern, monkeypatch):
    if not by_pattern:
        monkeypatch.setattr(held_, "_usual", lambda line: None)
    event = HOUSE.version(path, KEY)
    line = encode_event(event)
    assert held([line]) == [(key_blob(KEY), event.version_id, event.at_ns)]
    assert told([line, b'{"pack":1}']) == [(event.version_id, event.at_ns), None]


def test_the_usual_line_is_read_by_the_pattern(monkeypatch):
    monkeypatch.setattr(held_, "_held_by", lambda line: pytest.fail("as JSON"))
    assert held([encode_event(HOUSE.version(b"usual", KEY))])


def test_what_a_newer_writer_says_beside_it_counts_as_well():
    event = HOUSE.version(b"new", KEY)
    line = msgspec.json.decode(encode_event(event))
    line = {"event": "kept-elsewhere", "more": {"content": "x"}} | line | {"event": "novel"}
    assert held([msgspec.json.encode(line)]) == [(key_blob(KEY), event.version_id, event.at_ns)]
    # A time that no database takes is one all the same.
    ((_, _, at_ns),) = held([msgspec.json.encode(line | {"at": 2**64 - 1})])
    assert at_ns == 2**63 - 1


def test_what_is_no_version_holds_nothing():
    event = HOUSE.version(b"odd", KEY)
    usual = encode_event(event)
    for old, new in ((b"sha256:", b"md7:"), (b"sha256:00", b"sha256:zz"), (b"sha256:", b"sha256:")):
        found = held([usual.replace(old, new)])
        assert bool(found) is (old == new)
    assert held([b'{"event":"version"', b"", b'{"pack":"x"}', b'{"event":"state"}']) == []
    assert told([b'{"event":"version"', b'{"event":"version","version":"xx"}']) == [None, None]


def test_that_each_line_holds_one_content_is_said_only_where_it_is_so():
    usual = encode_event(HOUSE.version(b"usual", KEY))
    others = [b'{"pack":"x"}', b'{"event":"state"}', b'{"event":"pruned"}']
    assert held_and_rest([usual, *others]) == (held([usual]), others)
    link = encode_event(HOUSE.version(b"link", None))
    newer = b'{"event":"unheard of","content":"' + str(KEY).encode() + b'","version":"00"}'
    for other in (link, newer, b'{"event":"version"'):
        assert held_and_rest([usual, other])[1] is None


_LINES = [
    encode_event(HOUSE.version(b"usual", KEY)),
    encode_event(HOUSE.version(b"", ContentKey("blake3", bytes(32)))),
    encode_event(HOUSE.version(b'"', KEY)),
    encode_event(HOUSE.version(b"link", None)),
    b'{"event":"state","at":1}',
    b'{"pack":"x"}',
    b"",
]
_PIECES = [b'"', b"\\", b"}", b":", b'"at":', b"-", b"0", b"9", b"8" * 18, b"F", b"g", b"sha256:"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(_LINES),
            st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(_PIECES))),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_both_read_the_same_off_lines_that_are_spoilt(lines):
    """Pieces put in, and others taken out, also near the end."""
    spoilt = []
    for line, changes, from_end in lines:
        for at, gone, piece in changes:
            start = max(len(line) - at % 40, 0) if from_end else at
            line = line[:start] + piece + line[start + gone :]
        spoilt.append(line)
    read = []
    for by in (_NATIVE, lambda: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(held_, "_native", by)
            found, rest = held_and_rest(spoilt)
            read.append((sorted(found), rest))
    assert read[0] == read[1]
