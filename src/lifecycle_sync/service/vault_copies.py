"""Orders on a vault as a whole: a copy at a second place, and damage mended from one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import UsageError, VaultMissingError
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.healing import copies_of
from lifecycle_sync.service.own_files import is_own
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.copying import CopyReport, copy_files
from lifecycle_sync.vault.vault import VaultKind


def _kind_of(*, archive: bool) -> VaultKind:
    return VaultKind.ARCHIVE if archive else VaultKind.BACKUP


def named_copies(engine: Engine, *, archive: bool) -> tuple[str, ...]:
    """The further places of a vault that the settings name. Raises `UsageError` for none."""
    kind = _kind_of(archive=archive)
    found = copies_of(engine, kind)
    if not found:
        raise UsageError(
            "the settings name no copies",
            operation="copy vault",
            subject=f"{kind.value}_copies",
            remedy=f"name a folder, or set {kind.value}_copies to a list of some",
        )
    return found


def copy_vault(
    engine: Engine,
    place: str,
    *,
    archive: bool,
    check: bool,
    dry_run: bool,
    progress: Progress,
    cancel: CancelToken,
) -> CopyReport:
    """Bring a copy of a vault up to date, made where there is none. Raises `VaultError` for a place
    that has something else, `UsageError` for one in the vault or in a root."""
    kind = _kind_of(archive=archive)
    path = _checked(engine, place, kind)
    with ExitStack() as held:
        vault = held.enter_context(engine.vaults.look_into(kind))
        target: Storage | None = None
        if os.path.isdir(path) or not dry_run:
            target = held.enter_context(opening.open_storage(path, engine.fs, create=not dry_run))
            found = opening.read_format(target, path, kind, vault.store_id, write=True)
            if found is None and not dry_run:
                opening.create(target, path, kind, vault.store_id)
        held.enter_context(_reported(progress, "copy", path))
        return copy_files(
            vault.storage,
            target,
            check=check,
            dry_run=dry_run,
            progress=progress.advance,
            cancel=cancel,
        )


def mend_vault(
    engine: Engine,
    place: str,
    *,
    archive: bool,
    dry_run: bool,
    progress: Progress,
    cancel: CancelToken,
) -> CopyReport:
    """Replace what is damaged or missing in a vault by what a copy of it has. Raises `VaultError`
    where there is no such copy."""
    path, kind = os.path.abspath(place), _kind_of(archive=archive)
    vault = engine.vaults.get(kind, create=False, to_read=dry_run)
    with (
        opening.open_storage(path, engine.fs, create=False) as source,
        _reported(progress, "mend", path),
    ):
        if opening.read_format(source, path, kind, vault.store_id, write=False) is None:
            raise VaultMissingError(
                "is empty: there is no copy in it",
                operation="mend vault",
                subject=path,
                remedy="name the folder that `lifecycle vault copy` wrote",
            )
        report = copy_files(
            source,
            vault.storage,
            check=True,
            dry_run=dry_run,
            progress=progress.advance,
            cancel=cancel,
        )
    if report.copied and not dry_run:
        # What was found damaged before was forgotten; all of it is there again.
        vault.index.clear()
        vault.refresh()
    return report


@contextmanager
def _reported(progress: Progress, phase: str, path: str) -> Iterator[None]:
    progress.begin(phase, os.fsencode(path), None, None)
    try:
        yield
    finally:
        progress.end()


def _checked(engine: Engine, place: str, kind: VaultKind) -> str:
    path = os.path.abspath(place)
    real = os.path.realpath(os.fsencode(path))
    named = real in {os.path.realpath(os.fsencode(it)) for it in copies_of(engine, kind)}
    found = engine.roots.holding(real)
    if found is not None:
        raise UsageError(
            f"lies in the root {os.fsdecode(found[0].path)}, which would keep it again",
            operation="copy vault",
            subject=path,
            remedy="choose a folder outside all roots, best on another disk",
        )
    if is_own(engine.settings, real) and not named:
        raise UsageError(
            "is a vault or the registry of lifecycle itself",
            operation="copy vault",
            subject=path,
            remedy="choose another folder, best on another disk",
        )
    for repository in engine.roots.all():
        if real == repository.path or repository.path.startswith(real + b"/"):
            raise UsageError(
                "has a root in it",
                operation="copy vault",
                subject=path,
                remedy="choose a folder outside all roots, best on another disk",
            )
    return path
