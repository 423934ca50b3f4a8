"""What goes when a disk fills up: how much, in which order, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from lifecycle_sync.decide.orphans import live_reason, orphan, owner
from lifecycle_sync.model.temp import Job, JobState, Reference, TempFile, Usage

HOUR_NS = 3_600_000_000_000
# In an emergency orphans wait no longer than this.
EMERGENCY_ORPHAN_NS = HOUR_NS
# No sweep touches what was modified more recently.
MIN_AGE_NS = 120_000_000_000


class Health(StrEnum):
    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


class Tier(IntEnum):
    """In this order files go."""

    ORPHAN = 1
    FAILED_JOB = 2
    OLDEST = 3


class Limits(NamedTuple):
    """Watermarks in percent of bytes and of inodes, and the bytes that are always to be free."""

    high: float
    low: float
    min_free_bytes: int


def health(usage: Usage, limits: Limits) -> Health:
    """Healthy below the low watermark, warning to the high one, critical from there, or where less
    is free than has to be."""
    if is_emergency(usage, limits):
        return Health.CRITICAL
    return Health.WARNING if usage.percent >= limits.low else Health.HEALTHY


def is_emergency(usage: Usage, limits: Limits) -> bool:
    """At the high watermark, or with less free than has to be."""
    return usage.percent >= limits.high or usage.available_bytes < limits.min_free_bytes


def excess(usage: Usage, limits: Limits) -> tuple[int, int]:
    """(bytes, inodes) that have to go until both are down at the low watermark and enough is
    free; (0, 0) where nothing has to."""
    whole = usage.used_bytes + usage.available_bytes
    over = usage.used_bytes - int(whole * limits.low / 100)
    lacking = limits.min_free_bytes - usage.available_bytes
    inodes = usage.used_inodes + usage.available_inodes
    over_inodes = usage.used_inodes - int(inodes * limits.low / 100) if inodes else 0
    return max(over, lacking, 0), max(over_inodes, 0)


def tier_of(
    file: TempFile,
    jobs: dict[str, Job],
    *,
    now_ns: int,
    failed_wait_ns: int,
    reference: Reference = Reference.NOT_ASKED,
) -> tuple[Tier | None, str]:
    """With whom a file goes in an emergency, and why; None for what stays whatever happens."""
    if file.links > 1:
        return None, "it has several names, so its end would free nothing"
    if now_ns - file.mtime_ns < MIN_AGE_NS:
        return None, "it was modified within the last 2 minutes"
    verdict = orphan(file, jobs, now_ns=now_ns, max_age_ns=EMERGENCY_ORPHAN_NS, reference=reference)
    if verdict.orphan:
        return Tier.ORPHAN, verdict.reason
    if reference in (Reference.YES, Reference.UNKNOWN):
        return None, verdict.reason
    job = owner(file, jobs)
    if job is None:
        return Tier.OLDEST, "it is a temporary file that is nobody's"
    if job.may_be_live:
        return None, live_reason(file, job)
    if job.state is JobState.FAILED:
        since = file.mtime_ns if job.since_ns is None else job.since_ns
        if now_ns - since >= failed_wait_ns:
            return Tier.FAILED_JOB, f"job {file.job_id} failed or was cancelled"
    return Tier.OLDEST, f"job {file.job_id} is over ({job.state})"


@dataclass(slots=True)
class Group:
    """Files that go together: those of a job in one tier, or a single one."""

    tier: Tier
    newest_ns: int
    files: list[TempFile] = field(default_factory=list)


class Choice:
    """Gathers what may go, and keeps of it the first `limit` files at least, by tier and age."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._groups: dict[object, Group] = {}
        self._count = 0

    def add(self, file: TempFile, tier: Tier) -> None:
        key: object = (tier, file.job_id) if file.job_id is not None else (tier, file.path, "")
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(tier, file.mtime_ns)
        group.newest_ns = max(group.newest_ns, file.mtime_ns)
        group.files.append(file)
        self._count += 1
        if self._count > 4 * self._limit:
            self._prune()

    def _prune(self) -> None:
        """Forget the last of them; a job whose files go together is forgotten as one."""
        kept: dict[object, Group] = {}
        count = 0
        for key, group in sorted(self._groups.items(), key=lambda it: _place(it[1])):
            if count >= 2 * self._limit:
                break
            kept[key] = group
            count += len(group.files)
        self._groups, self._count = kept, count

    def in_order(self) -> Iterable[TempFile]:
        """The longest idle first within each tier; in a group the oldest first."""
        for group in sorted(self._groups.values(), key=_place):
            yield from sorted(group.files, key=lambda file: file.mtime_ns)


def _place(group: Group) -> tuple[int, int]:
    return group.tier, group.newest_ns
