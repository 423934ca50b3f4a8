"""`TempFileContext`: a temporary file for the length of a `with` block."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lifecycle_sync.act.disposal import discard
from lifecycle_sync.fileops import FileOps

if TYPE_CHECKING:
    from lifecycle_sync.service.temp.manager import FileCleanupManager

_log = logging.getLogger("lifecycle_sync.temp")


class TempFileContext:
    """Removes a file when its `with` block ends.

    `cleanup_on_error=False` keeps it when the block ends with an exception of any kind; `keep()`
    keeps it in any case. The file need not exist, before or after. With a `manager` the file is
    tracked by it meanwhile, so that the next start removes it should this process be killed. A file
    that cannot be removed is logged; nothing is raised.
    """

    def __init__(
        self,
        file_path: str | os.PathLike[str],
        cleanup_on_error: bool = True,
        *,
        manager: FileCleanupManager | None = None,
        fs: FileOps | None = None,
    ) -> None:
        self.file_path = Path(file_path)
        self.cleanup_on_error = cleanup_on_error
        # The same file, wherever the process goes meanwhile.
        self._place = os.path.abspath(self.file_path)
        self._manager = manager
        self._fs = fs or FileOps()
        self._should_cleanup = True

    def keep(self) -> None:
        """Do not remove the file when the block ends."""
        self._should_cleanup = False

    def __enter__(self) -> Path:
        if self._manager is not None:
            self._manager.track_file(self._place)
        return self.file_path

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._should_cleanup and (self.cleanup_on_error or exc_type is None):
            remove(self._fs, self._place)
        if self._manager is not None:
            self._manager.untrack_file(self._place)


def remove(fs: FileOps, path: str) -> bool:
    """Unlink one file that was named; whether it went. What could not go is logged."""
    done = discard(fs, None, path)
    if not done.removed and not done.missing:
        _log.warning("the temporary file %s is still there: %s", path, done.reason)
    return done.removed
