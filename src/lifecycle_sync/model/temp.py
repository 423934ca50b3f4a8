"""Temporary files, the jobs that they belong to, and how full the place is where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class JobState(StrEnum):
    """What is known of a job. `UNKNOWN` counts as live: nobody could say, or not for certain;
    `ABSENT` is an answer: whoever keeps the jobs says that there is none of that id."""

    LIVE = "live"
    FAILED = "failed"
    FINISHED = "finished"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Job:
    """`since_ns`: when it came into that state; None where that is not known."""

    state: JobState
    since_ns: int | None = None

    @property
    def may_be_live(self) -> bool:
        return self.state in (JobState.LIVE, JobState.UNKNOWN)


class JobNote(NamedTuple):
    """A job as a registry keeps it: live, failed or finished, since when, and its last sign."""

    state: JobState
    since_ns: int
    heartbeat_ns: int


class DeclaredFile(NamedTuple):
    """A temporary file that a job says is its own, whatever its name is. Device and inode are None
    where there was nothing at its path (absolute) yet."""

    path: bytes
    job_id: str
    chunk_id: str | None = None
    device: int | None = None
    inode: int | None = None


UNKNOWN_JOB = Job(JobState.UNKNOWN)


class Reference(StrEnum):
    """Whether a database refers to a file; `NOT_ASKED` where none is asked, `UNKNOWN` where it did
    not answer."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_ASKED = "not_asked"


class TempFile(NamedTuple):
    """A regular file as a sweep met it. `folder` is its path below the base, `blocks` in bytes."""

    folder: bytes
    name: bytes
    size: int
    blocks: int
    mtime_ns: int
    device: int
    inode: int
    links: int
    job_id: str | None = None
    chunk_id: str | None = None
    # Other jobs whose file it may be, as their ids begin alike.
    perhaps: tuple[str, ...] = ()

    @property
    def path(self) -> bytes:
        return self.folder + b"/" + self.name if self.folder else self.name


class Usage(NamedTuple):
    """How full a place is: in bytes, and in inodes where it has a fixed number of these (else 0).

    `available` is what ordinary users may still take, so `percent` is that of `df`.
    """

    used_bytes: int
    available_bytes: int
    used_inodes: int = 0
    available_inodes: int = 0

    @property
    def bytes_percent(self) -> float:
        return _percent(self.used_bytes, self.available_bytes)

    @property
    def inodes_percent(self) -> float:
        return _percent(self.used_inodes, self.available_inodes)

    @property
    def percent(self) -> float:
        """The worse of the two."""
        return max(self.bytes_percent, self.inodes_percent)


def _percent(used: int, available: int) -> float:
    whole = used + available
    return 100.0 * used / whole if whole > 0 else 0.0
