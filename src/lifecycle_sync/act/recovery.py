"""Judges what killed processes left pending, by what is found at source, trash and destination.

Never by the row: a row says what was intended. Whoever calls this holds the root's act lock, so
that every pending row of the root is a dead one's, and has brought the registry up to what the
vaults tell. Each row ends as "completed" or "failed"; nothing is done over again, and what was done
half is finished or undone. A second recovery finds nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable

from lifecycle_sync.act.fingerprints import fingerprint_of
from lifecycle_sync.act.keeping import content_place
from lifecycle_sync.act.reading import differs
from lifecycle_sync.act.returning import give_room_back, returned
from lifecycle_sync.act.site import COMPLETED, Done, Results, Site, note, place_told, tell
from lifecycle_sync.act.staging import Staging, sweep_left_over
from lifecycle_sync.descent import Descent
from lifecycle_sync.model.act import ActFile, ActOutcome, RecordChange
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import StateEvent, VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.trash import TrashBatch, TrashEntry
from lifecycle_sync.vault.frames import new_hasher
from lifecycle_sync.vault.vault import Vault

_DELETED, _ARCHIVED = LifecycleState.DELETED, LifecycleState.ARCHIVED
_INTERRUPTED = "interrupted"


def recover(site: Site) -> list[Done]:
    """Judge all pending rows of the root. Raises what keeps it from being looked at."""
    pending = site.registry.pending_operations(site.repository_id)
    if not pending:
        # Killed after the last outcome: nothing is pending, but something may lie about.
        with Descent(site.fs, site.root) as descent:
            sweep_left_over(site.fs, descent.root_fd, site.root)
        return []
    return _Recovery(site, pending).run()


class _Recovery:
    def __init__(self, site: Site, pending: list[Operation]) -> None:
        self._site = site
        self._pending = pending
        self._results = Results([])
        self._files = site.registry.act_files([it.file_id for it in pending])
        self._in_trash = self._find_in_trash({it.operation_id for it in pending})
        self._judges: dict[str, Callable[[Operation, ActFile], None]] = {
            "backup": self._backup,
            "archive": self._archive,
            "delete": self._delete,
            "undelete": self._undelete,
            "recall": self._restored,
            "restore": self._restored,
            "purge": self._purge,
            "prune": self._prune,
        }

    def run(self) -> list[Done]:
        site = self._site
        with Descent(site.fs, site.root) as self._descent:
            # Made and not yet in its place: nobody was told that it is there.
            with Staging(site.fs, self._descent.root_fd, site.root):
                pass
            for operation in self._pending:
                file = self._files.get(operation.file_id)
                judge = self._judges.get(operation.operation_type)
                if file is None or judge is None:
                    self._results.outcomes.append(
                        ActOutcome(operation.operation_id, "failed", note(reason=_INTERRUPTED))
                    )
                    continue
                judge(operation, file)
        # What is called completed below must not be undone by a power cut.
        site.trash.sync()
        done = self._results.finish(site, tell(site))
        for batch, _ in self._in_trash.values():
            site.trash.tidy(batch)
        site.trash.sweep(alone=True)
        return done

    def _find_in_trash(self, wanted: set[bytes]) -> dict[bytes, tuple[TrashBatch, TrashEntry]]:
        found = {}
        for batch in self._site.trash.batches():
            if isinstance(batch, TrashBatch):
                for entry in batch.entries:
                    if entry.operation_id in wanted:
                        found[entry.operation_id] = (batch, entry)
        return found

    # -- one row ---------------------------------------------------------------------------

    def _backup(self, operation: Operation, file: ActFile) -> None:
        vault = self._site.vaults.backup()
        event = _version_of(vault, operation)
        if event is None:
            self._interrupted(operation, file)
            return
        # The version and the record's state came with the manifest.
        change = RecordChange(
            file.file_id,
            backup_path=content_place(vault, event.content),
        )
        self._completed(operation, file, change, version=event.number)

    def _archive(self, operation: Operation, file: ActFile) -> None:
        if not self._moved(operation):
            self._interrupted(operation, file, "its copy in the archive stays, it is in its place")
            return
        vault = self._site.vaults.archive()
        event = _version_of(vault, operation)
        if event is None:
            # Never without a copy: back it goes. (The order of things makes this impossible.)
            batch, entry = self._in_trash[operation.operation_id]
            self._site.trash.put_back(batch, entry)
            self._interrupted(operation, file)
            return
        with vault.writer() as writer:
            self._site.commit(vault, writer, [self._state(operation, file, _ARCHIVED)])
        change = RecordChange(
            file.file_id, state=_ARCHIVED, archive_path=content_place(vault, event.content)
        )
        self._completed(operation, file, change)

    def _delete(self, operation: Operation, file: ActFile) -> None:
        if not self._moved(operation):
            self._interrupted(operation, file, "it is in its place")
            return
        self._site.owed.append(self._state(operation, file, _DELETED))
        self._completed(operation, file, RecordChange(file.file_id, state=_DELETED))

    def _prune(self, operation: Operation, file: ActFile) -> None:
        # The registry knows by now what the vault was told.
        told = json.loads(operation.details or "{}").get("versions", [])
        left = {it.number for it in self._site.registry.versions(file.file_id)}
        if left.intersection(told):
            self._interrupted(operation, file, "its versions stay")
            return
        self._results.outcomes.append(ActOutcome(operation.operation_id, COMPLETED))

    def _moved(self, operation: Operation) -> bool:
        found = self._in_trash.get(operation.operation_id)
        if found is None:
            return False
        outcome = self._site.trash.settle(*found)
        return outcome.ok

    def _undelete(self, operation: Operation, file: ActFile) -> None:
        path = _target(operation, file)
        if self._there(path) is None or not self._has_left_trash(operation, path):
            self._interrupted(operation, file, "it is in the trash")
            return
        returned(
            self._site,
            self._results,
            self._descent,
            operation.operation_id,
            file,
            path=path,
            verb="undelete",
        )

    def _has_left_trash(self, operation: Operation, path: bytes) -> bool:
        """Of the very entry that was to be given back: others may have the same file's id."""
        details = _details(operation)
        for batch, entry in self._site.trash.find(file_id=operation.file_id):
            if to_text(batch.batch_id) == details.get("trash"):
                return self._site.trash.settle_return(batch, entry, to=path)
        return True

    def _restored(self, operation: Operation, file: ActFile) -> None:
        """A file that got its place is whole; whether it is the one that was meant, its content
        says: only then is the record told."""
        path = _target(operation, file)
        vault = (
            self._site.vaults.archive()
            if operation.operation_type == "recall"
            else self._site.vaults.backup()
        )
        status = self._there(path)
        if status is None:
            # It had made room for what never came.
            displaced = self._in_trash.get(operation.operation_id)
            if displaced is not None:
                give_room_back(self._site, *displaced)
        if status is None or not self._is_a_version(vault, file, path, status):
            self._interrupted(operation, file)
            return
        gone = file.state in (_DELETED, _ARCHIVED)
        if not gone and path != file.path:
            self._completed(operation, file, None)
            return
        returned(
            self._site,
            self._results,
            self._descent,
            operation.operation_id,
            file,
            path=path,
            verb=operation.operation_type,
        )

    def _is_a_version(
        self, vault: Vault, file: ActFile, path: bytes, status: os.stat_result
    ) -> bool:
        if not differs(file, status, stable_inodes=self._site.repository.identity.stable_inodes):
            # What was there before.
            return False
        versions = list(vault.versions_of(file.file_id))
        likely = [
            it
            for it in versions
            if it.metadata.size == status.st_size
            and it.metadata.kind == fingerprint_of(status).kind
        ]
        if any(it.content is None for it in likely):
            return True
        keys = {it.content for it in likely if it.content is not None}
        return any(self._has_content(path, key) for key in keys)

    def _has_content(self, path: bytes, key: ContentKey) -> bool:
        folder, _, name = path.rpartition(b"/")
        fs = self._site.fs
        try:
            fd = fs.open_read(name, self._descent.open(folder))
        except OSError:
            return False
        try:
            hasher, position = new_hasher(key.algorithm), 0
            while chunk := fs.pread(fd, 1 << 20, position):
                hasher.update(chunk)
                position += len(chunk)
            return hasher.digest() == key.digest
        finally:
            fs.close(fd)

    def _purge(self, operation: Operation, file: ActFile) -> None:
        left: Iterable[object] = self._site.trash.find(file_id=file.file_id)
        if left:
            self._interrupted(operation, file, "it is in the trash")
        else:
            self._site.owed.append(self._state(operation, file, file.state, "purged"))
            self._completed(operation, file, None)

    # -- its end ---------------------------------------------------------------------------

    def _there(self, path: bytes) -> os.stat_result | None:
        folder, _, name = path.rpartition(b"/")
        try:
            return self._site.fs.stat(
                name, dir_fd=self._descent.open(folder), follow_symlinks=False
            )
        except (OSError, ValueError):
            return None

    def _state(
        self, operation: Operation, file: ActFile, state: LifecycleState, reason: str = ""
    ) -> StateEvent:
        return StateEvent(
            file.file_id,
            self._site.repository_id,
            file.path,
            state,
            self._site.now_ns(),
            operation.operation_id,
            reason,
        )

    def _completed(
        self, operation: Operation, file: ActFile, change: RecordChange | None, **told: object
    ) -> None:
        details = note(**told, recovered=True)
        outcome = ActOutcome(operation.operation_id, COMPLETED, details, change)
        self._results.add(file, outcome, "finished after an interruption")

    def _interrupted(self, operation: Operation, file: ActFile, now: str = "") -> None:
        reason = f"{_INTERRUPTED}; {now}" if now else _INTERRUPTED
        self._results.fail(operation.operation_id, file, reason)


def _version_of(vault: Vault, operation: Operation) -> VersionEvent | None:
    """The version that an act has committed, if it got so far."""
    for event in vault.versions_of(operation.file_id):
        if event.operation_id == operation.operation_id:
            return event
    return None


def _target(operation: Operation, file: ActFile) -> bytes:
    """Where the file was to go, as its intent says."""
    return place_told(_details(operation)) or file.path


def _details(operation: Operation) -> dict[str, object]:
    """What its intent says beside its verb."""
    try:
        details = json.loads(operation.details or "{}")
    except ValueError:
        details = None
    return details if isinstance(details, dict) else {}
