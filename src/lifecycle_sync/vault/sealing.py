"""The border of an encrypted vault: plain bytes above it, encrypted ones below.

`SealedStorage` is the storage of such a vault. As a `Storage` it speaks of stored bytes, which take
no key to be listed, verified, copied and removed; it adds `.age` to the names of packs, objects and
manifests, and takes it off again. What is in them is read through `opened(storage)`, which a plain
vault has, too (it is the storage itself), and goes in by `seal` and `NamedUpload`.

Manifests that were written or read here are kept in the clear on this machine, see `kept`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, Self

from lifecycle_sync.errors import StorageError, VaultKeyError
from lifecycle_sync.storage.protocol import Storage, Upload
from lifecycle_sync.vault.age import Identities, NoMatchError, Recipients, SealStream
from lifecycle_sync.vault.format import MANIFESTS, OBJECTS
from lifecycle_sync.vault.kept import Keeping, KeptManifests

_log = logging.getLogger("lifecycle_sync.vault")
SUFFIX = ".age"
_SEALED = (".zip", ".zst")
# What is larger is encrypted and decrypted while it passes by.
_WHOLE_BYTES_MAX = 20 << 20
_OPENED_MAX = 4
_PIECE = 1 << 20


class Reader(Protocol):
    """Named bytes, as `Storage` gives them, to be read."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes: ...

    def pieces(
        self, name: str, offset: int = 0, length: int | None = None, piece: int = _PIECE
    ) -> Iterator[bytes]: ...


def opened(storage: Storage) -> Reader:
    """What lies in the files of a vault, decrypted where they are encrypted.

    Then it raises `VaultKeyError` where no key is at hand that opens them, `FrameError` for bytes
    that were changed.
    """
    return storage.opened if isinstance(storage, SealedStorage) else storage


def read_end(storage: Storage, name: str, size: int) -> bytes:
    """The last bytes of what lies in a file, at most `size`."""
    if not isinstance(storage, SealedStorage):
        return storage.read(name, max((storage.size(name) or 0) - size, 0))
    end = b""
    for piece in storage.opened.pieces(name):
        end = (end + piece)[-size:]
    return end


def keep(storage: Storage, name: str) -> None:
    """Keep a copy in the clear of a manifest that could be read with a key, so that none is needed
    from now on."""
    kept = storage.kept if isinstance(storage, SealedStorage) else None
    if kept is None or kept.has(name):
        return
    try:
        keeping = kept.keep()
        try:
            for piece in opened(storage).pieces(name):
                keeping.write(piece)
            keeping.publish(name)
        finally:
            keeping.discard()
    except StorageError as error:
        _log.warning("%s is not kept in the clear, and needs the key again: %s", name, error)


def readable(storage: Storage, manifests: Iterable[str]) -> set[str]:
    """Those of the manifests of an encrypted vault that are at hand in the clear by now: another
    process of this machine may have written them, or was given the key."""
    kept = storage.kept if isinstance(storage, SealedStorage) else None
    if kept is None:
        return set()
    kept.look()
    return {name for name in manifests if kept.has(f"{MANIFESTS}/{name}")}


def drop_kept(storage: Storage, manifests: Iterable[str]) -> None:
    """Give up the copies in the clear of manifests that the vault does not have any more."""
    kept = storage.kept if isinstance(storage, SealedStorage) else None
    if kept is not None:
        kept.drop(manifests)


def seal(storage: Storage, data: bytes) -> bytes:
    """Data as it is stored there."""
    return storage.seal(data) if isinstance(storage, SealedStorage) else data


