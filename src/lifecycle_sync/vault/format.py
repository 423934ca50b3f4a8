"""The format of a vault, as bytes: its names, the FORMAT file, and what its frames are made of.

docs/reference/vault-format.md explains it on one page. Names are made and checked here, so that
nothing that was read from a manifest becomes a path unless it is exactly a SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec

from lifecycle_sync.model.content import DIGEST_SIZES, ContentKey

# What this program knows; an encrypted vault needs it, any other is written as the first format.
FORMAT_NUMBER = 2
_FIRST = 1
# A writer has to know what is condemned where the vault was pruned. One that knows 2 does.
PRUNING_WRITER = 2
FORMAT_NAME = "FORMAT"
RESTORE_NAME = "RESTORE.md"
SUMS_NAME = "SHA256SUMS"
RESERVE_NAME = "RESERVE"
RECIPIENTS_NAME = "RECIPIENTS"
PACKS, OBJECTS, MANIFESTS, QUARANTINE = "packs", "objects", "manifests", "quarantine"
# Only in encrypted vaults.
WRITERS = "writers"
# Where uploads begin, and so where litter can lie.
UPLOAD_FOLDERS = ("", PACKS, OBJECTS, MANIFESTS, QUARANTINE)
# Content up to this lies in a pack; what is larger is an object of its own.
SMALL_SIZE_MAX = 1 << 20
PART_SIZE_MAX = 64 << 20

_PACK_SUFFIX = ".zip"
_OBJECT_SUFFIX = ".zst"
_MANIFEST = re.compile(r"([0-9]{10})-([0-9a-f]{64})\.jsonl\.zst")
_SHA256 = re.compile(r"[0-9a-f]{64}")


# The value of `encryption` for files of the `age` command.
ENCRYPTION = "age"
ENCRYPTED_FORMAT = 2


class VaultKind(StrEnum):
    BACKUP = "backup"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class VaultFormat:
    """What FORMAT says. A program reads a vault whose `min_reader` is at most its own number, and
    writes to one whose `min_writer` is. `encryption` is how packs, objects and manifests are
    encrypted: empty for not at all, or "age"."""

    kind: VaultKind
    store_id: bytes
    format: int = _FIRST
    min_reader: int = _FIRST
    min_writer: int = _FIRST
    encryption: str = ""


def new_format(kind: VaultKind, store_id: bytes, *, encrypted: bool) -> VaultFormat:
    """What the FORMAT file of a new vault says."""
    if not encrypted:
        return VaultFormat(kind, store_id)
    number = ENCRYPTED_FORMAT
    return VaultFormat(kind, store_id, number, number, number, ENCRYPTION)


class _FormatFile(msgspec.Struct, kw_only=True):
    format: int
    kind: str
    store_id: str
    min_reader: int
    min_writer: int = _FIRST
    encryption: str | msgspec.UnsetType = msgspec.UNSET


def encode_format(it: VaultFormat) -> bytes:
    """The bytes of the FORMAT file."""
    line = _FormatFile(
        format=it.format,
        kind=it.kind.value,
        store_id=it.store_id.hex(),
        min_reader=it.min_reader,
        min_writer=it.min_writer,
        encryption=it.encryption or msgspec.UNSET,
    )
    return msgspec.json.encode(line) + b"\n"


def decode_format(data: bytes) -> VaultFormat:
    """Raises `ValueError` for what is no FORMAT file. The kind of a newer one may be unknown here,
    so that is looked at first."""
    try:
        line = msgspec.json.decode(data, type=_FormatFile)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    store_id = bytes.fromhex(line.store_id)
    if len(store_id) != 16:
        raise ValueError("its store_id is no id")
    if line.min_reader > FORMAT_NUMBER:
        raise NewerFormatError(line.min_reader)
    encryption = line.encryption or ""
    if encryption not in ("", ENCRYPTION):
        raise NewerFormatError(max(line.format, FORMAT_NUMBER + 1))
    if line.min_reader >= ENCRYPTED_FORMAT and not encryption:
        # Damaged: nobody must write plain files among encrypted ones.
        raise ValueError("it does not say how the vault is encrypted")
    return VaultFormat(
        VaultKind(line.kind),
        store_id,
        line.format,
        line.min_reader,
        line.min_writer,
        encryption,
    )


class NewerFormatError(Exception):
    """The format number that a reader would have to know."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


def restore_text(*, encrypted: bool) -> bytes:
    """What RESTORE.md says."""
    name = "RESTORE_AGE.md" if encrypted else "RESTORE.md"
    return files("lifecycle_sync.vault").joinpath(name).read_bytes()


def sums_text(contents: dict[str, bytes]) -> bytes:
    """Lines as `sha256sum` writes and checks them."""
    return b"".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode() for name, data in contents.items()
    )


# -- names ---------------------------------------------------------------------------------------


def pack_name(sha256: bytes) -> str:
    """Where a pack lies, by the SHA-256 of its bytes."""
    digits = sha256.hex()
    return f"{PACKS}/{digits[:2]}/{digits}{_PACK_SUFFIX}"


def object_name(sha256: bytes) -> str:
    """Where a part of an object lies, by the SHA-256 of its bytes."""
    digits = sha256.hex()
    return f"{OBJECTS}/{digits[:2]}/{digits}{_OBJECT_SUFFIX}"


def manifest_name(sequence: int, sha256: bytes) -> str:
    """The name of a manifest, by its sequence and the SHA-256 of its bytes."""
    return f"{sequence:010d}-{sha256.hex()}.jsonl.zst"


def manifest_path(name: str) -> str:
    """Where a manifest lies."""
    return f"{MANIFESTS}/{name}"


