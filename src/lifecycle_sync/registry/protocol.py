"""What a registry promises. Callers ask for the narrowest of these protocols.

For all of them: a call that returns has committed, a call that raises has changed nothing, reads
see every write of the same process that returned before, and no write transaction lasts long (the
caller keeps batches to some thousand rows). Every method may be called from any thread. Errors are
`BusyError` (the database is held elsewhere), `StorageFullError`, `RegistryCorruptError`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

from lifecycle_sync.model.act import ActFile, ActOutcome, Intent, VersionRow
from lifecycle_sync.model.conflict import Conflict, Resolved
from lifecycle_sync.model.event import Event
from lifecycle_sync.model.file import FileRecord, LifecycleState
from lifecycle_sync.model.hold import Confirmation, Hold, Switch
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.model.operation import ActRun, Operation, Run, RunType
from lifecycle_sync.model.plan import Decided, KeptVersion, Subject, VersionMark
from lifecycle_sync.model.policy import LifecyclePolicy
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
from lifecycle_sync.model.temp import DeclaredFile, JobNote, JobState
from lifecycle_sync.model.watch import ScrubNote, WatchNote
from lifecycle_sync.registry.replay import Replayed


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

    def top_folders(self, repository_id: bytes, under: bytes, limit: int) -> list[FolderTotal]:
        """The direct sub-folders of `under` with all below them, most bytes first."""
        ...

    def changes(self, since_seq: int, limit: int) -> list[FileRecord]:
        """Records changed after `since_seq`, by seq; every tracking and state."""
        ...

    def last_seq(self) -> int: ...


class Journal(Protocol):
    """What was done to single files, and the policies."""

    def add_operations(self, operations: Sequence[Operation]) -> None: ...

    def operations(self, file_id: bytes, limit: int) -> list[Operation]:
        """Newest first."""
        ...

    def operation_count(self, since_ns: int) -> int: ...

    def journal(
        self, after: bytes | None, limit: int, *, types: Collection[str] = ()
    ) -> list[Operation]:
        """All operations (of these types), by their ids, which grow with time."""
        ...

    def policies(self) -> list[LifecyclePolicy]:
        """In declared order; the shipped ones are there from the start."""
        ...


class ActStore(Protocol):
    """The journal of acts: what is intended, before it is done, and what came of it, after.

    Every call here that writes is one durable transaction: what it has taken outlives a power cut.
    Whether a run of acts still lives, its caller tells by a lock; here it is only noted.
    """

    def begin_act(self, repository_id: bytes, verb: str, now_ns: int) -> ActRun:
        """A run that is "running". Raises `NotFoundError`. Runs outlive their repository."""
        ...

    def end_act(self, act: ActRun, now_ns: int, status: str, counts: str | None = None) -> None:
        """`counts` is JSON text. What is pending stays so."""
        ...

    def acts(self, repository_id: bytes | None, limit: int) -> list[ActRun]:
        """Newest first."""
        ...

    def act(self, act_id: int) -> ActRun | None: ...

    def begin_operations(
        self, act: ActRun, intents: Sequence[Intent], now_ns: int, *, unless_held: bool
    ) -> dict[bytes, str]:
        """Write the intents down as "pending", with the act's id as `run_id`; those that are
        refused by their operation ids, and why: "no such file" (in the act's repository), "held:
        ..." or "another act is pending". Of two intents for one file one is refused, however many
        processes try. With `unless_held` each is written by the very statement that sees that
        nothing holds its file: a hold that was added before stops it. Raises `NotFoundError` for
        a repository that is gone."""
        ...

    def finish_operations(
        self,
        act: ActRun,
        outcomes: Sequence[ActOutcome],
        now_ns: int,
        *,
        manifests: Sequence[tuple[bytes, str]] = (),
    ) -> dict[bytes, str]:
        """Write down what came of intents, of whatever act, with what it did to their records; and
        that `manifests` (vault, name) are in the registry. All of it or nothing.

        Idempotent: an operation that is not pending is passed over, its change too. States follow
        the transition table (a backup passes through BACKUP_PENDING); but ARCHIVED and DELETED are
        taken as facts, from wherever. A record in them is not missing, and nothing of it is due
        to be hashed; one that comes back is looked at by the next scan. A record keeps its id
        wherever its file is put: where a scan has met that file first, its new record goes.

        Returned is, by operation, what could not be done to a record, and why. Where another file
        has the place, that operation is "failed" and its record stays as it was; all else is
        recorded nevertheless.
        """
        ...

    def pending_operations(self, repository_id: bytes | None) -> list[Operation]:
        """Those of acts on a repository, or all, by act and in the order of their ids. The living
        ones are among them."""
        ...

    def to_back_up(self, repository_id: bytes, after: int, limit: int) -> list[ActFile]:
        """Records by row_id, greater than `after`: tracked, UPLOADED or BACKUP_PENDING, a regular
        file or a symlink, and neither claimed, unstable, suspect nor missing. A page costs what is
        on it, however many records there are."""
        ...

    def files_under(
        self, repository_id: bytes, path: bytes, after: bytes | None, limit: int
    ) -> list[ActFile]:
        """Tracked live records (the archived ones too) at a path or below it, empty for the whole
        root: a file at the path itself, then folder by folder and name by name. `after` is the
        path of the last one of the page before."""
        ...

    def act_files(self, file_ids: Iterable[bytes]) -> dict[bytes, ActFile]:
        """Those that there are, of every state and tracking, by id."""
        ...

    def held(self, file_ids: Collection[bytes], now_ns: int) -> dict[bytes, str]:
        """Which of these files are held, and the reason of one hold on each."""
        ...

    def versions(self, file_id: bytes) -> list[VersionRow]:
        """Newest first. They outlive the record."""
        ...

    def applied_manifests(self, store_id: bytes) -> set[str]:
        """The manifests of a vault that are in the registry."""
        ...

    def add_applied(self, store_id: bytes, names: Sequence[str], now_ns: int) -> None:
        """Idempotent."""
        ...

    def store(self, kind: str) -> bytes | None:
        """The id of the vault that is used for "backup" or "archive"; None where none was yet."""
        ...

    def set_store(self, kind: str, store_id: bytes | None) -> None:
        """None forgets it, for another one to be used."""
        ...


class HoldStore(Protocol):
    """What a person has said that stands above policies."""

    def add_hold(self, hold: Hold) -> None:
        """From its return on it stops every act that asks. Raises `UsageError` for one that names
        not exactly one of file and query, or whose id is taken, and `NotFoundError`."""
        ...

    def release_hold(self, hold_id: bytes, now_ns: int) -> None:
        """Idempotent: the first release counts. Raises `NotFoundError`."""
        ...

    def holds(self, file_id: bytes | None = None, now_ns: int | None = None) -> list[Hold]:
        """All, or those on a file, by their query too; with `now_ns` only what holds at that time.
        Oldest first."""
        ...

    def add_confirmation(self, confirmation: Confirmation) -> None:
        """Idempotent."""
        ...

    def confirmations(self, repository_id: bytes) -> list[Confirmation]:
        """Newest first. They outlive their repository."""
        ...


class PolicyStore(Protocol):
    """The changing of policies."""

    def put_policy(self, policy: LifecyclePolicy, now_ns: int) -> None:
        """Add a policy, last in the order, or give the one of that name new rules. Files for which
        it was chosen before it was removed go by it again. Raises `UsageError`."""
        ...

    def remove_policy(self, name: str, now_ns: int) -> None:
        """The files for which it was chosen go by their type. Raises `NotFoundError`, and
        `UsageError` for a shipped one."""
        ...

    def assign_policy(self, file_id: bytes, policy_name: str | None, now_ns: int) -> None:
        """Choose a policy for a file; None leaves the choice to the rules. Raises
        `NotFoundError`."""
        ...

    def statements(self) -> list[Event]:
        """All that people have said and a vault has to know: policies that were put or removed,
        those that were chosen for files, holds, confirmations."""
        ...


class DueStore(Protocol):
    """What is due, and what was decided about records by the rules as they are.

    A record that changed since, or all once the rules change, is undecided: what it says of its
    policy and its dates is not to be relied on.
    """

    def due(
        self, at_ns: int, after: tuple[int, int] | None, limit: int
    ) -> tuple[list[Subject], tuple[int, int] | None]:
        """Tracked, decided records whose next date is not after `at_ns`, the oldest first, and
        where the next page begins, None after the last one. Costs what is due, however many
        records there are."""
        ...

    def undecided(self, after_seq: int | None, limit: int) -> list[Subject]:
        """Records of any tracking that changed since they were decided on, by seq; `after_seq` is
        that of the last one of the page before."""
        ...

    def subjects(self, file_ids: Iterable[bytes]) -> dict[bytes, Subject]:
        """Those that there are, of every state and tracking, by id."""
        ...

    def write_decided(
        self, decided: Sequence[Decided], seq: int | None, marks: Sequence[VersionMark] = ()
    ) -> None:
        """Write policies and dates of records that still have their seq, which stays; with `seq`
        all records up to it are decided. `marks` say of versions that no rule keeps them, or that
        one does again."""
        ...

    def kept_versions(self, file_ids: Iterable[bytes]) -> dict[bytes, list[KeptVersion]]:
        """The versions of files in the vault that backups go to, newest first, by file; files
        without any are left out."""
        ...

    def files_with_versions_beyond(self, after: bytes | None, limit: int) -> list[bytes]:
        """Ids of files that have versions which are marked as kept by no rule, in their order."""
        ...

    def note_download(self, file_id: bytes, at_ns: int, now_ns: int) -> None:
        """Note that a file was downloaded then; what is not newer than what is known changes
        nothing. The record counts as changed, and as undecided. Raises `NotFoundError`."""
        ...

    def deleted_since(self, repository_id: bytes, since_ns: int) -> int:
        """How many files acts have deleted in a repository since then."""
        ...

    def switch(self, name: str) -> Switch | None: ...

    def set_switch(self, switch: Switch) -> None:
        """Durable: from its return on every process sees it."""
        ...

    def clear_switch(self, name: str) -> bool:
        """Whether it was set."""
        ...


class ReplayStore(Protocol):
    """Learning again from vaults what a lost or older database does not know."""

    def apply_events(
        self,
        events: Iterable[Event],
        now_ns: int,
        manifests: Sequence[tuple[bytes, str]] = (),
        *,
        kind: Literal["backup", "archive"] = "backup",
    ) -> Replayed:
        """Take up what events tell, then note `manifests` (vault, name) as applied, durably.

        The newest counts, by `at_ns`, also against what the registry knows by itself: versions are
        added; a state, a place or a chosen policy that is newer is taken; holds, confirmations and
        policies are added, a release is never undone. Unknown repositories are added OFFLINE,
        unknown files with their newest version's tuple and checksum, the times they had, and such
        that the next scan looks at them. What a scan has seen of a file stays. `kind` says which of
        a record's copies its newest version is.

        Idempotent, and the same in whatever order and portions events come, as long as those of a
        file come with or after one of its repository, and no two files claim one place: then the
        newer one is live and the older one DELETED. It is written in portions, so an error may
        leave some of it written; repeat it. Events that cannot be placed are counted.
        """
        ...


class WatchStore(Protocol):
    """What following a root asks, and what it notes."""

    def directories_under(
        self, repository_id: bytes, path: bytes, after: bytes | None, limit: int
    ) -> list[StoredDirectory]:
        """Directories that are not gone, at a path or below it (empty: all), by path, after
        `after`."""
        ...

    def linked_directories(self, repository_id: bytes, inodes: Collection[int]) -> list[bytes]:
        """The paths of directories that are not gone with live records of these inodes, sorted."""
        ...

    def hash_again(
        self, repository_id: bytes, contents: Mapping[bytes, Collection[bytes] | None]
    ) -> int:
        """Files (directory to names; None: all in it) were written to, though perhaps nothing else
        of them changed: live regular ones are due to be hashed, with all records of their inodes.
        How many were found by name. What changed is not told by it: no seq grows."""
        ...

    def watch_note(self, repository_id: bytes) -> WatchNote: ...

    def note_recrawl(self, repository_id: bytes, needed: bool) -> None:
        """Durable before it returns."""
        ...

    def note_health(self, repository_id: bytes, now_ns: int, health: str) -> None: ...

    def scrub_note(self, repository_id: bytes) -> ScrubNote: ...

    def note_scrub(self, repository_id: bytes, note: ScrubNote) -> None: ...

    def loops(self) -> list[LoopNote]:
        """The last time of each loop, by name; one that was never done is not among them."""
        ...

    def note_loop(self, note: LoopNote) -> None:
        """In place of what was noted of that loop before."""
        ...

    def prune_runs(self, repository_id: bytes, keep: int) -> None:
        """Forget all but the newest `keep` of the realtime runs that looked at parts."""
        ...


class ConflictStore(Protocol):
    """What the disk and the registry say differently, until it is resolved.

    A scan notes in its own transaction (`record_scan`): a file at the place of an archived record,
    which is UPLOADED again then; a new record at the place of one that an act has deleted. What an
    act is at work on is neither. A record has one conflict at most; the first counts."""

    def note_renamed_onto(self, row_ids: Sequence[int], now_ns: int) -> None:
        """Of these missing records: where the same inode, with the same size and mtime, lies at the
        place of a live record with another checksum, whose new content is still to be hashed, note
        that it was renamed onto that."""
        ...

    def conflicts(self, repository_id: bytes, after: int, limit: int) -> list[Conflict]:
        """Those that wait, by row_id, greater than `after`."""
        ...

    def conflict_count(self, repository_id: bytes) -> int: ...

    def close_conflicts(self, resolved: Sequence[Resolved], now_ns: int) -> None:
        """Journal how they were resolved, as "conflict" of the record at the place, and forget
        them. Those that are not known are passed over."""
        ...


class JobStore(Protocol):
    """Jobs of applications that have no table of their own for them."""

    def put_job(self, job_id: str, state: JobState, now_ns: int) -> None:
        """A job is live, failed or finished, since now unless it was so before; that is a sign of
        life, too. Durable before it returns. Raises `UsageError` for another state, or no id."""
        ...

    def beat_job(self, job_id: str, now_ns: int) -> bool:
        """A live job gave a sign of life; False for one that is not known, or not live."""
        ...

    def jobs(self, job_ids: Collection[str]) -> dict[str, JobNote]:
        """Those of them that are known."""
        ...

    def count_jobs(self) -> dict[JobState, int]: ...

    def forget_jobs(self, before_ns: int) -> int:
        """Forget those that ended before then, with the files that they declared; how many."""
        ...

    def declare_files(self, files: Sequence[DeclaredFile]) -> None:
        """Files are a job's, by their paths; what was said of a path before is forgotten. Durable
        before it returns. Raises `NotFoundError` for a job that is not known."""
        ...

    def declared_files(self, paths: Collection[bytes]) -> dict[bytes, DeclaredFile]:
        """Those of these paths that are declared."""
        ...

    def files_of_job(self, job_id: str) -> list[DeclaredFile]:
        """What a job has declared, by path."""
        ...


class Registry(
    RepositoryStore,
    ScanStore,
    HashStore,
    FileStore,
    QueryStore,
    Journal,
    ActStore,
    HoldStore,
    PolicyStore,
    DueStore,
    ReplayStore,
    WatchStore,
    ConflictStore,
    JobStore,
    Protocol,
):
    """All of it."""

    def close(self) -> None:
        """Release connections and locks. Idempotent; any other call afterwards is an error."""
        ...
