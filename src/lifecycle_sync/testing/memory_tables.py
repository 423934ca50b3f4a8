"""What `MemoryRegistry` keeps: frozen rows in dictionaries, and how one of them changes.

Rows are never changed in place. That makes a transaction a copy of the dictionaries: when something
is raised, the copy is put back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import NotFoundError, RegistryError, UsageError
from lifecycle_sync.model.act import VersionRow
from lifecycle_sync.model.check import CheckNote
from lifecycle_sync.model.conflict import Conflict
from lifecycle_sync.model.file import (
    FileFlag,
    FileRecord,
    FileType,
    Kind,
    LifecycleState,
    Tracking,
    type_of_name,
)
from lifecycle_sync.model.hold import Confirmation, Hold, Switch
from lifecycle_sync.model.ids import IdSource, to_text
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.operation import ActRun, Operation, Run
from lifecycle_sync.model.policy import SHIPPED, LifecyclePolicy
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.temp import DeclaredFile, JobNote
from lifecycle_sync.model.watch import ScrubNote, WatchNote

NO_FLAGS = FileFlag(0)


@dataclass(frozen=True, slots=True)
class DirectoryRow:
    """One directory; `generation` is that of the last run that came by."""

    directory_id: int
    repository_id: bytes
    path: bytes
    inode: int = 0
    signature: bytes | None = None
    scanned_ns: int = 0
    generation: int = 0
    gone: bool = False
    error: str | None = None
    file_count: int = 0
    byte_count: int = 0
    ignored_count: int = 0
    special_count: int = 0


@dataclass(frozen=True, slots=True)
class FileRow:
    """One record. The last two fields are not part of what `FileRecord` shows."""

    row_id: int
    file_id: bytes
    repository_id: bytes
    directory_id: int
    name: bytes
    kind: Kind
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int
    uid: int
    gid: int
    nlink: int
    atime_ns: int
    btime_ns: int | None
    registered_ns: int
    policy_name: str
    policy_explicit: bool = False
    by_name: bool = False
    state: LifecycleState = LifecycleState.UPLOADED
    tracking: Tracking = Tracking.TRACKED
    flags: FileFlag = NO_FLAGS
    algorithm: str = "sha256"
    checksum: bytes | None = None
    hash_due: bool = True
    version: int = 1
    state_since_ns: int = 0
    changed_ns: int = 0
    seq: int = 0
    registered_seq: int = 0
    backup_path: str | None = None
    archive_path: str | None = None
    # The tuple is newer than mode, owner and links.
    outdated: bool = False
    # While the file is missing: when it was last seen.
    last_seen_ns: int | None = None
    # After a move that the content has yet to confirm: where, and as what, it was before.
    place_before: tuple[int, bytes, Fingerprint] | None = None

    @property
    def live(self) -> bool:
        return self.state is not LifecycleState.DELETED

    @property
    def tracked(self) -> bool:
        return self.tracking is Tracking.TRACKED

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.kind, self.size, self.mtime_ns, self.ctime_ns, self.inode)


@dataclass(slots=True)
class Tables:
    """Everything, by key. Numbers are given once and never again."""

    repositories: dict[bytes, Repository] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    directories: dict[int, DirectoryRow] = field(default_factory=dict)
    files: dict[int, FileRow] = field(default_factory=dict)
    operations: dict[bytes, Operation] = field(default_factory=dict)
    act_runs: dict[int, ActRun] = field(default_factory=dict)
    # By file, number and id.
    versions: dict[tuple[bytes, int, bytes], VersionRow] = field(default_factory=dict)
    # By the same: since when no rule keeps it.
    beyond: dict[tuple[bytes, int, bytes], int | None] = field(default_factory=dict)
    holds: dict[bytes, Hold] = field(default_factory=dict)
    confirmations: dict[Confirmation, None] = field(default_factory=dict)
    manifests: dict[tuple[bytes, str], None] = field(default_factory=dict)
    stores: dict[str, bytes] = field(default_factory=dict)
    policies: dict[str, LifecyclePolicy] = field(
        default_factory=lambda: {policy.name: policy for policy in SHIPPED}
    )
    # By name: when, and whether it was removed then.
    policy_changes: dict[str, tuple[int, bool]] = field(default_factory=dict)
    # By file: when, whether it was chosen then, and which.
    assignments: dict[bytes, tuple[int, bool, str]] = field(default_factory=dict)
    # By row: at which seq it was as told, when that was, and whether no scan has seen it.
    replayed: dict[int, tuple[int, int, bool]] = field(default_factory=dict)
    # By repository: when its path or enforcement was last said.
    told_ns: dict[bytes, int] = field(default_factory=dict)
    watching: dict[bytes, WatchNote] = field(default_factory=dict)
    scrubs: dict[bytes, ScrubNote] = field(default_factory=dict)
    jobs: dict[str, JobNote] = field(default_factory=dict)
    declared: dict[bytes, DeclaredFile] = field(default_factory=dict)
    # By row: its next date, and the end of its retention.
    dates: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
    downloads: dict[bytes, int] = field(default_factory=dict)
    decided_seq: int = -(2**63)
    switches: dict[str, Switch] = field(default_factory=dict)
    loops: dict[str, LoopNote] = field(default_factory=dict)
    checks: dict[tuple[str, bytes], CheckNote] = field(default_factory=dict)
    # By row.
    conflicts: dict[int, Conflict] = field(default_factory=dict)
    last_number: int = 0
    last_seq: int = 0

    def copy(self) -> Tables:
        return replace(
            self,
            repositories=dict(self.repositories),
            runs=dict(self.runs),
            directories=dict(self.directories),
            files=dict(self.files),
            operations=dict(self.operations),
            act_runs=dict(self.act_runs),
            versions=dict(self.versions),
            beyond=dict(self.beyond),
            holds=dict(self.holds),
            confirmations=dict(self.confirmations),
            manifests=dict(self.manifests),
            stores=dict(self.stores),
            policies=dict(self.policies),
            policy_changes=dict(self.policy_changes),
            assignments=dict(self.assignments),
            replayed=dict(self.replayed),
            told_ns=dict(self.told_ns),
            watching=dict(self.watching),
            scrubs=dict(self.scrubs),
            jobs=dict(self.jobs),
            declared=dict(self.declared),
            dates=dict(self.dates),
            downloads=dict(self.downloads),
            switches=dict(self.switches),
            loops=dict(self.loops),
            checks=dict(self.checks),
            conflicts=dict(self.conflicts),
        )

    def number(self) -> int:
        """A new one, for whatever needs one."""
        self.last_number += 1
        return self.last_number


class MemoryBase:
    """The tables under one lock; each part of the registry derives from it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ids = IdSource(clock.now_ns)
        self._registry_id = self._ids.one()
        self._lock = threading.RLock()
        self._tables = Tables()
        self._closed = False

    @contextmanager
    def _reading(self) -> Iterator[Tables]:
        with self._lock:
            if self._closed:
                raise RegistryError("is closed", operation="use the registry", subject="memory")
            yield self._tables

    @contextmanager
    def _writing(self) -> Iterator[Tables]:
        with self._reading() as tables:
            before = tables.copy()
            try:
                yield tables
            except BaseException:
                self._tables = before
                raise

    def close(self) -> None:
        with self._lock:
            self._closed = True

    # -- looking up ------------------------------------------------------------------------

    def _repository(self, tables: Tables, repository_id: bytes) -> Repository:
        found = tables.repositories.get(repository_id)
        if found is None:
            raise NotFoundError(
                "no such repository", operation="use repository", subject=to_text(repository_id)
            )
        return found

    def _files_of(self, tables: Tables, repository_id: bytes | None) -> list[FileRow]:
        """The records of one repository, or of all, by row_id."""
        if repository_id is not None:
            self._repository(tables, repository_id)
        return [
            file
            for _, file in sorted(tables.files.items())
            if repository_id in (None, file.repository_id)
        ]

    def _directory_at(
        self, tables: Tables, repository_id: bytes, path: bytes
    ) -> DirectoryRow | None:
        for directory in tables.directories.values():
            if (directory.repository_id, directory.path) == (repository_id, path):
                return directory
        return None

    def _file_by_id(self, tables: Tables, file_id: bytes, operation: str) -> FileRow:
        for file in tables.files.values():
            if file.file_id == file_id:
                return file
        raise NotFoundError("no such file", operation=operation, subject=to_text(file_id))

    def _path(self, tables: Tables, file: FileRow) -> bytes:
        directory = tables.directories[file.directory_id].path
        return directory + b"/" + file.name if directory else file.name

    def _record(self, tables: Tables, file: FileRow) -> FileRecord:
        """What is shown of a row."""
        directory = tables.directories[file.directory_id]
        return FileRecord(
            file_id=file.file_id,
            repository_id=file.repository_id,
            path=self._path(tables, file),
            kind=file.kind,
            file_type=type_of_name(file.name),
            size=file.size,
            mtime_ns=file.mtime_ns,
            ctime_ns=file.ctime_ns,
            inode=file.inode,
            mode=file.mode,
            uid=file.uid,
            gid=file.gid,
            nlink=file.nlink,
            atime_ns=file.atime_ns,
            btime_ns=file.btime_ns,
            state=file.state,
            tracking=file.tracking,
            flags=file.flags,
            policy_name=file.policy_name,
            policy_explicit=file.policy_explicit,
            algorithm=file.algorithm,
            checksum=file.checksum,
            hash_due=file.hash_due,
            version=file.version,
            registered_ns=file.registered_ns,
            state_since_ns=file.state_since_ns,
            changed_ns=file.changed_ns,
            scanned_ns=directory.scanned_ns,
            scan_generation=directory.generation,
            seq=file.seq,
            backup_path=file.backup_path,
            archive_path=file.archive_path,
        )

    # -- changing --------------------------------------------------------------------------

    def _insert(self, tables: Tables, file: FileRow, now_ns: int) -> FileRow:
        """Raises `UsageError` when the id is taken, or the place has a live record."""
        tables.last_seq += 1
        seq = tables.last_seq
        file = replace(file, seq=seq, registered_seq=seq, state_since_ns=now_ns, changed_ns=now_ns)
        if any(other.file_id == file.file_id for other in tables.files.values()):
            raise UsageError("the id is taken", operation="add file", subject=file.name)
        self._put(tables, file)
        return file

    def _change(self, tables: Tables, row_id: int, now_ns: int, **fields: Any) -> FileRow:
        """Give a record new values, and a new seq where that shows."""
        old = tables.files[row_id]
        new = replace(old, **fields)
        if not new.live:
            new = replace(new, last_seen_ns=None, place_before=None, hash_due=False)
        if new.state is not old.state:
            new = replace(new, state_since_ns=now_ns)
        if self._record(tables, new) != self._record(tables, old):
            tables.last_seq += 1
            new = replace(new, seq=tables.last_seq, changed_ns=now_ns)
        self._put(tables, new)
        return new

    def _put(self, tables: Tables, file: FileRow) -> None:
        place = (file.directory_id, file.name)
        for other in tables.files.values():
            there = (other.directory_id, other.name) == place and other.row_id != file.row_id
            if there and other.live and file.live:
                raise UsageError(
                    "another record lives there",
                    operation="change record",
                    subject=self._path(tables, file),
                )
        tables.files[file.row_id] = file

    def _journal(
        self,
        tables: Tables,
        file_id: bytes,
        operation_type: str,
        now_ns: int,
        *,
        status: str = "completed",
        run: Run | None = None,
        details: str | None = None,
    ) -> None:
        operation = Operation(
            operation_id=self._ids.one(),
            file_id=file_id,
            operation_type=operation_type,
            timestamp_ns=now_ns,
            status=status,
            run_id=run.run_id if run else None,
            finished_ns=now_ns,
            details=details,
        )
        tables.operations[operation.operation_id] = operation

    def _policy_of(self, name: bytes) -> str:
        """The policy that governs a new file by its type."""
        file_type: FileType = type_of_name(name)
        for policy in SHIPPED:
            if file_type in policy.file_types:
                return policy.name
        return "default"
