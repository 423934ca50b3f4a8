"""Orders to restore: where versions come back to, and what stands in the way there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack

from lifecycle_sync.act.occupied import Conflict, Wanted, stands
from lifecycle_sync.act.site import COMPLETED, SKIPPED, Done
from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.event import DirectoryEvent, VersionEvent
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY, Repository
from lifecycle_sync.report.records import below
from lifecycle_sync.service.act_orders import Counted, How, RootOutcome, each_root
from lifecycle_sync.service.act_report import THERE, Report
from lifecycle_sync.service.bringing_back import directories_of
from lifecycle_sync.service.choosing import Choice, RestoreOrder, choice_of
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
            engine.clock_doubt.heartbeat()
            elsewhere = order.to is not None
            vault = engine.vaults.get(VaultKind.BACKUP, create=False, to_read=elsewhere)
            engine.vaults.take_up(to_read=elsewhere)
        vault.require_key("restore")
        return _restore(engine, vault, order, targets, how)


def _restore(
    engine: Engine, vault: Vault, order: RestoreOrder, targets: Sequence[Target], how: How
) -> list[RootOutcome]:
    def one(repository: Repository, part: list[Target]) -> RootOutcome:
        with choice_of(engine, vault, order, repository) as choice:
            return restored(choice, repository, part)

    def restored(choice: Choice, repository: Repository, part: list[Target]) -> RootOutcome:
        for target in part:
            choice.check(target)
        if order.to is not None:
            report = _elsewhere(choice, part, how)
        else:
            report = _in_place(choice, repository, part, how)
        notes = list(choice.notes())
        spared = report.spared and order.conflict is Conflict.SKIP
        if spared and all(target.kind is TargetKind.FILE for target in part):
            notes.append("--conflict replace or keep-both, or --to DIR, restores it all the same")
        damage = ""
        if vault.damaged_manifests:
            count = len(vault.damaged_manifests)
            manifests = "a manifest" if count == 1 else f"{count:,} manifests"
            damage = f"{manifests} of the vault cannot be read: what only they tell of is missing"
            notes.append(damage)
        elif not report.completed + report.skipped + report.failed:
            notes.append("the vault has no version of anything there that is missing")
        place = b"" if order.to is None else os.path.realpath(os.fsencode(order.to))
        return RootOutcome(
            repository,
            report,
            dry_run=how.dry_run,
            notes=tuple(notes),
            place=place,
            damage=damage,
        )

    return each_root(by_root(targets), "restore", one)


def _check(engine: Engine, order: RestoreOrder, targets: Sequence[Target]) -> None:
    if order.version is not None and (len(targets) != 1 or targets[0].kind is not TargetKind.FILE):
        raise UsageError(
            "a version belongs to one file",
            operation="restore",
            remedy="name one file with --version; `lifecycle show FILE` lists its versions",
        )
    if order.at_ns is not None and (order.version is not None or order.deleted):
        raise UsageError(
            "a moment says already which versions, and which files",
            operation="restore",
            remedy="leave out --version and --deleted, or --at",
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
    if not order.to:
        raise UsageError(
            "names no folder",
            operation="restore",
            remedy="name one with --to; a variable of the shell may be empty",
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


def _in_place(choice: Choice, repository: Repository, targets: list[Target], how: How) -> Report:
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


def _elsewhere(choice: Choice, targets: list[Target], how: How) -> Report:
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
