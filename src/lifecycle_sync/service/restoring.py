"""Orders to restore: which versions come back, and to where.

Of a folder or a root that is the newest version of each file that belongs there, read from the
vault's manifests as a stream, so that the memory does not grow with the vault. What was deleted on
purpose stays deleted unless asked for, and what is archived is told of.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from lifecycle_sync.act.restore import Conflict, Wanted, stands
from lifecycle_sync.act.returning import Back
from lifecycle_sync.act.site import COMPLETED, SKIPPED, Done
from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.event import DirectoryEvent, VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY, Repository
from lifecycle_sync.report.records import below
from lifecycle_sync.service.act_orders import Counted, How, RootOutcome, each_root
from lifecycle_sync.service.act_report import THERE, Report
from lifecycle_sync.service.acts import directories_of
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.own_files import is_own
from lifecycle_sync.service.targets import (
    Target,
    TargetKind,
    by_root,
    look,
    resolve_gone,
)
from lifecycle_sync.vault.vault import Vault, VaultKind

_BATCH = 1000
_JOURNAL_ROWS = 50
# What brings a file back, or takes it away on purpose: the last of these counts.
_DELETE = "delete"
_DECIDING = frozenset({_DELETE, "undelete", "recall", "restore"})
_ARCHIVED, _DELETED = LifecycleState.ARCHIVED, LifecycleState.DELETED


@dataclass(frozen=True)
class RestoreOrder:
    """What is to come back and how. `version` is the number of a version, of a single file; `to` a
    folder to restore to instead of the place it came from; `deleted`: also what was deleted on
    purpose."""

    names: Sequence[str]
    version: int | None = None
    to: str | None = None
    conflict: Conflict = Conflict.SKIP
    deleted: bool = False


def conflict_of(word: str) -> Conflict:
    """The rule that a word stands for: "skip", "replace", "newest" or "keep-both"."""
    return Conflict(word)


def restore(engine: Engine, order: RestoreOrder, how: How) -> list[RootOutcome]:
    """Restore what is named. Raises `NotFoundError` for what no version is kept of, and
    `UsageError` for an order that contradicts itself."""
    targets = [resolve_gone(engine, name, "restore") for name in order.names]
    _check(engine, order, targets)
    with ExitStack() as held:
        if how.dry_run:
            vault = held.enter_context(engine.vaults.look_into(VaultKind.BACKUP))
        else:
            elsewhere = order.to is not None
            vault = engine.vaults.get(VaultKind.BACKUP, create=False, to_read=elsewhere)
            engine.vaults.take_up(to_read=elsewhere)
        return _restore(engine, vault, order, targets, how)


def _restore(
    engine: Engine, vault: Vault, order: RestoreOrder, targets: Sequence[Target], how: How
) -> list[RootOutcome]:
    def one(repository: Repository, part: list[Target]) -> RootOutcome:
        choice = _Choice(engine, vault, order)
        for target in part:
            choice.check(target)
        if order.to is not None:
            report = _elsewhere(choice, part, how)
        else:
            report = _in_place(choice, repository, part, how)
        notes = list(choice.notes())
        if report.spared and all(target.kind is TargetKind.FILE for target in part):
            notes.append("--conflict replace or keep-both, or --to DIR, restores it all the same")
        place = b"" if order.to is None else os.path.realpath(os.fsencode(order.to))
        return RootOutcome(repository, report, dry_run=how.dry_run, notes=tuple(notes), place=place)

    return each_root(by_root(targets), "restore", one)


def _check(engine: Engine, order: RestoreOrder, targets: Sequence[Target]) -> None:
    if order.version is not None and (len(targets) != 1 or targets[0].kind is not TargetKind.FILE):
        raise UsageError(
            "a version belongs to one file",
            operation="restore",
            remedy="name one file with --version; `lifecycle show FILE` lists its versions",
        )
    if order.to is None:
        return
    if order.conflict in (Conflict.REPLACE, Conflict.NEWEST):
        raise UsageError(
            "only what lies in a root can be replaced, for it has a trash",
            operation="restore",
            subject=order.to,
            remedy="use --conflict keep-both, or an empty folder",
        )
    place = os.path.realpath(os.fsencode(order.to))
    if is_own(engine.settings, place) or PRIVATE_DIRECTORY in place.split(b"/"):
        raise UsageError(
            "belongs to lifecycle itself: a vault, a trash or the registry",
            operation="restore",
            subject=order.to,
            remedy="name a folder of yours",
        )


# -- to their places -----------------------------------------------------------------------


def _in_place(choice: _Choice, repository: Repository, targets: list[Target], how: How) -> Report:
    engine, order = choice.engine, choice.order
    engine.acts.check_root(repository, "restore")
    engine.vaults.check_places()

    def foreseen() -> Report:
        return _foreseen(
            ((below(repository.path, back.to), back.version) for back in choice.of(targets)),
            order.conflict,
        )

    if how.dry_run:
        return foreseen()
    there = [target for target in targets if target.there]
    look(engine, there, "restore", progress=how.progress, cancel=how.cancel)
    return engine.acts.restore(
        repository,
        choice.of(targets),
        conflict=order.conflict,
        progress=_counted(how, foreseen),
        cancel=how.cancel,
    )


def _counted(how: How, foreseen: Callable[[], Report]) -> Counted:
    """Tells how much a restore will come to when it begins."""

    def totals() -> tuple[int, int]:
        report = foreseen()
        return report.completed, report.size

    return Counted(how.progress, "restore", totals)


# -- elsewhere -----------------------------------------------------------------------------


def _elsewhere(choice: _Choice, targets: list[Target], how: How) -> Report:
    engine, order, vault = choice.engine, choice.order, choice.vault
    assert order.to is not None
    place = os.path.realpath(os.fsencode(order.to))
    total = Report("restore")
    for target in targets:
        lifted = _Lifted(target)

        def foreseen(target: Target = target, lifted: _Lifted = lifted) -> Report:
            return _foreseen(
                (
                    (below(place, lifted.path(back.to)), back.version)
                    for back in choice.of([target])
                ),
                order.conflict,
            )

        if how.dry_run:
            report = foreseen()
        else:
            report = engine.acts.restore_to(
                place,
                (Wanted(back.version, lifted.path(back.to)) for back in choice.of([target])),
                lambda made, lifted=lifted: lifted.directories(vault, made),  # type: ignore[misc]
                conflict=order.conflict,
                progress=_counted(how, foreseen),
                cancel=how.cancel,
            )
        total.join(report)
    return total


class _Lifted:
    """Paths of a root as they are below another folder: from the parent of what was named on."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._cut = len(target.path.rpartition(b"/")[0])
        self._cut += self._cut > 0
        self._above = b"" if target.path else os.path.basename(target.repository.path)

    def path(self, path: bytes) -> bytes:
        """Where a path of the root lies below the other folder."""
        if not self._above:
            return path[self._cut :]
        return below(self._above, path)

    def _back(self, path: bytes) -> bytes:
        if not self._above:
            return self._target.path[: self._cut] + path
        return path[len(self._above) + 1 :]

    def directories(self, vault: Vault, made: set[bytes]) -> Mapping[bytes, DirectoryEvent]:
        """What the vault knows of directories that were made below the other folder."""
        of = {self._back(path): path for path in made}
        known = directories_of(vault, self._target.repository.repository_id, set(of))
        return {of[path]: event for path, event in known.items()}


