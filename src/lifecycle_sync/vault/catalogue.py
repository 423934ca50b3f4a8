"""What a vault's manifests say, taken up into the index and read again from there.

Manifests appear and never change; one that a checkpoint covers may go. A checkpoint repeats the
lines of those it covers, so that a new index reads few files; it has nothing of its own, and where
it is damaged those it covers are read.
A manifest that cannot be read is set down in `damaged` and the others are used.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import LifecycleError, VaultCorruptError, VaultKeyError
from lifecycle_sync.model.event import CondemnedEvent, Event, GivenUpEvent, PrunedEvent
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.content_lines import ObjectLine, PackLine
from lifecycle_sync.vault.events import decode_event
from lifecycle_sync.vault.format import (
    MANIFESTS,
    manifest_path,
    split_manifest_name,
)
from lifecycle_sync.vault.index import Index, KnownManifest
from lifecycle_sync.vault.manifest import (
    GoneError,
    Header,
    ManifestReader,
    ManifestWriter,
    made_ahead,
)
from lifecycle_sync.vault.passing import Copied, Passing, batches_of
from lifecycle_sync.vault.sealing import drop_kept, keep, readable
from lifecycle_sync.vault.taken_lines import Taken, taken_lines

_log = logging.getLogger("lifecycle_sync.vault")
# What of some lines a checkpoint repeats.
Choose = Callable[[str, int, list[bytes]], list[bytes]]
# Which frames of manifests pass without that.
Pass = Mapping[str, Mapping[int, Passing]]
_NONE: Pass = {}
# Somebody may be taking manifests away while they are read, but not all the time.
_TRIES = 20
# A checkpoint is worth its bytes once so many manifests would have to be opened without it.
CHECKPOINT_MANIFESTS = 256
# Where all manifests have so many bytes the next lines are read in another thread.
_AHEAD_BYTES = 1 << 20
# So many names of manifests that went are repeated by the next checkpoint.
_COMPACTED_MAX = 200


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
        # Written here, and not taken up by the index: the next refresh does that.
        self._owed: set[str] = set()
        # Why each manifest that cannot be used cannot be.
        self.damaged: dict[str, str] = {}
        # Those that are encrypted, where no key is at hand: of other writers, or of an index that
        # was lost. What they tell of counts as not kept.
        self.locked: set[str] = set()

    def refresh(self) -> None:
        """Take up what others have written since."""
        with self._mutex:
            self._owed.clear()
            self._load()
            for left in reversed(range(_TRIES)):
                if self._refresh(last=left == 0):
                    return

    def news(self) -> bool:
        """The same, when there is anything new; whether there was."""
        with self._mutex:
            if self._listed() <= self._seen() | self._owed:
                return False
            self.refresh()
            return True

    def _listed(self) -> set[str]:
        return {name for name in self._storage.names(MANIFESTS) if split_manifest_name(name)}

    def _seen(self) -> set[str]:
        return self._known.keys() | self.damaged.keys() | self.locked

    def _refresh(self, *, last: bool) -> bool:
        """False where what was listed is not all there is, and it has to be listed again."""
        listed = self._listed()
        self.damaged = {name: why for name, why in self.damaged.items() if name in listed}
        # In any case what others have kept in the clear is looked for: what is condemned must not
        # be missed for want of a key.
        self.locked = (self.locked & listed) - readable(self._storage, self.locked)
        new = listed - self._seen()
        # First what is new: a checkpoint among it may repeat what has gone.
        whole = not new or self._take_up(new, last=last)
        self._load()
        gone = self._known.keys() - listed
        if gone:
            self._forget(gone, listed)
            # Where all was forgotten it is read again.
            whole = whole and not listed - self._seen()
        return whole or last

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
            gone = set(gone) - self._rewritten(listed)
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

    def _take_up(self, new: set[str], *, last: bool) -> bool:
        """False where one of them has gone since it was listed, or one that is listed follows one
        that is not: a listing that others write to meanwhile may show the later one alone."""
        readers: dict[str, ManifestReader] = {}
        gone: set[str] = set()
        for name in sorted(new, reverse=True):
            # A checkpoint comes after what it covers, so that need not be opened. All others are
            # small; one reader holds no more than its header.
            if any(name in reader.header.repeated for reader in readers.values()):
                continue
            try:
                reader = self._reader(name)
            except GoneError as error:
                gone.add(name)
                if last:
                    self.set_down(name, error)
                continue
            if reader is not None:
                readers[name] = reader
        covered: set[str] = set()
        replaced: set[str] = set()
        followed: set[str] = set()
        # First those that repeat others: whoever wrote one may not have known what is newer, and of
        # several places of a content the last one told counts.
        for name in sorted(readers, key=lambda it: (not readers[it].header.checkpoint, it)):
            try:
                whole = self._read(readers[name])
            except GoneError as error:
                gone.add(name)
                if last:
                    self.set_down(name, error)
                continue
            if whole:
                covered |= readers[name].header.repeated
                replaced |= set(readers[name].header.replaces)
                followed |= set(readers[name].header.previous)
        rest = new - readers.keys() - self.damaged.keys() - self.locked - gone
        for name in sorted(rest & covered):
            length = self._storage.size(manifest_path(name)) or 0
            # What a replaced checkpoint covers is of no interest any more.
            covers = () if name in replaced else None
            self._index.add_manifest(name, length, (), covers, read=False, head=False)
        if rest - covered:
            # Their checkpoint turned out to be damaged.
            return self._take_up(rest - covered, last=last) and not gone
        return not gone and not self._unseen(followed, covered)

    def _unseen(self, followed: set[str], covered: set[str]) -> set[str]:
        left = followed - covered - self._known.keys() - self.damaged.keys()
        if left:
            left -= {it.name for it in self._index.manifests()}
        return {name for name in left if self._storage.size(manifest_path(name)) is not None}

    def _reader(self, name: str) -> ManifestReader | None:
        try:
            reader = ManifestReader(self._storage, name)
            if reader.header.store_id != self._store_id:
                raise VaultCorruptError(
                    f"belongs to another store ({reader.header.store_id.hex()})",
                    operation="read manifest",
                    subject=name,
                )
        except GoneError:
            raise
        except VaultCorruptError as error:
            self.set_down(name, error)
            return None
        except VaultKeyError as error:
            if not self.locked and not self._known:
                # Said when a machine begins; later these are other writers', as is to be expected.
                _log.warning("%s %s: what it tells of is kept again", error.subject, error.cause)
            self.locked.add(name)
            return None
        return reader

    def set_down(self, name: str, error: VaultCorruptError) -> None:
        """Use a manifest no more that turned out to be damaged."""
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
                    self._add(taken_lines(reader))
            keep(self._storage, manifest_path(name))
        except GoneError:
            raise
        except VaultCorruptError as error:
            self.set_down(name, error)
            return False
        return True

    def _add(self, taken: Iterable[Taken]) -> None:
        """Take up lines in their order. What is condemned comes last, whatever the order: then it
        is known where else a content lies."""
        condemned: list[CondemnedEvent] = []
        pruned = False

        def contents() -> Iterator[PackLine | ObjectLine]:
            nonlocal pruned
            for it in taken:
                if isinstance(it, PrunedEvent):
                    pruned = True
                    self._index.add_pruned(it.version_ids, it.at_ns)
                elif isinstance(it, CondemnedEvent):
                    condemned.append(it)
                elif isinstance(it, GivenUpEvent):
                    self._index.add_given_up(it.manifests, it.at_ns, it.reason)
                else:
                    yield it

        self._index.add_contents(contents())
        if pruned:
            # How many versions that are kept each manifest tells of is to be counted anew.
            self._index.forget_claims()
        for it in condemned:
            self._index.add_condemned(it.packs, it.objects, it.at_ns)

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
                    self.set_down(it.name, error)
                    continue
                left -= present | {it.name}
        for name in sorted(left):
            yield from self._events_of(name)

    def _events_of(self, name: str) -> Iterator[Event]:
        lines = ManifestReader(self._storage, name).lines()
        events = (decode_event(line.raw) for line in lines if line.is_event)
        return self._index.unpruned(events)

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

    def committed(self, name: str, length: int, header: Header, taken: Sequence[Taken]) -> None:
        """Take up a manifest that was just written here."""
        with self._mutex:
            try:
                with self._index.transaction():
                    if self._index.add_manifest(name, length, header.previous, None, read=True):
                        self._add(taken)
                for previous in header.previous:
                    if previous in self._known:
                        self._known[previous] = self._known[previous]._replace(head=False)
                self._known[name] = KnownManifest(name, length, None, head=True, read=True)
            except LifecycleError as error:
                # The commit stands.
                self._owed.add(name)
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

    def write_checkpoint(self, choose: Choose | None = None, passing: Pass = _NONE) -> str:
        """Repeat all that the readable manifests say in one, or of it what is chosen, and of the
        frames that pass those that stay; its name."""
        with self._mutex:
            for left in reversed(range(_TRIES)):
                try:
                    return self._write_checkpoint(choose, passing)
                except GoneError:
                    # Somebody compacts as well: what that took away another checkpoint says.
                    if not left:
                        raise
                    self.refresh()
        raise AssertionError

    def _write_checkpoint(self, choose: Choose | None, passing: Pass) -> str:
        with self._mutex:
            names = sorted(self._known)
            compacted = self._compacted()
            header = Header(
                self._store_id,
                self._next_sequence(),
                self._writer,
                self._clock.now_ns(),
                checkpoint=True,
                previous=tuple(sorted(it.name for it in self._known.values() if it.head)),
                covers=(
                    *compacted,
                    *(name for name in names if self._known[name].covers is None),
                ),
                replaces=tuple(name for name in names if self._known[name].covers is not None),
            )
            writer = ManifestWriter(self._storage, header)
            try:
                size = sum(self._known[name].length for name in names)
                batches = batches_of(self._storage, self.sources(), passing)
                for batch in batches if size < _AHEAD_BYTES else made_ahead(batches):
                    if isinstance(batch, Copied):
                        writer.copy(*batch)
                    else:
                        writer.block(choose(*batch) if choose else batch[2])
                checkpoint = writer.publish()
            finally:
                writer.discard()
            self._index.add_manifest(
                checkpoint,
                writer.length,
                (*header.previous, *names),
                (*compacted, *names),
                read=False,
            )
            self._load()
            return checkpoint

    def _compacted(self) -> list[str]:
        """The newest of those that only the checkpoints before repeat: one who slept meanwhile may
        still say that its manifest follows them, and then it has to be known that they are not
        missing."""
        repeated: set[str] = set()
        for it in self._known.values():
            repeated |= it.covers or frozenset()
        return sorted(repeated - self._known.keys())[-_COMPACTED_MAX:]

    def lost(self) -> dict[str, str]:
        """The damaged manifests that no other repeats, with the reason; what a checkpoint repeats
        of others that are there is not lost with it. One that was given up is left out."""
        with self._mutex:
            repeated = set(self._index.given_up())
            for it in self._known.values():
                if it.name not in self.damaged:
                    repeated |= it.covers or frozenset()
            for name in self.damaged.keys() & self._known.keys():
                covers = self._known[name].covers
                if covers and covers <= self._known.keys() - self.damaged.keys():
                    repeated.add(name)
            return {name: why for name, why in self.damaged.items() if name not in repeated}

    def superseded(self) -> list[str]:
        """The manifests that two checkpoints repeat, or one repeats and one has taken the place of:
        without them each line still stands in two files, or in one that is newer than both. Those
        that are checkpoints come last, so that what is missing is always accounted for."""
        with self._mutex:
            whole = self._known.keys() - self.damaged.keys()
            checkpoints = sorted(name for name in whole if self._known[name].covers)
            if len(checkpoints) < 2:
                return []
            older, newer = checkpoints[-2:]
            twice = (self._known[older].covers or frozenset()) & (
                self._known[newer].covers or frozenset()
            )
            return sorted(
                twice & self._known.keys(),
                key=lambda name: (self._known[name].covers is not None, name),
            )

    def remove(self, names: Iterable[str]) -> None:
        """Take away manifests that checkpoints repeat, in this order."""
        with self._mutex:
            for name in names:
                self._storage.remove(manifest_path(name))
            self.refresh()

    def known(self) -> dict[str, KnownManifest]:
        """All readable manifests, by name."""
        with self._mutex:
            return dict(self._known)

    def missing(self, followed: Iterable[str]) -> set[str]:
        """Those of these manifests, which others have followed, that have gone without being
        repeated or given up; and those that were here once."""
        with self._mutex:
            repeated = set(self._index.given_up())
            for it in self._known.values():
                repeated |= it.covers or frozenset()
            there = self._known.keys() | self.damaged.keys()
            return {*followed, *self._index.vanished()} - repeated - there

    def sources(self, unusable: Collection[str] = ()) -> list[str]:
        """The fewest manifests that together say everything, as far as that goes without those that
        are damaged or `unusable`."""
        with self._mutex:
            left = set(self._known)
            said: set[str] = set()
            sources = []
            for name in sorted(self._known, reverse=True):
                it = self._known[name]
                whole = name in left and name not in self.damaged and name not in unusable
                if not whole or not it.covers or it.covers <= said:
                    # Two that did not know of each other may repeat the same, which may be gone.
                    continue
                if (it.covers & self._known.keys()) <= left:
                    sources.append(name)
                    left -= it.covers | {name}
                    said |= it.covers
            return sorted([*sources, *(name for name in left if self._known[name].covers is None)])
