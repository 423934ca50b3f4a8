"""The copies that the settings name, brought up to date in turn, each noted as evidence.

One that is away, or cannot be written, keeps no other from being brought up to date.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, LifecycleError, StorageError, UsageError
from lifecycle_sync.model.check import COPY, CheckNote
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.healing import copies_of
from lifecycle_sync.service.progress import NoProgress, Progress
from lifecycle_sync.service.vault_copies import copy_vault, kind_of, refuse_gone, update_copy
from lifecycle_sync.vault.copying import CopyReport
from lifecycle_sync.vault.vault import VaultKind


class CopyTurn(NamedTuple):
    """What came of one copy: a report, or why it could not be brought up to date."""

    place: str
    report: CopyReport | None
    error: LifecycleError | None = None


def copy_to_named(
    engine: Engine,
    *,
    archive: bool,
    check: bool = False,
    dry_run: bool = False,
    progress: Progress,
    cancel: CancelToken,
) -> list[CopyTurn]:
    """`copy_vault` to all copies of a vault; made is only one that has never been there, for where
    one was its disk may not be mounted. Raises `UsageError` where there are none to be named."""
    kind, turns = kind_of(archive=archive), []
    places = copies_of(engine, kind)
    if not places:
        raise UsageError(
            "the settings name no copies",
            operation="copy vault",
            subject=f"{kind.value}_copies",
            remedy=f"name a folder, or set {kind.value}_copies to a list of some",
        )
    known = {it.subject for it in engine.registry.checks() if it.what == COPY and it.since_ns}
    for place in places:
        try:
            if os.fsencode(place) in known:
                refuse_gone(place)
            report = copy_vault(
                engine,
                place,
                archive=archive,
                check=check,
                dry_run=dry_run,
                progress=progress,
                cancel=cancel,
            )
            turn = CopyTurn(place, report)
        except CancelledError:
            raise
        except LifecycleError as error:
            turn = CopyTurn(place, None, error)
        turns.append(turn)
    if not dry_run:
        note_copies(engine, turns)
    return turns


def update_copies(
    engine: Engine,
    cancel: CancelToken,
    *,
    archive: bool | None = None,
    progress: Progress | None = None,
) -> StorageError | None:
    """Bring the copies that are there up to date, of one vault or of both; what became of those
    that could not be. None is made: an empty mount point is not taken for one. Raises
    `CancelledError`."""
    turns = []
    for kind in VaultKind if archive is None else (kind_of(archive=archive),):
        places = copies_of(engine, kind)
        if not places or not engine.vaults.is_there(kind):
            continue
        for place in places:
            try:
                report = update_copy(engine, kind, place, progress or NoProgress(), cancel)
                turns.append(CopyTurn(place, report))
            except CancelledError:
                raise
            except LifecycleError as error:
                turns.append(CopyTurn(place, None, error))
    note_copies(engine, turns)
    failures = [f"{turn.place}: {why}" for turn in turns if (why := _why(turn))]
    if not failures:
        return None
    return StorageError(
        "; ".join(failures),
        operation="copy vault",
        remedy="the next backup, or `lifecycle vault copy`, brings it up to date",
    )


def note_copies(engine: Engine, turns: Sequence[CopyTurn]) -> None:
    """Note what came of copies that the settings name, as evidence."""
    before = {it.subject: it for it in engine.registry.checks() if it.what == COPY}
    named = set(engine.vaults.copies())
    for turn in turns:
        if turn.place not in named:
            continue
        report, why = turn.report or CopyReport(), _why(turn)
        faults = len(report.damaged) or bool(why)
        subject, now_ns = os.fsencode(turn.place), engine.now_ns()
        good_ns = before[subject].since_ns if subject in before else 0
        since_ns = good_ns if why else now_ns
        note = CheckNote(COPY, subject, now_ns, report.copied, report.bytes, faults, why, since_ns)
        engine.registry.note_check(note)


def _why(turn: CopyTurn) -> str:
    """Why a copy is not as the vault is; empty where it is."""
    if turn.error is not None:
        return str(turn.error)
    assert turn.report is not None, "it is one of the two"
    return " ".join(turn.report.damaged[0]) if turn.report.damaged else ""
