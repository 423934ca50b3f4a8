"""Contents read from a vault: found in packs and objects, wherever they are moved meanwhile, and
compared with their keys."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from lifecycle_sync.errors import (
    NotFoundError,
    StorageError,
    StorageMissingError,
    VaultCorruptError,
)
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import object_name, pack_name
from lifecycle_sync.vault.frames import (
    FrameError,
    key_of,
    new_hasher,
    unpack_frame,
    unpack_stream,
)
from lifecycle_sync.vault.hashing import digest_named
from lifecycle_sync.vault.index import ObjectPlace, PackPlace, Place, key_blob
from lifecycle_sync.vault.sealing import opened

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

# How often a content that has gone from its place is looked for elsewhere.
_MOVES_MAX = 5


class Contents:
    """Reads the contents of one vault; see `Vault.read`. Thread-safe. With the `storage` of a copy
    they are read there, from the places where the vault has them."""

    def __init__(self, vault: Vault, storage: Storage | None = None) -> None:
        self._vault = vault
        self._storage = vault.storage if storage is None else storage
        self._is_copy = storage is not None

    def read(self, key: ContentKey) -> Iterator[bytes]:
        """The content in pieces. The last one comes before the whole is known to be right: after
        it `VaultCorruptError` is raised when it was not. Raises `NotFoundError` at the start.

        Where its files have gone meanwhile, or are damaged, it is looked for in another place."""
        place = self._vault.index.place(key) or next(self._beside(key), None)
        if place is None:
            raise self._not_here(key)
        if isinstance(place, PackPlace):
            return iter([self._small(key, place)])
        return self._large(key, place)

    def _small(self, key: ContentKey, place: PackPlace) -> bytes:
        try:
            return b"".join(self._found_again(key, place))
        except (VaultCorruptError, StorageError):
            for other in self._beside(key):
                with suppress(VaultCorruptError, StorageError):
                    return b"".join(self._at(key, other))
            raise

    def _large(self, key: ContentKey, place: ObjectPlace) -> Iterator[bytes]:
        others = list(self._beside(key))
        # What was given of it cannot be taken back: so, where there is a choice, it is read before.
        for other in (place, *others) if others else ():
            with suppress(VaultCorruptError, StorageError):
                self.check_at(key, other)
                return self._at(key, other)
        return self.object_content(key, place)

    def _beside(self, key: ContentKey) -> Iterator[Place]:
        """The places of a content beside the one that counts."""
        index = self._vault.index
        for number in [] if self._is_copy else index.other_places(key_blob(key)):
            place = index.place_beside(key, number)
            if place is not None:
                yield place

    def _found_again(self, key: ContentKey, place: Place) -> Iterator[bytes]:
        """What lies at a place, wherever it is moved meanwhile."""
        done = 0
        for left in reversed(range(_MOVES_MAX)):
            skipped = done
            try:
                for piece in self._pieces_at(key, place):
                    # What was given already is the same content.
                    fresh, skipped = piece[skipped:], max(skipped - len(piece), 0)
                    done += len(fresh)
                    if fresh:
                        yield fresh
            except VaultCorruptError as error:
                moved = self._moved(key, place, error) if left else None
                if moved is None:
                    raise
                place = moved
            else:
                return

    def _moved(self, key: ContentKey, place: Place, error: VaultCorruptError) -> Place | None:
        """Where a content lies now whose file was not there."""
        if self._is_copy or not isinstance(error.__cause__, StorageMissingError):
            return None
        self._vault.refresh()
        found = self._vault.index.place(key)
        if found != place:
            return found
        # A checkpoint whose writer did not know of a later place has told of this one again.
        return self._vault.index.place(key) if self._vault.turn_elsewhere(key_blob(key)) else None

    def _not_here(self, key: ContentKey) -> NotFoundError:
        return NotFoundError(
            "the vault does not have this content, or not any more",
            operation="read from vault",
            subject=str(key),
            remedy="`verify` says what is damaged",
        )

    def _member(self, key: ContentKey, place: PackPlace) -> bytes:
        name = pack_name(place.sha256)
        try:
            data = opened(self._storage).read(name, place.offset, place.stored)
            content = unpack_frame(data, place.size)
        except StorageMissingError as error:
            raise self._corrupt(key, f"the pack {name} is missing") from error
        except FrameError as error:
            raise self._corrupt(key, f"damaged in {name}: {error}") from error
        if key_of(key.algorithm, content).digest != key.digest:
            raise self._corrupt(key, f"other bytes than its name says, in {name}")
        return content

    def object_content(self, key: ContentKey, place: ObjectPlace) -> Iterator[bytes]:
        """What an object holds, as `read` gives it."""
        return self._compared(key, self._found_again(key, place))

    def _at(self, key: ContentKey, place: Place) -> Iterator[bytes]:
        """What lies in one place, and is not looked for in another."""
        pieces = self._pieces_at(key, place)
        return pieces if isinstance(place, PackPlace) else self._compared(key, pieces)

    def _compared(self, key: ContentKey, pieces: Iterator[bytes]) -> Iterator[bytes]:
        hasher = new_hasher(key.algorithm)
        for piece in pieces:
            hasher.update(piece)
            yield piece
        if hasher.digest() != key.digest:
            raise self._corrupt(key, "other bytes than its name says")

    def _pieces_at(self, key: ContentKey, place: Place) -> Iterator[bytes]:
        if isinstance(place, PackPlace):
            return iter([self._member(key, place)])
        return self._parts(key, place)

    def _parts(self, key: ContentKey, place: ObjectPlace) -> Iterator[bytes]:
        for part in place.parts:
            name = object_name(part.sha256)
            left = part.size
            try:
                for piece in unpack_stream(opened(self._storage).pieces(name)):
                    left -= len(piece)
                    if left < 0:
                        break
                    yield piece
            except StorageMissingError as error:
                raise self._corrupt(key, f"the part {name} is missing") from error
            except FrameError as error:
                raise self._corrupt(key, f"damaged in {name}: {error}") from error
            if left:
                raise self._corrupt(key, f"another length than it should have, in {name}")

    def _corrupt(self, key: ContentKey, cause: str) -> VaultCorruptError:
        return VaultCorruptError(
            cause,
            operation="read from vault",
            subject=f"{self._vault.path}: {key}",
            remedy="another version may be whole; `verify` lists all damage",
        )

    def check(self, key: ContentKey) -> None:
        """See to it that a content is stored whole, by reading all of it in the place that counts.
        Of an encrypted vault without a key it is the stored bytes that are compared with their
        names. Raises as `read`."""
        place = self._vault.index.place(key)
        if place is None:
            raise self._not_here(key)
        if not self._vault.has_key:
            self._check_stored(key, place)
        elif isinstance(place, PackPlace):
            deque(self._found_again(key, place), 0)
        else:
            deque(self.object_content(key, place), 0)

    def check_at(self, key: ContentKey, place: Place) -> None:
        """The same of one of its places, wherever it is looked for."""
        if self._vault.has_key:
            deque(self._at(key, place), 0)
        else:
            self._check_stored(key, place)

    def _check_stored(self, key: ContentKey, place: Place) -> None:
        for name in names_of(place):
            digest = hashlib.sha256()
            try:
                for piece in self._storage.pieces(name):
                    digest.update(piece)
            except StorageMissingError as error:
                raise self._corrupt(key, f"{name} is missing") from error
            if digest.digest() != digest_named(name):
                raise self._corrupt(key, f"damaged in {name}")


def names_of(place: Place) -> list[str]:
    """The files of a place."""
    if isinstance(place, PackPlace):
        return [pack_name(place.sha256)]
    return [object_name(part.sha256) for part in place.parts]
