"""RECIPIENTS, a file of an encrypted vault: which public keys its files were encrypted to.

It is for people, who want to know which key opens a vault, and who can read what was written before
a key was taken out of the settings. Who writes never takes its recipients from here: whoever can
write to the place of a vault could else add a key of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lifecycle_sync.errors import StorageMissingError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import RECIPIENTS_NAME

_HEAD = b"# Files of this vault are encrypted to these keys (age -R reads this list).\n"
_SUM = b"# SHA-256 of the lines above: "
_SIZE_MAX = 1 << 20


def encode_recipients(texts: Sequence[str]) -> bytes:
    """The bytes of the file: one key a line, and what tells damage."""
    lines = _HEAD + b"".join(f"{text}\n".encode() for text in texts)
    return lines + _SUM + hashlib.sha256(lines).hexdigest().encode() + b"\n"


def decode_recipients(data: bytes) -> list[str]:
    """The keys in it. Raises `ValueError` for a file that was changed."""
    lines, found, told = data.rpartition(_SUM)
    if not found or told != hashlib.sha256(lines).hexdigest().encode() + b"\n":
        raise ValueError("its last line is not the SHA-256 of the lines above")
    return [
        line for line in lines.decode(errors="replace").splitlines() if not line.startswith("#")
    ]


def read_recipients(storage: Storage) -> list[str]:
    """The keys that are told in a vault. Raises `ValueError` for a file that is damaged."""
    try:
        return decode_recipients(storage.read(RECIPIENTS_NAME, 0, _SIZE_MAX))
    except StorageMissingError:
        return []


def note_recipients(storage: Storage, texts: Sequence[str]) -> None:
    """Tell of keys that are written to from now on; those that are told already stay."""
    try:
        known = read_recipients(storage)
    except ValueError:
        # `verify` speaks of it; what it has is not known any more, what is written from now on is.
        known = []
    if known and not set(texts) - set(known):
        return
    data = encode_recipients([*known, *(text for text in texts if text not in known)])
    upload = storage.upload("")
    try:
        upload.write(data)
        upload.publish(RECIPIENTS_NAME, hashlib.sha256(data).digest())
    finally:
        upload.discard()
