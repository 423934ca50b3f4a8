"""Manifests of an encrypted vault in the clear, on the machine that wrote or has read them.

So whoever backs up knows without a secret what it has told, after a crash, too: a manifest is kept
here before anybody can see it in the vault. It is a cache beside the index: it can be thrown away
(then a key is needed to know what was told), and where a copy cannot be read the vault is read
instead.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable, Iterator

from lifecycle_sync.errors import LifecycleError, StorageError, VaultCorruptError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import MANIFESTS

_log = logging.getLogger("lifecycle_sync.vault")


class KeptManifests:
    """The copies, in a storage of their own. Thread-safe."""

    _FOLDER = "kept"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._mutex = threading.Lock()
        # By the name of a manifest that of its copy, which has the SHA-256 of its own bytes, too.
        self._names: dict[str, str] = {}
        self._checked: set[str] = set()
        try:
            storage.sweep((self._FOLDER,))
        except LifecycleError as error:
            _log.warning("manifests in the clear cannot be cleaned up: %s", error)
        self.look()

    def look(self) -> None:
        """Take up what other processes of this machine have kept since."""
        try:
            found = self._storage.names(self._FOLDER)
        except LifecycleError as error:
            _log.warning("manifests in the clear cannot be used: %s", error)
            return
        with self._mutex:
            for name in found:
                manifest, _, _ = name.rpartition("-")
                self._names.setdefault(f"{MANIFESTS}/{manifest}", name)

    def has(self, name: str) -> bool:
        """Whether a manifest (with its folder) is here, and whole."""
        with self._mutex:
            kept = self._names.get(name)
            if kept is None or name in self._checked:
                return kept is not None
            digest = hashlib.sha256()
            try:
                for piece in self._storage.pieces(f"{self._FOLDER}/{kept}"):
                    digest.update(piece)
                if digest.hexdigest() == kept.rpartition("-")[2]:
                    self._checked.add(name)
                    return True
                _log.warning("the copy of %s in the clear is damaged and is not used", name)
                self._storage.remove(f"{self._FOLDER}/{kept}")
            except StorageError as error:
                _log.warning("the copy of %s in the clear cannot be read: %s", name, error)
            del self._names[name]
            return False

    def pieces(self, name: str, offset: int, length: int | None) -> Iterator[bytes]:
        """What is in it. Raises `VaultCorruptError` where it has gone since."""
        try:
            yield from self._storage.pieces(f"{self._FOLDER}/{self._names[name]}", offset, length)
        except (KeyError, StorageError) as error:
            raise VaultCorruptError(
                "its copy in the clear has gone",
                operation="read manifest",
                subject=name,
                remedy="run the order again: the vault is read then",
            ) from error

    def keep(self) -> Keeping:
        """Begin to keep one."""
        return Keeping(self, self._storage, self._FOLDER)

    def add(self, name: str, kept: str) -> None:
        """A manifest (with its folder) is here now, under that name."""
        with self._mutex:
            self._names[name] = kept

    def drop(self, manifests: Iterable[str]) -> None:
        """Give up the copies of some."""
        for manifest in manifests:
            with self._mutex:
                kept = self._names.pop(f"{MANIFESTS}/{manifest}", None)
            if kept is not None:
                try:
                    self._storage.remove(f"{self._FOLDER}/{kept}")
                except StorageError as error:
                    _log.warning("%s", error)

    def close(self) -> None:
        self._storage.close()


class Keeping:
    """A copy in the making. Raises as a storage does: without it the manifest must not be
    published, for whoever wrote it would not know what it has told."""

    def __init__(self, kept: KeptManifests, storage: Storage, folder: str) -> None:
        self._kept = kept
        self._folder = folder
        self._hash = hashlib.sha256()
        self._upload = storage.upload(folder)

    def write(self, data: bytes) -> None:
        self._upload.write(data)
        self._hash.update(data)

    def publish(self, name: str) -> None:
        kept = f"{name.rpartition('/')[2]}-{self._hash.hexdigest()}"
        self._upload.publish(f"{self._folder}/{kept}", self._hash.digest())
        self._kept.add(name, kept)

    def discard(self) -> None:
        self._upload.discard()
