"""Manifests: what a vault knows, in files of JSON lines; the commit point of all writing.

A manifest is cut into zstd frames of about a mebibyte, a line never across two, so that one line
of a large one can be read again without the rest. The lines that say where contents lie stand next
to the events that speak of them, because the digests they share then compress away.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import msgspec

from lifecycle_sync.clock import from_datetime, to_iso
from lifecycle_sync.errors import StorageMissingError, VaultCorruptError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import (
    MANIFESTS,
    manifest_name,
    manifest_path,
    split_manifest_name,
)
from lifecycle_sync.vault.frames import (
    MANIFEST_LEVEL,
    FrameCompressor,
    FrameError,
    unpack_frames,
    unpack_stream,
)
from lifecycle_sync.vault.sealing import NamedUpload, opened

_T = TypeVar("_T")
MANIFEST_NUMBER = 1
_FRAME_SIZE = 1 << 20
# What is put together of other manifests' frames grows no further with each time.
_BLOCK_SIZE = 2 << 20
_HEAD_SIZE = 8 << 10
# A manifest, which of its frames, and the lines in that.
Batch = tuple[str, int, list[bytes]]
# A frame with less in it does not pass as it is: many small ones would never grow together. With so
# much in it a frame has neither the first line of a manifest in it nor the last.
_PASSES = 1 << 18
# So many frames are compressed, or wait for it, before one is written.
_FRAMES_COMING = 2
# A frame ends with the line that makes it this long, and lines are bounded.
_FRAME_SIZE_MAX = 64 << 20
_EVENT = b'{"event":'
_ABOUT_PRUNING = (b'{"event":"pruned"', b'{"event":"condemned"', b'{"event":"given_up"')


@dataclass(frozen=True, slots=True)
class Header:
    """The first line. `previous` are the manifests that nobody had followed yet. A checkpoint
    repeats the lines of those it `covers` and takes the place of the older ones it `replaces`."""

    store_id: bytes
    sequence: int
    writer: str
    at_ns: int
    checkpoint: bool = False
    previous: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    # The manifest of another vault that this one says again, when a vault was rewritten.
    rewritten: str = ""

    @property
    def repeated(self) -> frozenset[str]:
        """All manifests that need not be read when this one was."""
        return frozenset(self.covers + self.replaces)


class _HeaderLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    manifest: int
    store_id: str
    sequence: int
    writer: str
    at: str
    checkpoint: bool
    previous: list[str]
    covers: list[str] = []
    replaces: list[str] = []
    rewritten: str = ""


class _EndLine(msgspec.Struct):
    end: int


class GoneError(VaultCorruptError):
    """A manifest that was listed and is not there (any more)."""


class Line(NamedTuple):
    """A line and where it stands: its frame's place in the file, its own in the frame."""

    frame: int
    offset: int
    raw: bytes

    @property
    def is_event(self) -> bool:
        return self.raw.startswith(_EVENT)

    @property
    def is_about_pruning(self) -> bool:
        """Whether it says what is kept no longer, or waited for no longer."""
        return self.raw.startswith(_ABOUT_PRUNING)


class Inner(NamedTuple):
    """A frame that has neither the first line of its manifest in it nor the last: where it begins
    and ends in the file, and how many lines it has."""

    start: int
    end: int
    lines: int


class Frame(NamedTuple):
    """The text of one frame, but for the first and the last line of its manifest; None where it was
    passed over. `inner` where it could be."""

    number: int
    text: bytes | None
    inner: Inner | None


# -- writing -------------------------------------------------------------------------------------


