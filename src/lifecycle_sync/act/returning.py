"""Brings files of a root back: out of the archive, out of the trash, out of the vault.

Each is journalled as an act on the record that gets its file back; the record then says what lies
there, and is UPLOADED: the next backup looks at it again.
"""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Sequence
from typing import NamedTuple

from lifecycle_sync.act.fingerprints import fingerprint_of
from lifecycle_sync.act.restore import Restored, Restorer, Wanted
from lifecycle_sync.act.site import COMPLETED, SKIPPED, Done, Results, Site, intend, note, tell
from lifecycle_sync.descent import Descent
from lifecycle_sync.model.act import DONE_WORDS, ActFile, ActOutcome, Attributes, RecordChange
from lifecycle_sync.model.event import StateEvent, VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.trash import TrashBatch, TrashEntry, TrashReason
from lifecycle_sync.vault.vault import Vault

_UPLOADED = LifecycleState.UPLOADED


class Back(NamedTuple):
    """A file of the root and the version that it is to become; `to` is relative to the root."""

    file: ActFile
    version: VersionEvent
    to: bytes


def bring_back(
    site: Site,
    verb: str,
    vault: Vault,
    wanted: Sequence[Back],
    restorer: Restorer,
) -> tuple[list[Done], list[Restored]]:
    """Restore versions into the root they came from ("recall" or "restore"): a batch.

    Raises what concerns the root or the vault as a whole; then recovery has to judge.
    """
    by_file = {item.file.file_id: item for item in wanted}
    ordered = intend(
        site,
        verb,
        [item.file for item in by_file.values()],
        unless_held=False,
        details=lambda file: {"to": os.fsdecode(by_file[file.file_id].to)},
    )
    results = Results(ordered.refused)
    operations = {file.file_id: operation_id for operation_id, file in ordered.files}
    # What makes room for a file is known by the operation, should it be cut off.
    site.placing = {by_file[file_id].to: it for file_id, it in operations.items()}
    batch = [
        Wanted(item.version, item.to)
        for item in by_file.values()
        if item.file.file_id in operations
    ]
    # What this raises leaves the rows pending: some files may have got their places, and only what
    # is found there tells.
    restored = restorer.restore(batch)
    for item in restored:
        back = by_file[item.wanted.version.file_id]
        operation_id = operations[back.file.file_id]
        if item.outcome != COMPLETED:
            keep = results.skip if item.outcome == SKIPPED else results.fail
            keep(operation_id, back.file, item.reason)
            continue
        change = _change(back, item, at_its_place=item.path == back.file.path)
        details = note(to=os.fsdecode(item.path), version=back.version.number)
        outcome = ActOutcome(operation_id, COMPLETED, details, change)
        results.add(back.file, outcome, "; ".join(item.missed))
        if change is not None:
            site.owed.append(
                StateEvent(
                    back.file.file_id,
                    site.repository_id,
                    item.path,
                    _UPLOADED,
                    site.now_ns(),
                    operation_id,
                    DONE_WORDS[verb],
                )
            )
    return results.finish(site, tell(site)), restored


def _change(back: Back, item: Restored, *, at_its_place: bool) -> RecordChange | None:
    """What the record of a file becomes; nothing where it lives on elsewhere (renamed since), or
    where the file was put beside it: then the next scan finds a new one."""
    gone = back.file.state in (LifecycleState.DELETED, LifecycleState.ARCHIVED)
    if not gone and not at_its_place:
        return None
    key = back.version.content
    found = item.found
    return RecordChange(
        back.file.file_id,
        state=_UPLOADED,
        fingerprint=fingerprint_of(found) if found else None,
        attributes=_attributes(found) if found else None,
        checksum=key.digest if key and found else None,
        algorithm=key.algorithm if key else "sha256",
        path=item.path,
    )


