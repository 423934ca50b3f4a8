"""How far the hashing of large files has come, on the disk, for whoever goes on with it.

A checkpoint is a small file, named by the device and inode of the file that is hashed. It says of
which size and times that was, how many bytes have been read, and the state of the hash after them.
It counts only for a file that is still the same to the last nanosecond, and it is no loss when it
is gone: then the file is read from its beginning.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.observe.resumable import STATE_BYTES

_FORMAT = 1
# Format, size, mtime and ctime in nanoseconds, position.
_HEAD = struct.Struct(">Bqqqq")
_FORGET_NS = 30 * 86_400 * 10**9


class Seen(NamedTuple):
    """Of which file it is. Times are nanoseconds since 1970 UTC."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Checkpoints:
    """The checkpoints in a folder, which is made when it is first needed. What goes wrong with one
    costs time, and nothing else: no call raises `OSError`."""

    def __init__(self, fs: FileOps, folder: str) -> None:
        self._fs = fs
        self._folder = folder

    def load(self, file: Seen) -> tuple[int, bytes] | None:
        """How many bytes were read, and the state after them; None to begin at the beginning."""
        try:
            data = self._fs.read_file(self._path(file))
        except OSError:
            return None
        if len(data) != _HEAD.size + STATE_BYTES:
            return None
        made, size, mtime_ns, ctime_ns, position = _HEAD.unpack_from(data)
        if (made, size, mtime_ns, ctime_ns) != (_FORMAT, file.size, file.mtime_ns, file.ctime_ns):
            return None
        return (position, data[_HEAD.size :]) if 0 < position <= size else None

    def save(self, file: Seen, position: int, state: bytes) -> None:
        data = _HEAD.pack(_FORMAT, file.size, file.mtime_ns, file.ctime_ns, position) + state
        try:
            self._fs.make_directories(self._folder)
            fd = self._fs.open_directory(self._folder)
            try:
                self._fs.write_file(self._name(file), data, fd)
            finally:
                self._fs.close(fd)
        except OSError:
            pass

    def drop(self, file: Seen) -> None:
        """It is hashed, or it is another file by now."""
        try:
            self._fs.unlink(self._path(file))
        except OSError:
            pass

    def sweep(self, now_ns: int) -> None:
        """Forget those of files that nobody has gone on with for a month."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        for name in names:
            path = os.path.join(self._folder, name)
            try:
                if self._fs.stat(path, follow_symlinks=False).st_mtime_ns < now_ns - _FORGET_NS:
                    self._fs.unlink(path)
            except OSError:
                continue

    def _name(self, file: Seen) -> str:
        return f"{file.device:x}-{file.inode:x}"

    def _path(self, file: Seen) -> str:
        return os.path.join(self._folder, self._name(file))
