"""A storage in memory: what a bucket would be, for tests that need no disk."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator
from typing import Self

from lifecycle_sync.errors import StorageError, StorageMissingError


class MemoryStorage:
    """`Storage` in a dictionary, `files`, which a test may change to damage it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._living: set[str] = set()
        self._dead: set[str] = set()
        self._numbers = itertools.count(1)
        self._mutex = threading.Lock()

    def names(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        with self._mutex:
            below = [name[len(prefix) :] for name in self.files if name.startswith(prefix)]
        return sorted({name.partition("/")[0] for name in below})

    def litter(self, folders: tuple[str, ...]) -> list[str]:
        with self._mutex:
            return sorted(
                name for name in self._living | self._dead if name.rpartition("/")[0] in folders
            )

    def size(self, name: str) -> int | None:
        data = self.files.get(name)
        return None if data is None else len(data)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self.files.get(name)
        if data is None:
            raise StorageMissingError("is not there", operation="read", subject=name)
        return data[offset:] if length is None else data[offset : offset + length]

    def pieces(
        self, name: str, offset: int = 0, length: int | None = None, piece: int = 1 << 20
    ) -> Iterator[bytes]:
        data = self.read(name, offset, length)
        for at in range(0, len(data), piece):
            yield data[at : at + piece]

    def drop_cache(self, name: str) -> None:
        """Nothing lies between."""

    def upload(self, folder: str) -> MemoryUpload:
        name = f".tmp-{next(self._numbers)}"
        name = f"{folder}/{name}" if folder else name
        with self._mutex:
            self._living.add(name)
        return MemoryUpload(self, name)

    def remove(self, name: str) -> None:
        with self._mutex:
            self.files.pop(name, None)

    def move(self, name: str, to: str) -> bool:
        with self._mutex:
            if name not in self.files:
                raise StorageMissingError("is not there", operation="move", subject=name)
            if to in self.files:
                return False
            self.files[to] = self.files.pop(name)
        return True

    def sweep(self, folders: tuple[str, ...]) -> list[str]:
        with self._mutex:
            swept = {name for name in self._dead if name.rpartition("/")[0] in folders}
            self._dead -= swept
        return sorted(swept)

    def let_die(self) -> None:
        """As if the processes of all uploads had been killed."""
        with self._mutex:
            self._dead |= self._living
            self._living = set()

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MemoryUpload:
    """`Upload` into a `MemoryStorage`."""

    def __init__(self, storage: MemoryStorage, temporary: str) -> None:
        self._storage = storage
        self._temporary = temporary
        self._data = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        self._data += data

    def publish(self, name: str, sha256: bytes, *, replace: bool = True) -> bool:
        storage = self._storage
        self.discard()
        if hashlib.sha256(self._data).digest() != sha256:
            raise StorageError(
                "what was read back is not what was written", operation="write to", subject=name
            )
        with storage._mutex:
            if not replace and name in storage.files:
                return False
            storage.files[name] = bytes(self._data)
        return True

    def discard(self) -> None:
        with self._storage._mutex:
            self._storage._living.discard(self._temporary)
