"""What lies in the trash of a root: batches of files, each with what brings them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lifecycle_sync.model.observation import Fingerprint

TRASH_FORMAT = 1
TRASH_DIRECTORY = b"trash"
SIDECAR_NAME = b"batch.jsonl"
# Entries of one batch; more than that makes another one.
BATCH_MAX = 1000
# Why a file does not come back, in the one case in which something can be done about it.
PLACE_TAKEN = "its place is taken"


class TrashReason(StrEnum):
    """Why files were taken."""

    DELETE = "delete"
    ARCHIVE = "archive"  # a verified copy lies in the archive
    REPLACE = "replace"  # another version was put in its place


class TrashEntry(NamedTuple):
    """One file of a batch. `path` is relative to the root, `fingerprint` what the file was when it
    was decided to take it; `checksum` is None where it was never hashed."""

    file_id: bytes
    operation_id: bytes
    path: bytes
    fingerprint: Fingerprint
    algorithm: str = ""
    checksum: bytes | None = None


class TrashFolder(NamedTuple):
    """What a folder was like, should it have to be made again."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class TrashBatch:
    """What was taken together, as the sidecar tells it; `trash.left` says what still lies there.

    Times are nanoseconds since 1970 UTC; at `until_ns` the grace ends. The file of entry n lies in
    the batch's directory under the name n.
    """

    batch_id: bytes
    repository_id: bytes
    registry_id: bytes
    reason: TrashReason
    at_ns: int
    until_ns: int
    entries: tuple[TrashEntry, ...]
    folders: dict[bytes, TrashFolder] = field(default_factory=dict)


class TrashTotals(NamedTuple):
    """`files` and `bytes` still lie there; `damaged` counts batches that cannot be read."""

    batches: int = 0
    files: int = 0
    bytes: int = 0
    damaged: int = 0


class TrashOutcome(NamedTuple):
    """What came of one file. `reason` says why not; with `alarm` a person should hear of it, with
    `failed` the disk is to blame, not the file.

    `freed` are the bytes that a purge gave back to the disk.
    """

    ok: bool
    reason: str = ""
    alarm: bool = False
    freed: int = 0
    failed: bool = False
