"""The signature of a directory: 16 bytes that change when anything in it does.

BLAKE2b with a digest of 16 bytes and no key, over these parts, one after the other. Every number is
little-endian; a list of names is the names with one NUL between (a name contains neither NUL nor
'/'); names are sorted as bytes, and everything that follows a list of names is in its order.

    8 bytes         b"lcs-dir1", the version of this format
    16 bytes        the hash of the ignore rules
    4 × uint64      how many files and symlinks (n), the bytes of their list of names, how many
                    subdirectories and special entries (m), the bytes of their list of names
    the list of the names of files and symlinks
    n × uint8       kinds, values of `Kind`
    n × int64       sizes in bytes
    n × int64       mtimes in nanoseconds, clamped to the range
    n × int64       ctimes in nanoseconds, clamped to the range
    n × uint64      inode numbers; zeros where they are not stable
    the list of the names of subdirectories and special entries
    m × uint8       kinds
    m × uint64      inode numbers; zeros where they are not stable

Entries that are ignored, that are our own, or that vanished before they were stat'ed take no part.
Of a subdirectory neither size nor times do, so a change inside it leaves its parent's signature as
it is. The counts in front make any two different directories differ in these bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

from lifecycle_sync.clock import NS_MAX, NS_MIN

_FORMAT = b"lcs-dir1"
_COUNTS = struct.Struct("<4Q")
_INODE_AT = 3 * 8


class OtherEntry(NamedTuple):
    """A subdirectory or special entry as the listing of its parent saw it."""

    name: bytes
    kind: int
    inode: int
    device: int


def directory_signature(
    rules_hash: bytes,
    count: int,
    files: tuple[bytes, bytes, bytes],
    others: Sequence[OtherEntry],
    *,
    stable_inodes: bool,
) -> bytes:
    """The 16 bytes.

    `count` is n, `files` are the list of the names of files and symlinks, their kinds, and the rest
    as `pack_tuples` makes it.
    """
    joined, kinds, tuples = files
    other_joined = other_kinds = other_inodes = b""
    if others:
        other_joined = b"\0".join([other.name for other in others])
        other_kinds = bytes([other.kind for other in others])
        other_inodes = _packer(0, len(others))(*[other.inode for other in others])
    if not stable_inodes:
        tuples = tuples[: count * _INODE_AT] + bytes(8 * count)
        other_inodes = bytes(len(other_inodes))
    counts = _COUNTS.pack(count, len(joined), len(others), len(other_joined))
    parts = (
        _FORMAT,
        rules_hash,
        counts,
        joined,
        kinds,
        tuples,
        other_joined,
        other_kinds,
        other_inodes,
    )
    return blake2b(b"".join(parts), digest_size=16).digest()


def pack_tuples(
    sizes: Sequence[int], mtimes: Sequence[int], ctimes: Sequence[int], inodes: Sequence[int]
) -> bytes:
    """The four columns one after the other, as they stand in the signature."""
    pack = _packer(3 * len(sizes), len(sizes))
    try:
        return pack(*sizes, *mtimes, *ctimes, *inodes)
    except struct.error:
        return pack(*clamped(chain(sizes, mtimes, ctimes)), *inodes)


def clamped(numbers: Iterable[int]) -> list[int]:
    """The numbers, those that do not fit an int64 as near as it gets."""
    return [min(max(number, NS_MIN), NS_MAX) for number in numbers]


@cache
def _packer(signed: int, unsigned: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{signed}q{unsigned}Q").pack