class ManifestWriter:
    """A manifest on its way into a storage; memory stays at some frames. Each is compressed in
    another thread while the lines of the next one are put together."""

    def __init__(self, storage: Storage, header: Header) -> None:
        self._upload = NamedUpload(storage, MANIFESTS)
        self._compressor = FrameCompressor(MANIFEST_LEVEL)
        self._beside: ThreadPoolExecutor | None = None
        self._coming: deque[Future[bytes]] = deque()
        self._sequence = header.sequence
        self._lines: list[bytes] = []
        self._size = 0
        # The first line, until it is on its way.
        self._head = msgspec.json.encode(
            _HeaderLine(
                manifest=MANIFEST_NUMBER,
                store_id=header.store_id.hex(),
                sequence=header.sequence,
                writer=header.writer,
                at=to_iso(header.at_ns),
                checkpoint=header.checkpoint,
                previous=list(header.previous),
                covers=list(header.covers),
                replaces=list(header.replaces),
                rewritten=header.rewritten,
            )
        )
        self._count = 1
        # Of the file, once it is published.
        self.length = 0

    def line(self, raw: bytes) -> None:
        self._lines.append(raw)
        self._size += len(raw) + 1
        self._count += 1
        if self._size >= _FRAME_SIZE:
            self._flush()

    def lines(self, raws: Iterable[bytes]) -> None:
        """`line` for many."""
        lines, size, count = self._lines, self._size, 0
        for raw in raws:
            lines.append(raw)
            size += len(raw) + 1
            count += 1
            if size >= _FRAME_SIZE:
                self._size = size
                self._flush()
                lines, size = self._lines, 0
        self._size = size
        self._count += count

    def block(self, raws: list[bytes]) -> None:
        """`line` for as many as another manifest has in one frame: they stay in one."""
        size = sum(map(len, raws)) + len(raws)
        if self._size + size > _BLOCK_SIZE:
            self._flush()
        self._lines += raws
        self._size += size
        self._count += len(raws)
        if self._size >= _FRAME_SIZE:
            self._flush()

    def copy(self, data: bytes, lines: int) -> None:
        """Write a whole frame of another manifest, with so many lines."""
        self._flush()
        self._count += lines
        if self._coming:
            written: Future[bytes] = Future()
            written.set_result(data)
            self._coming.append(written)
        else:
            self._upload.write(data)

    def publish(self) -> str:
        """Make it durable; its name."""
        self._flush(msgspec.json.encode(_EndLine(self._count)))
        sha256, self.length = self._upload.end()
        name = manifest_name(self._sequence, sha256)
        self._upload.publish(manifest_path(name))
        return name

    def discard(self) -> None:
        if self._beside is not None:
            self._beside.shutdown()
        self._upload.discard()

    def _flush(self, last: bytes = b"") -> None:
        texts = self._texts(last)
        if texts:
            if self._beside is None and not last:
                self._beside = ThreadPoolExecutor(1, "vault-manifest")
            if self._beside is not None:
                self._coming.append(self._beside.submit(self._frames, texts))
            else:
                self._upload.write(self._frames(texts))
        while len(self._coming) > (0 if last else _FRAMES_COMING):
            self._upload.write(self._coming.popleft().result())

    def _texts(self, last: bytes) -> list[bytes]:
        """What is written next, frame by frame."""
        head, self._head = self._head, b""
        lines, self._lines = self._lines, []
        size, self._size = self._size, 0
        ends = [[head] if head else [], lines, [last] if last else []]
        frames = ends if size >= _PASSES else [[line for some in ends for line in some]]
        return [b"\n".join([*some, b""]) for some in frames if some]

    def _frames(self, texts: Iterable[bytes]) -> bytes:
        return b"".join(map(self._compressor.frame, texts))


# -- reading -------------------------------------------------------------------------------------


