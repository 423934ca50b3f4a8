"""What a vault needs: what the versions hold of which its manifests tell, all of them, whoever
wrote them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Self

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import LifecycleError, VaultCorruptError, VaultError, VaultKeyError
from lifecycle_sync.vault.format import manifest_path
from lifecycle_sync.vault.held import read_held
from lifecycle_sync.vault.index_live import Lines, Live
from lifecycle_sync.vault.manifest import GoneError, ManifestReader
from lifecycle_sync.vault.passing import Facts, facts_of
from lifecycle_sync.vault.sealing import SealedStorage

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

_log = logging.getLogger("lifecycle_sync.vault")
_TRIES = 20
# Manifests of fewer bytes are read before a thread has begun.
_AHEAD_BYTES = 1 << 20
# Of what frames say beside their versions so much is kept in memory.
_FACTS_BYTES = 4 << 20


class Needed:
    """What is needed of one vault, in `live`. A context manager, for one thread at a time.

    Manifests never change, so those that are there may be read ahead, in a thread, while others are
    written: `catch_up` finds out which have come since.
    """

    def __init__(self, vault: Vault, cancel: CancelToken) -> None:
        self.vault = vault
        self._index = vault.index
        self._storage = vault.storage
        self._cancel = cancel
        self.live = Live(vault.index)
        # What some frames say beside their versions: of about one for each mebibyte of lines.
        self.frames: dict[Lines, Facts] = {}
        self._room = _FACTS_BYTES
        # Manifests whose versions were taken up, or that repeat no others.
        self._read: set[str] = set()
        self._followed: set[str] = set()
        self._ahead: threading.Thread | None = None
        # Set when what was read ahead is of no use any more.
        self._closing = threading.Event()

    def close(self) -> None:
        self._closing.set()
        self._wait()
        self.live.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def is_much(self) -> bool:
        """Whether there is so much to read that a thread for it is worth while."""
        known = self.vault.catalogue.known()
        return sum(it.length for it in known.values()) >= _AHEAD_BYTES

    def read_ahead(self) -> None:
        """Begin to read what is there now."""
        self._ahead = threading.Thread(target=self._read_on, name="vault-needed")
        self._ahead.start()

    def _read_on(self) -> None:
        try:
            self._read_manifests()
        except LifecycleError as error:
            # `catch_up` comes by it as well, and says so.
            _log.debug("reading ahead ended: %s", error)

    def _wait(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.join()

    def catch_up_early(self) -> None:
        """`catch_up` before it has to be, where most likely nothing else will be pruned; what goes
        wrong is left to the next one."""
        try:
            self.catch_up()
        except LifecycleError as error:
            _log.debug("catching up early ended: %s", error)

    def start_over(self) -> None:
        """Forget what was taken up: it may have been pruned since."""
        if self._read:
            self._wait()
            self._read, self._followed = set(), set()
            self.frames, self._room = {}, _FACTS_BYTES
            self.live = Live(self.vault.index)

    def catch_up(self) -> None:
        """Take up what the versions need of which manifests tell that were not read yet."""
        self._wait()
        for left in reversed(range(_TRIES)):
            self.vault.refresh()
            self._refuse_damage()
            try:
                self._read_manifests()
            except GoneError:
                # A checkpoint that repeats it is there by now.
                if not left:
                    raise
                continue
            break
        self.live.take_up()
        missing = self.vault.catalogue.missing(self._followed)
        if missing:
            raise self._blind(f"{min(missing)} is missing")
        self.live.sum_up()
        if self.live.unplaced():
            # What was found damaged is forgotten by the index, and still no reason to delete it.
            self._index.clear()
            self.live.believe_nothing()
            self.vault.refresh()
            self._refuse_damage()
            self.live.sum_up()
        self._use_whole_places()

    def _refuse_damage(self) -> None:
        locked = self.vault.catalogue.locked
        if locked:
            raise VaultKeyError(
                f"{len(locked)} manifests are encrypted, so nobody knows what they need",
                operation="prune vault",
                subject=self.vault.path,
                remedy="name the file with the key: identity_path in the settings",
            )
        for name, cause in sorted(self.vault.catalogue.lost().items()):
            raise self._blind(f"{name} {cause}")

    def _blind(self, cause: str) -> VaultCorruptError:
        return VaultCorruptError(
            f"a manifest cannot be read, so nobody knows what it needs: {cause}",
            operation="prune vault",
            subject=self.vault.path,
            remedy="`lifecycle verify --heal` brings back what it can, also from copies; for one"
            " that is lost for good there is `lifecycle vault give-up`; nothing was deleted",
        )

    def _read_manifests(self) -> None:
        catalogue = self.vault.catalogue
        known = catalogue.known()
        for name in catalogue.sources():
            repeated = known[name].covers or frozenset()
            if name in self._read or (repeated and repeated <= self._read):
                continue
            try:
                if not self._read_manifest(name):
                    return
            except GoneError:
                raise
            except VaultCorruptError as error:
                catalogue.set_down(name, error)
                self._refuse_damage()
                # What it repeats is there.
                self._read_manifests()
                return
            self._read |= {name} | repeated

    def _read_manifest(self, name: str) -> bool:
        """False where it was given up halfway."""
        reader = ManifestReader(self._storage, name)
        self._followed |= set(reader.header.previous)
        if (
            isinstance(self._storage, SealedStorage)
            and reader.header.writer != self.vault.writer_name
        ):
            # Who has no key cannot read what is condemned, and would rely on it.
            raise VaultError(
                f"another program ({reader.header.writer}) writes to it, and it is encrypted",
                operation="prune vault",
                subject=self.vault.path,
                remedy="give each of those who write a vault of its own",
            )
        storage = self._storage
        passes = not isinstance(storage, SealedStorage) or storage.can_seek(manifest_path(name))
        for number, text, inner in reader.frames():
            self._cancel.check()
            if self._closing.is_set():
                return False
            told = read_held(text or b"")
            self.live.add(told, (name, number))
            if passes and inner is not None and told.rest is not None:
                self._remember((name, number), facts_of(inner, told.rest))
        return True

    def _remember(self, lines: Lines, facts: Facts | None) -> None:
        size = sum(map(len, facts.lines)) if facts is not None else 0
        if facts is not None and size <= self._room:
            self._room -= size
            self.frames[lines] = facts

    def _use_whole_places(self) -> None:
        """Where the place that counts has gone or was cut, another one may have a content still."""
        preferred = False
        for place in self.live.used_places():
            if self.vault.is_there(place):
                continue
            for blob in self.live.keys_at(place):
                preferred |= self.vault.turn_elsewhere(blob)
        if preferred:
            self.live.sum_up()
