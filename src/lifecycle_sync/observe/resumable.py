"""A SHA-256 that can be put down half-way and taken up by another process.

`hashlib` keeps its state to itself. The libcrypto behind it, where it is a library of its own, has
older functions that keep it in a plain structure, which is read here between two whole blocks:
eight words, and how many bytes they stand for. Whether that is so on a machine is tried with a
known content before it is relied on; where it is not, `sha256` says None and a file that was not
finished is begun again.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from functools import cache
from typing import Any

# h[8], low and high half of the length in bits, the block under way, its bytes, the digest's.
_LAYOUT = struct.Struct("=8I2I64s2I")
_BLOCK = 64
_DIGEST = 32
# Eight words and a length in bytes, big-endian, so that a state is the same on every machine.
_STATE = struct.Struct(">8IQ")
STATE_BYTES = _STATE.size


class Sha256:
    """`update` and `digest` as in `hashlib`; `state` after a whole number of blocks of 64 bytes."""

    def __init__(self, library: Any, state: bytes | None = None) -> None:
        self._library = library
        self._context = ctypes.create_string_buffer(_LAYOUT.size)
        library.SHA256_Init(self._context)
        if state is not None:
            *words, length = _STATE.unpack(state)
            bits = length * 8
            low, high = bits & 0xFFFFFFFF, bits >> 32 & 0xFFFFFFFF
            self._context.raw = _LAYOUT.pack(*words, low, high, b"", 0, _DIGEST)

    def update(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        if view.readonly:
            self._library.SHA256_Update(self._context, bytes(view), len(view))
        elif view:
            # By its address: a copy of each piece would cost a third of the time.
            source = (ctypes.c_char * len(view)).from_buffer(view)
            self._library.SHA256_Update(self._context, source, len(view))

    def digest(self) -> bytes:
        """Ends it."""
        out = ctypes.create_string_buffer(_DIGEST)
        self._library.SHA256_Final(out, self._context)
        return out.raw

    def state(self) -> bytes:
        """Raises `ValueError` in the middle of a block."""
        *words, low, high, _, pending, _ = _LAYOUT.unpack(self._context.raw)
        length = (high << 32 | low) // 8
        if pending or length % _BLOCK:
            raise ValueError("in the middle of a block")
        return _STATE.pack(*words, length)


def sha256(state: bytes | None = None) -> Sha256 | None:
    """A new one, or one that goes on from a state; None where that cannot be had here."""
    library = _library()
    return None if library is None else Sha256(library, state)


@cache
def _library() -> Any:
    try:
        import _hashlib

        library = ctypes.CDLL(_hashlib.__file__)
        library.SHA256_Init.argtypes = [ctypes.c_void_p]
        library.SHA256_Update.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        library.SHA256_Final.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    except (ImportError, AttributeError, OSError):
        return None
    return library if _holds(library) else None


def _holds(library: Any) -> bool:
    """Whether its structure is what it is taken for: what is put down and taken up again is the
    same in the end, and so is what a state says."""
    content = bytes(range(256)) * 3
    first = Sha256(library)
    first.update(content[: 5 * _BLOCK])
    state = first.state()
    if _STATE.unpack(state)[-1] != 5 * _BLOCK:
        return False
    second = Sha256(library, state)
    second.update(content[5 * _BLOCK :])
    return second.digest() == hashlib.sha256(content).digest()
