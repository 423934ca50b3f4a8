"""The six clean-ups of temporary files, synchronous; `TempStorageCleanupService` awaits them.

Each is one sweep: files are found and judged in batches (`decide.orphans`, `decide.pressure`), what
is condemned is discarded, and all of it is counted. What stops in between has lost nothing: the
next one begins with what is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, SteadyClock
from lifecycle_sync.decide import orphans
from lifecycle_sync.decide.job_names import JobNames
from lifecycle_sync.decide.pressure import (
    MIN_AGE_NS,
    Health,
    Limits,
    health,
    is_emergency,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.temp import Job, JobState, Reference, TempFile, Usage
from lifecycle_sync.service.temp.discarding import Discarding
from lifecycle_sync.service.temp.emergency import relieve
from lifecycle_sync.service.temp.jobs import (
    AskedJobs,
    CountingJobSource,
    DeclaringJobSource,
    JobSource,
    NoJobs,
)
from lifecycle_sync.service.temp.places import temp_folder
from lifecycle_sync.service.temp.provider import asked
from lifecycle_sync.service.temp.reserve import RESERVE_BYTES, Reserve
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from lifecycle_sync.service.temp.sweep import Condemned, Held, Sweep, jobs_of
from lifecycle_sync.service.temp.tally import CleanupTrigger, Tally, Witness

if TYPE_CHECKING:
    from lifecycle_sync.service.temp.trash_first import TrashFirst

_HOUR_NS = 3_600_000_000_000

_log = logging.getLogger("lifecycle_sync.temp")

# What becomes of a file, by what is known of jobs and of references to it.
Judge = Callable[[TempFile, dict[str, Job], Reference], orphans.OrphanVerdict]
# Which of these paths (absolute, text) the application's database refers to.
References = Callable[[list[str]], Iterable[str]]


class TempCleanup:
    """Temporary files in the configured folder. May be used from several threads.

    `jobs` says which jobs are alive; without it all count as live. `references` says which files
    the database refers to; without it, it is not asked. What is `held` stays whatever happens. In
    an emergency what `trash` knows to have verified copies goes first. Raises `UsageError` for a
    folder that may not be cleaned (`/`, a home, in a root) unless `force` is set.
    """

    def __init__(
        self,
        settings: TempStorageCleanupSettings | None = None,
        *,
        provider: Any = None,
        jobs: JobSource | None = None,
        references: References | None = None,
        held: Held | None = None,
        trash: TrashFirst | None = None,
        force: bool = False,
        fs: FileOps | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or TempStorageCleanupSettings()
        self.jobs: JobSource = jobs or NoJobs()
        self.provider = provider
        self._references = references
        self._held = held
        self.trash = trash
        self._force = force
        self._fs = fs or FileOps()
        self._clock = clock or SteadyClock()
        temp_folder(self.settings.temp_storage_path, force=force)

    # -- where it stands -------------------------------------------------------------------

    @property
    def base(self) -> str:
        """The folder's real path."""
        return temp_folder(self.settings.temp_storage_path, force=self._force)

    def usage(self) -> Usage:
        """How full the place is; of a folder that is not there yet, its nearest one's."""
        folder = self.base
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        return asked(self.provider, folder)

    @property
    def limits(self) -> Limits:
        """The watermarks as they are set now."""
        settings = self.settings
        return Limits(
            settings.emergency_cleanup_threshold,
            settings.warning_threshold,
            settings.min_free_bytes,
        )

    def health(self) -> Health:
        """Healthy, warning or critical."""
        return health(self.usage(), self.limits)

    def is_emergency(self) -> bool:
        """Whether an emergency clean-up is due."""
        return is_emergency(self.usage(), self.limits)

    def stats(self, cancel: CancelToken | None = None) -> dict[str, Any]:
        """The documented statistics of the storage; reads the whole folder."""
        sweep = self._sweep(cancel)
        asked_jobs = AskedJobs(self.jobs)
        count = size = orphan_count = orphan_size = 0
        judge = self._orphan_judge()
        for batch in sweep.batches(self.settings.cleanup_batch_size):
            for file, verdict in self._judged(batch, asked_jobs, judge, references=True):
                count += 1
                size += file.size
                if verdict.orphan and not sweep.kept(file):
                    orphan_count += 1
                    orphan_size += file.size
        live, failed = self._job_counts(asked_jobs)
        usage = self.usage()
        return {
            "storage_usage_percent": round(usage.percent, 2),
            "emergency_threshold": self.settings.emergency_cleanup_threshold,
            "temp_files_count": count,
            "temp_files_size_bytes": size,
            "active_jobs_count": live,
            "failed_jobs_count": failed,
            "orphaned_files_count": orphan_count,
            "orphaned_files_size_bytes": orphan_size,
            "cleanup_needed": is_emergency(usage, self.limits),
        }

    def _job_counts(self, asked_jobs: AskedJobs) -> tuple[int, int]:
        """Of all jobs, where their source can count them; else of those with files here."""
        if isinstance(self.jobs, CountingJobSource) and not asked_jobs.down:
            try:
                return self.jobs.counts()
            except Exception as error:  # noqa: BLE001 - somebody's database
                _log.error("the jobs cannot be counted: %s", error)
        states = list(asked_jobs.seen.values())
        return states.count(JobState.LIVE), states.count(JobState.FAILED)

    # -- the six ---------------------------------------------------------------------------

    def after_chunk(
        self,
        job_id: int | str,
        chunk_id: int | str,
        completed_files: Iterable[str | os.PathLike[str]],
        *,
        cancel: CancelToken | None = None,
        witness: Witness | None = None,
    ) -> dict[str, Any]:
        """Delete the temporary files of a chunk's completed files, at once, by their exact names.

        `completed_files` are names as the chunk's pattern has them at its end, or whole names, or
        paths of which the last part counts. The job may be live, and is; its other files stay.
        """
        names = JobNames(self.settings.job_file_pattern)
        prefix = names.name_of(str(job_id), str(chunk_id), "")
        wanted: set[bytes] = set()
        as_given: set[bytes] = set()
        for given in completed_files:
            name = os.path.basename(os.fspath(given))
            if name not in ("", ".", "..") and "\0" not in name:
                as_given.add(os.fsencode(name))
                wanted.add(os.fsencode(name if name.startswith(prefix) else prefix + name))
        sweep = self._sweep(cancel)
        tally = self._tally(CleanupTrigger.CHUNK_COMPLETION, witness)
        reason = f"chunk {chunk_id} of job {job_id} is complete"
        found = list(sweep.named(sorted(wanted)))
        with self._discarding(sweep, tally) as going:
            self._discard(sweep, tally, [Condemned(it, reason, True) for it in found], going)
            missing = wanted.difference(file.name for file in found)
            if declared := set(self._declared_in(str(job_id), str(chunk_id), as_given)):
                for batch in sweep.batches(self.settings.cleanup_batch_size):
                    mine = self.owned([file for file in batch if file.path in declared])
                    condemned = [
                        Condemned(file, reason, True)
                        for file in mine
                        if (file.job_id, file.chunk_id) == (str(job_id), str(chunk_id))
                    ]
                    self._discard(sweep, tally, condemned, going)
            if missing and self._has_folders():
                for batch in sweep.batches(self.settings.cleanup_batch_size):
                    deeper = [file for file in batch if file.name in missing and file.folder]
                    condemned = [Condemned(file, reason, True) for file in deeper]
                    self._discard(sweep, tally, condemned, going)
        return self._ended(tally, sweep)

    def after_crash(
        self,
        job_id: int | str | None = None,
        *,
        cancel: CancelToken | None = None,
        witness: Witness | None = None,
    ) -> dict[str, Any]:
        """Delete all temporary files of a job that is over, or (None, or 0) of all jobs that failed
        long enough ago. A job that is live, or of which nothing is known, loses nothing."""
        named = job_id not in (None, 0, "0", "")
        now_ns = self._clock.now_ns()
        wait_ns = int(self.settings.cleanup_failed_jobs_after_hours * _HOUR_NS)

        def judge(file: TempFile, jobs: dict[str, Job]) -> orphans.OrphanVerdict:
            if file.job_id is None or (named and file.job_id != str(job_id)):
                return orphans.OrphanVerdict(None, "another's")
            if not named and now_ns - file.mtime_ns < MIN_AGE_NS:
                return orphans.OrphanVerdict(None, "modified within the last 2 minutes")
            return orphans.after_crash(file, jobs, now_ns=now_ns, wait_ns=wait_ns, named=named)

        sweep = self._sweep(cancel)
        tally = self._tally(CleanupTrigger.CRASH_RECOVERY, witness)
        self._swept(sweep, tally, lambda file, jobs, _referred: judge(file, jobs))
        return self._ended(tally, sweep)

    def orphaned(
        self,
        max_age_hours: float | None = None,
        *,
        cancel: CancelToken | None = None,
        witness: Witness | None = None,
    ) -> dict[str, Any]:
        """Delete the orphans last modified at least `max_age_hours` ago (None: as it is set)."""
        sweep = self._sweep(cancel)
        tally = self._tally(CleanupTrigger.ORPHANED_FILES, witness)
        self._swept(sweep, tally, self._orphan_judge(max_age_hours), references=True)
        return self._ended(tally, sweep)

    def emergency(
        self,
        *,
        cancel: CancelToken | None = None,
        witness: Witness | None = None,
    ) -> dict[str, Any]:
        """Delete until the low watermark is reached in bytes and in inodes, and the minimum is
        free: trash that has a verified copy, orphans of over an hour, files of failed jobs, then
        the oldest; exactly as much."""
        sweep = self._sweep(cancel)
        tally = self._tally(CleanupTrigger.EMERGENCY_THRESHOLD, witness)
        self._emergency(sweep, tally)
        return self._ended(tally, sweep)

    def _emergency(self, sweep: Sweep, tally: Tally) -> None:
        if not tally.dry_run:
            Reserve(self._fs, self.base).give_up()
        relieve(self, sweep, tally, self._clock.now_ns())

    def scheduled(
        self,
        *,
        trigger: CleanupTrigger = CleanupTrigger.SCHEDULED,
        cancel: CancelToken | None = None,
        witness: Witness | None = None,
    ) -> dict[str, Any]:
        """All of it in one: an emergency first if there is one, then orphans, then failed jobs."""
        sweep = self._sweep(cancel)
        tally = self._tally(trigger, witness)
        if self.is_emergency():
            self._emergency(sweep, tally)
        orphan = self._orphan_judge()
        now_ns = self._clock.now_ns()
        wait_ns = int(self.settings.cleanup_failed_jobs_after_hours * _HOUR_NS)

        def judge(
            file: TempFile, jobs: dict[str, Job], reference: Reference
        ) -> orphans.OrphanVerdict:
            verdict = orphan(file, jobs, reference)
            if verdict.orphan or file.job_id is None or now_ns - file.mtime_ns < MIN_AGE_NS:
                return verdict
            if reference in (Reference.YES, Reference.UNKNOWN):
                return verdict
            return orphans.after_crash(file, jobs, now_ns=now_ns, wait_ns=wait_ns, named=False)

        self._swept(sweep, tally, judge, references=True)
        return self._ended(tally, sweep)

    def nothing(self, trigger: CleanupTrigger) -> dict[str, Any]:
        """The result of a clean-up that was not needed."""
        return self._tally(trigger, None).result(self.usage().percent)

    # -- what they share -------------------------------------------------------------------

    def find_orphans(
        self, max_age_hours: float | None = None, cancel: CancelToken | None = None
    ) -> Iterable[tuple[TempFile, orphans.OrphanVerdict]]:
        """All files with their verdicts, one by one; nothing is deleted."""
        sweep = self._sweep(cancel)
        asked_jobs, judge = AskedJobs(self.jobs), self._orphan_judge(max_age_hours)
        for batch in sweep.batches(self.settings.cleanup_batch_size):
            for file, verdict in self._judged(batch, asked_jobs, judge, references=True):
                kept = sweep.kept(file) if verdict.orphan else ""
                yield file, orphans.OrphanVerdict(None, kept) if kept else verdict

    def make_reserve(self) -> None:
        """Lay the reserve by, where that leaves the place healthy."""
        usage = self.usage()
        with_it = usage._replace(
            used_bytes=usage.used_bytes + RESERVE_BYTES,
            available_bytes=usage.available_bytes - RESERVE_BYTES,
        )
        if health(with_it, self.limits) is Health.HEALTHY and not self.settings.cleanup_dry_run:
            Reserve(self._fs, self.base).make()

    def _sweep(self, cancel: CancelToken | None) -> Sweep:
        return Sweep(
            self._fs,
            os.fsencode(self.base),
            JobNames(self.settings.job_file_pattern),
            held=self._held,
            writers_unknown=self.settings.delete_where_writers_unknown,
            cancel=cancel,
        )

    def _tally(self, trigger: CleanupTrigger, witness: Witness | None) -> Tally:
        settings = self.settings
        return Tally(
            trigger,
            self._clock,
            self.usage().percent,
            dry_run=settings.cleanup_dry_run,
            limit=settings.max_files_per_cleanup,
            witness=witness,
        )

    def _max_age_ns(self, hours: float | None = None) -> int:
        if hours is None:
            hours = self.settings.max_orphan_age_hours
        return max(int(hours * _HOUR_NS), MIN_AGE_NS)

    def _orphan_judge(self, max_age_hours: float | None = None) -> Judge:
        now_ns, max_age_ns = self._clock.now_ns(), self._max_age_ns(max_age_hours)
        return lambda file, jobs, reference: orphans.orphan(
            file, jobs, now_ns=now_ns, max_age_ns=max_age_ns, reference=reference
        )

    def _judged(
        self, batch: list[TempFile], asked_jobs: AskedJobs, judge: Judge, *, references: bool
    ) -> Iterable[tuple[TempFile, orphans.OrphanVerdict]]:
        batch = self.owned(batch)
        jobs = asked_jobs.look(jobs_of(batch))
        if not references or self._references is None:
            return [(file, judge(file, jobs, Reference.NOT_ASKED)) for file in batch]
        referred = self.referred(batch)
        return [(file, judge(file, jobs, referred(file))) for file in batch]

    def _swept(self, sweep: Sweep, tally: Tally, judge: Judge, *, references: bool = False) -> None:
        """Discard what is condemned, batch by batch."""
        asked_jobs = AskedJobs(self.jobs)
        with self._discarding(sweep, tally) as going:
            for batch in sweep.batches(self.settings.cleanup_batch_size):
                judged = self._judged(batch, asked_jobs, judge, references=references)
                condemned = [
                    Condemned(file, f"{verdict.rule}: {verdict.reason}")
                    for file, verdict in judged
                    if verdict.rule is not None
                ]
                if not self._discard(sweep, tally, condemned, going):
                    break
        for error in asked_jobs.errors:
            tally.failed(error, log=False)

    def owned(self, batch: list[TempFile]) -> list[TempFile]:
        """These files with the jobs that have declared them; none where that cannot be said."""
        if not isinstance(self.jobs, DeclaringJobSource):
            return batch
        base = os.fsencode(self.base)
        try:
            known = self.jobs.declared([os.path.join(base, file.path) for file in batch])
        except Exception as error:  # noqa: BLE001 - somebody's database
            _log.error("nobody says which files the jobs have declared, so all stay: %s", error)
            return []
        if not known:
            return batch
        paths = (os.path.join(base, file.path) for file in batch)
        return [
            orphans.declared(file, known[path]) if path in known else file
            for file, path in zip(batch, paths, strict=True)
        ]

    def _declared_in(self, job_id: str, chunk_id: str, wanted: set[bytes]) -> list[bytes]:
        """Paths below the folder that a job has declared for a chunk, of these names."""
        if not isinstance(self.jobs, DeclaringJobSource):
            return []
        base = os.path.join(os.fsencode(self.base), b"")
        return [
            it.path[len(base) :]
            for it in self.jobs.declared_by(job_id)
            if it.chunk_id == chunk_id
            and it.path.startswith(base)
            and os.path.basename(it.path) in wanted
        ]

    def referred(self, batch: list[TempFile]) -> Callable[[TempFile], Reference]:
        """What the database says of each of these files."""
        if self._references is None:
            return lambda _file: Reference.NOT_ASKED
        base = os.fsencode(self.base)
        try:
            known = set(self._references([_text(base, file) for file in batch]))
        except Exception as error:  # noqa: BLE001 - somebody's database
            _log.error("the database does not say which files it refers to: %s", error)
            return lambda _file: Reference.UNKNOWN
        return lambda file: Reference.YES if _text(base, file) in known else Reference.NO

    def _discarding(self, sweep: Sweep, tally: Tally) -> Discarding:
        base = os.fsencode(self.base)
        return Discarding(
            sweep,
            lambda one, done: tally.done(base, one.file, one.reason, done),
            self.settings.max_cleanup_workers,
        )

    def _discard(
        self, sweep: Sweep, tally: Tally, condemned: list[Condemned], going: Discarding
    ) -> bool:
        """Discard them as far as this clean-up may; False when it may no further."""
        if self.settings.keep_temp_files_for_debugging:
            if condemned:
                _log.info("%d files are kept for debugging", len(condemned))
            return True
        if len(condemned) > tally.left - going.pending:
            going.settle()
        some = condemned[: tally.left]
        if tally.dry_run:
            base = os.fsencode(self.base)
            for one in some:
                if not sweep.kept(one.file):
                    tally.would_delete(base, one.file, one.reason)
        elif some:
            going.give(some)
        if len(some) < len(condemned):
            _log.warning(
                "stopped at %d files, the most for one clean-up; the next goes on",
                self.settings.max_files_per_cleanup,
            )
            return False
        return not sweep.cancel.cancelled

    def _has_folders(self) -> bool:
        try:
            with os.scandir(self.base) as entries:
                return any(
                    it.is_dir(follow_symlinks=False) and it.name != ".lifecycle" for it in entries
                )
        except OSError:
            return False

    def _ended(self, tally: Tally, sweep: Sweep) -> dict[str, Any]:
        tally.scanned = sweep.scanned
        for error in sweep.errors:
            tally.failed(error, log=False)
        result = tally.result(self.usage().percent)
        if self.settings.log_cleanup_stats:
            _log.info(
                "%s: %d of %d files deleted, %d bytes freed, %d errors, %.1f %% full before and"
                " %.1f %% after",
                result["trigger"],
                result["files_deleted"],
                result["files_scanned"],
                result["bytes_freed"],
                len(tally.errors),
                result["storage_before_percent"],
                result["storage_after_percent"],
            )
        return result


def _text(base: bytes, file: TempFile) -> str:
    return os.fsdecode(os.path.join(base, file.path))
