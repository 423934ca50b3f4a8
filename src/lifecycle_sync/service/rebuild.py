"""A lost or damaged registry made again from its vaults, the trash and its roots.

The new registry takes its id and the ids of its roots from their markers, and from the old one
whatever can still be read: the ids of files, their states, the journal. What vaults and trash tell
that is newer is taken up. Then every root is scanned and hashed, and the disk has the last word.
The old database is set aside, never changed; it stays in place until the new one is whole, and a
rebuild that was stopped goes on when it is run again (`rebuild_files` says how).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.errors import (
    LifecycleError,
    RegistryError,
    RegistryForeignError,
    RegistryNewerError,
    UsageError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.event import RepositoryEvent
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.repository import Marker, RepositoryKind
from lifecycle_sync.registry.database import Database
from lifecycle_sync.registry.header import log_size
from lifecycle_sync.registry.salvage import Salvage, fault_of, salvage
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.learning import (
    learn_from_trash,
    learn_from_vaults,
    roots_in_vaults,
)
from lifecycle_sync.service.marker import read_marker
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.rebuild_files import Note, RebuildFiles
from lifecycle_sync.service.rebuild_words import all_lost, but_for_the_vault, lost_of
from lifecycle_sync.service.roots import Roots
from lifecycle_sync.vault.vault import VaultKind

_OPERATION = "rebuild registry"


@dataclass(frozen=True, slots=True)
class RebuiltRoot:
    """What became of one root.

    `outcome` is "scanned", "offline", "held" (by a guard), "failed" or "not taken"; `note` says why
    and what to do. `kept` records of files came from the old registry, `report` tells of the scan.
    """

    path: bytes
    outcome: str
    note: str = ""
    kept: int = 0
    report: SyncReport | None = None


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild came to.

    `set_aside` is the path of the old database, empty where there was none; `source` says in words
    where the old records came from and `origin` where the registry's id; `learned` is what vaults
    and trash told, `lost` what could not be made again. `resumed` says that an earlier rebuild was
    stopped, and this one went on with it.
    """

    database: str
    set_aside: str
    registry_id: bytes
    origin: str
    source: str
    roots: tuple[RebuiltRoot, ...]
    lost: tuple[str, ...]
    resumed: bool = False
    learned: tuple[str, ...] = ()


