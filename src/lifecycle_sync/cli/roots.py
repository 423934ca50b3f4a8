"""`lifecycle add`, `accept` and `remove`: which folders are under management, and as what."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.passes import sync_roots
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import count_text, name_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import Repository, path_fields, repository_fields, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.roots import AddedRoot

_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, change nothing.")


@command(
    "add",
    examples="""
        lifecycle add /srv/uploads
        lifecycle add /mnt/archive --adopt --dry-run
    """,
)
@directory_argument("dir", many=True)
@click.option("--adopt", is_flag=True, help="Take over a folder that another registry marked.")
@click.option(
    "--enforce",
    is_flag=True,
    help="Let policies act on it. Without it they only advise: nothing is archived or deleted.",
)
@_dry_run
def add(session: Session, dir: tuple[str, ...], adopt: bool, enforce: bool, dry_run: bool) -> None:
    """Take folders under management. A folder that is a root already stays as it is.

    Each gets a marker, .lifecycle/root.json, by which it is recognised. `lifecycle sync` indexes
    it then; `lifecycle run` does both.
    """
    from lifecycle_sync.service.orders import preview_roots, register_roots

    settings = session.settings()
    added = preview_roots(settings, dir, adopt=adopt)
    if not dry_run:
        with session.engine(settings, create=True) as engine:
            added = register_roots(engine, dir, adopt=adopt, enforce=enforce)
    if session.as_json:
        write_json({"dry_run": dry_run, "roots": [_added_fields(item) for item in added]})
    elif not session.quiet:
        for item in added:
            write_line(_added_line(item, enforce=enforce, dry_run=dry_run))
        if any(item.created for item in added) and not dry_run:
            session.say("Next: `lifecycle sync` indexes what is new")


def _added_fields(item: AddedRoot) -> dict[str, Any]:
    return {
        **repository_fields(item.repository),
        "created": item.created,
        "note": utf8_text(item.note),
    }


def _added_line(item: AddedRoot, *, enforce: bool, dry_run: bool) -> str:
    root = name_text(item.repository.path)
    if item.created:
        verb = "would be registered" if dry_run else "registered"
        mode = "policies act on it" if enforce else "policies only advise (see --enforce)"
        text = f"{root}: {verb}; {mode}"
    elif enforce:
        text = f"{root}: is a root already; policies {'would ' if dry_run else ''}act on it"
    else:
        text = f"{root}: is a root already"
    return f"{text}; {name_text(item.note)}" if item.note else text


@command(
    "accept",
    examples="""
        lifecycle accept /srv/uploads
        lifecycle accept /srv/uploads/photo.jpg
    """,
)
@click.argument("path", metavar="DIR|FILE", type=click.Path(readable=False))
@_dry_run
def accept(session: Session, path: str, dry_run: bool) -> int:
    """Confirm what a guard holds, then sync that root at once.

    For a folder: that it is the right one although its disk, its inode or its marker changed, and
    that the files which vanished are meant to be gone. For a suspect file: that its content, which
    changed by itself, is right as it is.
    """
    from lifecycle_sync.service.orders import preview_acceptance

    with session.engine() as engine:
        if dry_run:
            repository, words = preview_acceptance(engine, path)
            _show_accepted(session, repository, words, dry_run=True)
            return 0
        repository, words = engine.accept(path)
        if not session.as_json:
            _show_accepted(session, repository, words, dry_run=False)
        return sync_roots(session, engine, [repository], also={"accepted": utf8_text(words)})


def _show_accepted(session: Session, repository: Repository, words: str, *, dry_run: bool) -> None:
    if session.as_json:
        write_json(
            {"dry_run": dry_run, "accepted": utf8_text(words), **path_fields(repository.path)}
        )
    elif not session.quiet:
        verb = "would accept" if dry_run else "accepted"
        write_line(f"{name_text(repository.path)}: {verb} {name_text(words)}")


@command(
    "remove",
    examples="""
        lifecycle remove /srv/uploads
        lifecycle remove /srv/uploads --yes
    """,
)
@directory_argument("dir")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_dry_run
def remove(session: Session, dir: str, yes: bool, dry_run: bool) -> None:
    """Forget a folder: its records go, its files stay as they are.

    The marker in it goes, too. Added again it is indexed anew, and its files get new ids.
    """
    from lifecycle_sync.service.orders import remove_root

    with session.engine() as engine:
        repository = engine.roots.get(dir)
        records = engine.registry.live_count(repository.repository_id)
        root = name_text(repository.path)
        forgets = f"forgets {root} with {count_text(records, 'record')}; its files stay"
        if not dry_run:
            _confirm(f"This {forgets}. Go on?", root, yes=yes)
            remove_root(engine, repository)
        if session.as_json:
            write_json({"dry_run": dry_run, **repository_fields(repository), "records": records})
        elif not session.quiet:
            verb = "would be removed" if dry_run else "removed"
            write_line(f"{root}: {verb} with {count_text(records, 'record')}; its files stay")


def _confirm(question: str, root: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "needs to be confirmed",
            operation="remove root",
            subject=root,
            remedy="add --yes; --dry-run shows what it would do",
        )
    click.confirm(question, abort=True, err=True)
