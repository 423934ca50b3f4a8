"""What the directories around kept files are like, told to a vault where it does not know yet.

A directory has no versions of its own; but who restores a folder wants its mode, owner, times and
attributes back as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lifecycle_sync.act import metadata
from lifecycle_sync.descent import Descent
from lifecycle_sync.model.content import Metadata
from lifecycle_sync.model.event import DirectoryEvent
from lifecycle_sync.vault.vault import Vault

if TYPE_CHECKING:
    from lifecycle_sync.act.site import Site


class Directories:
    """The directories of one repository as one vault has them. Kept for as long as acts go on, for
    reading all of them takes a moment; of each only a digest is kept."""

    def __init__(self, vault: Vault, repository_id: bytes) -> None:
        self._vault = vault
        self._repository_id = repository_id
        self._known: dict[bytes, int] | None = None

    def news(self, site: Site, folders: Iterable[bytes]) -> list[DirectoryEvent]:
        """The events for those of `folders`, and of all above them up to the root, that are not as
        the vault knows them. One that cannot be read is left out: its files were, a moment ago."""
        wanted: set[bytes] = set()
        for folder in folders:
            while folder not in wanted:
                wanted.add(folder)
                folder = folder.rpartition(b"/")[0]
        known = self._load()
        events = []
        with Descent(site.fs, site.root) as descent:
            for folder in sorted(wanted):
                try:
                    fd = descent.open(folder)
                    found = metadata.capture(site.fs, fd, site.fs.fstat(fd))
                except OSError:
                    continue
                if known.get(folder) != _digest(found):
                    events.append(DirectoryEvent(self._repository_id, folder, found, site.now_ns()))
        return events

    def told(self, events: Iterable[DirectoryEvent]) -> None:
        """The vault knows these now."""
        self._load().update((event.path, _digest(event.metadata)) for event in events)

    def _load(self) -> dict[bytes, int]:
        if self._known is None:
            events = self._vault.directories(self._repository_id)
            self._known = {event.path: _digest(event.metadata) for event in events}
        return self._known


def _digest(it: Metadata) -> int:
    """Of what a restore puts back."""
    return hash((it.mode, it.uid, it.gid, it.mtime_ns, it.xattrs))
