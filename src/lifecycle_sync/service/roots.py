"""Roots: taken under management, recognised again, accepted after a change, and given up."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lifecycle_sync.clock import Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.decide import guards
from lifecycle_sync.decide.guards import Outcome, Verdict
from lifecycle_sync.errors import (
    LifecycleError,
    NotFoundError,
    RootError,
    StorageFullError,
    UsageError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.ids import IdSource, from_text
from lifecycle_sync.model.repository import (
    Marker,
    Repository,
    RepositoryKind,
    RepositoryStatus,
    RootIdentity,
)
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.locks import Locks
from lifecycle_sync.service.marker import identity_of, read_marker, remove_marker, write_marker
from lifecycle_sync.service.root_places import check_id, check_place, usable_folder

_PATHS_SECONDS = 1.0
_LOCK_SECONDS = 10.0
# The lock that is no root's.
_NO_ROOT = bytes(16)
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class AddedRoot:
    """What `Roots.add` did; `note` says what a person should know of it."""

    repository: Repository
    created: bool
    note: str = ""


class Roots:
    """The roots of one registry and the folders they stand for."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        fs: FileOps,
        clock: Clock,
        locks: Locks | None = None,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._fs = fs
        self._clock = clock
        self._locks = locks
        self._ids = IdSource(clock.now_ns)
        self._paths: dict[bytes, bytes] = {}
        self._paths_read = 0.0

    # -- finding ---------------------------------------------------------------------------

    def all(self) -> list[Repository]:
        """Every repository, loose ones included, in the order of their paths."""
        return self._registry.repositories()

    def get(self, path_or_id: str | os.PathLike[str]) -> Repository:
        """The repository with that path or id. Raises `NotFoundError`."""
        text = os.fspath(path_or_id)
        path = os.path.realpath(os.fsencode(text))
        for repository in self.all():
            if repository.path in {path, os.fsencode(os.path.abspath(text))}:
                return repository
        try:
            found = self._registry.repository(from_text(text))
        except ValueError:
            found = None
        if found is None:
            raise NotFoundError(
                "is no root of this registry",
                operation="find root",
                subject=text,
                remedy="`lifecycle status` lists the roots, `lifecycle add` makes one",
            )
        return found

    def path_of(self, repository_id: bytes) -> bytes:
        """The absolute path of a repository; empty for one that is gone."""
        # A root's path changes only by `add`, in whichever process; a page of a thousand records
        # must not ask a thousand times.
        now = time.monotonic()
        if now - self._paths_read > _PATHS_SECONDS or repository_id not in self._paths:
            self._paths = {known.repository_id: known.path for known in self.all()}
            self._paths_read = now
        return self._paths.get(repository_id, b"")

    def holding(self, path: bytes) -> tuple[Repository, bytes] | None:
        """The repository an absolute path lies in, and the path relative to its root."""
        best: Repository | None = None
        for repository in self.all():
            prefix = repository.path + b"/"
            if path.startswith(prefix) and (best is None or len(repository.path) > len(best.path)):
                best = repository
        return None if best is None else (best, path[len(best.path) + 1 :])

    # -- taking ----------------------------------------------------------------------------

    def add(
        self,
        path: str | os.PathLike[str],
        *,
        adopt: bool = False,
        enforce: bool = False,
        dry_run: bool = False,
        root_id: bytes | None = None,
    ) -> AddedRoot:
        """Take a folder under management; one that is a root already is left as it is.

        With `dry_run` nothing is changed: the answer is what would be done. `root_id` is what a new
        root is to be called; then `UsageError` is raised for a folder, or an id, that is another's.
        Raises `RootError` for what cannot be a root: missing, a file, unreadable, `/`, a home
        directory, inside or around another root, the vault or the archive, or with the marker of
        another registry unless `adopt`.
        """
        root = usable_folder(self._fs, path)
        if dry_run:
            return self._add(root, adopt, enforce, dry_run, root_id)
        with self.changing(root):
            return self._add(root, adopt, enforce, dry_run, root_id)

    @contextmanager
    def changing(self, root: bytes) -> Iterator[None]:
        """Hold the list of roots: what two processes add at once must not write two markers into
        one folder. Raises `BusyError`."""
        if self._locks is None:
            yield
            return
        with self._locks.hold("add", _NO_ROOT, root, wait_seconds=_LOCK_SECONDS):
            yield

    def _add(
        self, root: bytes, adopt: bool, enforce: bool, dry_run: bool, wanted_id: bytes | None
    ) -> AddedRoot:
        if wanted_id is not None:
            check_id(root, wanted_id, self.all())
        for known in self.all():
            if known.path == root and known.kind is RepositoryKind.ROOT:
                if adopt and not dry_run and not self.look(known)[0].passed:
                    self._mark_again(known, adopt=True)
                return AddedRoot(known, created=False)
        check_place(root, self.all(), self._settings)
        marker = read_marker(self._fs, root)
        identity = identity_of(root)
        registry_id = self._registry.registry_id
        if marker is not None and marker.registry_id != registry_id and not adopt:
            raise RootError(
                "carries the marker of another registry",
                operation="add root",
                subject=root,
                remedy="use that registry (--database), or take the folder over with --adopt",
            )
        same_id = self._registry.repository(marker.root_id) if marker else None
        if same_id is not None and marker is not None:
            if self._still_there(same_id):
                note = f"a copy of {os.fsdecode(same_id.path)}: it gets an id of its own"
                return self._register(
                    root,
                    wanted_id or self._ids.one(),
                    identity,
                    note,
                    enforce=enforce,
                    dry_run=dry_run,
                )
            return self._moved(same_id, root, identity, dry_run)
        if marker is not None and wanted_id in (None, marker.root_id):
            root_id = marker.root_id
        else:
            root_id, marker = wanted_id or self._ids.one(), None
        note = "its marker was known: the root keeps its id" if marker is not None else ""
        return self._register(root, root_id, identity, note, enforce=enforce, dry_run=dry_run)

    def _still_there(self, known: Repository) -> bool:
        """Whether a known root is still at its path: then another with its marker is a copy."""
        return self.look(known)[0].outcome is not Outcome.OFFLINE

    def _register(
        self,
        root: bytes,
        root_id: bytes,
        identity: RootIdentity,
        note: str,
        *,
        enforce: bool,
        dry_run: bool,
    ) -> AddedRoot:
        repository = Repository(
            repository_id=root_id,
            path=root,
            identity=identity,
            enforce=enforce,
            added_ns=self._clock.now_ns(),
        )
        if dry_run:
            return AddedRoot(repository, created=True, note=note)
        # The marker first: stopped between the two, the next `add` finds it and goes on, while a
        # row without its marker is a root that is offline.
        if not self._mark(root, root_id):
            repository = repository.evolve(marker_in_root=False)
            note = "; ".join(
                filter(None, [note, "it is read-only: its marker is kept in the registry"])
            )
        self._registry.add_repository(repository)
        return AddedRoot(repository, created=True, note=note)

    def _mark(self, root: bytes, root_id: bytes) -> bool:
        try:
            return write_marker(self._fs, root, Marker(root_id, self._registry.registry_id))
        except OSError as error:
            kind = StorageFullError if error.errno in _FULL else RootError
            raise kind(
                f"cannot be marked ({error.strerror})",
                operation="add root",
                subject=root,
                remedy="free some space on its disk, or check that disk, and add it again",
            ) from error

    def _moved(
        self, known: Repository, root: bytes, identity: RootIdentity, dry_run: bool
    ) -> AddedRoot:
        """A root that is no longer at its path has turned up at another."""
        old = os.fsdecode(known.path)
        moved = known.evolve(path=root)
        verdict = guards.root(
            moved,
            present=True,
            marker=Marker(known.repository_id, self._registry.registry_id),
            identity=identity,
            registry_id=self._registry.registry_id,
        )
        moved = _with_verdict(moved, verdict)
        if not dry_run:
            self._registry.update_repository(moved)
        note = f"moved here from {old}"
        if not verdict.passed:
            note += f"; {verdict.reason}: held until `lifecycle accept`"
        return AddedRoot(moved, created=False, note=note)

    def add_loose(self, folder: bytes) -> Repository:
        """A repository for single files of `folder`, whose other files stay unobserved."""
        repository = Repository(
            repository_id=self._ids.one(),
            path=folder,
            kind=RepositoryKind.LOOSE,
            identity=identity_of(folder),
            marker_in_root=False,
            enforce=True,
            added_ns=self._clock.now_ns(),
        )
        self._registry.add_repository(repository)
        return repository

    # -- recognising -----------------------------------------------------------------------

    def look(self, repository: Repository) -> tuple[Verdict, RootIdentity]:
        """What the *root* guard says of a root now."""
        identity, marker, present = RootIdentity(), None, False
        try:
            present = stat.S_ISDIR(os.stat(repository.path, follow_symlinks=False).st_mode)
            if present:
                identity = identity_of(repository.path)
                if repository.marker_in_root:
                    marker = read_marker(self._fs, repository.path)
        except FileNotFoundError:
            present = False
        except LifecycleError as error:
            # A marker that cannot be understood is no sign that the root is another one, nor that
            # it is itself.
            remedy = error.remedy
            if isinstance(error, RootError):
                remedy = "if this is the right folder, `lifecycle accept` writes it anew"
            return Verdict("root", Outcome.HELD, error.cause, remedy), identity
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
            return (
                Verdict("root", Outcome.OFFLINE, reason, "check the disk and its permissions"),
                identity,
            )
        verdict = guards.root(
            repository,
            present=present,
            marker=marker,
            identity=identity,
            registry_id=self._registry.registry_id,
        )
        return verdict, identity

    @staticmethod
    def keeps_atime(repository: Repository) -> bool:
        """Whether a reading leaves its time with the files of a root."""
        try:
            flags = os.statvfs(repository.path).f_flag
        except OSError:
            return False
        return not flags & os.ST_NOATIME

    def check(self, repository: Repository) -> tuple[Repository, Verdict]:
        """Look, and remember in the row what was seen."""
        verdict, identity = self.look(repository)
        held_by_other = repository.status is RepositoryStatus.HELD and (
            repository.held_guard != "root"
        )
        if verdict.passed and held_by_other:
            return repository, verdict
        updated = _with_verdict(repository, verdict)
        if verdict.passed and repository.identity == RootIdentity():
            # A vault told of it, and its marker is right: this is what it is like.
            updated = updated.evolve(identity=identity)
        if updated != repository:
            self._registry.update_repository(updated)
        return updated, verdict

    # -- orders ----------------------------------------------------------------------------

    def accept(self, repository: Repository) -> tuple[Repository, str]:
        """Take a root as it is now: its folder, its marker, and the files that are gone.

        Returns the root and what was accepted, in words. Raises `RootError` when the folder is
        not there or carries the marker of another root.
        """
        verdict, _identity = self.look(repository)
        done = []
        if not verdict.passed:
            root = usable_folder(self._fs, os.fsdecode(repository.path))
            if repository.marker_in_root:
                self._mark_again(repository)
            done.append(f"the folder as it is now ({verdict.reason})")
            repository = repository.evolve(identity=identity_of(root))
        lost = self._registry.missing_count(repository.repository_id)
        if lost:
            done.append(f"the loss of {lost:,} files")
        repository = repository.evolve(
            status=RepositoryStatus.ACTIVE, held_guard="", held_reason="", accepted_losses=lost
        )
        self._registry.update_repository(repository)
        return repository, " and ".join(done) or "nothing: no guard holds it"

    def _mark_again(self, repository: Repository, *, adopt: bool = False) -> None:
        """Write the marker of a known root anew, unless it is another's."""
        root = repository.path
        try:
            marker = read_marker(self._fs, root)
        except RootError:
            # Damaged, so it names nobody.
            marker = None
        if marker is not None and marker.root_id != repository.repository_id:
            raise RootError(
                "carries the marker of another root",
                operation="accept root",
                subject=root,
                remedy="`lifecycle remove` this root and `lifecycle add` the folder",
            )
        if marker is not None and marker.registry_id != self._registry.registry_id and not adopt:
            raise RootError(
                "carries the marker of another registry",
                operation="accept root",
                subject=root,
                remedy="use that registry (--database), or `lifecycle add --adopt` the folder",
            )
        self._mark(root, repository.repository_id)

    def remove(self, repository: Repository) -> None:
        """Forget a root: its records go, the files and their versions stay."""
        verdict, _identity = self.look(repository)
        self._registry.remove_repository(repository.repository_id)
        if repository.kind is RepositoryKind.ROOT and verdict.outcome is not Outcome.OFFLINE:
            try:
                marker = read_marker(self._fs, repository.path)
            except LifecycleError:
                # Not understood: it may be somebody else's.
                return
            if marker is not None and marker.root_id == repository.repository_id:
                remove_marker(self._fs, repository.path)

    def resolve(self, path: str | os.PathLike[str]) -> tuple[Repository, bytes]:
        """The repository and relative path of a file that is, or was, under management.

        Raises `NotFoundError` when the path lies in no root.
        """
        absolute = absolute_path(path)
        found = self.holding(absolute)
        if found is None:
            raise NotFoundError(
                "lies in no root of this registry",
                operation="find file",
                subject=absolute,
                remedy="`lifecycle status` lists the roots, `lifecycle add` makes one",
            )
        return found


def absolute_path(path: str | os.PathLike[str]) -> bytes:
    """Absolute, with its folder resolved and the last component left as it is (a symlink too)."""
    raw = os.path.abspath(os.fsencode(path))
    if b"\0" in raw:
        raise UsageError("contains a NUL", operation="find file", subject=raw.decode("latin-1"))
    folder, name = os.path.split(raw)
    if not name:
        raise UsageError("is not a file", operation="find file", subject=raw)
    return os.path.join(os.path.realpath(folder), name)


def _with_verdict(repository: Repository, verdict: Verdict) -> Repository:
    status = {
        Outcome.PASS: RepositoryStatus.ACTIVE,
        Outcome.OFFLINE: RepositoryStatus.OFFLINE,
        Outcome.HELD: RepositoryStatus.HELD,
    }[verdict.outcome]
    guard = "" if verdict.passed else verdict.guard
    return repository.evolve(status=status, held_guard=guard, held_reason=verdict.reason)
