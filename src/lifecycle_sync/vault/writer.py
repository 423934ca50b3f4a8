"""A session of writing: contents into packs and objects, then one manifest that commits them.

Nothing is promised before `commit` returns. A manifest is made durable only after everything it
speaks of is; what is left of a session that ends before is bytes that nobody refers to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Self

from lifecycle_sync.errors import VaultError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import Event, VersionEvent
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.events import VersionLine, encode_event
from lifecycle_sync.vault.format import PACKS, SMALL_SIZE_MAX, pack_name
from lifecycle_sync.vault.frames import FrameCompressor, key_of
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.manifest import (
    ManifestWriter,
    ObjectLine,
    PackLine,
    object_line,
    pack_line,
    split_pack,
)
from lifecycle_sync.vault.objects import ObjectUpload, Workers
from lifecycle_sync.vault.pack import PACK_SIZE_MAX, PackBuilder, PackContents, Packed, packed
from lifecycle_sync.vault.sealing import seal

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

_VERSIONS = (VersionEvent, VersionLine)


class VaultWriter:
    """Made by `Vault.writer`; a context manager. For one thread at a time.

    After an error of the storage the session is over: every later call raises it again, and what
    was not committed has to be written once more.
    """

    def __init__(self, vault: Vault, storage: Storage) -> None:
        self._vault = vault
        self._storage = storage
        self._workers = Workers()
        self._compressor = FrameCompressor()
        self._pack: PackBuilder | None = None
        self._sealing: Future[None] | None = None
        self._packs: list[PackContents] = []
        self._objects: list[ObjectLine] = []
        self._uploads: list[ObjectUpload] = []
        # What this session has stored since its last commit, as `key_blob` has it.
        self._stored: set[bytes] = set()
        self._broken: BaseException | None = None

    def add(self, key: ContentKey, data: bytes, *, again: bool = False) -> bool:
        """Store a content of at most 1 MiB; False where it is stored already, and nothing is done.

        With `again` it is stored in any case: what heals one that was found damaged. Raises
        `ValueError` for data that is larger, or is not what the key names.
        """
        self.check()
        blob = key_blob(key)
        if not again and (blob in self._stored or self._vault.has(blob)):
            return False
        if len(data) > SMALL_SIZE_MAX:
            raise ValueError("over 1 MiB: that is an object")
        if key_of(key.algorithm, data).digest != key.digest:
            raise ValueError(f"the data is not what {key} names")
        self.add_packed(key, packed(key, len(data), self._compressor.frame(data)))
        return True

    def add_packed(self, key: ContentKey, it: Packed) -> None:
        """Store a small content that another process has packed, of a frame that a
        `FrameCompressor` made; that it is what the key names is believed."""
        self.check()
        try:
            pack = self._pack
            if pack is not None and not pack.has_room(key.algorithm, it):
                self._seal()
                pack = None
            if pack is None:
                pack = self._pack = PackBuilder(key.algorithm)
            pack.add(it)
            self._stored.add(key_blob(key))
            if pack.size >= PACK_SIZE_MAX:
                self._seal()
        except BaseException as error:
            self._broken = error
            raise

    def open_object(self, algorithm: str) -> ObjectUpload:
        """Begin to store a large content, whose key nobody knows yet."""
        self.check()
        upload = ObjectUpload(self._storage, self._workers, algorithm, self._take_object)
        self._uploads = [it for it in self._uploads if not it.over]
        self._uploads.append(upload)
        return upload

    def _take_object(self, line: ObjectLine) -> None:
        self._objects.append(line)
        self._stored.add(key_blob(line.key))

    def commit(self, events: Sequence[Event | VersionLine]) -> str:
        """Make everything so far, and these events, durable; the name of the manifest.

        Without anything to tell nothing is written, and the name is empty. Raises `VaultError` for
        a version whose content is not stored.
        """
        self.check()
        try:
            return self._commit(events)
        except BaseException as error:
            self._broken = error
            raise

    def _commit(self, events: Sequence[Event | VersionLine]) -> str:
        self._refuse_unstored(events)
        self._seal()
        packs, objects = self._packs, self._objects
        if not (events or packs or objects):
            return ""
        header = self._vault.next_header()
        manifest = ManifestWriter(self._storage, header)
        try:
            contents: list[PackLine | ObjectLine] = []
            contents += chain.from_iterable(map(split_pack, packs))
            contents += objects
            for raw in _lines(contents, events):
                manifest.line(raw)
            # Only now has everything that the manifest speaks of to be durable.
            self._wait()
            name = manifest.publish()
        finally:
            manifest.discard()
        self._packs, self._objects, self._stored = [], [], set()
        self._vault.committed(name, manifest.length, header, contents)
        return name

    def _refuse_unstored(self, events: Sequence[Event | VersionLine]) -> None:
        unknown = {
            event.content
            for event in events
            if isinstance(event, _VERSIONS)
            and event.content is not None
            and key_blob(event.content) not in self._stored
        }
        missing = unknown - self._vault.contains(list(unknown))
        if missing:
            raise VaultError(
                f"{len(missing)} contents are not stored, such as {min(missing)}",
                operation="commit to vault",
                subject=self._vault.path,
                remedy="add them again: what stored them was never committed, or is damaged",
            )

    def _seal(self) -> None:
        """Send the pack on its way to the disk; at most one is under way."""
        pack, self._pack = self._pack, None
        if pack is None:
            return
        self._wait()
        contents, data = pack.seal(partial(seal, self._storage))
        self._packs.append(contents)
        self._sealing = self._workers.publisher.submit(self._store, contents.sha256, data)

    def _store(self, sha256: bytes, data: bytes) -> None:
        upload = self._storage.upload(PACKS)
        try:
            upload.write(data)
            upload.publish(pack_name(sha256), sha256)
        finally:
            upload.discard()

    def _wait(self) -> None:
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def check(self) -> None:
        """Raises `VaultError` where the session ended with an error."""
        if self._broken is not None:
            raise VaultError(
                f"the session ended with an error ({self._broken})",
                operation="write to vault",
                subject=self._vault.path,
                remedy="begin a new one",
            ) from self._broken

    def close(self) -> None:
        """End the session; what was not committed is given up. Never raises for that."""
        for upload in self._uploads:
            if not upload.over:
                upload.abort()
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.exception()
        self._workers.close()
        self._pack = None
        if self._broken is None:
            self._broken = VaultError("it is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _lines(
    contents: Sequence[PackLine | ObjectLine], events: Sequence[Event | VersionLine]
) -> Iterator[bytes]:
    """Each line of contents before the first event that speaks of one of them, so that a
    compressor finds the digest again nearby."""
    line_of: dict[bytes, int] = {}
    for number, it in enumerate(contents):
        if isinstance(it, PackLine):
            line_of.update(dict.fromkeys(it.digests, number))
        else:
            line_of[it.key.digest] = number
    told = [False] * len(contents)
    for event in events:
        if isinstance(event, _VERSIONS) and event.content is not None:
            number = line_of.get(event.content.digest, -1)
            if number >= 0 and not told[number]:
                told[number] = True
                yield _content_line(contents[number])
        yield event.raw if isinstance(event, VersionLine) else encode_event(event)
    yield from (_content_line(it) for it, done in zip(contents, told, strict=True) if not done)


def _content_line(it: PackLine | ObjectLine) -> bytes:
    return pack_line(it) if isinstance(it, PackLine) else object_line(it)
