"""What a new registry learns from elsewhere than the roots' files: vaults, archive, trash.

The vaults tell ids, versions, states, policies and holds; what lies in the trash of a root was
deleted or archived, and under which id. The disk has the last word: a scan comes after this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from lifecycle_sync.act.batches import DamagedBatch
from lifecycle_sync.clock import Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import LifecycleError, VaultError, VaultKeyError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.event import Event, RepositoryEvent, StateEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.trash import TrashReason
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.vaults import identity_of
from lifecycle_sync.vault.vault import Vault, VaultKind

_STATES = {
    TrashReason.DELETE: LifecycleState.DELETED,
    TrashReason.ARCHIVE: LifecycleState.ARCHIVED,
}


def learn_from_vaults(engine: Engine) -> tuple[list[str], list[str]]:
    """Take up all that the vaults tell; what was learned and what could not be, in words."""
    learned, lost = [], []
    for kind in VaultKind:
        path = engine.vaults.path(kind)
        if not engine.vaults.is_there(kind):
            continue
        try:
            vault = engine.vaults.get(kind, create=False, to_read=True)
        except LifecycleError as error:
            lost.append(f"what the {kind.value} vault {path} tells: {error.cause}")
            continue
        count = len(vault.manifests())
        learned.append(f"{count:,} manifest{'s' if count != 1 else ''} of {path}")
        lost += [f"manifest {name}: {why}" for name, why in sorted(vault.damaged_manifests.items())]
    return learned, lost


def learn_from_trash(engine: Engine) -> tuple[list[str], list[str]]:
    """Take up what lies in the trash of the roots; as `learn_from_vaults`."""
    learned, lost = [], []
    for repository in engine.roots.all():
        try:
            with engine.acts.trash(repository) as trash:
                events: list[Event] = []
                for batch in trash.batches():
                    if isinstance(batch, DamagedBatch):
                        lost.append(f"a batch of the trash: {batch.error}")
                        continue
                    state = _STATES.get(batch.reason)
                    if state is None or batch.repository_id != repository.repository_id:
                        # What was replaced lives on in its place.
                        continue
                    events += [
                        StateEvent(
                            entry.file_id,
                            batch.repository_id,
                            entry.path,
                            state,
                            batch.at_ns,
                            entry.operation_id,
                            "in the trash",
                        )
                        for entry in trash.left(batch)
                    ]
        except (LifecycleError, OSError):
            # Offline: what the vaults tell of it stands.
            continue
        if events:
            engine.registry.apply_events(events, engine.now_ns())
            learned.append(f"{len(events):,} files in the trash of {_text(repository.path)}")
    return learned, lost


def roots_in_vaults(settings: Settings, fs: FileOps, clock: Clock) -> Iterator[RepositoryEvent]:
    """The roots that vaults tell of, without a registry. A vault that cannot be read tells of
    none: `learn_from_vaults` says so later. Raises `VaultKeyError` for one that is encrypted, where
    its key is not at hand: without what it tells every file would be a new one."""
    for kind in VaultKind:
        path = settings.backup_path if kind is VaultKind.BACKUP else settings.archive_path
        try:
            with Vault.open(
                path,
                kind,
                index_path="",
                fs=fs,
                clock=clock,
                read_only=True,
                identity_path=identity_of(settings),
            ) as vault:
                if vault.catalogue.locked:
                    raise VaultKeyError(
                        "is encrypted, and what it tells of files, policies and holds needs its"
                        " secret key",
                        operation="rebuild registry",
                        subject=os.fspath(path),
                        remedy="name the file with the key: --identity FILE",
                    )
                for event in vault.events(vault.manifests()):
                    if isinstance(event, RepositoryEvent):
                        yield event
        except VaultKeyError:
            raise
        except VaultError:
            continue


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
