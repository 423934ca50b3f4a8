"""`LifecycleSync`: the engine for asynchronous applications. Each call is handed to a thread.

`create_policy` alone is a plain call, which opens the registry where it is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import from_datetime
from lifecycle_sync.config import Settings, load_config
from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.errors import (
    FilesFailedError,
    GuardError,
    LifecycleError,
    OfflineError,
    RootError,
    UsageError,
)
from lifecycle_sync.model.file import FileMetadata, FileRecord, FileType, LifecycleState
from lifecycle_sync.model.ids import from_text, to_text
from lifecycle_sync.model.policy import AgeFrom, LifecyclePolicy
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.service import act_orders, restoring, trash_orders
from lifecycle_sync.service.act_orders import How, RootOutcome
from lifecycle_sync.service.choosing import RestoreOrder
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine, parse_id
from lifecycle_sync.service.orders import configured_folders, register_roots
from lifecycle_sync.service.present import expired, present, statistics, tell_of_mirror
from lifecycle_sync.service.restoring import conflict_of

_T = TypeVar("_T")
_PAGE = 1_000


class LifecycleSync:
    """File lifecycle management for one registry.

    `config` is what `load_config` returns; None loads it. The registry is opened by the first
    call, `local_storage_path` and `roots` are taken under management by the first `sync_now`, and
    enforced from the start. Use it as an asynchronous context manager, or `close` it.
    """

    def __init__(self, config: Settings | None = None) -> None:
        self._settings = config if config is not None else load_config()
        self._engine: Engine | None = None
        self._lock = asyncio.Lock()
        self._opening = threading.Lock()

    async def __aenter__(self) -> LifecycleSync:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the registry. Idempotent; a later call opens it again."""
        async with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    async def _do(self, work: Callable[[Engine], _T], cancel: CancelToken | None = None) -> _T:
        """Do it in a thread. When the await is cancelled, `cancel` is set, and the cancellation
        comes out once the thread has ended: nothing goes on behind the caller's back."""
        async with self._lock:
            engine = self._engine
            if engine is None:
                opening = asyncio.ensure_future(asyncio.to_thread(self._open))
                try:
                    await asyncio.shield(opening)
                finally:
                    await _ended(opening)
                engine = opening.result()
        working = asyncio.ensure_future(asyncio.to_thread(work, engine))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            if cancel is not None:
                cancel.cancel()
            await _ended(working)
            raise

    def _open(self) -> Engine:
        with self._opening:
            if self._engine is None:
                tell_of_mirror(self._settings)
                self._engine = Engine.open(self._settings)
            return self._engine

    # -- policies --------------------------------------------------------------------------

    def create_policy(self, policy: LifecyclePolicy, *, allow_empty: bool = False) -> None:
        """Add a policy, or give the one of that name new rules. A plain call. Raises `UsageError`
        with every fault; a policy that would keep no version at all is one unless `allow_empty`."""
        self._open().statements.put_policy(_cleaned(policy), allow_empty=allow_empty)

    async def change_file_policy(self, file_id: str, new_policy_name: str) -> None:
        """Choose the policy of a file; "default" leaves the choice to the rules. Raises
        `NotFoundError` for a file or a policy that is not known."""
        name = None if new_policy_name == "default" else new_policy_name
        await self._do(lambda engine: engine.statements.assign(parse_id(file_id), name))

    # -- files -----------------------------------------------------------------------------

    async def register_file(
        self, file_path: str | os.PathLike[str], policy_name: str = "default"
    ) -> str:
        """Take a file under management and return its id; see `Engine.register_file`."""
        cancel = CancelToken()
        record = await self._do(
            lambda engine: engine.register_file(file_path, policy_name, cancel=cancel), cancel
        )
        return to_text(record.file_id)

    async def unregister_file(self, file_id: str) -> None:
        """Stop following a file; its bytes and versions stay. Raises `NotFoundError`."""
        await self._do(lambda engine: engine.unregister_file(file_id))

    async def claim(self, file_id: str) -> None:
        """Keep a file in PROCESSING while the application works on it."""
        await self._do(lambda engine: engine.claim(file_id))

    async def release(self, file_id: str) -> None:
        """End a claim; the file counts as changed."""
        await self._do(lambda engine: engine.release(file_id))

    async def record_download(self, file_id: str, at: datetime | None = None) -> None:
        """Note that a file was downloaded, now or at a time (a naive one is local): for policies
        whose `age_from` is "downloaded". Raises `NotFoundError`, `UsageError`."""
        at_ns = None if at is None else from_datetime(at)
        await self._do(lambda engine: engine.note_download(file_id, at_ns))

    async def get_file_status(self, file_id: str) -> FileMetadata | None:
        """The record of a file, None for an id that is not known."""
        return await self._do(lambda engine: _status(engine, file_id))

    async def get_files_by_state(self, state: LifecycleState) -> list[FileMetadata]:
        """All files in a state, in the order of their paths."""
        return await self._do(lambda engine: _by_state(engine, LifecycleState(state)))

    async def changes(self, since: int = 0, limit: int = 1_000) -> list[FileRecord]:
        """Records that changed after the change numbered `since`; see `Engine.changes`."""
        return await self._do(lambda engine: engine.changes(since, limit))

    async def get_expired_files(self) -> list[FileMetadata]:
        """All files whose retention is over and that are still there or in the archive, whether
        something is done about it or not, in the order of their paths."""
        return await self._do(expired)

    # -- acts ------------------------------------------------------------------------------

    async def force_backup(self, file_id: str) -> None:
        """Back up a file now, whether it changed or not. The `force_*` calls, `recall`, `undelete`
        and `restore` raise `NotFoundError`, `GuardError` when the root's guard or a hold stands
        against it, `FilesFailedError` when the file was left as it is, with the reason."""
        await self._act(lambda engine, how: act_orders.back_up(engine, [file_id], how))

    async def force_archive(self, file_id: str, reason: str = "") -> None:
        """Move a file into the archive now."""
        await self._act(lambda engine, how: act_orders.archive(engine, [file_id], how), reason)

    async def force_delete(self, file_id: str, reason: str = "") -> None:
        """Move a file into the trash now, for 30 days."""
        await self._act(lambda engine, how: act_orders.delete(engine, [file_id], how), reason)

    async def recall(self, file_id: str) -> None:
        """Bring an archived file back to its place."""
        await self._act(lambda engine, how: act_orders.recall(engine, [file_id], how))

    async def undelete(self, file_id: str) -> None:
        """Give a deleted file back out of the trash."""
        await self._act(lambda engine, how: trash_orders.undelete(engine, [file_id], how))

    async def restore(
        self,
        file_id: str,
        version: int | None = None,
        *,
        to: str | os.PathLike[str] | None = None,
        conflict: str = "skip",
    ) -> None:
        """Bring a version of a file (None: the newest) back to its place, or below the folder
        `to`. `conflict` says what to do where something is: "skip" leaves it, "replace" moves it
        to the trash, "newest" does so if it is older, "keep-both" restores beside it."""
        order = RestoreOrder(
            [file_id],
            version,
            None if to is None else os.fspath(to),
            conflict_of(conflict),
            deleted=True,
        )
        await self._act(lambda engine, how: restoring.restore(engine, order, how))

    async def _act(self, act: Callable[[Engine, How], list[RootOutcome]], reason: str = "") -> None:
        cancel = CancelToken()
        how = How(reason=reason, cancel=cancel)
        for outcome in await self._do(lambda engine: act(engine, how), cancel):
            if outcome.failure is not None:
                raise outcome.failure

    # -- passes ----------------------------------------------------------------------------

    async def sync_now(self) -> list[SyncReport]:
        """Bring the registry in step with all roots, and hash what is due.

        A cancelled await stops at the next safe point and then raises. Raises the first root's
        error when none could be synchronised, `FilesFailedError` when only some could; a configured
        folder that cannot be a root is one that could not.
        """
        cancel = CancelToken()
        reports, refused = await self._do(lambda engine: _sync(engine, cancel), cancel)
        _raise_failures(reports, refused)
        return reports

    async def get_statistics(self) -> dict[str, Any]:
        """Counts of files by state and type, policies, recent operations, whether any process runs
        the loops on a root, and the last runs and acts with their counts and durations."""
        return await self._do(statistics)


