"""Where each root stands now: what its guard says, what the registry has, and the last pass."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from lifecycle_sync.clock import NS_PER_DAY, to_iso
from lifecycle_sync.config import Settings
from lifecycle_sync.decide import guards
from lifecycle_sync.decide.guards import Verdict
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.check import COPY, DRILL, PRUNE, VERIFY, CheckNote
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.model.operation import ActRun, Run
from lifecycle_sync.model.record import DirectoryTotals
from lifecycle_sync.model.repository import Repository, RepositoryStatus
from lifecycle_sync.model.trash import TrashTotals
from lifecycle_sync.model.watch import ScrubNote
from lifecycle_sync.observe.walker import MOUNT_POINT
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.report.records import (
    below,
    path_fields,
    repository_fields,
    run_fields,
    utf8_text,
)
from lifecycle_sync.service.cookies import followed_by
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.watch_health import RootHealth, health_fields
from lifecycle_sync.vault.format import VaultKind


@dataclass(frozen=True, slots=True)
class Standing:
    """One root. `verdict` is of this moment for *root*, else of the last pass; `status` follows
    from it. Counts are of records; `due_bytes` are to be hashed."""

    repository: Repository
    status: RepositoryStatus
    verdict: Verdict | None
    totals: DirectoryTotals
    last_run: Run | None
    due_files: int
    due_bytes: int
    missing: int
    suspect: int
    unreadable: int
    # Files of which disk and registry tell two stories, until policies are enforced.
    conflicts: int = 0
    scrub: ScrubNote = field(default_factory=ScrubNote)
    # What has no version as it is now; when a backup last ended; what lies in the trash.
    unkept_files: int = 0
    unkept_bytes: int = 0
    last_backup: ActRun | None = None
    trash: TrashTotals | None = None
    # How the process that follows it fares; None when none does.
    health: RootHealth | None = None

    @property
    def mounts(self) -> tuple[bytes, ...]:
        """Folders on another filesystem, which is not entered: their paths in the root."""
        return tuple(path for path, reason in self.totals.failed if reason == MOUNT_POINT)

    @property
    def unread(self) -> tuple[bytes, ...]:
        """Folders that could not be listed."""
        return tuple(path for path, reason in self.totals.failed if reason != MOUNT_POINT)


def standings(engine: Engine) -> list[Standing]:
    """All repositories, in the order of their paths. Changes nothing, the rows' status included."""
    return [standing_of(engine, repository) for repository in engine.roots.all()]


def standing_of(engine: Engine, repository: Repository) -> Standing:
    """One repository; see `Standing`."""
    registry, root_id = engine.registry, repository.repository_id
    status, verdict = _judge(engine, repository)
    runs = registry.runs(root_id, 1)
    due_files, due_bytes = registry.to_hash_totals(root_id)
    unkept = [it for it in registry.type_counts(root_id) if it.state in _UNKEPT]
    return Standing(
        repository=repository,
        status=status,
        verdict=verdict,
        totals=registry.directory_totals(root_id),
        last_run=runs[0] if runs else None,
        due_files=due_files,
        due_bytes=due_bytes,
        missing=registry.missing_count(root_id),
        suspect=registry.flag_count(root_id, FileFlag.SUSPECT.value),
        unreadable=registry.flag_count(root_id, FileFlag.UNREADABLE.value),
        scrub=registry.scrub_note(root_id),
        conflicts=registry.conflict_count(root_id),
        unkept_files=sum(it.files for it in unkept),
        unkept_bytes=sum(it.bytes for it in unkept),
        last_backup=_last_backup(engine, root_id),
        trash=_trash_of(engine, repository),
        health=followed_by(engine, repository),
    )


_UNKEPT = frozenset({LifecycleState.UPLOADED, LifecycleState.BACKUP_PENDING})
_ACTS = 100
# A copy that is older than that is told of.
_COPY_DAYS = 7


