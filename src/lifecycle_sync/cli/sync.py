"""`lifecycle sync`: one pass over roots, now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.passes import check_configured, register_configured, sync_roots
from lifecycle_sync.cli.process import cancelled_by_signals
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import name_text
from lifecycle_sync.service.api import CancelToken, Repository, RepositoryKind, path_fields

if TYPE_CHECKING:
    from lifecycle_sync.service.engine import Engine


@command(
    "sync",
    notes="Of a DIR below a root only that folder is looked at, with all below it.",
    examples="""
        lifecycle sync
        lifecycle sync /srv/uploads --no-hash
        lifecycle sync /srv/uploads/2024
        lifecycle sync --now
        lifecycle sync --scrub
    """,
)
@directory_argument("dir", many=True, required=False)
@click.option(
    "--scrub", is_flag=True, help="Read every file again and find damage (bit rot). Takes a while."
)
@click.option("--no-hash", is_flag=True, help="Do not hash what is new or changed.")
@click.option(
    "--now",
    is_flag=True,
    help="Where a root is followed, only wait until all that happened before is recorded.",
)
def sync(session: Session, dir: tuple[str, ...], scrub: bool, no_hash: bool, now: bool) -> int:
    """Bring the registry in step with the disk, once.

    Without DIR all roots, those that the settings name registered first. New and changed files are
    hashed. What vanished becomes "deleted" in the registry, unless so much vanished at once that a
    guard holds it until you `lifecycle accept` it.
    """
    settings = session.settings()
    if not dir:
        check_configured(settings, "sync")
    with session.engine(settings, create=not dir) as engine:
        repositories, below = _roots(session, engine, dir)
        if now:
            repositories = _not_answered(session, engine, repositories)
            if not repositories:
                return 0
        return sync_roots(
            session, engine, repositories, hashes=not no_hash, scrub=scrub, below=below
        )


def _not_answered(
    session: Session, engine: Engine, repositories: Sequence[Repository]
) -> list[Repository]:
    """Those of which nobody could say that all is recorded."""
    from lifecycle_sync.service.cookies import sync_to_now

    left = []
    cancel = CancelToken()
    with cancelled_by_signals(cancel):
        for repository in repositories:
            if repository.kind is RepositoryKind.ROOT and sync_to_now(
                engine, repository, cancel=cancel
            ):
                name = name_text(repository.path)
                if session.as_json:
                    write_json({"item": "recorded", **path_fields(repository.path)})
                else:
                    session.say(f"{name}: all that happened until now is recorded")
            else:
                left.append(repository)
    return left


def _roots(
    session: Session, engine: Engine, folders: Sequence[str]
) -> tuple[list[Repository], dict[bytes, list[bytes]]]:
    """The roots, and of those that are not meant as a whole the folders by the root's id."""
    from lifecycle_sync.service.orders import folders_at

    if not folders:
        return register_configured(session, engine, "sync"), {}
    return folders_at(engine, folders)
