"""`lifecycle delete`, `undelete` and `purge`: into the trash, out of it, and for good."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.acting import (
    carried_out,
    dry_run_option,
    paths_argument,
    reason_option,
    show_outcomes,
)
from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import count_text, name_text, size_text, time_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import below, error_fields, path_fields, to_iso, to_text

if TYPE_CHECKING:
    from lifecycle_sync.service.engine import Engine
    from lifecycle_sync.service.trash_orders import Trashed, TrashFault


@command(
    "delete",
    notes="PATH is a file, a folder (all below it), a root, or an id. Folders themselves stay.",
    examples="""
        lifecycle delete /srv/uploads/old.zip --reason 'superseded'
        lifecycle delete /srv/uploads/2019 --dry-run
    """,
)
@paths_argument()
@reason_option
@click.option("--yes", is_flag=True, help="Do not ask before the files of a whole root go.")
@dry_run_option
def delete(session: Session, path: tuple[str, ...], reason: str, yes: bool, dry_run: bool) -> int:
    """Move files into the trash of their root, for 30 days: `undelete` gives them back.

    Versions in the vault stay. A hold keeps a file where it is.
    """
    from lifecycle_sync.service import act_orders

    with session.engine() as engine:
        if not (yes or dry_run):
            _confirm_roots(engine, path)
        with carried_out(session, dry_run=dry_run, reason=reason) as how:
            outcomes = act_orders.delete(engine, path, how)
    code = show_outcomes(session, "delete", outcomes, dry_run=dry_run)
    gone = 0 if dry_run else sum(outcome.report.completed for outcome in outcomes)
    if gone:
        them = "it" if gone == 1 else "them"
        session.say(f"`lifecycle undelete` gives {them} back, for 30 days")
    return code


def _confirm_roots(engine: Engine, names: Sequence[str]) -> None:
    from lifecycle_sync.service.targets import TargetKind, resolve

    for target in (resolve(engine, name, "delete") for name in names):
        if target.kind is not TargetKind.ROOT:
            continue
        root = name_text(target.whole_path)
        if not sys.stdin.isatty():
            raise UsageError(
                "is a whole root: that needs to be confirmed",
                operation="delete",
                subject=root,
                remedy="add --yes; --dry-run shows what it would do",
            )
        files = engine.registry.live_count(target.repository.repository_id)
        question = f"This moves all {count_text(files, 'file')} of {root} to the trash. Go on?"
        click.confirm(question, abort=True, err=True)


# -- undelete ------------------------------------------------------------------------------


@command(
    "undelete",
    notes="PATH is a file, a folder (what was deleted below it), a root, or an id. With --json"
    ' --list gives one line a file, its `item` being "trashed" or "fault".',
    examples="""
        lifecycle undelete --list
        lifecycle undelete /srv/uploads/old.zip
    """,
)
@paths_argument(required=False)
@click.option("--list", "listing", is_flag=True, help="List what lies in the trash.")
@dry_run_option
def undelete(session: Session, path: tuple[str, ...], listing: bool, dry_run: bool) -> int:
    """Give files back out of the trash, to the places they had.

    A place that is taken is left as it is. Of a folder or a root only what was deleted comes back;
    a named file also when it was archived, or replaced by a restore.
    """
    from lifecycle_sync.service import trash_orders

    if not (path or listing):
        raise UsageError(
            "nothing is named",
            operation="undelete",
            remedy="name a file or folder; --list shows what lies in the trash",
        )
    with session.engine() as engine:
        if listing:
            return _list(session, engine, path)
        with carried_out(session, dry_run=dry_run) as how:
            outcomes = trash_orders.undelete(engine, path, how)
    return show_outcomes(session, "undelete", outcomes, dry_run=dry_run)


def _list(session: Session, engine: Engine, names: Sequence[str]) -> int:
    from lifecycle_sync.service.trash_orders import Trashed, trashed

    files = size = 0
    code = 0
    for it in trashed(engine, names):
        if isinstance(it, Trashed):
            files += 1
            size += it.entry.fingerprint.size
            _show_trashed(session, it)
        else:
            code = 3
            _show_fault(session, it)
    if files or not session.as_json:
        session.say(f"{count_text(files, 'file')}, {size_text(size)} in the trash")
    return code


def _show_trashed(session: Session, it: Trashed) -> None:
    path = below(it.repository.path, it.entry.path)
    size = it.entry.fingerprint.size
    if session.as_json:
        write_json(
            {
                "item": "trashed",
                **path_fields(path),
                "file_id": to_text(it.entry.file_id),
                "size": size,
                "reason": it.batch.reason.value,
                "taken_at": to_iso(it.batch.at_ns),
                "until": to_iso(it.batch.until_ns),
                "batch": to_text(it.batch.batch_id),
            }
        )
        return
    why = {"delete": "deleted", "archive": "archived", "replace": "replaced"}[it.batch.reason.value]
    write_line(
        f"{size_text(size):>9}  {why:<8}  {time_text(it.batch.at_ns)}"
        f"  until {time_text(it.batch.until_ns)}  {name_text(path)}"
    )


def _show_fault(session: Session, it: TrashFault) -> None:
    root = it.repository.path
    if session.as_json:
        write_json({"item": "fault", **path_fields(root), "error": error_fields(it.error)})
        return
    batch = f" {name_text(it.name)}" if it.name else ""
    session.warn(f"{name_text(root)}: trash{batch}: {it.error.cause} ({it.error.remedy})")


# -- purge ---------------------------------------------------------------------------------


@command(
    "purge",
    notes="`lifecycle run` does this by itself, every cleanup_interval.",
    examples="""
        lifecycle purge --dry-run
        lifecycle purge /srv/uploads
        lifecycle purge --erase
    """,
)
@directory_argument("dir", many=True, required=False)
@click.option("--erase", is_flag=True, help="Overwrite files before, and say what that misses.")
@dry_run_option
def purge(session: Session, dir: tuple[str, ...], erase: bool, dry_run: bool) -> int:
    """Unlink what lies in the trash past its grace; without DIR in all roots.

    The grace is 30 days for what was deleted, one day for what was archived. What was written to
    since, what is held, and an archived file that is not what the archive has, stay.
    """
    from lifecycle_sync.service import trash_orders

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        outcomes = trash_orders.purge(engine, dir, how, erase=erase)
    return show_outcomes(session, "purge", outcomes, dry_run=dry_run)
