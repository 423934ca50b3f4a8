"""Puts kept content back: versions of files, with their metadata, to their place or another.

A batch is written to a staging directory, made durable with one `syncfs`, renamed into place
without replacing anything, and made durable again: a file that can be seen is whole. What stands in
the way is left, goes through the trash, or stays beside. Nothing outside the target is opened.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from lifecycle_sync.act import metadata
from lifecycle_sync.act.occupied import THE_SAME, Conflict, Displaces, Occupied, Wanted, beside
from lifecycle_sync.act.sidecar import folders_of
from lifecycle_sync.act.site import COMPLETED, FAILED, SKIPPED
from lifecycle_sync.act.sparse import SparseWriter
from lifecycle_sync.act.staging import Staging
from lifecycle_sync.act.taking import sync_names
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import (
    LifecycleError,
    NotFoundError,
    StorageError,
    StorageFullError,
    VaultError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import ContentKey, Metadata
from lifecycle_sync.model.event import DirectoryEvent
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY
from lifecycle_sync.vault.bulk import BulkReader
from lifecycle_sync.vault.spares import Spares
from lifecycle_sync.vault.vault import Vault

_log = logging.getLogger(__name__)
# How it is said that a content is not there, or not whole.
_NOT_GIVEN = (NotFoundError, StorageError, VaultError)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP}


class Restored(NamedTuple):
    """What became of one version. `path` is where it lies now, relative to the target; `missed`
    what of its metadata could not be applied; `found` its lstat, None where it is not there; `copy`
    the copy of the vault that its content was read from, where the vault could not give it."""

    wanted: Wanted
    outcome: str
    reason: str = ""
    path: bytes = b""
    missed: tuple[str, ...] = ()
    found: os.stat_result | None = None
    copy: str = ""


class Told(Protocol):
    def advance(self, files: int, bytes_: int) -> None: ...


@dataclass
class _Made:
    """A file in the staging directory that waits for its place. One with several links stays there
    until the end, for its other names to be linked to; `name` is the same for all of them."""

    wanted: Wanted
    name: bytes
    status: os.stat_result
    missed: list[str] = field(default_factory=list)
    linked: bool = False
    copy: str = ""


class Restorer:
    """Restores versions below one target directory. A context manager.

    Raises on entry `OfflineError` for a target that is not there, `BusyError`, `LifecycleError`.
    `displace` is what REPLACE and NEWEST use. `owner`: give files to their owner and group. What
    the vault cannot give is read from `spares`.
    """

    def __init__(
        self,
        fs: FileOps,
        target: bytes,
        vault: Vault,
        *,
        conflict: Conflict = Conflict.SKIP,
        displace: Displaces | None = None,
        owner: bool = True,
        cancel: CancelToken | None = None,
        told: Told | None = None,
        spares: Spares | None = None,
    ) -> None:
        self._fs = fs
        self._target = target
        self._contents = BulkReader(vault)
        self._spares = spares
        self._conflict = conflict
        self._displace = displace
        self._owner = owner
        self._cancel = cancel or CancelToken()
        self._told = told
        self._descent = Descent(fs, target)
        try:
            self._staging = Staging(fs, self._descent.root_fd, target)
        except BaseException:
            self._descent.__exit__()
            raise
        # Places whose occupants are in the trash by now.
        self._displaced: set[bytes] = set()
        # Files with several links, by what their names have in common.
        self._links: dict[tuple[int, ContentKey | None, int], _Made] = {}
        self.made_directories: list[bytes] = []
        self._occupied = Occupied(fs, self._descent, conflict)

    def __enter__(self) -> Restorer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._staging.__exit__(*exc)
        self._descent.__exit__(*exc)

    # -- files -----------------------------------------------------------------------------

    def restore(self, batch: Sequence[Wanted]) -> list[Restored]:
        """Restore a batch, durably when this returns. Raises `StorageFullError`, and what concerns
        the vault as a whole; then nothing of the batch that was not durable has got its place."""
        done: list[Restored] = []
        made: list[_Made] = []
        self._contents.prepare([it.version.content for it in batch if it.version.content])
        self._occupied.look_again()
        for wanted in batch:
            if self._cancel.cancelled:
                done.append(Restored(wanted, SKIPPED, "asked to stop"))
                continue
            refusal = self._refuses(wanted)
            if refusal is not None:
                done.append(refusal)
                continue
            link = _link_key(wanted.version.metadata, wanted.version.content)
            if link is not None and link in self._links:
                made.append(replace(self._links[link], wanted=wanted))
                continue
            try:
                item = self._make(wanted)
            except OSError as error:
                if error.errno in _FULL:
                    raise self._no_space(wanted.to) from error
                done.append(Restored(wanted, FAILED, (error.strerror or str(error)).lower()))
                continue
            except LifecycleError as error:
                # One damaged content does not keep the others from coming back.
                done.append(Restored(wanted, FAILED, error.cause))
                continue
            if link is not None:
                item.linked = True
                self._links[link] = item
            made.append(item)
        if made:
            # A file that gets its name before its bytes are durable could be found empty.
            self._sync_contents(made)
            # Where an error ends this, recovery puts back what gave way for nothing.
            self._make_room(made)
            done += [self._settle(item) for item in made]
            self._sync_places(it.wanted.to for it in made)
        return done

    def _sync_contents(self, made: Iterable[_Made]) -> None:
        if self._fs.syncfs(self._staging.fd):
            return
        for item in made:
            if item.wanted.version.metadata.kind is Kind.REGULAR:
                fd = self._fs.open_read(item.name, self._staging.fd)
                try:
                    self._fs.fsync(fd)
                finally:
                    self._fs.close(fd)

    def _sync_places(self, paths: Iterable[bytes]) -> None:
        """Make the names of files durable, and those of the folders above them."""
        folders = {path.rpartition(b"/")[0] for path in paths}
        sync_names(self._fs, self._descent, self._staging.fd, {b"", *folders, *folders_of(folders)})

    def _refuses(self, wanted: Wanted) -> Restored | None:
        """What can be said before anything is written."""
        parts = wanted.to.split(b"/")
        if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
            return Restored(wanted, FAILED, "its path leaves the target; refused")
        if parts[0] == PRIVATE_DIRECTORY:
            return Restored(wanted, FAILED, "its path is lifecycle's own; refused")
        if self._conflict is Conflict.KEEP_BOTH or not self._occupied.is_there(wanted.to):
            return None
        reason = self._occupied.stays(wanted)
        if reason == THE_SAME and self._told is not None and self._conflict is Conflict.REPLACE:
            self._told.advance(1, wanted.version.metadata.size)
        return Restored(wanted, SKIPPED, reason, wanted.to) if reason else None

    def _make_room(self, made: Iterable[_Made]) -> None:
        """Take away all that is to give way at once. What stays, or comes after, is told of when
        its file finds the place taken."""
        if self._displace is None or self._conflict not in (Conflict.REPLACE, Conflict.NEWEST):
            return
        taken = [it.wanted.to for it in made if self._occupied.is_there(it.wanted.to)]
        if taken:
            self._displaced |= set(taken) - self._displace.take(taken).keys()

    def _no_space(self, path: bytes) -> StorageFullError:
        return StorageFullError(
            "no space left",
            operation="restore",
            subject=os.path.join(self._target, path),
            remedy="free space, or name a larger disk with --to; a second run goes on",
        )

    def _make(self, wanted: Wanted) -> _Made:
        """A file or symlink in the staging directory, whole."""
        key = wanted.version.content
        if wanted.version.metadata.kind is Kind.SYMLINK or key is None:
            return self._make_of(wanted, ())
        try:
            return self._make_of(wanted, self._contents.read(key))
        except _NOT_GIVEN as error:
            made = self._make_of_copy(wanted, key)
            if made is None:
                raise
            # Whoever ordered it is told of all of them together. The text alone: who keeps the
            # error keeps open what was read.
            _log.info("%s; read from the copy %s instead", str(error), made.copy)
            return made

    def _make_of_copy(self, wanted: Wanted, key: ContentKey) -> _Made | None:
        """The same, of what a copy gives; None where none does."""
        for name, contents in self._spares.all() if self._spares is not None else ():
            try:
                made = self._make_of(wanted, contents.read(key))
            except _NOT_GIVEN as error:
                _log.debug("the copy %s does not give it either: %s", name, str(error))
                continue
            made.copy = name
            return made
        return None

    def _make_of(self, wanted: Wanted, pieces: Iterable[bytes]) -> _Made:
        version, name = wanted.version, self._staging.new_name()
        staging = self._staging.fd
        if version.metadata.kind is Kind.SYMLINK:
            self._fs.symlink(version.metadata.target or b"", name, staging)
            missed = metadata.apply(
                self._fs, staging, name, None, version.metadata, owner=self._owner
            )
            made = self._fs.stat(name, dir_fd=staging, follow_symlinks=False)
            return _Made(wanted, name, made, missed)
        assert version.content is not None, "a regular file has content"
        fd = self._fs.create(name, staging, 0o600)
        size = 0
        try:
            writer = SparseWriter(self._fs, fd, version.metadata.extents)
            for piece in pieces:
                self._cancel.check()
                writer.write(piece)
                size += len(piece)
                if self._told is not None:
                    self._told.advance(0, len(piece))
            writer.finish()
            missed = metadata.apply(
                self._fs, staging, name, fd, version.metadata, owner=self._owner
            )
            made = self._fs.fstat(fd)
        except BaseException:
            self._fs.close(fd)
            self._remove(name)
            if self._told is not None:
                # It may be had from elsewhere, from its beginning.
                self._told.advance(0, -size)
            raise
        self._fs.close(fd)
        return _Made(wanted, name, made, missed)

    def _give_back(self, path: bytes) -> None:
        if path in self._displaced and self._displace is not None:
            self._displaced.remove(path)
            self._displace.give_back(path)

    def _settle(self, item: _Made) -> Restored:
        """Give a file its place; what cannot get one is removed again."""
        try:
            return self._place(item)
        except OSError as error:
            self._discard(item)
            self._give_back(item.wanted.to)
            if error.errno in _FULL:
                raise self._no_space(item.wanted.to) from error
            return Restored(item.wanted, FAILED, (error.strerror or str(error)).lower())

    def _place(self, item: _Made) -> Restored:
        wanted = item.wanted
        folder, _, name = wanted.to.rpartition(b"/")
        dir_fd = self._descent.make(
            folder, made=lambda path, _fd: self.made_directories.append(path)
        )
        number = 0
        chosen = name
        while True:
            try:
                self._put(item, chosen, dir_fd)
                break
            except FileExistsError:
                if self._conflict is Conflict.KEEP_BOTH:
                    number += 1
                    chosen = beside(name, number)
                    continue
                reason = self._occupied.stays(wanted)
                if reason is None:
                    assert self._displace is not None, "to replace takes a trash"
                    reason = self._displace.take([wanted.to]).get(wanted.to)
                dir_fd = self._descent.open(folder)
                if reason is not None:
                    self._discard(item)
                    return Restored(wanted, SKIPPED, reason, wanted.to)
                self._displaced.add(wanted.to)
        self._displaced.discard(wanted.to)
        path = folder + b"/" + chosen if folder else chosen
        if self._told is not None:
            self._told.advance(1, 0)
        found = None
        if not item.linked:
            # The other changes once more, when it loses its name in the staging directory.
            found = self._look(item, chosen, dir_fd)
        return Restored(wanted, COMPLETED, "", path, tuple(item.missed), found, item.copy)

    def _look(self, item: _Made, name: bytes, dir_fd: int) -> os.stat_result | None:
        """What a file is in its place; None where that cannot be seen, or where somebody has
        changed it since: the next scan looks at it."""
        try:
            found = self._fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except OSError:
            return None
        made = item.status
        same = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode) == (
            made.st_ino,
            made.st_size,
            made.st_mtime_ns,
            made.st_mode,
        )
        return found if same else None

    def _put(self, item: _Made, name: bytes, dir_fd: int) -> None:
        staging = self._staging.fd
        if not item.linked:
            self._fs.rename_noreplace(item.name, name, staging, dir_fd)
            return
        try:
            self._fs.link(item.name, name, staging, dir_fd)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A filesystem without hard links, or too many of one file: then a file of its own.
            own = self._make(item.wanted)
            try:
                self._sync_contents([own])
                self._fs.rename_noreplace(own.name, name, staging, dir_fd)
            except BaseException:
                self._remove(own.name)
                raise

    def _discard(self, item: _Made) -> None:
        if not item.linked:
            self._remove(item.name)

    def _remove(self, name: bytes) -> None:
        try:
            self._fs.unlink(name, self._staging.fd)
        except OSError:
            # The staging directory is swept at its end.
            pass

    # -- directories -----------------------------------------------------------------------

    def finish_directories(
        self, known: Callable[[bytes], DirectoryEvent | None]
    ) -> list[tuple[bytes, tuple[str, ...]]]:
        """Give the directories that were made what is `known` of them, the deepest first, for
        files that come into one move its times; what could not be applied, by path."""
        missed: list[tuple[bytes, tuple[str, ...]]] = []
        for path in sorted(set(self.made_directories), key=lambda it: it.count(b"/"), reverse=True):
            event = known(path)
            if event is None:
                continue
            try:
                fd = self._descent.open(path)
            except OSError as error:
                missed.append((path, ((error.strerror or str(error)).lower(),)))
                continue
            lines = metadata.apply(
                self._fs, self._descent.root_fd, path, fd, event.metadata, owner=self._owner
            )
            if lines:
                missed.append((path, tuple(lines)))
        if self.made_directories:
            self._sync_places(path + b"/" for path in self.made_directories)
        return missed


def _link_key(
    it: Metadata, content: ContentKey | None
) -> tuple[int, ContentKey | None, int] | None:
    """What the names of one file with several links have in common."""
    if it.nlink < 2 or it.kind is not Kind.REGULAR:
        return None
    return it.inode, content, it.mtime_ns


def batches(
    wanted: Iterable[Wanted], *, files_max: int = 4000, bytes_max: int = 64 << 20
) -> Iterable[list[Wanted]]:
    """Cut into pieces that are made durable one after the other."""
    batch: list[Wanted] = []
    size = 0
    for item in wanted:
        batch.append(item)
        size += item.version.metadata.size
        if len(batch) >= files_max or size >= bytes_max:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
