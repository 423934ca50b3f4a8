"""File ids: UUIDv7 (RFC 9562, section 5.7), 16 bytes, growing within one source.

Growing ids keep the index on them append-only, which is what makes a million inserts cheap.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

ID_BYTES = 16
# So many ids there are in a millisecond; the two bytes that number them, the version in the first.
_SEQUENCES = 0x1000
_HIGH = bytes([0x70 | number >> 8 for number in range(_SEQUENCES)])
_LOW = bytes(range(256)) * 16
_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))


class IdSource:
    """Makes ids in order. Not thread-safe: a writer owns one."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._last_ms = 0
        self._sequence = 0

    def take(self, count: int) -> list[bytes]:
        """`count` new ids, each greater than all before it from this source."""
        block = self.block(count)
        return [block[at : at + ID_BYTES] for at in range(0, len(block), ID_BYTES)]

    def block(self, count: int) -> bytes:
        """The same, one after the other."""
        milliseconds = self._now_ns() // 1_000_000
        if milliseconds > self._last_ms:
            self._last_ms, self._sequence = milliseconds, 0
        random = os.urandom(8 * count)
        ids = bytearray(ID_BYTES * count)
        for at in range(8):
            ids[8 + at :: ID_BYTES] = random[at::8]
        # The top two bits of the second half are the variant.
        ids[8::ID_BYTES] = random[::8].translate(_VARIANT)
        done = 0
        while done < count:
            # 12 bits of sequence within a millisecond; the next one is borrowed when they run out.
            take = min(count - done, _SEQUENCES - self._sequence)
            begin, end = ID_BYTES * done, ID_BYTES * (done + take)
            for at, byte in enumerate(self._last_ms.to_bytes(6, "big")):
                ids[begin + at : end : ID_BYTES] = bytes([byte]) * take
            told = slice(self._sequence, self._sequence + take)
            ids[begin + 6 : end : ID_BYTES] = _HIGH[told]
            ids[begin + 7 : end : ID_BYTES] = _LOW[told]
            done += take
            self._sequence += take
            if self._sequence == _SEQUENCES:
                self._last_ms, self._sequence = self._last_ms + 1, 0
        return bytes(ids)

    def one(self) -> bytes:
        return self.take(1)[0]


def first_id(at_ns: int) -> bytes:
    """No id that was made at a time or later is less than this."""
    milliseconds = min(max(at_ns // 1_000_000, 0), 2**48 - 1)
    return milliseconds.to_bytes(6, "big") + bytes(10)


def to_text(identifier: bytes) -> str:
    """The usual form with hyphens."""
    digits = identifier.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def from_text(text: str) -> bytes:
    """The 16 bytes of an id in any form `uuid.UUID` takes. Raises `ValueError`."""
    return uuid.UUID(text).bytes
