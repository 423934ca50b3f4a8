"""What a registry promises of repositories, scans, hashes, files, and questions about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from lifecycle_sync.model.file import FileRecord, LifecycleState
from lifecycle_sync.model.operation import Run, RunType
from lifecycle_sync.model.record import (
    DirectoryTotals,
    Duplicates,
    FileQuery,
    FolderTotal,
    HashCounts,
    HashResult,
    HashTask,
    MissingFile,
    Move,
    Page,
    ScanBatch,
    StoredDirectory,
    StoredFile,
    TypeCount,
)
from lifecycle_sync.model.repository import Repository


class RepositoryStore(Protocol):
    """The roots."""

    @property
    def registry_id(self) -> bytes:
        """This registry's own id (16 bytes), made with it."""
        ...

    def add_repository(self, repository: Repository) -> None:
        """Raises `UsageError` when the id or the path is taken.

        A root takes over the records that loose repositories have in it, under their ids; a loose
        one that keeps none goes."""
        ...

    def update_repository(self, repository: Repository) -> None:
        """Replace the row of that id, but for its generations, which only runs move; a root at
        another path takes over records as a new one does. Raises `NotFoundError`, and `UsageError`
        when the path is taken."""
        ...

    def remove_repository(self, repository_id: bytes) -> None:
        """Forget a root with its records and runs. Idempotent. Bytes on disk are not touched."""
        ...

    def repositories(self) -> list[Repository]:
        """In the order of their paths."""
        ...

    def repository(self, repository_id: bytes) -> Repository | None: ...


