"""`lifecycle find`: questions about files, answered from the registry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.duplicates import list_duplicates
from lifecycle_sync.cli.listing import Lister, open_token, order_of, paging_options
from lifecycle_sync.cli.quantities import When, moment, size_bytes
from lifecycle_sync.cli.session import Session
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import (
    FileFlag,
    FileQuery,
    FileType,
    LifecycleState,
    Repository,
    below,
)

if TYPE_CHECKING:
    from lifecycle_sync.service.engine import Engine

_TOP = 10
_NOTES = """PATTERN is a shell pattern for the last part of the path ('*.jpg', 'IMG_?.*'); without
any of *?[ it may stand anywhere in it. Case counts, unless -i is given.

\b
SIZE  500, 10k, 1.5M, 2GiB     binary units: 1k is 1024 bytes
AGE   12h, 30d, 2w, 1y         back from now (also s, min); or a date: 2026-01-31,
                               2026-01-31T12:00 (local time)

Columns: size, time of modification (local), type, state, path. --json gives one line a record, its
`item` being "file", "folder", "duplicates" or "next". With --suspect and --unreadable either will
do, and so for several of --type or --state."""


def _filters(function: Callable[..., object]) -> Callable[..., object]:
    types = click.Choice([kind.value for kind in FileType])
    states = click.Choice([state.value for state in LifecycleState])
    for option in reversed(
        (
            click.option("--larger", metavar="SIZE", callback=size_bytes, help="Over SIZE."),
            click.option("--smaller", metavar="SIZE", callback=size_bytes, help="Under SIZE."),
            click.option(
                "--older", metavar="AGE", callback=moment, help="Not modified for AGE, or before."
            ),
            click.option(
                "--newer", metavar="AGE", callback=moment, help="Modified within AGE, or since."
            ),
            click.option(
                "--changed-since",
                metavar="WHEN",
                callback=moment,
                help="Whose record changed since (an AGE or a date): new, modified, moved.",
            ),
            click.option("--type", "types", multiple=True, type=types, help="Of this type."),
            click.option("--state", "states", multiple=True, type=states, help="In this state."),
            click.option("--deleted", is_flag=True, help="Also files that are gone."),
            click.option("--suspect", is_flag=True, help="Whose content changed by itself."),
            click.option("--unreadable", is_flag=True, help="That could not be read."),
            click.option(
                "--under", metavar="DIR", type=click.Path(readable=False), help="Only below DIR."
            ),
            click.option("-i", "--ignore-case", is_flag=True, help="For PATTERN."),
            click.option("--duplicates", is_flag=True, help="Groups of files with one content."),
            click.option(
                "--top-folders",
                is_flag=True,
                help=f"The largest folders (of DIR), {_TOP} unless --limit says otherwise.",
            ),
        )
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question as it was put; the fields are those of the options."""

    pattern: str | None
    larger: int | None
    smaller: int | None
    older: When | None
    newer: When | None
    changed_since: When | None
    types: tuple[str, ...]
    states: tuple[str, ...]
    deleted: bool
    suspect: bool
    unreadable: bool
    under: str | None
    ignore_case: bool
    sort: str


@command(
    "find",
    notes=_NOTES,
    examples="""
        lifecycle find --larger 100M --older 1y --sort size
        lifecycle find '*.psd' --under ~/Pictures --newer 2w
        lifecycle find --changed-since 1d --deleted
        lifecycle find --duplicates --larger 1M
        lifecycle find --top-folders --under /srv
        lifecycle find --suspect --json
    """,
)
@click.argument("pattern", required=False)
@_filters
@paging_options
def find(
    session: Session,
    *,
    duplicates: bool,
    top_folders: bool,
    limit: int | None,
    cursor: str | None,
    print0: bool,
    **asked: object,
) -> None:
    """Search the registry. Every condition must hold; without any, all files.

    This asks the registry, not the disk: it is as true as the last sync.
    """
    question = _Asked(**asked)  # type: ignore[arg-type]
    with session.engine() as engine:
        lister = Lister(session, engine, print0=print0)
        inner, now_ns = open_token(cursor, engine.now_ns())
        place = _place(engine, question)
        if top_folders:
            _refuse_with("--top-folders", question, allowed={"under"})
            _list_top_folders(lister, engine, place, limit or _TOP)
            return
        if duplicates:
            allowed = {"under", "larger", "smaller", "types"}
            _refuse_with("--duplicates", question, allowed=allowed)
            rest = list_duplicates(
                session,
                engine,
                place,
                cursor=inner,
                limit=limit,
                min_size=0 if question.larger is None else question.larger + 1,
                max_size=None if question.smaller is None else question.smaller - 1,
                types=frozenset(FileType(kind) for kind in question.types),
                print0=print0,
            )
        else:
            rest = lister.stream(_query(question, place, now_ns), inner, limit)
        lister.end(rest, now_ns)


def _place(engine: Engine, asked: _Asked) -> tuple[Repository, bytes] | None:
    from lifecycle_sync.service.orders import folder_at

    return None if asked.under is None else folder_at(engine, asked.under)


def _query(asked: _Asked, place: tuple[Repository, bytes] | None, now_ns: int) -> FileQuery:
    flags = FileFlag(0)
    if asked.suspect:
        flags |= FileFlag.SUSPECT
    if asked.unreadable:
        flags |= FileFlag.UNREADABLE

    def at(when: When | None) -> int | None:
        return None if when is None else when.ns(now_ns)

    return FileQuery(
        repository_id=None if place is None else place[0].repository_id,
        under=b"" if place is None else place[1],
        name_glob=None if asked.pattern is None else _glob(asked.pattern, asked.ignore_case),
        # "Over" and "under" leave the size itself out; the query's bounds are in.
        min_size=None if asked.larger is None else asked.larger + 1,
        max_size=None if asked.smaller is None else asked.smaller - 1,
        modified_before_ns=at(asked.older),
        modified_after_ns=at(asked.newer),
        changed_since_ns=at(asked.changed_since),
        states=frozenset(LifecycleState(state) for state in asked.states),
        types=frozenset(FileType(kind) for kind in asked.types),
        flags=flags.value,
        include_deleted=asked.deleted,
        order=order_of(asked.sort),
    )


def _glob(pattern: str, ignore_case: bool) -> bytes:
    """The registry's pattern: as the shell's, but for `[^…]` where the shell has `[!…]`."""
    if "/" in pattern:
        raise UsageError(
            "has a slash, and is for the last part of a path only",
            operation="find",
            subject=pattern,
            remedy="name the folder with --under",
        )
    text = pattern.replace("[!", "[^")
    if not any(special in pattern for special in "*?["):
        text = f"*{text}*"
    return os.fsencode("".join(_any_case(text)) if ignore_case else text)


def _any_case(pattern: str) -> Iterator[str]:
    in_class = False
    for character in pattern:
        both = "".join(dict.fromkeys((character, character.lower(), character.upper())))
        if in_class or len(both) == 1:
            # A range such as a-z stays one: its other case stands beside it.
            yield character if character in "-^]" else both
        else:
            yield f"[{both}]"
        in_class = character != "]" if in_class else character == "["


def _refuse_with(option: str, asked: _Asked, *, allowed: set[str]) -> None:
    """Conditions that would be passed over silently are refused."""
    plain = _Asked(None, None, None, None, None, None, (), (), *(False,) * 3, None, False, "path")
    for name in _Asked.__slots__:
        if name not in allowed and getattr(asked, name) != getattr(plain, name):
            word = "PATTERN" if name == "pattern" else "--" + name.rstrip("s").replace("_", "-")
            raise UsageError(
                f"does not go with {option}",
                operation="find",
                subject=word,
                remedy=f"leave it out; {option} goes with"
                f" {', '.join('--' + item.rstrip('s') for item in sorted(allowed))}",
            )


def _list_top_folders(
    lister: Lister, engine: Engine, place: tuple[Repository, bytes] | None, limit: int
) -> None:
    places = [(item, b"") for item in engine.roots.all()] if place is None else [place]
    found = [
        (total, below(repository.path, total.path))
        for repository, under in places
        for total in engine.registry.top_folders(repository.repository_id, under, limit)
    ]
    found.sort(key=lambda item: (-item[0].bytes, item[1]))
    for total, path in found[:limit]:
        lister.folder(path, total.files, total.bytes)
