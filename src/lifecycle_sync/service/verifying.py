"""Both vaults examined for damage, and what can be done about each piece of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, LifecycleError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.report.records import below
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.vault.format import MANIFESTS, OBJECTS, PACKS
from lifecycle_sync.vault.vault import Vault, VaultKind
from lifecycle_sync.vault.verify import Finding, Problem, VerifyReport

_AFFECTED_MAX = 1000


class Damage(NamedTuple):
    """One piece of damage: where in the vault, what is wrong, how many contents are lost by it, and
    what to do."""

    problem: str
    subject: str
    detail: str
    lost: int
    remedy: str


class Affected(NamedTuple):
    """A version whose content is lost."""

    path: bytes
    number: int


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

    @property
    def ok(self) -> bool:
        return self.error is None and not self.damage


def verify_vaults(
    engine: Engine, *, all_bytes: bool, progress: Progress, cancel: CancelToken
) -> list[VaultOutcome]:
    """Examine both vaults: their structure, or every byte. Raises `CancelledError`."""
    outcomes = []
    for kind in VaultKind:
        path = engine.vaults.path(kind)
        if not engine.vaults.is_there(kind) and engine.registry.store(kind.value) is None:
            outcomes.append(VaultOutcome(kind.value, path))
            continue
        try:
            outcomes.append(_verify(engine, kind, all_bytes, progress, cancel))
        except CancelledError:
            raise
        except LifecycleError as error:
            outcomes.append(VaultOutcome(kind.value, path, error=error))
    return outcomes


def _verify(
    engine: Engine, kind: VaultKind, all_bytes: bool, progress: Progress, cancel: CancelToken
) -> VaultOutcome:
    vault = engine.vaults.get(kind, create=False, to_read=True)
    seen = [0, 0]

    def on_progress(files: int, size: int) -> None:
        progress.advance(files - seen[0], size - seen[1])
        seen[:] = files, size

    progress.begin("verify", os.fsencode(vault.path), None, None)
    try:
        report = vault.verify(contents=all_bytes, progress=on_progress, cancel=cancel)
    finally:
        progress.end()
    lost = {key for finding in report.findings for key in finding.lost}
    return VaultOutcome(
        kind.value,
        vault.path,
        report,
        damage=tuple(_damage(kind, finding) for finding in report.findings),
        affected=tuple(_affected(engine, vault, lost)) if lost else (),
    )


def _damage(kind: VaultKind, it: Finding) -> Damage:
    return Damage(it.problem.value, it.subject, it.detail, len(it.lost), _remedy(kind, it))


def _remedy(kind: VaultKind, it: Finding) -> str:
    if it.problem is Problem.UNREADABLE:
        return "check the disk and its permissions, then verify again"
    if it.subject.startswith(MANIFESTS):
        return "copy this file back from another copy of the vault; the contents are still there"
    if not it.subject.startswith((PACKS, OBJECTS)):
        return "copy this file back from another copy of the vault"
    if not it.lost:
        return "nothing that is kept is lost; copy it back from another copy of the vault"
    if kind is VaultKind.ARCHIVE:
        return (
            "copy this file back from another copy of the archive; the backup vault may have the"
            " content, too: `lifecycle restore FILE --to DIR`"
        )
    return (
        "`lifecycle backup --again` stores anew what the files still hold; for older versions copy"
        " this file back from another copy of the vault"
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
