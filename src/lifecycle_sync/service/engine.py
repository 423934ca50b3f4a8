"""The synchronous core that every face calls: one registry, its roots, and the passes over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifecycle_sync.act.occupied import Conflict
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_SECOND, Clock, SystemClock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import (
    CancelledError,
    LifecycleError,
    NotFoundError,
    UsageError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.conflict import Strategy
from lifecycle_sync.model.file import FileFlag, FileRecord
from lifecycle_sync.model.ids import from_text
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.acts import Acts
from lifecycle_sync.service.clock_doubt import ClockDoubt
from lifecycle_sync.service.cycle import Cycle, SyncReport
from lifecycle_sync.service.decisions import Decisions
from lifecycle_sync.service.locks import Locks
from lifecycle_sync.service.order import Workshop
from lifecycle_sync.service.parallel import in_parallel
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.proof import Proof
from lifecycle_sync.service.roots import AddedRoot, Roots
from lifecycle_sync.service.single_files import SingleFiles
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
        self.clock_doubt = ClockDoubt(registry, self._clock)
        self.decisions = Decisions(
            registry,
            self.roots,
            self.space,
            self.proof,
            self.clock_doubt,
            settings=settings,
            clock=self._clock,
        )
        self.statements = Statements(registry, self.vaults, self._clock)
        self.files = SingleFiles(
            registry, self.roots, self.cycle.rules, settings, fs=self._fs, clock=self._clock
        )

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
        self.clock_doubt.heartbeat()
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
        """See `SingleFiles.find`."""
        return self.files.find(path_or_id)

    def register_file(
        self,
        file_path: str | os.PathLike[str],
        policy_name: str = "default",
        *,
        cancel: CancelToken | None = None,
    ) -> FileRecord:
        """See `SingleFiles.register`."""
        return self.files.register(file_path, policy_name, cancel=cancel)

    def refresh_file(self, repository: Repository, relative: bytes) -> None:
        """See `SingleFiles.refresh`."""
        self.files.refresh(repository, relative)

    def note_download(self, path_or_id: str, at_ns: int | None = None) -> FileRecord:
        """See `SingleFiles.note_download`."""
        return self.files.note_download(path_or_id, at_ns)

    def unregister_file(self, file_id: str) -> None:
        """See `SingleFiles.unregister`."""
        self.files.unregister(parse_id(file_id))

    def claim(self, file_id: str) -> FileRecord:
        """See `SingleFiles.claim`."""
        return self.files.claim(parse_id(file_id))

    def release(self, file_id: str) -> FileRecord:
        """See `SingleFiles.release`."""
        return self.files.release(parse_id(file_id))


def parse_id(text: str) -> bytes:
    """The bytes of a file id. Raises `NotFoundError` for what is none: no file has it."""
    try:
        return from_text(text)
    except ValueError as error:
        raise NotFoundError(
            "is no file id", operation="find file", subject=text, remedy="ids are UUIDs"
        ) from error
