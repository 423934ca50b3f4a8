"""Single files that somebody names: registered, looked at anew, claimed, let go.

A pass over a root finds files by itself; this is for one who knows of a file already, and wants it
recorded now.
"""

from __future__ import annotations

import os
import stat
import threading

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.differences import differences
from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import GuardError, NotFoundError, OfflineError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import FileFlag, FileRecord, LifecycleState, Tracking
from lifecycle_sync.model.ids import IdSource, from_text, to_text
from lifecycle_sync.model.observation import DirectoryListing
from lifecycle_sync.model.operation import Operation, Run, RunType
from lifecycle_sync.model.record import DirectoryChange, ScanBatch
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.observe.hasher import hash_file
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.listings import margin_ns_of
from lifecycle_sync.service.loose import stat_names
from lifecycle_sync.service.own_files import is_own
from lifecycle_sync.service.roots import Roots, absolute_path


class SingleFiles:
    """The files of one registry, one at a time. Thread-safe."""

    def __init__(
        self,
        registry: SqliteRegistry,
        roots: Roots,
        rules: IgnoreRules,
        settings: Settings,
        *,
        fs: FileOps,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._roots = roots
        self._rules = rules
        self._settings = settings
        self._fs = fs
        self._clock = clock
        self._ids = IdSource(clock.now_ns)
        self._ids_lock = threading.Lock()

    def find(self, path_or_id: str) -> FileRecord:
        """The record of a file by its path or id. Raises `NotFoundError`."""
        try:
            record = self._registry.file(from_text(path_or_id))
        except ValueError:
            repository, path = self._roots.resolve(path_or_id)
            record = self._registry.file_at(repository.repository_id, path)
        if record is None:
            raise NotFoundError(
                "is not in the registry",
                operation="find file",
                subject=path_or_id,
                remedy="`lifecycle sync` brings the registry in step, `lifecycle find` searches it",
            )
        return record

    def register(
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
                if self._registry.repository(repository.repository_id) is not None:
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
        if repository.kind is RepositoryKind.ROOT and self._rules.ignores(relative, False):
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
            algorithm=self._settings.hash_algorithm,
            margin_ns=margin_ns,
            clock=self._clock,
            cancel=cancel or CancelToken(),
        )
        return self._registry.register(
            _run_of(repository, now_ns),
            ScanBatch(now_ns, changes=[change]),
            relative,
            policy,
            hashed=hashed,
            algorithm=self._settings.hash_algorithm,
        )

    def _check_order(self, path: bytes, policy: str | None) -> None:
        """Refuse what cannot be registered before anything is made for it."""
        if policy is not None and policy not in {known.name for known in self._registry.policies()}:
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
        if is_own(self._settings, path):
            raise UsageError(
                "belongs to lifecycle itself",
                operation="register file",
                subject=path,
                remedy="name a file of yours",
            )

    def _repository_for(self, path: bytes) -> tuple[Repository, bytes]:
        """The repository a file belongs to, a new loose one if need be, and its guard passed."""
        found = self._roots.holding(path)
        if found is None:
            folder, name = os.path.split(path)
            # Another process may be making one for the same folder.
            with self._roots.changing(folder):
                found = self._roots.holding(path) or (self._roots.add_loose(folder), name)
        repository, relative = found
        verdict, _identity = self._roots.look(repository)
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

    def refresh(self, repository: Repository, relative: bytes) -> None:
        """Record one file or symlink of a root as it is now, unhashed. Raises `NotFoundError` for
        one that is not there, `UsageError` for what is neither."""
        now_ns = self._clock.now_ns()
        path = repository.path + b"/" + relative
        racy_since_ns = now_ns - margin_ns_of(repository)
        change = self._look_at(repository, path, relative, racy_since_ns, by_name=False)
        self._registry.record_scan(_run_of(repository, now_ns), ScanBatch(now_ns, changes=[change]))

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
        stored = self._registry.directories(repository.repository_id, [directory]).get(directory)
        records = self._registry.files_in(stored.directory_id) if stored is not None else []
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
        with self._ids_lock:
            return self._ids.take(count)

    def note_download(self, path_or_id: str, at_ns: int | None) -> FileRecord:
        """Note that a file was downloaded, now or then: by `age_from` "downloaded" its age counts
        from the last time. Raises `NotFoundError`, and `UsageError` for a time yet to come."""
        record, now_ns = self.find(path_or_id), self._clock.now_ns()
        at_ns = now_ns if at_ns is None else at_ns
        if at_ns > now_ns:
            raise UsageError(
                "cannot have been downloaded at a time yet to come",
                operation="note download",
                subject=path_or_id,
                remedy="name a time that has passed, or none for now",
            )
        self._registry.note_download(record.file_id, at_ns, now_ns)
        return record

    def unregister(self, file_id: bytes) -> None:
        """Stop following a file; its bytes and versions stay, and no scan takes it up again.
        Idempotent. Raises `NotFoundError`."""
        self._registry.unregister(file_id, self._clock.now_ns())

    def claim(self, file_id: bytes) -> FileRecord:
        """Mark a file as being worked on by the application: nothing is done to it until
        `release`. Idempotent. Raises `NotFoundError`, `TransitionError`."""
        return self._set_state(file_id, LifecycleState.PROCESSING, "claim", set_flags=_CLAIMED)

    def release(self, file_id: bytes) -> FileRecord:
        """End a claim; the file counts as changed. Idempotent. Raises `NotFoundError`."""
        record = self.find(to_text(file_id))
        if not record.flags & FileFlag.CLAIMED:
            return record
        # A file that went meanwhile stays gone.
        claimed = record.state is LifecycleState.PROCESSING
        state = LifecycleState.UPLOADED if claimed else record.state
        return self._set_state(file_id, state, "release", clear_flags=_CLAIMED)

    def _set_state(
        self,
        file_id: bytes,
        state: LifecycleState,
        operation: str,
        *,
        set_flags: int = 0,
        clear_flags: int = 0,
    ) -> FileRecord:
        identifier = file_id
        now_ns = self._clock.now_ns()
        record = self._registry.set_state(
            identifier, state, now_ns, set_flags=set_flags, clear_flags=clear_flags
        )
        (operation_id,) = self._take_ids(1)
        self._registry.add_operations(
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