def _last_backup(engine: Engine, repository_id: bytes) -> ActRun | None:
    """The newest one that ended well, among the last acts."""
    for act in engine.registry.acts(repository_id, _ACTS):
        if act.verb == "backup" and act.status == "completed":
            return act
    return None


def _trash_of(engine: Engine, repository: Repository) -> TrashTotals | None:
    """None where it cannot be looked into."""
    try:
        with engine.acts.trash(repository) as trash:
            return trash.totals()
    except (LifecycleError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where a vault lies, and whether anything is there."""

    kind: str
    path: str
    there: bool


def vault_places(engine: Engine) -> list[VaultPlace]:
    """The vault and the archive of the settings. Neither is opened."""
    return [
        VaultPlace(kind.value, engine.vaults.path(kind), engine.vaults.is_there(kind))
        for kind in VaultKind
    ]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the state of what is kept at one place, or of restores from it: the last
    examination; None where there was none. `what` and `subject` as for `CheckNote`; `place` names
    it for people, `late` says that it should have been done since."""

    what: str
    place: bytes
    note: CheckNote | None
    late: bool


def evidence(engine: Engine) -> list[Evidence]:
    """Of vault, archive and their copies when they were verified and copied to, and of each root
    when versions of it were restored for a trial. Changes nothing."""
    settings, now_ns = engine.settings, engine.now_ns()
    return evidence_of(engine.registry, settings, now_ns)


def evidence_of(registry: Registry, settings: Settings, now_ns: int) -> list[Evidence]:
    """`evidence`, for who has no engine."""
    notes = {(it.what, it.subject): it for it in registry.checks()}
    found = []

    roots = registry.repositories()
    # Before there was anything to examine nothing is late.
    begun_ns = min((it.added_ns for it in roots), default=now_ns)

    def add(what: str, subject: bytes, place: bytes, days: float, begun_ns: int = begun_ns) -> None:
        note = notes.get((what, subject))
        last_ns = max(begun_ns, 0 if note is None else note.since_ns)
        late = bool(days) and now_ns - last_ns > days * NS_PER_DAY
        found.append(Evidence(what, place, note, late))

    for path, copies in (
        (settings.backup_path, settings.backup_copies),
        (settings.archive_path, settings.archive_copies),
    ):
        if os.path.isdir(path):
            # What is new waits for its turn: a round and a half.
            add(VERIFY, os.fsencode(path), os.fsencode(path), settings.verify_days * 1.5)
        for copy in copies:
            add(VERIFY, os.fsencode(copy), os.fsencode(copy), settings.verify_days * 1.5)
            add(COPY, os.fsencode(copy), os.fsencode(copy), _COPY_DAYS)
    vault = os.fsencode(settings.backup_path)
    if (PRUNE, vault) in notes:
        add(PRUNE, vault, vault, 0)
    for it in roots:
        add(DRILL, it.repository_id, it.path, settings.drill_days * 1.5, it.added_ns)
    return found


def evidence_fields(it: Evidence) -> dict[str, Any]:
    """Evidence as a part of a JSON document."""
    note = it.note
    return {
        "what": it.what,
        **path_fields(it.place),
        "late": it.late,
        "at": None if note is None else to_iso(note.ended_ns),
        "since": to_iso(note.since_ns) if note is not None and note.since_ns else None,
        "files": note.files if note else 0,
        "bytes": note.bytes if note else 0,
        "faults": note.faults if note else 0,
        "message": utf8_text(note.message) if note else "",
    }


def _judge(engine: Engine, repository: Repository) -> tuple[RepositoryStatus, Verdict | None]:
    verdict, _identity = engine.roots.look(repository)
    if not verdict.passed:
        return RepositoryStatus(verdict.outcome.value), verdict
    held_by_other = repository.status is RepositoryStatus.HELD and repository.held_guard != "root"
    if not held_by_other:
        return RepositoryStatus.ACTIVE, None
    registry, root_id = engine.registry, repository.repository_id
    again = guards.shrink(registry.missing_count(root_id), registry.live_count(root_id))
    # Its evidence is that of the pass; what a person can do about it stands with the guard.
    return RepositoryStatus.HELD, Verdict(
        repository.held_guard, guards.Outcome.HELD, repository.held_reason, again.remedy
    )


def registry_place(engine: Engine) -> tuple[str, int]:
    """Where the registry lies, and its bytes with its write-ahead log."""
    size = 0
    for suffix in ("", "-wal"):
        try:
            size += os.stat(engine.registry.path + suffix).st_size
        except FileNotFoundError:
            pass
    return engine.registry.path, size


@dataclass(frozen=True, slots=True)
class LoopsStanding:
    """How the loops of `run` fare: whether a process runs them on any root, and the last time of
    each, in the order in which they are due next."""

    running: bool
    loops: tuple[LoopNote, ...]


def loops_standing(engine: Engine) -> LoopsStanding:
    """Changes nothing."""
    roots = engine.roots.all()
    return LoopsStanding(
        any(engine.locks.taken("run", it.repository_id) for it in roots),
        tuple(sorted(engine.registry.loops(), key=lambda it: it.due_ns)),
    )


def _loop_fields(loop: LoopNote, running: bool) -> dict[str, Any]:
    return {
        "name": loop.name,
        "started": to_iso(loop.started_ns),
        "duration_ms": (loop.ended_ns - loop.started_ns) // 1_000_000,
        "status": loop.status,
        "message": utf8_text(loop.message),
        "due": to_iso(loop.due_ns) if running else None,
    }


def standing_fields(standing: Standing) -> dict[str, Any]:
    """A standing as a part of a JSON document."""
    verdict = standing.verdict
    return {
        **repository_fields(standing.repository),
        "status": standing.status.value,
        "guard": None
        if verdict is None
        else {
            "guard": verdict.guard,
            "reason": utf8_text(verdict.reason),
            "remedy": utf8_text(verdict.remedy),
        },
        "directories": standing.totals.directories,
        "files": standing.totals.files,
        "bytes": standing.totals.bytes,
        "last_run": None if standing.last_run is None else run_fields(standing.last_run),
        "to_hash": {"files": standing.due_files, "bytes": standing.due_bytes},
        "missing_files": standing.missing,
        "suspect_files": standing.suspect,
        "unreadable_files": standing.unreadable,
        "conflicts": standing.conflicts,
        "scrub": {
            "begun": to_iso(standing.scrub.begun_ns) if standing.scrub.begun_ns else None,
            "files": standing.scrub.files,
            "bytes": standing.scrub.bytes,
            "last_round": to_iso(standing.scrub.ended_ns) if standing.scrub.ended_ns else None,
        },
        "unreadable_folders": len(standing.unread),
        "not_crossed": [path_fields(below(standing.repository.path, it)) for it in standing.mounts],
        "ignored_entries": standing.totals.ignored,
        "special_files": standing.totals.special,
        "to_back_up": {"files": standing.unkept_files, "bytes": standing.unkept_bytes},
        "last_backup": None
        if standing.last_backup is None
        else to_iso(standing.last_backup.ended_ns or standing.last_backup.started_ns),
        "watching": None if standing.health is None else health_fields(standing.health),
        "trash": None if standing.trash is None else standing.trash._asdict(),
    }


def status_fields(engine: Engine, found: list[Standing]) -> dict[str, Any]:
    """The whole status as a JSON document."""
    place, size = registry_place(engine)
    loops = loops_standing(engine)
    return {
        "registry": {**path_fields(os.fsencode(place)), "bytes": size},
        "vaults": [
            {"kind": it.kind, **path_fields(os.fsencode(it.path)), "there": it.there}
            for it in vault_places(engine)
        ],
        "checks": [evidence_fields(it) for it in evidence(engine)],
        "running": loops.running,
        "loops": [_loop_fields(loop, loops.running) for loop in loops.loops],
        "roots": [standing_fields(standing) for standing in found],
    }
