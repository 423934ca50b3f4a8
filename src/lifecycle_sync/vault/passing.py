"""Frames of manifests that pass into a checkpoint as they are, or are left out of it, without a
look at their lines: what they say was found out when they were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.manifest import Batch, Inner, ManifestReader

PACK, OBJECT = b'{"pack":', b'{"object":'
PRUNED = b'{"event":"pruned"'
# Of what names more packs and objects nothing is remembered.
_NAMES = 64


class _Pack(msgspec.Struct):
    pack: str


class _Parts(msgspec.Struct):
    object: list[str]


_pack = msgspec.json.Decoder(_Pack).decode
_parts = msgspec.json.Decoder(_Parts).decode


class Facts(NamedTuple):
    """What a frame says beside its versions: which packs and objects there are, and the lines that
    always count."""

    inner: Inner
    packs: list[bytes]
    objects: list[bytes]
    lines: list[bytes]


class Passing(NamedTuple):
    """A frame that is passed over: it stays as it is, or of it these lines."""

    inner: Inner
    stays: bool
    lines: list[bytes]


class Copied(NamedTuple):
    """A frame as it is, of so many lines."""

    data: bytes
    lines: int


def facts_of(inner: Inner, rest: Sequence[bytes]) -> Facts | None:
    """Of a frame with these lines beside those of versions. None where they have to be looked at
    again: they name much, or count for a time only."""
    packs: list[bytes] = []
    objects: list[bytes] = []
    lines: list[bytes] = []
    for line in rest:
        if line.startswith(PACK):
            packs.append(pack_of(line))
        elif line.startswith(OBJECT):
            objects += parts_of(line)
        elif line.startswith(PRUNED):
            return None
        else:
            lines.append(line)
        if len(packs) + len(objects) > _NAMES:
            return None
    return Facts(inner, packs, objects, lines)


def pack_of(line: bytes) -> bytes:
    """The name of the pack of which a line says what is in it."""
    return bytes.fromhex(_pack(line).pack)


def parts_of(line: bytes) -> list[bytes]:
    """The names of the parts in which a line says that a content lies."""
    return [bytes.fromhex(name) for name in _parts(line).object]


def batches_of(
    storage: Storage, names: Iterable[str], passing: Mapping[str, Mapping[int, Passing]]
) -> Iterator[Batch | Copied]:
    """The lines of some manifests, a frame at a time, and those frames of them that pass."""
    for name in names:
        reader = ManifestReader(storage, name)
        passed = passing.get(name, {})
        for frame in reader.frames({number: it.inner for number, it in passed.items()}):
            if frame.text is not None:
                yield name, frame.number, frame.text.split(b"\n")[:-1]
                continue
            it = passed[frame.number]
            if it.stays:
                yield Copied(reader.data(it.inner), it.inner.lines)
            elif it.lines:
                yield name, frame.number, it.lines
