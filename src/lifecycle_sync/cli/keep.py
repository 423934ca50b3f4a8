"""`lifecycle backup`, `archive` and `recall`: what the vaults keep."""

from __future__ import annotations

import click

from lifecycle_sync.cli.acting import (
    carried_out,
    copies_updated,
    dry_run_option,
    paths_argument,
    reason_option,
    show_outcomes,
)
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.session import Session

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
    Copies of the vault that the settings name, and `vault copy` has made, are brought up to date.
    """
    from lifecycle_sync.service.act_orders import back_up, use_new_vault

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        if new_vault:
            use_new_vault(engine, "backup", how)
        # A new vault has nothing of what was backed up before.
        outcomes = back_up(engine, path, how, again=again or new_vault)
        copies = copies_updated(engine, how)
    return show_outcomes(session, "backup", outcomes, dry_run=dry_run, copies=copies)


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
        copies = copies_updated(engine, how, archive=True)
    return show_outcomes(session, "archive", outcomes, dry_run=dry_run, copies=copies)


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
