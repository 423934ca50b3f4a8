"""What is so of roots when something is decided about their files: guards, counts, space."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.decide.planning import MASS, Root
from lifecycle_sync.model.operation import RunStatus
from lifecycle_sync.model.repository import Repository, RepositoryKind, RepositoryStatus
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.roots import Roots
from lifecycle_sync.service.space import Space

# Scans that are looked through for the last one that came to its end.
_RUNS = 10


class RootFacts:
    """Asked of one registry. Thread-safe."""

    def __init__(self, registry: Registry, roots: Roots, space: Space) -> None:
        self._registry = registry
        self._roots = roots
        self._space = space

    def of(
        self, repositories: Sequence[Repository] | None, now_ns: int, at_ns: int
    ) -> dict[bytes, Root]:
        """`of_one` of these, by id; of all there are for None."""
        chosen = self._registry.repositories() if repositories is None else repositories
        return {it.repository_id: self.of_one(it, now_ns, at_ns) for it in chosen}

    def of_one(self, repository: Repository, now_ns: int, at_ns: int) -> Root:
        """What is so now; what the *mass* guard counts of the day before, by the time that is asked
        about."""
        repository = self._registry.repository(repository.repository_id) or repository
        verdict, _identity = self._roots.look(repository)
        guard, waits = (verdict.guard, verdict.reason) if not verdict.passed else ("", "")
        if not guard and repository.status is RepositoryStatus.HELD:
            guard, waits = repository.held_guard, repository.held_reason
        loose = repository.kind is RepositoryKind.LOOSE
        return Root(
            repository.repository_id,
            repository.path,
            enforce=repository.enforce or loose,
            scanned=loose or repository.complete_generation > 0,
            guard=guard,
            waits=waits,
            files=self._files(repository.repository_id, now_ns),
            deleted=self._registry.deleted_since(repository.repository_id, at_ns - NS_PER_DAY),
            confirmed=self._confirmed(repository.repository_id, at_ns),
            atime=self._roots.keeps_atime(repository),
            space=self._space.shortage(repository),
        )

    def _files(self, repository_id: bytes, now_ns: int) -> int:
        """How many files are in a root now: the last scan counted what was deleted since."""
        counted = self._registry.directory_totals(repository_id).files
        since_ns = now_ns - NS_PER_DAY
        for run in self._registry.runs(repository_id, _RUNS, whole=True):
            if run.status is RunStatus.COMPLETED:
                since_ns = max(since_ns, run.started_ns)
                break
        return max(counted - self._registry.deleted_since(repository_id, since_ns), 0)

    def _confirmed(self, repository_id: bytes, at_ns: int) -> int:
        """How many deletions of one day a person has agreed to in the last one before a time."""
        counts = [
            int(json.loads(it.evidence).get("deletions", 0))
            for it in self._registry.confirmations(repository_id)
            if it.guard == MASS and at_ns - NS_PER_DAY <= it.at_ns <= at_ns
        ]
        return max(counts, default=0)