class SealedStorage:
    """`Storage` of the encrypted files below another one. Thread-safe, if that one is."""

    def __init__(
        self,
        below: Storage,
        recipients: Recipients | None,
        identities: Identities | None,
        kept: Storage | None,
    ) -> None:
        self._below = below
        self.recipients = recipients
        self.identities = identities
        self.kept = None if kept is None else KeptManifests(kept)
        self.opened = _Opened(self)

    def seal(self, data: bytes) -> bytes:
        """Data, encrypted. Raises `VaultKeyError` without recipients."""
        return self.writing().seal(data)

    def writing(self) -> Recipients:
        """To whom is written. Raises `VaultKeyError` where nobody said."""
        if self.recipients is None:
            raise VaultKeyError("no recipients are set", operation="write to vault")
        return self.recipients

    # -- stored bytes ----------------------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        return [_shown(name) for name in self._below.names(folder)]

    def size(self, name: str) -> int | None:
        return self._below.size(stored_name(name))

    def can_seek(self, name: str) -> bool:
        """Whether a part of what a file holds can be had without all before it, each time anew."""
        size = self.size(name)
        is_kept = self.kept is not None and self.kept.has(name)
        return is_kept or (size is not None and size <= _WHOLE_BYTES_MAX)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._below.read(stored_name(name), offset, length)

    def pieces(
        self, name: str, offset: int = 0, length: int | None = None, piece: int = _PIECE
    ) -> Iterator[bytes]:
        return self._below.pieces(stored_name(name), offset, length, piece)

    def drop_cache(self, name: str) -> None:
        self.opened.drop(name)
        self._below.drop_cache(stored_name(name))

    def upload(self, folder: str) -> Upload:
        return _Upload(self._below.upload(folder))

    def remove(self, name: str) -> None:
        self.opened.drop(name)
        self._below.remove(stored_name(name))

    def move(self, name: str, to: str) -> bool:
        self.opened.drop(name)
        return self._below.move(stored_name(name), stored_name(to))

    def sweep(self, folders: tuple[str, ...]) -> list[str]:
        return self._below.sweep(folders)

    def litter(self, folders: tuple[str, ...]) -> list[str]:
        return self._below.litter(folders)

    def close(self) -> None:
        self._below.close()
        if self.kept is not None:
            self.kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def stored_name(name: str) -> str:
    """The name of a file in an encrypted vault."""
    return name + SUFFIX if name.endswith(_SEALED) else name


def _shown(name: str) -> str:
    if name.endswith(SUFFIX) and name.removesuffix(SUFFIX).endswith(_SEALED):
        return name.removesuffix(SUFFIX)
    # One that is not encrypted is not of this vault, whatever it is called.
    return f"{name}.plain" if name.endswith(_SEALED) else name


class _Upload:
    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self.write = upload.write
        self.discard = upload.discard

    def publish(self, name: str, sha256: bytes, *, replace: bool = True) -> bool:
        return self._upload.publish(stored_name(name), sha256, replace=replace)


# -- what lies in them ---------------------------------------------------------------------


