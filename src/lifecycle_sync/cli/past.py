"""`lifecycle diff`, and folders as they were: what backups tell of the past."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.listing import Lister
from lifecycle_sync.cli.output import flush, on_terminal, write_json, write_line
from lifecycle_sync.cli.quantities import When, moment
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import name_text, size_text, time_text
from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.service.api import FolderTotal, below, past_fields, path_fields

if TYPE_CHECKING:
    from lifecycle_sync.service.api import PastFile
    from lifecycle_sync.service.engine import Engine
    from lifecycle_sync.service.past import Difference, Past

_SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}
_COLOURS = {"added": "\x1b[32m", "removed": "\x1b[31m", "changed": "\x1b[33m", "moved": "\x1b[36m"}
_PLAIN = "\x1b[0m"


@command(
    "diff",
    notes="A line a file: + added, - removed, ~ changed, > moved (to where it stands). The past is"
    " what backups tell: a file is as its newest version was that had been kept by then, and a"
    " change between two backups is not seen. Without a second --at the past is compared with what"
    " the registry knows now. Exit code 0, also where something differs.",
    examples="""
        lifecycle diff /srv/uploads --at 7d
        lifecycle diff /srv/uploads/2026 --at 2026-10-01 --at 2026-11-01T12:00
    """,
)
@directory_argument("path")
@click.option(
    "--at",
    "at",
    callback=lambda ctx, param, values: [moment(ctx, param, value) for value in values],
    metavar="WHEN",
    multiple=True,
    required=True,
    help="A moment: a date or time, or how long ago (3d, 2w). Given twice: from the first to the"
    " second.",
)
def diff(session: Session, *, path: str, at: list[When]) -> None:
    """Show what became of the files of a folder or a root between two moments."""
    if len(at) > 2:
        raise UsageError(
            "two moments can be compared",
            operation="diff",
            subject="--at",
            remedy="give it once (then until now) or twice",
        )
    from lifecycle_sync.service.past import differences

    with session.engine() as engine, ExitStack() as held:
        now_ns = engine.now_ns()
        moments = [when.ns(now_ns) for when in at]
        under, (old, new) = _pasts(engine, held, path, [*moments, None][:2])
        root, counts, size = old.repository.path, dict.fromkeys(_SIGNS, 0), 0
        for difference in differences(old, new, under):
            counts[difference.change.value] += 1
            size += (difference.new.size if difference.new else 0) - (
                difference.old.size if difference.old else 0
            )
            _show(session, difference, root)
        if on_terminal() and not session.as_json:
            flush()
            told = [f"{count:,} {word}" for word, count in counts.items() if count]
            sign = "-" if size < 0 else "+"
            session.say(f"{', '.join(told) or 'nothing differs'}; {sign}{size_text(abs(size))}")


def _pasts(
    engine: Engine, held: ExitStack, name: str, moments: list[int | None]
) -> tuple[bytes, list[Past]]:
    """The path below its root, and the root at each of the moments (None: as it is known now)."""
    from lifecycle_sync.service.past import backups_of, past_of, present_of
    from lifecycle_sync.service.targets import resolve_gone

    target = resolve_gone(engine, name, "look into the past")
    vault = held.enter_context(backups_of(engine))
    pasts = []
    for at_ns in moments:
        if at_ns is None:
            past = present_of(engine, target.repository)
        else:
            past = past_of(engine, vault, target.repository, at_ns)
        held.enter_context(past.table)
        pasts.append(past)
    return target.path, pasts


def _show(session: Session, it: Difference, root: bytes) -> None:
    change = it.change.value
    file = it.new or it.old
    assert file is not None
    if session.as_json:
        fields: dict[str, Any] = {"item": "difference", "change": change}
        fields |= path_fields(below(root, file.path))
        for key, side in (("old", it.old), ("new", it.new)):
            fields[key] = None if side is None else past_fields(side, root)
        write_json(fields)
        return
    size = size_text(file.size)
    was = size if it.old is None else size_text(it.old.size)
    if was != size:
        size = f"{was} → {size}"
    text = f"{_SIGNS[change]} {size:>21}  {name_text(below(root, file.path))}"
    if change == "moved" and it.old is not None:
        text += f"  (was {name_text(below(root, it.old.path))})"
    if on_terminal() and not os.environ.get("NO_COLOR"):
        text = f"{_COLOURS[change]}{text}{_PLAIN}"
    write_line(text)


def list_past(
    lister: Lister, engine: Engine, name: str, at_ns: int, *, recursive: bool, limit: int | None
) -> None:
    """Write a folder (or a file) as it was."""
    with ExitStack() as held:
        under, (past,) = _pasts(engine, held, name, [at_ns])
        shown, more = 0, False
        for item in _entries(past, under, recursive=recursive):
            if limit is not None and shown == limit:
                more = True
                break
            shown += 1
            lister.past(item, past.repository.path, under)
        lister.end_past(past.archived, more=more)
        if not shown:
            raise NotFoundError(
                f"was not there on {time_text(at_ns)}, as far as backups tell",
                operation="ls",
                subject=name,
                remedy="`lifecycle diff` shows what became of a folder since a moment",
            )


def _entries(past: Past, under: bytes, *, recursive: bool) -> Iterator[PastFile | FolderTotal]:
    files = past.table.files(under)
    return files if recursive else _grouped(files, len(under) + 1 if under else 0)


def _grouped(files: Iterable[PastFile], start: int) -> Iterator[PastFile | FolderTotal]:
    """What lies in a folder: files, and sub-folders with all below them. By path, so that what one
    of them holds comes in a row."""
    folder: FolderTotal | None = None
    for file in files:
        end = file.path.find(b"/", start)
        path = None if end < 0 else file.path[:end]
        if folder is not None and folder.path != path:
            yield folder
            folder = None
        if path is None:
            yield file
        elif folder is None:
            folder = FolderTotal(path, 1, file.size)
        else:
            folder = FolderTotal(path, folder.files + 1, folder.bytes + file.size)
    if folder is not None:
        yield folder
