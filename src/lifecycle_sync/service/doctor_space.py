"""Free space and inodes on every disk that the program writes to or looks after."""

from __future__ import annotations

import os
from collections.abc import Iterable

from lifecycle_sync.service.doctor_findings import Finding, fault, fine, size_text, warning
from lifecycle_sync.service.doctor_settings import existing

WARNING_SHARE, FAULT_SHARE = 0.10, 0.01
WARNING_BYTES, FAULT_BYTES = 1 << 30, 50 << 20
_REMEDY = "free some, or move something of it to another disk"


def examine_space(places: Iterable[tuple[str, str]]) -> list[Finding]:
    """One pair of findings a disk. `places` are a name ("database") and a path each; where the
    path is not there yet, the folder counts that it would be made in."""
    disks: dict[int, tuple[str, list[str]]] = {}
    for name, path in places:
        try:
            there = existing(path)
            _, names = disks.setdefault(os.stat(there).st_dev, (there, []))
        except OSError:
            # Its own check says that it cannot be reached.
            continue
        if name not in names:
            names.append(name)
    found = []
    for path, names in disks.values():
        sizes = os.statvfs(path)
        used_by = ", ".join(names)
        found.append(
            judge_space(
                path, used_by, sizes.f_bavail * sizes.f_frsize, sizes.f_blocks * sizes.f_frsize
            )
        )
        found += judge_inodes(path, used_by, sizes.f_favail, sizes.f_files)
    return found


def judge_space(path: str, used_by: str, free: int, total: int) -> Finding:
    """Both in bytes, as an ordinary user has them."""
    message = f"{size_text(free)} of {size_text(total)} free ({used_by})"
    if free < FAULT_SHARE * total or free < FAULT_BYTES:
        return fault("space.bytes", path, message, _REMEDY)
    if free < WARNING_SHARE * total or free < WARNING_BYTES:
        return warning("space.bytes", path, message, _REMEDY)
    return fine("space.bytes", path, message)


def judge_inodes(path: str, used_by: str, free: int, total: int) -> list[Finding]:
    """Nothing for a filesystem that has no fixed number of them, such as btrfs."""
    if total == 0:
        return []
    message = f"{free:,} of {total:,} inodes free ({used_by})"
    remedy = "remove small files that are not needed, or move them to another disk"
    if free < FAULT_SHARE * total:
        return [fault("space.inodes", path, message, remedy)]
    if free < WARNING_SHARE * total:
        return [warning("space.inodes", path, message, remedy)]
    return [fine("space.inodes", path, message)]
