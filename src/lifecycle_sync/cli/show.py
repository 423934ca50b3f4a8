"""`lifecycle show` and `lifecycle history`: one file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Styled, Table, Text
from lifecycle_sync.cli.sheet import show as show_sheet
from lifecycle_sync.cli.words import count_text, size_text, time_text
from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.service.api import (
    FileFlag,
    FileRecord,
    LifecycleState,
    Operation,
    Tracking,
    VersionRow,
    below,
    file_fields,
    flag_names,
    operation_fields,
    to_iso,
    to_text,
    utf8_text,
    version_fields,
)

if TYPE_CHECKING:
    from lifecycle_sync.service.engine import Engine

_file_argument = click.argument("file", metavar="FILE|ID", type=click.Path(readable=False))


def _record(engine: Engine, file: str) -> tuple[FileRecord, bytes]:
    """The record and its root's path."""
    try:
        record = engine.find_record(file)
    except NotFoundError as error:
        if os.path.isdir(file):
            raise NotFoundError(
                "is a folder",
                operation=error.operation,
                subject=file,
                remedy="`lifecycle ls` lists it",
            ) from error
        raise
    return record, engine.roots.path_of(record.repository_id)


@command(
    "show",
    examples="""
        lifecycle show /srv/uploads/photo.jpg
        lifecycle show 019a1b2c-3d4e-7f00-8000-0123456789ab --json
    """,
)
@_file_argument
def show(session: Session, file: str) -> None:
    """Show all that is known of one file, by its path or its id. A file that is gone, too."""
    from lifecycle_sync.service.orders import why_unreadable
    from lifecycle_sync.service.trash_orders import trash_of_file

    with session.engine() as engine:
        record, root = _record(engine, file)
        versions = engine.registry.versions(record.file_id)
        trash = trash_of_file(engine, record)
        if session.as_json:
            fields = file_fields(record, root)
            fields["versions"] = [version_fields(row) for row in versions]
            fields["in_trash_until"] = [to_iso(it.batch.until_ns) for it in trash]
            write_json(fields)
            return
        why = why_unreadable(engine, record) if record.flags & FileFlag.UNREADABLE else ""
        until = [it.batch.until_ns for it in trash]
        show_sheet([*_sheet(record, root, why, until), *_versions(record, versions)])


def _changes(count: int) -> str:
    times = "once" if count == 1 else f"{count:,} times"
    return f"changed {times} since it was registered" if count else "as it was registered"


def _kept(record: FileRecord) -> Text:
    places = ((record.backup_path, "in the vault"), (record.archive_path, "in the archive"))
    return " and ".join(words for place, words in places if place) or Styled(
        "no copy yet: `lifecycle backup`", "warn"
    )


def _versions(record: FileRecord, versions: list[VersionRow]) -> list[Block]:
    if not versions:
        return []
    rows: list[list[Text]] = [
        [
            str(row.number),
            size_text(row.size),
            time_text(row.mtime_ns),
            time_text(row.created_ns),
            _kept_in(record, row),
            row.checksum.hex()[:16] if row.checksum else "",
        ]
        for row in versions
    ]
    headers = ("version", "size", "modified", "kept since", "in", "content")
    return [Table("Versions", rows, headers, frozenset({0, 1}))]


def _kept_in(record: FileRecord, row: VersionRow) -> str:
    """The vault of a version, by its id, which begins the places of the record's own copies."""
    store = (row.location or "").partition("/")[0]
    for place, name in ((record.backup_path, "vault"), (record.archive_path, "archive")):
        if place and store and place.startswith(store):
            return name
    return "a vault"


