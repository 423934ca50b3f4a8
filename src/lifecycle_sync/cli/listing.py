"""Files and folders line by line: for people, as JSON, or as raw paths; a page at a time.

A page is asked for when the one before has been written, so a million lines take no more memory
than a thousand.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.output import flush, on_terminal, write_json, write_line, write_raw
from lifecycle_sync.cli.words import count_text, name_text, size_text, time_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import (
    FileFlag,
    FileQuery,
    FileRecord,
    FolderTotal,
    Kind,
    below,
    file_fields,
    flag_names,
    past_fields,
    path_fields,
)

if TYPE_CHECKING:
    from lifecycle_sync.cli.session import Session
    from lifecycle_sync.service.api import PastFile
    from lifecycle_sync.service.engine import Engine

_PAGE = 1_000
_ORDERS = {"path": "path", "size": "size", "mtime": "mtime", "changed": "seq"}
# Racy says nothing to a person: it settles by itself.
_TOLD_FLAGS = FileFlag.SUSPECT | FileFlag.UNREADABLE | FileFlag.UNSTABLE | FileFlag.CLAIMED
_DIM, _FOLDER, _WARN, _PLAIN = "\x1b[2m", "\x1b[1;34m", "\x1b[33m", "\x1b[0m"


def paging_options(function: Callable[..., object]) -> Callable[..., object]:
    """--sort, --limit, --cursor and --print0."""
    for option in (
        click.option(
            "-0",
            "--print0",
            is_flag=True,
            help="Give the exact paths alone, each ended by a NUL byte, for `xargs -0`.",
        ),
        click.option("--cursor", metavar="C", help="Go on where --limit ended (it tells the C)."),
        click.option(
            "--limit", type=click.IntRange(min=1), metavar="N", help="At most N, then a cursor."
        ),
        click.option(
            "--sort",
            type=click.Choice(list(_ORDERS)),
            default="path",
            help="path (default), size (largest first), mtime (oldest first), or changed (as the"
            " registry came to know).",
        ),
    ):
        function = option(function)
    return function


def order_of(sort: str) -> str:
    """The order of a query by what --sort says."""
    return _ORDERS[sort]


class Lister:
    """Writes files and folders in the form that was asked for."""

    def __init__(self, session: Session, engine: Engine, *, print0: bool) -> None:
        if print0 and session.as_json:
            raise UsageError(
                "do not go together",
                operation=session.command,
                subject="--json and --print0",
                remedy="leave one out",
            )
        self._session = session
        self._engine = engine
        self._print0 = print0
        self._coloured = on_terminal() and not os.environ.get("NO_COLOR")
        self.files = 0
        self.bytes = 0

    def stream(
        self, query: FileQuery, cursor: str | None, limit: int | None, name_from: bytes = b""
    ) -> str | None:
        """Write what a query finds; where to go on if `limit` ended it.

        Paths are shown relative to the absolute folder `name_from`, or absolute without it.
        """
        left = limit
        while left is None or left > 0:
            page = self._engine.registry.find(query, cursor, min(_PAGE, left or _PAGE))
            for record in page.records:
                self.file(record, name_from)
            flush()
            cursor = page.next_cursor
            if cursor is None:
                return None
            if left is not None:
                left -= len(page.records)
        return cursor

    def file(self, record: FileRecord, name_from: bytes = b"") -> None:
        """One file."""
        self.files += 1
        self.bytes += record.size
        root = self._engine.roots.path_of(record.repository_id)
        path = below(root, record.path)
        if self._session.as_json:
            write_json({"item": "file", **file_fields(record, root)})
        elif self._print0:
            write_raw(path + b"\0")
        else:
            shown = name_text(path[len(name_from) + 1 :] if name_from else path)
            kind = "link" if record.kind is Kind.SYMLINK else record.file_type.value
            facts = (
                f"{size_text(record.size):>9}  {time_text(record.mtime_ns)}  {kind:<8}"
                f"  {record.state.value:<15}"
            )
            flags = ""
            if record.flags & _TOLD_FLAGS:
                told = [name for name in flag_names(record) if name != "racy"]
                flags = self._in(_WARN, f"  [{', '.join(told)}]")
            write_line(f"{self._in(_DIM, facts)}  {shown}{flags}")

    def folder(
        self, path: bytes, files: int, size: int, name: bytes = b"", error: str | None = None
    ) -> None:
        """A folder with all below it; shown as `name` where that is given. `error` is why it could
        not be listed."""
        if self._session.as_json:
            fields = {**path_fields(path), "files": files, "bytes": size, "error": error}
            write_json({"item": "folder", **fields})
        elif self._print0:
            write_raw(path + b"\0")
        else:
            facts = f"{size_text(size):>9}  {count_text(files, 'file'):>16}  folder  {'':<17}"
            shown = self._in(_FOLDER, name_text(name or path) + "/")
            note = self._in(_WARN, f"  [{name_text(error).lower()}]") if error else ""
            write_line(f"{self._in(_DIM, facts)}  {shown}{note}")

    def past(self, item: PastFile | FolderTotal, root: bytes, under: bytes) -> None:
        """A file as it was, or a folder with what was below it."""
        start = len(under) + 1 if under else 0
        if isinstance(item, FolderTotal):
            self.folder(below(root, item.path), item.files, item.bytes, item.path[start:])
            return
        self.files += 1
        self.bytes += item.size
        path = below(root, item.path)
        if self._session.as_json:
            write_json({"item": "file", **past_fields(item, root)})
        elif self._print0:
            write_raw(path + b"\0")
        else:
            name = item.path[start:] or item.path
            facts = (
                f"{size_text(item.size):>9}  {time_text(item.mtime_ns)}  version {item.number:<4}"
                f"  kept {time_text(item.at_ns)}"
            )
            write_line(f"{self._in(_DIM, facts)}  {name_text(name)}")

    def end_past(self, archived: int, *, more: bool) -> None:
        """What is not in the list, and on a terminal what there was."""
        flush()
        if on_terminal() and self.files > 1:
            self._session.say(f"{count_text(self.files, 'file')}, {size_text(self.bytes)}")
        if archived:
            self._session.say(f"{count_text(archived, 'file')} of the root lay in the archive then")
        if more:
            self._session.say("There is more: give a greater --limit, or a folder further down")

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._coloured else text

    # -- the end ---------------------------------------------------------------------------

    def end(self, cursor: str | None, now_ns: int) -> None:
        """Tell where to go on, and on a terminal what there was."""
        if on_terminal() and self.files > 1:
            flush()
            self._session.say(f"{count_text(self.files, 'file')}, {size_text(self.bytes)}")
        if cursor is None:
            return
        token = _token(cursor, now_ns)
        if self._session.as_json:
            write_json({"item": "next", "cursor": token})
        else:
            flush()
            self._session.say(f"There is more: --cursor {token}")


# An age in a query counts from a moment, which must be the same for all its pages: it is in the
# token beside the registry's cursor.
def _token(cursor: str, now_ns: int) -> str:
    data = json.dumps([now_ns, cursor], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def open_token(token: str | None, now_ns: int) -> tuple[str | None, int]:
    """The registry's cursor and the moment that belong to a token. Raises `UsageError`."""
    if token is None:
        return None, now_ns
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        then_ns, cursor = json.loads(data)
        if isinstance(then_ns, int) and isinstance(cursor, str):
            return cursor, then_ns
    except ValueError:
        pass
    raise UsageError(
        "is no cursor",
        operation="find",
        subject=token,
        remedy="take the one that the page before has told, and the same options",
    )
