"""Vault, archive and trashes under examination: where they lie, and whether they can be used."""

from __future__ import annotations

import os

from lifecycle_sync.act.batches import DamagedBatch
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.clock import NS_PER_SECOND, Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.doctor_findings import (
    Finding,
    age_text,
    fault,
    fault_from,
    fine,
    size_text,
    warning,
)
from lifecycle_sync.service.standing import evidence_of
from lifecycle_sync.service.vaults import identity_of, index_folder, misplaced, recipients_of
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.age import Identities, Recipients, others_may_read
from lifecycle_sync.vault.format import VaultFormat, VaultKind

_NAMES = {VaultKind.BACKUP: "vault", VaultKind.ARCHIVE: "archive"}


def examine_vaults(
    registry: SqliteRegistry | None, settings: Settings, clock: Clock, fs: FileOps
) -> list[Finding]:
    """Both vaults, their index, and the trash of every root. No vault is changed or indexed."""
    roots = [] if registry is None else registry.repositories()
    found: list[Finding] = []
    for kind in VaultKind:
        place = settings.backup_path if kind is VaultKind.BACKUP else settings.archive_path
        found += _vault(kind, os.fspath(place), roots, settings, fs)
    found += _index(os.path.realpath(settings.database_path))
    if registry is not None:
        for repository in roots:
            found += _trash(registry, repository, clock, fs)
        found += _evidence(registry, settings, clock.now_ns())
        found += _copies(registry, settings)
    return found


def _copies(registry: SqliteRegistry, settings: Settings) -> list[Finding]:
    """Policies that send their files to copies which the settings do not name (any more)."""
    known = set(map(os.fspath, (*settings.backup_copies, *settings.archive_copies)))
    return [
        warning(
            "copies",
            place,
            f"the policy {policy.name} names it, and the settings do not: nothing goes there",
            f"add it to backup_copies or archive_copies; or `lifecycle policy set {policy.name}"
            " --copy DIR`, with all that it is to go to",
        )
        for policy in registry.policies()
        for place in policy.copies or ()
        if place not in known
    ]


_EXAMINED = {
    "verify": ("verified", "`lifecycle verify --all --heal`, or let `lifecycle run` go on"),
    "copy": ("brought up to date", "mount its disk; `lifecycle vault copy`"),
    "prune": ("pruned", "`lifecycle vault prune`, or let `lifecycle run` go on"),
    "drill": ("restored from for a trial", "`lifecycle drill`, or let `lifecycle run` go on"),
}


def _evidence(registry: SqliteRegistry, settings: Settings, now_ns: int) -> list[Finding]:
    """Examinations that found something, or are too long ago."""
    found = []
    for it in evidence_of(registry, settings, now_ns):
        done, remedy = _EXAMINED[it.what]
        check, note = f"evidence.{it.what}", it.note
        if note is not None and note.faults:
            found.append(fault(check, it.place, f"{note.faults:,} faults: {note.message}", remedy))
        elif it.late:
            # The oldest byte counts, not the newest look.
            since = "never" if note is None or not note.since_ns else "too long ago"
            found.append(warning(check, it.place, f"was {done} {since}, as a whole", remedy))
        elif note is not None:
            ago = age_text((now_ns - note.ended_ns) / NS_PER_SECOND)
            found.append(fine(check, it.place, f"was {done} {ago} ago"))
    return found


