"""Frames that pass into a checkpoint unread: never another line than if each were looked at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault import compaction
from lifecycle_sync.vault.events import encode_event
from lifecycle_sync.vault.format import object_name, pack_name
from lifecycle_sync.vault.held import read_held
from lifecycle_sync.vault.manifest import Inner
from lifecycle_sync.vault.passing import facts_of
from tests.support.vaults import VaultHouse

HOUSE = VaultHouse(Path())
NOW_NS = HOUSE.clock.now_ns()
NAMES = [bytes([number]) * 32 for number in range(4)]
GONE = set(NAMES[:2])
OLD_NS = NOW_NS - 500 * 24 * 3600 * 10**9


def version() -> bytes:
    return encode_event(HOUSE.version(b"x", ContentKey("sha256", bytes(32))))


def pack(name: bytes) -> bytes:
    return b'{"pack":"%s","members":[]}' % name.hex().encode()


def contents(names: list[bytes]) -> bytes:
    told = b",".join(b'"%s"' % it.hex().encode() for it in names)
    return b'{"object":[%s],"content":"x"}' % told


LINES = st.lists(
    st.one_of(
        st.builds(version),
        st.sampled_from(NAMES).map(pack),
        # Of another writer.
        st.sampled_from(NAMES).map(lambda name: pack(name).replace(b":", b": ")),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(contents),
        st.sampled_from([b'{"event":"directory","at":1}', b'{"event":"state","at":1}']),
        st.sampled_from([NOW_NS, OLD_NS]).map(lambda at: b'{"event":"pruned","at":%d}' % at),
    ),
    max_size=5,
)


def a_vault() -> Any:
    """Of which everything is condemned, and some of it has gone."""
    gone = {name(it) for it in GONE for name in (pack_name, object_name)}
    return SimpleNamespace(
        index=SimpleNamespace(are_condemned=lambda names: names),
        storage=SimpleNamespace(size=lambda name: None if name in gone else 1),
    )


@given(LINES, st.sampled_from([True, False, None]))
def test_a_frame_that_passes_says_what_would_be_chosen_of_it(lines, stays):
    told = read_held(b"".join(line + b"\n" for line in lines))
    assert told.rest is not None
    facts = facts_of(Inner(0, 1, len(lines)), told.rest)
    known = {} if stays is None else {("m", 0): stays}
    choosing = compaction._Choosing(a_vault(), NOW_NS, compaction.Known(known, {}, set()))
    passing = choosing.passing({("m", 0): facts} if facts is not None else {})
    for it in passing.get("m", {}).values():
        assert choosing.choose("m", 0, lines) == (lines if it.stays else it.lines)
    # Nothing but versions and what is there, or has gone with them, always passes.
    plain = [line for line in lines if line.startswith(b'{"event":"version"')]
    if stays is not None and lines == plain:
        assert passing


def test_of_what_names_much_nothing_is_remembered():
    assert facts_of(Inner(0, 1, 64), [pack(NAMES[0])] * 64) is not None
    assert facts_of(Inner(0, 1, 65), [pack(NAMES[0])] * 65) is None
    assert facts_of(Inner(0, 1, 22), [contents(NAMES[:3])] * 22) is None
