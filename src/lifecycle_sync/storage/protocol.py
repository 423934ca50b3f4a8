"""What a storage promises: named bytes that appear whole, checked and durable, or not at all.

Names are relative, ASCII, with `/` between folders. A vault needs no more than this, so that a
bucket can take the place of a directory: there are no appends and no locks in here, and a move may
be a copy that is followed by a removal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self


class Upload(Protocol):
    """Bytes on their way in; nobody sees them before `publish` returns. One thread at a time."""

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises `StorageFullError`, `StorageError`."""

    def publish(self, name: str, sha256: bytes, *, replace: bool = True) -> bool:
        """Make what was written durable under a name, once it was read back and has that SHA-256.

        True when it stands there. Without `replace` a name that is taken stays as it is, and the
        answer is False. Raises `StorageError` when what was read back is something else; after an
        error nothing was published (or, where only the last sync failed, it may be lost again).
        The upload is over in either case.
        """

    def discard(self) -> None:
        """Give up what was not published, leaving nothing. Never raises; may be called twice."""


class Storage(Protocol):
    """Named bytes. All methods may be called from several threads at once.

    Read after write, for this and any other process. Raises `StorageMissingError` for a name that
    is not there, `StorageFullError`, `StorageReadOnlyError`, else `StorageError`.
    """

    def names(self, folder: str) -> list[str]:
        """The names of what lies directly in a folder (its subfolders included), in no order and
        without what is temporary; of a folder that is not there none."""

    def size(self, name: str) -> int | None:
        """How many bytes are stored under a name, None when nothing is."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Stored bytes; fewer than asked for only at the end."""

    def pieces(
        self, name: str, offset: int = 0, length: int | None = None, piece: int = 1 << 20
    ) -> Iterator[bytes]:
        """The same in pieces of at most `piece` bytes."""

    def drop_cache(self, name: str) -> None:
        """Have the next reading of a name come from where its bytes lie, not from a memory on the
        way, as far as that can be had. Never raises: who reads next is told what is wrong."""

    def upload(self, folder: str) -> Upload:
        """Begin to store something whose name will be in that top folder ("" for none)."""

    def remove(self, name: str) -> None:
        """Take away what has a name; nothing happens when there is nothing."""

    def move(self, name: str, to: str) -> bool:
        """Give something another name, durably; False where that is taken, and nothing is done.
        What is seen meanwhile is one of the two, or both."""

    def sweep(self, folders: tuple[str, ...]) -> list[str]:
        """Remove from those folders the temporary files of uploads whose process is dead; their
        names. What lives is left alone."""

    def litter(self, folders: tuple[str, ...]) -> list[str]:
        """The names of the temporary files that lie in those folders."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
