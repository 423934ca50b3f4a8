"""Clean-ups as a person orders them once: on a folder of temporary files, or on an application's
uploads and its table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.temp.core import TempCleanup
from lifecycle_sync.service.temp.jobs import JobSource, NoJobs
from lifecycle_sync.service.temp.leases import survey
from lifecycle_sync.service.temp.removing import Count, Removing
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from lifecycle_sync.service.temp.sweep import Held

if TYPE_CHECKING:
    from lifecycle_sync.service.temp.trash_first import TrashFirst

ON_TEMP = ("orphans", "temp", "emergency", "scheduled")
ON_HOST = ("expired", "downloads")
_WHY_DEAD = "a killed process left it"
_FILES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class CleanupOrder:
    """`what` is one of `ON_TEMP` or `ON_HOST`; "orphans" with `files_url` is the application's."""

    what: str
    dry_run: bool = False
    job: str | None = None
    max_age_hours: float | None = None
    folder: str | None = None
    jobs_url: str | None = None
    # Instead of those at a URL.
    jobs: JobSource | None = None
    held: Held | None = None
    trash: TrashFirst | None = None
    files_url: str | None = None
    table: str | None = None
    uploads: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    days: float = 7
    confirm_mass: bool = False

    @property
    def on_host(self) -> bool:
        return self.what in ON_HOST or self.files_url is not None


@dataclass(slots=True)
class CleanupOutcome:
    """What an order came to. `files` are (path, size or None, why) of what went, or would go, up to
    100,000 of them; `result` has the keys of a clean-up of temporary files."""

    what: str
    dry_run: bool
    removed: int = 0
    freed: int = 0
    files: list[tuple[str, int | None, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None

    def saw(self, path: str | bytes, size: int | None, why: str) -> None:
        """One more that went, or would."""
        self.removed += 1
        if len(self.files) < _FILES_MAX:
            self.files.append((os.fsdecode(path), size, why))


def carry_out(order: CleanupOrder, cancel: CancelToken | None = None) -> CleanupOutcome:
    """Do it, or in a dry run say what it would do. Raises `UsageError` for what is missing."""
    if order.on_host:
        return _on_host(order)
    outcome = CleanupOutcome(order.what, order.dry_run)
    with temp_cleanup(
        order.folder,
        order.jobs_url,
        jobs=order.jobs,
        held=order.held,
        trash=order.trash,
        dry_run=order.dry_run,
    ) as cleanup:
        how: dict[str, Any] = {"cancel": cancel, "witness": outcome.saw}
        if order.what == "temp":
            if order.job is None:
                _left_behind(cleanup.base, outcome, order.held, cancel)
            result = cleanup.after_crash(order.job, **how)
        elif order.what == "orphans":
            result = cleanup.orphaned(order.max_age_hours, **how)
        else:
            work: Callable[..., dict[str, Any]] = getattr(cleanup, order.what)
            result = work(**how)
        outcome.result = result
        outcome.freed += result["bytes_freed"]
        outcome.errors += result["errors"]
        if isinstance(cleanup.jobs, NoJobs) and cleanup.jobs.was_asked:
            outcome.notes.append(
                "nobody was asked which jobs are alive, so the files of all jobs stay"
                " (--jobs URL names the database of the jobs)"
            )
        if cleanup.settings.keep_temp_files_for_debugging:
            outcome.notes.append("temporary files are kept for debugging, so nothing was deleted")
    return outcome


@contextmanager
def temp_cleanup(
    folder: str | None,
    jobs_url: str | None,
    *,
    jobs: JobSource | None = None,
    held: Held | None = None,
    trash: TrashFirst | None = None,
    dry_run: bool = False,
) -> Iterator[TempCleanup]:
    """The clean-ups of a folder (None: the one in the environment), and the jobs of a database."""
    given: dict[str, Any] = {} if folder is None else {"temp_storage_path": folder}
    settings = TempStorageCleanupSettings(**given)
    if dry_run:
        settings.cleanup_dry_run = True
    if jobs_url is None:
        yield TempCleanup(settings, jobs=jobs, held=held, trash=trash)
        return
    need_sqlalchemy()
    from lifecycle_sync.service.temp.jobs_sql import jobs_at

    with jobs_at(jobs_url) as asked:
        yield TempCleanup(settings, jobs=asked, held=held, trash=trash)


def _left_behind(
    base: str, outcome: CleanupOutcome, held: Held | None, cancel: CancelToken | None
) -> None:
    """What killed processes left."""
    fs = FileOps()
    dead = [lease for lease in survey(fs, base) if not lease.alive]
    listed = sorted({path for lease in dead for path in lease.entries})
    if outcome.dry_run:
        for path in listed:
            size = _size(path)
            if size is not None and not (held is not None and held(os.fsencode(path))):
                outcome.saw(path, size, _WHY_DEAD)
        return
    sizes = {path: _size(path) for path in listed}
    count = Count(cancel)
    with Removing(fs, base, count, held) as removing:
        removing.dead()
        removing.emptied(lambda _path: False)
    for path, size in sizes.items():
        if size is not None and not os.path.lexists(path):
            outcome.saw(path, size, _WHY_DEAD)
    outcome.freed += count.size
    if count.errors:
        outcome.errors.append(f"{count.errors} files of killed processes could not be removed")


def _size(path: str) -> int | None:
    try:
        return os.lstat(path).st_size
    except OSError:
        return None


def _on_host(order: CleanupOrder) -> CleanupOutcome:
    missing = [
        option
        for option, value in (
            ("--files URL", order.files_url),
            ("--table NAME", order.table),
            ("--uploads FOLDER", order.uploads if order.what != "downloads" else "-"),
        )
        if value is None
    ]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            operation=f"clean up {order.what}",
            remedy="name the database, the table and the folder of the application's files",
        )
    need_sqlalchemy()
    from lifecycle_sync.service.host.local_uploads import LocalUploads
    from lifecycle_sync.service.host.reflected import files_of
    from lifecycle_sync.service.host.service import CleanupService

    outcome = CleanupOutcome(order.what, order.dry_run)
    assert order.files_url is not None
    assert order.table is not None
    storage = _NoStorage() if order.uploads is None else LocalUploads(order.uploads)
    with files_of(order.files_url, order.table, order.columns) as files:
        service = CleanupService(
            None,
            storage,
            files,
            dry_run=order.dry_run,
            witness=lambda what, why: outcome.saw(what, None, why),
        )
        if order.what == "expired":
            service.cleanup_expired_files()
        elif order.what == "downloads":
            service.cleanup_old_downloaded_files(days=order.days)
        else:
            service.cleanup_orphaned_files(min_age_seconds=120, confirm_mass=order.confirm_mass)
        outcome.errors += service.failures
    return outcome


class _NoStorage:
    """For orders on the table alone."""

    backend_type = "none"

    def delete(self, path: str) -> None:
        raise AssertionError(path)

    def list_files(self) -> list[str]:
        return []

    def delete_by_name(self, name: str) -> None:
        raise AssertionError(name)


def need_sqlalchemy() -> None:
    """Raises `UsageError` where it is not installed."""
    try:
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "SQLAlchemy is not installed",
            operation="clean up",
            remedy="pip install 'lifecycle-sync[sqlalchemy]'",
        ) from error
