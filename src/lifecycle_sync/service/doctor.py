"""An examination of all that the program rests on. It changes nothing at all."""

from __future__ import annotations

import os

from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.doctor_findings import Finding, fault_from
from lifecycle_sync.service.doctor_machine import examine_machine
from lifecycle_sync.service.doctor_registry import examine_registry
from lifecycle_sync.service.doctor_roots import examine_roots
from lifecycle_sync.service.doctor_settings import (
    configured_roots,
    examine_settings,
    examine_shared_disks,
)
from lifecycle_sync.service.doctor_space import examine_space
from lifecycle_sync.service.doctor_vaults import examine_vaults

__all__ = ["Finding", "examine"]


def examine(
    settings: Settings, *, clock: Clock | None = None, fs: FileOps | None = None
) -> list[Finding]:
    """Examine the machine, the settings, the registry, its roots and their guards, vaults, trashes
    and free space.

    What is sound is found, too ("ok"). The registry is read only: none is made, and none migrated;
    only the memory that SQLite shares between processes (`-shm`) may be written, as by any reader.
    """
    clock, fs = clock or SystemClock(), fs or FileOps()
    about_registry, registry = examine_registry(settings, clock, fs)
    database = os.path.realpath(settings.database_path)
    roots = configured_roots(settings)
    about_roots: list[Finding] = []
    about_machine = []
    about_vaults: list[Finding] = []
    try:
        try:
            about_machine = examine_machine(registry, clock.now_ns(), settings.walker)
            if registry is not None:
                about_roots = examine_roots(registry, settings, clock, fs)
                about_vaults = examine_vaults(registry, settings, clock, fs)
                roots += [os.fsdecode(known.path) for known in registry.repositories()]
        except LifecycleError as error:
            # Damaged pages: the integrity check has told of them already, more than this does.
            about_roots.append(fault_from("registry.use", database, error))
            about_machine = about_machine or examine_machine(None, clock.now_ns(), settings.walker)
    finally:
        if registry is not None:
            registry.close()
    return [
        *about_machine,
        *examine_settings(settings, os.environ),
        *examine_shared_disks(settings, roots),
        *about_registry,
        *about_roots,
        *(about_vaults or examine_vaults(None, settings, clock, fs)),
        *examine_space(
            [
                ("database", database),
                ("vault", os.fspath(settings.backup_path)),
                ("archive", os.fspath(settings.archive_path)),
                *(("root", root) for root in roots),
            ]
        ),
    ]
