"""A folder of uploads as the storage of a host application."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from lifecycle_sync.act.disposal import Care, discard
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.temp.places import temp_folder

_ANY_AGE_NS = 1 << 64


class LocalUploads:
    """Files right in one folder, and, by path, those below it. Nothing outside is ever reached:
    neither by `..` nor by a symlink. A file that somebody has open for writing is not deleted as an
    orphan. Raises `UsageError` for `/`, a home directory or a folder in a root, unless forced."""

    backend_type = "local"

    def __init__(
        self, folder: str | os.PathLike[str], *, force: bool = False, fs: FileOps | None = None
    ) -> None:
        self._folder = temp_folder(folder, force=force)
        self._fs = fs or FileOps()

    def list_files(self) -> Iterator[str]:
        """The names of the regular files right in the folder, but for hidden ones."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                    yield entry.name

    def modified_ns(self, name: str) -> int | None:
        """When a file was last modified; None for one that is gone."""
        try:
            found = os.stat(os.path.join(self._folder, _plain(name)), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_mtime_ns

    def delete(self, path: str) -> None:
        """Delete the file of a row. Its path is absolute, or begins below the folder, or with the
        folder's own name. Raises `FileNotFoundError` for one that is gone, `ValueError` for a path
        that leads out."""
        self._delete(self._below(path), None)

    def delete_by_name(self, name: str) -> None:
        """Delete a file by its name, if nobody has it open for writing."""
        self._delete(_plain(name), Care(_ANY_AGE_NS, writers_unknown=True))

    def _below(self, path: str) -> str:
        text = os.path.normpath(path)
        if os.path.isabs(text):
            text = os.path.relpath(
                os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text)),
                self._folder,
            )
        head, _, rest = text.partition("/")
        if rest and head == os.path.basename(self._folder):
            inner = os.path.lexists(os.path.join(self._folder, text))
            text = text if inner else rest
        if text.split("/")[0] in ("..", ".", ""):
            raise ValueError(f"{path} is not in {self._folder}")
        return text

    def _delete(self, below: str, care: Care | None) -> None:
        folder, name = os.path.split(below)
        try:
            with Descent(self._fs, os.fsencode(self._folder)) as descent:
                fd = descent.open(os.fsencode(folder))
                found = self._fs.stat(name, dir_fd=fd, follow_symlinks=False)
                this = (found.st_dev, found.st_ino)
                if not stat.S_ISREG(found.st_mode):
                    raise ValueError(f"{below} is no regular file")
                done = discard(self._fs, fd, name, expected=this, care=care, regular=True)
        except LifecycleError as error:
            # Without its folder nobody can say that a file is gone.
            raise OSError(str(error)) from error
        if done.missing:
            raise FileNotFoundError(below)
        if not done.removed:
            raise OSError(f"{below}: {done.reason}")


def _plain(name: str) -> str:
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a file")
    return name
