"""Contents that lie in several places of a vault: which of these are whole, found by reading,
before others go.

Two may store the same content at the same time, or what was copied lies where it was until that is
deleted. Which place counts the index knows, and not whether it is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault.contents import names_of
from lifecycle_sync.vault.hashing import hash_file
from lifecycle_sync.vault.index import Place, key_blob, key_of_blob

if TYPE_CHECKING:
    from lifecycle_sync.cancel import CancelToken
    from lifecycle_sync.vault.needed import Needed
    from lifecycle_sync.vault.vault import Vault

_BATCH = 500


class Probe:
    """Asks places whether contents are whole there, by what the disk has. For one thread, and for
    as long as nobody mends what is damaged."""

    def __init__(self, vault: Vault, cancel: CancelToken | None) -> None:
        self._vault = vault
        self._index = vault.index
        self._cancel = cancel
        # Files that are read from the disk by now, and not from memory.
        self._dropped: set[str] = set()
        # Without a key whole files are compared with their names, each once.
        self._right: dict[str, bool] = {}

    def is_whole(self, key: ContentKey, place: Place | None) -> bool:
        """Whether a content is whole in a place. Raises `CancelledError`."""
        if place is None:
            return False
        if self._cancel is not None:
            self._cancel.check()
        names = names_of(place)
        if not self._vault.has_key:
            return all(map(self._is_right, names))
        for name in names:
            if name not in self._dropped:
                self._dropped.add(name)
                self._vault.storage.drop_cache(name)
        try:
            self._vault.check_at(key, place)
        except LifecycleError:
            return False
        return True

    def _is_right(self, name: str) -> bool:
        if name not in self._right:
            self._right[name] = not hash_file(self._vault.storage, name, cancel=self._cancel).fault
        return self._right[name]

    def turn(self, key: ContentKey) -> bool:
        """Let another place count in which a content is whole, and forget the one that counted;
        False where it is whole in none. Raises `CancelledError`."""
        blob = key_blob(key)
        # What is condemned holds it, too, until it is deleted.
        for number in sorted(self._index.other_places(blob), key=self._index.is_condemned):
            if self.is_whole(key, self._index.place_beside(key, number)):
                self._index.prefer(blob, number, forget=True)
                return True
        return False


def damaged_elsewhere(
    needed: Needed, names: Iterable[bytes], cancel: CancelToken
) -> Iterator[list[bytes]]:
    """Contents that lie in these condemned files, by their SHA-256, and are not whole in the place
    that counts; some at a time. What was copied since `needed` was made is believed."""
    probe = Probe(needed.vault, cancel)
    found: list[bytes] = []
    for blob in needed.live.beside(names):
        key = key_of_blob(blob)
        if not probe.is_whole(key, needed.vault.index.place(key)):
            found.append(blob)
        if len(found) >= _BATCH:
            yield found
            found = []
    if found:
        yield found
