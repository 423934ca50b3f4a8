"""A small file that is given up first when a disk is full, so that the clean-up itself can work:
a journal, a log, a directory that grows."""

from __future__ import annotations

import logging
import os

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY

_NAME = "reserve"
RESERVE_BYTES = 1 << 20
_PIECE = b"\0" * (1 << 16)

_log = logging.getLogger("lifecycle_sync.temp")


class Reserve:
    """The reserve of one folder. Raises nothing."""

    def __init__(self, fs: FileOps, base: str) -> None:
        self._fs = fs
        self._folder = os.path.join(base, os.fsdecode(PRIVATE_DIRECTORY))
        self._path = os.path.join(self._folder, _NAME)

    def make(self) -> None:
        """Lay it by, where there is none and its folder is there."""
        if not os.path.isdir(os.path.dirname(self._folder)) or os.path.lexists(self._path):
            return
        try:
            self._fs.make_directories(self._folder)
            fd = self._fs.create(self._path)
            try:
                # Written, not only declared: a hole would be no reserve.
                for start in range(0, RESERVE_BYTES, len(_PIECE)):
                    self._fs.write_at(fd, _PIECE, start)
            finally:
                self._fs.close(fd)
        except OSError as error:
            _log.debug("no reserve in %s: %s", self._folder, error)
            self.give_up()

    def give_up(self) -> bool:
        """Free it; whether there was one."""
        try:
            self._fs.unlink(self._path)
        except OSError:
            return False
        return True
