"""What a registry promises of roots that are followed, of conflicts, and of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from lifecycle_sync.model.check import CheckNote
from lifecycle_sync.model.conflict import Conflict, Resolved
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.model.record import (
    StoredDirectory,
)
from lifecycle_sync.model.temp import DeclaredFile, JobNote, JobState
from lifecycle_sync.model.watch import ScrubNote, WatchNote


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

    def checks(self) -> list[CheckNote]:
        """The last of each examination, by what and subject."""
        ...

    def note_check(self, note: CheckNote) -> None:
        """In place of what was noted of that examination of that subject before."""
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
