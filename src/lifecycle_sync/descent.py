"""Directories below a root, opened (or made) component by component, never through a symlink."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from lifecycle_sync.errors import OfflineError
from lifecycle_sync.fileops import FileOps

# Descriptors held at once; deeper paths are opened again from what is still held.
_KEPT_DIRECTORIES = 32


class Descent:
    """Descriptors of directories below one root, reached without following a symlink.

    Keeps those on the way to the directory opened last, because the next one is likely beside it.
    """

    def __init__(self, fs: FileOps, root: bytes, dir_fd: int | None = None) -> None:
        """`root` is absolute, or relative to `dir_fd` (`b"."`: that directory itself)."""
        self._fs = fs
        try:
            fd = fs.open_directory(root, dir_fd)
        except OSError as error:
            raise OfflineError(
                os.strerror(error.errno or 0),
                operation="read root",
                subject=root,
                remedy="is it mounted?",
            ) from error
        try:
            self._device = fs.fstat(fd).st_dev
        except BaseException:
            fs.close(fd)
            raise
        # The root, then one a component; -1 where it was closed to keep their number down.
        self._fds = [fd]
        self._components: list[bytes] = []

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_from(0)

    @property
    def root_fd(self) -> int:
        """A descriptor of the root itself, valid while this is open."""
        return self._fds[0]

    @property
    def device(self) -> int:
        """The number of the root's filesystem; nothing on another one is opened."""
        return self._device

    def open(self, path: bytes) -> int:
        """A descriptor, valid until the next call. `OSError` as open raises it, EXDEV when the
        directory is on another filesystem than the root."""
        rest = self._descend(path)
        for component in rest:
            self._enter(component, self._fs.open_directory(component, self._fds[-1]))
        return self._fds[-1]

    def make(
        self, path: bytes, *, mode: int = 0o700, made: Callable[[bytes, int], None] | None = None
    ) -> int:
        """`open`, making the directories that are missing.

        `made(path, fd)` is called for each new one, before anything is in it.
        """
        rest = self._descend(path)
        for component in rest:
            try:
                self._enter(component, self._fs.open_directory(component, self._fds[-1]))
                continue
            except FileNotFoundError:
                pass
            new = True
            try:
                self._fs.mkdir(component, self._fds[-1], mode)
            except FileExistsError:
                # Somebody else made it meanwhile, and with it what it should be like.
                new = False
            self._enter(component, self._fs.open_directory(component, self._fds[-1]))
            if new and made is not None:
                made(b"/".join(self._components), self._fds[-1])
        return self._fds[-1]

    def _descend(self, path: bytes) -> list[bytes]:
        """Go up to what the path has in common with the last one; what is left to go down."""
        components = path.split(b"/") if path else []
        if any(part in (b"", b".", b"..") for part in components):
            raise ValueError("not a path below the root")
        depth = 0
        for have, want in zip(self._components, components, strict=False):
            if have != want:
                break
            depth += 1
        while self._fds[depth] < 0:
            depth -= 1
        self._close_from(depth + 1)
        return components[depth:]

    def _enter(self, component: bytes, fd: int) -> None:
        try:
            elsewhere = self._fs.fstat(fd).st_dev != self._device
        except BaseException:
            self._close(fd)
            raise
        if elsewhere:
            self._close(fd)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        self._fds.append(fd)
        self._components.append(component)
        surplus = len(self._components) - _KEPT_DIRECTORIES
        if surplus > 0 and self._fds[surplus] >= 0:
            fd, self._fds[surplus] = self._fds[surplus], -1
            self._close(fd)

    def _close_from(self, depth: int) -> None:
        fds = self._fds[depth:]
        # Forgotten first: closed twice, a number may be somebody else's.
        del self._fds[depth:]
        del self._components[max(depth - 1, 0) :]
        for fd in fds:
            if fd >= 0:
                self._close(fd)

    def _close(self, fd: int) -> None:
        try:
            self._fs.close(fd)
        except OSError:
            pass  # closed all the same, and nothing was written through it
