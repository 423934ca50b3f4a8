"""File ids: UUIDv7 (RFC 9562, section 5.7), 16 bytes, growing within one source.

Growing ids keep the index on them append-only, which is what makes a million inserts cheap.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

ID_BYTES = 16
_SEQUENCES = [(0x7000 | number).to_bytes(2, "big") for number in range(0x1000)]
_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))


class IdSource:
    """Makes ids in order. Not thread-safe: a writer owns one."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._last_ms = 0
        self._sequence = 0

    def take(self, count: int) -> list[bytes]:
        """`count` new ids, each greater than all before it from this source."""
        milliseconds = self._now_ns() // 1_000_000
        if milliseconds > self._last_ms:
            self._last_ms, self._sequence = milliseconds, 0
        ids: list[bytes] = []
        random = os.urandom(8 * count)
        # The top two bits of the second half are the variant.
        firsts = random[::8].translate(_VARIANT)
        while len(ids) < count:
            # 12 bits of sequence within a millisecond; the next one is borrowed when they run out.
            head = self._last_ms.to_bytes(6, "big")
            left = len(ids)
            take = min(count - left, 0x1000 - self._sequence)
            ids += [
                head + middle + firsts[at : at + 1] + random[8 * at + 1 : 8 * at + 8]
                for at, middle in enumerate(
                    _SEQUENCES[self._sequence : self._sequence + take], left
                )
            ]
            self._sequence += take
            if self._sequence == 0x1000:
                self._last_ms, self._sequence = self._last_ms + 1, 0
        return ids

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
