"""Orders on what lies in trashes: listed, given back, purged past its grace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lifecycle_sync.act.batches import DamagedBatch
from lifecycle_sync.act.occupied import Conflict, stands
from lifecycle_sync.act.site import COMPLETED, SKIPPED, Done
from lifecycle_sync.errors import GuardError, LifecycleError, NotFoundError, OfflineError
from lifecycle_sync.model.file import FileRecord
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.trash import PLACE_TAKEN, TrashBatch, TrashEntry, TrashReason
from lifecycle_sync.report.records import below
from lifecycle_sync.service.act_orders import (
    Counted,
    How,
    RootOutcome,
    all_roots,
    each_root,
)
from lifecycle_sync.service.act_report import HELD, Report
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.targets import Target, TargetKind, by_root, resolve_gone


class Trashed(NamedTuple):
    """A file that lies in the trash of a root."""

    repository: Repository
    batch: TrashBatch
    entry: TrashEntry


class TrashFault(NamedTuple):
    """A batch, or a whole trash, that cannot be read."""

    repository: Repository
    name: bytes
    error: LifecycleError


# -- listing -------------------------------------------------------------------------------


def trashed(engine: Engine, names: Sequence[str] = ()) -> Iterator[Trashed | TrashFault]:
    """All that lies in the trashes of the roots, or of what is named, oldest first; and what of
    them cannot be read. A root that is offline is such a fault where it was not named."""
    if names:
        for repository, part in by_root([resolve_gone(engine, it, "undelete") for it in names]):
            yield from _in_trash(engine, repository, part)
        return
    for repository in engine.roots.all():
        try:
            yield from _in_trash(engine, repository, [Target(repository, b"", TargetKind.ROOT)])
        except (LifecycleError, OSError) as error:
            yield TrashFault(repository, b"", _ours(error, repository))


def _in_trash(
    engine: Engine, repository: Repository, targets: Sequence[Target]
) -> Iterator[Trashed | TrashFault]:
    with engine.acts.trash(repository) as trash:
        for batch in trash.batches():
            if isinstance(batch, DamagedBatch):
                yield TrashFault(repository, batch.name, batch.error)
                continue
            if not any(_is_meant(targets, entry) for entry in batch.entries):
                continue
            for entry in trash.left(batch):
                if _is_meant(targets, entry):
                    yield Trashed(repository, batch, entry)


def _is_meant(targets: Sequence[Target], entry: TrashEntry) -> bool:
    return any(
        target.holds(entry.path) or (target.file_id is not None and target.file_id == entry.file_id)
        for target in targets
    )


def trash_of_file(engine: Engine, record: FileRecord) -> list[Trashed]:
    """Where a file lies in the trash of its root, what was taken last first. Empty for a root that
    cannot be looked into."""
    repository = engine.registry.repository(record.repository_id)
    assert repository is not None, "a record has its repository"
    target = Target(repository, record.path, TargetKind.FILE, record.file_id)
    try:
        found = [it for it in _in_trash(engine, repository, [target]) if isinstance(it, Trashed)]
    except (LifecycleError, OSError):
        return []
    return [it for it in found if it.entry.file_id == record.file_id][::-1]


def _ours(error: LifecycleError | OSError, repository: Repository) -> LifecycleError:
    if isinstance(error, LifecycleError):
        return error
    return OfflineError(
        (error.strerror or str(error)).lower(),
        operation="read trash",
        subject=repository.path,
        remedy="check the disk and its permissions",
    )


# -- giving back ---------------------------------------------------------------------------


def undelete(engine: Engine, names: Sequence[str], how: How) -> list[RootOutcome]:
    """Give files back to their places: of a folder or root what was deleted, of a named file what
    was taken last, for whatever reason."""
    targets = [resolve_gone(engine, name, "undelete") for name in names]
    engine.vaults.check_places()
    if not how.dry_run:
        engine.clock_doubt.heartbeat()

    def one(repository: Repository, part: list[Target]) -> RootOutcome:
        engine.acts.check_root(repository, "undelete")
        wanted = _to_give_back(engine, repository, part)
        if how.dry_run:
            report = _foreseen(repository, wanted, engine.conflict)
            return RootOutcome(repository, report, dry_run=True)
        size = sum(entry.fingerprint.size for _, entry in wanted)
        progress = Counted(how.progress, "undelete", lambda: (len(wanted), size))
        report = engine.acts.undelete(
            repository, wanted, conflict=engine.conflict, progress=progress, cancel=how.cancel
        )
        return RootOutcome(repository, report)

    return each_root(by_root(targets), "undelete", one)


def _to_give_back(
    engine: Engine, repository: Repository, targets: list[Target]
) -> list[tuple[TrashBatch, TrashEntry]]:
    """The newest of each file. Raises `NotFoundError` for a name under which nothing lies there."""
    newest: dict[bytes, tuple[TrashBatch, TrashEntry]] = {}
    found = [it for it in _in_trash(engine, repository, targets) if isinstance(it, Trashed)]
    for target in targets:
        mine = [it for it in found if _is_meant([target], it.entry)]
        named = [
            it for it in mine if it.entry.path == target.path or not target.holds(it.entry.path)
        ]
        if target.kind is TargetKind.FILE and named:
            chosen = named[-1:]
        else:
            chosen = [it for it in mine if it.batch.reason is TrashReason.DELETE]
        if not chosen:
            raise NotFoundError(
                "nothing of it lies in the trash",
                operation="undelete",
                subject=target.whole_path,
                remedy="`lifecycle undelete --list` shows what does; `lifecycle restore` brings"
                " back what was backed up",
            )
        for it in chosen:
            newest[it.entry.path] = (it.batch, it.entry)
    # One file may have been taken from two places in turn.
    return list({entry.file_id: (batch, entry) for batch, entry in newest.values()}.values())


def _foreseen(
    repository: Repository, wanted: list[tuple[TrashBatch, TrashEntry]], conflict: Conflict
) -> Report:
    report = Report("undelete")
    for _, entry in wanted:
        stays = stands(below(repository.path, entry.path), entry.fingerprint.mtime_ns, conflict)
        status, reason = (SKIPPED, PLACE_TAKEN) if stays else (COMPLETED, "")
        report.add([Done(entry.file_id, entry.path, status, reason, entry.fingerprint.size)])
    return report


# -- purging -------------------------------------------------------------------------------


def purge(
    engine: Engine, names: Sequence[str], how: How, *, erase: bool = False
) -> list[RootOutcome]:
    """Unlink what lies in the trashes past its grace, of the roots named or of all; with `erase`
    overwritten before, and the notes say what that cannot reach. Raises `GuardError` while the
    clock is in doubt: by a wrong one a grace that has hardly begun is over."""
    if names:
        roots = [engine.roots.get(name) for name in names]
    else:
        roots = all_roots(engine, "purge")
    engine.vaults.check_places()
    doubt = engine.clock_doubt.reason()
    if doubt and not how.dry_run:
        raise GuardError(
            f"{doubt}: nothing is purged",
            guard="clock",
            operation="purge",
            remedy="check the date; if it is right, `lifecycle confirm --guard clock`",
        )

    def one(repository: Repository, _: list[Target]) -> RootOutcome:
        engine.acts.check_root(repository, "purge")
        if how.dry_run:
            waits = (f"waits, for the clock is in doubt: {doubt}",) if doubt else ()
            return RootOutcome(repository, _due(engine, repository), dry_run=True, notes=waits)
        if not is_due(engine, repository):
            return RootOutcome(repository, Report("purge"))
        progress = Counted(how.progress, "purge", lambda: _to_purge(engine, repository))
        report = engine.acts.purge(repository, erase=erase, progress=progress, cancel=how.cancel)
        notes = engine.acts.erase_limits(repository) if erase else ()
        return RootOutcome(repository, report, notes=notes)

    return each_root([(repository, []) for repository in roots], "purge", one)


def _to_purge(engine: Engine, repository: Repository) -> tuple[int, int]:
    report = _due(engine, repository)
    return report.completed, report.size


def is_due(engine: Engine, repository: Repository) -> bool:
    """Whether the grace of anything in the trash of a root has ended."""
    with engine.acts.trash(repository) as trash:
        return any(True for _ in trash.due(engine.now_ns()))


def _due(engine: Engine, repository: Repository) -> Report:
    report = Report("purge")
    now_ns = engine.now_ns()
    with engine.acts.trash(repository) as trash:
        for batch in trash.due(now_ns):
            entries = trash.left(batch)
            held = engine.registry.held([entry.file_id for entry in entries], now_ns)
            for entry in entries:
                reason = held.get(entry.file_id)
                status = COMPLETED if reason is None else SKIPPED
                text = "" if reason is None else f"{HELD} {reason}"
                report.add([Done(entry.file_id, entry.path, status, text, entry.fingerprint.size)])
    return report
