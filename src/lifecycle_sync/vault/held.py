"""What the lines of manifests say of versions, as far as pruning has to know: which content each
holds, and when that was told.

It is asked of every version of a vault, so the lines that the writer of this program makes are read
by a pattern, or by the extension `_lines` where that could be built, and all others as JSON: those
of newer writers, too, whatever else they say.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from lifecycle_sync.extensions import extension
from lifecycle_sync.model.content import DIGEST_SIZES, key_from_text
from lifecycle_sync.model.ids import ID_BYTES
from lifecycle_sync.vault.format import code_byte
from lifecycle_sync.vault.index import key_blob

# A content that a version holds: its key, the id of the version, and when that was told.
Held = tuple[bytes, bytes, int]
# What the extension has to be written for.
_INTERFACE = 1
EVENT = b'{"event":'
VERSION = EVENT + b'"version"'
# What SQLite takes as a time.
_MOST = 2**63 - 1
# As `VersionShape` is written where the path needs no escapes. A quotation mark within a
# text has a backslash before it, so none of these names can stand in one; the last brace closes the
# line itself, and so the time is its own. That digits are digits is seen when they are read. A
# digest of another length is left to the other way.
_usual = re.compile(
    rb'(?s:\{"event":"version","file":".{32}","path":"[^"\\]*",'
    rb'"content":"([0-9a-z]+):(.{64})","version":"(.{32})".*"at":(-?[0-8]?[0-9]{1,18})\})'
).fullmatch
_CODES = {name.encode(): code_byte(name) for name, size in DIGEST_SIZES.items() if size == 64 // 2}
_ALGORITHMS = tuple((name, code[0]) for name, code in _CODES.items())
# Events that hold no content.
_NAMES = ("state", "directory", "repository", "policy", "assignment", "hold", "confirmation")
_OTHERS = tuple(EVENT + f'"{name}"'.encode() for name in (*_NAMES, "pruned", "condemned"))


class _Told(msgspec.Struct):
    """What any event says of a content, also one of a newer writer."""

    content: str | None = None
    version: str = ""
    at: int = 0


_decode = msgspec.json.Decoder(_Told).decode


class Columns(NamedTuple):
    """Contents that versions hold: their keys, which are equally long, the ids of the versions, the
    times as text with commas between; how many versions."""

    keys: bytes
    version_ids: bytes
    times: str
    versions: int


class Told(NamedTuple):
    """What versions hold, `columns` of it and the others; `rest` are all other lines, where each
    line that tells of a version tells of one content, and no other line of any."""

    columns: Columns
    others: list[Held]
    rest: list[bytes] | None


def read_held(text: bytes) -> Told:
    """What the versions hold that these lines tell of."""
    native = _native()
    if native is not None:
        *columns, lines = native.versions(text, _ALGORITHMS)
        others, rest = _held_and_rest(lines)
        return Told(Columns._make(columns), others, rest)
    found, rest = _held_and_rest(text.split(b"\n")[:-1])
    if (
        not found
        or len({len(it[0]) for it in found}) > 1
        or {len(it[1]) for it in found} != {ID_BYTES}
    ):
        return Told(Columns(b"", b"", "", 0), found, rest)
    keys, ids, times = zip(*found, strict=True)
    columns = Columns(b"".join(keys), b"".join(ids), ",".join(map(str, times)), len(keys))
    return Told(columns, [], rest)


def _native() -> Any:
    return extension("lifecycle_sync.vault._lines", _INTERFACE)


def _held_and_rest(lines: Iterable[bytes]) -> tuple[list[Held], list[bytes] | None]:
    found: list[Held] = []
    rest: list[bytes] = []
    every = True
    add = found.append
    for line in lines:
        usual = _usual(line)
        try:
            if usual is not None:
                algorithm, digest, version_id, at = usual.groups()
                add((unhexlify(digest) + _CODES[algorithm], unhexlify(version_id), int(at)))
                continue
        except (ValueError, KeyError):
            pass
        if line.startswith(EVENT) and not line.startswith(_OTHERS):
            every = False
            found += _held_by(line)
        else:
            rest.append(line)
    return found, rest if every else None


def _held_by(line: bytes) -> Iterator[Held]:
    try:
        it = _decode(line)
        if it.content is not None:
            key = key_from_text(it.content)
            yield key_blob(key), bytes.fromhex(it.version), max(-_MOST, min(it.at, _MOST))
    except (ValueError, msgspec.DecodeError):
        # Of a newer writer, who says in FORMAT what has to be understood.
        return


def told(lines: Sequence[bytes]) -> list[tuple[bytes, int] | None]:
    """Of each of these lines, if it tells of a version, which and when; None for all others."""
    found: list[tuple[bytes, int] | None] = []
    add = found.append
    for line in lines:
        usual = _usual(line)
        try:
            if usual is not None:
                add((unhexlify(usual[3]), int(usual[4])))
            elif line.startswith(VERSION):
                it = _decode(line)
                add((bytes.fromhex(it.version), it.at))
            else:
                add(None)
        except (ValueError, msgspec.DecodeError):
            add(None)
    return found
