"""A session of writing: contents into packs and objects, then one manifest that commits them.

Nothing is promised before `commit` returns. A manifest is made durable only after everything it
speaks of is; what is left of a session that ends before is bytes that nobody refers to.

No lock keeps a prune away that condemns packs and objects meanwhile. What is condemned counts as
not stored, so a session that knows of it stores anew. That leaves the one that learns of it late:

- a writer publishes its manifest, then lists the manifests again;
- a prune publishes what it condemns, then lists the manifests again, then deletes.

Of two who each publish first and look after that, one sees the other, whatever the timing. If the
prune sees the manifest, it copies out what that needs before it deletes anything. If the writer
sees the condemnation, it writes what it relies on again, in a further manifest, before its commit
returns; and where the bytes have gone by then, it takes its versions back and the commit fails.
Either may stop for a week between any two steps. A name that was condemned is never used again, so
nothing that is deleted late can be something new: what is stored while anything is condemned has
random bytes in it that readers pass over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Self

from lifecycle_sync.errors import StorageMissingError, VaultError, VaultKeyError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import (
    CondemnedEvent,
    Event,
    GivenUpEvent,
    PrunedEvent,
    VersionEvent,
)
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.content_lines import (
    ObjectLine,
    PackLine,
    object_line,
    pack_line,
    split_pack,
)
from lifecycle_sync.vault.copying_out import put_again, put_member, put_object
from lifecycle_sync.vault.events import VersionLine, encode_event, told_at
from lifecycle_sync.vault.format import (
    PACKS,
    SMALL_SIZE_MAX,
    code_byte,
    pack_name,
    salt_frame,
)
from lifecycle_sync.vault.frames import FrameCompressor, key_of
from lifecycle_sync.vault.index import ObjectPlace, key_blob, key_of_blob
from lifecycle_sync.vault.manifest import ManifestWriter
from lifecycle_sync.vault.objects import ObjectUpload, Workers
from lifecycle_sync.vault.pack import PACK_SIZE_MAX, PackBuilder, PackContents, Packed, packed
from lifecycle_sync.vault.sealing import opened, seal

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

# The many first.
_VERSIONS = (VersionLine, VersionEvent)
_ABOUT_PRUNING = (PrunedEvent, CondemnedEvent, GivenUpEvent)
# So often is looked again for what was condemned meanwhile.
_LOOKS_MAX = 100


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
        self.add_packed(key.algorithm, [packed(key, len(data), self._compressor.frame(data))])
        return True

    def add_packed(self, algorithm: str, contents: Sequence[Packed]) -> None:
        """Store small contents that another process has packed, of frames that a
        `FrameCompressor` made; that they are what their keys name is believed."""
        self.check()
        try:
            start = 0
            while start < len(contents):
                pack = self._pack
                if pack is not None and pack.algorithm != algorithm:
                    self._seal()
                    pack = None
                if pack is None:
                    pack = self._pack = PackBuilder(algorithm)
                start = pack.take(contents, start)
                if start < len(contents) or pack.size >= PACK_SIZE_MAX:
                    self._seal()
            code = code_byte(algorithm)
            self._stored.update([it.digest + code for it in contents])
        except BaseException as error:
            self._broken = error
            raise

    def open_object(self, algorithm: str) -> ObjectUpload:
        """Begin to store a large content, whose key nobody knows yet."""
        self.check()
        upload = ObjectUpload(
            self._storage, self._workers, algorithm, self._take_object, self._salt()
        )
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
        vault = self._vault
        vault.news()
        if vault.has_condemned:
            self._put_own_again()
            needed = _contents_of(events) - self._stored
            put_again(vault, self, vault.endangered(sorted(needed)))
        events = self._told_anew(events)
        contents = _contents_of(events)
        self._refuse_unstored(contents - self._stored)
        relied = contents | self._stored
        name = self._publish(events)
        if name:
            self._look_again(events, relied)
        return name

    def _look_again(self, events: Sequence[Event | VersionLine], relied: set[bytes]) -> None:
        """See to it that what was published stands, whatever was condemned meanwhile."""
        vault = self._vault
        for _ in range(_LOOKS_MAX):
            if not vault.news():
                return
            lost = put_again(vault, self, vault.endangered(sorted(relied)))
            if lost:
                self._take_back(events, set(lost))
            anew = self._told_anew(events)
            # Those that were pruned meanwhile are told again, the others are told.
            self._publish([it for it, old in zip(anew, events, strict=True) if it is not old])
            events = anew
        raise VaultError(
            "others condemned what was being written, again and again",
            operation="commit to vault",
            subject=vault.path,
            remedy="run again when they have finished",
        )

    def _take_back(self, events: Sequence[Event | VersionLine], lost: set[ContentKey]) -> None:
        versions = [it for it in events if isinstance(it, _VERSIONS) and it.content in lost]
        if versions:
            at_ns = max(it.at_ns for it in versions)
            ids = tuple(it.version_id for it in versions)
            self._publish([PrunedEvent(ids, at_ns, "what they hold was deleted before they stood")])
        raise VaultError(
            f"{len(lost)} contents were pruned before this was committed, such as {min(lost)}",
            operation="commit to vault",
            subject=self._vault.path,
            remedy="run again: they are stored anew then",
        )

    def _told_anew(self, events: Sequence[Event | VersionLine]) -> list[Event | VersionLine]:
        """The events, of which those that were pruned are told with a later time: so that they
        count."""
        index = self._vault.index
        if not index.has_pruned():
            return list(events)
        until = index.pruned_at([it.version_id for it in events if isinstance(it, _VERSIONS)])
        return [
            told_at(it, until[it.version_id] + 1)
            if isinstance(it, _VERSIONS) and it.at_ns <= until.get(it.version_id, it.at_ns - 1)
            else it
            for it in events
        ]

    def _put_own_again(self) -> None:
        """Store once more what this session has stored under names that are condemned by now:
        somebody took them for what is left of a dead one. Raises `VaultError` where that has been
        deleted already."""
        self._seal()
        self._wait()
        names = [it.sha256 for it in self._packs]
        names += [part.sha256 for it in self._objects for part in it.parts]
        bad = self._vault.index.are_condemned(names)
        if not bad:
            return
        packs = [it for it in self._packs if it.sha256 in bad]
        objects = [it for it in self._objects if any(part.sha256 in bad for part in it.parts)]
        self._packs = [it for it in self._packs if it not in packs]
        self._objects = [it for it in self._objects if it not in objects]
        try:
            for pack in packs:
                data = opened(self._storage).read(pack_name(pack.sha256))
                for line in split_pack(pack):
                    members = zip(line.digests, line.offsets, line.stored, line.sizes, strict=True)
                    for digest, offset, stored, size in members:
                        key = ContentKey(line.algorithm, digest)
                        put_member(self, key, size, data[offset : offset + stored])
            for it in objects:
                put_object(self._vault, self, it.key, ObjectPlace(it.parts, it.size))
        except (StorageMissingError, VaultKeyError) as error:
            raise VaultError(
                "what this session stored was taken for what is left of a dead one, and deleted",
                operation="commit to vault",
                subject=self._vault.path,
                remedy="run again: it is stored anew then",
            ) from error

    def _publish(self, events: Sequence[Event | VersionLine]) -> str:
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
            manifest.lines(_lines(contents, events))
            # Only now has everything that the manifest speaks of to be durable.
            self._wait()
            name = manifest.publish()
        finally:
            manifest.discard()
        self._packs, self._objects, self._stored = [], [], set()
        about = [it for it in events if isinstance(it, _ABOUT_PRUNING)]
        self._vault.committed(name, manifest.length, header, [*contents, *about])
        return name

    def _refuse_unstored(self, needed: Iterable[bytes]) -> None:
        unknown = {key_of_blob(blob) for blob in needed}
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
        contents, data = pack.seal(partial(seal, self._storage), self._salt())
        self._packs.append(contents)
        self._sealing = self._workers.publisher.submit(self._store, contents.sha256, data)

    def _salt(self) -> bytes:
        return salt_frame() if self._vault.has_condemned else b""

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


def _contents_of(events: Iterable[Event | VersionLine]) -> set[bytes]:
    """The contents that versions need, as `key_blob` has them."""
    keys = {it.content for it in events if isinstance(it, _VERSIONS) and it.content is not None}
    codes = {algorithm: code_byte(algorithm) for algorithm in {key.algorithm for key in keys}}
    return {digest + codes[algorithm] for algorithm, digest in keys}


def _lines(
    contents: Sequence[PackLine | ObjectLine], events: Sequence[Event | VersionLine]
) -> Iterator[bytes]:
    """Each line of contents before the event that speaks of its first one, so that a compressor
    finds the digests again nearby."""
    firsts = {
        it.digests[0] if isinstance(it, PackLine) else it.key.digest: number
        for number, it in enumerate(contents)
    }
    told = [False] * len(contents)
    for event in events:
        key: ContentKey | None
        if isinstance(event, VersionLine):
            # By their places: there are many of them.
            _, _, key, _, raw = event
        else:
            raw = encode_event(event)
            key = event.content if isinstance(event, VersionEvent) else None
        if key is not None:
            number = firsts.get(key[1], -1)
            if number >= 0 and not told[number]:
                told[number] = True
                yield _content_line(contents[number])
        yield raw
    yield from (_content_line(it) for it, done in zip(contents, told, strict=True) if not done)


def _content_line(it: PackLine | ObjectLine) -> bytes:
    return pack_line(it) if isinstance(it, PackLine) else object_line(it)
