"""Which versions an order to restore brings back.

Of a folder or a root that is the newest version of each file that belongs there, or the one of a
moment, read from the vault's manifests as a stream, so that the memory does not grow with the
vault. What was deleted on purpose stays deleted unless asked for, and what is archived is told of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lifecycle_sync.act.occupied import Conflict
from lifecycle_sync.act.returning import Back
from lifecycle_sync.act.site import COMPLETED
from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.past import Past, past_of
from lifecycle_sync.service.targets import (
    Target,
    TargetKind,
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
    purpose; `at_ns`: as it was at a moment, nanoseconds since 1970 UTC."""

    names: Sequence[str]
    version: int | None = None
    to: str | None = None
    conflict: Conflict = Conflict.SKIP
    deleted: bool = False
    at_ns: int | None = None


@contextmanager
def choice_of(
    engine: Engine, vault: Vault, order: RestoreOrder, repository: Repository
) -> Iterator[Choice]:
    """How versions of one root are chosen. Raises what `past_of` does."""
    if order.at_ns is None:
        yield Choice(engine, vault, order)
        return
    past = past_of(engine, vault, repository, order.at_ns)
    with past.table:
        yield PastChoice(engine, vault, order, past)


@dataclass
class Choice:
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


@dataclass
class PastChoice(Choice):
    """The versions that stood at a moment, each where it lay then."""

    past: Past

    def notes(self) -> Iterator[str]:
        if self.past.archived:
            yield (
                f"files left out that lay in the archive then: {self.past.archived:,};"
                " `lifecycle recall` brings back what still does"
            )

    def of(self, targets: Iterable[Target]) -> Iterator[Back]:
        chosen = list(targets)
        batch: list[VersionEvent] = []
        for event in self.vault.all_versions(self.past.repository.repository_id):
            batch.append(event)
            if len(batch) >= _BATCH:
                yield from self._then(chosen, batch)
                batch = []
        yield from self._then(chosen, batch)

    def check(self, target: Target) -> None:
        if next(self.past.table.files(target.path), None) is None:
            raise NotFoundError(
                "was not there at that moment, as far as backups tell",
                operation="restore",
                subject=target.whole_path,
                remedy="`lifecycle ls --at` shows what was there",
            )

    def _then(self, targets: list[Target], batch: list[VersionEvent]) -> Iterator[Back]:
        standing = self.past.table.among([event.version_id for event in batch])
        events = {event.version_id: event for event in batch if event.version_id in standing}
        files = self.engine.registry.act_files({event.file_id for event in events.values()})
        for event in events.values():
            file, path = files.get(event.file_id), standing[event.version_id]
            if file is not None and any(target.holds(path) for target in targets):
                yield Back(file, event, path)
