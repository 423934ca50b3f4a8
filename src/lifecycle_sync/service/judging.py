"""What the registry may believe of a look at a root: moved, gone, or held for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.decide import guards
from lifecycle_sync.decide.guards import Outcome, Verdict
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.conflict import Conflict, Resolved, Strategy
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.repository import Repository, RepositoryStatus
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.presence import Presence

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Judged:
    """`verdict` is that of *shrink*; `missing` are records that are neither there nor gone."""

    repository: Repository
    verdict: Verdict
    moved: int = 0
    removed: int = 0
    missing: int = 0
    # Records that continue at the place of a rename, though their content changed as well.
    renamed: Mapping[int, bytes] = field(default_factory=dict)
    # Directories in which something was there after all, and may be gone again.
    present_folders: Set[bytes] = frozenset()
    # Inodes that lost a name and had others.
    lost_links: Set[int] = frozenset()


def judge(
    registry: Registry,
    repository: Repository,
    run: Run,
    *,
    fs: FileOps,
    cancel: CancelToken,
    begun_ns: int,
    known_before: Callable[[int], int],
    lost_lately: int = 0,
    renames: Mapping[bytes, bytes] | None = None,
    ignore_hash: bytes | None = None,
    strategy: Strategy = Strategy.DISK,
) -> Judged:
    """Judge what was not found by a look that began at `begun_ns` (by the clock of the files).

    `known_before` says, given how many moved, how many files were known before; `lost_lately` were
    lost in other looks that count with this one. `renames` are those that the kernel told of.
    `strategy` is that for conflicts.
    """
    presence = Presence(registry, repository, fs)
    moved, renamed = presence.renamed(run, renames) if renames else (0, {})
    moved += presence.recognise(run, cancel)
    verdict = Verdict("shrink", Outcome.PASS)
    removed = 0
    missing = registry.missing_count(repository.repository_id)
    # Who accepts what is missing has seen what was lost before.
    if missing > repository.accepted_losses and missing + lost_lately >= guards.SHRINK_LEAST:
        known = known_before(moved) + lost_lately
        verdict = guards.shrink(missing + lost_lately, known)
    if verdict.passed:
        presence.retire(run, cancel, begun_ns=begun_ns)
        # Those that nobody follows are not counted, and some wait for the next look.
        left = registry.missing_count(repository.repository_id)
        removed, missing = missing - left, left
    if strategy is Strategy.DISK:
        _let_the_disk_count(registry, repository, run.started_ns)
    repository = _remember(registry, repository, verdict, ignore_hash)
    return Judged(
        repository,
        verdict,
        moved,
        removed,
        missing,
        renamed,
        presence.present_folders,
        presence.lost_links,
    )


def _let_the_disk_count(registry: Registry, repository: Repository, now_ns: int) -> None:
    """Conflicts end with what the look has recorded; the journal says what else there is."""
    while page := registry.conflicts(repository.repository_id, 0, _PAGE):
        closed = [
            Resolved(it.row_id, conflict_details(it, Strategy.DISK, "disk", "the disk counts"))
            for it in page
        ]
        registry.close_conflicts(closed, now_ns)


def conflict_details(conflict: Conflict, strategy: Strategy, kept: str, why: str) -> str:
    """What the journal has of a conflict, as JSON text."""
    details = {
        "situation": conflict.situation.value,
        "strategy": strategy.value,
        "kept": kept,
        "reason": why,
    }
    if conflict.other_id is not None:
        details["other"] = to_text(conflict.other_id)
    return json.dumps(details)


def _remember(
    registry: Registry, repository: Repository, verdict: Verdict, ignore_hash: bytes | None
) -> Repository:
    held = verdict.outcome is Outcome.HELD
    # An order may have been given meanwhile: only what was found here is written.
    repository = registry.repository(repository.repository_id) or repository
    updated = repository.evolve(
        status=RepositoryStatus.HELD if held else RepositoryStatus.ACTIVE,
        held_guard=verdict.guard if held else "",
        held_reason=verdict.reason,
        accepted_losses=repository.accepted_losses if held else 0,
        ignore_hash=repository.ignore_hash if ignore_hash is None else ignore_hash,
    )
    if updated != repository:
        registry.update_repository(updated)
    return updated
