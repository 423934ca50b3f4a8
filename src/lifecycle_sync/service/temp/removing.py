"""One clean-up of a folder of temporary files: by descriptor, counted, never outside of what was
meant. Which paths are tracked is the manager's to know."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator

from lifecycle_sync.act.disposal import (
    Care,
    Discarded,
    Folders,
    Keep,
    discard,
    discard_tree,
    failure,
)
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY
from lifecycle_sync.service.temp.leases import dead_leases, leased
from lifecycle_sync.service.temp.sweep import Held

_HELD = "a hold is on it"
# Of any age.
_NO_AGE_NS = 1 << 64

_log = logging.getLogger("lifecycle_sync.temp")


class Count:
    """What a clean-up came to so far."""

    def __init__(self, cancel: CancelToken | None = None) -> None:
        self.removed = self.size = self.errors = 0
        self._cancel = cancel

    @property
    def cancelled(self) -> bool:
        return self._cancel is not None and self._cancel.cancelled

    def add(self, path: str, done: Discarded) -> Discarded:
        if done.removed:
            self.removed += 1
            self.size += done.size
        elif done.failed:
            self.errors += 1
            _log.error("%s could not be removed: %s", path, done.reason)
        return done


class Removing:
    """A context manager, for one thread. Raises no `OSError`."""

    def __init__(self, fs: FileOps, base: str, count: Count, held: Held | None = None) -> None:
        self.count = count
        self._held = held
        self._fs = fs
        self._base = base
        self._prefix = base.rstrip("/") + "/"
        self._descent: Descent | None = None
        # Folders in the base in which something was removed.
        self._touched: set[str] = set()
        self._living: set[tuple[int, int]] | None = None

    def __enter__(self) -> Removing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descent is not None:
            self._descent.__exit__()

    def file(
        self, path: str, care: Care | None, expected: tuple[int, int] | None = None
    ) -> Discarded:
        """Remove one file, not a folder; not counted."""
        if self._is_held(path):
            return Discarded(False, _HELD)
        folder, name = os.path.split(path)
        try:
            fd, mine = self._open(folder)
        except OSError as error:
            return failure(error)
        try:
            done = discard(self._fs, fd, name, care=care, expected=expected)
        finally:
            if mine:
                self._fs.close(fd)
        if done.removed:
            self._touched.add(folder)
        return done

    def folder(self, path: str, recursive: bool) -> tuple[bool, list[str]]:
        """Remove a folder with what is in it: whether all went, and which paths did."""
        gone: list[str] = []
        if self._is_held(path):
            _log.error("%s could not be removed: %s", path, _HELD)
            return False, gone
        whole = path == self._base
        for below, done in self._tree(path, recursive=recursive):
            place = os.path.join(path, os.fsdecode(below)) if below else path
            if done.removed or done.missing:
                gone.append(place)
            elif done.reason and place != os.path.join(path, os.fsdecode(PRIVATE_DIRECTORY)):
                _log.error("%s could not be removed: %s", place, done.reason)
                whole = False
            if not below:
                whole = done.removed
        return whole, gone

    def tracked(
        self, path: str, care: Care | None, tracked_below: Callable[[str], set[str]]
    ) -> Discarded:
        """Remove what is tracked under one path, and count it. In a folder each file goes by its
        own age, but for those that are tracked by themselves; it goes once it is empty, if it is
        old enough itself."""
        done = self.file(path, care)
        if done.reason != "it is a folder":
            return self.count.add(path, done)
        others = tracked_below(path)
        try:
            changed = self._fs.stat(path, follow_symlinks=False).st_mtime_ns
        except OSError as error:
            return failure(error)
        # Somebody who has just put something in it is still at work there.
        young = care is not None and changed >= care.older_than_ns
        answer = Discarded(False)

        def keep(below: bytes, _found: os.stat_result) -> str:
            if self.count.cancelled:
                return "stopped"
            return "it is tracked by itself" if os.fsdecode(below) in others else ""

        for below, each in self._tree(
            path,
            care=care,
            keep=keep,
            itself=not young,
            folders=Folders.ALL if care is None else Folders.EMPTIED,
        ):
            if below:
                self.count.add(os.path.join(path, os.fsdecode(below)), each)
            else:
                answer = each
        if answer.removed:
            self._touched.add(os.path.dirname(path))
        return answer

    def dead(self) -> None:
        """Remove what killed processes have listed, if it still is what they listed: of any age,
        but not what somebody writes, such as a child of theirs."""
        for lease in dead_leases(self._fs, self._base):
            self._living = leased(self._fs, self._base, without=lease.path)
            for path, identity in sorted(lease.entries.items(), reverse=True):
                if self.count.cancelled:
                    return
                # A living process may have taken over what a dead one left.
                if identity in self._leased() or self._left(path, identity):
                    del lease.entries[path]

    def _left(self, path: str, identity: tuple[int, int]) -> bool:
        """Remove what a dead process left; whether there is nothing more of it."""
        care = Care(_NO_AGE_NS, writers_unknown=True)
        done = self.file(path, care, identity)
        if done.reason == "it is a folder":
            living = self._leased()

            def keep(_below: bytes, found: os.stat_result) -> str:
                taken = (found.st_dev, found.st_ino) in living
                return "a living process tracks it" if taken else ""

            for below, each in self._tree(path, expected=identity, care=care, keep=keep):
                if below:
                    self.count.add(os.path.join(path, os.fsdecode(below)), each)
                else:
                    done = each
            if done.removed:
                self._touched.add(os.path.dirname(path))
        else:
            self.count.add(path, done)
        return done.removed or done.missing or done.reason.startswith("another ")

    def untracked(self, care: Care, mine: set[str]) -> None:
        """Remove whatever is old in the base, but for what living processes track."""
        living = self._leased()

        def keep(below: bytes, found: os.stat_result) -> str:
            if below == PRIVATE_DIRECTORY:
                return "it is ours"
            if self.count.cancelled:
                return "stopped"
            place = os.path.join(self._base, os.fsdecode(below))
            if place in mine:
                return "it is tracked"
            if self._is_held(place):
                return _HELD
            taken = (found.st_dev, found.st_ino) in living
            return "a living process tracks it" if taken else ""

        for below, done in discard_tree(
            self._fs, None, self._base, care=care, keep=keep, folders=Folders.EMPTIED, itself=False
        ):
            self.count.add(os.path.join(self._base, os.fsdecode(below)), done)

    def emptied(self, is_tracked: Callable[[str], bool]) -> None:
        """Take away the folders that were left empty by this, up to the base."""
        for folder in sorted(self._touched, reverse=True):
            while folder.startswith(self._prefix) and not is_tracked(folder):
                above, name = os.path.split(folder)
                try:
                    fd, _ = self._open(above)
                    found = self._fs.stat(name, dir_fd=fd, follow_symlinks=False)
                    if (found.st_dev, found.st_ino) in self._leased() or self._is_held(folder):
                        break
                    self._fs.rmdir(name, fd)
                except OSError:
                    break  # not empty, most likely
                folder = above

    def _is_held(self, path: str) -> bool:
        """As of now: what goes here goes one by one."""
        if self._held is None:
            return False
        refresh = getattr(self._held, "refresh", None)
        if refresh is not None:
            refresh()
        return self._held(os.fsencode(path))

    def _but_held(self, folder: str, keep: Keep | None) -> Keep | None:
        if self._held is None:
            return keep

        def both(below: bytes, found: os.stat_result) -> str:
            # Of a held folder all that is in it is, and that is why it is not left empty.
            inside = not stat.S_ISDIR(found.st_mode)
            if inside and self._is_held(os.path.join(folder, os.fsdecode(below))):
                return _HELD
            return "" if keep is None else keep(below, found)

        return both

    def _leased(self) -> set[tuple[int, int]]:
        if self._living is None:
            self._living = leased(self._fs, self._base)
        return self._living

    def _open(self, folder: str) -> tuple[int, bool]:
        """A descriptor of a folder, and whether it has to be closed."""
        if folder != self._base and not folder.startswith(self._prefix):
            return self._fs.open_directory(folder), True
        if self._descent is None:
            try:
                self._descent = Descent(self._fs, os.fsencode(self._base))
            except LifecycleError as error:
                raise FileNotFoundError(errno.ENOENT, error.cause) from error
        return self._descent.open(os.fsencode(folder[len(self._prefix) :])), False

    def _tree(
        self,
        path: str,
        *,
        expected: tuple[int, int] | None = None,
        care: Care | None = None,
        recursive: bool = True,
        keep: Keep | None = None,
        folders: Folders = Folders.ALL,
        itself: bool = True,
    ) -> Iterator[tuple[bytes, Discarded]]:
        keep = self._but_held(path, keep)
        if path == self._base:
            above, name, mine = None, path, False
            keep, itself = _but_ours(keep), False
        else:
            folder, name = os.path.split(path)
            try:
                fd, mine = self._open(folder)
            except OSError as error:
                yield b"", failure(error)
                return
            # Its own: the shared one goes elsewhere while this is being read.
            above = self._fs.open_directory(".", fd)
            if mine:
                self._fs.close(fd)
        try:
            yield from discard_tree(
                self._fs,
                above,
                name,
                expected=expected,
                care=care,
                recursive=recursive,
                keep=keep,
                folders=folders,
                itself=itself,
            )
        finally:
            if above is not None:
                self._fs.close(above)


def _but_ours(keep: Keep | None) -> Keep:
    def both(below: bytes, found: os.stat_result) -> str:
        if below == PRIVATE_DIRECTORY:
            return "it is ours"
        return "" if keep is None else keep(below, found)

    return both
