"""The face of a vault: opened, asked, read, and written to by a `VaultWriter`."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import (
    LifecycleError,
    VaultError,
    VaultKeyError,
    VaultMissingError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import DirectoryEvent, Event, VersionEvent
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.age import Recipients
from lifecycle_sync.vault.catalogue import Catalogue
from lifecycle_sync.vault.contents import Contents
from lifecycle_sync.vault.format import (
    UPLOAD_FOLDERS,
    VaultFormat,
    VaultKind,
    object_name,
    pack_name,
)
from lifecycle_sync.vault.heads import note_head, read_head
from lifecycle_sync.vault.index import Index, ObjectPlace, Place, key_blob
from lifecycle_sync.vault.manifest import Header
from lifecycle_sync.vault.recipients import note_recipients
from lifecycle_sync.vault.sealing import SealedStorage, stored_name
from lifecycle_sync.vault.taken_lines import Taken
from lifecycle_sync.vault.versions import Versions
from lifecycle_sync.vault.writer import VaultWriter

if TYPE_CHECKING:
    from lifecycle_sync.vault.verify import VerifyReport

_log = logging.getLogger("lifecycle_sync.vault")

__all__ = ["Vault", "VaultKind", "VaultWriter"]


class Vault:
    """One open vault. Reading is thread-safe; a context manager. Made with `open`."""

    def __init__(
        self,
        path: str,
        storage: Storage,
        index: Index,
        *,
        it: VaultFormat,
        clock: Clock,
        writer: str,
    ) -> None:
        self.path = path
        self.kind = it.kind
        self.store_id = it.store_id
        self.format = it
        self.read_only = False
        # What manifests say of who wrote them.
        self.writer_name = writer
        self.storage = storage
        self.index = index
        self._clock = clock
        self._writer = writer
        self._head = ""
        self.catalogue = Catalogue(storage, index, it.store_id, clock, writer)
        self._versions = Versions(storage, index, self.refresh)
        self._contents = Contents(self)
        # Of places that were looked at since the last refresh: whether all their files are there.
        self._whole: dict[int, bool] = {}
        # What the last question for contents did not find. Whoever asked is about to add it.
        self._absent: set[bytes] = set()
        self._mutex = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        kind: VaultKind,
        *,
        index_path: str,
        fs: FileOps,
        clock: Clock,
        create: bool = False,
        read_only: bool = False,
        store_id: bytes | None = None,
        writer: str = "",
        recipients: Sequence[str] = (),
        identity_path: str = "",
    ) -> Vault:
        """Open the vault in a folder; with `create` make one where there is none.

        `index_path` is a file outside the vault that may be lost (empty: a temporary one).
        `store_id` is the store that has to be there, where that is known; `writer` is what
        manifests say of who wrote them (default: the name of this machine). With `read_only`
        nothing in the vault is changed. A new vault is encrypted where there are `recipients`, as
        `age -r` takes them, and an encrypted one is written to these; what is in it is read with
        the secret keys in the file `identity_path`. Raises `VaultError` and its kinds, each with a
        remedy, `KeyFileError`, and `StorageFullError`.
        """
        path = os.path.abspath(os.fspath(path))
        keys = Recipients(recipients) if recipients else None
        storage: Storage = opening.open_storage(path, fs, create=create and not read_only)
        try:
            found = opening.read_format(storage, path, kind, store_id, write=not read_only)
            if found is None:
                if not create or read_only:
                    raise VaultMissingError(
                        "is empty: there is no vault in it",
                        operation="open vault",
                        subject=path,
                        remedy="check that its disk is mounted; the first backup makes a new vault",
                    )
                found = opening.create(
                    storage,
                    path,
                    kind,
                    store_id or os.urandom(16),
                    recipients=() if keys is None else keys.texts,
                )
            storage = opening.seal_storage(
                storage,
                path,
                found,
                fs,
                write=not read_only,
                recipients=keys,
                identity_path=identity_path,
                index_path=index_path,
            )
            if not read_only:
                opening.sweep(storage, path, UPLOAD_FOLDERS)
                if keys is not None:
                    note_recipients(storage, keys.texts)
            index = Index(index_path, found.store_id, fs)
        except BaseException:
            storage.close()
            raise
        writer = writer or socket.gethostname()
        vault = cls(path, storage, index, it=found, clock=clock, writer=writer)
        vault.read_only = read_only
        try:
            vault.refresh()
        except BaseException:
            vault.close()
            raise
        return vault

    def close(self) -> None:
        self.index.close()
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- manifests -------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take up the manifests that others have written since."""
        self.catalogue.refresh()
        self._absent = set()
        with self._mutex:
            self._whole.clear()

    def news(self) -> bool:
        """`refresh`, where there is anything new; whether there was."""
        if not self.catalogue.news():
            return False
        self._absent = set()
        with self._mutex:
            self._whole.clear()
        return True

    def manifests(self) -> list[str]:
        """The names of the readable manifests, in order (sequence, then id).

        A checkpoint, which repeats others, is among them only where one of those is gone.
        """
        return self.catalogue.names()

    @property
    def damaged_manifests(self) -> dict[str, str]:
        """The manifests that cannot be used, with the reason."""
        return self._versions.damaged | self.catalogue.damaged

    def events(self, names: Sequence[str]) -> Iterator[Event]:
        """The events of those manifests, in order; a checkpoint stands for those it covers.

        Events may come more than once. Raises `VaultCorruptError`.
        """
        return self.catalogue.events(names)

    def versions_of(self, file_id: bytes) -> Iterator[VersionEvent]:
        """The versions of a file, newest first."""
        return self.index.unpruned(self._versions.of_file(file_id))

    def versions_at(self, repository_id: bytes, path: bytes) -> Iterator[VersionEvent]:
        """The versions of all files that ever had a path, the highest number first."""
        return self.index.unpruned(self._versions.at_path(repository_id, path))

    def version_at_part(self, part: float) -> VersionEvent | None:
        """The version that stands at a part (0 up to 1) of all that are known, in no order: for who
        draws lots. None where there is none."""
        return self._versions.at_part(part)

    def untold(self, version_ids: Sequence[bytes]) -> set[bytes]:
        """Those of these versions that no readable manifest tells of, and that nobody pruned."""
        left = set(version_ids) - self._versions.told(version_ids)
        return left - self.index.pruned_at(sorted(left)).keys()

    def all_versions(self, repository_id: bytes, under: bytes = b"") -> Iterator[VersionEvent]:
        """All versions of the files at or below a path of a repository, in order of commit."""
        return self.index.unpruned(self._versions.all(repository_id, under))

    def directories(self, repository_id: bytes, under: bytes = b"") -> Iterator[DirectoryEvent]:
        """What is known of the directories at or below a path, in order of commit."""
        return self._versions.directories(repository_id, under)

    # -- contents --------------------------------------------------------------------------

    def is_empty(self) -> bool:
        """Whether no manifest that is known here tells of any content."""
        return self.index.is_empty()

    def contains(self, keys: Sequence[ContentKey]) -> set[ContentKey]:
        """Those of the keys whose content a manifest promises and whose files are all there, and
        not condemned."""
        blobs = [key_blob(key) for key in keys]
        places = self.index.places(blobs)
        self._absent = set(blobs) - places.keys()
        return {
            key
            for key, blob in zip(keys, blobs, strict=True)
            if blob in places and self._is_whole(places[blob])
        }

    def has(self, blob: bytes) -> bool:
        """`contains` for one key, as `key_blob` has it."""
        if blob in self._absent:
            return False
        place = self.index.place_number(blob)
        return place is not None and self._is_whole(place)

    def _is_whole(self, place: int) -> bool:
        whole = self._whole.get(place)
        if whole is None:
            whole = not self.index.is_condemned(place) and self.is_there(place)
            with self._mutex:
                self._whole[place] = whole
        return whole

    @property
    def has_condemned(self) -> bool:
        """Whether packs or objects were ever condemned in this vault."""
        return self.index.has_condemned()

    def is_there(self, place: int) -> bool:
        """Whether all files of a place (a pack, or minus an object) have the sizes they should."""
        name_of: Callable[[bytes], str] = pack_name if place > 0 else object_name
        files = self.index.files_of(place)
        return bool(files) and all(
            self.storage.size(name_of(sha256)) == length for sha256, length in files
        )

    def turn_elsewhere(self, blob: bytes) -> bool:
        """Let another place of a content count whose files are all there; False where there is
        none."""
        for place in self.index.other_places(blob):
            if self.is_there(place):
                self.index.prefer(blob, place)
                return True
        return False

    def endangered(self, blobs: Sequence[bytes]) -> list[bytes]:
        """Those of the keys (as `key_blob` has them) that lie in what is condemned, or nowhere."""
        places = self.index.places(blobs)
        condemned = {place: self.index.is_condemned(place) for place in set(places.values())}
        return [blob for blob in blobs if condemned.get(places.get(blob, 0), True)]

    def read(self, key: ContentKey) -> Iterator[bytes]:
        """The content in pieces. The last one comes before the whole is known to be right: after
        it `VaultCorruptError` is raised when it was not. Raises `NotFoundError` at the start.

        Where its files have gone meanwhile, or are damaged, it is looked for in another place."""
        return self._contents.read(key)

    def read_small(self, key: ContentKey) -> bytes:
        """The whole content, checked. Raises `NotFoundError`, `VaultCorruptError`."""
        return b"".join(self.read(key))

    def object_content(self, key: ContentKey, place: ObjectPlace) -> Iterator[bytes]:
        """What an object holds, as `read` gives it."""
        return self._contents.object_content(key, place)

    def file_name(self, name: str) -> str:
        """What a pack, an object or a manifest is called in its folder: for people."""
        return stored_name(name) if self.format.encryption else name

    @property
    def has_key(self) -> bool:
        """Whether what is in it can be read: always so, but for an encrypted one without a key."""
        return not isinstance(self.storage, SealedStorage) or self.storage.identities is not None

    def require_key(self, operation: str, *, contents: bool = True) -> None:
        """Raises `VaultKeyError` where what the vault tells (and with `contents` what it keeps)
        cannot all be read: before an order that would come to little else."""
        if (contents and not self.has_key) or self.catalogue.locked:
            raise VaultKeyError(
                "is encrypted, and its secret key is not at hand",
                operation=operation,
                subject=self.path,
                remedy="name the file with the key: --identity FILE, or identity_path in the"
                " settings",
            )

    def check(self, key: ContentKey) -> None:
        """See to it that a content is stored whole, by reading all of it in the place that counts.
        Of an encrypted vault without a key it is the stored bytes that are compared with their
        names. Raises as `read`."""
        self._contents.check(key)

    def check_at(self, key: ContentKey, place: Place) -> None:
        """The same of one of its places, wherever it is looked for."""
        self._contents.check_at(key, place)

    # -- writing and checking --------------------------------------------------------------

    def writer(self) -> VaultWriter:
        """A new session of writing; several may write to one vault at once."""
        if self.read_only:
            raise VaultError("was opened to be read", operation="write to vault", subject=self.path)
        return VaultWriter(self, self.storage)

    def next_header(self) -> Header:
        return self.catalogue.next_header()

    def committed(self, name: str, length: int, header: Header, taken: Sequence[Taken]) -> None:
        """A writer's commit stands: take up what it tells of contents and of what is kept no
        longer, and write a checkpoint when one is due."""
        self.catalogue.committed(name, length, header, taken)
        self._note_head(name)
        self._absent = set()
        with self._mutex:
            # What was missing may have been written anew.
            self._whole = {place: whole for place, whole in self._whole.items() if whole}
        if self.catalogue.checkpoint_due():
            self.checkpoint()

    def _note_head(self, name: str) -> None:
        if not self.format.encryption:
            return
        with self._mutex:
            # Sessions end in any order.
            if name <= self._head:
                return
            self._head = name
            try:
                note_head(self.storage, self._writer, name)
            except LifecycleError as error:
                # The commit stands, and the next one tells.
                _log.warning("%s", error)

    def forgotten_head(self) -> str:
        """The manifest that this very writer has written last, where it can neither be read nor is
        it known: what this machine knew is lost, or an older copy. Else empty."""
        if not self.catalogue.locked:
            return ""
        try:
            head = read_head(self.storage, self._writer)
        except ValueError:
            return ""
        return head if head in self.catalogue.locked else ""

    def checkpoint(self) -> str:
        """Write a manifest that repeats all others, for whoever reads them next; its name."""
        return self.catalogue.write_checkpoint()

    def now_ns(self) -> int:
        """The time by this vault's clock."""
        return self._clock.now_ns()

    def verify(
        self,
        *,
        contents: bool = False,
        share: float = 0.0,
        before_ns: int | None = None,
        pace: Callable[[int], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> VerifyReport:
        """Look for damage: of the structure, and beside that of a `share` (up to 1.0) of the stored
        bytes, each file against its name, those first that were read the longest ago, and none
        since `before_ns`. With `contents` every content is unpacked, too, and compared with its
        key.

        `pace` is told how many bytes were read, by several threads, and may wait. `progress` is
        told files and bytes so far. Raises `CancelledError`; what was read by then counts.
        """
        from lifecycle_sync.vault.verify import verify

        return verify(
            self,
            contents=contents,
            share=share,
            before_ns=before_ns,
            pace=pace,
            progress=progress,
            cancel=cancel,
        )

    def find_lost(self) -> int:
        """Take up contents that no manifest tells of, by what packs and objects say themselves;
        how many. For when `verify` found manifests damaged or missing. With `read_only` the index
        has to be a temporary one."""
        from lifecycle_sync.vault.salvage import find_lost

        return find_lost(self)
