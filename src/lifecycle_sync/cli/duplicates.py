"""Groups of files with one content, as `lifecycle find --duplicates` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle_sync.cli.output import flush, write_json, write_line
from lifecycle_sync.cli.words import name_text, size_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import (
    Duplicates,
    FileType,
    Repository,
    below,
    copies,
    duplicates_fields,
    waste,
)

if TYPE_CHECKING:
    from lifecycle_sync.cli.session import Session
    from lifecycle_sync.service.engine import Engine

_PAGE = 500


def list_duplicates(
    session: Session,
    engine: Engine,
    place: tuple[Repository, bytes] | None,
    *,
    cursor: str | None,
    limit: int | None,
    min_size: int,
    max_size: int | None,
    types: frozenset[FileType],
    print0: bool,
) -> str | None:
    """Write the groups whose size is in bounds and of which a file lies at `place` and is of one of
    `types`; all files of such a group are named. Returns where to go on if `limit` ended it."""
    if print0:
        raise UsageError(
            "does not go with --duplicates",
            operation="find",
            subject="--print0",
            remedy="use --json: it keeps the files of a group together",
        )
    left = limit
    while left is None or left > 0:
        page = min(_PAGE, left or _PAGE)
        groups, cursor = engine.registry.duplicates(None, cursor, page)
        for group in groups:
            fits = group.size >= min_size and (max_size is None or group.size <= max_size)
            if fits and _is_of(group, place, types):
                _write(session, engine, group)
                left = None if left is None else left - 1
        flush()
        if cursor is None:
            return None
    return cursor


def _is_of(
    group: Duplicates, place: tuple[Repository, bytes] | None, types: frozenset[FileType]
) -> bool:
    return any(
        (not types or record.file_type in types)
        and (place is None or _lies_in(record.repository_id, record.path, place))
        for record in group.records
    )


def _lies_in(repository_id: bytes, path: bytes, place: tuple[Repository, bytes]) -> bool:
    repository, under = place
    inside = not under or path.startswith(under + b"/")
    return repository_id == repository.repository_id and inside


def _write(session: Session, engine: Engine, group: Duplicates) -> None:
    root_of = engine.roots.path_of
    if session.as_json:
        write_json({"item": "duplicates", **duplicates_fields(group, root_of)})
        return
    spare = size_text(waste(group))
    write_line(f"{copies(group)} × {size_text(group.size)}, {spare} could be spared")
    for record in group.records:
        write_line(f"    {name_text(below(root_of(record.repository_id), record.path))}")
