"""Whose story counts where registry and disk tell two about one file."""

from __future__ import annotations

from enum import Enum

from lifecycle_sync.model.conflict import Strategy


class Keep(Enum):
    """What is to be at the place of a file."""

    DISK = "what the disk has"
    REGISTRY = "what the registry says"
    BOTH = "what the disk has, and beside it what the registry says"


def resolve(strategy: Strategy, *, disk_ns: int, registry_ns: int | None) -> tuple[Keep, str]:
    """What a strategy keeps, and why.

    `disk_ns` is when the file on the disk was written; `registry_ns` when what the registry says
    was written, or said, None where nothing is kept of it: then there is nothing to bring back. Of
    two equally old ones the disk's stays, for that takes nothing away.
    """
    if registry_ns is None:
        return Keep.DISK, "nothing is kept of what the registry knew"
    match strategy:
        case Strategy.DISK:
            return Keep.DISK, "the disk counts"
        case Strategy.REGISTRY:
            return Keep.REGISTRY, "the registry counts"
        case Strategy.KEEP_BOTH:
            return Keep.BOTH, "both are kept"
    if disk_ns >= registry_ns:
        return Keep.DISK, "the file on the disk is newer"
    return Keep.REGISTRY, "what the registry knows is newer"
