"""quarantine/: where what was found damaged is kept, under its own name or one beside it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator

from lifecycle_sync.errors import StorageError, StorageFullError, StorageMissingError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import QUARANTINE

_log = logging.getLogger("lifecycle_sync.vault")


def names_aside(name: str) -> Iterator[str]:
    """Under which names a file may lie there, the first that is free."""
    leaf = name.rpartition("/")[2]
    yield f"{QUARANTINE}/{leaf}"
    for number in range(2, 1000):
        yield f"{QUARANTINE}/{leaf}.{number}"


def set_aside(storage: Storage, name: str) -> str:
    """Move a file there; its name there, empty where it has gone."""
    for to in names_aside(name):
        if storage.size(name) is None:
            break
        try:
            if storage.move(name, to):
                return to
        except StorageMissingError:
            # A prune, perhaps, has taken it away just now.
            break
    return ""


def keep_aside(storage: Storage, name: str) -> str:
    """The same for what is about to be replaced: its bytes are copied, so that at no moment nothing
    has its name. What cannot be read is not kept: what is right comes in its place."""
    if storage.size(name) is None:
        return ""
    upload = storage.upload(QUARANTINE)
    digest = hashlib.sha256()
    try:
        try:
            for piece in storage.pieces(name):
                digest.update(piece)
                upload.write(piece)
        except StorageFullError:
            raise
        except StorageError as error:
            _log.info("%s cannot be kept in quarantine: %s", name, error)
            return ""
        for to in names_aside(name):
            if storage.size(to) is None:
                upload.publish(to, digest.digest(), replace=False)
                return to
    finally:
        upload.discard()
    return ""
