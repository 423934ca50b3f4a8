"""Both vaults and their copies examined, what is damaged healed, and what can be done about the
rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, LifecycleError
from lifecycle_sync.model.check import VERIFY, CheckNote
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.observe.throttle import Throttle
from lifecycle_sync.report.records import below
from lifecycle_sync.service.copy_choice import choice_for
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.healing import copies_of, heal_front, heal_vault
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.copying import CopyCheck, check_copy
from lifecycle_sync.vault.findings import Finding, Problem, VerifyReport
from lifecycle_sync.vault.format import MANIFESTS, OBJECTS, PACKS
from lifecycle_sync.vault.front import MendedFront, Witness, mend_front
from lifecycle_sync.vault.healing import Healed, HealReport
from lifecycle_sync.vault.vault import Vault, VaultKind

_AFFECTED_MAX = 1000


@dataclass(frozen=True)
class Manner:
    """How vaults are examined: beside their structure a `share` (up to 1.0) of their stored bytes,
    that not since `before_ns`; with `contents` every content is unpacked, too. With `heal` what is
    damaged is set aside and had from elsewhere. `rate` is bytes a second at most."""

    share: float = 0.0
    contents: bool = False
    heal: bool = False
    rate: float | None = None
    before_ns: int | None = None


class Damage(NamedTuple):
    """One piece of damage: where in the vault, what is wrong, how many contents are lost by it, and
    what to do; or what was done: then `healed`."""

    problem: str
    subject: str
    detail: str
    lost: int
    remedy: str
    healed: bool = False


class Affected(NamedTuple):
    """A version whose content is lost."""

    path: bytes
    number: int


@dataclass(frozen=True)
class CopyOutcome:
    """What came of a further place of a vault: what was seen, or why it cannot be looked at."""

    path: str
    check: CopyCheck | None = None
    error: LifecycleError | None = None

    @property
    def ok(self) -> bool:
        """A place that is away is told, and is no damage."""
        return self.check is None or len(self.check.damaged) == self.check.mended


@dataclass(frozen=True)
class VaultOutcome:
    """What came of one vault. `report` is None where it could not be examined (`error` says why),
    or where there is none yet; `affected` are at most 1,000 versions."""

    kind: str
    path: str
    report: VerifyReport | None = None
    error: LifecycleError | None = None
    damage: tuple[Damage, ...] = ()
    affected: tuple[Affected, ...] = ()
    healing: HealReport | None = None
    copies: tuple[CopyOutcome, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return self.error is None and all(it.healed for it in self.damage)


def verify_vaults(
    engine: Engine, manner: Manner, *, progress: Progress, cancel: CancelToken
) -> list[VaultOutcome]:
    """Examine both vaults, and the copies of each. Raises `CancelledError`."""
    outcomes = []
    for kind in VaultKind:
        path = engine.vaults.path(kind)
        if not engine.vaults.is_there(kind) and engine.registry.store(kind.value) is None:
            outcomes.append(VaultOutcome(kind.value, path))
            continue
        try:
            outcomes.append(verify_vault(engine, kind, manner, progress=progress, cancel=cancel))
        except CancelledError:
            raise
        except LifecycleError as error:
            outcomes.append(VaultOutcome(kind.value, path, error=error))
    return outcomes


def verify_vault(
    engine: Engine, kind: VaultKind, manner: Manner, *, progress: Progress, cancel: CancelToken
) -> VaultOutcome:
    """Examine one vault that is there, and its copies. Raises `VaultError`, `CancelledError`."""
    # Without it no vault can be opened.
    front = heal_front(engine, kind) if manner.heal else []
    vault = engine.vaults.get(kind, create=False, to_read=not manner.heal)
    pace = _paced(manner.rate, cancel)
    begun_ns = engine.now_ns()
    seen = [0, 0]

    def on_progress(files: int, size: int) -> None:
        progress.advance(files - seen[0], size - seen[1])
        seen[:] = files, size

    progress.begin("verify", os.fsencode(vault.path), None, None)
    try:
        report = vault.verify(
            contents=manner.contents,
            share=manner.share,
            before_ns=manner.before_ns,
            pace=pace,
            progress=on_progress,
            cancel=cancel,
        )
    finally:
        progress.end()
    lost = {key for finding in report.findings for key in finding.lost} - report.elsewhere
    healing = None
    left = frozenset(report.findings)
    if manner.heal and report.findings:
        healing = heal_vault(engine, vault, report.findings, progress=progress, cancel=cancel)
        if any(it.subject.startswith(MANIFESTS) for it in healing.healed):
            again = vault.verify(share=manner.share, before_ns=begun_ns, pace=pace, cancel=cancel)
            if again.findings:
                # What nobody told of before: damaged, too, or not there.
                more = heal_vault(engine, vault, again.findings, progress=progress, cancel=cancel)
                healing.join(more)
                healing.lost = sorted(set(healing.lost) - vault.contains(healing.lost))
                known = {it.subject for it in report.findings}
                report.findings += [it for it in again.findings if it.subject not in known]
        # What it says is believed of nobody: the structure is looked at once more.
        left = _left(vault, report, healing, cancel)
        lost = set(healing.lost)
    mended = [it for it in front if it.source]
    if mended:
        healing = healing or HealReport()
        healing.healed[:0] = [Healed(it.name, it.source, 0) for it in mended]
    for names in (report.condemned, report.unreferenced, report.quarantined):
        names[:] = map(vault.file_name, names)
    outcome = VaultOutcome(
        kind.value,
        vault.path,
        report,
        damage=(
            *(Damage(it.problem.value, it.name, it.detail, 0, "healed", True) for it in mended),
            *(
                _damage(vault, it, report.elsewhere, healed=it not in left)
                for it in report.findings
            ),
        ),
        affected=tuple(_affected(engine, vault, lost)) if lost else (),
        healing=healing,
    )
    copies = [
        _copy(engine, vault, path, manner, pace=pace, progress=progress, cancel=cancel)
        for path in copies_of(engine, kind)
    ]
    outcome = replace(outcome, copies=tuple(copies))
    _note(engine, vault, outcome)
    return outcome


def _note(engine: Engine, vault: Vault, outcome: VaultOutcome) -> None:
    """The evidence, for the vault and each copy that was looked at."""
    report = outcome.report
    assert report is not None, "it was examined"
    now_ns = engine.now_ns()
    left = [it for it in outcome.damage if not it.healed]
    own = [
        CheckNote(
            VERIFY,
            os.fsencode(vault.path),
            now_ns,
            report.hashed,
            report.hashed_bytes,
            len(left),
            f"{left[0].subject}: {left[0].detail}" if left else "",
            vault.index.check_totals("").oldest_ns,
        )
    ]
    # A look at the structure alone says nothing of what was read before.
    notes = own if report.hashed or left else []
    for copy in outcome.copies:
        check = copy.check
        if check is None or not (check.hashed or check.damaged or check.behind):
            continue
        message = f"{check.behind:,} files are not copied yet" if check.behind else ""
        notes.append(
            CheckNote(
                VERIFY,
                os.fsencode(copy.path),
                now_ns,
                check.hashed,
                check.bytes,
                len(check.damaged) - check.mended,
                message,
                vault.index.check_totals(copy.path).oldest_ns,
            )
        )
    for note in notes:
        engine.registry.note_check(note)


def _left(
    vault: Vault, report: VerifyReport, healing: HealReport, cancel: CancelToken
) -> frozenset[Finding]:
    """Which findings still stand: those whose file is damaged still, or whose contents are lost."""
    again = vault.verify(cancel=cancel)
    bad = {it.subject for it in again.findings} | {name for name, _ in healing.failed}
    bad |= {f"{MANIFESTS}/{name}" for name, count in healing.untold.items() if count}
    lost = set(healing.lost)
    return frozenset(
        it for it in report.findings if it.subject in bad or not lost.isdisjoint(it.lost)
    )


def _paced(rate: float | None, cancel: CancelToken) -> Callable[[int], None] | None:
    """One limit for all threads that read."""
    if rate is None:
        return None
    throttle, mutex = Throttle(rate, cancel), threading.Lock()

    def pace(count: int) -> None:
        with mutex:
            throttle.took(count)

    return pace


def _copy(
    engine: Engine,
    vault: Vault,
    path: str,
    manner: Manner,
    *,
    pace: Callable[[int], None] | None,
    progress: Progress,
    cancel: CancelToken,
) -> CopyOutcome:
    progress.begin("verify", os.fsencode(path), None, None)
    try:
        with opening.open_storage(path, engine.fs, create=False) as below:
            write = manner.heal
            front = _mended_front(vault, below) if manner.heal else []
            it = opening.read_format(below, path, vault.kind, vault.store_id, write=write)
            if it is None:
                return CopyOutcome(path)
            # Copying and hashing take stored bytes, and no keys.
            storage = opening.seal_storage(below, path, it, engine.fs, write=False)
            with choice_for(engine, vault, path) as choice:
                check = check_copy(
                    vault,
                    storage,
                    path,
                    share=1.0 if manner.contents else manner.share,
                    before_ns=manner.before_ns,
                    mend=manner.heal,
                    choice=choice,
                    pace=pace,
                    progress=progress.advance,
                    cancel=cancel,
                )
            check.damaged[:0] = [(it.name, it.detail) for it in front if it.source]
            check.mended += sum(bool(it.source) for it in front)
    except CancelledError:
        raise
    except LifecycleError as error:
        return CopyOutcome(path, error=error)
    finally:
        progress.end()
    return CopyOutcome(path, check)


def _mended_front(vault: Vault, copy: Storage) -> list[MendedFront]:
    """FORMAT and the files beside it in a copy, which say the same as in the vault."""
    return mend_front(
        copy,
        vault.kind,
        store_id=vault.store_id,
        manifests=frozenset(vault.storage.names(MANIFESTS)),
        copies=[Witness(vault.path, vault.storage)],
    )


def _damage(vault: Vault, it: Finding, elsewhere: set[ContentKey], *, healed: bool) -> Damage:
    lost = len(set(it.lost) - elsewhere)
    if healed:
        remedy = "healed"
    elif it.lost and not lost:
        remedy = "what it lacks is whole in another place; `lifecycle verify --heal` sets it aside"
    else:
        remedy = _remedy(vault.kind, it, locked=bool(vault.catalogue.locked))
    name = vault.file_name(it.subject)
    return Damage(it.problem.value, name, it.detail, lost, remedy, healed)


def _remedy(kind: VaultKind, it: Finding, *, locked: bool) -> str:
    if it.problem is Problem.UNREADABLE:
        return "check the disk and its permissions, then verify again"
    if it.subject.startswith(MANIFESTS) and it.problem is Problem.MISSING:
        waits = "; where none has, `lifecycle vault give-up` ends the waiting for it"
        return f"mend it from a copy that has it{waits if kind is VaultKind.BACKUP else ''}"
    if it.subject.startswith(MANIFESTS):
        return "`lifecycle verify --heal`, or mend it from a copy: the contents are still there"
    if not it.subject.startswith((PACKS, OBJECTS)):
        return "`lifecycle verify --heal` writes it anew"
    if not it.lost and locked:
        # Nor whether anything is.
        return "without the key nobody can tell what is lost by it: `lifecycle verify --identity`"
    if not it.lost and it.problem is Problem.MISSING:
        return "it may have had what manifests ask for: `lifecycle verify --heal` looks in copies"
    if not it.lost:
        return "nothing that is kept is lost; `lifecycle verify --heal` sets it aside"
    if kind is VaultKind.ARCHIVE:
        return (
            "`lifecycle verify --heal` looks for it in copies and in the backup vault;"
            " `lifecycle vault mend DIR --archive` in any other copy"
        )
    return (
        "`lifecycle verify --heal` looks for it in copies, the archive and the files themselves;"
        " `lifecycle vault mend DIR` in any other copy"
    )


def _affected(engine: Engine, vault: Vault, lost: set[ContentKey]) -> Iterator[Affected]:
    found = 0
    for repository in engine.roots.all():
        for event in vault.all_versions(repository.repository_id):
            if event.content in lost:
                yield Affected(below(repository.path, event.path), event.number)
                found += 1
                if found >= _AFFECTED_MAX:
                    return