def _foreseen(wanted: Iterable[tuple[bytes, VersionEvent]], conflict: Conflict) -> Report:
    report = Report("restore")
    for path, version in wanted:
        taken = stands(path, version.metadata.mtime_ns, conflict)
        status, reason = (SKIPPED, THERE) if taken else (COMPLETED, "")
        size = version.metadata.size
        report.add([Done(version.file_id, version.path, status, reason, size)])
    return report


# -- which versions ------------------------------------------------------------------------


@dataclass
class _Choice:
    """Chooses the versions that come back, and counts what is left out."""

    engine: Engine
    vault: Vault
    order: RestoreOrder
    # Of each target, as often as it is looked at.
    archived: Counter[bytes] = field(default_factory=Counter, init=False)
    deleted: Counter[bytes] = field(default_factory=Counter, init=False)

    def notes(self) -> Iterator[str]:
        """What was left out, and what brings it back."""
        archived, deleted = self.archived.total(), self.deleted.total()
        if archived:
            yield f"archived files left out: {archived:,}; `lifecycle recall` brings them back"
        if deleted:
            yield (
                f"files deleted on purpose left out: {deleted:,}; --deleted brings them back, too"
            )

    def of(self, targets: Iterable[Target]) -> Iterator[Back]:
        """What comes back of targets of one root."""
        for target in targets:
            self.archived[target.path] = self.deleted[target.path] = 0
            named = self._named(target) if target.kind is TargetKind.FILE else None
            if named is not None:
                yield named
            elif target.file_id is None:
                yield from self._below(target)

    # -- a file ----------------------------------------------------------------------------

    def check(self, target: Target) -> None:
        """Raise `NotFoundError` for a name of which nothing is kept, before anything is done."""
        if target.kind is not TargetKind.FILE or self._named(target) is not None:
            return
        if target.file_id is not None or next(self._below(target), None) is None:
            raise self._unknown(target)

    def _named(self, target: Target) -> Back | None:
        """The version of a named file; None where no file of that name was ever kept."""
        if target.file_id is not None:
            versions = self.vault.versions_of(target.file_id)
        else:
            versions = self.vault.versions_at(target.repository.repository_id, target.path)
        number = self.order.version
        for event in versions:
            if number is None or event.number == number:
                file = self.engine.registry.act_files([event.file_id]).get(event.file_id)
                if file is None:
                    raise self._unknown(target)
                return Back(file, event, target.path)
        if number is not None:
            raise self._unknown(target)
        return None

    def _unknown(self, target: Target) -> NotFoundError:
        number = self.order.version
        file_id = target.file_id
        file = None if file_id is None else self.engine.registry.act_files([file_id])[file_id]
        if number is not None:
            cause = f"has no version {number} in the vault"
            remedy = "`lifecycle show FILE` lists its versions"
        elif file is not None and file.state is _ARCHIVED:
            cause = "is archived, and no backup of it is kept"
            remedy = "`lifecycle recall` brings it back"
        else:
            cause = "no version of it is in the vault"
            remedy = "`lifecycle backup` keeps one; `lifecycle undelete --list` shows the trash"
        return NotFoundError(cause, operation="restore", subject=target.whole_path, remedy=remedy)

    # -- a folder, a root ------------------------------------------------------------------

    def _below(self, target: Target) -> Iterator[Back]:
        # A file belongs where its record says: it may have been renamed since its last version.
        batch: list[VersionEvent] = []
        for event in self.vault.all_versions(target.repository.repository_id):
            batch.append(event)
            if len(batch) >= _BATCH:
                yield from self._wanted(target, batch)
                batch = []
        yield from self._wanted(target, batch)

    def _wanted(self, target: Target, batch: list[VersionEvent]) -> Iterator[Back]:
        files = self.engine.registry.act_files({event.file_id for event in batch})
        for event in batch:
            file = files.get(event.file_id)
            if file is None or not target.holds(file.path) or not self._is_newest(event, file):
                continue
            if file.state is _ARCHIVED:
                self.archived[target.path] += 1
            elif (
                file.state is _DELETED and not self.order.deleted and self._on_purpose(file.file_id)
            ):
                self.deleted[target.path] += 1
            else:
                yield Back(file, event, file.path)

    def _is_newest(self, event: VersionEvent, file: ActFile) -> bool:
        """Whether this is the newest version of the file that this vault has."""
        if event.number == file.last_number and self.order.conflict is Conflict.SKIP:
            # What was stored anew under its number, after damage, is passed over when it comes.
            return True
        if event.number < file.last_number and not self.engine.vaults.is_there(VaultKind.ARCHIVE):
            return False
        newest = next(self.vault.versions_of(file.file_id), None)
        return newest is not None and newest.version_id == event.version_id

    def _on_purpose(self, file_id: bytes) -> bool:
        """Whether an order, not a person's own hand, has deleted a file that is gone."""
        for operation in self.engine.registry.operations(file_id, _JOURNAL_ROWS):
            if operation.status == COMPLETED and operation.operation_type in _DECIDING:
                return operation.operation_type == _DELETE
        return False
