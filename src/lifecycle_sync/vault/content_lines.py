"""The lines of a manifest that say where contents lie: in which pack, or in which parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from lifecycle_sync.model.content import DIGEST_SIZES, ContentKey, key_from_text
from lifecycle_sync.vault.format import PART_SIZE_MAX, SMALL_SIZE_MAX, sha256_from_hex
from lifecycle_sync.vault.pack import LOCAL_SIZE, MEMBERS_MAX, PackContents

# So many members stand in one line.
MEMBERS_PER_LINE = 250


class _PackLine(msgspec.Struct, kw_only=True):
    """Members from `offset` on, without a gap; `digests` is their hexadecimal one after another."""

    pack: str
    length: int
    offset: int
    algorithm: str
    digests: str
    sizes: list[int]
    stored: list[int]


class _ObjectLine(msgspec.Struct, kw_only=True):
    object: list[str]
    content: str
    size: int
    sizes: list[int]
    stored: list[int]


class PackLine(NamedTuple):
    """Some members of a pack, one list a field; `offsets` are where they begin in the pack."""

    sha256: bytes
    length: int
    algorithm: str
    digests: Sequence[bytes]
    offsets: Sequence[int]
    stored: Sequence[int]
    sizes: Sequence[int]


class ObjectPart(NamedTuple):
    """One stored file of an object: its SHA-256, its bytes as stored, the content it holds."""

    sha256: bytes
    stored: int
    size: int


class ObjectLine(NamedTuple):
    key: ContentKey
    size: int
    parts: tuple[ObjectPart, ...]


def split_pack(contents: PackContents) -> Iterator[PackLine]:
    """What lies in a pack, as much at a time as a line holds."""
    offset = 0
    for at in range(0, len(contents.digests), MEMBERS_PER_LINE):
        some = slice(at, at + MEMBERS_PER_LINE)
        stored = contents.stored[some]
        offsets = list(accumulate((it + LOCAL_SIZE for it in stored), initial=offset + LOCAL_SIZE))
        offset = offsets.pop() - LOCAL_SIZE
        yield PackLine(
            contents.sha256,
            contents.length,
            contents.algorithm,
            contents.digests[some],
            offsets,
            stored,
            contents.sizes[some],
        )


def pack_line(it: PackLine) -> bytes:
    """The line that says what lies in a pack."""
    return msgspec.json.encode(
        _PackLine(
            pack=it.sha256.hex(),
            length=it.length,
            offset=it.offsets[0] - LOCAL_SIZE,
            algorithm=it.algorithm,
            digests=b"".join(it.digests).hex(),
            sizes=list(it.sizes),
            stored=list(it.stored),
        )
    )


def object_line(it: ObjectLine) -> bytes:
    """The line that says of which parts a content is made."""
    return msgspec.json.encode(
        _ObjectLine(
            object=[part.sha256.hex() for part in it.parts],
            content=str(it.key),
            size=it.size,
            sizes=[part.size for part in it.parts],
            stored=[part.stored for part in it.parts],
        )
    )


def decode_content_line(raw: bytes) -> PackLine | ObjectLine | None:
    """What a line says of where contents lie; None for a line that says something else.

    Raises `ValueError` for one that says it wrongly: nothing in it is believed then.
    """
    if raw.startswith(b'{"pack":'):
        return _pack_line(msgspec.json.decode(raw, type=_PackLine))
    if raw.startswith(b'{"object":'):
        return _object_line(msgspec.json.decode(raw, type=_ObjectLine))
    return None


def _pack_line(line: _PackLine) -> PackLine:
    sha256 = sha256_from_hex(line.pack)
    digest_size = DIGEST_SIZES.get(line.algorithm)
    if digest_size is None:
        raise ValueError(f"unknown algorithm: {line.algorithm[:100]}")
    digests = bytes.fromhex(line.digests)
    count = len(line.sizes)
    if not 0 < count <= MEMBERS_MAX or len(line.stored) != count:
        raise ValueError("its lists differ in length")
    if len(digests) != count * digest_size or len(line.digests) != 2 * len(digests):
        raise ValueError("its lists differ in length")
    if min(line.sizes) < 0 or max(line.sizes) > SMALL_SIZE_MAX or min(line.stored) <= 0:
        raise ValueError("a size is out of range")
    offsets = [line.offset + LOCAL_SIZE]
    for stored in line.stored:
        offsets.append(offsets[-1] + stored + LOCAL_SIZE)
    if line.offset < 0 or offsets.pop() - LOCAL_SIZE > line.length:
        raise ValueError("a member lies outside its pack")
    split = [digests[at : at + digest_size] for at in range(0, len(digests), digest_size)]
    return PackLine(sha256, line.length, line.algorithm, split, offsets, line.stored, line.sizes)


def _object_line(line: _ObjectLine) -> ObjectLine:
    if not line.object or not len(line.object) == len(line.sizes) == len(line.stored):
        raise ValueError("its lists differ in length")
    if min(line.sizes) < 0 or max(line.sizes) > PART_SIZE_MAX or min(line.stored) <= 0:
        raise ValueError("a size is out of range")
    if sum(line.sizes) != line.size:
        raise ValueError("its parts are not its size")
    digests = map(sha256_from_hex, line.object)
    parts = tuple(map(ObjectPart, digests, line.stored, line.sizes))
    return ObjectLine(key_from_text(line.content), line.size, parts)
