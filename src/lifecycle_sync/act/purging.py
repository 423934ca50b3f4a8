"""Unlinks for good what lies in the trash past its grace: the end of an archive and of a delete.

Nothing goes but what still is what was taken. What was archived goes only when the archive gives
its copy back, byte for byte, at that very time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lifecycle_sync.act.site import COMPLETED, Done, Results, Site, intend, note, tell
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.act import PURGED, ActOutcome
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import StateEvent
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.trash import TrashBatch, TrashEntry, TrashOutcome, TrashReason
from lifecycle_sync.vault.bulk import BulkReader
from lifecycle_sync.vault.frames import new_hasher

_log = logging.getLogger(__name__)
# Files whose copies are read before the first of them goes.
_EARLY = 20
# What a file lacks of the copies that are demanded of its content before it goes, in words.
Unproven = Callable[[bytes, ContentKey], str]
# Files that are in no other place than a vault, if there.
_AWAY = frozenset({LifecycleState.DELETED, LifecycleState.ARCHIVED})


def purge(
    site: Site,
    batch_id: bytes,
    *,
    erase_limits: tuple[str, ...] | None = None,
    unproven: Unproven | None = None,
) -> list[Done]:
    """Unlink what lies in a batch of the trash past its grace and is still what was taken; what is
    not stays, and is told. With `erase_limits` files are overwritten before. `unproven` says what
    an archived file lacks of the copies that its policy demands."""
    batch = site.trash.batch(batch_id)
    if batch is None:
        return []
    entries = site.trash.left(batch)
    done = _purge_batch(site, batch, entries, erase_limits, unproven=unproven)
    site.trash.tidy(batch)
    return done


def purge_early(
    site: Site,
    batch_id: bytes,
    *,
    copy: Callable[[TrashEntry], str],
    enough: Callable[[], bool],
    reason: str,
    unproven: Unproven | None = None,
) -> list[Done]:
    """Unlink what lies in a batch before its grace ends, because room is needed: only that of which
    `copy` finds a copy that it has just read (it says where; empty where there is none), and that
    has the content it was taken for; until `enough`."""
    batch = site.trash.batch(batch_id)
    done: list[Done] = []
    if batch is None:
        return done
    entries = site.trash.left(batch)
    for start in range(0, len(entries), _EARLY):
        if site.cancel.cancelled or enough():
            break
        copies = {entry: copy(entry) for entry in entries[start : start + _EARLY]}
        early = _Early({entry: where for entry, where in copies.items() if where}, reason, enough)
        done += _purge_batch(site, batch, list(early.copies), None, early, unproven=unproven)
    site.trash.tidy(batch)
    return done


class _Early(NamedTuple):
    """What goes before its grace ends: where its copies lie, why, and whether it is enough."""

    copies: dict[TrashEntry, str]
    reason: str
    enough: Callable[[], bool]


def _purge_batch(
    site: Site,
    batch: TrashBatch,
    entries: Sequence[TrashEntry],
    erase_limits: tuple[str, ...] | None,
    early: _Early | None = None,
    *,
    unproven: Unproven | None = None,
) -> list[Done]:
    known = site.registry.act_files([entry.file_id for entry in entries])
    by_file: dict[bytes, TrashEntry] = {}
    for entry in entries:
        if entry.file_id in known:
            by_file.setdefault(entry.file_id, entry)
    files = [known[file_id] for file_id in by_file]
    ordered = intend(site, "purge", files, unless_held=True)
    results = Results(ordered.refused)
    archived = batch.reason is TrashReason.ARCHIVE
    check = content_check(site) if archived or early is not None else None
    # Of what goes early a copy was read already.
    last = archived and early is None
    copies = _Copies(site, [by_file[file.file_id] for _, file in ordered.files]) if last else None
    for operation_id, file in ordered.files:
        entry = by_file[file.file_id]
        if early is not None and early.enough():
            results.skip(operation_id, file, "there is room enough again")
            continue
        lacking = copies.lacking(entry) if copies and file.state in _AWAY else ""
        key = _key_of(entry)
        demanded = ""
        if archived and file.state in _AWAY and unproven and key and not lacking:
            demanded = unproven(entry.file_id, key)
        if demanded:
            outcome = TrashOutcome(False, f"{demanded}; it is kept")
        elif lacking:
            outcome = TrashOutcome(False, f"{lacking}; it is kept", alarm=True)
        else:
            outcome = site.trash.purge(batch, entry, check=check, erase_limits=erase_limits)
        site.told.advance(1, entry.fingerprint.size)
        at = file._replace(path=entry.path, size=entry.fingerprint.size)
        if outcome.ok:
            details = note(
                trash=to_text(batch.batch_id),
                freed=outcome.freed,
                erased=erase_limits is not None,
                reason=early.reason if early else "",
                copy=early.copies[entry] if early else "",
            )
            results.add(at, ActOutcome(operation_id, COMPLETED, details))
            state = file.state
            site.owed.append(
                StateEvent(
                    file.file_id,
                    site.repository_id,
                    entry.path,
                    state,
                    site.now_ns(),
                    operation_id,
                    PURGED,
                )
            )
        else:
            if outcome.alarm:
                _log.warning("%s stays in the trash: %s", os.fsdecode(entry.path), outcome.reason)
            results.skip(operation_id, at, outcome.reason)
    return results.finish(site, tell(site))


class _Copies:
    """The archive's copies of files whose last other bytes are about to go: each is read once more,
    for between then and now its disk may have died."""

    def __init__(self, site: Site, entries: Sequence[TrashEntry]) -> None:
        self._reader: BulkReader | None = None
        self._why = ""
        try:
            self._vault = site.vaults.archive()
            self._reader = BulkReader(self._vault)
            self._reader.prepare([key for key in map(_key_of, entries) if key])
        except LifecycleError as error:
            self._why = f"the archive cannot be read ({error.cause})"

    def lacking(self, entry: TrashEntry) -> str:
        """Why there is no whole copy of a file; empty where there is one."""
        if self._reader is None or self._why:
            return self._why
        key = _key_of(entry)
        try:
            if key is None:
                known = next(self._vault.versions_of(entry.file_id), None) is not None
                return "" if known else "the archive does not know it"
            self._reader.check(key)
        except (LifecycleError, OSError) as error:
            cause = (
                error.cause if isinstance(error, LifecycleError) else os.strerror(error.errno or 0)
            )
            return f"the archive has no whole copy of it ({cause})"
        return ""


def _key_of(entry: TrashEntry) -> ContentKey | None:
    return None if entry.checksum is None else ContentKey(entry.algorithm, entry.checksum)


def content_check(site: Site) -> Callable[[int, TrashEntry], bool]:
    """Whether an open file has the content that was archived."""

    def check(fd: int, entry: TrashEntry) -> bool:
        if entry.checksum is None:
            return entry.fingerprint.kind != Kind.REGULAR
        hasher = new_hasher(entry.algorithm)
        position = 0
        while chunk := site.fs.pread(fd, 1 << 20, position):
            hasher.update(chunk)
            position += len(chunk)
        return hasher.digest() == entry.checksum

    return check
