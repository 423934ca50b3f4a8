"""What changed in a directory between its records and a look at it.

The tuple (type, size, mtime_ns, ctime_ns, inode) is compared with `!=`. An equal tuple proves
nothing where the record is racy: it was taken within the clock's grain of the change (the "racy
git" problem), so such a file is hashed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lifecycle_sync.model.file import FileFlag, Tracking
from lifecycle_sync.model.observation import Listing
from lifecycle_sync.model.record import (
    OUTDATED,
    DirectoryChange,
    StoredDirectory,
    StoredFile,
)

_RACY = FileFlag.RACY.value
_IGNORED = Tracking.IGNORED.value
_TRACKED = Tracking.TRACKED.value


def unchanged(stored: StoredDirectory | None, listing: Listing) -> bool:
    """Whether the signatures prove that no record of the directory needs a look.

    What is ignored is in no signature, but its number is told to people.
    """
    return (
        stored is not None
        and stored.signature is not None
        and listing.error is None
        and stored.signature == listing.signature
        and stored.ignored_count == listing.ignored_count
    )


def differences(
    stored: StoredDirectory | None,
    records: Sequence[StoredFile],
    listing: Listing,
    *,
    ignored: Callable[[bytes], bool],
    missing_before: frozenset[int] = frozenset(),
    stable_inodes: bool = True,
) -> DirectoryChange:
    """The change that brings the records in step with the listing; `added_ids` is left open.

    `ignored` tells whether a file name is hidden by a rule: a record that is not listed then
    becomes untracked instead of missing. `missing_before` are row ids already noted as missing.
    """
    change = DirectoryChange(
        path=listing.path,
        directory_id=stored.directory_id if stored else None,
        error=listing.error,
    )
    if listing.error is not None:
        return change
    columns = listing.columns
    change.inode = listing.inode
    change.signature = listing.signature
    change.file_count = listing.file_count
    change.byte_count = listing.byte_count
    change.ignored_count = listing.ignored_count
    change.special_count = listing.special_count
    change.columns = columns
    if not records:
        change.added = range(len(columns))
        return change
    _compare(
        change,
        records,
        ignored=ignored,
        missing_before=missing_before,
        stable_inodes=stable_inodes,
    )
    return change


def _compare(
    change: DirectoryChange,
    records: Sequence[StoredFile],
    *,
    ignored: Callable[[bytes], bool],
    missing_before: frozenset[int],
    stable_inodes: bool,
) -> None:
    columns = change.columns
    by_name = {record.name: record for record in records}
    added: list[int] = []
    modified: list[tuple[int, int, bool]] = []
    settled: list[int] = []
    returned: list[int] = []
    for position, name in enumerate(columns.names):
        record = by_name.pop(name, None)
        if record is None:
            added.append(position)
            continue
        # One that was taken out is kept in step, too: by its tuple it stays out when it is renamed.
        if record.tracking == _IGNORED or record.row_id in missing_before:
            returned.append(record.row_id)
        content = (
            record.size != columns.sizes[position]
            or record.mtime_ns != columns.mtimes_ns[position]
            or record.kind != columns.kinds[position]
        )
        if (
            content
            or record.ctime_ns != columns.ctimes_ns[position]
            or (stable_inodes and record.inode != columns.inodes[position])
            or record.flags & OUTDATED
        ):
            modified.append((record.row_id, position, content))
        elif record.flags & _RACY and position not in columns.racy:
            settled.append(record.row_id)
    missing: list[int] = []
    untracked: list[int] = []
    for record in by_name.values():
        if not ignored(record.name):
            missing.append(record.row_id)
        elif record.tracking == _TRACKED:
            untracked.append(record.row_id)
    change.added, change.modified, change.settled = added, modified, settled
    change.missing, change.untracked, change.returned = missing, untracked, returned
