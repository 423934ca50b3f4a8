"""A file in a vault that is given up when its disk is full, so that pruning, which makes room, has
some to begin with: for the manifests that tell what goes."""

from __future__ import annotations

import hashlib
import os

from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import RESERVE_NAME

RESERVE_BYTES = 8 << 20


def make_reserve(storage: Storage) -> bool:
    """Lay it by, where there is none; whether there is one. Raises nothing."""
    try:
        if storage.size(RESERVE_NAME) == RESERVE_BYTES:
            return True
        # Random, so that no filesystem stores it in less.
        data = os.urandom(RESERVE_BYTES)
        upload = storage.upload("")
        try:
            upload.write(data)
            upload.publish(RESERVE_NAME, hashlib.sha256(data).digest())
        finally:
            upload.discard()
    except LifecycleError:
        return False
    return True


def give_up_reserve(storage: Storage) -> bool:
    """Free it; whether there was one. Raises nothing."""
    try:
        if storage.size(RESERVE_NAME) is None:
            return False
        storage.remove(RESERVE_NAME)
    except LifecycleError:
        return False
    return True
