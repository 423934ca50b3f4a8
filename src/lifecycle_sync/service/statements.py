"""What people say that must outlive the database: policies, choices, holds, confirmations.

Each is in the registry first, and in the backup vault before the call returns. Where there is no
vault yet, the one that is made later is told of all of them first.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import replace

from lifecycle_sync.clock import Clock
from lifecycle_sync.errors import NotFoundError, UsageError, VaultMissingError
from lifecycle_sync.model.event import (
    AssignmentEvent,
    ConfirmationEvent,
    Event,
    HoldEvent,
    PolicyEvent,
    RepositoryEvent,
)
from lifecycle_sync.model.hold import Confirmation, Hold, Switch, normal
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.policy import LifecyclePolicy, faults_of
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.report.records import utf8_text
from lifecycle_sync.service.vaults import Vaults
from lifecycle_sync.vault.vault import VaultKind

PAUSE = "pause"


def who() -> str:
    """Who gives an order, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class Statements:
    """The statements of one registry. Thread-safe."""

    def __init__(self, registry: Registry, vaults: Vaults, clock: Clock) -> None:
        self._registry = registry
        self._vaults = vaults
        self._clock = clock
        self._ids = IdSource(clock.now_ns)

    # -- policies --------------------------------------------------------------------------

    def policies(self) -> list[LifecyclePolicy]:
        """In declared order."""
        return self._registry.policies()

    def policy(self, name: str) -> LifecyclePolicy:
        """Raises `NotFoundError`."""
        for policy in self._registry.policies():
            if policy.name == name:
                return policy
        raise NotFoundError(
            "no such policy",
            operation="find policy",
            subject=name,
            remedy="`lifecycle policy list` shows them",
        )

    def new_policy(self, name: str) -> LifecyclePolicy:
        """One that is not there yet, with the rules of `default`."""
        return replace(self.policy("default"), name=name, file_types=[], match=None)

    def check_policy(self, policy: LifecyclePolicy, *, allow_empty: bool = False) -> None:
        """Raises `UsageError` with every fault; a policy that keeps no version is one unless
        `allow_empty`, and so is one that names a copy which the settings do not."""
        faults = faults_of(policy, allow_empty=allow_empty)
        known = self._vaults.copies()
        faults += [
            f"copies: {place} is none of the copies that the settings name"
            f" ({', '.join(known) or 'there are none'}): add it to backup_copies or archive_copies,"
            " or name one of these"
            for place in policy.copies or ()
            if place not in known
        ]
        if faults:
            raise UsageError(
                "; ".join(faults),
                operation="put policy",
                subject=policy.name,
                remedy="see docs/reference/policies.md",
            )

    def put_policy(self, policy: LifecyclePolicy, *, allow_empty: bool = False) -> None:
        """Add a policy, or give the one of that name new rules. Raises `UsageError`; see
        `check_policy`."""
        self.check_policy(policy, allow_empty=allow_empty)
        now_ns = self._clock.now_ns()
        self._registry.put_policy(policy, now_ns)
        self._tell([PolicyEvent(policy, False, now_ns)])

    def remove_policy(self, name: str) -> None:
        """Its files go by their type. Raises `NotFoundError`, `UsageError` for a shipped one."""
        policy = self.policy(name)
        now_ns = self._clock.now_ns()
        self._registry.remove_policy(name, now_ns)
        self._tell([PolicyEvent(policy, True, now_ns)])

    def assign(self, file_id: bytes, policy_name: str | None) -> None:
        """Choose a policy for a file; None leaves the choice to the rules."""
        if policy_name is not None:
            self.policy(policy_name)
        now_ns = self._clock.now_ns()
        self._registry.assign_policy(file_id, policy_name, now_ns)
        record = self._registry.file(file_id)
        assert record is not None, "it was assigned"
        self._tell(
            [
                AssignmentEvent(
                    file_id,
                    record.repository_id,
                    record.path,
                    policy_name or "",
                    policy_name is not None,
                    now_ns,
                )
            ]
        )

    # -- holds -----------------------------------------------------------------------------

    def hold(
        self,
        *,
        file_id: bytes | None = None,
        query: str | None = None,
        reason: str = "",
        owner: str | None = None,
        ends_ns: int | None = None,
    ) -> Hold:
        """Hold a file, or all that an absolute path or pattern names. Raises `UsageError` for an
        end that has passed, `NotFoundError`."""
        now_ns = self._clock.now_ns()
        if ends_ns is not None and ends_ns <= now_ns:
            raise UsageError(
                "its end has passed",
                operation="hold",
                remedy="give a time that is yet to come, or none",
            )
        hold = Hold(
            self._ids.one(),
            file_id,
            None if query is None else normal(query),
            utf8_text(reason),
            utf8_text(owner or who()),
            now_ns,
            ends_ns,
        )
        self._registry.add_hold(hold)
        self._tell_hold(hold)
        return hold

    def release(self, hold: Hold) -> None:
        """Idempotent. Raises `NotFoundError`."""
        now_ns = self._clock.now_ns()
        self._registry.release_hold(hold.hold_id, now_ns)
        released = next(it for it in self._registry.holds() if it.hold_id == hold.hold_id)
        self._tell_hold(released)

    def _tell_hold(self, hold: Hold) -> None:
        self._tell([HoldEvent(*(getattr(hold, name) for name in Hold.__slots__))])

    # -- guards ----------------------------------------------------------------------------

    def confirm(self, repository_id: bytes, guard: str, evidence: str) -> None:
        """A person agrees to what a guard held, having been shown the evidence."""
        confirmed = Confirmation(repository_id, guard, evidence, self._clock.now_ns())
        self._registry.add_confirmation(confirmed)
        self._tell([ConfirmationEvent(*confirmed)])

    def pause(self, reason: str = "", owner: str | None = None) -> Switch:
        """Stop what takes files away, in every process, from the next batch on."""
        switch = Switch(PAUSE, utf8_text(reason), utf8_text(owner or who()), self._clock.now_ns())
        self._registry.set_switch(switch)
        return switch

    def resume(self) -> bool:
        """Whether there was a pause."""
        return self._registry.clear_switch(PAUSE)

    def paused(self) -> Switch | None:
        return self._registry.switch(PAUSE)

    def tell_root(self, repository: Repository) -> None:
        """A root's place or enforcement changed."""
        self._tell(
            [
                RepositoryEvent(
                    repository.repository_id,
                    repository.path,
                    repository.kind,
                    repository.enforce,
                    self._registry.registry_id,
                    self._clock.now_ns(),
                )
            ]
        )

    # -- the vault -------------------------------------------------------------------------

    def _tell(self, events: Sequence[Event]) -> None:
        try:
            vault = self._vaults.get(VaultKind.BACKUP, create=False)
        except VaultMissingError:
            if self._registry.store(VaultKind.BACKUP.value) is None:
                # The first backup makes one, and tells it all.
                return
            raise
        with vault.writer() as writer:
            name = writer.commit(list(events))
        self._registry.add_applied(vault.store_id, [name], self._clock.now_ns())
