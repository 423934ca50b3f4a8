"""Orders on names that change files: resolved, looked at, given to the acts, and judged.

All names are resolved before the first change. Then each root is done by itself: one that is
offline or held does not keep the others waiting. A dry run says what would be done to which files,
by the same rules, and changes nothing, the registry included.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from lifecycle_sync.act.site import COMPLETED, SKIPPED, Done
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import (
    CancelledError,
    FilesFailedError,
    GuardError,
    LifecycleError,
    UsageError,
)
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.act_report import (
    ARCHIVED_ALREADY,
    GONE_ALREADY,
    HELD,
    NOT_ARCHIVED,
    SPARED,
    THERE,
    Report,
)
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.progress import NoProgress, Progress
from lifecycle_sync.service.statements import who
from lifecycle_sync.service.survey import Seen, held_among, survey
from lifecycle_sync.service.targets import (
    Target,
    TargetKind,
    by_root,
    files_of,
    is_followed,
    known,
    refresh,
    resolve_all,
)
from lifecycle_sync.vault.vault import VaultKind

_ARCHIVED, _DELETED = LifecycleState.ARCHIVED, LifecycleState.DELETED
_DUE = frozenset({LifecycleState.UPLOADED, LifecycleState.BACKUP_PENDING})
_UNCHANGED = "unchanged since its last version"
_MISSING = "is not there any more"
_CLAIMED = "an application works on it (claimed)"
_SUSPECT = "is suspect: its content changed by itself (`lifecycle accept` it, or restore it)"
_UNSTABLE = "changed while it was read; the next sync tries it again"


@dataclass(frozen=True)
class How:
    """How an order is carried out. `reason` goes into the journal."""

    dry_run: bool = False
    reason: str = ""
    progress: Progress = field(default_factory=NoProgress)
    cancel: CancelToken = field(default_factory=CancelToken)


@dataclass(frozen=True)
class RootOutcome:
    """What an order came to in one root. With `dry_run` the report's "completed" is what would be
    done. `notes` tell what a person should know beside it; `place` is where files went to, if not
    into the root; `damage` says why there may be more than could be found."""

    repository: Repository
    report: Report
    error: LifecycleError | None = None
    dry_run: bool = False
    notes: tuple[str, ...] = ()
    place: bytes = b""
    damage: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """`notes`, and what the report has of that kind."""
        copies = self.report.from_copies
        found = [
            f"{'1 file was' if count == 1 else f'{count:,} files were'} read from the copy {copy}:"
            f" what the vault has of {'it' if count == 1 else 'them'} is damaged or missing;"
            " `lifecycle verify --heal` mends the vault"
            for copy, count in sorted(copies.items())
        ]
        return (*self.notes, *found)

    @staticmethod
    def spared_words(reason: str) -> str:
        """A reason in short, where it says that nothing needed to be done; else empty."""
        return SPARED.get(reason, "")

    @property
    def failure(self) -> LifecycleError | None:
        """Why not all was done that was ordered; None when it was."""
        if self.error is not None:
            return self.error
        report = self.report
        held = 0 if report.verb == "purge" else report.held
        undone = report.failed + report.skipped - report.spared - (report.held - held)
        if not undone and self.damage:
            return FilesFailedError(
                self.damage,
                operation=report.verb,
                remedy="`lifecycle verify` names them; copy them back from another copy",
            )
        if not undone:
            return None
        reasons = (it.reason for it in report.done if it.reason not in SPARED)
        first = next(reasons, "see the journal")
        if held == undone and not report.completed:
            return GuardError(
                first,
                guard="hold",
                operation=report.verb,
                subject=self.repository.path,
                remedy="release the hold first",
            )
        left = (
            "1 file was left as it is" if undone == 1 else f"{undone:,} files were left as they are"
        )
        return FilesFailedError(
            f"{left}: {first}",
            failed=undone,
            operation=report.verb,
            remedy="`lifecycle history FILE` has the reason of each",
        )

    @property
    def exit_code(self) -> int:
        return 0 if self.failure is None else self.failure.exit_code


def exit_code_of(outcomes: Sequence[RootOutcome]) -> int:
    """The code for an order: that of all its roots, or 3 where they differ, or 1 for a failure."""
    codes = {outcome.exit_code for outcome in outcomes}
    if len(codes) <= 1:
        return next(iter(codes), 0)
    return 1 if codes & {1, 2} else 3


# -- orders --------------------------------------------------------------------------------

# Why a file is left as it is: None for one to act on, "" for one that is nobody's concern.
Gate = Callable[..., str | None]
Act = Callable[..., Report]


@dataclass(frozen=True)
class _Order:
    """One kind of order. `vault` is written to; `holds` are heeded by the act; with `looks` the
    files are looked at first; with `due` a whole root stands for what is due in it."""

    verb: str
    gate: Gate
    act: Act
    vault: VaultKind | None = None
    holds: bool = False
    looks: bool = True
    due: bool = False


def use_new_vault(engine: Engine, kind: str, how: How) -> None:
    """Give up the vault that was used so far for "backup" or "archive"; see `Vaults.forget`."""
    if not how.dry_run:
        engine.vaults.forget(VaultKind(kind))


def back_up(
    engine: Engine, names: Sequence[str], how: How, *, again: bool = False
) -> list[RootOutcome]:
    """Back up what changed since it last was, of all roots where nothing is named; named files
    whether they changed or not, and with `again` all: what the vault has lost is stored anew."""
    if not names:
        names = [os.fsdecode(root.path) for root in all_roots(engine, "backup")]

    def gate(file: ActFile, *, named: bool) -> str | None:
        if file.state in (_ARCHIVED, _DELETED):
            reason = "is archived" if file.state is _ARCHIVED else _MISSING
            return reason if named else ""
        if not (named or again or file.state in _DUE):
            return ""
        return _withheld(file, named=named)

    act = engine.acts.back_up
    order = _Order("backup", gate, act, VaultKind.BACKUP, due=not again)
    return _each(engine, names, order, how)


def archive(engine: Engine, names: Sequence[str], how: How) -> list[RootOutcome]:
    """Move files into the archive."""

    def gate(file: ActFile, *, named: bool) -> str | None:
        if file.state is _ARCHIVED:
            return ARCHIVED_ALREADY if named else ""
        if file.state is _DELETED:
            return _MISSING if named else ""
        return _withheld(file)

    act = partial(engine.acts.archive, reason=how.reason, by=who())
    order = _Order("archive", gate, act, VaultKind.ARCHIVE, holds=True)
    return _each(engine, names, order, how)


def delete(engine: Engine, names: Sequence[str], how: How) -> list[RootOutcome]:
    """Move files into the trash."""

    def gate(file: ActFile, *, named: bool) -> str | None:
        if file.state is _ARCHIVED:
            return "is archived: `lifecycle recall` it first" if named else ""
        if file.state is _DELETED:
            return GONE_ALREADY if named else ""
        # A person may delete what is suspect; what an application works on they may not.
        return _CLAIMED if file.flags & FileFlag.CLAIMED else None

    act = partial(engine.acts.delete, reason=how.reason, by=who())
    return _each(engine, names, _Order("delete", gate, act, holds=True), how)


def recall(engine: Engine, names: Sequence[str], how: How) -> list[RootOutcome]:
    """Bring archived files back."""

    def gate(file: ActFile, *, named: bool) -> str | None:
        if file.state is _ARCHIVED:
            return None
        return NOT_ARCHIVED if named else ""

    act = partial(engine.acts.recall, conflict=engine.conflict)
    order = _Order("recall", gate, act, looks=False)
    return _each(engine, names, order, how)


def _withheld(file: ActFile, *, named: bool = False) -> str | None:
    if file.flags & FileFlag.CLAIMED:
        return _CLAIMED
    if not named and file.flags & FileFlag.SUSPECT:
        return _SUSPECT
    return _UNSTABLE if not named and file.flags & FileFlag.UNSTABLE else None


def all_roots(engine: Engine, operation: str) -> list[Repository]:
    """Every repository. Raises `UsageError` where there is none."""
    found = engine.roots.all()
    if not found:
        raise UsageError(
            "there is no root yet",
            operation=operation,
            remedy="`lifecycle run FOLDER` registers and indexes one",
        )
    return found


# -- one root after the other --------------------------------------------------------------


def _each(engine: Engine, names: Sequence[str], order: _Order, how: How) -> list[RootOutcome]:
    """Resolve the names, then do each root."""
    verb, vault = order.verb, order.vault
    targets = resolve_all(engine, names, verb)
    engine.vaults.check_places()

    def one(repository: Repository, part: list[Target]) -> RootOutcome:
        engine.acts.check_root(repository, verb)
        if how.dry_run:
            return RootOutcome(repository, _foreseen(engine, part, order, how), dry_run=True)
        if vault is not None:
            # Before any intent is written: a vault that cannot be used stops the order.
            engine.vaults.get(vault)
        if order.looks:
            part = refresh(engine, part, verb, progress=how.progress, cancel=how.cancel)
        else:
            part = [known(engine, target, verb) for target in part]
        chosen = _Chosen(engine, part, order)
        progress = Counted(how.progress, verb, lambda: _totals(_Chosen(engine, part, order)))
        report = order.act(repository, chosen, progress=progress, cancel=how.cancel)
        report.add(chosen.left)
        return RootOutcome(repository, report, notes=chosen.notes(repository))

    return each_root(by_root(targets), verb, one)


def each_root(
    roots: Iterable[tuple[Repository, list[Target]]],
    verb: str,
    one: Callable[[Repository, list[Target]], RootOutcome],
) -> list[RootOutcome]:
    """Do one root after the other; with a single one its error is raised."""
    roots = list(roots)
    outcomes = []
    for repository, part in roots:
        try:
            outcomes.append(one(repository, part))
        except CancelledError:
            raise
        except LifecycleError as error:
            if len(roots) == 1:
                raise
            outcomes.append(RootOutcome(repository, Report(verb), error=error))
    return outcomes


class _Chosen:
    """The files of targets that pass the gate; what does not and is of concern is in `left`."""

    def __init__(self, engine: Engine, targets: list[Target], order: _Order) -> None:
        self._engine = engine
        self._targets = targets
        self._order = order
        self._named = {target.file_id for target in targets if target.kind is TargetKind.FILE}
        self.left: list[Done] = []
        self._seen = 0

    def __iter__(self) -> Iterator[ActFile]:
        self.left, self._seen = [], 0
        for target in self._targets:
            if target.kind is TargetKind.ROOT and self._order.due:
                self._seen += 1
                yield from self._engine.acts.due(target.repository)
                continue
            for file in files_of(self._engine, [target]):
                self._seen += 1
                reason = self._order.gate(file, named=file.file_id in self._named)
                if reason is None:
                    yield file
                elif reason:
                    self.left.append(Done(file.file_id, file.path, SKIPPED, reason, file.size))

    def notes(self, repository: Repository) -> tuple[str, ...]:
        """What a person should know of files that were not even considered."""
        if not self._seen:
            return ("there is no file that the registry follows",)
        if not (self._order.due and any(it.kind is TargetKind.ROOT for it in self._targets)):
            return ()
        told = []
        for flag, words in (
            (FileFlag.SUSPECT, "suspect, left out: see `lifecycle find --suspect`"),
            (FileFlag.CLAIMED, "claimed by an application, left out until released"),
            (FileFlag.UNSTABLE, "changing while read, left out until the next sync"),
        ):
            count = self._engine.registry.flag_count(repository.repository_id, flag.value)
            if count:
                told.append(f"{count:,} {'file' if count == 1 else 'files'} {words}")
        return tuple(told)


def _totals(files: Iterable[ActFile]) -> tuple[int, int]:
    count = size = 0
    for file in files:
        count += 1
        size += file.size
    return count, size


class Counted:
    """A progress that is told how much there is to do when the phase of an act begins."""

    def __init__(self, inner: Progress, phase: str, totals: Callable[[], tuple[int, int]]) -> None:
        self.wants_totals = inner.wants_totals
        self._inner = inner
        self._phase = phase
        self._totals = totals

    def begin(
        self, phase: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None:
        if phase == self._phase and self.wants_totals:
            total_files, total_bytes = self._totals()
        self._inner.begin(phase, root, total_files, total_bytes)

    def advance(self, files: int, bytes_: int) -> None:
        self._inner.advance(files, bytes_)

    def end(self) -> None:
        self._inner.end()


# -- looking ahead -------------------------------------------------------------------------


def _foreseen(engine: Engine, targets: list[Target], order: _Order, how: How) -> Report:
    """What an act would come to."""
    report = Report(order.verb)
    named = {target.file_id for target in targets if target.kind is TargetKind.FILE}
    for target in targets:
        if target.file_id or not target.there or not is_followed(engine, target):
            known(engine, target, order.verb)
    for seen, held in held_among(engine, survey(engine, targets, how.cancel)):
        done = _foresee(seen, order, named=_id(seen) in named)
        if done is not None and done.status == COMPLETED and order.holds and held:
            done = done._replace(status=SKIPPED, reason=f"{HELD} {held}")
        if done is not None:
            report.add([done])
    return report


def _id(seen: Seen) -> bytes | None:
    return None if seen.record is None else seen.record.file_id


def _foresee(seen: Seen, order: _Order, *, named: bool) -> Done | None:
    file = seen.record
    if file is None:
        return Done(b"", seen.path, COMPLETED, "", seen.size)
    if seen.changed:
        # As the look before the act would have it.
        file = file._replace(state=LifecycleState.UPLOADED, flags=file.flags & FileFlag.CLAIMED)
    reason = order.gate(file, named=named)
    if reason == "":
        return None
    if reason is None and order.verb == "recall":
        reason = THERE if seen.there else None
    elif reason is None and not seen.there:
        reason = _MISSING
    if reason is not None:
        return Done(file.file_id, seen.path, SKIPPED, reason, seen.size)
    unchanged = order.verb == "backup" and file.state not in _DUE
    return Done(file.file_id, seen.path, COMPLETED, _UNCHANGED if unchanged else "", seen.size)
