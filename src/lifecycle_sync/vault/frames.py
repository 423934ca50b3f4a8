"""Compression and hashing: the only module that knows zstd and the hash libraries."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from typing import Protocol

from lifecycle_sync.model.content import ContentKey

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_Parameter = zstd.CompressionParameter
# Of manifests level 2 makes as little as level 6, in a quarter of the time: their lines are alike.
FAST_LEVEL, USUAL_LEVEL, MANIFEST_LEVEL = -1, 3, 2
_SAMPLE_SIZE = 16 << 10
# What shrinks by less than this share is not worth more than the fastest try.
_WORTH = 0.97
_MAGIC = b"\x28\xb5\x2f\xfd"
_RAW_HEAD_MAX = 16


class FrameError(ValueError):
    """Bytes that are no zstd frame, or a damaged one, or one of more bytes than were allowed."""


class Hasher(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


def new_hasher(algorithm: str) -> Hasher:
    """Raises `ValueError` for an algorithm that is not known."""
    if algorithm == "sha256":
        return hashlib.sha256()
    if algorithm == "blake3":
        import blake3

        return blake3.blake3()
    raise ValueError(f"unknown algorithm: {algorithm}")


def key_of(algorithm: str, data: bytes) -> ContentKey:
    """The key of a content that is in memory."""
    if algorithm == "sha256":
        return ContentKey(algorithm, hashlib.sha256(data).digest())
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return ContentKey(algorithm, hasher.digest())


class FrameCompressor:
    """Makes whole frames, each with checksum and content size. One thread at a time."""

    def __init__(self, level: int = USUAL_LEVEL) -> None:
        self._compressor = _new(level)

    def frame(self, data: bytes) -> bytes:
        # What does not compress is kept as it is, in 14 bytes more: zstd sees to that itself.
        return self._compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


class FrameStream:
    """One frame with checksum, piece by piece."""

    def __init__(self, level: int) -> None:
        self._compressor = _new(level)

    def add(self, data: bytes | memoryview) -> bytes:
        return self._compressor.compress(data)

    def end(self) -> bytes:
        return self._compressor.flush(zstd.ZstdCompressor.FLUSH_FRAME)


def _new(level: int) -> zstd.ZstdCompressor:
    return zstd.ZstdCompressor(
        options={_Parameter.compression_level: level, _Parameter.checksum_flag: 1}
    )


def level_for(data: bytes | memoryview) -> int:
    """How hard to compress what begins like this, by a try of three small samples."""
    view = memoryview(data)
    starts = {0, len(view) // 2, max(len(view) - _SAMPLE_SIZE, 0)}
    samples = [view[at : at + _SAMPLE_SIZE] for at in sorted(starts)]
    before = sum(map(len, samples))
    after = sum(len(zstd.compress(sample, 1)) for sample in samples)
    return FAST_LEVEL if after > before * _WORTH else USUAL_LEVEL


def content_size_of(frame: bytes) -> int:
    """The bytes that a whole frame unpacks to, by its head. Raises `FrameError`."""
    try:
        size: int | None = zstd.get_frame_info(frame).decompressed_size
    except zstd.ZstdError as error:
        raise FrameError(str(error)) from error
    if size is None:
        raise FrameError("a frame that does not say how long its content is")
    return size


def unpack_frame(data: bytes, size: int) -> bytes:
    """The content, of exactly `size` bytes, of the one frame that `data` begins with.

    Raises `FrameError`; never makes more than `size` bytes and one, whatever a hostile frame says.
    """
    decompressor = zstd.ZstdDecompressor()
    try:
        content = decompressor.decompress(data, size + 1)
    except zstd.ZstdError as error:
        raise FrameError(str(error)) from error
    if len(content) != size or not decompressor.eof:
        raise FrameError("a frame of another length than it should have")
    return content


def raw_content(data: bytes | memoryview, size: int) -> bytes | None:
    """The content of a frame that holds it as it is, in one raw block; None for any other frame.

    A sixth of the time of `unpack_frame`. The frame's own checksum is not looked at: for callers
    that compare the content with its key. (RFC 8878, sections 3.1.1.1 and 3.1.1.2.)
    """
    if len(data) < _RAW_HEAD_MAX or bytes(data[:4]) != _MAGIC or data[4] & 0x3B != 0x20:
        return None
    # Single segment, no dictionary: the size stands right behind the descriptor.
    width = 1 << (data[4] >> 6)
    start = 5 + width
    told = int.from_bytes(data[5:start], "little") + (256 if width == 2 else 0)
    header = int.from_bytes(data[start : start + 3], "little")
    # The last block, raw, and all of the content in it.
    if told != size or header != size << 3 | 1 or start + 3 + size > len(data):
        return None
    return bytes(data[start + 3 : start + 3 + size])


def unpack_stream(pieces: Iterable[bytes], piece: int = 1 << 20) -> Iterator[bytes]:
    """The content of the one frame that comes in pieces; what follows the frame is passed over.

    Raises `FrameError`. Pieces of content are at most `piece` bytes.
    """
    decompressor = zstd.ZstdDecompressor()
    try:
        for data in pieces:
            if decompressor.eof:
                continue
            content = decompressor.decompress(data, piece)
            while content:
                yield content
                content = b"" if _is_drained(decompressor) else decompressor.decompress(b"", piece)
    except zstd.ZstdError as error:
        raise FrameError(str(error)) from error
    if not decompressor.eof:
        raise FrameError("a frame that ends too early")


def _is_drained(decompressor: zstd.ZstdDecompressor) -> bool:
    """Whether it gives nothing more of what it was fed."""
    return decompressor.eof or decompressor.needs_input


def unpack_frames(pieces: Iterable[bytes], size_max: int) -> Iterator[tuple[int, int, bytes]]:
    """The frames of a file, one after the other: where each begins and ends, and its whole content.

    Raises `FrameError`, also for a frame of more than `size_max` bytes.
    """
    offset = fed = 0
    decompressor = zstd.ZstdDecompressor()
    parts: list[bytes] = []
    total = 0
    try:
        for data in pieces:
            while data or not decompressor.needs_input:
                before = len(data)
                content = decompressor.decompress(data, size_max - total + 1)
                parts.append(content)
                total += len(content)
                if total > size_max:
                    raise FrameError(f"a frame of over {size_max} bytes")
                if not decompressor.eof:
                    fed += before
                    data = b""
                    continue
                data = decompressor.unused_data
                fed += before - len(data)
                yield offset, fed, b"".join(parts)
                offset, parts, total = fed, [], 0
                decompressor = zstd.ZstdDecompressor()
    except zstd.ZstdError as error:
        raise FrameError(str(error)) from error
    if fed != offset:
        raise FrameError("a frame that ends too early")


def whole_frames(data: bytes, size_max: int) -> Iterator[bytes]:
    """The contents of those frames in damaged bytes that are whole: each is found by the bytes that
    it begins with, and its own checksum is right."""
    at = data.find(_MAGIC)
    while at >= 0:
        decompressor = zstd.ZstdDecompressor()
        try:
            content = decompressor.decompress(memoryview(data)[at:], size_max)
        except zstd.ZstdError:
            content = b""
        if decompressor.eof:
            yield content
            at = len(data) - len(decompressor.unused_data)
        else:
            at += 1
        at = data.find(_MAGIC, at)