def undelete(
    site: Site, wanted: Sequence[tuple[ActFile, TrashBatch, TrashEntry]], *, to: bytes | None = None
) -> list[Done]:
    """Give files back out of the trash, to their place or (one file) to another path."""
    by_file = {file.file_id: (batch, entry) for file, batch, entry in wanted}
    ordered = intend(
        site,
        "undelete",
        [file for file, _, _ in wanted],
        unless_held=False,
        details=lambda file: {
            "to": os.fsdecode(to or by_file[file.file_id][1].path),
            "trash": to_text(by_file[file.file_id][0].batch_id),
        },
    )
    results = Results(ordered.refused)
    back: list[tuple[bytes, ActFile, bytes]] = []
    for operation_id, file in ordered.files:
        batch, entry = by_file[file.file_id]
        outcome = site.trash.put_back(batch, entry, to=to)
        site.told.advance(1, entry.fingerprint.size)
        if outcome.ok:
            back.append((operation_id, file, to or entry.path))
        else:
            results.skip(operation_id, file, outcome.reason)
    site.trash.sync()
    for batch in {batch.batch_id: batch for batch, _ in by_file.values()}.values():
        site.trash.tidy(batch)
    with Descent(site.fs, site.root) as descent:
        for operation_id, file, path in back:
            returned(site, results, descent, operation_id, file, path=path, verb="undelete")
    return results.finish(site, tell(site))


def returned(
    site: Site,
    results: Results,
    descent: Descent,
    operation_id: bytes,
    file: ActFile,
    *,
    path: bytes,
    verb: str,
) -> None:
    """A file lies at `path` again by an act, as it was: its record says so."""
    folder, _, name = path.rpartition(b"/")
    try:
        found = site.fs.stat(name, dir_fd=descent.open(folder), follow_symlinks=False)
    except OSError:
        # It is there all the same; the next scan looks at it.
        found = None
    change = RecordChange(
        file.file_id,
        state=_UPLOADED,
        fingerprint=fingerprint_of(found) if found else None,
        attributes=_attributes(found) if found else None,
        path=path,
    )
    details = note(to=os.fsdecode(path))
    results.add(file._replace(path=path), ActOutcome(operation_id, COMPLETED, details, change))
    site.owed.append(
        StateEvent(
            file.file_id,
            site.repository_id,
            path,
            _UPLOADED,
            site.now_ns(),
            operation_id,
            DONE_WORDS[verb],
        )
    )


class Displacer:
    """Moves what stands in the way of a restore into the trash of the root.

    It is known to the registry by its record, or to nobody: then the trash alone remembers it.
    """

    def __init__(self, site: Site, *, grace_ns: int) -> None:
        self._site = site
        self._grace_ns = grace_ns

    def take(self, path: bytes) -> str | None:
        """The reason where it stays."""
        site = self._site
        folder, _, name = path.rpartition(b"/")
        with Descent(site.fs, site.root) as descent:
            try:
                found = site.fs.stat(name, dir_fd=descent.open(folder), follow_symlinks=False)
            except OSError as error:
                return (error.strerror or str(error)).lower()
        if stat_module.S_ISDIR(found.st_mode):
            return "a directory is there"
        near = site.registry.files_under(site.repository_id, path, None, 1)
        record = next((it for it in near if it.path == path), None)
        if record is not None:
            held = site.registry.held([record.file_id], site.now_ns())
            if record.file_id in held:
                return f"held: {held[record.file_id]}"
        entry = TrashEntry(
            record.file_id if record else site.ids.one(),
            site.placing.get(path) or site.ids.one(),
            path,
            fingerprint_of(found),
        )
        with site.trash.begin(
            [entry], grace_ns=self._grace_ns, reason=TrashReason.REPLACE
        ) as batch:
            outcome = batch.take(entry)
            try:
                batch.sync()
            except OSError as error:
                if outcome.ok:
                    self.give_back(path)
                return (error.strerror or str(error)).lower()
        return None if outcome.ok else outcome.reason

    def give_back(self, path: bytes) -> None:
        """Put back what was taken: nothing came in its place."""
        operation_id = self._site.placing.get(path)
        for batch, entry in self._site.trash.find(path=path):
            if operation_id in (None, entry.operation_id):
                give_room_back(self._site, batch, entry)
                return


def give_room_back(site: Site, batch: TrashBatch, entry: TrashEntry) -> None:
    """Put back what was moved out of the way of a restore, if its place is free."""
    if batch.reason is TrashReason.REPLACE:
        site.trash.put_back(batch, entry)
        site.trash.sync()
        site.trash.tidy(batch)


def _attributes(found: os.stat_result) -> Attributes:
    return Attributes(found.st_mode, found.st_uid, found.st_gid, found.st_nlink)
