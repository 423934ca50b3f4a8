"""Conflicts: the registry and the disk tell two stories about one file."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Strategy(StrEnum):
    """Whose story counts."""

    DISK = "disk"
    REGISTRY = "registry"
    NEWEST = "newest"
    KEEP_BOTH = "keep_both"


class Situation(StrEnum):
    """What was found. In the fourth situation, a file that is to come back while another stands
    at its place, the order that brings it back decides by the same strategy."""

    # A file lies at the place of one that was archived.
    CHANGED_WHILE_ARCHIVED = "changed while archived"
    # A file lies at the place of one that was moved into the trash.
    RECREATED = "recreated after deletion"
    # One tracked file was renamed onto another.
    RENAMED_ONTO = "renamed onto another"


class Conflict(NamedTuple):
    """One that waits to be resolved. `row_id` is the registry's number of the record at the place.

    `other_id` is the record that is not there any more: of the one that was deleted, or of the one
    that was renamed. `checksum` is of what lay at the place before a rename. Times are nanoseconds
    since 1970 UTC.
    """

    row_id: int
    file_id: bytes
    situation: Situation
    other_id: bytes | None
    checksum: bytes | None
    noted_ns: int


class Resolved(NamedTuple):
    """One that is done with; `details` is JSON text for the journal."""

    row_id: int
    details: str
