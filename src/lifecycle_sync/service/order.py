"""One order on one root: its batches, each under the root's act lock and with its guard passed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from lifecycle_sync.act import recovery
from lifecycle_sync.act.ahead import Ahead
from lifecycle_sync.act.breaker import Breaker
from lifecycle_sync.act.directories import Directories
from lifecycle_sync.act.site import Site, Told, tell
from lifecycle_sync.act.taking import MovedLinks
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, to_iso
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.errors import GuardError, LifecycleError, NotFoundError, OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.event import Event
from lifecycle_sync.model.hold import Switch
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.operation import ActRun
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.listings import margin_ns_of
from lifecycle_sync.service.locks import Locks
from lifecycle_sync.service.proof import Proof
from lifecycle_sync.service.roots import Roots
from lifecycle_sync.service.vaults import Vaults
from lifecycle_sync.storage.local import storage_error

# How long a batch waits for another process's batch to end.
_WAIT_SECONDS = 30.0
# Changes of state that wait in memory to be told to the vault together.
_OWED_MAX = 20_000


def pause_words(paused: Switch) -> str:
    """What there is to say of a pause."""
    reason = f": {paused.reason}" if paused.reason else ""
    return f"{paused.owner} paused it on {to_iso(paused.at_ns)[:16].replace('T', ' ')}{reason}"


class Workshop:
    """What all orders of one registry work with."""

    def __init__(
        self,
        registry: Registry,
        roots: Roots,
        vaults: Vaults,
        locks: Locks,
        settings: Settings,
        *,
        fs: FileOps,
        clock: Clock,
        proof: Proof,
    ) -> None:
        self.proof = proof
        self.registry = registry
        self.roots = roots
        self.vaults = vaults
        self.locks = locks
        self.settings = settings
        self.fs = fs
        self.clock = clock

    def trash_of(self, repository: Repository, links: MovedLinks | None = None) -> Trash:
        """The trash of a root; the caller closes it. Raises `OfflineError`."""
        return Trash(
            self.fs,
            self.clock,
            repository.path,
            repository_id=repository.repository_id,
            registry_id=self.registry.registry_id,
            stable_inodes=repository.identity.stable_inodes,
            links=links,
        )

    def check_pause(self, repository: Repository, verb: str) -> None:
        """Raises `GuardError` while a person has paused what takes files away."""
        paused = self.registry.switch("pause") if verb in _PAUSED else None
        if paused is not None:
            raise GuardError(
                pause_words(paused),
                guard="pause",
                operation=verb,
                subject=repository.path,
                remedy="`lifecycle resume` lets it go on",
            )

    def check_root(self, repository: Repository, operation: str) -> Repository:
        """The root as it is known now, its guard passed. Raises `OfflineError`, `GuardError`, and
        `NotFoundError` for one that was removed."""
        known = self.registry.repository(repository.repository_id)
        if known is None:
            raise NotFoundError(
                "is not under management any more", operation=operation, subject=repository.path
            )
        verdict, _identity = self.roots.look(known)
        if verdict.outcome is Outcome.OFFLINE:
            raise OfflineError(
                verdict.reason, operation=operation, subject=known.path, remedy=verdict.remedy
            )
        if verdict.outcome is Outcome.HELD:
            raise GuardError(
                verdict.reason,
                guard=verdict.guard,
                operation=operation,
                subject=known.path,
                remedy=verdict.remedy,
            )
        return known


# What takes files away, or makes that final.
_PAUSED = frozenset({"archive", "delete", "expire", "purge", "prune"})


class Recovered(Protocol):
    """Counts what recovery judged."""

    recovered: int


class Order:
    """One order on one root, in batches. `report` is told what was recovered on the way."""

    def __init__(
        self,
        workshop: Workshop,
        repository: Repository,
        act: ActRun,
        *,
        report: Recovered,
        told: Told,
        cancel: CancelToken,
        breaker: Breaker | None = None,
    ) -> None:
        self._breaker = breaker or Breaker()
        self._workshop = workshop
        self._repository = repository
        self._act = act
        self._report = report
        self._told = told
        self._cancel = cancel
        self._ids = IdSource(workshop.clock.now_ns)
        self._owed: list[Event] = []
        self._ahead: Ahead | None = None
        self._known: dict[bytes, Directories] = {}
        self._links = MovedLinks()

    def read_ahead(self) -> None:
        """From now on files are read in another process while this one keeps them: for orders of
        many files. Not where file operations are wrapped, which a process of its own would not see,
        nor where inodes are not to be relied on, nor where one worker is all that there may be."""
        plain = type(self._workshop.fs) is FileOps
        if self._workshop.settings.worker_threads == 1:
            return
        if self._ahead is None and plain and self._repository.identity.stable_inodes:
            self._ahead = Ahead(
                self._repository.path,
                self._repository.repository_id,
                algorithm=self._workshop.settings.hash_algorithm,
                margin_ns=margin_ns_of(self._repository),
            )
            self._ahead.start()

    def close(self) -> None:
        """End what works for the order. Calling it again does nothing."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def check(self) -> None:
        """Between two batches: tell the vault what has gathered. Raises `CancelledError`, once it
        was told all."""
        if self._cancel.cancelled or len(self._owed) >= _OWED_MAX:
            self.flush()
        self._cancel.check()

    def flush(self) -> None:
        """Tell the vault what it is owed, durably: before an order is called done."""
        if not self._owed:
            return
        with self.batch() as site:
            for store_id, manifest in tell(site):
                site.registry.add_applied(store_id, [manifest], site.now_ns())

    @contextmanager
    def batch(self) -> Iterator[Site]:
        """The root, locked, its guard passed, the registry up to date, and nothing left pending.

        An `OSError` of what is done in it comes out as one of ours; what it left pending is judged
        by the next batch.
        """
        try:
            with self._locked() as site:
                yield site
        except OSError as error:
            where = os.fsdecode(self._repository.path)
            raise storage_error(error, self._act.verb, where) from error

    @contextmanager
    def _locked(self) -> Iterator[Site]:
        workshop, act = self._workshop, self._act
        with workshop.locks.take_turn(
            "act",
            self._repository.repository_id,
            self._repository.path,
            wait_seconds=_WAIT_SECONDS,
            cancel=self._cancel,
        ):
            repository = workshop.check_root(self._repository, act.verb)
            workshop.check_pause(repository, act.verb)
            workshop.vaults.take_up()
            with workshop.trash_of(repository, self._links) as trash:
                site = Site(
                    repository=repository,
                    act=act,
                    registry=workshop.registry,
                    trash=trash,
                    fs=workshop.fs,
                    clock=workshop.clock,
                    ids=self._ids,
                    vaults=workshop.vaults,
                    algorithm=workshop.settings.hash_algorithm,
                    margin_ns=margin_ns_of(repository),
                    known=self._known,
                    owed=self._owed,
                    ahead=self._ahead,
                    cancel=self._cancel,
                    told=self._told,
                    breaker=self._breaker,
                )
                self._report.recovered += len(recovery.recover(site))
                try:
                    yield site
                except (LifecycleError, OSError):
                    # What it left pending is judged at once where that can be, else by the next.
                    with suppress(LifecycleError, OSError):
                        recovery.recover(site)
                    raise
