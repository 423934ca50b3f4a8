"""The tuple of a file as the registry has it, from what `lstat` says."""

from __future__ import annotations

import os
import stat as stat_module

from lifecycle_sync.model.observation import Fingerprint

_INT64_MAX = 2**63 - 1


def fingerprint_of(found: os.stat_result) -> Fingerprint:
    """The tuple of a file, as records have it."""
    inode = found.st_ino - 2**64 if found.st_ino > _INT64_MAX else found.st_ino
    return Fingerprint(
        stat_module.S_IFMT(found.st_mode) >> 12,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        inode,
    )
