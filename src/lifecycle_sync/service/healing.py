"""What damage in a vault is healed from: its copies, the other vault, files that still match."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import LifecycleError, NotFoundError, VaultError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.retelling import Retold, retell
from lifecycle_sync.vault import healing, opening
from lifecycle_sync.vault.findings import Finding
from lifecycle_sync.vault.frames import new_hasher
from lifecycle_sync.vault.front import MendedFront, Witness, mend_front
from lifecycle_sync.vault.vault import Vault, VaultKind

# Files with one content that are tried, one after the other.
_CANDIDATES = 8
_PIECE = 1 << 20


class LiveFiles:
    """Files in the roots that still have a content: found by the registry, read and hashed whole
    before a byte of them counts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        registry = self._engine.registry
        for record in registry.with_content(key.algorithm, key.digest, _CANDIDATES):
            repository = registry.repository(record.repository_id)
            if repository is None or record.state is LifecycleState.ARCHIVED:
                continue
            hasher = new_hasher(key.algorithm)
            try:
                for piece in self._pieces(repository.path, record.path):
                    hasher.update(piece)
            except OSError:
                continue
            if hasher.digest() == key.digest:
                return self._pieces(repository.path, record.path)
        return None

    def _pieces(self, root: bytes, path: bytes) -> Iterator[bytes]:
        folder, _, name = path.rpartition(b"/")
        fs = self._engine.fs
        with Descent(fs, root) as descent:
            fd = fs.open_read(name, descent.open(folder))
            try:
                position = 0
                while piece := fs.pread(fd, _PIECE, position):
                    position += len(piece)
                    yield piece
            finally:
                fs.close(fd)


class OtherVault:
    """The archive for the backup vault, and the other way round."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        try:
            return self._vault.read(key)
        except NotFoundError:
            return None


def copies_of(engine: Engine, kind: VaultKind) -> tuple[str, ...]:
    """The further places of a vault that the settings name."""
    return engine.vaults.copies(kind)


def heal_front(engine: Engine, kind: VaultKind) -> list[MendedFront]:
    """Write anew what is damaged of FORMAT and the files beside it, before a vault is opened, which
    takes them; what was found. Raises `StorageError`."""
    path = engine.vaults.path(kind)
    known = engine.registry.store(kind.value)
    with ExitStack() as held:
        try:
            storage = held.enter_context(opening.open_storage(path, engine.fs, create=False))
        except VaultError:
            # Whoever opens it says more.
            return []
        copies = []
        for place in copies_of(engine, kind):
            try:
                copy = held.enter_context(opening.open_storage(place, engine.fs, create=False))
                copies.append(Witness(place, copy))
            except LifecycleError:
                continue
        manifests = engine.registry.applied_manifests(known) if known is not None else set()
        return mend_front(
            storage, kind, store_id=known, manifests=frozenset(manifests), copies=copies
        )


def heal_vault(
    engine: Engine,
    vault: Vault,
    findings: Sequence[Finding],
    *,
    progress: Progress,
    cancel: CancelToken,
) -> healing.HealReport:
    """Heal what was found in a vault just now. Raises `VaultError`, `CancelledError`."""
    sources = [
        healing.Source(f"{other.kind.value} {other.path}", OtherVault(other))
        for other in _others(engine, vault)
    ]
    sources.append(healing.Source("files that still match", LiveFiles(engine)))
    progress.begin("heal", os.fsencode(vault.path), len(findings), None)
    try:
        retold: list[tuple[str, Retold]] = []

        def tell_again(gone: Sequence[str]) -> None:
            if not vault.catalogue.locked:
                it = retell(engine, vault, sources=sources, cancel=cancel)
                retold.append((gone[0], it))

        with engine.vaults.open_copies(vault) as copies:
            there = {it.name for it in copies}
            report = healing.heal(
                vault,
                findings,
                copies=copies,
                away=[it for it in copies_of(engine, vault.kind) if it not in there],
                sources=sources,
                retell=tell_again,
                progress=progress.advance,
                cancel=cancel,
            )
        for name, again in retold:
            if again.versions:
                report.healed.append(healing.Healed(name, "the registry", again.versions))
            if again.lost:
                count = "a version" if again.lost == 1 else f"{again.lost:,} versions"
                why = f"{count} of it that the registry knows cannot be told again: `lifecycle"
                report.failed.append((name, f"{why} backup --again` keeps what is still there"))
        return report
    finally:
        progress.end()


def _others(engine: Engine, vault: Vault) -> list[Vault]:
    found = []
    for kind in VaultKind:
        if kind is not vault.kind and engine.vaults.is_there(kind):
            try:
                found.append(engine.vaults.get(kind, create=False, to_read=True))
            except LifecycleError:
                # It may have damage of its own.
                continue
    return found
