"""Packs are ZIP files that any tool reads, and say what is in them."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault.content_lines import decode_content_line, pack_line, split_pack
from lifecycle_sync.vault.frames import FrameCompressor, content_size_of, unpack_frame
from lifecycle_sync.vault.pack import (
    PACK_SIZE_MAX,
    PackBuilder,
    PackContents,
    Packed,
    packed,
    read_directory,
)
from tests.support.vaults import key_of

COMPRESSOR = FrameCompressor()


def make_pack(contents: list[bytes]) -> tuple[PackContents, bytes]:
    builder = PackBuilder("sha256")
    members = [packed(key_of(data), len(data), COMPRESSOR.frame(data)) for data in contents]
    assert builder.take(members, 0) == len(contents)
    size = builder.size
    sealed, data = builder.seal(lambda pack: pack)
    assert len(data) == size == sealed.length
    return sealed, data


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20, unique=True))
def test_a_pack_is_a_zip_whose_members_unpack_to_the_contents(contents):
    sealed, data = make_pack(contents)
    assert hashlib.sha256(data).digest() == sealed.sha256
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        assert zipped.testzip() is None
        assert [it.filename for it in zipped.infolist()] == [
            f"{key_of(content).digest.hex()[:32]}.zst" for content in contents
        ]
        for name, content in zip(zipped.namelist(), contents, strict=True):
            assert unpack_frame(zipped.read(name), len(content)) == content


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20, unique=True))
def test_a_pack_alone_tells_what_a_manifest_does(contents):
    sealed, data = make_pack(contents)
    (line,) = split_pack(sealed)
    assert decode_content_line(pack_line(line)) == line
    found = read_directory(data, content_size_of)
    assert [it.key.digest for it in found] == line.digests
    assert [it.offset for it in found] == line.offsets
    assert [it.stored for it in found] == line.stored
    assert [it.size for it in found] == line.sizes == [len(it) for it in contents]
    for member, content in zip(found, contents, strict=True):
        frame = data[member.offset : member.offset + member.stored]
        assert unpack_frame(frame, member.size) == content


def test_many_members_take_several_lines_without_a_gap():
    contents = [str(number).encode() for number in range(1100)]
    sealed, data = make_pack(contents)
    lines = list(split_pack(sealed))
    assert len(lines) == 5
    offsets = [offset for line in lines for offset in line.offsets]
    assert offsets == [it.offset for it in read_directory(data, content_size_of)]
    assert [decode_content_line(pack_line(line)) for line in lines] == lines


def test_two_contents_of_one_name_lie_in_two_packs():
    builder = PackBuilder("sha256")
    frame = COMPRESSOR.frame(b"x")

    def member(digest: bytes) -> Packed:
        return packed(ContentKey("sha256", digest), 1, frame)

    members = [member(b"a" * 16 + b"b" * 16), member(b"b" * 32), member(b"a" * 16 + b"c" * 16)]
    assert builder.take(members, 0) == 2
    assert builder.take(members, 2) == 2
    assert len(builder) == 2


def test_a_pack_takes_what_fits_and_a_first_one_always():
    data = os.urandom(1 << 20)
    members = [
        packed(key_of(data[n:]), len(data) - n, COMPRESSOR.frame(data[n:])) for n in range(20)
    ]
    builder = PackBuilder("sha256")
    taken = builder.take(members, 0)
    assert taken == 15
    assert builder.size <= PACK_SIZE_MAX < builder.size + members[taken].stored


@given(st.data())
def test_a_damaged_pack_is_refused_or_read_but_never_breaks(data):
    _, pack = make_pack([b"one", b"two" * 50, b"three"])
    damaged = bytearray(pack)
    at = data.draw(st.integers(0, len(pack) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(pack)))
    for it in (bytes(damaged), pack[:cut]):
        try:
            read_directory(it, content_size_of)
        except ValueError:
            pass


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_791, 1 << 20])
def test_what_does_not_compress_costs_little(size):
    import random

    data = random.Random(size).randbytes(size)
    assert len(COMPRESSOR.frame(data)) <= size + 14 + 3 * (size // (128 << 10) + 1)
