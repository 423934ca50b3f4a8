"""Questions about versions: where their lines stand is in the index, the lines in the manifests.

A backup asks none of them, so the manifests' versions are taken up when somebody first asks.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from lifecycle_sync.errors import VaultCorruptError
from lifecycle_sync.model.event import DirectoryEvent, VersionEvent
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.events import decode_event
from lifecycle_sync.vault.index import Index, VersionRow
from lifecycle_sync.vault.manifest import GoneError, ManifestReader, read_frame

_log = logging.getLogger("lifecycle_sync.vault")
_VERSION = b'{"event":"version"'
_DIRECTORY = b'{"event":"directory"'
_FRAMES_KEPT = 4
_E = TypeVar("_E", VersionEvent, DirectoryEvent)


class Versions:
    """The versions and directories of one open vault. Thread-safe."""

    def __init__(self, storage: Storage, index: Index, refresh: Callable[[], None]) -> None:
        self._storage = storage
        self._index = index
        self._refresh = refresh
        self._mutex = threading.Lock()
        self._frames: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        # Manifests in which something was found damaged since they were indexed, and why.
        self.damaged: dict[str, str] = {}
        # What no checkpoint repeats of it, as (manifest, frame).
        self._missing: set[tuple[str, int]] = set()
        # How often one does.
        self._lost = 0
        # Manifests that were not there any more, and for which nobody has looked elsewhere yet.
        self._gone: set[str] = set()

    def of_file(self, file_id: bytes) -> Iterator[VersionEvent]:
        found = self._asked(lambda: self._index.versions_of(file_id))
        yield from _newest_first(it for it in found if it.file_id == file_id)

    def at_path(self, repository_id: bytes, path: bytes) -> Iterator[VersionEvent]:
        number = _path_number(repository_id, path)
        found = self._asked(lambda: self._index.versions_at(number))
        wanted = (repository_id, path)
        yield from _newest_first(it for it in found if (it.repository_id, it.path) == wanted)

    def at_part(self, part: float) -> VersionEvent | None:
        """The version that stands at a part (0 up to 1) of all, in no order; None without any."""

        def place() -> list[tuple[str, int, int]]:
            found = self._index.version_near(part)
            return [] if found is None else [found]

        return next(iter(self._asked(place)), None)

    def told(self, version_ids: Sequence[bytes]) -> set[bytes]:
        """Those of these versions that a readable manifest tells of, pruned or not."""
        self._catch_up()
        return self._index.told_versions(version_ids)

    def all(self, repository_id: bytes, under: bytes) -> Iterator[VersionEvent]:
        yield from self._every("version", VersionEvent, repository_id, under)

    def directories(self, repository_id: bytes, under: bytes) -> Iterator[DirectoryEvent]:
        yield from self._every("directory", DirectoryEvent, repository_id, under)

    def _every(
        self, table: str, kind: type[_E], repository_id: bytes, under: bytes
    ) -> Iterator[_E]:
        self._catch_up()
        prefix = under + b"/" if under else b""
        repository = repository_id.hex().encode()
        for name in self._manifests():
            for frame, offset in self._index.lines_of(table, name):
                raw = self._line(name, frame, offset)
                if raw is None:
                    continue
                # Most lines of another repository need not be decoded.
                if repository not in raw:
                    continue
                event = decode_event(raw)
                if (
                    isinstance(event, kind)
                    and event.repository_id == repository_id
                    and (event.path == under or event.path.startswith(prefix))
                ):
                    yield event

    def _manifests(self) -> Iterator[str]:
        """Those that are asked, in order; after one with damage in it also those that say the
        same."""
        done: set[str] = set()
        while True:
            for name in [it for it in self._index.version_manifests() if it not in done]:
                lost = self._lost
                done.add(name)
                yield name
                if self._lost != lost:
                    self._look_elsewhere()
                    break
            else:
                return

    def _asked(self, places: Callable[[], list[tuple[str, int, int]]]) -> list[VersionEvent]:
        while True:
            self._catch_up()
            lost = self._lost
            lines = [self._line(*place) for place in places()]
            if self._lost == lost:
                events = [decode_event(raw) for raw in lines if raw is not None]
                return [event for event in events if isinstance(event, VersionEvent)]
            self._look_elsewhere()

    def _look_elsewhere(self) -> None:
        """Take up what repeats the manifests that were found damaged, or gone, just now. Versions
        may be told twice then."""
        gone, self._gone = self._gone, set()
        repeated: set[str] = set()
        for it in self._index.manifests():
            repeated |= it.covers or frozenset()
        if not gone <= repeated:
            self._take_up_compacted(gone)
        self._catch_up()

    def _take_up_compacted(self, gone: set[str]) -> None:
        """Somebody has taken manifests away, and a checkpoint repeats them that is new."""
        self._refresh()
        for name in gone - {it.name for it in self._index.manifests()}:
            self.damaged.pop(name, None)

    def _line(self, name: str, frame: int, offset: int) -> bytes | None:
        """None where that part of a manifest is damaged: what the others say is still told, and
        from now on a checkpoint is asked that repeats it."""
        if (name, frame) in self._missing:
            return None
        with self._mutex:
            text = self._frames.get((name, frame))
            if text is None:
                try:
                    text = read_frame(self._storage, name, frame)
                except VaultCorruptError as error:
                    if name not in self.damaged:
                        _log.warning("a manifest cannot be used: %s: %s", name, error.cause)
                    self.damaged[name] = error.cause
                    has_gone = isinstance(error, GoneError)
                    if self._index.lose_frame(name, frame) or has_gone:
                        self._lost += 1
                        if has_gone:
                            self._gone.add(name)
                    else:
                        self._missing.add((name, frame))
                    text = b""
                self._frames[name, frame] = text
                while len(self._frames) > _FRAMES_KEPT:
                    self._frames.popitem(last=False)
        return text[offset : text.find(b"\n", offset)] if text else None

    def _catch_up(self) -> None:
        damaged: set[str] = set()
        while names := [it for it in self._index.without_versions() if it not in damaged]:
            gone: set[str] = set()
            for name in names:
                try:
                    reader = ManifestReader(self._storage, name)
                    directories: list[tuple[int, int]] = []
                    # The rows are made while they are written: a checkpoint may have millions.
                    self._index.add_versions(name, _rows(reader, directories), directories)
                except VaultCorruptError as error:
                    # `verify` names it; what the others say is still told.
                    self.damaged[name] = error.cause
                    damaged.add(name)
                    self._index.ask_all()
                    if isinstance(error, GoneError):
                        gone.add(name)
            if gone:
                self._take_up_compacted(gone)


class _VersionKeys(msgspec.Struct):
    file: str
    path: str
    version: str
    repository: str
    path_bytes: str | None = None


_decode_keys = msgspec.json.Decoder(_VersionKeys).decode


def _rows(reader: ManifestReader, directories: list[tuple[int, int]]) -> Iterator[VersionRow]:
    for line in reader.lines():
        if line.raw.startswith(_VERSION):
            try:
                keys = _decode_keys(line.raw)
                path = keys.path.encode()
                if keys.path_bytes is not None:
                    path = msgspec.convert(keys.path_bytes, bytes)
                yield VersionRow(
                    bytes.fromhex(keys.version),
                    bytes.fromhex(keys.file),
                    _path_number(bytes.fromhex(keys.repository), path),
                    line.frame,
                    line.offset,
                )
            except ValueError:
                # Of a newer writer, then.
                continue
        elif line.raw.startswith(_DIRECTORY):
            directories.append((line.frame, line.offset))


def _path_number(repository_id: bytes, path: bytes) -> int:
    """What the index has for a path: 64 bits, so the path itself is compared again."""
    digest = hashlib.blake2b(repository_id + path, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _newest_first(events: Iterator[VersionEvent]) -> list[VersionEvent]:
    return sorted(events, key=lambda it: (it.number, it.at_ns), reverse=True)
