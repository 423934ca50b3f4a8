"""A disk that forgets: what was not synced when the power went may be there afterwards, or not.

`VolatileFileOps` does everything at once, as a page cache shows it, and remembers how to undo what
no sync has made durable yet. `cut` undoes it, or a part of it: names, bytes, one of several. So a
state that a power cut may leave is made in place, with the inodes that the files had before.

The model: a sync of a file keeps its bytes, a sync of a directory the names in it (a rename is one
change, kept by a sync of either directory, as journals do), `syncfs` everything below the same top
folder. Modes, owners and times are not undone.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import FileOpsWrapper, Proceed

# All that is pending; only bytes; only names; half of the bytes written last.
ALL, BYTES, NAMES, TORN = "all", "bytes", "names", "torn"


@dataclass
class _Name:
    """A change of a name that a sync of one of `folders` makes durable."""

    folders: tuple[str, ...]
    undo: Callable[[], None]


@dataclass
class _Bytes:
    """A file with bytes that no sync has seen; `durable` of them are."""

    path: str
    fd: int
    durable: int = 0


@dataclass
class Disk:
    """What is pending below some top folders, each a filesystem of its own."""

    tops: Sequence[str]
    graveyard: str
    names: list[_Name] = field(default_factory=list)
    bytes: dict[int, _Bytes] = field(default_factory=dict)
    # Of each file that was written here, how much of it is durable.
    durable: dict[int, int] = field(default_factory=dict)
    buried: int = 0
    # Held while anything happens, and by who lets the power go.
    lock: threading.RLock = field(default_factory=threading.RLock)

    def top_of(self, path: str) -> str | None:
        return next((it for it in self.tops if path == it or path.startswith(it + "/")), None)

    def variants(self) -> list[str]:
        """The ways in which this moment may be remembered, but for all being there."""
        found = []
        if self.bytes:
            found += [BYTES, TORN]
        if self.names:
            found.append(NAMES)
            if len(self.names) > 1:
                found += [f"without-{number}" for number in range(len(self.names))]
        if self.bytes and self.names:
            found.append(ALL)
        return found

    def cut(self, variant: str) -> None:
        """The power goes: what is left is on the disk itself. (Nobody may look at it before the
        graveyard is removed: what lies there has a link too many.)"""
        if variant in (ALL, BYTES):
            for it in self.bytes.values():
                os.ftruncate(it.fd, it.durable)  # noqa: TID251 - undoes what was done through the door
        elif variant == TORN:
            last = [*self.bytes.values()][-1]
            size = os.fstat(last.fd).st_size
            os.ftruncate(last.fd, last.durable + (size - last.durable) // 2)  # noqa: TID251
        if variant in (ALL, NAMES):
            for name in reversed(self.names):
                name.undo()
        elif variant.startswith("without-"):
            try:
                self.names[int(variant.partition("-")[2])].undo()
            except OSError:
                # Another change builds on it: it cannot be missing alone.
                pass


class VolatileFileOps(FileOpsWrapper):
    """File operations on a `Disk`. `deaf` are the syncs, as (method, part of the path), that do
    nothing: with one taken out, a test has to fail."""

    def __init__(
        self, inner: FileOps, disk: Disk, deaf: Callable[[str, str], bool] | None = None
    ) -> None:
        self._disk = disk
        self._deaf = deaf or (lambda _method, _path: False)

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        handle = getattr(self, f"_on_{method}", None)
        if handle is None:
            return proceed(*args, **kwargs)
        with self._disk.lock:
            return handle(lambda: proceed(*args, **kwargs), self.arguments(method, args, kwargs))

    # -- names -----------------------------------------------------------------------------

    def _named(self, undo: Callable[[], None], *paths: str) -> None:
        folders = tuple(os.path.dirname(path) for path in paths)
        if self._disk.top_of(folders[0]) is not None:
            self._disk.names.append(_Name(folders, undo))

    def _on_create(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        path = _path(given["name"], given.get("dir_fd"))
        fd = proceed()
        self._named(lambda: os.unlink(path), path)  # noqa: TID251
        self._disk.durable[os.fstat(fd).st_ino] = 0
        return fd

    def _on_mkdir(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        path = _path(given["name"], given.get("dir_fd"))
        proceed()
        # With all that is in it: what nothing leads to is lost.
        self._named(lambda: os.rename(path, self._grave()), path)  # noqa: TID251

    def _on_symlink(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        path = _path(given["name"], given.get("dir_fd"))
        proceed()
        self._named(lambda: os.unlink(path), path)  # noqa: TID251

    def _on_link(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        path = _path(given["target"], given["target_fd"])
        proceed()
        self._named(lambda: os.unlink(path), path)  # noqa: TID251

    def _on_rename(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        source = _path(given["source"], given["source_fd"])
        target = _path(given["target"], given["target_fd"])
        saved = self._bury(target) if os.path.lexists(target) else None
        proceed()

        def undo() -> None:
            os.rename(target, source)  # noqa: TID251
            if saved is not None:
                os.rename(saved, target)  # noqa: TID251

        self._named(undo, target, source)

    def _on_rename_noreplace(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        source = _path(given["source"], given["source_fd"])
        target = _path(given["target"], given["target_fd"])
        proceed()
        self._named(lambda: os.rename(target, source), target, source)  # noqa: TID251

    def _on_unlink(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        path = _path(given["name"], given.get("dir_fd"))
        if self._disk.top_of(path) is None:
            return proceed()
        saved = self._bury(path)
        proceed()
        self._named(lambda: os.rename(saved, path), path)  # noqa: TID251
        return None

    def _on_rmdir(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        path = _path(given["name"], given.get("dir_fd"))
        proceed()
        self._named(lambda: os.mkdir(path, 0o700), path)  # noqa: TID251

    def _bury(self, path: str) -> str:
        """Keep a file that loses its name, under one that nobody looks at."""
        saved = self._grave()
        os.link(path, saved, follow_symlinks=False)  # noqa: TID251
        return saved

    def _grave(self) -> str:
        os.makedirs(self._disk.graveyard, exist_ok=True)  # noqa: TID251
        self._disk.buried += 1
        return f"{self._disk.graveyard}/{self._disk.buried}"

    # -- bytes -----------------------------------------------------------------------------

    def _on_write(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        self._changed(given["fd"])
        proceed()

    _on_write_at = _on_truncate = _on_write

    def _changed(self, fd: int) -> None:
        disk = self._disk
        path, inode = os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_ino
        if disk.top_of(path) is not None and inode not in disk.bytes:
            durable = disk.durable.get(inode, os.fstat(fd).st_size)
            disk.bytes[inode] = _Bytes(path, os.dup(fd), durable)

    # -- durable ---------------------------------------------------------------------------

    def _on_fsync(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        proceed()
        disk, fd = self._disk, given["fd"]
        path = os.readlink(f"/proc/self/fd/{fd}")
        if self._deaf("fsync", path):
            return
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            disk.names = [it for it in disk.names if path not in it.folders]
        else:
            self._keep(status.st_ino)

    def _on_syncfs(self, proceed: Callable[[], Any], given: dict[str, Any]) -> Any:
        whole = proceed()
        disk = self._disk
        path = os.readlink(f"/proc/self/fd/{given['fd']}")
        top = disk.top_of(path)
        if self._deaf("syncfs", path) or top is None:
            return whole
        if whole:
            disk.names = [it for it in disk.names if disk.top_of(it.folders[0]) != top]
            for inode in [it for it, held in disk.bytes.items() if disk.top_of(held.path) == top]:
                self._keep(inode)
        return whole

    def _keep(self, inode: int) -> None:
        held = self._disk.bytes.pop(inode, None)
        if held is not None:
            self._disk.durable[inode] = os.fstat(held.fd).st_size
            os.close(held.fd)


def _path(name: str | bytes, dir_fd: int | None) -> str:
    text = os.fsdecode(name)
    return text if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text)
