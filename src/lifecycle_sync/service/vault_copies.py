"""Orders on a vault as a whole: a copy at a second place, and damage mended from one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import (
    UsageError,
    VaultCorruptError,
    VaultForeignError,
    VaultMissingError,
)
from lifecycle_sync.service.copy_choice import choice_for
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.healing import copies_of
from lifecycle_sync.service.own_files import is_own
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.copying import CopyReport, copy_files
from lifecycle_sync.vault.format import RECIPIENTS_NAME, UPLOAD_FOLDERS, VaultFormat
from lifecycle_sync.vault.heads import copy_heads
from lifecycle_sync.vault.recipients import note_recipients, read_recipients
from lifecycle_sync.vault.sealing import SealedStorage
from lifecycle_sync.vault.vault import Vault, VaultKind


def kind_of(*, archive: bool) -> VaultKind:
    """Which of the two vaults is meant."""
    return VaultKind.ARCHIVE if archive else VaultKind.BACKUP


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
    kind = kind_of(archive=archive)
    path = checked_place(engine, place, kind, "copy vault")
    with ExitStack() as held:
        vault = held.enter_context(engine.vaults.look_into(kind))
        target: Storage | None = None
        if os.path.isdir(path) or not dry_run:
            target = held.enter_context(opening.open_storage(path, engine.fs, create=not dry_run))
            target = copy_target(target, path, vault, dry_run=dry_run)
        held.enter_context(reported(progress, "copy", path))
        choice = held.enter_context(choice_for(engine, vault, path))
        report = copy_files(
            vault.storage,
            target,
            check=check,
            dry_run=dry_run,
            choice=choice,
            progress=progress.advance,
            cancel=cancel,
        )
        if target is not None and vault.format.encryption and not dry_run:
            copy_heads(vault.storage, target)
        return report


def update_copy(
    engine: Engine, kind: VaultKind, place: str, progress: Progress, cancel: CancelToken
) -> CopyReport:
    """Bring a copy that is there up to date. None is made: an empty mount point is not taken for
    one. Raises `VaultError`, and `UsageError` as `copy_vault` does."""
    path = checked_place(engine, place, kind, "copy vault")
    refuse_gone(path)
    vault = engine.vaults.get(kind, create=False, to_read=True)
    with opening.open_storage(path, engine.fs, create=False) as below:
        if opening.read_format(below, path, kind, vault.store_id, write=True) is None:
            raise _gone(path, "has no copy in it")
        target = copy_target(below, path, vault, dry_run=False)
        with reported(progress, "copy", path), choice_for(engine, vault, path) as choice:
            return copy_files(
                vault.storage,
                target,
                check=False,
                choice=choice,
                progress=progress.advance,
                cancel=cancel,
            )


def refuse_gone(path: str) -> None:
    """Raise `VaultMissingError` where there is no folder, or nothing in it."""
    if not os.path.isdir(path):
        raise _gone(path, "does not exist")
    if not os.listdir(path):
        raise _gone(path, "is empty: there is no copy in it")


def _gone(path: str, cause: str) -> VaultMissingError:
    return VaultMissingError(
        cause,
        operation="copy vault",
        subject=path,
        remedy=f"check that its disk is mounted; `lifecycle vault copy {path}` makes a new one",
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
    path, kind = os.path.abspath(place), kind_of(archive=archive)
    vault = engine.vaults.get(kind, create=False, to_read=dry_run)
    with (
        opening.open_storage(path, engine.fs, create=False) as source,
        reported(progress, "mend", path),
    ):
        found = opening.read_format(source, path, kind, vault.store_id, write=False)
        if found is None:
            raise VaultMissingError(
                "is empty: there is no copy in it",
                operation="mend vault",
                subject=path,
                remedy="name the folder that `lifecycle vault copy` wrote",
            )
        report = copy_files(
            _like(source, path, found, vault),
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


def copy_target(target: Storage, path: str, vault: Vault, *, dry_run: bool) -> Storage:
    """What a copy of a vault is written to, made as one of its kind where nothing is there. No key
    is needed for an encrypted one: its files are copied as they are. Raises `VaultError`."""
    found = opening.read_format(target, path, vault.kind, vault.store_id, write=True)
    recipients: list[str] = []
    if vault.format.encryption:
        try:
            recipients = read_recipients(vault.storage)
        except ValueError as error:
            raise VaultCorruptError(
                f"its {RECIPIENTS_NAME} file is damaged ({error})",
                operation="copy vault",
                subject=vault.path,
                remedy="the next backup writes it anew",
            ) from error
    if found is None:
        if dry_run:
            return target
        found = opening.create(target, path, vault.kind, vault.store_id, recipients=recipients)
    if not dry_run:
        # Whoever was killed here left what had no name yet.
        opening.sweep(target, path, UPLOAD_FOLDERS)
    target = _like(target, path, found, vault)
    if recipients and not dry_run:
        note_recipients(target, recipients)
    return target


def _like(storage: Storage, path: str, found: VaultFormat, vault: Vault) -> Storage:
    if found.encryption != vault.format.encryption:
        is_encrypted = "is encrypted" if found.encryption else "is not encrypted"
        raise VaultForeignError(
            f"{is_encrypted}, unlike the vault {vault.path}",
            operation="use copy of vault",
            subject=path,
            remedy="choose another folder: a vault that was rewritten needs a new copy",
        )
    return SealedStorage(storage, None, None, None) if found.encryption else storage


@contextmanager
def reported(progress: Progress, phase: str, path: str) -> Iterator[None]:
    """A phase of work on a vault, shown while it lasts."""
    progress.begin(phase, os.fsencode(path), None, None)
    try:
        yield
    finally:
        progress.end()


def checked_place(engine: Engine, place: str, kind: VaultKind, operation: str) -> str:
    """Where a vault may be written to: apart from all roots, and from what lifecycle has."""
    path = os.path.abspath(place)
    real = os.path.realpath(os.fsencode(path))
    named = real in {os.path.realpath(os.fsencode(it)) for it in copies_of(engine, kind)}
    found = engine.roots.holding(real)
    if found is not None:
        raise UsageError(
            f"lies in the root {os.fsdecode(found[0].path)}, which would keep it again",
            operation=operation,
            subject=path,
            remedy="choose a folder outside all roots, best on another disk",
        )
    if is_own(engine.settings, real) and not named:
        raise UsageError(
            "is a vault or the registry of lifecycle itself",
            operation=operation,
            subject=path,
            remedy="choose another folder, best on another disk",
        )
    for repository in engine.roots.all():
        if real == repository.path or repository.path.startswith(real + b"/"):
            raise UsageError(
                "has a root in it",
                operation=operation,
                subject=path,
                remedy="choose a folder outside all roots, best on another disk",
            )
    return path
