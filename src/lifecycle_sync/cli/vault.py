"""`lifecycle vault`: copies of a vault, damage mended from one, pruning, and keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.acting import carried_out, dry_run_option
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.vault_give_up import give_up
from lifecycle_sync.cli.vault_keys import keygen, recipients, rewrite
from lifecycle_sync.cli.vault_prune import prune
from lifecycle_sync.cli.words import count_text, name_text, size_text
from lifecycle_sync.service.api import error_fields, path_fields

if TYPE_CHECKING:
    from lifecycle_sync.service.api import CopyReport

_archive = click.option("--archive", is_flag=True, help="The archive, not the backup vault.")
_place = click.argument("dir", type=click.Path())


@click.group("vault", context_settings={"help_option_names": ["-h", "--help"]})
def vault() -> None:
    """Copy a vault, mend it from a copy, prune it, and look after its keys."""


@command(
    "copy",
    notes="Files of a vault never change, so a second run copies what is new, and one that was cut"
    " off goes on. The copy is a vault itself: it can be verified with sha256sum, restored from by"
    " hand, or set as backup_path. Ends with 3 when a file of the vault was damaged and is not in"
    " the copy, or when one copy of several could not be written.",
    examples="""
        lifecycle vault copy /mnt/second/vault
        lifecycle vault copy
        lifecycle vault copy /mnt/second/archive --archive --check
    """,
)
@click.argument("dir", type=click.Path(), required=False)
@_archive
@click.option("--check", is_flag=True, help="Read what is there, too, and replace what is damaged.")
@dry_run_option
def copy(session: Session, *, dir: str | None, archive: bool, check: bool, dry_run: bool) -> int:
    """Bring a copy of the vault up to date, each file read back and checked.

    Without DIR all copies that the settings name (`backup_copies`; with --archive
    `archive_copies`), one after the other. Those are made by this order, and brought up to date by
    each `backup`, and by `run`, from then on. Where one was before and is not there, its disk may
    not be mounted: a new one is made only in a DIR that is named.
    """
    from lifecycle_sync.service.named_copies import CopyTurn, copy_to_named, note_copies
    from lifecycle_sync.service.vault_copies import copy_vault

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        given: dict[str, Any] = {"archive": archive, "check": check, "dry_run": dry_run}
        given |= {"progress": how.progress, "cancel": how.cancel}
        if dir is None:
            turns = copy_to_named(engine, **given)
        else:
            turns = [CopyTurn(os.path.abspath(dir), copy_vault(engine, dir, **given))]
            if not dry_run:
                note_copies(engine, turns)
    failed = [it.error for it in turns if it.error is not None]
    if len(failed) == len(turns):
        raise failed[0]
    done = [(it.place, it.report) for it in turns if it.report is not None]
    code = max(3 * bool(failed), *(_exit_code(report) for _, report in done))
    if dir is None and session.as_json:
        copies = [_fields("copy", place, report, dry_run=dry_run) for place, report in done]
        errors = [error_fields(it) for it in failed]
        write_json(
            {
                "verb": "copy",
                "dry_run": dry_run,
                "copies": copies,
                "errors": errors,
                "exit_code": code,
            }
        )
        return code
    for place, report in done:
        _show(session, "copy", place if dir is None else dir, report, dry_run=dry_run)
    for error in failed:
        session.warn(str(error))
    return code


@command(
    "mend",
    notes="Every byte of both is read. Ends with 3 when a file of the copy was damaged itself.",
    examples="""
        lifecycle vault mend /mnt/second/vault --dry-run
        lifecycle vault mend /mnt/second/vault
    """,
)
@_place
@_archive
@dry_run_option
def mend(session: Session, *, dir: str, archive: bool, dry_run: bool) -> int:
    """Replace what is damaged or missing in the vault by what a copy of it in DIR has."""
    from lifecycle_sync.service.vault_copies import mend_vault

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        report = mend_vault(
            engine, dir, archive=archive, dry_run=dry_run, progress=how.progress, cancel=how.cancel
        )
    return _show(session, "mend", dir, report, dry_run=dry_run)


def _show(session: Session, verb: str, place: str, report: CopyReport, *, dry_run: bool) -> int:
    code = _exit_code(report)
    if session.as_json:
        write_json(_fields(verb, place, report, dry_run=dry_run))
        return code
    for name, why in report.damaged:
        session.say(f"{name}: {why}")
    if not session.quiet:
        done = {"copy": "copied", "mend": "mended"}[verb]
        would = {"copy": "would copy", "mend": "would mend"}[verb]
        text = f"{would if dry_run else done} {count_text(report.copied, 'file')}"
        text += f", {size_text(report.bytes)}" if report.copied else ""
        text += f" ({report.replaced:,} of them damaged there)" if report.replaced else ""
        text += f"; {report.there:,} there already"
        text += f"; {report.left_out:,} left out by policies" if report.left_out else ""
        write_line(f"{name_text(place)}: {text}")
    return code


def _exit_code(report: CopyReport) -> int:
    return 3 if report.damaged else 0


def _fields(verb: str, place: str, report: CopyReport, *, dry_run: bool) -> dict[str, Any]:
    return {
        "verb": verb,
        "dry_run": dry_run,
        **path_fields(place.encode("utf-8", "surrogateescape")),
        "copied": report.copied,
        "bytes": report.bytes,
        "replaced": report.replaced,
        "there": report.there,
        "left_out": report.left_out,
        "damaged": [{"name": name, "reason": why} for name, why in report.damaged],
        "exit_code": _exit_code(report),
    }


for _order in (copy, mend, prune, give_up, keygen, recipients, rewrite):
    vault.add_command(_order)
