"""The past of a root: what its files were at a moment, as far as the backups can tell.

A file is as its newest version was that had been kept by then. What had been deleted or archived by
then is not there: the journal tells, and for what somebody deleted by hand the record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from lifecycle_sync.act.site import COMPLETED
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import to_iso
from lifecycle_sync.errors import NotFoundError, UsageError, VaultKeyError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.model.file import FileRecord, LifecycleState
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.past import PastFile
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.vault.past import PastTable
from lifecycle_sync.vault.vault import Vault, VaultKind

_DELETED, _ARCHIVED = LifecycleState.DELETED, LifecycleState.ARCHIVED
_DELETE, _ARCHIVE, _MOVE = "delete", "archive", "move"
# What takes a file away from its place, and what shows that it is there.
_TOLD = frozenset({_DELETE, _ARCHIVE, _MOVE, "undelete", "recall", "restore"})
_PAGE = 1000


@dataclass(frozen=True)
class Past:
    """A root at a moment, and how many of its files lay in the archive then. The caller closes the
    table."""

    repository: Repository
    at_ns: int
    table: PastTable
    archived: int


def backups_of(engine: Engine) -> Vault:
    """The backup vault, to be read; the caller closes it. Raises `VaultError`."""
    vault = engine.vaults.look_into(VaultKind.BACKUP)
    try:
        vault.require_key("look into the past", contents=False)
    except VaultKeyError:
        vault.close()
        raise
    return vault


def past_of(
    engine: Engine,
    vault: Vault,
    repository: Repository,
    at_ns: int,
    cancel: CancelToken | None = None,
) -> Past:
    """The files of a root at a moment. Raises `UsageError` for one to come, `NotFoundError` for one
    before the first backup."""
    if at_ns > engine.now_ns():
        raise UsageError(
            "that moment is still to come",
            operation="look into the past",
            subject=repository.path,
            remedy="name one that has been; `lifecycle plan --at` shows what is to come",
        )
    table = PastTable()
    try:
        first_ns = _add_versions(table, vault, repository, at_ns, cancel or CancelToken())
        if not len(table):
            raise _nothing_yet(repository, first_ns)
        archived = _leave_out(table, engine, repository, at_ns)
        table.settle()
    except BaseException:
        table.close()
        raise
    return Past(repository, at_ns, table, archived)


def _add_versions(
    table: PastTable, vault: Vault, repository: Repository, at_ns: int, cancel: CancelToken
) -> int | None:
    """When the first version of all was kept."""
    first_ns: int | None = None
    events = vault.all_versions(repository.repository_id)
    while page := list(islice(events, _PAGE)):
        cancel.check()
        first_ns = min(event.at_ns for event in page) if first_ns is None else first_ns
        table.add(_past_file(event) for event in page if event.at_ns <= at_ns)
    return first_ns


def _past_file(event: VersionEvent) -> PastFile:
    it = event.metadata
    return PastFile(
        event.file_id,
        event.path,
        event.number,
        event.version_id,
        event.at_ns,
        it.kind,
        it.size,
        it.mtime_ns,
        event.content,
    )


def _nothing_yet(repository: Repository, first_ns: int | None) -> NotFoundError:
    if first_ns is None:
        cause, remedy = "no version of any of its files is in the vault", "`lifecycle backup`"
    else:
        cause = f"nothing had been kept of it by then; the first backup was at {to_iso(first_ns)}"
        remedy = "name a later moment"
    return NotFoundError(
        cause, operation="look into the past", subject=repository.path, remedy=remedy
    )


def _leave_out(table: PastTable, engine: Engine, repository: Repository, at_ns: int) -> int:
    """Take out what was not at its place; how many files lay in the archive."""
    after = None
    while page := engine.registry.journal(after, _PAGE, types=_TOLD):
        then = [it for it in page if it.status == COMPLETED and it.timestamp_ns <= at_ns]
        table.tell((it.file_id, it.operation_type, it.timestamp_ns) for it in then)
        table.move(
            (it.file_id, path, it.timestamp_ns)
            for it in then
            if (path := _moved_to(it)) is not None
        )
        after = page[-1].operation_id
    # Who deletes by hand writes no journal; and what is away now may have been for long.
    for state, verb in ((_DELETED, _DELETE), (_ARCHIVED, _ARCHIVE)):
        query = FileQuery(repository.repository_id, states=frozenset({state}), include_deleted=True)
        table.tell(
            (
                (record.file_id, verb, record.state_since_ns)
                for record in _records(engine, query)
                if record.state_since_ns <= at_ns
            ),
            again=False,
        )
    table.leave_out(_DELETE)
    return table.leave_out(_ARCHIVE)


def _moved_to(it: Operation) -> bytes | None:
    """Where a file went, as the journal has it; an odd name is not told by its bytes there, so it
    is passed over."""
    if it.operation_type != _MOVE or it.details is None:
        return None
    after = json.loads(it.details).get("after")
    return None if not isinstance(after, str) or "\\x" in after else os.fsencode(after)


def _records(engine: Engine, query: FileQuery) -> Iterator[FileRecord]:
    cursor = None
    while True:
        page = engine.registry.find(query, cursor, _PAGE)
        yield from page.records
        cursor = page.next_cursor
        if cursor is None:
            return


def present_of(engine: Engine, repository: Repository) -> Past:
    """A root as the registry knows it now, as `Past`. The caller closes the table."""
    table = PastTable()
    try:
        archived = 0

        def there() -> Iterator[PastFile]:
            nonlocal archived
            for record in _records(engine, FileQuery(repository.repository_id)):
                if record.state is _ARCHIVED:
                    archived += 1
                else:
                    yield _present_file(record)

        table.add(there())
    except BaseException:
        table.close()
        raise
    return Past(repository, engine.now_ns(), table, archived)


def _present_file(it: FileRecord) -> PastFile:
    known = it.checksum is not None and not it.hash_due
    content = ContentKey(it.algorithm, it.checksum) if known and it.checksum else None
    return PastFile(
        it.file_id, it.path, it.version, b"", it.changed_ns, it.kind, it.size, it.mtime_ns, content
    )


# -- differences ---------------------------------------------------------------------------


class Change(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


class Difference(NamedTuple):
    """A file that is not the same at two moments; `old` is None for an added one, `new` for a
    removed one."""

    change: Change
    old: PastFile | None
    new: PastFile | None


def differences(old: Past, new: Past, under: bytes = b"") -> Iterator[Difference]:
    """What differs at or below a path, by path (a moved file stands at its new one). A moved file
    may be changed as well, which its sizes and contents tell."""
    before, after = old.table.files(under), new.table.files(under)
    left, right = next(before, None), next(after, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.path < right.path):
            assert left is not None
            if not _lives_elsewhere(left, new, under):
                yield Difference(Change.REMOVED, left, None)
            left = next(before, None)
        elif left is None or right.path < left.path:
            was = old.table.of_file(right.file_id)
            if was is not None and was.path != right.path:
                yield Difference(Change.MOVED, was, right)
            else:
                yield Difference(Change.ADDED, None, right)
            right = next(after, None)
        else:
            if not _is_same(left, right):
                yield Difference(Change.CHANGED, left, right)
            left, right = next(before, None), next(after, None)


def _lives_elsewhere(file: PastFile, new: Past, under: bytes) -> bool:
    """Whether it is told of as moved, at its new place."""
    now = new.table.of_file(file.file_id)
    if now is None or now.path == file.path:
        return False
    return not under or now.path == under or now.path.startswith(under + b"/")


def _is_same(old: PastFile, new: PastFile) -> bool:
    if old.kind is not new.kind or old.size != new.size:
        return False
    if old.content and new.content and old.content.algorithm == new.content.algorithm:
        return old.content == new.content
    return old.mtime_ns == new.mtime_ns