def rebuild(
    settings: Settings,
    roots: Sequence[str | os.PathLike[str]] = (),
    *,
    force: bool = False,
    clock: Clock | None = None,
    fs: FileOps | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> RebuildReport:
    """Make the registry of `settings` again from `roots`, the settings' roots, and those that the
    old one still names.

    Raises `UsageError` for a registry that is whole, unless `force`, and where no root is known;
    `RootError` for one of `roots` that cannot be one; `RegistryForeignError` and
    `RegistryNewerError` for a file that is not ours to set aside, unless `force`; `BusyError` while
    somebody uses the registry; `StorageFullError`; `CancelledError`. Until the old database is set
    aside, nothing is changed by an error; after that, running again goes on.
    """
    work = _Rebuild(
        settings, clock or SystemClock(), fs or FileOps(), cancel or CancelToken(), force
    )
    return work.run(roots, progress)


class _Old(NamedTuple):
    """What is known of the old database: the kind of name it gets when it is set aside, what it
    gave, where that came from (empty for nothing), and what is lost."""

    kind: str
    found: Salvage
    source: str
    lost: tuple[str, ...]


class _Rebuild:
    def __init__(
        self, settings: Settings, clock: Clock, fs: FileOps, cancel: CancelToken, force: bool
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._fs = fs
        self._cancel = cancel
        self._force = force
        self._files = RebuildFiles(fs, os.fspath(settings.database_path))

    def run(
        self, given: Sequence[str | os.PathLike[str]], progress: Progress | None
    ) -> RebuildReport:
        with self._files.exclusive():
            note = self._files.unfinished()
        resumed = note is not None and self._is_new(note)
        if note is None or not resumed:
            with self._files.exclusive():
                note = self._make(given)
        with Engine.open(self._settings, fs=self._fs, clock=self._clock, create=False) as engine:
            learned, lost = learn_from_vaults(engine)
            # That the new registry has a store means that its vault was there, and was read.
            told = not lost and engine.registry.store(VaultKind.BACKUP.value) is not None
            rebuilt = self._fill(engine, given, note.kept, progress, (learned, lost))
            registry_id = engine.registry.registry_id
        self._files.clean()
        return RebuildReport(
            database=self._files.database,
            set_aside=self._files.set_aside(note),
            registry_id=registry_id,
            origin=note.origin,
            source=note.source,
            roots=tuple(sorted(rebuilt, key=lambda root: root.path)),
            lost=(*(but_for_the_vault(note.lost) if told else note.lost), *lost),
            resumed=resumed,
            learned=tuple(learned),
        )

    def _is_new(self, note: Note) -> bool:
        """Whether the database in place is the one that an earlier rebuild put there."""
        try:
            registry = SqliteRegistry.open(
                self._files.database, clock=self._clock, fs=self._fs, create=False
            )
        except RegistryError:
            return False
        try:
            return registry.registry_id.hex() == note.registry_id
        finally:
            registry.close()

    # -- the new database ------------------------------------------------------------------

    def _make(self, given: Sequence[str | os.PathLike[str]]) -> Note:
        """Build the new database beside the old one, and swap the two."""
        files = self._files
        files.clean()
        try:
            old = self._salvage()
            self._cancel.check()
            note = self._identify(given, old)
            if log_size(files.new):
                raise RegistryError(
                    "the new database could not be completed",
                    operation=_OPERATION,
                    subject=files.database,
                    remedy="run it again",
                )
            files.swap(note)
        except BaseException:
            if not files.begun():
                files.clean()
            raise
        return note

    def _salvage(self) -> _Old:
        """Make the new database, with what the old one still has."""
        files = self._files
        there = files.exists()
        fault: str | None = "there was no old database"
        source = ""
        # One that never had a root, as a start without the lost one makes, tells nothing.
        for path in [*([files.database] if there else []), files.newest_set_aside()]:
            if path:
                files.copy_old(path)
                fault, readable = self._examine(in_place=path == files.database)
                source = path if readable else ""
                if fault is not None:
                    break
        files.make_folder()
        SqliteRegistry.open(files.new, clock=self._clock, fs=self._fs).close()
        found = Salvage()
        if source:
            new = Database(files.new, fs=self._fs)
            try:
                found = salvage(files.old_copy, new, self._clock.now_ns(), self._fs, self._cancel)
            finally:
                new.close()
        if fault is None:
            # The roots' markers know better than a registry that was only just made.
            found.registry_id = None
        in_place = source == files.database
        kind = "corrupt" if in_place and fault else "set-aside"
        if not source or found.fault:
            return _Old(kind, found, "", all_lost(fault or found.fault))
        return _Old(kind, found, "the old database" if in_place else source, lost_of(found))

    def _examine(self, *, in_place: bool) -> tuple[str | None, bool]:
        """What is wrong with the copy of the old database, and whether it is ours to read. Raises
        when it may not be set aside, if it is the one `in_place`."""
        try:
            fault = fault_of(self._files.old_copy, self._fs)
        except (RegistryForeignError, RegistryNewerError) as error:
            if in_place and not self._force:
                error.subject = self._files.database
                raise
            return f"the old database {error.cause}", False
        if in_place and fault == "" and not self._force:
            self._refuse_healthy()
        return (f"the old database {fault}" if fault else fault), True

    def _refuse_healthy(self) -> None:
        raise UsageError(
            "is whole: there is nothing to rebuild",
            operation=_OPERATION,
            subject=self._files.database,
            remedy="`lifecycle sync` brings it in step with the disk; --force rebuilds it even so",
        )

    def _identify(
        self,
        given: Sequence[str | os.PathLike[str]],
        old: _Old,
    ) -> Note:
        """Give the new registry its id."""
        registry = SqliteRegistry.open(self._files.new, clock=self._clock, fs=self._fs)
        try:
            known = {repository.path for repository in registry.repositories()}
            told = self._told() if not known else []
            paths = [*known, *self._configured(), *_paths(given), *(it.path for it in told)]
            if not paths:
                raise UsageError(
                    "no root is known",
                    operation=_OPERATION,
                    subject=self._files.database,
                    remedy="name the folders: `lifecycle rebuild FOLDER...`",
                )
            roots = Roots(registry, self._settings, self._fs, self._clock)
            for path in given:
                if _path(path) not in known:
                    # A wrong order is refused before anything is changed.
                    roots.add(path, adopt=True, dry_run=True)
            registry_id, origin = self._choose_id(old.found, paths, told, registry.registry_id)
            registry.set_registry_id(registry_id)
            kept = {
                root.repository_id.hex(): registry.live_count(root.repository_id)
                for root in registry.repositories()
            }
        finally:
            registry.close()
        aside = ""
        if self._files.any():
            aside = self._files.free_name(old.kind, self._clock.now_ns())
        return Note(registry_id.hex(), aside, old.source, origin, kept, old.lost)

    def _told(self) -> list[RepositoryEvent]:
        """The roots that the vaults know of, the newest first."""
        events = roots_in_vaults(self._settings, self._fs, self._clock)
        return sorted(events, key=lambda event: event.at_ns, reverse=True)

    def _choose_id(
        self,
        found: Salvage,
        paths: Sequence[bytes],
        told: Sequence[RepositoryEvent],
        fresh: bytes,
    ) -> tuple[bytes, str]:
        """The registry's id and, in words, where it comes from."""
        markers = Counter[bytes]()
        for path in dict.fromkeys(paths):
            marker = self._marker(path)
            if isinstance(marker, Marker):
                markers[marker.registry_id] += 1
        if found.registry_id is not None:
            others = markers.total() - markers[found.registry_id]
            return found.registry_id, "the old database" + (
                f"; the markers of {others} roots name another" if others else ""
            )
        if not markers and told:
            return told[0].registry_id, "the vault"
        if not markers:
            return fresh, "new: neither a marker nor the old database has one"
        (registry_id, count), *_ = markers.most_common()
        if count == markers.total():
            return registry_id, "the markers of the roots"
        return registry_id, f"the markers of {count} of {markers.total()} roots"

    def _marker(self, path: bytes) -> Marker | LifecycleError | None:
        try:
            return read_marker(self._fs, path)
        except LifecycleError as error:
            return error
        except OSError as error:
            return RegistryError(
                f"its marker cannot be read ({error.strerror})",
                remedy="check the disk and its permissions",
            )

    def _configured(self) -> list[bytes]:
        local = self._settings.local_storage_path
        return _paths([*([local] if local is not None else []), *self._settings.roots])

    # -- the roots -------------------------------------------------------------------------

    def _fill(
        self,
        engine: Engine,
        given: Sequence[str | os.PathLike[str]],
        kept: dict[str, int],
        progress: Progress | None,
        words: tuple[list[str], list[str]],
    ) -> list[RebuiltRoot]:
        """Take what is not known from the old registry, look into the trash, and scan all. `words`
        gets what was learned, and what could not be."""
        ordered = _paths(given)
        rebuilt, notes = [], dict[bytes, str]()
        known = {root.path for root in engine.roots.all() if root.kind is RepositoryKind.ROOT}
        for path in dict.fromkeys([*self._configured(), *ordered]):
            if path in known:
                continue
            outcome, note = self._take(engine, path, ordered=path in ordered)
            if outcome:
                rebuilt.append(RebuiltRoot(path, outcome, note))
            notes[path] = note
        for told, more in zip(words, learn_from_trash(engine), strict=True):
            told += more
        for report in engine.sync(progress=progress, cancel=self._cancel):
            root = report.repository
            outcome, note = _outcome(report)
            rebuilt.append(
                RebuiltRoot(
                    root.path,
                    outcome,
                    note or notes.get(root.path, ""),
                    kept.get(root.repository_id.hex(), 0),
                    report,
                )
            )
        return rebuilt

    def _take(self, engine: Engine, path: bytes, *, ordered: bool) -> tuple[str, str]:
        """Add a root that the old registry did not tell of; an outcome if it was not taken.

        A folder of the settings that is empty and has no marker may be a mount point without its
        disk: it is taken only when it is named in the order.
        """
        try:
            entries = os.listdir(path)
        except FileNotFoundError:
            return "offline", (
                "is not there: mount it or put it back, then `lifecycle add` it; its marker has"
                " its id"
            )
        except OSError as error:
            return "not taken", f"cannot be read ({error.strerror})"
        marker = self._marker(path)
        if isinstance(marker, LifecycleError):
            return "not taken", str(marker)
        if marker is None and not entries and not ordered:
            return "offline", (
                "is empty and has no marker, as if its disk were not mounted: mount it, or"
                " `lifecycle add` it as it is"
            )
        if marker is not None and marker.registry_id != engine.registry.registry_id:
            return "not taken", (
                f"its marker names another registry ({to_text(marker.registry_id)}): use that one,"
                " or take the folder over with `lifecycle add --adopt`"
            )
        try:
            added = engine.add_root(os.fsdecode(path))
        except LifecycleError as error:
            return "not taken", str(error)
        return "", added.note or "had no marker: it is a new root"


def _outcome(report: SyncReport) -> tuple[str, str]:
    if report.error is not None:
        return "failed", str(report.error)
    verdict = report.verdict
    if verdict is None:
        return "scanned", ""
    outcome = "offline" if verdict.outcome is Outcome.OFFLINE else "held"
    return outcome, f"{verdict.reason} ({verdict.remedy})"


def _paths(roots: Sequence[str | os.PathLike[str]]) -> list[bytes]:
    return [_path(root) for root in roots]


def _path(root: str | os.PathLike[str]) -> bytes:
    return os.path.realpath(os.fsencode(root))
