"""Takes files away: into the trash, and, archived, with a verified copy in the archive before that.

Archive: intent -> copy, read back and hashed -> manifest -> compared once more, renamed into the
trash -> durable -> manifest of the states -> outcome. Delete is the same without the copy. The last
unlink is in `purging`, after the grace.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from operator import attrgetter

from lifecycle_sync.act.breaker import BROKEN
from lifecycle_sync.act.keeping import (
    Keeping,
    Kept,
    content_place,
    fail_the_rest,
    location,
    version_row,
)
from lifecycle_sync.act.site import COMPLETED, Done, Results, Site, intend, note
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.act import ActFile, ActOutcome, RecordChange
from lifecycle_sync.model.event import StateEvent, VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.many import many
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.trash import BATCH_MAX, TrashEntry, TrashReason
from lifecycle_sync.vault.vault import Vault

_log = logging.getLogger(__name__)
_DELETED, _ARCHIVED = LifecycleState.DELETED, LifecycleState.ARCHIVED
# Of a change of state all that is beside the file and its state.
_NOTHING_ELSE = RecordChange(b"", _DELETED)[2:]
_PATH, _SIZE = attrgetter("path"), attrgetter("size")


def delete(
    site: Site, files: list[ActFile], *, grace_ns: int, reason: str = "", by: str = ""
) -> list[Done]:
    """Move files into the trash, by batches of it. `reason` is the rule that wanted it, or what a
    person said; `by` the person.

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
            deleted = partial(_deleted, site, taken, results, grace_ns, reason, by=by)
            outcomes.append(journal.submit(deleted))
        for outcome in outcomes:
            done += outcome.result()
    return done


def _deleted(
    site: Site, taken: _Taken, results: Results, grace_ns: int, reason: str, *, by: str
) -> list[Done]:
    at_ns = site.now_ns()
    details = note(reason=reason, by=by, trash=taken.batch, until_ns=at_ns + grace_ns)
    repository_id = site.repository_id
    site.owed += [
        StateEvent(file.file_id, repository_id, file.path, _DELETED, at_ns, operation_id, reason)
        for operation_id, file in taken
    ]
    # Column by column: there are many of them.
    operation_ids, files = zip(*taken.files, strict=True) if taken.files else ((), ())
    file_ids = [file.file_id for file in files]
    # What went is what the record said: `take` has compared it.
    changes = many(RecordChange, zip(file_ids, repeat(_DELETED), *map(repeat, _NOTHING_ELSE)))
    outcomes = zip(operation_ids, repeat(COMPLETED), repeat(details), changes)
    done = zip(file_ids, map(_PATH, files), repeat(COMPLETED), repeat(""), map(_SIZE, files))
    results.extend(many(ActOutcome, outcomes), many(Done, done))
    return results.finish(site, [])


def expire(site: Site, files: list[ActFile], *, reason: str = "") -> list[Done]:
    """Say of files that their retention is over, where they still are what the record says."""
    ordered = intend(site, "expire", files, unless_held=True)
    results = Results(ordered.refused)
    for operation_id, file in ordered.files:
        change = RecordChange(file.file_id, state=LifecycleState.EXPIRED, expected=file.fingerprint)
        results.add(file, ActOutcome(operation_id, COMPLETED, note(reason=reason), change))
    return results.finish(site, [])


def give_up(site: Site, files: list[ActFile], *, reason: str = "", by: str = "") -> list[Done]:
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
        details = note(reason=reason, by=by, archive=vault.store_id.hex())
        change = RecordChange(file.file_id, state=_DELETED)
        results.add(file, ActOutcome(operation_id, COMPLETED, details, change))
    return results.finish(site, [(vault.store_id, told)])


def archive(
    site: Site, files: list[ActFile], *, grace_ns: int, reason: str = "", by: str = ""
) -> list[Done]:
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
    details = note(reason=reason, by=by, trash=taken.batch, until_ns=site.now_ns() + grace_ns)
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
    files = [file for _operation_id, file in ordered]
    rows = zip(
        [file.file_id for file in files],
        [operation_id for operation_id, _file in ordered],
        [file.path for file in files],
        many(Fingerprint, [file[3:8] for file in files]),
        [file.algorithm if file.checksum else "" for file in files],
        # While it is due, it is another content's.
        [None if file.hash_due else file.checksum for file in files],
        strict=True,
    )
    entries = list(many(TrashEntry, rows))
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
