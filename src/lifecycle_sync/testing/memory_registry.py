"""The registry on dictionaries: for tests of what builds on the protocol, and a model of it.

Simple and slow: every question looks at every row, and every transaction copies the dictionaries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lifecycle_sync.errors import NotFoundError, TransitionError, UsageError
from lifecycle_sync.model.file import FileRecord, Kind, LifecycleState, Tracking, may_become
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.operation import Operation, Run, RunStatus, RunType
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.record import HashResult, ScanBatch
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.testing.memory_conflicts import MemoryConflicts
from lifecycle_sync.testing.memory_hashes import MemoryHashes
from lifecycle_sync.testing.memory_jobs import MemoryJobs
from lifecycle_sync.testing.memory_marked import MemoryMarked
from lifecycle_sync.testing.memory_queries import MemoryQueries
from lifecycle_sync.testing.memory_replay import MemoryReplay
from lifecycle_sync.testing.memory_scans import MemoryScans
from lifecycle_sync.testing.memory_tables import DirectoryRow, FileRow, Tables
from lifecycle_sync.testing.memory_watching import MemoryWatching

# States of a record whose file is not where it was.
_AWAY = {LifecycleState.DELETED, LifecycleState.ARCHIVED}


class MemoryRegistry(
    MemoryScans,
    MemoryHashes,
    MemoryQueries,
    MemoryReplay,
    MemoryWatching,
    MemoryJobs,
    MemoryMarked,
    MemoryConflicts,
):
    """`Registry`, gone with the process. Thread-safe by one lock."""

    # -- repositories ----------------------------------------------------------------------

    @property
    def registry_id(self) -> bytes:
        with self._reading():
            return self._registry_id

    def add_repository(self, repository: Repository) -> None:
        with self._writing() as tables:
            for other in tables.repositories.values():
                taken = repository.path == other.path and not _gives_way(other, repository)
                if repository.repository_id == other.repository_id or taken:
                    raise UsageError(
                        "is registered already", operation="add root", subject=repository.path
                    )
            tables.repositories[repository.repository_id] = repository
            tables.told_ns[repository.repository_id] = self._clock.now_ns()
            self._take_over(tables, repository)

    def update_repository(self, repository: Repository) -> None:
        with self._writing() as tables:
            old = self._repository(tables, repository.repository_id)
            for other in tables.repositories.values():
                taken = repository.path == other.path and not _gives_way(other, repository)
                if taken and repository.repository_id != other.repository_id:
                    raise UsageError(
                        "is registered already", operation="add root", subject=repository.path
                    )
            if (repository.path, repository.enforce) != (old.path, old.enforce):
                tables.told_ns[repository.repository_id] = self._clock.now_ns()
            tables.repositories[repository.repository_id] = replace(
                repository,
                generation=old.generation,
                complete_generation=old.complete_generation,
            )
            self._take_over(tables, repository)

    def _take_over(self, tables: Tables, root: Repository) -> None:
        """What loose repositories have in a root becomes the root's."""
        if root.kind is not RepositoryKind.ROOT:
            return
        now_ns = self._clock.now_ns()
        for loose in list(tables.repositories.values()):
            if loose.kind is not RepositoryKind.LOOSE:
                continue
            for directory in list(tables.directories.values()):
                absolute = loose.path + b"/" + directory.path if directory.path else loose.path
                inside = absolute == root.path or absolute.startswith(root.path + b"/")
                if directory.repository_id != loose.repository_id or not inside:
                    continue
                path = absolute[len(root.path) + 1 :]
                known = self._directory_at(tables, root.repository_id, path)
                if known is None:
                    known = replace(
                        directory, repository_id=root.repository_id, path=path, generation=0
                    )
                else:
                    del tables.directories[directory.directory_id]
                known = replace(known, signature=None, error=None)
                tables.directories[known.directory_id] = known
                self._take_files(tables, directory, known, now_ns)
            around = root.path.startswith(loose.path + b"/")
            if not (around or loose.path == root.path or loose.path.startswith(root.path + b"/")):
                continue
            if not any(file.live for file in self._files_of(tables, loose.repository_id)):
                self._remove(tables, loose.repository_id)

    def _take_files(
        self, tables: Tables, loose: DirectoryRow, known: DirectoryRow, now_ns: int
    ) -> None:
        for file in list(tables.files.values()):
            if file.directory_id != loose.directory_id:
                continue
            there = self._live_at(tables, known, file.name)
            if there is not None and there.row_id != file.row_id and file.live:
                # Of two records of one file the root's own stays.
                del tables.files[file.row_id]
                continue
            # Its directory first: a record is shown with its path.
            tables.files[file.row_id] = replace(file, directory_id=known.directory_id)
            self._change(tables, file.row_id, now_ns, repository_id=known.repository_id)

    def remove_repository(self, repository_id: bytes) -> None:
        with self._writing() as tables:
            self._remove(tables, repository_id)

    @staticmethod
    def _remove(tables: Tables, repository_id: bytes) -> None:
        tables.repositories.pop(repository_id, None)
        tables.watching.pop(repository_id, None)
        tables.scrubs.pop(repository_id, None)
        for run in list(tables.runs.values()):
            if run.repository_id == repository_id:
                del tables.runs[run.run_id]
        for directory in list(tables.directories.values()):
            if directory.repository_id == repository_id:
                del tables.directories[directory.directory_id]
        for file in list(tables.files.values()):
            if file.repository_id == repository_id:
                del tables.files[file.row_id]

    def repositories(self) -> list[Repository]:
        with self._reading() as tables:
            return sorted(tables.repositories.values(), key=lambda repository: repository.path)

    def repository(self, repository_id: bytes) -> Repository | None:
        with self._reading() as tables:
            return tables.repositories.get(repository_id)

    # -- runs ------------------------------------------------------------------------------

    def begin_run(
        self, repository_id: bytes, run_type: RunType, started_ns: int, *, whole: bool
    ) -> Run:
        with self._writing() as tables:
            repository = self._repository(tables, repository_id)
            for run in list(tables.runs.values()):
                if run.repository_id == repository_id and run.status is RunStatus.RUNNING:
                    tables.runs[run.run_id] = replace(
                        run,
                        status=RunStatus.FAILED,
                        ended_ns=started_ns,
                        error_message="interrupted",
                    )
            if whole:
                repository = replace(repository, generation=repository.generation + 1)
                tables.repositories[repository_id] = repository
            begun = Run(
                run_id=tables.number(),
                repository_id=repository_id,
                run_type=run_type,
                started_ns=started_ns,
                generation=repository.generation,
                first_seq=tables.last_seq,
                whole=whole,
            )
            tables.runs[begun.run_id] = begun
            return begun

    def end_run(self, run: Run) -> None:
        with self._writing() as tables:
            repository = self._repository(tables, run.repository_id)
            tables.runs[run.run_id] = run
            if run.whole and run.status is RunStatus.COMPLETED:
                complete = max(repository.complete_generation, run.generation)
                tables.repositories[run.repository_id] = replace(
                    repository, complete_generation=complete
                )

    def runs(self, repository_id: bytes | None, limit: int, *, whole: bool = False) -> list[Run]:
        with self._reading() as tables:
            runs = [
                run
                for run in tables.runs.values()
                if repository_id in (None, run.repository_id) and run.whole >= whole
            ]
            return sorted(runs, key=lambda run: run.run_id, reverse=True)[:limit]

    # -- single records --------------------------------------------------------------------

    def file(self, file_id: bytes) -> FileRecord | None:
        with self._reading() as tables:
            for file in tables.files.values():
                if file.file_id == file_id:
                    return self._record(tables, file)
            return None

    def file_at(self, repository_id: bytes, path: bytes) -> FileRecord | None:
        with self._reading() as tables:
            file = self._at(tables, repository_id, path)
            return None if file is None else self._record(tables, file)

    def _at(self, tables: Tables, repository_id: bytes, path: bytes) -> FileRow | None:
        there = [
            file
            for file in tables.files.values()
            if file.repository_id == repository_id and self._path(tables, file) == path
        ]
        return max(there, key=lambda file: (file.live, file.seq), default=None)

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
        now_ns = self._clock.now_ns()
        with self._writing() as tables:
            if policy_name is not None and policy_name not in tables.policies:
                raise NotFoundError(
                    "no such policy", operation="register file", subject=policy_name
                )
            self._record_scan(tables, run, batch)
            file = self._at(tables, run.repository_id, path)
            if file is None or not file.live:
                raise NotFoundError("is not there", operation="register file", subject=path)
            file = self._change(
                tables,
                file.row_id,
                now_ns,
                tracking=Tracking.TRACKED,
                by_name=True,
                last_seen_ns=None,
                policy_name=policy_name or file.policy_name,
                policy_explicit=policy_name is not None or file.policy_explicit,
            )
            if policy_name is not None:
                tables.assignments[file.file_id] = (now_ns, True, policy_name)
            if hashed is not None:
                self._record_hash(tables, file, algorithm, hashed, now_ns)
            self._journal(tables, file.file_id, "register", now_ns, run=run)
            return self._record(tables, tables.files[file.row_id])

    def unregister(self, file_id: bytes, now_ns: int) -> None:
        with self._writing() as tables:
            file = self._file_by_id(tables, file_id, "unregister file")
            if file.tracking is Tracking.UNREGISTERED:
                return
            self._change(
                tables, file.row_id, now_ns, tracking=Tracking.UNREGISTERED, last_seen_ns=None
            )
            self._journal(tables, file_id, "unregister", now_ns)

    def set_state(
        self,
        file_id: bytes,
        state: LifecycleState,
        now_ns: int,
        *,
        set_flags: int = 0,
        clear_flags: int = 0,
    ) -> FileRecord:
        with self._writing() as tables:
            file = self._file_by_id(tables, file_id, "change state")
            if not may_become(file.state, state):
                raise TransitionError(
                    f"a file that is {file.state.value} cannot become {state.value}",
                    operation="change state",
                    subject=to_text(file_id),
                )
            hash_due = file.hash_due
            if state is not file.state and (state in _AWAY or file.state in _AWAY):
                # The next scan looks whether that is so.
                directory = tables.directories[file.directory_id]
                tables.directories[file.directory_id] = replace(
                    directory, signature=None, gone=False
                )
                # What came back may be other bytes.
                hash_due = state not in _AWAY and file.kind is Kind.REGULAR
            file = self._change(
                tables,
                file.row_id,
                now_ns,
                state=state,
                flags=file.flags & ~clear_flags | set_flags,
                hash_due=hash_due,
            )
            return self._record(tables, file)

    # -- journal and policies --------------------------------------------------------------

    def add_operations(self, operations: Sequence[Operation]) -> None:
        with self._writing() as tables:
            for operation in operations:
                if operation.operation_id in tables.operations:
                    raise UsageError(
                        "the id is taken",
                        operation="journal",
                        subject=to_text(operation.operation_id),
                    )
                tables.operations[operation.operation_id] = operation

    def journal(
        self, after: bytes | None, limit: int, *, types: Collection[str] = ()
    ) -> list[Operation]:
        with self._reading() as tables:
            found = [
                operation
                for operation in tables.operations.values()
                if operation.operation_id > (after or b"")
                and (not types or operation.operation_type in types)
            ]
        return sorted(found, key=lambda it: it.operation_id)[:limit]

    def operations(self, file_id: bytes, limit: int) -> list[Operation]:
        with self._reading() as tables:
            found = [op for op in tables.operations.values() if op.file_id == file_id]
        found.sort(key=lambda op: (op.timestamp_ns, op.operation_id), reverse=True)
        return found[:limit]

    def operation_count(self, since_ns: int) -> int:
        with self._reading() as tables:
            return sum(op.timestamp_ns >= since_ns for op in tables.operations.values())

    def policies(self) -> list[LifecyclePolicy]:
        with self._reading() as tables:
            return list(tables.policies.values())


def _gives_way(other: Repository, root: Repository) -> bool:
    return other.kind is RepositoryKind.LOOSE and root.kind is RepositoryKind.ROOT
