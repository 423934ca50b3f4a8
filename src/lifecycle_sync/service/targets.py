"""What people name in an order that acts on files: a file, a folder, a root, or an id.

A name is resolved against the registry and the disk, and what was named is looked at before
anything is done to it, so that the registry knows it as it is now: a file by itself, a folder or a
root by a pass without hashes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.errors import (
    GuardError,
    LifecycleError,
    NotFoundError,
    OfflineError,
    UsageError,
)
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import FileRecord, Tracking
from lifecycle_sync.model.ids import from_text
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY, Repository, RepositoryKind
from lifecycle_sync.report.records import below
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.own_files import is_own
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.roots import absolute_path

_PAGE = 5_000


class TargetKind(StrEnum):
    ROOT = "root"
    FOLDER = "folder"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Target:
    """What one name stands for. `path` is relative to the root, empty for the root itself;
    `file_id` is that of a file the registry knows, `there` whether it lies on the disk now."""

    repository: Repository
    path: bytes
    kind: TargetKind
    file_id: bytes | None = None
    there: bool = True

    @property
    def whole_path(self) -> bytes:
        return below(self.repository.path, self.path)

    def holds(self, path: bytes) -> bool:
        """Whether a path relative to the root is the target's own, or below it."""
        return not self.path or path == self.path or path.startswith(self.path + b"/")


def resolve(engine: Engine, name: str, operation: str) -> Target:
    """What a name stands for. Raises `NotFoundError`, and `UsageError` for what is no subject."""
    try:
        identifier = from_text(name)
    except ValueError:
        pass
    else:
        found = _by_id(engine, identifier)
        if found is not None:
            return found
        if not os.path.lexists(name):
            raise NotFoundError(
                "no file and no root has this id",
                operation=operation,
                subject=name,
                remedy="`lifecycle find` and `lifecycle status` show them",
            )
    real, plain = os.path.realpath(os.fsencode(name)), os.path.abspath(os.fsencode(name))
    for repository in engine.roots.all():
        if repository.path in {real, plain}:
            there = os.path.isdir(repository.path)
            return Target(repository, b"", TargetKind.ROOT, there=there)
    return _by_path(engine, name, operation)


def _by_id(engine: Engine, identifier: bytes) -> Target | None:
    record = engine.registry.file(identifier)
    if record is None:
        known = engine.registry.repository(identifier)
        if known is None:
            return None
        return Target(known, b"", TargetKind.ROOT, there=os.path.isdir(known.path))
    repository = engine.registry.repository(record.repository_id)
    assert repository is not None, "a record has its repository"
    there = _mode_at(below(repository.path, record.path)) is not None
    return Target(repository, record.path, TargetKind.FILE, identifier, there)


def resolve_gone(engine: Engine, name: str, operation: str) -> Target:
    """`resolve` for what may be known to a vault or a trash alone: then it is a file that is not
    there, without an id, which may have been a folder."""
    try:
        return resolve(engine, name, operation)
    except NotFoundError:
        try:
            from_text(name)
        except ValueError:
            pass
        else:
            raise
        found = engine.roots.holding(absolute_path(name))
        if found is None:
            raise
        return Target(found[0], found[1], TargetKind.FILE, there=False)


def _by_path(engine: Engine, name: str, operation: str) -> Target:
    absolute = absolute_path(name)
    found = engine.roots.holding(absolute)
    if found is None:
        raise NotFoundError(
            "lies in no root of this registry",
            operation=operation,
            subject=name,
            remedy="`lifecycle status` lists the roots, `lifecycle add` makes one",
        )
    repository, path = found
    if path.split(b"/")[0] == PRIVATE_DIRECTORY or is_own(engine.settings, absolute):
        raise UsageError(
            "belongs to lifecycle itself",
            operation=operation,
            subject=name,
            remedy="name a file or folder of yours",
        )
    mode = _mode_at(absolute)
    if mode is not None and stat.S_ISDIR(mode):
        return Target(repository, path, TargetKind.FOLDER)
    record = engine.registry.file_at(repository.repository_id, path)
    known = None if record is None else record.file_id
    if mode is not None:
        return Target(repository, path, TargetKind.FILE, known)
    if known is not None:
        return Target(repository, path, TargetKind.FILE, known, there=False)
    if engine.registry.directories(repository.repository_id, [path]):
        return Target(repository, path, TargetKind.FOLDER, there=False)
    if _is_closed(absolute):
        raise NotFoundError(
            "is not in the registry, and what is on the disk there may not be looked at",
            operation=operation,
            subject=name,
            remedy="give this user access to the folders above it",
        )
    raise NotFoundError(
        "is neither on the disk nor in the registry",
        operation=operation,
        subject=name,
        remedy="check the spelling; `lifecycle find` searches the registry",
    )


def _is_closed(path: bytes) -> bool:
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _mode_at(path: bytes) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return None


def resolve_all(engine: Engine, names: Sequence[str], operation: str) -> list[Target]:
    """What all of them stand for, before anything is done; what lies in another one of them, or is
    named twice, is left out."""
    found = [resolve(engine, name, operation) for name in names]
    kept: list[Target] = []
    for target in sorted(found, key=lambda it: (it.whole_path, it.kind is TargetKind.FILE)):
        covered = any(
            other.repository.repository_id == target.repository.repository_id
            and (other.path == target.path or other.holds(target.path))
            and (other.kind is not TargetKind.FILE or other.file_id == target.file_id)
            for other in kept
        )
        if not covered:
            kept.append(target)
    return kept


