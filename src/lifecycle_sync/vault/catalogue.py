"""What a vault's manifests say, taken up into the index and read again from there.

Manifests appear and never change. A checkpoint repeats the lines of those it covers, so that a new
index reads few files; it has nothing of its own, and where it is damaged those it covers are read.
A manifest that cannot be read is set down in `damaged` and the others are used.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence

from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import LifecycleError, VaultCorruptError, VaultKeyError
from lifecycle_sync.model.event import Event
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.events import decode_event
from lifecycle_sync.vault.format import (
    MANIFESTS,
    manifest_path,
    split_manifest_name,
)
from lifecycle_sync.vault.index import Index, KnownManifest
from lifecycle_sync.vault.manifest import (
    Header,
    ManifestReader,
    ManifestWriter,
    ObjectLine,
    PackLine,
    decode_content_line,
)
from lifecycle_sync.vault.sealing import drop_kept, keep

_log = logging.getLogger("lifecycle_sync.vault")
# A checkpoint is worth its bytes once so many manifests would have to be opened without it.
CHECKPOINT_MANIFESTS = 256


class Catalogue:
    """The manifests of one open vault. Thread-safe."""

    def __init__(
        self, storage: Storage, index: Index, store_id: bytes, clock: Clock, writer: str
    ) -> None:
        self._storage = storage
        self._index = index
        self._store_id = store_id
        self._clock = clock
        self._writer = writer
        self._mutex = threading.RLock()
        self._known: dict[str, KnownManifest] = {}
        # Why each manifest that cannot be used cannot be.
        self.damaged: dict[str, str] = {}
        # Those that are encrypted, where no key is at hand: of other writers, or of an index that
        # was lost. What they tell of counts as not kept.
        self.locked: set[str] = set()

    def refresh(self) -> None:
        """Take up what others have written since."""
        with self._mutex:
            listed = {name for name in self._storage.names(MANIFESTS) if split_manifest_name(name)}
            self._load()
            gone = self._known.keys() - listed
            if gone:
                self._forget(gone, listed)
            new = listed - self._known.keys() - self.damaged.keys() - self.locked
            if new:
                self._take_up(new)
                self._load()

    def _load(self) -> None:
        self._known = {it.name: it for it in self._index.manifests()}

    def _forget(self, gone: Iterable[str], listed: set[str]) -> None:
        repeated: set[str] = set()
        for it in self._known.values():
            if it.covers is not None and it.name in listed:
                repeated |= it.covers
        drop_kept(self._storage, gone)
        if repeated.issuperset(gone):
            # Pruned: a checkpoint that is here has all they said.
            self._index.drop_manifests(sorted(gone))
        else:
            # Of a vault that was rewritten the names are others, and nothing is missing.
            gone = set(gone) - self._rewritten(listed - self._known.keys())
            if gone:
                _log.warning("manifests of a vault have gone: %s", ", ".join(sorted(gone)))
            self._index.clear(gone)
        self._load()

    def _rewritten(self, names: Iterable[str]) -> set[str]:
        """The manifests that these stand for."""
        found = set()
        for name in names:
            try:
                found.add(ManifestReader(self._storage, name).header.rewritten)
            except (VaultCorruptError, VaultKeyError):
                continue
        return found

    def _take_up(self, new: set[str]) -> None:
        readers: dict[str, ManifestReader] = {}
        for name in sorted(new, reverse=True):
            # A checkpoint comes after what it covers, so that need not be opened. All others are
            # small; one reader holds no more than its header.
            if any(name in reader.header.repeated for reader in readers.values()):
                continue
            reader = self._reader(name)
            if reader is not None:
                readers[name] = reader
        covered: set[str] = set()
        replaced: set[str] = set()
        for name in sorted(readers):
            if self._read(readers[name]):
                covered |= readers[name].header.repeated
                replaced |= set(readers[name].header.replaces)
        rest = new - readers.keys() - self.damaged.keys() - self.locked
        for name in sorted(rest & covered):
            length = self._storage.size(manifest_path(name)) or 0
            # What a replaced checkpoint covers is of no interest any more.
            covers = () if name in replaced else None
            self._index.add_manifest(name, length, (), covers, read=False, head=False)
        if rest - covered:
            # Their checkpoint turned out to be damaged.
            self._take_up(rest - covered)

    def _reader(self, name: str) -> ManifestReader | None:
        try:
            reader = ManifestReader(self._storage, name)
            if reader.header.store_id != self._store_id:
                raise VaultCorruptError(
                    f"belongs to another store ({reader.header.store_id.hex()})",
                    operation="read manifest",
                    subject=name,
                )
        except VaultCorruptError as error:
            self._set_down(name, error)
            return None
        except VaultKeyError as error:
            if not self.locked and not self._known:
                # Said when a machine begins; later these are other writers', as is to be expected.
                _log.warning("%s %s: what it tells of is kept again", error.subject, error.cause)
            self.locked.add(name)
            return None
        return reader

    def _set_down(self, name: str, error: VaultCorruptError) -> None:
        _log.warning("a manifest cannot be used: %s: %s", name, error.cause)
        self.damaged[name] = error.cause

    def _read(self, reader: ManifestReader) -> bool:
        """Take up the contents that a manifest tells of; False when it is damaged."""
        header, name = reader.header, reader.name
        covers = header.repeated if header.checkpoint else None
        needed = covers is None or not self._known.keys() >= covers
        length = self._storage.size(manifest_path(name)) or 0
        try:
            with self._index.transaction():
                added = self._index.add_manifest(
                    name, length, {*header.previous, *header.repeated}, covers, read=needed
                )
                if added and needed:
                    self._index.add_contents(_content_lines(reader))
            keep(self._storage, manifest_path(name))
        except VaultCorruptError as error:
            self._set_down(name, error)
            return False
        return True

    # -- what there is ---------------------------------------------------------------------

    def names(self) -> list[str]:
        """The manifests in order. A checkpoint is named only where something it covers is gone."""
        with self._mutex:
            present = self._known.keys()
            return sorted(
                it.name
                for it in self._known.values()
                if it.covers is None or not it.covers <= present
            )

    def events(self, names: Sequence[str]) -> Iterator[Event]:
        """See `Vault.events`."""
        left = set(names)
        with self._mutex:
            checkpoints = [it for it in self._known.values() if it.covers]
        for it in sorted(checkpoints, key=lambda it: it.name, reverse=True):
            present = (it.covers or frozenset()) & self._known.keys()
            if it.name in left or (len(present) > 1 and present <= left):
                try:
                    yield from self._events_of(it.name)
                except VaultCorruptError as error:
                    if it.name in names:
                        raise
                    # Some events come twice then, which whoever replays them can bear.
                    self._set_down(it.name, error)
                    continue
                left -= present | {it.name}
        for name in sorted(left):
            yield from self._events_of(name)

    def _events_of(self, name: str) -> Iterator[Event]:
        for line in ManifestReader(self._storage, name).lines():
            if line.is_event:
                yield decode_event(line.raw)

    # -- writing ---------------------------------------------------------------------------

    def next_header(self) -> Header:
        """The first line of a manifest that is written now."""
        with self._mutex:
            return Header(
                self._store_id,
                self._next_sequence(),
                self._writer,
                self._clock.now_ns(),
                previous=tuple(sorted(it.name for it in self._known.values() if it.head)),
            )

    def _next_sequence(self) -> int:
        known = [*self._known, *self.damaged, *self.locked]
        newest = max(known, default=None)
        parts = None if newest is None else split_manifest_name(newest)
        return 1 if parts is None else parts[0] + 1

    def committed(
        self, name: str, length: int, header: Header, contents: Sequence[PackLine | ObjectLine]
    ) -> None:
        """Take up a manifest that was just written here."""
        with self._mutex:
            try:
                with self._index.transaction():
                    if self._index.add_manifest(name, length, header.previous, None, read=True):
                        self._index.add_contents(contents)
                for previous in header.previous:
                    if previous in self._known:
                        self._known[previous] = self._known[previous]._replace(head=False)
                self._known[name] = KnownManifest(name, length, None, head=True, read=True)
            except LifecycleError as error:
                # The commit stands: the next refresh takes it up.
                _log.warning("the index did not take up %s: %s", name, error)

    def checkpoint_due(self) -> bool:
        """Whether the manifests since the last checkpoint are many, and outgrow it: so that all
        checkpoints together are no more than the last one twice."""
        with self._mutex:
            last = max((it.name for it in self._known.values() if it.covers), default=None)
            covered = self._known[last].covers or frozenset() if last else frozenset()
            size = self._known[last].length if last else 0
            since = [
                it for it in self._known.values() if it.name not in covered and it.covers is None
            ]
            return (
                len(since) >= max(CHECKPOINT_MANIFESTS, len(covered))
                and sum(it.length for it in since) >= size
            )

    def write_checkpoint(self) -> str:
        """Repeat all that the readable manifests say in one; its name."""
        with self._mutex:
            names = sorted(self._known)
            header = Header(
                self._store_id,
                self._next_sequence(),
                self._writer,
                self._clock.now_ns(),
                checkpoint=True,
                previous=tuple(sorted(it.name for it in self._known.values() if it.head)),
                covers=tuple(name for name in names if self._known[name].covers is None),
                replaces=tuple(name for name in names if self._known[name].covers is not None),
            )
            writer = ManifestWriter(self._storage, header)
            try:
                for name in self._sources():
                    for line in ManifestReader(self._storage, name).lines():
                        writer.line(line.raw)
                checkpoint = writer.publish()
            finally:
                writer.discard()
            self._index.add_manifest(
                checkpoint, writer.length, (*header.previous, *names), names, read=False
            )
            self._load()
            return checkpoint

    def _sources(self) -> list[str]:
        """The fewest manifests that together say everything."""
        left = set(self._known)
        sources = []
        for name in sorted(self._known, reverse=True):
            it = self._known[name]
            if name in left and it.covers and (it.covers & self._known.keys()) <= left:
                sources.append(name)
                left -= it.covers | {name}
        return sorted([*sources, *(name for name in left if self._known[name].covers is None)])


def _content_lines(reader: ManifestReader) -> Iterator[PackLine | ObjectLine]:
    for line in reader.lines():
        if line.is_event:
            continue
        try:
            found = decode_content_line(line.raw)
        except ValueError as error:
            raise VaultCorruptError(
                f"has a line that cannot be right ({error})",
                operation="read manifest",
                subject=reader.name,
            ) from error
        if found is not None:
            yield found