def _vault(
    kind: VaultKind, place: str, roots: list[Repository], settings: Settings, fs: FileOps
) -> list[Finding]:
    name = _NAMES[kind]
    check = f"{name}.place"
    real = os.path.realpath(os.fsencode(place))
    found = [
        fault(
            check,
            place,
            f"the {name} {clash}",
            f"set {kind.value}_path to a folder apart from all roots, best on another disk",
        )
        for repository in roots
        if repository.kind is RepositoryKind.ROOT and (clash := misplaced(real, repository.path))
    ]
    try:
        empty = not os.path.isdir(place) or not os.listdir(place)
        if empty:
            return found
        storage = opening.open_storage(place, fs, create=False)
        try:
            it = opening.read_format(storage, place, kind, None, write=True)
        finally:
            storage.close()
    except LifecycleError as error:
        return [*found, fault_from(f"{name}.format", place, error)]
    except OSError as error:
        cause = f"cannot be read ({error.strerror})"
        return [*found, fault(f"{name}.format", place, cause, "check the disk and its permissions")]
    if it is None:
        return found
    if not os.access(place, os.W_OK):
        remedy = "give this user the right to write there, or mount it to be written"
        return [*found, fault(f"{name}.format", place, "cannot be written to", remedy)]
    return [*found, _keys(kind, place, it, settings)]


def _keys(kind: VaultKind, place: str, it: VaultFormat, settings: Settings) -> Finding:
    """Whether it can be written to with the keys in the settings, and read with the secret one."""
    check = f"{_NAMES[kind]}.format"
    recipients, setting = recipients_of(settings, kind), f"{kind.value}_recipients"
    if not it.encryption:
        if recipients:
            return fault(
                check,
                place,
                f"is not encrypted, and {setting} is set",
                "`lifecycle vault rewrite DIR` makes an encrypted one of it; or take the setting"
                " out",
            )
        return fine(check, place, f"is a vault of kind {it.kind.value}")
    if not recipients:
        return fault(
            check,
            place,
            f"is encrypted, and {setting} is not set: nothing can be written to it",
            "set it to the public keys; `lifecycle vault recipients` lists those of the vault",
        )
    identity = identity_of(settings)
    try:
        Recipients(recipients)
        if identity:
            Identities(identity)
    except LifecycleError as error:
        return fault_from(check, place, error)
    if identity and others_may_read(identity):
        return warning(
            check,
            place,
            f"its key file {identity} can be read by others",
            f"chmod 600 {identity}",
        )
    return fine(check, place, f"is an encrypted vault of kind {it.kind.value}")


def _index(database: str) -> list[Finding]:
    folder = index_folder(database)
    check = "vault.index"
    there = folder if os.path.isdir(folder) else os.path.dirname(folder)
    if os.path.exists(folder) and not os.path.isdir(folder):
        return [fault(check, folder, "is no folder", "move it away; it is made anew")]
    if not os.access(there, os.W_OK | os.X_OK):
        remedy = "give this user the right to write there; what is in it is made anew when lost"
        return [fault(check, folder, "cannot be written to", remedy)]
    if there != folder:
        return [fine(check, folder, "is made when a vault is first used")]
    size = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    return [fine(check, folder, f"{size_text(size)}; may be deleted, and is made anew then")]


def _trash(
    registry: SqliteRegistry, repository: Repository, clock: Clock, fs: FileOps
) -> list[Finding]:
    check, root = "root.trash", repository.path
    if not os.path.isdir(root):
        # Its guard says so.
        return []
    try:
        with Trash(
            fs,
            clock,
            root,
            repository_id=repository.repository_id,
            registry_id=registry.registry_id,
            stable_inodes=repository.identity.stable_inodes,
        ) as trash:
            damaged = [it for it in trash.batches() if isinstance(it, DamagedBatch)]
            totals = trash.totals()
    except LifecycleError as error:
        return [fault_from(check, root, error)]
    except OSError as error:
        cause = f"its trash cannot be read ({error.strerror})"
        return [fault(check, root, cause, "check the disk and its permissions")]
    found = [
        fault(
            check,
            os.path.join(root, b".lifecycle/trash", it.name),
            f"cannot be read as a batch: {it.error.cause}",
            it.error.remedy or "its files lie in it, by number: take out what you want to keep",
        )
        for it in damaged
    ]
    if totals.files and not found:
        text = f"{totals.files:,} files, {size_text(totals.bytes)} in the trash"
        found.append(fine(check, root, text))
    return found
