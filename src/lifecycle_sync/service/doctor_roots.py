"""The roots under examination: their guards, their filesystems, and what the last scan left."""

from __future__ import annotations

import os
from itertools import islice

from lifecycle_sync.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import FileFlag
from lifecycle_sync.model.operation import RunStatus
from lifecycle_sync.model.repository import Repository, RepositoryKind, RepositoryStatus
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.doctor_findings import (
    Finding,
    age_text,
    fault,
    fault_from,
    fine,
    warning,
)
from lifecycle_sync.service.doctor_settings import configured_roots
from lifecycle_sync.service.listings import COARSE_MARGIN_NS, margin_ns_of
from lifecycle_sync.service.roots import Roots

_RUNS = 100
_LONG_DAYS = 7
_NAMES = 200


def examine_roots(
    registry: SqliteRegistry, settings: Settings, clock: Clock, fs: FileOps
) -> list[Finding]:
    """All roots of the registry, and those of the settings that are none yet."""
    roots = Roots(registry, settings, fs, clock)
    found = []
    for repository in roots.all():
        try:
            found += _guards(roots, repository)
            found += _filesystem(repository, fs)
            found += _left(registry, repository)
            if repository.kind is RepositoryKind.ROOT:
                found.append(_last_scan(registry, repository, clock.now_ns()))
        except LifecycleError as error:
            found.append(fault_from("root", repository.path, error))
        except OSError as error:
            cause = error.strerror or str(error)
            remedy = "check the disk and its permissions"
            found.append(fault("root", repository.path, f"cannot be read ({cause})", remedy))
    known = {repository.path for repository in roots.all()}
    for root in configured_roots(settings):
        if os.path.realpath(os.fsencode(root)) not in known:
            found.append(
                warning(
                    "root",
                    root,
                    "is in the settings and not yet a root",
                    "`lifecycle run` or `lifecycle add` takes it under management",
                )
            )
    return found


def _guards(roots: Roots, repository: Repository) -> list[Finding]:
    verdict, _identity = roots.look(repository)
    if not verdict.passed:
        return [
            warning(
                f"root.{verdict.guard}",
                repository.path,
                f"{verdict.outcome.value}: {verdict.reason}",
                verdict.remedy,
            )
        ]
    held = repository.status is RepositoryStatus.HELD and repository.held_guard != "root"
    if held:
        return [
            warning(
                f"root.{repository.held_guard}",
                repository.path,
                f"held: {repository.held_reason}",
                "look at the folder; if it is right as it is, `lifecycle accept` it",
            )
        ]
    where = "" if repository.marker_in_root else "; read-only, its marker is in the registry"
    if repository.kind is RepositoryKind.LOOSE:
        where = "; only files registered by name are followed"
    return [fine("root.root", repository.path, f"is the folder that was registered{where}")]


def _filesystem(repository: Repository, fs: FileOps) -> list[Finding]:
    identity = repository.identity
    about = [identity.filesystem_type or "unknown filesystem"]
    if margin_ns_of(repository) == COARSE_MARGIN_NS:
        about.append("coarse times: fresh files are looked at twice")
    try:
        flags = os.statvfs(repository.path).f_flag
    except OSError:
        return []
    if flags & getattr(os, "ST_NOATIME", 0):
        about.append("noatime: when a file was last read is not known")
    found = [fine("root.filesystem", repository.path, "; ".join(about))]
    if identity.network:
        found.append(
            warning(
                "root.network",
                repository.path,
                f"is on a network filesystem ({identity.filesystem_type}): changes are only polled",
                "run lifecycle-sync on the machine that has the disk, if that is possible",
            )
        )
    if _ignores_case(repository.path, fs):
        found.append(
            warning(
                "root.case",
                repository.path,
                "does not tell upper case from lower: two such names are one file",
                "keep files that differ only in the case of their names elsewhere",
            )
        )
    return found


def _ignores_case(root: bytes, fs: FileOps) -> bool:
    """Whether a name found in the folder is found in the other case, too; nothing is made."""
    root_fd = fs.open_directory(root)
    try:
        with os.scandir(root_fd) as entries:
            names = {entry.name for entry in islice(entries, _NAMES)}
        for name in names:
            other = name.swapcase()
            if other in names or other.swapcase() != name or other == name:
                continue
            try:
                same = fs.stat(other, dir_fd=root_fd, follow_symlinks=False)
            except OSError:
                return False
            first = fs.stat(name, dir_fd=root_fd, follow_symlinks=False)
            return (same.st_dev, same.st_ino) == (first.st_dev, first.st_ino)
    finally:
        fs.close(root_fd)
    return False


def _left(registry: SqliteRegistry, repository: Repository) -> list[Finding]:
    """What the scans could not settle."""
    found = []
    failed = registry.directory_totals(repository.repository_id).failed
    if failed:
        path, reason = failed[0]
        name = os.fsdecode(path) or "the root itself"
        found.append(
            warning(
                "root.folders",
                repository.path,
                f"{len(failed):,} folders could not be listed; the first is {name}: {reason}",
                "give this user the right to list them, or ignore them by a rule",
            )
        )
    suspect = registry.flag_count(repository.repository_id, FileFlag.SUSPECT.value)
    if suspect:
        found.append(
            fault(
                "root.suspect",
                repository.path,
                f"{suspect:,} files changed their content without being written (bit rot)",
                "restore them from a backup, or `lifecycle accept` each as it is, and check the"
                " disk",
            )
        )
    unreadable = registry.flag_count(repository.repository_id, FileFlag.UNREADABLE.value)
    if unreadable:
        found.append(
            warning(
                "root.files",
                repository.path,
                f"{unreadable:,} files could not be read",
                "give this user the right to read them, or ignore them by a rule",
            )
        )
    return found


def _last_scan(registry: SqliteRegistry, repository: Repository, now_ns: int) -> Finding:
    check, remedy = "root.scan", "`lifecycle sync` looks at it from end to end"
    ended = [
        run.ended_ns
        for run in registry.runs(repository.repository_id, _RUNS)
        if run.whole and run.status is RunStatus.COMPLETED and run.ended_ns is not None
    ]
    if not ended:
        return warning(check, repository.path, "was never scanned from end to end", remedy)
    age_ns = now_ns - max(ended)
    message = f"last scanned {age_text(max(age_ns, 0) / NS_PER_SECOND)} ago"
    if age_ns > _LONG_DAYS * NS_PER_DAY:
        return warning(check, repository.path, message, remedy)
    return fine(check, repository.path, message)