def _sheet(record: FileRecord, root: bytes, why: str, trash_until: Sequence[int]) -> list[Block]:
    gone = record.state is LifecycleState.DELETED
    checksum = record.checksum.hex() if record.checksum else "none yet"
    if record.checksum and record.hash_due:
        checksum += "  (of older bytes: to be hashed again)"
    rows: list[list[Text]] = [
        ["id", to_text(record.file_id)],
        ["type", f"{record.file_type.value}, {record.kind.name.lower().replace('_', ' ')}"],
        ["size", size_text(record.size) + (f" ({record.size:,} bytes)" if record.size else "")],
        ["modified", time_text(record.mtime_ns)],
        ["state", f"{record.state.value}, since {time_text(record.state_since_ns)}"],
        ["policy", record.policy_name + (" (set by hand)" if record.policy_explicit else "")],
        [record.algorithm if record.checksum else "checksum", checksum],
        ["content", _changes(record.version - 1)],
        ["kept", _kept(record)],
        ["owner", f"{record.uid}:{record.gid}, mode {record.mode & 0o7777:04o}"],
        ["inode", f"{record.inode % 2**64}, {count_text(record.nlink, 'link')}"],
        ["registered", time_text(record.registered_ns)],
        ["last seen", time_text(record.scanned_ns)],
    ]
    if gone:
        rows.pop()
    if record.tracking is not Tracking.TRACKED:
        rows.append(["tracking", Styled(record.tracking.name.lower(), "warn")])
    told = [name for name in flag_names(record) if name != "racy"]
    if told:
        rows.append(["flags", Styled(", ".join(told), "warn")])
    rows += [
        ["trash", f"until {time_text(until_ns)}: `lifecycle undelete` gives it back"]
        for until_ns in trash_until
    ]
    if why:
        rows.append(["unreadable", Styled(why, "warn")])
    note = Styled("gone", "warn") if gone else ""
    return [Heading(utf8_text(below(root, record.path)), note), Table("", rows)]


@command(
    "history",
    examples="""
        lifecycle history /srv/uploads/photo.jpg
        lifecycle history /srv/uploads/photo.jpg --limit 5 --json
    """,
)
@_file_argument
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="At most N operations.",
)
def history(session: Session, file: str, limit: int) -> None:
    """Show what was done to one file, newest first: the journal, its versions, and the times of
    its record."""
    with session.engine() as engine:
        record, root = _record(engine, file)
        operations = engine.registry.operations(record.file_id, limit)
        versions = engine.registry.versions(record.file_id)
    if session.as_json:
        write_json(
            {
                "file": file_fields(record, root),
                "operations": [operation_fields(operation) for operation in operations],
                "versions": [version_fields(row) for row in versions],
            }
        )
        return
    events = [(item.timestamp_ns, _told(item)) for item in operations]
    events += _record_events(record)
    told = {_details(item.details).get("version") for item in operations}
    events += [
        (row.created_ns, [f"version {row.number}", f"{size_text(row.size)} in the vault"])
        for row in versions
        if row.number not in told
    ]
    events.sort(key=lambda event: -event[0])
    rows: list[list[Text]] = [[time_text(at_ns), *told] for at_ns, told in events]
    show_sheet([Heading(utf8_text(below(root, record.path))), Table("", rows)])


def _record_events(record: FileRecord) -> list[tuple[int, list[Text]]]:
    events: list[tuple[int, list[Text]]] = [
        (record.registered_ns, ["registered", "the registry came to know it"])
    ]
    if record.state_since_ns != record.registered_ns:
        events.append((record.state_since_ns, [record.state.value, "its state since then"]))
    if record.changed_ns not in (record.registered_ns, record.state_since_ns):
        events.append(
            (
                record.changed_ns,
                ["recorded", f"last change of the record (version {record.version})"],
            )
        )
    return events


def _told(operation: Operation) -> list[Text]:
    details = _details(operation.details)
    status = "" if operation.status == "completed" else f" ({operation.status})"
    if operation.operation_type == "move":
        text = f"{details.get('before', '?')} → {details.get('after', '?')}"
    else:
        text = ", ".join(part for item in details.items() if (part := _detail(*item)))
    style = "bad" if operation.status == "failed" else "strong"
    return [Styled(operation.operation_type + status, style), text]


def _detail(key: str, value: object) -> str:
    """One thing that an operation noted, in words; empty for what is of no use to a person."""
    if key == "until_ns" and isinstance(value, int):
        return f"in the trash until {time_text(value)}"
    if key in ("reason", "result"):
        return str(value)
    if key == "version":
        return f"version {value}"
    if key == "recovered":
        return "settled after an interruption"
    return "" if key in ("trash", "to_bytes") else f"{key}: {value}"


def _details(text: str | None) -> dict[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
