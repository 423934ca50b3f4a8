"""The acts of a `MemoryRegistry`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from lifecycle_sync.model.act import (
    DONE_BY_ACT,
    UNSET,
    ActFile,
    ActOutcome,
    Intent,
    RecordChange,
    VersionRow,
    may_finish,
)
from lifecycle_sync.model.file import FileFlag, Kind, LifecycleState, Tracking
from lifecycle_sync.model.operation import ActRun, Operation
from lifecycle_sync.registry.refusals import (
    CHANGED,
    IN_ITS_PLACE,
    NO_SUCH_FILE,
    PENDING,
)
from lifecycle_sync.testing.memory_holds import MemoryHolds, by_id
from lifecycle_sync.testing.memory_tables import DirectoryRow, FileRow, Tables

_LEFT_ALONE = FileFlag.CLAIMED | FileFlag.UNSTABLE | FileFlag.SUSPECT
_TO_BACK_UP = {LifecycleState.UPLOADED, LifecycleState.BACKUP_PENDING}


class MemoryActs(MemoryHolds):
    """`ActStore`."""

    # -- runs ------------------------------------------------------------------------------

    def begin_act(self, repository_id: bytes, verb: str, now_ns: int) -> ActRun:
        with self._writing() as tables:
            self._repository(tables, repository_id)
            act = ActRun(tables.number(), repository_id, verb, now_ns)
            tables.act_runs[act.act_id] = act
            return act

    def end_act(self, act: ActRun, now_ns: int, status: str, counts: str | None = None) -> None:
        with self._writing() as tables:
            tables.act_runs[act.act_id] = replace(
                act, status=status, ended_ns=now_ns, counts=counts
            )

    def acts(self, repository_id: bytes | None, limit: int) -> list[ActRun]:
        with self._reading() as tables:
            acts = [a for a in tables.act_runs.values() if repository_id in (None, a.repository_id)]
        return sorted(acts, key=lambda act: -act.act_id)[:limit]

    def act(self, act_id: int) -> ActRun | None:
        with self._reading() as tables:
            return tables.act_runs.get(act_id)

    # -- intents ---------------------------------------------------------------------------

    def begin_operations(
        self, act: ActRun, intents: Sequence[Intent], now_ns: int, *, unless_held: bool
    ) -> dict[bytes, str]:
        refused = {}
        with self._writing() as tables:
            self._repository(tables, act.repository_id)
            for operation_id, file_id, verb, details in intents:
                file = by_id(tables, file_id)
                pending = any(
                    operation.file_id == file_id and operation.status == "pending"
                    for operation in tables.operations.values()
                )
                if file is None or file.repository_id != act.repository_id:
                    refused[operation_id] = NO_SUCH_FILE
                elif unless_held and (reason := self._held(tables, file, now_ns)) is not None:
                    refused[operation_id] = f"held: {reason}"
                elif pending or operation_id in tables.operations:
                    refused[operation_id] = PENDING
                else:
                    tables.operations[operation_id] = Operation(
                        operation_id, file_id, verb, now_ns, "pending", act.act_id, None, details
                    )
        return refused

    def pending_operations(self, repository_id: bytes | None) -> list[Operation]:
        with self._reading() as tables:
            pending = [
                operation
                for operation in tables.operations.values()
                if operation.status == "pending"
                and (
                    repository_id is None
                    or _repository_of(tables, operation.run_id) == repository_id
                )
            ]
        return sorted(pending, key=lambda operation: (operation.run_id, operation.operation_id))

    # -- outcomes --------------------------------------------------------------------------

    def finish_operations(
        self,
        act: ActRun,
        outcomes: Sequence[ActOutcome],
        now_ns: int,
        *,
        manifests: Sequence[tuple[bytes, str]] = (),
    ) -> dict[bytes, str]:
        refused = {}
        with self._writing() as tables:
            for operation_id, status, details, change in outcomes:
                operation = tables.operations.get(operation_id)
                if operation is None or operation.status != "pending":
                    continue
                operation = replace(
                    operation,
                    status=status,
                    finished_ns=now_ns,
                    details=operation.details if details is None else details,
                )
                if change is not None:
                    reason = self._finish(tables, change, now_ns)
                    if reason is not None:
                        refused[operation_id] = reason
                    if reason == IN_ITS_PLACE:
                        noted = json.loads(operation.details or "{}") | {"reason": reason}
                        operation = replace(operation, status="failed", details=json.dumps(noted))
                    if change.version is not None:
                        self._add_version(tables, change.file_id, change.version)
                tables.operations[operation_id] = operation
            tables.manifests |= dict.fromkeys(manifests)
        return refused

    def complete_operations(
        self, act: ActRun, now_ns: int, *, manifests: Sequence[tuple[bytes, str]] = ()
    ) -> int:
        with self._writing() as tables:
            pending = [
                it
                for it in tables.operations.values()
                if it.status == "pending" and it.run_id == act.act_id
            ]
            for it in pending:
                tables.operations[it.operation_id] = replace(
                    it, status="completed", finished_ns=now_ns
                )
            tables.manifests |= dict.fromkeys(manifests)
        return len(pending)

    @staticmethod
    def _add_version(tables: Tables, file_id: bytes, version: VersionRow) -> bool:
        key = file_id, version.number, version.version_id
        if key in tables.versions:
            return False
        tables.versions[key] = version
        return True

    def _finish(self, tables: Tables, change: RecordChange, now_ns: int) -> str | None:
        """Apply a change to its record; what could not be done, and why."""
        file = by_id(tables, change.file_id)
        if file is None:
            return NO_SUCH_FILE
        reason = None
        new = change.state or file.state
        fits = change.expected in (None, file.fingerprint)
        if not fits and new not in DONE_BY_ACT:
            reason, new = CHANGED, file.state
        elif not may_finish(file.state, new):
            reason, new = f"it is {file.state.value} now", file.state
        fields: dict[str, Any] = {}
        if change.path is not None or (new is not LifecycleState.DELETED and not file.live):
            place = self._place(
                tables, change, file, now_ns, live=new is not LifecycleState.DELETED
            )
            if place is None:
                return IN_ITS_PLACE
            fields |= place
        look = change.fingerprint if fits else None
        kind = file.kind if look is None else Kind(look.kind)
        away, was_away = new in DONE_BY_ACT, file.state in DONE_BY_ACT
        due = file.hash_due
        if away or was_away:
            due = not away and kind is Kind.REGULAR
        if look is not None and look != file.fingerprint:
            fields |= {
                "kind": kind,
                "size": look.size,
                "mtime_ns": look.mtime_ns,
                "ctime_ns": look.ctime_ns,
                "inode": look.inode,
            }
            due = not away and kind is Kind.REGULAR
            if change.attributes is None:
                fields["outdated"] = True
                self._look_again(tables, file.directory_id)
        if change.attributes is not None and fits:
            fields |= change.attributes._asdict()
        if change.checksum is not None and fits and kind is Kind.REGULAR:
            fields |= {"checksum": change.checksum, "algorithm": change.algorithm}
            due = False
        if away:
            fields |= {"last_seen_ns": None, "place_before": None}
        if change.backup_path is not UNSET:
            fields["backup_path"] = change.backup_path
        if change.archive_path is not UNSET:
            fields["archive_path"] = change.archive_path
        flags = file.flags & ~change.clear_flags | change.set_flags & sum(FileFlag)
        file = self._change(
            tables, file.row_id, now_ns, **fields, state=new, flags=flags, hash_due=due
        )
        if away is not was_away:
            self._look_again(tables, file.directory_id)
        return reason

    @staticmethod
    def _look_again(tables: Tables, directory_id: int) -> None:
        directory = tables.directories[directory_id]
        tables.directories[directory_id] = replace(directory, signature=None, gone=False)

    def _place(
        self, tables: Tables, change: RecordChange, file: FileRow, now_ns: int, *, live: bool
    ) -> dict[str, Any] | None:
        """Where a record goes on, with room made for it; None where that is taken."""
        directory, name = tables.directories[file.directory_id], file.name
        if change.path is not None:
            folder, _, name = change.path.rpartition(b"/")
            directory = self._ensure_directory(tables, file.repository_id, folder, now_ns)
        there = self._live_at(tables, directory, name)
        if live and there is not None and there.row_id != file.row_id:
            look = change.fingerprint
            pending = any(
                operation.file_id == there.file_id and operation.status == "pending"
                for operation in tables.operations.values()
            )
            held = any(hold.file_id == there.file_id for hold in tables.holds.values())
            if look is None or pending or held or there.by_name:
                return None
            if look._replace(ctime_ns=0) != there.fingerprint._replace(ctime_ns=0):
                return None
            # A scan met the file before the act could say that it had put it there.
            del tables.files[there.row_id]
        if (directory.directory_id, name) == (file.directory_id, file.name):
            return {}
        self._look_again(tables, file.directory_id)
        self._look_again(tables, directory.directory_id)
        tracking = Tracking.TRACKED if file.tracking is Tracking.IGNORED else file.tracking
        policy = file.policy_name if file.policy_explicit else self._policy_of(name)
        return {
            "directory_id": directory.directory_id,
            "name": name,
            "tracking": tracking,
            "policy_name": policy,
        }

    def _ensure_directory(
        self, tables: Tables, repository_id: bytes, path: bytes, now_ns: int
    ) -> DirectoryRow:
        found = self._directory_at(tables, repository_id, path)
        if found is None:
            found = DirectoryRow(tables.number(), repository_id, path, scanned_ns=now_ns)
        found = replace(found, signature=None, gone=False)
        tables.directories[found.directory_id] = found
        return found

    @staticmethod
    def _live_at(tables: Tables, directory: DirectoryRow, name: bytes) -> FileRow | None:
        for file in tables.files.values():
            if (file.directory_id, file.name) == (directory.directory_id, name) and file.live:
                return file
        return None

    # -- what acts work on -----------------------------------------------------------------

    def to_back_up(self, repository_id: bytes, after: int, limit: int) -> list[ActFile]:
        return self._act_files(
            repository_id,
            lambda file: (
                file.row_id > after
                and file.tracked
                and file.state in _TO_BACK_UP
                and file.kind in (Kind.REGULAR, Kind.SYMLINK)
                and not file.flags & _LEFT_ALONE
                and file.last_seen_ns is None
            ),
        )[:limit]

    def files_under(
        self, repository_id: bytes, path: bytes, after: bytes | None, limit: int
    ) -> list[ActFile]:
        files = self._act_files(repository_id, lambda file: file.live and file.tracked)

        def key(place: bytes) -> tuple[bool, bool, bytes, bytes]:
            folder, _, name = place.rpartition(b"/")
            # Right below first: "a/b" sorts behind "a!".
            return place != path, folder != path, folder, name

        inside = [
            file
            for file in files
            if (not path or file.path == path or file.path.startswith(path + b"/"))
            and (after is None or key(file.path) > key(after))
        ]
        return sorted(inside, key=lambda file: key(file.path))[:limit]

    def act_files(self, file_ids: Iterable[bytes]) -> dict[bytes, ActFile]:
        wanted = set(file_ids)
        files = self._act_files(None, lambda file: file.file_id in wanted)
        return {file.file_id: file for file in files}

    def _act_files(
        self, repository_id: bytes | None, wanted: Callable[[FileRow], bool]
    ) -> list[ActFile]:
        with self._reading() as tables:
            return [
                self._act_file(tables, file)
                for file in self._files_of(tables, repository_id)
                if wanted(file)
            ]

    def _act_file(self, tables: Tables, file: FileRow) -> ActFile:
        versions = self._versions(tables, file.file_id)
        last = versions[0] if versions else None
        return ActFile(
            file.row_id,
            file.file_id,
            self._path(tables, file),
            file.kind,
            file.size,
            file.mtime_ns,
            file.ctime_ns,
            file.inode,
            file.state,
            int(file.flags),
            file.algorithm,
            file.checksum,
            file.hash_due,
            file.policy_name,
            file.policy_explicit,
            last.number if last else 0,
            last.algorithm if last else "sha256",
            last.checksum if last else None,
        )

    def versions(self, file_id: bytes) -> list[VersionRow]:
        with self._reading() as tables:
            return self._versions(tables, file_id)

    @staticmethod
    def _versions(tables: Tables, file_id: bytes) -> list[VersionRow]:
        keys = sorted((key for key in tables.versions if key[0] == file_id), reverse=True)
        return [tables.versions[key] for key in keys]

    def versions_in(
        self, store_id: bytes, after: tuple[bytes, int, bytes] | None, limit: int
    ) -> list[tuple[bytes, VersionRow]]:
        with self._reading() as tables:
            return [
                (key[0], row)
                for key, row in sorted(tables.versions.items())
                if (after is None or key > after)
                and (row.location is None or row.location.startswith(store_id.hex()))
            ][:limit]

    def applied_manifests(self, store_id: bytes) -> set[str]:
        with self._reading() as tables:
            return {name for store, name in tables.manifests if store == store_id}

    def drop_versions(self, versions: Sequence[tuple[bytes, bytes]], at_ns: int) -> int:
        with self._writing() as tables:
            wanted = set(versions)
            gone = [
                key
                for key, row in tables.versions.items()
                if (key[0], key[2]) in wanted and row.created_ns <= at_ns
            ]
            tables.versions = {it: row for it, row in tables.versions.items() if it not in gone}
            return len(gone)

    def add_applied(self, store_id: bytes, names: Sequence[str], now_ns: int) -> None:
        with self._writing() as tables:
            tables.manifests |= {(store_id, name): None for name in names}

    def store(self, kind: str) -> bytes | None:
        with self._reading() as tables:
            return tables.stores.get(kind)

    def set_store(self, kind: str, store_id: bytes | None) -> None:
        with self._writing() as tables:
            tables.stores = {key: it for key, it in tables.stores.items() if key != kind}
            if store_id is not None:
                tables.stores[kind] = store_id


def _repository_of(tables: Tables, act_id: int | None) -> bytes | None:
    act = tables.act_runs.get(act_id or 0)
    return None if act is None else act.repository_id