def by_root(targets: Sequence[Target]) -> list[tuple[Repository, list[Target]]]:
    """The targets of each root, in the order of the roots' paths."""
    roots: dict[bytes, tuple[Repository, list[Target]]] = {}
    for target in targets:
        key = target.repository.repository_id
        roots.setdefault(key, (target.repository, []))[1].append(target)
    return sorted(roots.values(), key=lambda it: it[0].path)


# -- looking again -------------------------------------------------------------------------


def refresh(
    engine: Engine,
    targets: Sequence[Target],
    operation: str,
    *,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[Target]:
    """`look`, then the targets with their files' ids. Raises for a named file that is not followed
    `NotFoundError` or `UsageError`, too."""
    look(engine, targets, operation, progress=progress, cancel=cancel)
    return [known(engine, target, operation) for target in targets]


def look(
    engine: Engine,
    targets: Sequence[Target],
    operation: str,
    *,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Let the registry know what lies at the targets of one root now. Raises what keeps the root
    from being looked at."""
    if not targets:
        return
    repository = engine.acts.check_root(targets[0].repository, operation)
    files = [target for target in targets if target.kind is TargetKind.FILE]
    if len(files) < len(targets):
        (report,) = engine.sync([repository], hashes=False, progress=progress, cancel=cancel)
        raise_for(report, operation)
        return
    for target in files:
        if target.there and is_followed(engine, target):
            engine.refresh_file(repository, target.path)


def raise_for(report: SyncReport, operation: str) -> None:
    """Raise what kept a pass from seeing the root. What *shrink* holds is no reason against an
    explicit order: what is not there is not acted on anyway."""
    if report.error is not None:
        raise report.error
    verdict = report.verdict
    if verdict is None or report.scanned:
        return
    if verdict.outcome is Outcome.OFFLINE:
        raise OfflineError(
            verdict.reason,
            operation=operation,
            subject=report.repository.path,
            remedy=verdict.remedy,
        )
    raise GuardError(
        verdict.reason,
        guard=verdict.guard,
        operation=operation,
        subject=report.repository.path,
        remedy=verdict.remedy,
    )


def is_followed(engine: Engine, target: Target) -> bool:
    """Whether a file is, or may become, the registry's: no rule hides it, nobody took it out."""
    record = None if target.file_id is None else engine.registry.file(target.file_id)
    if record is not None:
        return record.tracking is Tracking.TRACKED
    if target.repository.kind is RepositoryKind.LOOSE:
        return False
    return not engine.cycle.rules.ignores(target.path, False)


def known(engine: Engine, target: Target, operation: str) -> Target:
    """The target with the id of its file. Raises `NotFoundError`, `UsageError` for a file that is
    not followed, with what can be done."""
    if target.kind is not TargetKind.FILE:
        return target
    record = _record_of(engine, target)
    if record is None or record.tracking is not Tracking.TRACKED:
        raise _not_followed(engine, target, record, operation)
    return Target(target.repository, record.path, TargetKind.FILE, record.file_id, target.there)


def _record_of(engine: Engine, target: Target) -> FileRecord | None:
    at = engine.registry.file_at(target.repository.repository_id, target.path)
    if at is not None and (target.there or target.file_id is None):
        return at
    return None if target.file_id is None else engine.registry.file(target.file_id)


def _not_followed(
    engine: Engine, target: Target, record: FileRecord | None, operation: str
) -> LifecycleError:
    subject = target.whole_path
    if record is not None and record.tracking is Tracking.UNREGISTERED:
        cause = "was taken out of management"
        remedy = "`register_file` of the library takes it up again"
    elif target.repository.kind is RepositoryKind.LOOSE:
        cause = "is not under management"
        remedy = "`lifecycle add` its folder"
    elif engine.cycle.rules.ignores(target.path, False):
        cause = "is ignored by a rule"
        remedy = "take the rule out of `ignore`, or bring the file back with `!pattern`"
    else:
        cause = "is not in the registry"
        remedy = "`lifecycle sync` brings the registry in step"
    return UsageError(cause, operation=operation, subject=subject, remedy=remedy)


# -- what lies there -----------------------------------------------------------------------


def files_of(engine: Engine, targets: Iterable[Target]) -> Iterator[ActFile]:
    """The records of all files of targets, read a page at a time: of a folder the live ones (the
    archived too), of a named file its record, whatever its state."""
    for target in targets:
        if target.kind is TargetKind.FILE:
            if target.file_id is not None:
                yield from engine.registry.act_files([target.file_id]).values()
            continue
        yield from files_below(engine, target)


def files_below(engine: Engine, target: Target) -> Iterator[ActFile]:
    """The live records below a folder or root, the archived ones too."""
    after: bytes | None = None
    root_id = target.repository.repository_id
    while page := engine.registry.files_under(root_id, target.path, after, _PAGE):
        yield from page
        after = page[-1].path
