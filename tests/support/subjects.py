"""Records and situations for tests of deciding, in few words."""

from __future__ import annotations

from typing import Any

from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.planning import Root, Situation
from lifecycle_sync.model.file import FileType, Kind, LifecycleState
from lifecycle_sync.model.plan import Subject
from lifecycle_sync.model.policy import SHIPPED, LifecyclePolicy

DAY = 86_400 * 1_000_000_000
# Day 1,000 after 1970: now, in these tests.
NOW = 1_000 * DAY
ROOT = b"r" * 16


def subject(age_days: float = 0, **fields: Any) -> Subject:
    """A document of 10 bytes that was written, and registered, so many days ago."""
    at_ns = NOW - int(age_days * DAY)
    given: dict[str, Any] = {
        "row_id": 1,
        "seq": 1,
        "file_id": b"f" * 16,
        "repository_id": ROOT,
        "root": b"/srv",
        "path": b"docs/a.txt",
        "kind": Kind.REGULAR,
        "file_type": FileType.DOCUMENT,
        "size": 10,
        "mtime_ns": at_ns,
        "ctime_ns": at_ns,
        "inode": 7,
        "atime_ns": at_ns,
        "uid": 1000,
        "registered_ns": at_ns,
        "state": LifecycleState.BACKUP_COMPLETE,
        "flags": 0,
        "tracking": 0,
        "missing": False,
        "checksum": b"c" * 32,
        "hash_due": False,
        "explicit": None,
        "last_version_ns": at_ns,
        "has_archive": False,
        "governed_by": "documents",
        "expiry_ns": None,
        "next_due_ns": None,
    }
    return Subject(**{**given, **fields})


def situation(
    *policies: LifecyclePolicy, at_ns: int = NOW, root: dict[str, Any] | None = None, **fields: Any
) -> Situation:
    """The shipped policies, and those given after them; one root in which they may act."""
    facts = {"repository_id": ROOT, "path": b"/srv", "files": 1_000, **(root or {})}
    rules = Rules([*SHIPPED, *policies])
    return Situation(rules, {ROOT: Root(**facts)}, at_ns, **fields)
