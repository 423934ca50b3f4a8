"""The holds and policies of a `MemoryRegistry`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from lifecycle_sync.model.event import (
    AssignmentEvent,
    ConfirmationEvent,
    Event,
    HoldEvent,
    PolicyEvent,
)
from lifecycle_sync.model.hold import Confirmation, Hold, normal
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.registry.refusals import (
    check_hold,
    check_policy,
    check_removal,
    id_taken,
    no_such_file,
    no_such_hold,
    no_such_policy,
)
from lifecycle_sync.testing.memory_tables import FileRow, MemoryBase, Tables


class MemoryHolds(MemoryBase):
    """`HoldStore` and `PolicyStore`."""

    # -- holds -----------------------------------------------------------------------------

    def add_hold(self, hold: Hold) -> None:
        check_hold(hold)
        with self._writing() as tables:
            if hold.file_id is not None and by_id(tables, hold.file_id) is None:
                raise no_such_file(hold.file_id)
            if hold.hold_id in tables.holds:
                raise id_taken(hold.hold_id)
            tables.holds[hold.hold_id] = kept(hold)

    def release_hold(self, hold_id: bytes, now_ns: int) -> None:
        with self._writing() as tables:
            hold = tables.holds.get(hold_id)
            if hold is None:
                raise no_such_hold(hold_id)
            if hold.released_ns is None:
                tables.holds[hold_id] = replace(hold, released_ns=now_ns)

    def holds(self, file_id: bytes | None = None, now_ns: int | None = None) -> list[Hold]:
        with self._reading() as tables:
            file = None if file_id is None else by_id(tables, file_id)
            holds = [
                hold
                for hold in tables.holds.values()
                if (now_ns is None or hold.is_active(now_ns))
                and (
                    file_id is None
                    or hold.file_id == file_id
                    or (file is not None and self._names(tables, hold, file))
                )
            ]
        return sorted(holds, key=lambda hold: (hold.created_ns, hold.hold_id))

    def held(self, file_ids: Collection[bytes], now_ns: int) -> dict[bytes, str]:
        with self._reading() as tables:
            reasons = {
                file_id: self._held(tables, file, now_ns)
                for file_id in file_ids
                if (file := by_id(tables, file_id)) is not None
            }
        return {file_id: reason for file_id, reason in reasons.items() if reason is not None}

    def _held(self, tables: Tables, file: FileRow, now_ns: int) -> str | None:
        for hold in tables.holds.values():
            if hold.is_active(now_ns) and self._names(tables, hold, file):
                return hold.reason
        return None

    def _names(self, tables: Tables, hold: Hold, file: FileRow) -> bool:
        """Whether a hold is on a file."""
        if hold.query is None:
            return hold.file_id == file.file_id
        root = tables.repositories[file.repository_id].path
        path = (root + b"/" + self._path(tables, file)).decode("utf-8", "backslashreplace")
        return hold.names(path)

    def add_confirmation(self, confirmation: Confirmation) -> None:
        with self._writing() as tables:
            tables.confirmations[confirmation] = None

    def confirmations(self, repository_id: bytes) -> list[Confirmation]:
        with self._reading() as tables:
            found = [c for c in tables.confirmations if c.repository_id == repository_id]
        return sorted(found, key=lambda confirmation: (-confirmation.at_ns, confirmation.guard))

    # -- policies --------------------------------------------------------------------------

    def put_policy(self, policy: LifecyclePolicy, now_ns: int) -> None:
        check_policy(policy)
        with self._writing() as tables:
            self._put_policy(tables, policy, now_ns)

    def remove_policy(self, name: str, now_ns: int) -> None:
        check_removal(name)
        with self._writing() as tables:
            if name not in tables.policies:
                raise no_such_policy(name)
            self._remove_policy(tables, name, now_ns)

    def assign_policy(self, file_id: bytes, policy_name: str | None, now_ns: int) -> None:
        with self._writing() as tables:
            if by_id(tables, file_id) is None:
                raise no_such_file(file_id)
            if policy_name is not None and policy_name not in tables.policies:
                raise no_such_policy(policy_name)
            chosen = policy_name is not None
            tables.assignments[file_id] = (now_ns, chosen, policy_name or "")
            self._govern(tables)

    def statements(self) -> list[Event]:
        with self._reading() as tables:
            events: list[Event] = []
            changes = sorted(
                (at_ns, name, removed) for name, (at_ns, removed) in tables.policy_changes.items()
            )
            for at_ns, name, removed in changes:
                policy = tables.policies.get(name)
                if removed or policy is not None:
                    events.append(PolicyEvent(policy or LifecyclePolicy(name), removed, at_ns))
            assigned = sorted(
                (at_ns, file_id, explicit, name)
                for file_id, (at_ns, explicit, name) in tables.assignments.items()
            )
            for at_ns, file_id, explicit, name in assigned:
                file = by_id(tables, file_id)
                if file is not None:
                    folder = tables.directories[file.directory_id].path
                    path = folder + b"/" + file.name if folder else file.name
                    events.append(
                        AssignmentEvent(file_id, file.repository_id, path, name, explicit, at_ns)
                    )
            ordered = sorted(tables.holds.values(), key=lambda it: (it.created_ns, it.hold_id))
            events += (
                HoldEvent(*(getattr(hold, name) for name in Hold.__slots__)) for hold in ordered
            )
            events += (
                ConfirmationEvent(*confirmed)
                for confirmed in sorted(tables.confirmations, key=lambda it: it.at_ns)
            )
            return events

    def _put_policy(self, tables: Tables, policy: LifecyclePolicy, at_ns: int) -> None:
        tables.policies[policy.name] = policy
        tables.policy_changes[policy.name] = (at_ns, False)
        tables.decided_seq = -(2**63)
        self._govern(tables)

    def _remove_policy(self, tables: Tables, name: str, at_ns: int) -> None:
        tables.policies.pop(name, None)
        tables.policy_changes[name] = (at_ns, True)
        tables.decided_seq = -(2**63)
        self._govern(tables)

    def _govern(self, tables: Tables) -> None:
        """Give every record the policy that was chosen for it, else that of its type."""
        for file in list(tables.files.values()):
            _at, explicit, name = tables.assignments.get(file.file_id, (0, False, ""))
            explicit = explicit and name in tables.policies
            governed = self._change(
                tables,
                file.row_id,
                self._clock.now_ns(),
                policy_name=name if explicit else self._policy_of(file.name),
                policy_explicit=explicit,
            )
            seq, at_ns, unseen = tables.replayed.get(file.row_id, (-1, 0, False))
            if seq == file.seq:
                # Its policy says nothing about where and what it is.
                tables.replayed[file.row_id] = (governed.seq, at_ns, unseen)


def by_id(tables: Tables, file_id: bytes) -> FileRow | None:
    """The record of an id."""
    return next((file for file in tables.files.values() if file.file_id == file_id), None)


def kept(hold: Hold) -> Hold:
    """A hold as it is kept."""
    return hold if hold.query is None else replace(hold, query=normal(hold.query))
