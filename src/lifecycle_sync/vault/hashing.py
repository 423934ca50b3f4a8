"""Stored files against the SHA-256 that names them, in as many threads as there are cores.

Hashing lets go of the interpreter, so that the threads reach what the machine can.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import StorageError, StorageMissingError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import MANIFESTS, split_manifest_name, stored_digest

_PIECE = 1 << 20


class Hashed(NamedTuple):
    """One stored file that was read: `fault` is empty where it is whole; `missing` and `error` (the
    storage's own words) say that it could not be read."""

    name: str
    size: int
    fault: str = ""
    missing: bool = False
    error: bool = False


def digest_named(name: str) -> bytes | None:
    """The SHA-256 that a name in a vault promises; None for one that promises none."""
    folder, _, rest = name.partition("/")
    if folder == MANIFESTS:
        parts = split_manifest_name(rest)
        return None if parts is None else parts[1]
    fan, _, leaf = rest.partition("/")
    return stored_digest(folder, fan, leaf)


def hash_file(
    storage: Storage,
    name: str,
    *,
    pace: Callable[[int], None] | None = None,
    cancel: CancelToken | None = None,
) -> Hashed:
    """Read one stored file whole. Raises `CancelledError`, and what `pace` raises, which is told
    every piece that was read."""
    digest, size = hashlib.sha256(), 0
    # What the disk has, not what was written a moment ago.
    storage.drop_cache(name)
    try:
        for piece in storage.pieces(name, piece=_PIECE):
            digest.update(piece)
            size += len(piece)
            if cancel is not None:
                cancel.check()
            if pace is not None:
                pace(len(piece))
    except StorageMissingError:
        return Hashed(name, size, "is missing", missing=True)
    except StorageError as error:
        return Hashed(name, size, error.cause, error=True)
    right = digest.digest() == digest_named(name)
    return Hashed(name, size, "" if right else "is not what its name says")


def hash_files(
    storage: Storage,
    names: Iterable[str],
    *,
    pace: Callable[[int], None] | None = None,
    cancel: CancelToken | None = None,
    threads: int | None = None,
) -> Iterator[Hashed]:
    """The same for many, in their order. Names are taken as they are needed, few ahead."""
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads, "lifecycle-verify") as pool:
        waiting = []
        for name in names:
            waiting.append(pool.submit(hash_file, storage, name, pace=pace, cancel=cancel))
            if len(waiting) > 2 * threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
