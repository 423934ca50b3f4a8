"""A lifecycle policy: what should happen to a file, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from lifecycle_sync.model.file import FileType


class AgeFrom(StrEnum):
    """Since when the age of a file counts."""

    LATER = "later"  # the later of modified and registered
    MODIFIED = "modified"
    REGISTERED = "registered"
    ACCESSED = "accessed"
    DOWNLOADED = "downloaded"  # the last time that somebody noted it; never, where nobody has


@dataclass(frozen=True, slots=True)
class Match:
    """Which files a policy is for, beside their types. All that is set must hold.

    `paths` and `exclude` are shell patterns over the absolute path, in which `*` stands for slashes
    too; one of `paths` must match and none of `exclude`. Sizes are bytes, both ends included;
    `owners` are user ids. `older_than_days` is the least age.
    """

    paths: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    min_size: int | None = None
    max_size: int | None = None
    owners: list[int] = field(default_factory=list)
    older_than_days: int = 0


@dataclass(frozen=True, slots=True)
class KeepRules:
    """Which versions are kept beside the newest `max_versions`: of each of that many hours, days,
    weeks, months and years that have one the last."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """Rules for the files it governs. Ages are whole days, the backup frequency whole hours.

    0 for an age or a frequency means "never". Only with `auto_archive` and `auto_delete` does
    anything happen by itself. A file without a policy of its own goes by the first whose `match`
    holds, else by that of its type. `grace_days` is how long what was deleted lies in the trash.
    A file goes only when so many places (the vault, the archive, copies of them; `verified_places`
    names, by their paths, those that have to be among them) hold its content and each was verified
    within so many days; with 0 `verified_copies` nothing is asked. `copies` names, by their paths,
    those copies of the vaults that versions of its files go to; None is all that there are.
    """

    name: str
    file_types: list[FileType] = field(default_factory=list)
    retention_days: int = 0
    archive_after_days: int = 0
    delete_after_days: int = 0
    backup_frequency_hours: int = 24
    auto_archive: bool = False
    auto_delete: bool = False
    versioning_enabled: bool = True
    max_versions: int = 5
    match: Match | None = None
    age_from: AgeFrom = AgeFrom.LATER
    keep: KeepRules = field(default_factory=KeepRules)
    grace_days: int = 30
    verified_copies: int = 0
    verified_within_days: int = 30
    verified_places: list[str] = field(default_factory=list)
    copies: list[str] | None = None


# A file's age has to be told in days of a lifetime, not of the universe.
_DAYS_MAX = 36_500
_HOURS_MAX = 24 * _DAYS_MAX
_PLACES_MAX = 16


def faults_of(policy: LifecyclePolicy, *, allow_empty: bool = False) -> list[str]:
    """All that is wrong with a policy, in words. `allow_empty`: it may keep no version at all."""
    return list(_faults(policy, allow_empty))


def _faults(policy: LifecyclePolicy, allow_empty: bool) -> Iterator[str]:
    if not policy.name or policy.name != policy.name.strip() or "\n" in policy.name:
        yield "name: give it one, on one line and without blanks around it"
    for name in ("retention_days", "archive_after_days", "delete_after_days", "grace_days"):
        days = getattr(policy, name)
        if not 0 <= days <= _DAYS_MAX:
            yield f"{name}: {days} is not between 0 and {_DAYS_MAX:,}"
    hours = policy.backup_frequency_hours
    if not 0 <= hours <= _HOURS_MAX:
        yield f"backup_frequency_hours: {hours} is not between 0 and {_HOURS_MAX:,}"
    if not 0 <= policy.verified_copies <= _PLACES_MAX:
        yield f"verified_copies: {policy.verified_copies} is not between 0 and {_PLACES_MAX}"
    if not 1 <= policy.verified_within_days <= _DAYS_MAX:
        days = policy.verified_within_days
        yield f"verified_within_days: {days} is not between 1 and {_DAYS_MAX:,}"
    if policy.verified_places and not policy.verified_copies:
        yield "verified_places: needs verified_copies"
    if policy.verified_copies and not (policy.backup_frequency_hours or policy.auto_archive):
        yield "verified_copies: nothing is ever kept: set backup_frequency_hours or auto_archive"
    if any(not place.startswith("/") for place in policy.verified_places):
        yield "verified_places: name each by its absolute path"
    yield from _faults_of_copies(policy)
    if policy.max_versions < 0:
        yield f"max_versions: {policy.max_versions} is less than 0"
    for name in KeepRules.__slots__:
        if getattr(policy.keep, name) < 0:
            yield f"keep.{name}: {getattr(policy.keep, name)} is less than 0"
    if policy.max_versions == 0 and policy.keep == KeepRules() and not allow_empty:
        yield "max_versions: 0 keeps no version at all; say so with --allow-empty"
    if policy.auto_archive and not policy.archive_after_days:
        yield "auto_archive: needs archive_after_days"
    if policy.auto_delete and not policy.delete_after_days:
        yield "auto_delete: needs delete_after_days"
    if policy.auto_delete and 0 < policy.delete_after_days < policy.retention_days:
        yield (
            f"delete_after_days: {policy.delete_after_days} is before the end of the retention"
            f" ({policy.retention_days} days)"
        )
    both = policy.auto_archive and policy.auto_delete
    if both and policy.delete_after_days < policy.archive_after_days:
        yield (
            f"delete_after_days: {policy.delete_after_days} is before archive_after_days"
            f" ({policy.archive_after_days})"
        )
    if policy.match is not None:
        yield from _faults_of_match(policy.match)


def _faults_of_copies(policy: LifecyclePolicy) -> Iterator[str]:
    if policy.copies is None:
        return
    if any(not place.startswith("/") for place in policy.copies):
        yield "copies: name each by its absolute path"
    if len(set(policy.copies)) < len(policy.copies):
        yield "copies: names a place twice"
    # Beside them there are the vault and the archive.
    most = len(policy.copies) + 2
    if policy.verified_copies > most:
        yield (
            f"verified_copies: {policy.verified_copies} can never be, with {len(policy.copies)}"
            f" copies there are {most} places at most: name more copies, or demand fewer"
        )


def _faults_of_match(match: Match) -> Iterator[str]:
    for name in ("min_size", "max_size"):
        size = getattr(match, name)
        if size is not None and size < 0:
            yield f"match.{name}: {size} is less than 0"
    if (
        match.min_size is not None
        and match.max_size is not None
        and match.min_size > match.max_size
    ):
        yield "match: min_size is greater than max_size: nothing matches"
    if not 0 <= match.older_than_days <= _DAYS_MAX:
        yield f"match.older_than_days: {match.older_than_days} is not between 0 and {_DAYS_MAX:,}"
    if any(not pattern for pattern in (*match.paths, *match.exclude)):
        yield "match: an empty pattern matches nothing"


_T = FileType
SHIPPED: tuple[LifecyclePolicy, ...] = (
    LifecyclePolicy("default"),
    LifecyclePolicy("documents", [_T.DOCUMENT], 365, 90, 365, 24, True, True, True, 5),
    LifecyclePolicy(
        "media", [_T.IMAGE, _T.VIDEO, _T.AUDIO], 730, 180, 730, 12, True, False, True, 3
    ),
    LifecyclePolicy("archives", [_T.ARCHIVE], 1825, 30, 1825, 168, False, False, True, 2),
)