def _cleaned(policy: LifecyclePolicy) -> LifecyclePolicy:
    """Names of types and of the age in place of the members. Raises `UsageError`."""
    try:
        types = [FileType(it) for it in policy.file_types]
        return dataclasses.replace(policy, file_types=types, age_from=AgeFrom(policy.age_from))
    except ValueError as error:
        names = ", ".join(it.value for it in AgeFrom)
        raise UsageError(
            f"{error} (age_from is one of {names}, file_types are {', '.join(FileType)})",
            operation="put policy",
            subject=policy.name,
            remedy="see docs/reference/policies.md",
        ) from error


def _status(engine: Engine, file_id: str) -> FileMetadata | None:
    try:
        record = engine.registry.file(from_text(file_id))
    except ValueError:
        return None
    return None if record is None else present(engine, [record])[0]


def _by_state(engine: Engine, state: LifecycleState) -> list[FileMetadata]:
    query = FileQuery(states=frozenset({state}))
    found: list[FileMetadata] = []
    cursor: str | None = None
    while True:
        page = engine.registry.find(query, cursor, _PAGE)
        found += present(engine, page.records)
        cursor = page.next_cursor
        if cursor is None:
            return found


async def _ended(work: asyncio.Future[Any]) -> None:
    """Wait for its end, however often this is cancelled meanwhile; never raises."""
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            continue
    if not work.cancelled():
        work.exception()  # seen, so that asyncio does not complain that nobody did


def _sync(engine: Engine, cancel: CancelToken) -> tuple[list[SyncReport], list[LifecycleError]]:
    """The reports of all roots, and why some of the configured folders are none."""
    refused: list[LifecycleError] = []
    for folder in configured_folders(engine.settings):
        try:
            register_roots(engine, [folder], enforce=True)
        except RootError as error:
            refused.append(error)
    return engine.sync(cancel=cancel), refused


def _raise_failures(reports: list[SyncReport], refused: list[LifecycleError]) -> None:
    failures = refused + [
        failure for report in reports if (failure := _failure(report)) is not None
    ]
    if not failures:
        return
    if len(failures) == len(reports) + len(refused):
        raise failures[0]
    raise FilesFailedError(
        "; ".join(str(failure) for failure in failures),
        failed=len(failures),
        operation="synchronise",
    )


def _failure(report: SyncReport) -> LifecycleError | None:
    if report.error is not None:
        return report.error
    if report.scanned or report.verdict is None:
        return None
    if report.verdict.outcome is Outcome.OFFLINE:
        return OfflineError(
            report.verdict.reason,
            operation="synchronise",
            subject=report.repository.path,
            remedy=report.verdict.remedy,
        )
    return GuardError(
        report.verdict.reason,
        guard=report.verdict.guard,
        operation="synchronise",
        subject=report.repository.path,
        remedy=report.verdict.remedy,
    )
