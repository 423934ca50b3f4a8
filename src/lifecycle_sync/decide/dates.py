"""When a policy asks for something: the dates of one file, and the next one that matters."""

from __future__ import annotations

from typing import NamedTuple

from lifecycle_sync.model.file import FileFlag, Kind, LifecycleState
from lifecycle_sync.model.plan import Subject
from lifecycle_sync.model.policy import AgeFrom, LifecyclePolicy

NS_PER_DAY = 86_400 * 1_000_000_000
NS_PER_HOUR = 3_600 * 1_000_000_000
_S = LifecycleState
# What may still be archived, or expire; an archived file that expires stays where it is.
_THERE = frozenset({_S.UPLOADED, _S.BACKUP_PENDING, _S.BACKUP_COMPLETE, _S.EXPIRED})
_CHANGED = frozenset({_S.UPLOADED, _S.BACKUP_PENDING})
# Kinds that are kept and moved; of others there is only a record.
_KINDS = frozenset({Kind.REGULAR, Kind.SYMLINK})


class Dates(NamedTuple):
    """When things are due for a file under a policy, in nanoseconds since 1970 UTC; None is never,
    or no more. `retention_ns` is when its retention ends, also where nothing happens then."""

    age_ns: int | None
    backup_ns: int | None
    archive_ns: int | None
    retention_ns: int | None
    expire_ns: int | None
    delete_ns: int | None


def age_begins_ns(file: Subject, policy: LifecyclePolicy) -> int | None:
    """Since when a file's age counts; None where what it counts from has not happened."""
    match policy.age_from:
        case AgeFrom.MODIFIED:
            return file.mtime_ns
        case AgeFrom.REGISTERED:
            return file.registered_ns
        case AgeFrom.ACCESSED:
            return max(file.atime_ns, file.mtime_ns)
        case AgeFrom.DOWNLOADED:
            return file.downloaded_ns
        case AgeFrom.LATER:
            return max(file.mtime_ns, file.registered_ns)


def dates_of(file: Subject, policy: LifecyclePolicy) -> Dates:
    """The dates of a file as it is now."""
    age_ns = age_begins_ns(file, policy)
    there = file.state in _THERE and not file.missing and file.kind in _KINDS
    archived = file.state is _S.ARCHIVED
    retention_ns = _after(age_ns, policy.retention_days)
    delete_ns = _after(age_ns, policy.delete_after_days) if policy.auto_delete else None
    if delete_ns is not None and retention_ns is not None:
        delete_ns = max(delete_ns, retention_ns)
    if not (there or archived):
        return Dates(age_ns, None, None, retention_ns, None, None)
    return Dates(
        age_ns=age_ns,
        backup_ns=_backup_ns(file, policy) if there else None,
        archive_ns=(
            _after(age_ns, policy.archive_after_days) if policy.auto_archive and there else None
        ),
        retention_ns=retention_ns,
        expire_ns=retention_ns if there and file.state is not _S.EXPIRED else None,
        delete_ns=delete_ns,
    )


def _after(age_ns: int | None, days: int) -> int | None:
    return age_ns + days * NS_PER_DAY if days and age_ns is not None else None


def _backup_ns(file: Subject, policy: LifecyclePolicy) -> int | None:
    """At once for what was never kept, else a backup's time after the last."""
    if not policy.backup_frequency_hours or file.state not in _CHANGED:
        return None
    if file.last_version_ns is None:
        return max(file.registered_ns, file.mtime_ns)
    return file.last_version_ns + policy.backup_frequency_hours * NS_PER_HOUR


def next_of(dates: Dates, changes_ns: int | None) -> int | None:
    """The first moment at which something is due, or another rule may hold."""
    due = (dates.backup_ns, dates.archive_ns, dates.expire_ns, dates.delete_ns, changes_ns)
    return min((moment for moment in due if moment is not None), default=None)


# What keeps a sweep from a record, whatever is due, by the flag.
BLOCKING_FLAGS = {
    FileFlag.CLAIMED: ("claimed", "the application works on it, until it is released"),
    FileFlag.UNSTABLE: ("unstable", "it changed while it was read: it is looked at again"),
    FileFlag.SUSPECT: (
        "suspect",
        "its content changed and nobody wrote it: look at it, then `lifecycle accept`",
    ),
}
