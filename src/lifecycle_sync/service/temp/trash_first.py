"""What goes first under pressure: trash whose content has a verified copy, on the same disk.

Which that is, and how it goes, is `service.space`'s to say, as where a root's own disk is too full:
a copy counts that was just read whole, holds and the guards of the root stand, and each file is an
act in the journal.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import LifecycleError, RegistryError
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.engine import Engine

_REASON = "the disk of the temporary files is too full"

_log = logging.getLogger("lifecycle_sync.temp")


class Purged(NamedTuple):
    """What went, or would go: how many files of how many bytes, and some of them by their paths and
    bytes."""

    files: int
    size: int
    sample: Sequence[tuple[bytes, int]]


class TrashFirst:
    """The trashes of a registry's roots on the disk of a folder."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def would(self, folder: str) -> Iterator[Purged]:
        """What would go, file by file, in the order in which it would; nothing is changed."""
        for root in self._roots(folder):
            try:
                for entry in self._engine.making_room.candidates(root, self._engine.now_ns()):
                    size = entry.fingerprint.size
                    yield Purged(1, size, [(os.path.join(root.path, entry.path), size)])
            except RegistryError:
                raise
            except LifecycleError as error:
                _log.warning("%s", error)

    def purge(
        self, folder: str, enough: Callable[[], bool], cancel: CancelToken | None = None
    ) -> Iterator[Purged]:
        """Purge until it is `enough`, which is asked before each file: what went, root by root. A
        root that cannot be worked on now is passed over."""
        for root in self._roots(folder):
            if enough():
                return
            try:
                done = self._engine.making_room.purge(
                    root, enough=enough, reason=_REASON, cancel=cancel
                )
            except RegistryError:
                raise
            except LifecycleError as error:
                _log.warning("%s", error)
                continue
            sample = [(os.path.join(root.path, it.path), it.size) for it in done.sample]
            yield Purged(done.completed, done.size, sample)

    def _roots(self, folder: str) -> list[Repository]:
        device = _device(folder)
        return [it for it in self._engine.roots.all() if _device(it.path) == device]


def _device(path: str | bytes) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None
