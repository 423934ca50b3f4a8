"""The synchronous core that every face calls: one registry, its roots, and the passes over them."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifecycle_sync.act.occupied import Conflict
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_SECOND, Clock, SystemClock
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.differences import differences
from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import (
    CancelledError,
    GuardError,
    LifecycleError,
    NotFoundError,
    OfflineError,
    UsageError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.conflict import Strategy
from lifecycle_sync.model.file import FileFlag, FileRecord, LifecycleState, Tracking
from lifecycle_sync.model.ids import IdSource, from_text, to_text
from lifecycle_sync.model.observation import DirectoryListing
from lifecycle_sync.model.operation import Operation, Run, RunType
from lifecycle_sync.model.record import DirectoryChange, ScanBatch
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.observe.hasher import hash_file
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.acts import Acts
from lifecycle_sync.service.cycle import Cycle, SyncReport
from lifecycle_sync.service.decisions import Decisions
from lifecycle_sync.service.listings import margin_ns_of
from lifecycle_sync.service.locks import Locks
from lifecycle_sync.service.loose import stat_names
from lifecycle_sync.service.order import Workshop
from lifecycle_sync.service.own_files import is_own
from lifecycle_sync.service.parallel import in_parallel
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.proof import Proof
from lifecycle_sync.service.roots import AddedRoot, Roots, absolute_path
from lifecycle_sync.service.space import MakingRoom, Space
from lifecycle_sync.service.statements import Statements
from lifecycle_sync.service.vaults import Vaults

CONFLICT_BY_STRATEGY = {
    Strategy.DISK: Conflict.SKIP,
    Strategy.REGISTRY: Conflict.REPLACE,
    Strategy.NEWEST: Conflict.NEWEST,
    Strategy.KEEP_BOTH: Conflict.KEEP_BOTH,
}


class Engine:
    """One open registry with all that is done on it. Thread-safe; a context manager."""

    def __init__(
        self,
        registry: SqliteRegistry,
        settings: Settings,
        *,
        fs: FileOps | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.registry = registry
        self.settings = settings
        self._fs = self.fs = fs or FileOps()
        self._clock = self.clock = clock or SystemClock()
        self.locks = Locks(self._fs, registry.path)
        self.roots = Roots(registry, settings, self._fs, self._clock, self.locks)
        self.cycle = Cycle(
            registry, self.roots, settings, self.locks, fs=self._fs, clock=self._clock
        )
        self.vaults = Vaults(registry, registry.path, settings, self._fs, self._clock)
        self.proof = Proof(registry, self.vaults, settings, self._fs, self._clock)
        self.acts = Acts(
            Workshop(
                registry,
                self.roots,
                self.vaults,
                self.locks,
                settings,
                fs=self._fs,
                clock=self._clock,
                proof=self.proof,
            )
        )
        self.space = Space(self._fs, settings)
        self.making_room = MakingRoom(self.space, registry, self.acts)
        self.decisions = Decisions(
            registry, self.roots, self.space, self.proof, settings=settings, clock=self._clock
        )
        self.statements = Statements(registry, self.vaults, self._clock)
        self._ids = IdSource(self._clock.now_ns)
        self._loose_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        fs: FileOps | None = None,
        clock: Clock | None = None,
        create: bool = True,
    ) -> Engine:
        """Open the registry of `settings`, making it if need be. Raises `RegistryError`."""
        registry = SqliteRegistry.open(settings.database_path, clock=clock, fs=fs, create=create)
        return cls(registry, settings, fs=fs, clock=clock)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.vaults.close()
        self.registry.close()

    @property
    def min_age_ns(self) -> int:
        """What is younger is left alone by policies."""
        return self.settings.min_age_seconds * NS_PER_SECOND

    def note_download(self, path_or_id: str, at_ns: int | None = None) -> FileRecord:
        """Note that a file was downloaded, now or then: by `age_from` "downloaded" its age counts
        from the last time. Raises `NotFoundError`, and `UsageError` for a time yet to come."""
        record, now_ns = self.find_record(path_or_id), self.now_ns()
        at_ns = now_ns if at_ns is None else at_ns
        if at_ns > now_ns:
            raise UsageError(
                "cannot have been downloaded at a time yet to come",
                operation="note download",
                subject=path_or_id,
                remedy="name a time that has passed, or none for now",
            )
        self.registry.note_download(record.file_id, at_ns, now_ns)
        return record

    @property
    def conflict(self) -> Conflict:
        """What is done where something stands at the place of a file that is to come back."""
        return CONFLICT_BY_STRATEGY[Strategy(self.settings.conflict_strategy)]

    def now_ns(self) -> int:
        """The time by this engine's clock."""
        return self._clock.now_ns()

    # -- roots -----------------------------------------------------------------------------

    def configured_roots(self) -> list[Path]:
        """The folders the settings name."""
        local = self.settings.local_storage_path
        return [*([local] if local is not None else []), *self.settings.roots]

    def add_root(
        self, path: str | os.PathLike[str], *, adopt: bool = False, enforce: bool = False
    ) -> AddedRoot:
        """See `Roots.add`."""
        return self.roots.add(path, adopt=adopt, enforce=enforce)

    def accept(self, path_or_id: str | os.PathLike[str]) -> tuple[Repository, str]:
        """Confirm what a guard holds: a root as it is now, or a suspect file's content.

        Returns the repository and what was accepted, in words. Raises `NotFoundError`.
        """
        try:
            return self.roots.accept(self.roots.get(path_or_id))
        except NotFoundError:
            record = self.find_record(os.fspath(path_or_id))
        repository = self.registry.repository(record.repository_id)
        assert repository is not None, "a record has its repository"
        if not record.flags & FileFlag.SUSPECT:
            raise UsageError(
                "is neither a root nor a suspect file",
                operation="accept",
                subject=os.fspath(path_or_id),
                remedy="`lifecycle status` shows what is held",
            )
        self.registry.accept_suspect(record.file_id, self._clock.now_ns())
        return repository, f"the content of {os.fsdecode(record.path)} as it is now"

    # -- passes ----------------------------------------------------------------------------

    def sync(
        self,
        repositories: Sequence[Repository] | None = None,
        *,
        run_type: RunType = RunType.RECONCILIATION,
        hashes: bool | None = None,
        scrub: bool = False,
        below: Mapping[bytes, Sequence[bytes]] | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        wait_seconds: float = 10.0,
        on_report: Callable[[SyncReport], None] | None = None,
    ) -> list[SyncReport]:
        """Pass over the given roots (None: all), several at once, a report each in their order.

        `below` names folders of roots, by the root's id, that are looked at in place of all of it:
        a report each. One root's failure does not keep the others waiting: it is in its report.
        `on_report` is called in this thread. Raises `CancelledError` only.
        """
        self.decisions.heartbeat()
        wanted = self.roots.all() if repositories is None else repositories
        passes = [
            (repository, folder)
            for repository in wanted
            for folder in (below or {}).get(repository.repository_id, (None,))
        ]

        def one(item: tuple[Repository, bytes | None], told: Progress | None) -> SyncReport:
            repository, folder = item
            try:
                return self.cycle.sync(
                    repository,
                    run_type,
                    hashes=self.settings.calculate_hashes if hashes is None else hashes,
                    scrub=scrub,
                    below=folder,
                    progress=told,
                    cancel=cancel,
                    wait_seconds=wait_seconds,
                )
            except CancelledError:
                raise
            except LifecycleError as error:
                return SyncReport(repository, error=error)

        return in_parallel(
            one,
            passes,
            at_once=self.settings.max_concurrency or 1,
            progress=progress,
            on_done=on_report,
        )

    def changes(self, since: int = 0, limit: int = 1_000) -> list[FileRecord]:
        """Records that changed after the change numbered `since`, in the order of their changes;
        the `seq` of the last is where the next call goes on. Each is told once, as it is now."""
        return self.registry.changes(since, limit)

    # -- single files ----------------------------------------------------------------------

    def find_record(self, path_or_id: str) -> FileRecord:
        """The record of a file by its path or id. Raises `NotFoundError`."""
        try:
            record = self.registry.file(from_text(path_or_id))
        except ValueError:
            repository, path = self.roots.resolve(path_or_id)
            record = self.registry.file_at(repository.repository_id, path)
        if record is None:
            raise NotFoundError(
                "is not in the registry",
                operation="find file",
                subject=path_or_id,
                remedy="`lifecycle sync` brings the registry in step, `lifecycle find` searches it",
            )
        return record

    def register_file(
        self,
        file_path: str | os.PathLike[str],
        policy_name: str = "default",
        *,
        cancel: CancelToken | None = None,
    ) -> FileRecord:
        """Take one file under management, hashed; again for one that is known keeps its id.

        A file outside every root makes its folder a loose repository: its siblings stay
        unobserved. `policy_name` "default" leaves the choice to the rules. Raises `UsageError` for
        what is no regular file or is ignored by a rule, `NotFoundError` for a file or policy that
        does not exist, `OfflineError` or `GuardError` for a root that is not itself.
        """
        path = absolute_path(file_path)
        policy = None if policy_name == "default" else policy_name
        self._check_order(path, policy)
        while True:
            repository, relative = self._repository_for(path)
            try:
                return self._register(repository, relative, path, policy, cancel=cancel)
            except NotFoundError:
                # A root that was put around its folder meanwhile has taken a loose one over.
                if self.registry.repository(repository.repository_id) is not None:
                    raise
                if repository.kind is not RepositoryKind.LOOSE:
                    raise

    def _register(
        self,
        repository: Repository,
        relative: bytes,
        path: bytes,
        policy: str | None,
        *,
        cancel: CancelToken | None,
    ) -> FileRecord:
        if repository.kind is RepositoryKind.ROOT and self.cycle.rules.ignores(relative, False):
            raise UsageError(
                "is ignored by a rule",
                operation="register file",
                subject=path,
                remedy="take the rule out of `ignore`, or bring the file back with `!pattern`",
            )
        now_ns = self._clock.now_ns()
        margin_ns = margin_ns_of(repository)
        change = self._look_at(repository, path, relative, now_ns - margin_ns, by_name=True)
        hashed = hash_file(
            self._fs,
            repository.path,
            relative,
            algorithm=self.settings.hash_algorithm,
            margin_ns=margin_ns,
            clock=self._clock,
            cancel=cancel or CancelToken(),
        )
        return self.registry.register(
            _run_of(repository, now_ns),
            ScanBatch(now_ns, changes=[change]),
            relative,
            policy,
            hashed=hashed,
            algorithm=self.settings.hash_algorithm,
        )

    def _check_order(self, path: bytes, policy: str | None) -> None:
        """Refuse what cannot be registered before anything is made for it."""
        if policy is not None and policy not in {known.name for known in self.registry.policies()}:
            raise NotFoundError(
                "no such policy",
                operation="register file",
                subject=policy,
                remedy="`lifecycle sql 'SELECT name FROM lifecycle_policies'` lists them",
            )
        try:
            found = self._fs.stat(path, follow_symlinks=False)
        except OSError as error:
            raise _unusable(path, error) from error
        if not stat.S_ISREG(found.st_mode):
            raise _not_regular(path)
        if is_own(self.settings, path):
            raise UsageError(
                "belongs to lifecycle itself",
                operation="register file",
                subject=path,
                remedy="name a file of yours",
            )

    def _repository_for(self, path: bytes) -> tuple[Repository, bytes]:
        """The repository a file belongs to, a new loose one if need be, and its guard passed."""
        found = self.roots.holding(path)
        if found is None:
            folder, name = os.path.split(path)
            # Another process may be making one for the same folder.
            with self.roots.changing(folder):
                found = self.roots.holding(path) or (self.roots.add_loose(folder), name)
        repository, relative = found
        verdict, _identity = self.roots.look(repository)
        if verdict.outcome is Outcome.OFFLINE:
            raise OfflineError(
                verdict.reason,
                operation="register file",
                subject=repository.path,
                remedy=verdict.remedy,
            )
        if verdict.outcome is Outcome.HELD:
            raise GuardError(
                verdict.reason,
                guard=verdict.guard,
                operation="register file",
                subject=repository.path,
                remedy=verdict.remedy,
            )
        return repository, relative

    def refresh_file(self, repository: Repository, relative: bytes) -> None:
        """Record one file or symlink of a root as it is now, unhashed. Raises `NotFoundError` for
        one that is not there, `UsageError` for what is neither."""
        now_ns = self._clock.now_ns()
        path = repository.path + b"/" + relative
        racy_since_ns = now_ns - margin_ns_of(repository)
        change = self._look_at(repository, path, relative, racy_since_ns, by_name=False)
        self.registry.record_scan(_run_of(repository, now_ns), ScanBatch(now_ns, changes=[change]))

    def _look_at(
        self,
        repository: Repository,
        path: bytes,
        relative: bytes,
        racy_since_ns: int,
        *,
        by_name: bool,
    ) -> DirectoryChange:
        """The change that records one file as it is now. `by_name`: as one that is registered."""
        directory, _, name = relative.rpartition(b"/")
        try:
            with Descent(self._fs, repository.path) as descent:
                directory_fd = descent.open(directory)
                mode = self._fs.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode
                if not stat.S_ISREG(mode) and (by_name or not stat.S_ISLNK(mode)):
                    raise _not_regular(path)
                inode = self._fs.fstat(directory_fd).st_ino
                columns = stat_names(self._fs, directory_fd, [name], racy_since_ns)
        except OSError as error:
            raise _unusable(path, error) from error
        stored = self.registry.directories(repository.repository_id, [directory]).get(directory)
        records = self.registry.files_in(stored.directory_id) if stored is not None else []
        listing = DirectoryListing(directory, inode=inode, columns=columns)
        change = differences(
            stored,
            [
                # One that was taken out, or that a rule hid, is followed again: as it is now.
                record._replace(tracking=Tracking.TRACKED.value) if by_name else record
                for record in records
                if record.name == name
            ],
            listing,
            ignored=lambda _name: False,
            stable_inodes=repository.identity.stable_inodes,
        )
        change.partial = True
        change.added_ids = self._take_ids(len(change.added))
        return change

    def _take_ids(self, count: int) -> list[bytes]:
        with self._loose_lock:
            return self._ids.take(count)

    def unregister_file(self, file_id: str) -> None:
        """Stop following a file; its bytes and versions stay, and no scan takes it up again.
        Idempotent. Raises `NotFoundError`."""
        self.registry.unregister(parse_id(file_id), self._clock.now_ns())

    def claim(self, file_id: str) -> FileRecord:
        """Mark a file as being worked on by the application: nothing is done to it until
        `release`. Idempotent. Raises `NotFoundError`, `TransitionError`."""
        return self._set_state(file_id, LifecycleState.PROCESSING, "claim", set_flags=_CLAIMED)

    def release(self, file_id: str) -> FileRecord:
        """End a claim; the file counts as changed. Idempotent. Raises `NotFoundError`."""
        record = self.find_record(to_text(parse_id(file_id)))
        if not record.flags & FileFlag.CLAIMED:
            return record
        # A file that went meanwhile stays gone.
        claimed = record.state is LifecycleState.PROCESSING
        state = LifecycleState.UPLOADED if claimed else record.state
        return self._set_state(file_id, state, "release", clear_flags=_CLAIMED)

    def _set_state(
        self,
        file_id: str,
        state: LifecycleState,
        operation: str,
        *,
        set_flags: int = 0,
        clear_flags: int = 0,
    ) -> FileRecord:
        identifier = parse_id(file_id)
        now_ns = self._clock.now_ns()
        record = self.registry.set_state(
            identifier, state, now_ns, set_flags=set_flags, clear_flags=clear_flags
        )
        (operation_id,) = self._take_ids(1)
        self.registry.add_operations(
            [Operation(operation_id, identifier, operation, now_ns, "completed", None, now_ns)]
        )
        return record


_CLAIMED = FileFlag.CLAIMED.value


def _run_of(repository: Repository, now_ns: int) -> Run:
    """A look at single files has no row of its own: a run has many files."""
    return Run(0, repository.repository_id, RunType.REALTIME, now_ns, repository.generation, 0)


def _unusable(path: bytes, error: OSError) -> NotFoundError:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return NotFoundError(
        "does not exist" if missing else f"cannot be read ({error.strerror})",
        operation="look at file",
        subject=path,
        remedy="check the spelling" if missing else "check its permissions",
    )


def _not_regular(path: bytes) -> UsageError:
    return UsageError(
        "is not a regular file",
        operation="register file",
        subject=path,
        remedy="name a file; a folder becomes a root with `lifecycle add`",
    )


def parse_id(text: str) -> bytes:
    """The bytes of a file id. Raises `NotFoundError` for what is none: no file has it."""
    try:
        return from_text(text)
    except ValueError as error:
        raise NotFoundError(
            "is no file id", operation="find file", subject=text, remedy="ids are UUIDs"
        ) from error
