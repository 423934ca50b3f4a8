"""`lifecycle backup`, `archive`, `recall` and `verify`: what the vaults keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.acting import (
    carried_out,
    dry_run_option,
    paths_argument,
    reason_option,
    show_outcomes,
)
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text, size_text
from lifecycle_sync.service.api import error_fields, path_fields, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.verifying import VaultOutcome

_AFFECTED_SHOWN = 10


@command(
    "backup",
    notes="PATH is a file, a folder (all below it), a root, or an id. The vault is backup_path of"
    " the settings; it is made by the first backup.",
    examples="""
        lifecycle backup
        lifecycle backup /srv/uploads/2026 --dry-run
    """,
)
@paths_argument(required=False)
@click.option(
    "--again",
    is_flag=True,
    help="Read unchanged files again, too: what the vault has lost is stored anew.",
)
@click.option(
    "--new-vault",
    is_flag=True,
    help="Use another vault from now on, the one at its path or a new one.",
)
@dry_run_option
def backup(
    session: Session, path: tuple[str, ...], again: bool, new_vault: bool, dry_run: bool
) -> int:
    """Back up what changed since its last version; without PATH in all roots.

    A version has the content and all of the metadata: owner, mode, times, attributes. A file that
    is named is looked at whether it changed or not. What is in the vault already takes no space.
    """
    from lifecycle_sync.service.act_orders import back_up, use_new_vault

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        if new_vault:
            use_new_vault(engine, "backup", how)
        # A new vault has nothing of what was backed up before.
        outcomes = back_up(engine, path, how, again=again or new_vault)
    return show_outcomes(session, "backup", outcomes, dry_run=dry_run)


@command(
    "archive",
    notes="PATH is a file, a folder (all below it), a root, or an id. The archive is archive_path"
    " of the settings.",
    examples="""
        lifecycle archive /srv/uploads/2019 --reason 'project closed'
        lifecycle archive /srv/uploads/scan.tif --dry-run
    """,
)
@paths_argument()
@reason_option
@click.option(
    "--new-vault",
    is_flag=True,
    help="Use another vault from now on, the one at its path or a new one.",
)
@dry_run_option
def archive(
    session: Session, path: tuple[str, ...], reason: str, new_vault: bool, dry_run: bool
) -> int:
    """Move files into the archive: they leave their folder, and `recall` brings them back.

    Each is copied, the copy is read back, and only then the file leaves; it lies in the trash of
    its root for one more day. A hold keeps a file where it is.
    """
    from lifecycle_sync.service import act_orders

    with session.engine() as engine, carried_out(session, dry_run=dry_run, reason=reason) as how:
        if new_vault:
            act_orders.use_new_vault(engine, "archive", how)
        outcomes = act_orders.archive(engine, path, how)
    return show_outcomes(session, "archive", outcomes, dry_run=dry_run)


@command(
    "recall",
    notes="PATH is a file, a folder (all below it), a root, or an id.",
    examples="""
        lifecycle recall /srv/uploads/2019/scan.tif
        lifecycle recall /srv/uploads --dry-run
    """,
)
@paths_argument()
@dry_run_option
def recall(session: Session, path: tuple[str, ...], dry_run: bool) -> int:
    """Bring archived files back to their places. The archive keeps its copies.

    A place that is taken is left as it is.
    """
    from lifecycle_sync.service import act_orders

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        outcomes = act_orders.recall(engine, path, how)
    return show_outcomes(session, "recall", outcomes, dry_run=dry_run)


# -- verify --------------------------------------------------------------------------------


@command(
    "verify",
    notes="Ends with 1 when there is damage.",
    examples="""
        lifecycle verify
        lifecycle verify --all-bytes --json
    """,
)
@click.option(
    "--all-bytes",
    is_flag=True,
    help="Read and hash every byte: takes as long as reading the vaults does.",
)
def verify(session: Session, all_bytes: bool) -> int:
    """Look for damage in the vault and the archive: that all is there, or every byte of it.

    Each finding says what can be done. What is lost is forgotten, so that the next
    `backup --again` stores it anew.
    """
    from lifecycle_sync.service.verifying import verify_vaults

    with session.engine() as engine, carried_out(session) as how:
        outcomes = verify_vaults(
            engine, all_bytes=all_bytes, progress=how.progress, cancel=how.cancel
        )
    sound = all(outcome.ok for outcome in outcomes)
    if session.as_json:
        vaults = [_fields(outcome) for outcome in outcomes]
        write_json({"all_bytes": all_bytes, "ok": sound, "vaults": vaults})
    elif not (session.quiet and sound):
        blocks: list[Block] = []
        for outcome in outcomes:
            blocks += _sheet(outcome, all_bytes=all_bytes)
        show(blocks)
    return 0 if sound else 1


def _sheet(outcome: VaultOutcome, *, all_bytes: bool) -> list[Block]:
    report = outcome.report
    if outcome.error is not None:
        note: Text = Styled("cannot be used", "bad")
        rows: list[list[Text]] = [["why", outcome.error.cause], ["remedy", outcome.error.remedy]]
        return [Heading(_title(outcome), note), Table("", rows)]
    if report is None:
        return [Heading(_title(outcome), Styled("nothing is there yet", "dim"))]
    damage = outcome.damage
    note = Styled(count_text(len(damage), "fault"), "bad") if damage else Styled("sound", "good")
    how = "every byte read" if all_bytes else "structure only: --all-bytes reads every byte"
    rows = [
        ["versions", f"{report.versions:,} in {count_text(report.manifests, 'manifest')}"],
        ["looked at", f"{count_text(report.files, 'file')}, {size_text(report.bytes)} ({how})"],
    ]
    if report.unreferenced:
        text = f"{count_text(len(report.unreferenced), 'file')} that no manifest tells of (no harm)"
        rows.append(["beside", text])
    blocks: list[Block] = [Heading(_title(outcome), note), Table("", rows)]
    if damage:
        found: list[list[Text]] = []
        for it in damage:
            found.append([Styled(it.problem, "bad"), f"{it.subject}: {it.detail}"])
            found.append(["", f"Remedy: {it.remedy}"])
        blocks.append(Table("Damage", found))
    if outcome.affected:
        shown: list[list[Text]] = [
            [f"version {it.number}", utf8_text(it.path)]
            for it in outcome.affected[:_AFFECTED_SHOWN]
        ]
        more = len(outcome.affected) - len(shown)
        if more:
            shown.append(["", Styled(f"and {more:,} more", "dim")])
        blocks.append(Table(Styled("Cannot be restored", "warn"), shown))
    return blocks


def _title(outcome: VaultOutcome) -> str:
    return f"{'Vault' if outcome.kind == 'backup' else 'Archive'} {utf8_text(outcome.path)}"


def _fields(outcome: VaultOutcome) -> dict[str, Any]:
    report = outcome.report
    return {
        "kind": outcome.kind,
        **path_fields(outcome.path.encode("utf-8", "surrogateescape")),
        "there": report is not None or outcome.error is not None,
        "ok": outcome.ok,
        "manifests": report.manifests if report else 0,
        "versions": report.versions if report else 0,
        "files": report.files if report else 0,
        "bytes": report.bytes if report else 0,
        "findings": [it._asdict() for it in outcome.damage],
        "affected": [{**path_fields(it.path), "version": it.number} for it in outcome.affected],
        "unreferenced": report.unreferenced if report else [],
        "error": None if outcome.error is None else error_fields(outcome.error),
    }
