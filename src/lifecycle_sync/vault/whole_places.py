"""Contents that lie in several places of a vault: which of these are whole, found by reading,
before others go.

Two may store the same content at the same time, or what was copied lies where it was until that is
deleted. Which place counts the index knows, and not whether it is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.vault.frames import FrameError
from lifecycle_sync.vault.index import key_of_blob

if TYPE_CHECKING:
    from lifecycle_sync.cancel import CancelToken
    from lifecycle_sync.vault.needed import Needed

_BATCH = 500


class WholePlaces:
    """The places of what one vault needs. For one thread."""

    def __init__(self, needed: Needed, cancel: CancelToken) -> None:
        self._needed = needed
        self._vault = needed.vault
        self._index = needed.vault.index
        self._cancel = cancel
        # Places that are read from the disk by now, and not from memory.
        self._dropped: set[int] = set()

    def rely_on_whole(self, share: float) -> None:
        """Read what counts and lies as well in a place that is about to go, because nothing of that
        is used, or less than this share: where it is damaged the other place counts, and stays."""
        moved = True
        while moved:
            moved = False
            for blob, place in self._needed.live.beside(share):
                moved |= self._relies_on(blob, place)
            # Of what counted before perhaps nothing is used now.
            self._needed.live.sum_up()

    def _relies_on(self, blob: bytes, place: int) -> bool:
        """Whether a content is from now on relied on in this place."""
        counts = self._index.places([blob]).get(blob)
        if self._is_whole(blob, counts):
            return False
        self._index.prefer(blob, place)
        if self._is_whole(blob, place):
            return True
        if counts is not None:
            self._index.prefer(blob, counts)
        return False

    def damaged_elsewhere(self) -> Iterator[list[bytes]]:
        """Contents that are condemned and not deleted yet in one place, and not whole in the one
        that counts, some at a time. Nothing is read unless damage was found and not healed."""
        if not self._needed.is_damaged:
            return
        there: dict[int, bool] = {}
        found: list[bytes] = []
        for blob, place in self._needed.live.beside_condemned():
            if place not in there:
                there[place] = self._vault.is_there(place)
            if there[place] and not self._is_whole(blob, self._index.places([blob]).get(blob)):
                found.append(blob)
            if len(found) >= _BATCH:
                yield found
                found = []
        if found:
            yield found

    def _is_whole(self, blob: bytes, counts: int | None) -> bool:
        """Whether a content is whole in the place that counts, by what the disk has."""
        self._cancel.check()
        if counts is not None and counts not in self._dropped:
            self._dropped.add(counts)
            for name in self._vault.names_of(counts):
                self._vault.storage.drop_cache(name)
        try:
            self._vault.check(key_of_blob(blob))
        except (LifecycleError, FrameError):
            return False
        return True
