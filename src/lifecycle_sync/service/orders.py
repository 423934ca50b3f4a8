"""Orders that doors give on roots and files, each with a look ahead that changes nothing.

What a person named is checked as a whole before the first change: with one bad folder among three
nothing is registered, and no database is made for a folder that cannot be a root.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import cast

from lifecycle_sync.clock import SystemClock
from lifecycle_sync.config import Settings
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import BusyError, LifecycleError, NotFoundError, RootError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import FileFlag, FileRecord
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.look import tops
from lifecycle_sync.service.roots import AddedRoot, Roots

_log = logging.getLogger(__name__)

# How long an order waits for a scan of its root to end.
_WAIT_SECONDS = 10.0


# -- registering ---------------------------------------------------------------------------


def preview_roots(
    settings: Settings, folders: Sequence[str], *, adopt: bool = False
) -> list[AddedRoot]:
    """What registering `folders` would do. Raises `RootError` for the first that cannot be a root,
    alone or beside the others; makes no database where there is none."""
    if not os.path.exists(settings.database_path):
        roots = Roots(cast(Registry, _NoRegistry()), settings, FileOps(), SystemClock())
        return _preview(roots, folders, adopt)
    with Engine.open(settings, create=False) as engine:
        return _preview(engine.roots, folders, adopt)


class _NoRegistry:
    """What there is before a registry is made, as far as `Roots.add` asks in a dry run."""

    registry_id = b""

    def repositories(self) -> list[Repository]:
        return []

    def repository(self, repository_id: bytes) -> None:
        pass


def _preview(roots: Roots, folders: Sequence[str], adopt: bool) -> list[AddedRoot]:
    previews: list[AddedRoot] = []
    for folder in folders:
        known = known_root(roots, folder)
        added = (
            roots.add(folder, adopt=adopt, dry_run=True)
            if known is None
            else AddedRoot(known, created=False)
        )
        for other in previews:
            _check_apart(added.repository.path, other.repository.path)
            _check_apart(other.repository.path, added.repository.path)
        previews.append(added)
    return previews


def _check_apart(inner: bytes, outer: bytes) -> None:
    if inner.startswith(outer + b"/"):
        raise RootError(
            f"lies inside {os.fsdecode(outer)}, which is named too",
            operation="add root",
            subject=inner,
            remedy="name the outer folder only",
        )


def known_root(roots: Roots, folder: str) -> Repository | None:
    """The root at a path, also one whose folder is not there now."""
    try:
        repository = roots.get(folder)
    except NotFoundError:
        return None
    return repository if repository.kind is RepositoryKind.ROOT else None


def register_roots(
    engine: Engine, folders: Sequence[str], *, adopt: bool = False, enforce: bool = False
) -> list[AddedRoot]:
    """Take folders under management. A root that is known stays as it is, but for `enforce`, which
    is remembered, and also when its folder is not there now."""
    done = []
    for folder in folders:
        known = known_root(engine.roots, folder)
        if known is None:
            done.append(engine.roots.add(folder, adopt=adopt, enforce=enforce))
            continue
        if adopt:
            engine.roots.add(folder, adopt=True)
        if enforce and not known.enforce:
            known = known.evolve(enforce=True)
            engine.registry.update_repository(known)
        done.append(AddedRoot(known, created=False))
    return done


def configured_folders(settings: Settings) -> list[str]:
    """The folders that the settings put under management.

    In a settings file `local_storage_path` is `storage` unless it says otherwise; where there is no
    such folder, nobody meant it.
    """
    folders = [os.fspath(root) for root in settings.roots]
    local = settings.local_storage_path
    if local is None:
        return folders
    by_default = settings.source is not None and local == settings.source.parent / "storage"
    if by_default and not local.exists():
        _log.info("local_storage_path %s does not exist and is left out", local)
        return folders
    return [os.fspath(local), *folders]


# -- removing and accepting ----------------------------------------------------------------


def remove_root(engine: Engine, repository: Repository) -> None:
    """Forget a root. Raises `BusyError` when a process follows or scans it."""
    try:
        with ExitStack() as held:
            for purpose, seconds in (("run", 0.0), ("scan", _WAIT_SECONDS)):
                held.enter_context(
                    engine.locks.hold(
                        purpose, repository.repository_id, repository.path, wait_seconds=seconds
                    )
                )
            engine.roots.remove(repository)
    except BusyError as error:
        raise BusyError(
            error.cause,
            operation="remove root",
            subject=repository.path,
            remedy="stop that process first",
        ) from error


def preview_acceptance(engine: Engine, path_or_id: str) -> tuple[Repository, str]:
    """What `Engine.accept` would confirm, in words. Raises as it does."""
    try:
        repository = engine.roots.get(path_or_id)
    except NotFoundError:
        record = engine.find_record(path_or_id)
        found = engine.registry.repository(record.repository_id)
        assert found is not None, "a record has its repository"
        if not record.flags & FileFlag.SUSPECT:
            raise UsageError(
                "is neither a root nor a suspect file",
                operation="accept",
                subject=path_or_id,
                remedy="`lifecycle status` shows what is held",
            ) from None
        return found, f"the content of {os.fsdecode(record.path)} as it is now"
    verdict, _identity = engine.roots.look(repository)
    lost = engine.registry.missing_count(repository.repository_id)
    parts = [] if verdict.passed else [f"the folder as it is now ({verdict.reason})"]
    parts += [f"the loss of {lost:,} files"] if lost else []
    return repository, " and ".join(parts) or "nothing: no guard holds it"


# -- looking -------------------------------------------------------------------------------


def folder_at(engine: Engine, folder: str, *, recorded: bool = True) -> tuple[Repository, bytes]:
    """The repository a folder is, or lies in, and the folder's path relative to it.

    The folder need not be there any more; with `recorded` the registry must know it. Raises
    `NotFoundError`.
    """
    for path in (os.path.realpath(os.fsencode(folder)), os.path.abspath(os.fsencode(folder))):
        for repository in engine.roots.all():
            if repository.path == path:
                return repository, b""
        found = engine.roots.holding(path)
        if found is None:
            continue
        repository, relative = found
        if not recorded or engine.registry.directories(repository.repository_id, [relative]):
            return repository, relative
        raise NotFoundError(
            "is no folder that the registry knows",
            operation="look up folder",
            subject=folder,
            remedy="check the spelling; `lifecycle sync` brings the registry in step",
        )
    raise NotFoundError(
        "lies in no root of this registry",
        operation="look up folder",
        subject=folder,
        remedy="`lifecycle status` lists the roots, `lifecycle add` makes one",
    )


def folders_at(
    engine: Engine, folders: Sequence[str]
) -> tuple[list[Repository], dict[bytes, list[bytes]]]:
    """The repositories in which folders lie, and for those of which only parts are named the paths
    of these relative to it, by its id; none lies below another. Raises `NotFoundError` for what is
    neither there nor known."""
    chosen: dict[bytes, Repository] = {}
    parts: dict[bytes, set[bytes]] = {}
    for folder in folders:
        there = os.path.isdir(folder)
        repository, below = folder_at(engine, folder, recorded=not there)
        chosen[repository.repository_id] = repository
        if repository.kind is not RepositoryKind.ROOT:
            # It has what was named, wherever that lies.
            below = b""
        parts.setdefault(repository.repository_id, set()).add(below)
    return list(chosen.values()), {
        root: list(tops(paths)) for root, paths in parts.items() if b"" not in paths
    }


def why_unreadable(engine: Engine, record: FileRecord) -> str:
    """Why a file marked unreadable cannot be read: what opening it and reading a byte says now."""
    fs = FileOps()
    directory, _, name = record.path.rpartition(b"/")
    try:
        with Descent(fs, engine.roots.path_of(record.repository_id)) as descent:
            fd = fs.open_read(name, descent.open(directory))
        try:
            fs.pread(fd, 1, 0)
        finally:
            fs.close(fd)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except LifecycleError as error:
        return error.cause
    return "can be opened now; the next sync tries it again"
