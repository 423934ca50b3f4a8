"""Frames: what goes in comes out, and hostile ones make neither an error of another kind nor more
memory than was allowed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.model.content import ContentKey, key_from_text
from lifecycle_sync.vault.format import (
    Part,
    member_tail,
    part_tail,
    read_member_tail,
    read_part_tail,
    split_manifest_name,
    stored_digest,
)
from lifecycle_sync.vault.frames import (
    FAST_LEVEL,
    USUAL_LEVEL,
    FrameCompressor,
    FrameError,
    FrameStream,
    level_for,
    unpack_frame,
    unpack_frames,
    unpack_stream,
)

digests = st.binary(min_size=32, max_size=32)
keys = st.builds(ContentKey, st.sampled_from(["sha256", "blake3"]), digests)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(st.lists(st.binary(max_size=500), min_size=1), st.integers(1, 50))
def test_frames_come_out_with_their_places(contents, piece):
    compressor = FrameCompressor()
    frames = [compressor.frame(content) for content in contents]
    found = list(unpack_frames(cut(b"".join(frames), piece), 1000))
    assert [content for _start, _end, content in found] == contents
    ends = [sum(map(len, frames[: n + 1])) for n in range(len(frames))]
    assert [(start, end) for start, end, _ in found] == list(zip([0, *ends], ends, strict=False))


@given(st.lists(st.binary(max_size=500)), keys, st.integers(1, 50))
def test_a_stream_comes_out_and_its_tail_is_passed_over(contents, key, piece):
    stream = FrameStream(USUAL_LEVEL)
    data = b"".join(map(stream.add, contents)) + stream.end()
    data += part_tail(Part(0, 0, bytes(32), key, 5))
    assert b"".join(unpack_stream(cut(data, piece), 64)) == b"".join(contents)


def test_a_frame_of_another_length_than_said_is_refused():
    frame = FrameCompressor().frame(b"some content")
    assert unpack_frame(frame + b"tail", 12) == b"some content"
    for wrong in (0, 11, 13, 1000):
        with pytest.raises(FrameError):
            unpack_frame(frame, wrong)


def test_a_bomb_is_cut_short():
    bomb = FrameCompressor().frame(bytes(50 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(FrameError):
        unpack_frame(bomb, 1000)
    with pytest.raises(FrameError):
        list(unpack_frames([bomb], 1 << 20))
    assert max(map(len, unpack_stream([bomb], 1 << 16))) <= 1 << 16


@given(st.binary(max_size=100))
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(FrameError):
        unpack_frame(b"\x00" + data, 5)
    with pytest.raises(FrameError):
        list(unpack_stream([b"\x00" + data]))
    with pytest.raises(FrameError):
        list(unpack_frames([b"\x00" + data], 100))


@given(st.integers(0, 200))
def test_a_frame_that_ends_too_early_is_refused(left):
    stream = FrameStream(USUAL_LEVEL)
    whole = stream.add(random.Random(1).randbytes(190)) + stream.end()
    if left < len(whole):
        with pytest.raises(FrameError):
            list(unpack_stream([whole[:left]]))
        if left:
            with pytest.raises(FrameError):
                list(unpack_frames([whole[:left]], 1000))


def test_what_does_not_compress_is_found_out_by_samples():
    assert level_for(random.Random(1).randbytes(1 << 20)) == FAST_LEVEL
    assert level_for(b"the same again " * 10_000) == USUAL_LEVEL


@given(keys, st.binary(max_size=50))
def test_tails_say_what_they_follow(key, before):
    assert read_member_tail(before + member_tail(key)) == key
    first = Part(0, 0, bytes(32))
    last = Part(7, 7 << 26, key.digest, key, 2**40)
    assert read_part_tail(before + part_tail(first)) == first
    assert read_part_tail(before + part_tail(last)) == last


@given(st.binary(max_size=200))
def test_what_is_no_tail_is_none(data):
    assert read_member_tail(data) is None
    assert read_part_tail(data) is None


@given(keys)
def test_a_key_is_the_same_after_being_text(key):
    assert key_from_text(str(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "md5:" + "0" * 32,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "0 " * 32,
        "sha256:../../../etc/passwd" + "0" * 46,
    ],
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match=r"no content key|non-hexadecimal"):
        key_from_text(text)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "../0000000001-" + "0" * 64 + ".jsonl.zst",
        "0000000001-" + "0" * 63 + ".jsonl.zst",
        "0000000001-" + "A" * 64 + ".jsonl.zst",
        "0000000001-" + "0" * 64 + ".jsonl.zst\n",
        "0000000001-" + "0" * 64 + ".jsonl.zst.bak",
        "1-" + "0" * 64 + ".jsonl.zst",
    ],
)
def test_what_is_no_name_of_a_manifest_is_none(name):
    assert split_manifest_name(name) is None


@pytest.mark.parametrize(
    ("folder", "fan", "name"),
    [
        ("packs", "00", "0" * 64 + ".zst"),
        ("objects", "00", "0" * 64 + ".zip"),
        ("packs", "01", "0" * 64 + ".zip"),
        ("packs", "00", "0" * 64 + ".zip~"),
        ("packs", "00", "G" * 64 + ".zip"),
        ("packs", "..", "../x.zip"),
    ],
)
def test_what_is_named_otherwise_is_foreign(folder, fan, name):
    assert stored_digest(folder, fan, name) is None
