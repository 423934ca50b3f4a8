"""A repository: one root folder under management, and what identifies it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

MARKER_FORMAT = 1
# Everything of ours inside a root lives in this one directory.
PRIVATE_DIRECTORY = b".lifecycle"
MARKER_NAME = b"root.json"
# In it: files by which others ask a watcher whether all that happened before is recorded.
COOKIES_DIRECTORY = b"cookies"


class RepositoryKind(StrEnum):
    ROOT = "root"  # everything below it is observed
    LOOSE = "loose"  # only the files registered by name are observed


class RepositoryStatus(StrEnum):
    ACTIVE = "active"
    OFFLINE = "offline"  # the marker or the folder is not there
    HELD = "held"  # a guard waits for a person; `held_reason` has its evidence


@dataclass(frozen=True, slots=True)
class RootIdentity:
    """What is remembered of a root beside its marker. Empty text and 0 mean "not known"."""

    filesystem_type: str = ""
    filesystem_id: str = ""
    inode: int = 0
    # Inodes that change between mounts (FUSE, SMB) are neither remembered nor compared.
    stable_inodes: bool = True
    network: bool = False


@dataclass(frozen=True, slots=True)
class Marker:
    """The file inside a root that says whose it is."""

    root_id: bytes
    registry_id: bytes
    format: int = MARKER_FORMAT


@dataclass(frozen=True, slots=True)
class Repository:
    """One root. `path` is absolute bytes, without a trailing slash.

    `marker_in_root` is False where the root could not be written to: then the marker is only this
    row. `accepted_losses` is how many vanished files a person has agreed to, and is used up by the
    next whole scan. `generation` counts whole scans.
    """

    repository_id: bytes
    path: bytes
    kind: RepositoryKind = RepositoryKind.ROOT
    status: RepositoryStatus = RepositoryStatus.ACTIVE
    identity: RootIdentity = RootIdentity()
    marker_in_root: bool = True
    enforce: bool = False
    user_area: bytes = b""
    ignore_hash: bytes = b""
    generation: int = 0
    # The last generation whose scan saw the whole root.
    complete_generation: int = 0
    accepted_losses: int = 0
    held_guard: str = ""
    held_reason: str = ""
    added_ns: int = 0

    def evolve(self, **changes: object) -> Repository:
        return replace(self, **changes)  # type: ignore[arg-type]
