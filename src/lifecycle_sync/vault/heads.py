"""The heads of an encrypted vault: which manifest each of its writers has written last.

A writer without a key cannot read what a vault tells. This much it can: whether the vault tells of
something that this very writer has done and does not know any more, because its database was lost
or is an older copy. In a vault that is not encrypted the manifests say all of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from lifecycle_sync.errors import StorageMissingError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import WRITERS, split_manifest_name

_SIZE_MAX = 1 << 10
_WRITER = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")


def note_head(storage: Storage, writer: str, manifest: str) -> None:
    """Tell which manifest a writer has written last. Nothing is told of one whose name is none for
    a file. Raises as a storage does."""
    if not _WRITER.fullmatch(writer):
        return
    data = f"{manifest} {hashlib.sha256(manifest.encode()).hexdigest()}\n".encode()
    upload = storage.upload("")
    try:
        upload.write(data)
        upload.publish(f"{WRITERS}/{writer}", hashlib.sha256(data).digest())
    finally:
        upload.discard()


def read_head(storage: Storage, writer: str) -> str:
    """The manifest that a writer has written last, empty where nothing is told. Raises `ValueError`
    for what was changed."""
    if not _WRITER.fullmatch(writer):
        return ""
    try:
        data = storage.read(f"{WRITERS}/{writer}", 0, _SIZE_MAX)
    except StorageMissingError:
        return ""
    name, _, told = data.decode(errors="replace").partition(" ")
    if told != hashlib.sha256(name.encode()).hexdigest() + "\n" or not split_manifest_name(name):
        raise ValueError("it is not what its own checksum says")
    return name


def copy_heads(source: Storage, target: Storage, names: Mapping[str, str] | None = None) -> None:
    """Tell in another vault what this one tells; `names` are those that its manifests have there,
    where they have others."""
    for writer in source.names(WRITERS):
        try:
            head = read_head(source, writer)
            there = read_head(target, writer)
        except ValueError:
            # `verify` names it; the next commit writes it anew.
            continue
        head = head if names is None else names.get(head, "")
        if head and head != there:
            note_head(target, writer, head)
