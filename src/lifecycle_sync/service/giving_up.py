"""The order to wait for a lost manifest no longer, with all that is known of it shown before.

It deletes nothing. What the registry knows and no manifest tells is told to the vault again first,
so that no later prune takes away what the registry names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from lifecycle_sync.errors import UsageError, VaultError
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.retelling import Retold, retell
from lifecycle_sync.service.statements import who
from lifecycle_sync.vault.giving_up import (
    LostManifest,
    Neighbour,
    evidence,
    give_up,
    take_up_remains,
)
from lifecycle_sync.vault.salvage import find_lost
from lifecycle_sync.vault.vault import Vault, VaultKind

__all__ = ["GivingUp", "LostManifest", "Neighbour", "give_up_manifests"]


@dataclass
class GivingUp:
    """What came of it, or would. `taken_up` of the manifests this registry had read, so that it
    knows all versions they told of; `contents` were found in packs that no manifest places."""

    path: str
    manifests: list[LostManifest]
    taken_up: frozenset[str]
    retold: Retold
    contents: int = 0
    quarantined: list[str] = field(default_factory=list)
    dry_run: bool = False


def give_up_manifests(engine: Engine, names: Sequence[str], how: How) -> GivingUp:
    """Give up manifests of the backup vault that are lost. Raises `UsageError` for one that is not,
    or that a copy has, and `VaultError`; with nothing but the damage it was then."""
    vault = engine.vaults.get(VaultKind.BACKUP, create=False, to_read=how.dry_run)
    how.progress.begin("give up", os.fsencode(vault.path), None, None)
    try:
        with engine.vaults.open_copies(vault) as copies:
            _refuse_without(engine, {copy.name for copy in copies}, names[0])
            found = evidence(vault, names, copies)
        lost = [it.name for it in found]
        applied = engine.registry.applied_manifests(vault.store_id)
        outcome = GivingUp(
            vault.path, found, frozenset(applied.intersection(lost)), Retold(), dry_run=how.dry_run
        )
        if how.dry_run:
            _look_ahead(engine, vault, outcome, how)
            return outcome
        outcome.contents, unread = take_up_remains(vault, lost)
        outcome.retold = retell(engine, vault, cancel=how.cancel)
        left = retell(engine, vault, dry_run=True, cancel=how.cancel)
        if left.versions:
            # Somebody writes to the registry at the same time, or a manifest went just now.
            raise VaultError(
                f"{left.versions} versions that the registry knows are still told by no manifest",
                operation="give up manifest",
                subject=vault.path,
                remedy="nothing was given up: `lifecycle verify` says what is damaged; try again",
            )
        if left.lost and unread:
            # A disk that fails for a while must not cost what it has.
            raise VaultError(
                f"{min(unread)} is damaged or cannot be read, and may have what {left.lost}"
                " versions need that nothing else has",
                operation="give up manifest",
                subject=vault.path,
                remedy="nothing was given up: check the disk of the vault, `lifecycle verify"
                " --heal`, and try again; or move that file out of it, if it is lost, too",
            )
        outcome.quarantined = give_up(vault, lost, f"given up by {who()}")
        return outcome
    finally:
        how.progress.end()


def _refuse_without(engine: Engine, there: set[str], name: str) -> None:
    """A copy that is away may have what is to be given up."""
    away = [it for it in engine.vaults.copies(VaultKind.BACKUP) if it not in there]
    if away:
        raise UsageError(
            f"may be in the copy {away[0]}, which is away or cannot be used",
            operation="give up manifest",
            subject=name,
            remedy="mount its disk, and `lifecycle verify --heal`; or, if that is lost, too, take"
            " it out of backup_copies",
        )


def _look_ahead(engine: Engine, vault: Vault, outcome: GivingUp, how: How) -> None:
    with ExitStack() as held:
        if not vault.format.encryption:
            # What is found goes into an index that is thrown away.
            seen = engine.vaults.copy_at(vault.path, vault.kind, read_only=True)
            vault = held.enter_context(seen)
            outcome.contents = find_lost(vault, partly=True)
        outcome.retold = retell(engine, vault, dry_run=True, cancel=how.cancel)
