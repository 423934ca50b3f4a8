"""What versions hold, read off the lines of manifests: by a pattern, and as JSON says it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault import held as held_
from lifecycle_sync.vault.events import encode_event
from lifecycle_sync.vault.held import held, held_and_all, told
from lifecycle_sync.vault.index import key_blob
from tests.support.vaults import VaultHouse

KEY = ContentKey("sha256", bytes(range(32)))
HOUSE = VaultHouse(Path())
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
    assert held_and_all([usual, *others]) == (held([usual]), True)
    link = encode_event(HOUSE.version(b"link", None))
    newer = b'{"event":"unheard of","content":"' + str(KEY).encode() + b'","version":"00"}'
    for other in (link, newer, b'{"event":"version"'):
        assert not held_and_all([usual, other])[1]
