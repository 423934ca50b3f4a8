"""Writes content into a new file and leaves the holes that the original had.

Only zeros become holes: where the content says otherwise than the extents, the content is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle_sync.fileops import FileOps

_ZEROS = bytes(1 << 20)


class SparseWriter:
    """Takes the pieces of a content in order. `extents` are the (offset, length) of data, None for
    a file without holes; they may be wrong, or in no order, and cost then only space."""

    def __init__(
        self, fs: FileOps, fd: int, extents: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self._fs = fs
        self._fd = fd
        self._extents = None if extents is None else sorted(extents)
        self._next = 0
        self.size = 0

    def write(self, piece: bytes | memoryview) -> None:
        """The next bytes of the content. Raises `OSError`."""
        view = memoryview(piece)
        if self._extents is None:
            self._fs.write_at(self._fd, view, self.size)
            self.size += len(view)
            return
        while view:
            length, is_data = self._run(self.size, len(view))
            part = view[:length]
            if is_data or not _all_zero(part):
                self._fs.write_at(self._fd, part, self.size)
            self.size += length
            view = view[length:]

    def finish(self) -> None:
        """Give the file its full size, for it may end with a hole. Raises `OSError`."""
        if self._extents is not None:
            self._fs.truncate(self._fd, self.size)

    def _run(self, position: int, wanted: int) -> tuple[int, bool]:
        """How many bytes from `position` on are alike, and whether they are data."""
        assert self._extents is not None
        while self._next < len(self._extents):
            start, length = self._extents[self._next]
            if start + length <= position:
                self._next += 1
            elif start > position:
                return min(start - position, wanted), False
            else:
                return min(start + length - position, wanted), True
        return wanted, False


def _all_zero(view: memoryview) -> bool:
    while view:
        part = view[: len(_ZEROS)]
        # As bytes: views are compared item by item, fifty times as slow.
        if part.tobytes() != _ZEROS[: len(part)]:
            return False
        view = view[len(part) :]
    return True
