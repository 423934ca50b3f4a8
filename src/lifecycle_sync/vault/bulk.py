"""Reads many contents of a vault, fastest in the order in which they were kept.

They are looked up many at a time, and packs are read in pieces that hold many members. Every
content is checked against its key, as by `Vault.read`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lifecycle_sync.errors import StorageMissingError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault.format import pack_name
from lifecycle_sync.vault.frames import FrameError, key_of, raw_content, unpack_frame
from lifecycle_sync.vault.index import PackPlace, key_blob
from lifecycle_sync.vault.sealing import opened

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

_PIECE_BYTES = 2 << 20
# With fewer members asked for in one pack, each is read by itself.
_MANY = 16
_PIECES = 4


class BulkReader:
    """For one thread. `prepare` names what will be asked for next; what it does not name is read
    all the same, one by one."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._places: dict[bytes, PackPlace] = {}
        self._members = Counter[bytes]()
        # By pack, the piece of it that was read last: where it starts, and its bytes. The pack used
        # last stands last.
        self._checked: set[bytes] = set()
        self._pieces: dict[bytes, tuple[int, memoryview]] = {}

    def prepare(self, keys: Sequence[ContentKey]) -> None:
        """Look up where these contents lie."""
        self._places = self._vault.index.pack_places([key_blob(key) for key in keys])
        self._members = Counter(place.sha256 for place in self._places.values())

    def read(self, key: ContentKey) -> Iterator[bytes]:
        """The content in pieces, as `Vault.read` gives it, with the errors it raises."""
        place = self._places.get(key_blob(key))
        if place is None:
            return self._vault.read(key)
        content = self._member(key, place)
        # Whatever is wrong, the careful way finds it and says so.
        return self._vault.read(key) if content is None else iter((content,))

    def check(self, key: ContentKey) -> None:
        """See to it that a content is stored whole, as `Vault.check` does, with the errors that
        raises."""
        place = self._places.get(key_blob(key))
        if self._vault.has_key:
            if place is None or self._member(key, place) is None:
                # Whatever is wrong, the careful way finds it and says so.
                self._vault.check(key)
        elif place is None or place.sha256 not in self._checked:
            self._vault.check(key)
            if place is not None:
                self._checked.add(place.sha256)

    def _member(self, key: ContentKey, place: PackPlace) -> bytes | None:
        stored = self._stored(place)
        if stored is None:
            return None
        content = raw_content(stored, place.size)
        if content is None:
            try:
                content = unpack_frame(bytes(stored), place.size)
            except FrameError:
                return None
        return content if key_of(key.algorithm, content).digest == key.digest else None

    def _stored(self, place: PackPlace) -> memoryview | None:
        start, piece = self._pieces.get(place.sha256, (0, memoryview(b"")))
        at = place.offset - start
        if at >= 0 and at + place.stored <= len(piece):
            return piece[at : at + place.stored]
        wanted = place.stored
        if self._members[place.sha256] >= _MANY:
            wanted = max(wanted, _PIECE_BYTES)
        try:
            data = opened(self._vault.storage).read(pack_name(place.sha256), place.offset, wanted)
        except (StorageMissingError, FrameError):
            return None
        piece = memoryview(data)
        if wanted > place.stored:
            self._pieces.pop(place.sha256, None)
            self._pieces[place.sha256] = (place.offset, piece)
            if len(self._pieces) > _PIECES:
                del self._pieces[next(iter(self._pieces))]
        return piece[: place.stored] if len(piece) >= place.stored else None