class _Opened:
    """The files decrypted; the last few small ones stay in memory, for members of one pack are
    asked for one after the other."""

    def __init__(self, storage: SealedStorage) -> None:
        self._storage = storage
        self._whole: OrderedDict[str, bytes] = OrderedDict()
        self._mutex = threading.Lock()

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return b"".join(self.pieces(name, offset, length))

    def pieces(
        self, name: str, offset: int = 0, length: int | None = None, piece: int = _PIECE
    ) -> Iterator[bytes]:
        kept = self._storage.kept
        if kept is not None and kept.has(name):
            return kept.pieces(name, offset, length)
        if not self._storage.can_seek(name):
            return _part(self._stream(name), offset, length)
        data = self._open(name)
        end = len(data) if length is None else min(offset + length, len(data))
        if offset == 0 and end == len(data) <= piece:
            return iter((data,) if data else ())
        return (data[at : min(at + piece, end)] for at in range(offset, end, piece))

    def drop(self, name: str) -> None:
        """Read it from the disk the next time."""
        with self._mutex:
            self._whole.pop(name, None)

    def _open(self, name: str) -> bytes:
        with self._mutex:
            data = self._whole.get(name)
            if data is not None:
                self._whole.move_to_end(name)
                return data
        sealed = self._storage.read(name)
        try:
            data = self._identities(name).open(sealed)
        except NoMatchError as error:
            if hashlib.sha256(sealed).hexdigest() in name:
                raise self._no_match(name) from error
            raise
        if name.startswith(OBJECTS):
            # Read from end to end, once.
            return data
        with self._mutex:
            self._whole[name] = data
            while len(self._whole) > _OPENED_MAX:
                self._whole.popitem(last=False)
        return data

    def _stream(self, name: str) -> Iterator[bytes]:
        identities = self._identities(name)
        try:
            yield from identities.open_stream(self._storage.pieces(name))
        except NoMatchError as error:
            digest = hashlib.sha256()
            for piece in self._storage.pieces(name):
                digest.update(piece)
            if digest.hexdigest() in name:
                raise self._no_match(name) from error
            raise

    def _identities(self, name: str) -> Identities:
        if self._storage.identities is None:
            raise VaultKeyError(
                "is encrypted, and no secret key is at hand",
                operation="read from vault",
                subject=stored_name(name),
                remedy="name the file with the key: --identity FILE, or identity_path in the"
                " settings",
            )
        return self._storage.identities

    def _no_match(self, name: str) -> VaultKeyError:
        assert self._storage.identities is not None
        return VaultKeyError(
            f"is encrypted, and no key in {self._storage.identities.path} opens it",
            operation="read from vault",
            subject=stored_name(name),
            remedy="name the file with a key that it was encrypted to: `lifecycle vault"
            " recipients` lists their public halves",
        )


def _part(pieces: Iterator[bytes], offset: int, length: int | None) -> Iterator[bytes]:
    end = None if length is None else offset + length
    at = 0
    for piece in pieces:
        start, at = at, at + len(piece)
        part = piece[max(offset - start, 0) : None if end is None else max(end - start, 0)]
        if part:
            yield part
        if end is not None and at >= end:
            return


# -- writing -------------------------------------------------------------------------------


class Stored(NamedTuple):
    """What is stored of an upload: its SHA-256, and how many bytes."""

    sha256: bytes
    length: int


class NamedUpload:
    """An upload whose name is made of the SHA-256 of what is stored; plain bytes go in. One thread
    at a time."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._upload = storage.upload(folder)
        self._hash = hashlib.sha256()
        self._length = 0
        self._sealed = storage if isinstance(storage, SealedStorage) else None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._stream: SealStream | None = None
        self._keeping: Keeping | None = None
        if self._sealed is not None and self._sealed.kept is not None and folder == MANIFESTS:
            try:
                self._keeping = self._sealed.kept.keep()
            except BaseException:
                self._upload.discard()
                raise

    def write(self, data: bytes) -> None:
        """Append. Raises `StorageFullError`, `StorageError`."""
        if self._keeping is not None:
            self._keeping.write(data)
        if self._sealed is None:
            self._store(data)
        elif self._stream is not None:
            self._stream.write(data)
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._waiting_bytes > _WHOLE_BYTES_MAX:
                self._stream = self._sealed.writing().seal_stream(self._store)
                self._stream.write(self._taken())

    def _taken(self) -> bytes:
        waiting, self._waiting = self._waiting, []
        return b"".join(waiting)

    def _store(self, data: bytes) -> None:
        if data:
            self._upload.write(data)
            self._hash.update(data)
            self._length += len(data)

    def end(self) -> Stored:
        """No more to come: what is stored."""
        if self._stream is not None:
            self._stream.end()
        elif self._sealed is not None:
            self._store(self._sealed.seal(self._taken()))
        return Stored(self._hash.digest(), self._length)

    def publish(self, name: str) -> None:
        """Make it durable under a name, read back; after `end`."""
        if self._keeping is not None:
            # Before anybody can see the manifest: who has told something knows it.
            self._keeping.publish(name)
        self._upload.publish(name, self._hash.digest())

    def discard(self) -> None:
        """Give up what was not published. Never raises; may be called twice."""
        if self._stream is not None:
            self._stream.stop()
        if self._keeping is not None:
            self._keeping.discard()
        self._upload.discard()
