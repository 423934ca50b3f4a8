"""Packs: many small contents in one ZIP file, each a zstd frame that `zstd -dc` unpacks.

Members are stored, not compressed, by ZIP: the frame is. A pack is built in memory, so its
SHA-256, which is its name, is known before a byte is written.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, repeat
from operator import itemgetter
from typing import NamedTuple
from zlib import crc32

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault.format import MEMBER_TAIL_SIZE, member_tail, read_member_tail

PACK_SIZE_MAX = 16 << 20
# ZIP counts members in 16 bits.
MEMBERS_MAX = 60_000
_NAME_DIGITS = 32
_NAME_SIZE = _NAME_DIGITS + 4

# APPNOTE.TXT, 4.3.7, 4.3.12 and 4.3.16. The time is 1980-01-01: the same bytes, the same pack.
_LOCAL = struct.Struct("<4sHHHHHLLLHH")
# CRC-32, the size twice, and where the member begins, between what is the same for all.
_CENTRAL = struct.Struct("<16sLLL14sL")
_END = struct.Struct("<4sHHHHLLH")
LOCAL_SIZE = _LOCAL.size + _NAME_SIZE
_CENTRAL_SIZE = _CENTRAL.size + _NAME_SIZE
# What a pack has of each member beside its bytes.
MEMBER_OVERHEAD = LOCAL_SIZE + _CENTRAL_SIZE
_VERSION, _DATE = 10, 0x21
_CENTRAL_FIRST = struct.pack("<4sHHHHHH", b"PK\1\2", _VERSION, _VERSION, 0, 0, 0, _DATE)
_CENTRAL_MIDDLE = struct.pack("<HHHHHL", _NAME_SIZE, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class PackContents:
    """What lies in a sealed pack, member by member: digest, size of the content, size stored.

    Members stand without a gap from the pack's first byte on, each after a header of `LOCAL_SIZE`.
    `sha256` and `length` are those of the file as it is stored.
    """

    sha256: bytes
    length: int
    algorithm: str
    digests: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)


class Member(NamedTuple):
    """Where a member of a pack lies: what is at `offset`, `stored` bytes long."""

    key: ContentKey
    offset: int
    stored: int
    size: int


class Packed(NamedTuple):
    """A content as a pack has it: `data` is a member with its header, of which `stored` bytes are
    the frame and its tail, and `check` is their CRC-32. `size` is that of the content."""

    digest: bytes
    size: int
    stored: int
    check: int
    data: bytes


def packed(key: ContentKey, size: int, frame: bytes) -> Packed:
    """A content of `size` bytes, of which `frame` is the frame, as it goes into a pack."""
    tail = member_tail(key)
    length = len(frame) + len(tail)
    check = crc32(tail, crc32(frame))
    header = _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, 0, _DATE, check, length, length, _NAME_SIZE, 0)
    data = b"".join((header, _member_name(key.digest), frame, tail))
    return Packed(key.digest, size, length, check, data)


def repacked(key: ContentKey, size: int, stored: bytes) -> Packed:
    """A member as it lies in one pack (its frame and tail), as it goes into another."""
    return packed(key, size, stored[:-MEMBER_TAIL_SIZE])


def _member_name(digest: bytes) -> bytes:
    return digest.hex()[:_NAME_DIGITS].encode() + b".zst"


_STORED = itemgetter(2)


class PackBuilder:
    """A pack in the making, of contents of one algorithm. Not thread-safe."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._members: list[Packed] = []
        self._names: set[bytes] = set()
        # Bytes of the pack if it were sealed now.
        self.size = _END.size

    def __len__(self) -> int:
        return len(self._members)

    def take(self, contents: Sequence[Packed], start: int) -> int:
        """Append contents, of the pack's algorithm, from number `start` on, as far as they fit (a
        first one always does); the number of the first one that does not."""
        members, names, size = self._members, self._names, self.size
        whole = size + sum(map(_STORED, contents)) + len(contents) * MEMBER_OVERHEAD
        if not start and whole <= PACK_SIZE_MAX and len(members) + len(contents) <= MEMBERS_MAX:
            # They all fit, most likely.
            news = {it.digest[: _NAME_DIGITS // 2] for it in contents}
            if len(news) == len(contents) and names.isdisjoint(news):
                members += contents
                names |= news
                self.size = whole
                return len(contents)
        number = start
        for number in range(start, len(contents)):
            it = contents[number]
            # Names are the first half of a digest and must differ.
            name = it.digest[: _NAME_DIGITS // 2]
            if members and (
                size + it.stored > PACK_SIZE_MAX or name in names or len(members) >= MEMBERS_MAX
            ):
                break
            members.append(it)
            names.add(name)
            size += len(it.data) + _CENTRAL_SIZE
        else:
            number = len(contents)
        self.size = size
        return number

    def seal(
        self, encrypt: Callable[[bytes], bytes], salt: bytes = b""
    ) -> tuple[PackContents, bytes]:
        """What is in it, and its bytes as they are stored, which is what `encrypt` makes of them.
        The builder is used up. `salt` is a frame that readers pass over."""
        members, self._members = self._members, []
        if salt:
            key, first = ContentKey(self.algorithm, members[0].digest), members[0]
            frame = first.data[LOCAL_SIZE:-MEMBER_TAIL_SIZE] + salt
            members[0] = packed(key, first.size, frame)
        # Column by column: there are many of them.
        digests, sizes, stored, checks, parts = map(list, zip(*members, strict=True))
        *offsets, central = accumulate(map(len, parts), initial=0)
        heads = map(
            _CENTRAL.pack,
            repeat(_CENTRAL_FIRST),
            checks,
            stored,
            stored,
            repeat(_CENTRAL_MIDDLE),
            offsets,
        )
        names = [data[_LOCAL.size : LOCAL_SIZE] for data in parts]
        parts += chain.from_iterable(zip(heads, names, strict=True))
        count = len(members)
        parts.append(_END.pack(b"PK\5\6", 0, 0, count, count, count * _CENTRAL_SIZE, central, 0))
        pack = encrypt(b"".join(parts))
        contents = PackContents(
            hashlib.sha256(pack).digest(), len(pack), self.algorithm, digests, sizes, stored
        )
        return contents, pack


def members_near(data: bytes) -> Iterator[bytes]:
    """What may be the frames, with their tails, of a pack that is damaged somewhere: wherever a
    header of ZIP seems to stand, before a member or in the central directory."""
    found = set()
    for sign, header in ((b"PK\3\4", _LOCAL), (b"PK\1\2", _CENTRAL)):
        at = data.find(sign)
        while 0 <= at <= len(data) - header.size:
            fields = header.unpack_from(data, at)
            stored, begins = (fields[7], at) if header is _LOCAL else (fields[2], fields[5])
            found.add((begins + LOCAL_SIZE, stored))
            at = data.find(sign, at + 1)
    for offset, stored in sorted(found):
        yield data[offset : offset + stored]


def read_directory(data: bytes, content_size: Callable[[bytes], int]) -> list[Member]:
    """The members of a pack by its own central directory and their tails.

    For when no manifest tells. `content_size` is what the head of a frame says. Raises `ValueError`
    for what is no pack that could have been made here.
    """
    end = len(data) - _END.size
    if end < 0 or data[end : end + 4] != b"PK\5\6":
        raise ValueError("it does not end as a pack does")
    count, central_size, start = _END.unpack_from(data, end)[4:7]
    if not count or central_size != count * _CENTRAL_SIZE or start + central_size != end:
        raise ValueError("its central directory does not fit")
    members: list[Member] = []
    offset = 0
    for at in range(start, end, _CENTRAL_SIZE):
        first, _, stored, _, _, begins = _CENTRAL.unpack_from(data, at)
        # Without a gap: manifests count on it.
        if first[:4] != b"PK\1\2" or begins != offset:
            raise ValueError("its central directory does not fit")
        offset += LOCAL_SIZE
        frame = data[offset : offset + stored]
        key = read_member_tail(frame)
        if key is None or (members and key.algorithm != members[0].key.algorithm):
            raise ValueError(f"the member at {offset} does not say what it is")
        members.append(Member(key, offset, stored, content_size(frame)))
        offset += stored
    if offset != start:
        raise ValueError("its central directory does not fit")
    return members