class ManifestReader:
    """A manifest whose bytes were found to be those that its name says.

    Raises `VaultCorruptError` when they are not, here or while lines are read, and `VaultKeyError`
    where it is encrypted and no key is at hand.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self.name = name
        parts = split_manifest_name(name)
        if parts is None:
            raise _corrupt(name, "is no name of a manifest")
        self._check_hash(parts[1])
        self.header = self._read_header(parts[0])

    def _check_hash(self, sha256: bytes) -> None:
        digest = hashlib.sha256()
        try:
            for piece in self._storage.pieces(manifest_path(self.name)):
                digest.update(piece)
        except StorageMissingError as error:
            raise _gone(self.name) from error
        if digest.digest() != sha256:
            raise _corrupt(self.name, "is damaged: its bytes are not those its name says")

    def _read_header(self, sequence: int) -> Header:
        try:
            header = decode_header(self._first_line())
        except (ValueError, msgspec.DecodeError) as error:
            raise _corrupt(self.name, f"does not begin as a manifest does ({error})") from error
        if header.sequence != sequence:
            raise _corrupt(self.name, f"says that it is number {header.sequence}")
        return header

    def _first_line(self) -> bytes:
        """Of it no more is unpacked than has to be."""
        text = b""
        try:
            pieces = opened(self._storage).pieces(manifest_path(self.name))
            for piece in unpack_stream(pieces, _HEAD_SIZE):
                text += piece
                if b"\n" in piece:
                    return text[: text.index(b"\n")]
        except FrameError as error:
            raise _corrupt(self.name, f"is damaged: {error}") from error
        except StorageMissingError as error:
            raise _gone(self.name) from error
        return b""

    def frames(self, passed: Mapping[int, Inner] = MappingProxyType({})) -> Iterator[Frame]:
        """The same lines as `lines` gives, without their places, frame by frame: for who reads all
        of them. Those that are `passed`, by their numbers, are not read."""
        count = 0
        frame: Frame | None = None
        for number, start, end, text in self._texts(passed):
            if frame is not None:
                yield frame
            if text is None:
                frame = Frame(number, None, passed[number])
                count += passed[number].lines
                continue
            lines = text.count(b"\n")
            inner = Inner(start, end, lines) if count and len(text) >= _PASSES else None
            if not count:
                text = text[text.index(b"\n") + 1 :]
            count += lines
            frame = Frame(number, text, inner)
        text = (frame.text if frame is not None else None) or b""
        start = text.rfind(b"\n", 0, -1) + 1
        self._check_end(count, text[start:-1] if text else None)
        if frame is not None and start:
            yield Frame(frame.number, text[:start], None)

    def _texts(self, passed: Mapping[int, Inner]) -> Iterator[tuple[int, int, int, bytes | None]]:
        """The number of each frame, where it begins and ends, and its text."""
        number = at = 0
        while True:
            inner = passed.get(number)
            if inner is not None:
                yield number, inner.start, inner.end, None
                number, at = number + 1, inner.end
                continue
            for start, end, text in self._frames(at):
                yield number, start, end, text
                number, at = number + 1, end
                if number in passed:
                    break
            else:
                return

    def data(self, inner: Inner) -> bytes:
        """A frame as it is. That its bytes are right was seen when the whole file was read; they
        were read again for this, so what they unpack to is compared with their own checksum."""
        data, size = b"", inner.end - inner.start
        try:
            for piece in opened(self._storage).pieces(manifest_path(self.name), inner.start):
                data += piece[: size - len(data)]
                if len(data) == size:
                    ((_start, _end, text),) = unpack_frames([data], _FRAME_SIZE_MAX)
                    if text.count(b"\n") == inner.lines:
                        return data
                    break
        except FrameError as error:
            raise _corrupt(self.name, f"is damaged: {error}") from error
        except StorageMissingError as error:
            raise _gone(self.name) from error
        raise _corrupt(self.name, "ends too early")

    def lines(self) -> Iterator[Line]:
        """Every line but the first and the last; that the last one is right is seen to."""
        count, last = 0, None
        for line in self._all_lines():
            if count > 1 and last is not None:
                yield last
            last = line
            count += 1
        self._check_end(count, None if last is None else last.raw)

    def _check_end(self, count: int, last: bytes | None) -> None:
        try:
            end = msgspec.json.decode(b"" if last is None else last, type=_EndLine).end
        except msgspec.DecodeError:
            end = -1
        if count < 2 or end != count - 1:
            raise _corrupt(self.name, "ends too early")

    def _all_lines(self) -> Iterator[Line]:
        for frame, _end, text in self._frames():
            offset = 0
            while offset < len(text):
                end = text.index(b"\n", offset)
                yield Line(frame, offset, text[offset:end])
                offset = end + 1

    def _frames(self, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Where each frame from there on begins and ends that has lines in it, and these."""
        try:
            pieces = opened(self._storage).pieces(manifest_path(self.name), offset)
            for start, end, text in unpack_frames(pieces, _FRAME_SIZE_MAX):
                if text and not text.endswith(b"\n"):
                    raise _corrupt(self.name, "has a line across two frames")
                if text:
                    yield offset + start, offset + end, text
        except FrameError as error:
            raise _corrupt(self.name, f"is damaged: {error}") from error
        except StorageMissingError as error:
            raise _gone(self.name) from error


def read_frame(storage: Storage, name: str, frame: int) -> bytes:
    """The text of the one frame that begins there. Raises `VaultCorruptError`."""
    try:
        pieces = opened(storage).pieces(manifest_path(name), frame)
        for _start, _end, text in unpack_frames(pieces, _FRAME_SIZE_MAX):
            return text
    except FrameError as error:
        raise _corrupt(name, f"is damaged: {error}") from error
    except StorageMissingError as error:
        raise _gone(name) from error
    raise _corrupt(name, "ends too early")


def decode_header(raw: bytes) -> Header:
    """Raises `ValueError`."""
    line = msgspec.json.decode(raw, type=_HeaderLine)
    if line.manifest != MANIFEST_NUMBER:
        raise ValueError(f"its number is {line.manifest}, and this program reads 1")
    store_id = bytes.fromhex(line.store_id)
    for name in [*line.previous, *line.covers, *line.replaces]:
        if split_manifest_name(name) is None:
            raise ValueError("it names what is no manifest")
    return Header(
        store_id,
        line.sequence,
        line.writer,
        _told_ns(line.at),
        line.checkpoint,
        tuple(line.previous),
        tuple(line.covers),
        tuple(line.replaces),
        line.rewritten,
    )


def _told_ns(at: str) -> int:
    """Nothing depends on it but what people are shown."""
    try:
        return from_datetime(datetime.fromisoformat(at))
    except ValueError:
        return 0


def made_ahead(batches: Iterator[_T]) -> Iterator[_T]:
    """The same, each made in another thread while the one before is used."""
    with ThreadPoolExecutor(1, "vault-lines") as beside:
        coming = beside.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = beside.submit(next, batches, None)
            yield batch


def _gone(name: str) -> GoneError:
    return GoneError(
        "is missing",
        operation="read manifest",
        subject=name,
        remedy="what the others say is used; `verify` lists all damage",
    )


def _corrupt(name: str, cause: str) -> VaultCorruptError:
    return VaultCorruptError(
        cause,
        operation="read manifest",
        subject=name,
        remedy="what the others say is used; `verify` lists all damage",
    )
