"""`lifecycle restore`: versions out of the vault."""

from __future__ import annotations

import click

from lifecycle_sync.cli.acting import (
    carried_out,
    dry_run_option,
    paths_argument,
    show_outcomes,
)
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.quantities import When, moment
from lifecycle_sync.cli.session import Session


@command(
    "restore",
    notes="PATH is a file, a folder (all below it), a root, or an id; it need not be there any"
    " more. A second run goes on where the first one stood.",
    examples="""
        lifecycle restore /srv/uploads/2026
        lifecycle restore /srv/uploads/report.pdf --version 2 --conflict keep-both
        lifecycle restore /srv/uploads --to /mnt/rescue
        lifecycle restore /srv/uploads --at 2026-11-01T12:00 --to /mnt/rescue
    """,
)
@paths_argument()
@click.option(
    "--version",
    "version",
    type=click.IntRange(1),
    metavar="N",
    help="That version of a file (`lifecycle show` lists them), instead of the newest.",
)
@click.option(
    "--at",
    callback=moment,
    metavar="WHEN",
    help="As it was then: a date or time, or how long ago (3d, 2w).",
)
@click.option(
    "--to",
    type=click.Path(readable=False),
    metavar="DIR",
    help="Restore below DIR instead; paths start at what was named.",
)
@click.option(
    "--conflict",
    type=click.Choice(["skip", "replace", "newest", "keep-both"]),
    default="skip",
    show_default=True,
    help="Where a file is there already: leave it, move it to the trash, do so if it is older, or"
    " restore beside it.",
)
@click.option("--deleted", is_flag=True, help="Also files that `lifecycle delete` has deleted.")
@dry_run_option
def restore(
    session: Session,
    *,
    path: tuple[str, ...],
    version: int | None,
    at: When | None,
    to: str | None,
    conflict: str,
    deleted: bool,
    dry_run: bool,
) -> int:
    """Bring files back from the vault: the newest version of each, with all of its metadata.

    Of a folder or a root what is missing comes back, but for what was deleted on purpose and what
    is archived. A file that is named comes back in any case. What is there stays as it is.
    With --at each file comes back as it was at that moment, to where it lay.
    """
    from lifecycle_sync.service.choosing import RestoreOrder
    from lifecycle_sync.service.restoring import conflict_of
    from lifecycle_sync.service.restoring import restore as do_restore

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        at_ns = None if at is None else at.ns(engine.now_ns())
        order = RestoreOrder(path, version, to, conflict_of(conflict), deleted, at_ns)
        outcomes = do_restore(engine, order, how)
    return show_outcomes(session, "restore", outcomes, dry_run=dry_run)