def split_manifest_name(name: str) -> tuple[int, bytes] | None:
    """Its sequence and SHA-256, None for what is no name of a manifest."""
    found = _MANIFEST.fullmatch(name)
    return None if found is None else (int(found[1]), bytes.fromhex(found[2]))


def stored_digest(folder: str, fan: str, name: str) -> bytes | None:
    """The SHA-256 that a file of packs/ or objects/ is named by, None for a foreign one."""
    digits, suffix = name[:64], name[64:]
    wanted = _PACK_SUFFIX if folder == PACKS else _OBJECT_SUFFIX
    if suffix != wanted or not _SHA256.fullmatch(digits) or digits[:2] != fan:
        return None
    return bytes.fromhex(digits)


def sha256_from_hex(text: str) -> bytes:
    """Raises `ValueError` for anything but 64 lower-case hexadecimal digits."""
    if not _SHA256.fullmatch(text):
        raise ValueError(f"no SHA-256: {text[:100]!r}")
    return bytes.fromhex(text)


# -- skippable frames ----------------------------------------------------------------------------
# zstd passes over them (RFC 8878, section 3.1.2); they say what the frame before them is, so that
# contents are found again where the manifests are lost.

SKIPPABLE_MAGIC = 0x184D2A50
_ALGORITHM_CODES = {"sha256": 1, "blake3": 2}
_ALGORITHMS = {code: name for name, code in _ALGORITHM_CODES.items()}
_HEAD = struct.Struct("<IIB")  # magic, length of what follows, type
_MEMBER = struct.Struct("<IIBB32s")
# magic, length, type, number of the part, its offset in the content, SHA-256 of the part before
_PART = struct.Struct("<IIBIQ32s")
# the same, then size of the whole content, algorithm, digest
_LAST_PART = struct.Struct("<IIBIQ32sQB32s")
_MEMBER_TYPE, _PART_TYPE, _LAST_PART_TYPE, _SALT_TYPE = 1, 2, 3, 4
_SALT_SIZE = 16
MEMBER_TAIL_SIZE = _MEMBER.size
TAIL_SIZE_MAX = _LAST_PART.size


class Part(NamedTuple):
    """What the tail of an object says. `key` and `size` (of the whole content, in bytes) stand
    only in the last part; `previous` is the SHA-256 of the part before, zeros in the first."""

    number: int
    offset: int
    previous: bytes
    key: ContentKey | None = None
    size: int = 0


def member_tail(key: ContentKey) -> bytes:
    """What follows the frame of a member of a pack."""
    code = _ALGORITHM_CODES[key.algorithm]
    return _MEMBER.pack(SKIPPABLE_MAGIC, _MEMBER.size - 8, _MEMBER_TYPE, code, key.digest)


def salt_frame() -> bytes:
    """A frame of random bytes, for the same content to have another name than it had before."""
    head = _HEAD.pack(SKIPPABLE_MAGIC, 1 + _SALT_SIZE, _SALT_TYPE)
    return head + os.urandom(_SALT_SIZE)


def part_tail(part: Part) -> bytes:
    """What follows the frame of an object."""
    common = part.number, part.offset, part.previous
    if part.key is None:
        return _PART.pack(SKIPPABLE_MAGIC, _PART.size - 8, _PART_TYPE, *common)
    code = _ALGORITHM_CODES[part.key.algorithm]
    return _LAST_PART.pack(
        SKIPPABLE_MAGIC,
        _LAST_PART.size - 8,
        _LAST_PART_TYPE,
        *common,
        part.size,
        code,
        part.key.digest,
    )


def read_member_tail(stored: bytes) -> ContentKey | None:
    """The key at the end of a member's bytes; None where there is no such tail."""
    if len(stored) < _MEMBER.size:
        return None
    magic, length, kind, code, digest = _MEMBER.unpack(stored[-_MEMBER.size :])
    if (magic, length, kind) != (SKIPPABLE_MAGIC, _MEMBER.size - 8, _MEMBER_TYPE):
        return None
    return _key(code, digest)


def read_part_tail(end: bytes) -> Part | None:
    """What the last bytes of an object (`TAIL_SIZE_MAX` are enough) say; None for no tail."""
    for shape, kind in ((_LAST_PART, _LAST_PART_TYPE), (_PART, _PART_TYPE)):
        tail = end[-shape.size :]
        if len(tail) < shape.size:
            continue
        if _HEAD.unpack_from(tail) != (SKIPPABLE_MAGIC, shape.size - 8, kind):
            continue
        fields = shape.unpack(tail)[3:]
        number, offset, previous = fields[:3]
        if kind == _PART_TYPE:
            return Part(number, offset, previous)
        key = _key(fields[4], fields[5])
        if key is not None:
            return Part(number, offset, previous, key, fields[3])
    return None


def _key(code: int, digest: bytes) -> ContentKey | None:
    algorithm = _ALGORITHMS.get(code)
    if algorithm is None or DIGEST_SIZES[algorithm] != len(digest):
        return None
    return ContentKey(algorithm, digest)


def algorithm_code(algorithm: str) -> int:
    """The small number that stands for an algorithm. Raises `ValueError` for an unknown one."""
    try:
        return _ALGORITHM_CODES[algorithm]
    except KeyError:
        raise ValueError(f"unknown algorithm: {algorithm}") from None


@cache
def code_byte(algorithm: str) -> bytes:
    """The same number, as one byte."""
    return bytes((algorithm_code(algorithm),))


def algorithm_name(code: int) -> str:
    """The algorithm that a small number stands for."""
    return _ALGORITHMS[code]
