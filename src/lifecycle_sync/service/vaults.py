"""The two vaults of a registry, opened when they are first needed, and what they know of it.

The database is disposable: what a vault tells that the registry has not taken up yet (it was rolled
back to an older copy, or another process was killed between the two) is taken up before any act.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lifecycle_sync.clock import Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import (
    LifecycleError,
    StorageFullError,
    UsageError,
    VaultForeignError,
    VaultKeyError,
    VaultMissingError,
    VaultNewerError,
    VaultReadOnlyError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.event import Event, RepositoryEvent
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.storage.local import storage_error
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.copying_out import stand_in
from lifecycle_sync.vault.format import FORMAT_NAME
from lifecycle_sync.vault.healing import Copy
from lifecycle_sync.vault.vault import Vault, VaultKind


class Vaults:
    """Opens each vault once. Thread-safe."""

    def __init__(
        self, registry: Registry, database_path: str, settings: Settings, fs: FileOps, clock: Clock
    ) -> None:
        self._registry = registry
        self._folder = index_folder(database_path)
        self._settings = settings
        self._fs = fs
        self._clock = clock
        self._open: dict[VaultKind, Vault] = {}
        self._set_aside: list[Vault] = []
        self._looked_into: dict[VaultKind, Vault] = {}
        self._mutex = threading.RLock()
        # What each vault was last told of a root, so that it is told once.
        self._told: dict[tuple[bytes, bytes], tuple[object, ...]] = {}

    def path(self, kind: VaultKind) -> str:
        """Where a vault lies, or will lie."""
        place = (
            self._settings.backup_path if kind is VaultKind.BACKUP else self._settings.archive_path
        )
        return os.fspath(place)

    def copies(self, kind: VaultKind | None = None) -> tuple[str, ...]:
        """The further places of a vault, or of both, that the settings name."""
        settings, found = self._settings, list[str]()
        if kind is not VaultKind.ARCHIVE:
            found += map(os.fspath, settings.backup_copies)
        if kind is not VaultKind.BACKUP:
            found += map(os.fspath, settings.archive_copies)
        return tuple(found)

    @contextmanager
    def open_copies(self, vault: Vault) -> Iterator[list[Copy]]:
        """The copies of a vault that are there now; of one that is away nothing is said here."""
        with ExitStack() as held:
            found = []
            for path in self.copies(vault.kind):
                try:
                    below = held.enter_context(opening.open_storage(path, self._fs, create=False))
                    it = opening.read_format(below, path, vault.kind, vault.store_id, write=False)
                    if it is not None:
                        storage = opening.seal_storage(
                            below,
                            path,
                            it,
                            self._fs,
                            write=False,
                            identity_path=identity_of(self._settings) if vault.has_key else "",
                        )
                        found.append(Copy(path, storage))
                except LifecycleError:
                    continue
            yield found

    def get(self, kind: VaultKind, *, create: bool = True, to_read: bool = False) -> Vault:
        """A vault, made where there is none yet and `create` is set. With `to_read` it may be one
        that cannot be written to. Raises `VaultError`, and with `create`, which is asked before it
        is written to, `UsageError` for a place among what it is to keep."""
        with self._mutex:
            if create:
                self.check_place(kind)
            vault = self._open.get(kind)
            if vault is not None and vault.read_only and not to_read:
                # Perhaps it can be written to by now. Others may still read this one.
                self._set_aside.append(vault)
                vault = None
            if vault is None:
                try:
                    self._fs.make_directories(self._folder)
                except OSError as error:
                    raise storage_error(error, "make index of vault", self._folder) from error
                vault = self._open_known(kind, create=create, to_read=to_read)
                try:
                    self._take_up(vault)
                except VaultKeyError:
                    vault.close()
                    raise
                self._open[kind] = vault
            return vault

    def _open_known(self, kind: VaultKind, *, create: bool, to_read: bool) -> Vault:
        """The vault that the registry has used before; where there was none, whichever is there, or
        a new one. An empty mount point is not taken for a vault whose disk is not mounted."""
        known = self._registry.store(kind.value)
        try:
            try:
                vault = self._opened(kind, create=create and known is None, store_id=known)
            except (VaultReadOnlyError, VaultNewerError, VaultKeyError, StorageFullError):
                if not to_read:
                    raise
                vault = self._opened(kind, read_only=True, store_id=known)
        except (VaultMissingError, VaultForeignError) as error:
            if known is not None:
                error.remedy = (
                    f"mount its disk, or set {_NAMES[kind]}_path to where it is; to use another one"
                    f" from now on: `lifecycle {kind.value} --new-vault`"
                )
                fronts = (os.path.join(it, FORMAT_NAME) for it in self.copies(kind))
                there = next(filter(os.path.exists, fronts), None)
                if there is not None:
                    error.remedy += (
                        f"; or let a copy take its place, {os.path.dirname(there)}: set"
                        f" {_NAMES[kind]}_path to it, and take it out of {_NAMES[kind]}_copies"
                    )
            raise
        if known is None and not vault.read_only:
            self._registry.set_store(kind.value, vault.store_id)
            if kind is VaultKind.BACKUP and create and not vault.manifests():
                self._tell_all(vault)
        return vault

    def _opened(
        self,
        kind: VaultKind,
        *,
        create: bool = False,
        read_only: bool = False,
        store_id: bytes | None = None,
    ) -> Vault:
        return Vault.open(
            self.path(kind),
            kind,
            index_path=os.path.join(self._folder, f"{kind.value}.db"),
            fs=self._fs,
            clock=self._clock,
            create=create,
            read_only=read_only,
            store_id=store_id,
            writer=to_text(self._registry.registry_id),
            recipients=recipients_of(self._settings, kind),
            identity_path=identity_of(self._settings),
        )

    def copy_at(self, path: str, kind: VaultKind, *, read_only: bool) -> Vault:
        """A copy of a vault in another place; the caller closes it. Raises `VaultError`."""
        return Vault.open(
            path,
            kind,
            index_path="",
            fs=self._fs,
            clock=self._clock,
            read_only=read_only,
            store_id=self._registry.store(kind.value),
            writer=to_text(self._registry.registry_id),
            recipients=recipients_of(self._settings, kind),
            identity_path=identity_of(self._settings),
        )

    def _tell_all(self, vault: Vault) -> None:
        """What people have said before there was a vault: policies, choices, holds."""
        statements = self._registry.statements()
        if statements:
            with vault.writer() as writer:
                name = writer.commit(statements)
            self._registry.add_applied(vault.store_id, [name], self._clock.now_ns())

    def forget(self, kind: VaultKind) -> None:
        """Use another vault from now on: the one that is at its path then, or a new one. What the
        old one keeps stays in it; all is to be kept again in the new one."""
        with self._mutex:
            vault = self._open.pop(kind, None)
            if vault is not None:
                vault.close()
            self._registry.set_store(kind.value, None)

    def look_into(self, kind: VaultKind) -> Vault:
        """A vault to be read, for who changes nothing: the registry takes nothing up. The caller
        closes it. Raises `VaultError`."""
        return self._opened(kind, read_only=True)

    def seen(self, kind: VaultKind) -> Vault:
        """A vault to be asked, again and again, by who changes nothing: the one that is open, or
        one that is only read; the registry takes nothing up. Raises `VaultError`."""
        with self._mutex:
            vault = self._open.get(kind)
            if vault is not None:
                return vault
            vault = self._looked_into.get(kind)
            if vault is None:
                vault = self._looked_into[kind] = self.look_into(kind)
            else:
                vault.news()
            return vault

    def check_places(self) -> None:
        """`check_place` of both, before an order: the vault is told of every act."""
        for kind in VaultKind:
            self.check_place(kind)

    def check_place(self, kind: VaultKind) -> None:
        """Raises `UsageError` for a place in a root, or with a root in it."""
        place = os.path.realpath(os.fsencode(self.path(kind)))
        for repository in self._registry.repositories():
            if repository.kind is RepositoryKind.ROOT:
                clash = misplaced(place, repository.path)
                if clash:
                    raise UsageError(
                        clash,
                        operation=f"use {_NAMES[kind]}",
                        subject=self.path(kind),
                        remedy=f"set {_NAMES[kind]}_path to a folder apart from all roots,"
                        " best on another disk",
                    )

    def existing(self, *, to_read: bool = False) -> list[Vault]:
        """Those that there are, opened. A place without a vault is passed over."""
        found = []
        for kind in VaultKind:
            try:
                found.append(self.get(kind, create=False, to_read=to_read))
            except VaultMissingError:
                # None yet, or one whose making was cut off: it holds nothing.
                continue
        return found

    def is_there(self, kind: VaultKind) -> bool:
        """Whether anything lies where a vault belongs."""
        try:
            with os.scandir(self.path(kind)) as entries:
                return any(True for _ in entries)
        except OSError:
            return False

    def take_up(self, *, to_read: bool = False) -> None:
        """Take up what others have told the vaults since. Raises `VaultError`."""
        for vault in self.existing(to_read=to_read):
            vault.refresh()
            self._take_up(vault)

    def _take_up(self, vault: Vault) -> None:
        names = vault.manifests()
        applied = self._registry.applied_manifests(vault.store_id)
        forgotten = vault.forgotten_head()
        if forgotten and forgotten not in applied:
            # Holds, confirmations and what was taken away since may stand in there.
            raise VaultKeyError(
                "tells of what this registry has done and does not know any more (it is an older"
                " copy), and is encrypted",
                operation="open vault",
                subject=vault.path,
                remedy="let it read once what it has written: `lifecycle backup --identity FILE`,"
                " FILE with the secret key",
            )
        missing = [name for name in names if name not in applied]
        if missing:
            # Whoever wrote them may have been killed before it looked once more.
            stand_in(vault, missing)
            self._registry.apply_events(
                vault.events(missing),
                self._clock.now_ns(),
                [(vault.store_id, name) for name in missing],
                kind="backup" if vault.kind is VaultKind.BACKUP else "archive",
            )

    def backup(self) -> Vault:
        return self.get(VaultKind.BACKUP)

    def archive(self) -> Vault:
        return self.get(VaultKind.ARCHIVE)

    def news_of(self, vault: Vault, repository: Repository) -> list[Event]:
        """What a vault has yet to be told of a root: that it is there, and if it is enforced."""
        if self._told.get((vault.store_id, repository.repository_id)) == _facts(repository):
            return []
        return [
            RepositoryEvent(
                repository.repository_id,
                repository.path,
                repository.kind,
                repository.enforce,
                self._registry.registry_id,
                self._clock.now_ns(),
            )
        ]

    def told(self, vault: Vault, repository: Repository) -> None:
        """The vault knows that now."""
        self._told[vault.store_id, repository.repository_id] = _facts(repository)

    def close(self) -> None:
        with self._mutex:
            for vault in (*self._open.values(), *self._set_aside, *self._looked_into.values()):
                vault.close()
            self._looked_into.clear()
            self._set_aside.clear()
            self._open.clear()


def recipients_of(settings: Settings, kind: VaultKind) -> tuple[str, ...]:
    """To which keys a vault is encrypted; none for not at all."""
    if kind is VaultKind.BACKUP:
        return settings.backup_recipients
    return settings.archive_recipients


def identity_of(settings: Settings) -> str:
    """The file with the secret key, which only reading needs; empty for none."""
    return "" if settings.identity_path is None else os.fspath(settings.identity_path)


_NAMES = {VaultKind.BACKUP: "backup", VaultKind.ARCHIVE: "archive"}


def misplaced(place: bytes, root: bytes) -> str:
    """Why a vault cannot lie at `place` beside a root (both real paths); empty when it can."""
    if place == root:
        return "is a root itself: it would be lost with what it keeps"
    if place.startswith(root + b"/"):
        return f"lies inside the root {os.fsdecode(root)}: it would be lost with what it keeps"
    if root.startswith(place + b"/"):
        return f"contains the root {os.fsdecode(root)}"
    return ""


def _facts(repository: Repository) -> tuple[object, ...]:
    return repository.path, repository.kind, repository.enforce


def index_folder(database_path: str) -> str:
    """Where the throw-away indexes of the vaults lie."""
    return database_path + ".index"
