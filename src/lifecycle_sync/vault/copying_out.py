"""Contents written once more, from where they lie to a new place: out of what is condemned.

Small ones go as they are stored, so nothing is compressed again; each is compared with its key on
the way, so damage is never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from lifecycle_sync.errors import NotFoundError, StorageError, VaultCorruptError, VaultKeyError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import PrunedEvent, VersionEvent
from lifecycle_sync.vault.format import pack_name
from lifecycle_sync.vault.frames import FrameError, key_of, unpack_frame
from lifecycle_sync.vault.index import ObjectPlace, PackPlace, key_blob, key_of_blob
from lifecycle_sync.vault.pack import repacked
from lifecycle_sync.vault.sealing import opened

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault
    from lifecycle_sync.vault.writer import VaultWriter

_VERSIONS = 500


def put_again(vault: Vault, writer: VaultWriter, blobs: Iterable[bytes]) -> list[ContentKey]:
    """Store contents once more in a session, each from whichever of its places still has it; those
    that none has."""
    lost = []
    for blob in blobs:
        key = key_of_blob(blob)
        if _put_from(vault, writer, key):
            continue
        counts = vault.index.places([blob]).get(blob)
        if not any(
            _prefer_and_put(vault, writer, key, blob, place)
            for place in vault.index.other_places(blob)
        ):
            lost.append(key)
            if counts is not None:
                vault.index.prefer(blob, counts)
    return lost


def _prefer_and_put(
    vault: Vault, writer: VaultWriter, key: ContentKey, blob: bytes, place: int
) -> bool:
    vault.index.prefer(blob, place)
    return _put_from(vault, writer, key)


def _put_from(vault: Vault, writer: VaultWriter, key: ContentKey) -> bool:
    place = vault.index.place(key)
    if place is None:
        return False
    try:
        if isinstance(place, PackPlace):
            stored = opened(vault.storage).read(pack_name(place.sha256), place.offset, place.stored)
            put_member(writer, key, place.size, stored)
        else:
            put_object(vault, writer, key, place)
    except (StorageError, VaultCorruptError, VaultKeyError, NotFoundError, FrameError):
        return False
    return True


def put_member(writer: VaultWriter, key: ContentKey, size: int, stored: bytes) -> None:
    """Store what a member of a pack holds. Raises `FrameError` where that is not what its key
    says, or its frame has a fault, which would be copied with it."""
    content = unpack_frame(stored, size)
    if key_of(key.algorithm, content).digest != key.digest:
        raise FrameError(f"other bytes than {key} names")
    writer.add_packed(key.algorithm, [repacked(key, size, stored)])


def put_object(vault: Vault, writer: VaultWriter, key: ContentKey, place: ObjectPlace) -> None:
    """Store what an object holds. Raises `VaultCorruptError`."""
    upload = writer.open_object(key.algorithm)
    try:
        for piece in vault.object_content(key, place):
            upload.write(piece)
        upload.finish()
    finally:
        if not upload.over:
            upload.abort()


def stand_in(vault: Vault, manifests: Sequence[str]) -> int:
    """Do for these manifests what their writers may not have lived to do: see `writer.py`. What
    their versions hold and is condemned is stored again; versions whose content has gone with what
    was condemned are taken back. How many these were."""
    if vault.read_only or not vault.has_condemned:
        return 0
    back = 0
    versions = (it for it in vault.events(manifests) if isinstance(it, VersionEvent) and it.content)
    while batch := list(islice(versions, _VERSIONS)):
        of: dict[bytes, list[VersionEvent]] = {}
        for it in batch:
            assert it.content is not None
            of.setdefault(key_blob(it.content), []).append(it)
        places = vault.index.places(list(of))
        endangered = [blob for blob in vault.endangered(sorted(of)) if blob in places]
        if not endangered:
            continue
        with vault.writer() as writer:
            lost = [key_blob(key) for key in put_again(vault, writer, endangered)]
            gone = [it for blob in lost if not _is_anywhere(vault, blob) for it in of[blob]]
            if gone:
                ids = tuple(it.version_id for it in gone)
                at_ns = max(it.at_ns for it in gone)
                reason = "what they hold was deleted before they stood"
                writer.commit([PrunedEvent(ids, at_ns, reason)])
            else:
                writer.commit([])
        back += len(gone)
    return back


def _is_anywhere(vault: Vault, blob: bytes) -> bool:
    """Whether a content still lies somewhere, be it that no key is at hand to read it."""
    places = [*vault.index.places([blob]).values(), *vault.index.other_places(blob)]
    return any(vault.is_there(place) for place in places)