class ScanStore(Protocol):
    """What a scan reads and records. One scan a repository at a time: the caller holds its lock."""

    def begin_run(
        self, repository_id: bytes, run_type: RunType, started_ns: int, *, whole: bool
    ) -> Run:
        """A RUNNING row; a whole scan gets the next generation. Rows of the repository that are
        still RUNNING belong to killed processes and become FAILED ("interrupted")."""
        ...

    def end_run(self, run: Run) -> None:
        """Store the end; a COMPLETED whole run moves `complete_generation`."""
        ...

    def runs(self, repository_id: bytes | None, limit: int, *, whole: bool = False) -> list[Run]:
        """Newest first; with `whole` only those that scanned a whole repository."""
        ...

    def directories(
        self, repository_id: bytes, paths: Sequence[bytes]
    ) -> dict[bytes, StoredDirectory]:
        """Those of `paths` that have a row (also one whose directory had vanished)."""
        ...

    def signatures(self, repository_id: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Path and signature of all directories that have one, in no order."""
        ...

    def directory_paths(self, repository_id: bytes) -> Iterator[bytes]:
        """All that are not gone, by path."""
        ...

    def files_in(self, directory_id: int) -> list[StoredFile]:
        """All that are not DELETED, in no order."""
        ...

    def record_scan(self, run: Run, batch: ScanBatch) -> None:
        """Apply a batch in one transaction, changes in their order.

        Added files are UPLOADED and due to be hashed (regular ones); modified ones get the new
        tuple, are due to be hashed and, where content changed, are UPLOADED (a state that may not
        become UPLOADED stays). Missing ones are only noted (`missing`), with the time their
        directory was scanned before; returned ones leave that list.
        """
        ...

    def unseen_directories(
        self, run: Run, after: bytes | None, limit: int
    ) -> list[StoredDirectory]:
        """By path, after `after`: rows this whole scan did not come by, not gone yet, and not below
        a directory whose listing failed in it."""
        ...

    def retire_directories(self, run: Run, gone: Sequence[int], untracked: Sequence[int]) -> None:
        """Mark directories gone: the files of `gone` are noted as missing, those of `untracked`
        become IGNORED."""
        ...

    def missing_count(self, repository_id: bytes) -> int:
        """Tracked records that are noted as missing, but for those that an act is at work on."""
        ...

    def live_count(self, repository_id: bytes, until_seq: int | None = None) -> int:
        """Tracked records that are not DELETED, the missing ones included; with `until_seq` those
        that were registered up to then (this looks at every record)."""
        ...

    def missing(self, repository_id: bytes, after: int, limit: int) -> list[MissingFile]:
        """By row_id, greater than `after`; not those that an act is at work on (it may just have
        taken the file away): they come when it has finished, if the file is missing then."""
        ...

    def arrivals(self, repository_id: bytes, inode: int, since_ns: int) -> list[StoredFile]:
        """Live tracked records with that inode that were registered by a scan that began after
        `since_ns` (not by name) and are not missing: where a missing file may have gone."""
        ...

    def settle_missing(
        self,
        run: Run,
        *,
        gone: Sequence[int] = (),
        moved: Sequence[Move] = (),
        present: Sequence[int] = (),
    ) -> None:
        """Gone files become DELETED; moved ones continue elsewhere; present ones leave the list and
        their directory loses its signature, so that the next scan looks again. What was registered
        by name meanwhile stays as it is."""
        ...


class HashStore(Protocol):
    """Which files are to be hashed, and what came of it."""

    def to_hash(self, repository_id: bytes, after: int, limit: int) -> list[HashTask]:
        """Due ones by row_id, greater than `after`."""
        ...

    def to_hash_totals(self, repository_id: bytes) -> tuple[int, int]:
        """How many are due, and their bytes."""
        ...

    def to_scrub(self, repository_id: bytes, after: int, limit: int) -> list[HashTask]:
        """All hashed, tracked, regular, live ones by row_id, greater than `after`."""
        ...

    def record_hashes(
        self, algorithm: str, results: Sequence[HashResult], now_ns: int
    ) -> HashCounts:
        """Store results in one transaction.

        An "ok" whose tuple is the row's stores the digest; another digest than a stored one, with
        `hash_due` unset, makes the record SUSPECT and keeps the old digest; with it set, it is a
        change: the record becomes UPLOADED and its version grows. A newer tuple is stored with its
        digest. Unless `racy` the record is then no longer due. "unstable" keeps the old digest,
        sets UNSTABLE and leaves the record due; "unreadable" sets UNREADABLE and leaves it due.
        A provisional move whose digest agrees becomes final; otherwise it is split.
        """
        ...

    def accept_suspect(self, file_id: bytes, now_ns: int) -> None:
        """A person takes the bytes on the disk as right: due to be hashed again, not suspect."""
        ...


class FileStore(Protocol):
    """Single records: asked for and changed by name."""

    def file(self, file_id: bytes) -> FileRecord | None: ...

    def file_at(self, repository_id: bytes, path: bytes) -> FileRecord | None:
        """The live record at a path (any tracking), else the one DELETED there last, else None."""
        ...

    def register(
        self,
        run: Run,
        batch: ScanBatch,
        path: bytes,
        policy_name: str | None,
        *,
        hashed: HashResult | None = None,
        algorithm: str = "sha256",
    ) -> FileRecord:
        """Apply `batch` (as `record_scan`), then make the record at `path` TRACKED and registered
        by name; a policy that is given is set explicitly; `hashed` (its row_id is filled in) is
        applied as by `record_hashes`. All in one transaction, and journalled as "register".
        Raises `NotFoundError` for a policy that does not exist, or when no file is at `path`."""
        ...

    def unregister(self, file_id: bytes, now_ns: int) -> None:
        """The record becomes UNREGISTERED. Idempotent. Raises `NotFoundError`."""
        ...

    def set_state(
        self,
        file_id: bytes,
        state: LifecycleState,
        now_ns: int,
        *,
        set_flags: int = 0,
        clear_flags: int = 0,
    ) -> FileRecord:
        """Raises `NotFoundError`, or `TransitionError` for what the table does not have."""
        ...


class QueryStore(Protocol):
    """Read-only questions. Pages are by key, so they cost the same wherever they begin."""

    def find(self, query: FileQuery, cursor: str | None, limit: int) -> Page:
        """Tracked records only. A cursor belongs to the query it came from (`UsageError`)."""
        ...

    def type_counts(self, repository_id: bytes | None) -> list[TypeCount]:
        """Tracked records by state and type, DELETED included."""
        ...

    def directory_totals(self, repository_id: bytes | None) -> DirectoryTotals: ...

    def flag_count(self, repository_id: bytes | None, flag: int) -> int: ...

    def largest(self, repository_id: bytes | None, limit: int) -> list[FileRecord]: ...

    def duplicates(
        self, repository_id: bytes | None, cursor: str | None, limit: int
    ) -> tuple[list[Duplicates], str | None]:
        """Groups of live regular non-empty files with one checksum (several names of one inode
        count once), by checksum."""
        ...

    def with_content(self, algorithm: str, checksum: bytes, limit: int) -> list[FileRecord]:
        """Live regular files whose checksum, as last seen, is this one; at most `limit`."""
        ...

    def top_folders(self, repository_id: bytes, under: bytes, limit: int) -> list[FolderTotal]:
        """The direct sub-folders of `under` with all below them, most bytes first."""
        ...

    def changes(self, since_seq: int, limit: int) -> list[FileRecord]:
        """Records changed after `since_seq`, by seq; every tracking and state."""
        ...

    def last_seq(self) -> int: ...
