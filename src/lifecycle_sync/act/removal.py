"""Takes files away: into the trash, and, archived, with a verified copy in the archive before that.

Archive: intent -> copy, read back and hashed -> manifest -> compared once more, renamed into the
trash -> durable -> manifest of the states -> outcome. Delete is the same without the copy. The last
unlink is `purge`, after the grace, and only of what is still what was taken.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from lifecycle_sync.act.breaker import BROKEN
from lifecycle_sync.act.keeping import (
    Keeping,
    Kept,
    content_place,
    fail_the_rest,
    location,
    version_row,
)
from lifecycle_sync.act.site import COMPLETED, Done, Results, Site, intend, note, tell
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.act import PURGED, ActFile, ActOutcome, RecordChange
from lifecycle_sync.model.event import StateEvent, VersionEvent
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.trash import BATCH_MAX, TrashBatch, TrashEntry, TrashReason
from lifecycle_sync.vault.frames import new_hasher
from lifecycle_sync.vault.vault import Vault

_log = logging.getLogger(__name__)
# Files whose copies are read before the first of them goes.
_EARLY = 20
_DELETED, _ARCHIVED = LifecycleState.DELETED, LifecycleState.ARCHIVED


def delete(site: Site, files: list[ActFile], *, grace_ns: int, reason: str = "") -> list[Done]:
    """Move files into the trash, by batches of it. `reason`: who or what wanted it.

    While one batch is moved, the journal learns in another thread what became of the one before.
    Raises what concerns the trash as a whole, after the journal says so of every file.
    """
    done: list[Done] = []
    with ThreadPoolExecutor(1, "lifecycle-outcomes") as journal:
        outcomes: list[Future[list[Done]]] = []
        for start in range(0, len(files), BATCH_MAX):
            ordered = intend(site, "delete", files[start : start + BATCH_MAX], unless_held=True)
            results = Results(ordered.refused)
            taken = _take(site, ordered.files, results, grace_ns=grace_ns, why=TrashReason.DELETE)
            outcomes.append(journal.submit(_deleted, site, taken, results, grace_ns, reason))
        for outcome in outcomes:
            done += outcome.result()
    return done


def _deleted(site: Site, taken: _Taken, results: Results, grace_ns: int, reason: str) -> list[Done]:
    at_ns = site.now_ns()
    details = note(reason=reason, trash=taken.batch, until_ns=at_ns + grace_ns)
    for operation_id, file in taken:
        site.owed.append(
            StateEvent(
                file.file_id, site.repository_id, file.path, _DELETED, at_ns, operation_id, reason
            )
        )
        # What went is what the record said: `take` has compared it.
        change = RecordChange(file.file_id, state=_DELETED)
        results.add(file, ActOutcome(operation_id, COMPLETED, details, change))
    return results.finish(site, [])


def expire(site: Site, files: list[ActFile], *, reason: str = "") -> list[Done]:
    """Say of files that their retention is over, where they still are what the record says."""
    ordered = intend(site, "expire", files, unless_held=True)
    results = Results(ordered.refused)
    for operation_id, file in ordered.files:
        change = RecordChange(file.file_id, state=LifecycleState.EXPIRED, expected=file.fingerprint)
        results.add(file, ActOutcome(operation_id, COMPLETED, note(reason=reason), change))
    return results.finish(site, [])


def give_up(site: Site, files: list[ActFile], *, reason: str = "") -> list[Done]:
    """Say of archived files that they are deleted: here and in the archive, which has their bytes
    until it is pruned. Nothing is unlinked."""
    vault = site.vaults.archive()
    ordered = intend(site, "delete", files, unless_held=True)
    results = Results(ordered.refused)
    if not ordered.files:
        return results.done
    at_ns = site.now_ns()
    try:
        with vault.writer() as writer:
            told = site.commit(
                vault,
                writer,
                [
                    StateEvent(
                        file.file_id,
                        site.repository_id,
                        file.path,
                        _DELETED,
                        at_ns,
                        operation_id,
                        reason,
                    )
                    for operation_id, file in ordered.files
                ],
            )
    except (LifecycleError, OSError) as error:
        fail_the_rest(results, ordered.files, str(error))
        results.finish(site, [])
        raise
    for operation_id, file in ordered.files:
        details = note(reason=reason, archive=vault.store_id.hex())
        change = RecordChange(file.file_id, state=_DELETED)
        results.add(file, ActOutcome(operation_id, COMPLETED, details, change))
    return results.finish(site, [(vault.store_id, told)])


def archive(site: Site, files: list[ActFile], *, grace_ns: int, reason: str = "") -> list[Done]:
    """Move a batch of files into the archive; their old bytes stay in the trash for the grace.

    Raises what concerns the archive or the trash as a whole, after the journal says so.
    """
    # First: with no archive to be had nothing is begun.
    vault = site.vaults.archive()
    ordered = intend(site, "archive", files, unless_held=True)
    results = Results(ordered.refused)
    try:
        with Keeping(site, vault, results, state=None, always=True) as keeping:
            keeping.read(ordered.files)
            manifest = keeping.commit()
    except (LifecycleError, OSError) as error:
        fail_the_rest(results, ordered.files, str(error))
        results.finish(site, [])
        raise
    kept = {item.operation_id: item for item in keeping.kept}
    entries = [(item.operation_id, _as_kept(item)) for item in keeping.kept]
    taken = _take(site, entries, results, grace_ns=grace_ns, why=TrashReason.ARCHIVE)
    manifests = [(vault.store_id, name) for name in (manifest,) if name]
    told = _tell_archived(site, vault, taken, reason)
    where = location(vault, manifest)
    details = note(reason=reason, trash=taken.batch, until_ns=site.now_ns() + grace_ns)
    for operation_id, file in taken:
        item = kept[operation_id]
        change = RecordChange(
            file.file_id,
            state=_ARCHIVED,
            checksum=item.key.digest if item.key else None,
            algorithm=site.algorithm,
            archive_path=content_place(vault, item.key),
            version=version_row(item.file, item.event, where),
        )
        results.add(file, ActOutcome(operation_id, COMPLETED, details, change))
    if told:
        manifests.append((vault.store_id, told))
    return results.finish(site, manifests)


def put_away(
    site: Site, files: Sequence[tuple[ActFile, VersionEvent]], *, grace_ns: int, reason: str = ""
) -> list[Done]:
    """Move files that lie at the place of archived ones into the trash, for the grace: these count
    as archived again, in the version that the archive has of each. Killed between, recovery puts
    the file back: it finds no copy of it."""
    vault = site.vaults.archive()
    versions = {file.file_id: version for file, version in files}
    ordered = intend(site, "archive", [file for file, _ in files], unless_held=True)
    results = Results(ordered.refused)
    taken = _take(site, ordered.files, results, grace_ns=grace_ns, why=TrashReason.REPLACE)
    told = _tell_archived(site, vault, taken, reason)
    details = note(reason=reason, trash=taken.batch, until_ns=site.now_ns() + grace_ns)
    for operation_id, file in taken:
        key, was = versions[file.file_id].content, versions[file.file_id].metadata
        change = RecordChange(
            file.file_id,
            state=_ARCHIVED,
            fingerprint=Fingerprint(was.kind, was.size, was.mtime_ns, 0, 0),
            checksum=key.digest if key else None,
            algorithm=key.algorithm if key else site.algorithm,
            archive_path=content_place(vault, key),
        )
        results.add(file, ActOutcome(operation_id, COMPLETED, details, change))
    return results.finish(site, [(vault.store_id, told)] if told else [])


def _as_kept(item: Kept) -> ActFile:
    """The file with the checksum that was just found: the trash compares with it before it purges
    what was archived."""
    if item.key is None:
        return item.file
    return item.file._replace(
        checksum=item.key.digest, algorithm=item.key.algorithm, hash_due=False
    )


def _tell_archived(site: Site, vault: Vault, taken: _Taken, reason: str) -> str | None:
    """Say in the archive itself that the files are there and nowhere else."""
    if not taken.files:
        return None
    at_ns = site.now_ns()
    with vault.writer() as writer:
        return site.commit(
            vault,
            writer,
            [
                StateEvent(
                    file.file_id,
                    site.repository_id,
                    file.path,
                    _ARCHIVED,
                    at_ns,
                    operation_id,
                    reason,
                )
                for operation_id, file in taken
            ],
        )


class _Taken:
    """The files that lie in the trash now, durably; `batch` is the name of their batch."""

    def __init__(self, batch: str = "") -> None:
        self.batch = batch
        self.files: list[tuple[bytes, ActFile]] = []

    def __iter__(self) -> Iterator[tuple[bytes, ActFile]]:
        return iter(self.files)


def _take(
    site: Site,
    ordered: Sequence[tuple[bytes, ActFile]],
    results: Results,
    *,
    grace_ns: int,
    why: TrashReason,
) -> _Taken:
    """Move files into one batch of the trash; what does not go is told in `results`."""
    if not ordered:
        return _Taken()
    entries = [
        TrashEntry(
            file.file_id,
            operation_id,
            file.path,
            file.fingerprint,
            file.algorithm if file.checksum else "",
            # While it is due, it is another content's.
            None if file.hash_due else file.checksum,
        )
        for operation_id, file in ordered
    ]
    try:
        batch = site.trash.begin(entries, grace_ns=grace_ns, reason=why)
    except (LifecycleError, OSError) as error:
        for operation_id, file in ordered:
            results.fail(operation_id, file, str(error))
        results.finish(site, [])
        raise
    with batch:
        taken = _Taken(to_text(batch.batch.batch_id))
        for entry, (operation_id, file) in zip(entries, ordered, strict=True):
            if site.cancel.cancelled:
                results.skip(operation_id, file, "asked to stop")
                continue
            if site.breaker.tripped:
                results.skip(operation_id, file, BROKEN)
                continue
            outcome = batch.take(entry)
            site.told.advance(1, file.size)
            if outcome.ok:
                taken.files.append((operation_id, file))
            elif outcome.alarm or outcome.failed:
                _log.warning("%s: %s", os.fsdecode(file.path), outcome.reason)
                results.fail(operation_id, file, outcome.reason)
                if outcome.failed:
                    site.breaker.count()
            else:
                results.skip(operation_id, file, outcome.reason)
        batch.sync()
    return taken


def purge(
    site: Site, batch_id: bytes, *, erase_limits: tuple[str, ...] | None = None
) -> list[Done]:
    """Unlink what lies in a batch of the trash past its grace and is still what was taken; what is
    not stays, and is told. With `erase_limits` files are overwritten before."""
    batch = site.trash.batch(batch_id)
    if batch is None:
        return []
    entries = site.trash.left(batch)
    done = _purge_batch(site, batch, entries, erase_limits)
    site.trash.tidy(batch)
    return done


def purge_early(
    site: Site,
    batch_id: bytes,
    *,
    copy: Callable[[TrashEntry], str],
    enough: Callable[[], bool],
    reason: str,
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
        done += _purge_batch(site, batch, list(early.copies), None, early)
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
    for operation_id, file in ordered.files:
        entry = by_file[file.file_id]
        if early is not None and early.enough():
            results.skip(operation_id, file, "there is room enough again")
            continue
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
