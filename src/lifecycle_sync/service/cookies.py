"""Asking a watcher whether all that happened before is recorded, from whatever process.

A cookie is a file in a directory that the watcher of the root watches, too. Its event comes after
those of all that happened before, in one queue; when what these made dirty is recorded, the watcher
takes the file away.
"""

from __future__ import annotations

import os
import time

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import BusyError, OfflineError
from lifecycle_sync.model.repository import COOKIES_DIRECTORY, PRIVATE_DIRECTORY, Repository
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.watch_health import RootHealth, health_of_text

_PAUSE_SECONDS = 0.01
_LOOK_SECONDS = 1.0


def followed_by(engine: Engine, repository: Repository) -> RootHealth | None:
    """How the process that follows a root says it fares; None when none does."""
    health = health_of_text(engine.registry.watch_note(repository.repository_id).health)
    if health is None or not health.process_id:
        return None
    try:
        with engine.locks.hold("run", repository.repository_id, repository.path):
            # Nobody holds it: what stands there is what a killed process left.
            return None
    except BusyError:
        return health


def sync_to_now(
    engine: Engine,
    repository: Repository,
    *,
    timeout_seconds: float = 60.0,
    cancel: CancelToken | None = None,
    followed_here: bool = False,
) -> bool:
    """Wait until all that happened in a root before this call is recorded by who follows it; its
    hashes may come later. False when nobody who could answer does: then only a pass tells.

    Raises `BusyError` when the answer takes longer, `OfflineError` when the root is not there, and
    `CancelledError`. `followed_here`: this process follows the root itself.
    """
    deadline = time.monotonic() + timeout_seconds
    fs = engine.fs
    name = b"%d-%d" % (os.getpid(), time.monotonic_ns())
    with Descent(fs, repository.path) as descent:
        try:
            fd = descent.open(PRIVATE_DIRECTORY + b"/" + COOKIES_DIRECTORY)
            looked = time.monotonic()
            if not followed_here and followed_by(engine, repository) is None:
                return False
            fs.close(fs.create(name, fd))
        except OfflineError:
            raise
        except OSError:
            # A root that nobody watches, or that cannot be written to.
            return False
        try:
            while _is_there(engine, name, fd):
                now = time.monotonic()
                if now - looked > _LOOK_SECONDS and not followed_here:
                    looked = now
                    if followed_by(engine, repository) is None:
                        return False
                if now > deadline:
                    raise BusyError(
                        f"no answer within {timeout_seconds:g} s",
                        operation="wait for what happened",
                        subject=repository.path,
                        remedy="`lifecycle status` says how the root is followed",
                    )
                (cancel or _NEVER).check()
                time.sleep(_PAUSE_SECONDS)
        finally:
            try:
                fs.unlink(name, fd)
            except OSError:
                pass  # answered
    return True


def _is_there(engine: Engine, name: bytes, fd: int) -> bool:
    try:
        engine.fs.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


_NEVER = CancelToken()
