"""`lifecycle ls`: a folder as the registry knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.listing import Lister, open_token, order_of, paging_options
from lifecycle_sync.cli.past import list_past
from lifecycle_sync.cli.quantities import When, moment
from lifecycle_sync.cli.session import Session
from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.service.api import FileQuery, Repository, below

if TYPE_CHECKING:
    from lifecycle_sync.service.engine import Engine

_ALL = 2**31


@command(
    "ls",
    notes="Columns: size, time of modification (local), type, state, name. Sizes are in binary"
    " units; a folder's is that of all below it. --json gives one line an entry, its `item` being"
    ' "folder", "file" or "next".',
    examples="""
        lifecycle ls
        lifecycle ls /srv/uploads/2026
        lifecycle ls -R /srv/uploads --sort size --limit 20
        lifecycle ls /srv/uploads --at 2026-11-01T12:00
    """,
)
@directory_argument("dir", required=False)
@click.option("-R", "--recursive", is_flag=True, help="All files below, not only in the folder.")
@click.option("--deleted", is_flag=True, help="Also files that are gone.")
@click.option(
    "--at",
    callback=moment,
    metavar="WHEN",
    help="As it was then, as far as backups tell: a date or time, or how long ago (3d, 2w).",
)
@paging_options
def ls(
    session: Session,
    *,
    dir: str | None,
    recursive: bool,
    deleted: bool,
    at: When | None,
    sort: str,
    limit: int | None,
    cursor: str | None,
    print0: bool,
) -> None:
    """List a folder: its sub-folders with their totals, and its files. Without DIR the roots.

    This asks the registry, not the disk: it is as true as the last sync.
    """
    with session.engine() as engine:
        lister = Lister(session, engine, print0=print0)
        if at is not None:
            _check_past(dir, deleted=deleted, sort=sort, cursor=cursor)
            at_ns = at.ns(engine.now_ns())
            list_past(lister, engine, str(dir), at_ns, recursive=recursive, limit=limit)
            return
        inner, now_ns = open_token(cursor, engine.now_ns())
        if dir is None and not recursive:
            for repository in engine.roots.all():
                totals = engine.registry.directory_totals(repository.repository_id)
                lister.folder(repository.path, totals.files, totals.bytes)
            return
        query = FileQuery(recursive=recursive, include_deleted=deleted, order=order_of(sort))
        if dir is None:
            lister.end(lister.stream(query, inner, limit), now_ns)
            return
        place = _place(lister, engine, dir)
        if place is None:
            return
        repository, under = place
        if not recursive and inner is None:
            _folders(lister, engine, repository, under, by_size=sort == "size")
        query = FileQuery(
            repository_id=repository.repository_id,
            under=under,
            recursive=recursive,
            include_deleted=deleted,
            order=order_of(sort),
        )
        name_from = below(repository.path, under)
        lister.end(lister.stream(query, inner, limit, name_from), now_ns)


def _check_past(dir: str | None, *, deleted: bool, sort: str, cursor: str | None) -> None:
    """Conditions that would be passed over silently are refused."""
    wrong = (
        "--deleted" * deleted or "--sort" * (sort != "path") or "--cursor" * (cursor is not None)
    )
    if wrong or dir is None:
        raise UsageError(
            "does not go with --at" if wrong else "needs a folder",
            operation="ls",
            subject=wrong or "--at",
            remedy="leave it out" if wrong else "name the root or a folder of it",
        )


def _place(lister: Lister, engine: Engine, folder: str) -> tuple[Repository, bytes] | None:
    """What to list; None when it was a file, which then has been written."""
    from lifecycle_sync.service.orders import folder_at

    try:
        return folder_at(engine, folder)
    except NotFoundError:
        try:
            record = engine.find_record(folder)
        except NotFoundError:
            record = None
        if record is None:
            raise
        lister.file(record)
        return None


def _folders(
    lister: Lister, engine: Engine, repository: Repository, under: bytes, *, by_size: bool
) -> None:
    folders = engine.registry.top_folders(repository.repository_id, under, _ALL)
    if not by_size:
        folders.sort(key=lambda folder: folder.path)
    failed = dict(engine.registry.directory_totals(repository.repository_id).failed)
    for folder in folders:
        name = folder.path[len(under) + 1 :] if under else folder.path
        lister.folder(
            below(repository.path, folder.path),
            folder.files,
            folder.bytes,
            name,
            failed.get(folder.path),
        )
