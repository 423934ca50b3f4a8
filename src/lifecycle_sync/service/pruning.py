"""The backup vault pruned: versions that no rule keeps first, then what nothing needs any more.

Versions are of this registry's files, and each root is asked: its guard, holds on its files. What
nothing needs is found from the vault alone, for all who write to it. The archive is never pruned.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

from lifecycle_sync.act.pruning import AtOnce, Withdrawn, ids_of, prune_marked, prune_versions
from lifecycle_sync.act.site import Site
from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.errors import CancelledError, GuardError, LifecycleError, StorageFullError
from lifecycle_sync.model.check import PRUNE, CheckNote
from lifecycle_sync.model.plan import MarkedKind, MarkedPage, Unkept
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.act_report import HELD
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.order import pause_words
from lifecycle_sync.service.vault_copies import checked_place
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.needed import Needed
from lifecycle_sync.vault.prune import REPACK_BELOW, PruneReport, prune
from lifecycle_sync.vault.reserve import give_up_reserve, make_reserve
from lifecycle_sync.vault.vault import Vault, VaultKind

EMPTY = "zero versions"
# Versions that are taken back in one run in the journal: after each was looked at, or without that.
_VERSIONS = 10_000
_MARKED = 20_000
# So many pages are given up in one run.
_PAGES = 3
# Each root looks through all pages, so of more of them each file is looked at instead.
_ROOTS = 8
ADVICE = "advice"


@dataclass(frozen=True)
class Pruning:
    """How a vault is pruned: `grace_days` None is as the settings say, `repack_below` as `prune`
    has it. With `allow_empty` a file may lose its last version, where the rules keep none. `sweep`:
    nobody ordered it, so roots that only advise keep what they have."""

    grace_days: float | None = None
    repack_below: float = REPACK_BELOW
    allow_empty: bool = False
    sweep: bool = False


@dataclass
class PruneOutcome:
    """What came of it: versions that are kept no longer, of how many files (`size` is the bytes of
    their content, not compressed); how many wait, by the guard that stands against it; what the
    vault came to. `failed` files could not be journalled. `errors` are of roots."""

    path: str
    dry_run: bool = False
    files: int = 0
    versions: int = 0
    size: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)
    failed: int = 0
    errors: list[tuple[bytes, LifecycleError]] = field(default_factory=list)
    vault: PruneReport = field(default_factory=PruneReport)
    # Whether there is room laid by for the next one.
    reserve: bool = True

    @property
    def exit_code(self) -> int:
        return 3 if self.failed or self.errors or self.vault.unsaved or self.vault.full else 0


def prune_vault(engine: Engine, pruning: Pruning, how: How) -> PruneOutcome:
    """Prune the backup vault. Raises `GuardError` while the clock is in doubt or pruning is paused,
    `VaultError` and its kinds, `CancelledError`."""
    _refuse(engine, how)
    path = engine.vaults.path(VaultKind.BACKUP)
    outcome = PruneOutcome(path, dry_run=how.dry_run)
    try:
        _prune(engine, pruning, how, outcome)
    except StorageFullError:
        # There is something laid by for this.
        if how.dry_run:
            raise
        with opening.open_storage(path, engine.fs, create=False) as storage:
            if not give_up_reserve(storage):
                raise
        _prune(engine, pruning, how, outcome)
    if not how.dry_run:
        outcome.reserve = make_reserve(engine.vaults.backup().storage)
        _note(engine, outcome)
    return outcome


def _prune(engine: Engine, pruning: Pruning, how: How, outcome: PruneOutcome) -> None:
    vault = engine.vaults.get(VaultKind.BACKUP, create=False, to_read=how.dry_run)
    if not how.dry_run:
        engine.decisions.settle(how.cancel)
    with Needed(vault, how.cancel) as needed:
        if how.dry_run:
            going = _would_go(engine, pruning, how, outcome)
            outcome.vault = _contents(engine, needed, pruning, how, going)
            return
        many = engine.settings.worker_threads != 1 and needed.is_much
        with ThreadPoolExecutor(1, "prune") if many else AtOnce() as beside:
            _take_back(engine, pruning, how, outcome, needed=needed, beside=beside)
            if many:
                # What goes wrong there closing comes by as well.
                beside.submit(engine.registry.write_back)

            def lay_by() -> None:
                # There is room now, and little to do for a second thread.
                if many:
                    beside.submit(make_reserve, vault.storage)

            outcome.vault = _contents(engine, needed, pruning, how, (), cleared=lay_by)


def prune_copy(engine: Engine, place: str, pruning: Pruning, how: How) -> PruneOutcome:
    """Take away in a copy of the backup vault what was condemned there a grace ago, and manifests
    that two others repeat. Raises as `prune_vault` does, and `UsageError` for a place that no copy
    can have."""
    path = checked_place(engine, place, VaultKind.BACKUP, "prune copy")
    _refuse(engine, how)
    how.progress.begin("prune", os.fsencode(path), None, None)
    try:
        with engine.vaults.copy_at(path, VaultKind.BACKUP, read_only=how.dry_run) as vault:
            report = prune(
                vault,
                now_ns=engine.now_ns(),
                grace_ns=_grace_ns(engine, pruning),
                dry_run=how.dry_run,
                copy=True,
                progress=how.progress.advance,
                cancel=how.cancel,
            )
    finally:
        how.progress.end()
    return PruneOutcome(path, dry_run=how.dry_run, vault=report)


def _grace_ns(engine: Engine, pruning: Pruning) -> int:
    days = pruning.grace_days
    return int((engine.settings.prune_grace_days if days is None else days) * NS_PER_DAY)


def _note(engine: Engine, outcome: PruneOutcome) -> None:
    """What waits now, for `status`."""
    it, now_ns = outcome.vault, engine.now_ns()
    kept = f"{it.unsaved[0]} has something in it that cannot be read" if it.unsaved else ""
    subject = os.fsencode(outcome.path)
    engine.registry.note_check(
        CheckNote(
            PRUNE,
            subject,
            now_ns,
            it.waiting,
            it.waiting_bytes,
            len(it.unsaved) + it.missing,
            kept,
            it.waiting_until_ns or 0,
        )
    )


def _refuse(engine: Engine, how: How) -> None:
    if how.dry_run:
        return
    doubt = engine.clock_doubt.reason()
    if doubt:
        raise GuardError(
            f"{doubt}: nothing is pruned",
            guard="clock",
            operation="prune",
            remedy="check the date; if it is right, `lifecycle confirm --guard clock`",
        )
    paused = engine.registry.switch("pause")
    if paused is not None:
        raise GuardError(
            pause_words(paused),
            guard="pause",
            operation="prune",
            remedy="`lifecycle resume` lets it go on",
        )


def _take_back(
    engine: Engine,
    pruning: Pruning,
    how: How,
    outcome: PruneOutcome,
    *,
    needed: Needed,
    beside: Executor,
) -> None:
    """Take back the versions that no rule keeps: first those of which that can be said without a
    look at any of their files."""
    _take_back_marked(engine, pruning, how, outcome, needed=needed, beside=beside)
    versions = outcome.versions
    by_root: dict[bytes, list[Unkept]] = {}
    # Of these, how many versions.
    gathered: Counter[bytes] = Counter()

    def flush(versions_min: int) -> None:
        for root_id, groups in by_root.items():
            if gathered[root_id] >= versions_min:
                _take_back_of(engine, root_id, partial(prune_versions, groups=groups), how, outcome)
                groups.clear()
                gathered[root_id] = 0

    for page in _free(engine, pruning, how, outcome):
        for it in page:
            by_root.setdefault(it.repository_id, []).append(it)
            gathered[it.repository_id] += it.versions
        flush(_VERSIONS)
    flush(1)
    if outcome.versions != versions:
        needed.start_over()


def _take_back_marked(
    engine: Engine,
    pruning: Pruning,
    how: How,
    outcome: PruneOutcome,
    *,
    needed: Needed,
    beside: Executor,
) -> None:
    roots, kinds = engine.decisions.alike()
    free = set(roots) - _advising(engine, pruning)
    kinds = [it for it in kinds if it.kept or pruning.allow_empty]
    if not isinstance(beside, AtOnce):
        needed.read_ahead()
    if not kinds or len(free) > _ROOTS:
        return
    for root_id in sorted(free):
        pages = _pages(engine.registry, root_id, kinds)
        page = next(pages, None)
        while page is not None:
            how.cancel.check()
            following: list[MarkedPage | None] = []

            def meanwhile(
                pages: Iterator[MarkedPage] = pages,
                following: list[MarkedPage | None] = following,
            ) -> None:
                following.append(next(pages, None))
                # The vault may go on where this seems to be all that goes.
                if following == [None] and len(free) == 1 and not isinstance(beside, AtOnce):
                    needed.catch_up_early()

            withdraw = partial(
                prune_marked,
                pages=chain([page], islice(pages, _PAGES - 1)),
                files_max=_MARKED,
                beside=beside,
                meanwhile=meanwhile,
            )
            _take_back_of(engine, root_id, withdraw, how, outcome)
            page = following[0] if following else next(pages, None)


def _pages(registry: Registry, root_id: bytes, kinds: Sequence[MarkedKind]) -> Iterator[MarkedPage]:
    """Those with files of a root that go."""
    most = len(registry.repositories())
    after: bytes | None = None
    while (last := registry.last_marked(after, _MARKED)) is not None:
        page = MarkedPage(after, last, kinds)
        if root_id in registry.marked_roots(page, most):
            yield page
        after = last


def _advising(engine: Engine, pruning: Pruning) -> set[bytes]:
    """The roots that keep what they have."""
    if not pruning.sweep:
        return set()
    return {it.repository_id for it in engine.registry.repositories() if not it.enforce}


def _would_go(engine: Engine, pruning: Pruning, how: How, outcome: PruneOutcome) -> Iterator[bytes]:
    """The ids of the versions that would be taken back."""
    for page in _free(engine, pruning, how, outcome):
        _count(outcome, page)
        for it in page:
            yield from ids_of("".join([file.version_ids for file in it.files]))


def _free(
    engine: Engine, pruning: Pruning, how: How, outcome: PruneOutcome
) -> Iterator[list[Unkept]]:
    """What no rule keeps and nothing stands against, page by page; what waits is counted."""
    outcome.waits.clear()
    advising = _advising(engine, pruning)
    for page in engine.decisions.unkept(how.cancel):
        free = []
        for it in page:
            guard, why = it.guard, it.waits
            if not guard and it.alone and not pruning.allow_empty:
                guard, why = (
                    EMPTY,
                    "its rules keep no version of it; --allow-empty says that is meant",
                )
            if not guard and it.repository_id in advising:
                guard, why = ADVICE, "its root only advises; `lifecycle vault prune` orders it"
            if guard:
                outcome.waits[guard] += it.versions
                outcome.why.setdefault(guard, why)
            else:
                free.append(it)
        yield free


def _count(outcome: PruneOutcome, groups: Sequence[Unkept]) -> None:
    outcome.files += sum([len(it.files) for it in groups])
    outcome.versions += sum([it.versions for it in groups])
    outcome.size += sum([it.size for it in groups])


def _take_back_of(
    engine: Engine,
    root_id: bytes,
    withdraw: Callable[[Site], Withdrawn],
    how: How,
    outcome: PruneOutcome,
) -> None:
    repository = engine.registry.repository(root_id)
    # What has failed is not tried again and again.
    if repository is None or repository.path in {path for path, _error in outcome.errors}:
        return

    def came(it: Withdrawn) -> None:
        outcome.files += it.files
        outcome.versions += it.versions
        outcome.size += it.size
        for versions, done in it.left:
            outcome.waits["hold" if done.reason.startswith(HELD) else "busy"] += versions

    try:
        report = engine.acts.prune_versions(
            repository, withdraw, came, progress=how.progress, cancel=how.cancel
        )
    except (CancelledError, StorageFullError):
        raise
    except LifecycleError as error:
        outcome.errors.append((repository.path, error))
        return
    outcome.failed += report.failed


def _contents(
    engine: Engine,
    needed: Needed,
    pruning: Pruning,
    how: How,
    going: Iterable[bytes],
    *,
    cleared: Callable[[], None] = lambda: None,
) -> PruneReport:
    vault = needed.vault
    how.progress.begin("prune", os.fsencode(vault.path), None, None)
    try:
        return prune(
            vault,
            now_ns=engine.now_ns(),
            grace_ns=_grace_ns(engine, pruning),
            repack_below=pruning.repack_below,
            going=going,
            dry_run=how.dry_run,
            compacted=lambda name: _known_to_us(engine, vault, name),
            cleared=cleared,
            progress=how.progress.advance,
            cancel=how.cancel,
            needed=needed,
        )
    finally:
        how.progress.end()


def _known_to_us(engine: Engine, vault: Vault, name: str) -> None:
    """A checkpoint that repeats what the registry has taken up need not be taken up itself."""
    engine.vaults.take_up()
    applied = engine.registry.applied_manifests(vault.store_id)
    known = vault.catalogue.known()
    told = {it.name for it in known.values() if it.covers is None} & (
        known[name].covers or frozenset()
    )
    if told <= applied:
        engine.registry.add_applied(vault.store_id, [name], engine.now_ns())
