"""Holds, confirmations and the changing of policies on SQLite."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from lifecycle_sync.model.event import (
    AssignmentEvent,
    ConfirmationEvent,
    Event,
    HoldEvent,
    PolicyEvent,
)
from lifecycle_sync.model.hold import Confirmation, Hold, normal
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.refusals import (
    check_hold,
    check_policy,
    check_removal,
    id_taken,
    no_such_file,
    no_such_hold,
    no_such_policy,
)
from lifecycle_sync.registry.sqlite_base import ACTS, FILES, Seqs, SqliteBase


class SqliteHolds(SqliteBase):
    """`HoldStore` and `PolicyStore`."""

    # -- holds -----------------------------------------------------------------------------

    def add_hold(self, hold: Hold) -> None:
        check_hold(hold)
        with self._db.write(durable=True) as connection:
            if hold.file_id is not None:
                known = connection.execute(FILES["row_of_id"], (hold.file_id,)).fetchone()
                if known is None:
                    raise no_such_file(hold.file_id)
            try:
                connection.execute(ACTS["insert_hold"], hold_values(hold))
            except apsw.ConstraintError as error:
                raise id_taken(hold.hold_id) from error

    def release_hold(self, hold_id: bytes, now_ns: int) -> None:
        with self._db.write(durable=True) as connection:
            connection.execute(ACTS["release_hold"], (hold_id, now_ns))
            if not connection.changes():
                raise no_such_hold(hold_id)

    def holds(self, file_id: bytes | None = None, now_ns: int | None = None) -> list[Hold]:
        with self._db.read() as connection, connection:
            if file_id is None:
                rows = connection.execute(ACTS["holds"]).fetchall()
            else:
                rows = connection.execute(ACTS["holds_on"], (file_id,)).fetchall()
        holds = [Hold(*row) for row in rows]
        return [hold for hold in holds if now_ns is None or hold.is_active(now_ns)]

    # -- confirmations ---------------------------------------------------------------------

    def add_confirmation(self, confirmation: Confirmation) -> None:
        with self._db.write(durable=True) as connection:
            connection.execute(ACTS["insert_confirmation"], confirmation)

    def confirmations(self, repository_id: bytes) -> list[Confirmation]:
        with self._db.read() as connection:
            rows = connection.execute(ACTS["confirmations"], (repository_id,)).fetchall()
        return [Confirmation(*row) for row in rows]

    # -- policies --------------------------------------------------------------------------

    def put_policy(self, policy: LifecyclePolicy, now_ns: int) -> None:
        check_policy(policy)
        with self._db.write(durable=True) as connection:
            self._put_policy(connection, policy, now_ns)

    def remove_policy(self, name: str, now_ns: int) -> None:
        check_removal(name)
        with self._db.write(durable=True) as connection:
            if not self._remove_policy(connection, name, now_ns):
                raise no_such_policy(name)

    def assign_policy(self, file_id: bytes, policy_name: str | None, now_ns: int) -> None:
        with self._db.write(durable=True) as connection:
            if connection.execute(FILES["row_of_id"], (file_id,)).fetchone() is None:
                raise no_such_file(file_id)
            if policy_name is not None:
                known = connection.execute(
                    "SELECT 1 FROM policies WHERE name = ?", (policy_name,)
                ).get
                if known is None:
                    raise no_such_policy(policy_name)
            connection.execute(
                ACTS["assign_by_order"],
                (file_id, policy_name or "", int(policy_name is not None), now_ns),
            )
            self._govern(connection, [file_id], now_ns)

    def statements(self) -> list[Event]:
        with self._db.read() as connection, connection:
            policies = {
                policy.name: policy
                for policy in map(codes.policy, connection.execute(FILES["policies"]))
            }
            changes = connection.execute(ACTS["policy_changes"]).fetchall()
            assigned = connection.execute(ACTS["assignments"]).fetchall()
            holds = connection.execute(ACTS["holds"]).fetchall()
            confirmed = connection.execute(ACTS["all_confirmations"]).fetchall()
        events: list[Event] = []
        for name, removed, at_ns in changes:
            policy = policies.get(name)
            if removed or policy is not None:
                events.append(PolicyEvent(policy or LifecyclePolicy(name), bool(removed), at_ns))
        for file_id, name, explicit, at_ns, repository_id, directory, file_name in assigned:
            path = directory + b"/" + file_name if directory else file_name
            events.append(
                AssignmentEvent(file_id, repository_id, path, name, bool(explicit), at_ns)
            )
        events += (HoldEvent(*row) for row in holds)
        events += (ConfirmationEvent(*row) for row in confirmed)
        return events

    def _put_policy(self, connection: Connection, policy: LifecyclePolicy, now_ns: int) -> None:
        connection.execute(FILES["update_policy"], codes.policy_values(policy))
        if not connection.changes():
            connection.execute(FILES["insert_policy"], codes.policy_values(policy))
            waiting = connection.execute(ACTS["assigned_to"], (policy.name,)).fetchall()
            self._govern(connection, (file_id for (file_id,) in waiting), self._clock.now_ns())
        connection.execute(ACTS["policy_change"], (policy.name, 0, now_ns))
        self._decide_anew(connection)

    def _remove_policy(self, connection: Connection, name: str, now_ns: int) -> bool:
        """Whether it was there. The files it was chosen for go by their type."""
        number = connection.execute("SELECT number FROM policies WHERE name = ?", (name,)).get
        connection.execute(ACTS["policy_change"], (name, 1, now_ns))
        if number is None:
            return False
        chosen = connection.execute(ACTS["chosen_for"], (number,)).fetchall()
        # Those that a match gave it go by their type until they are decided on anew.
        for file_type, other in self._policy_by_type(connection).items():
            connection.execute(ACTS["ungovern"], (number, file_type, other))
        connection.execute("DELETE FROM policies WHERE number = ?", (number,))
        self._govern(connection, (file_id for (file_id,) in chosen), self._clock.now_ns())
        self._decide_anew(connection)
        return True

    @staticmethod
    def _decide_anew(connection: Connection) -> None:
        """Other rules: of no record it is known any more what is due."""
        connection.execute(FILES["decide_anew"])

    def _govern(self, connection: Connection, file_ids: Iterable[bytes], now_ns: int) -> None:
        """Give records the policy that was chosen for them, else that of their type."""
        seqs = Seqs(connection, now_ns)
        by_type = self._policy_by_type(connection)
        for file_id in file_ids:
            row = connection.execute(ACTS["governing"], (file_id,)).fetchone()
            if row is None:
                continue
            row_id, file_type, policy, flags, old_seq, chosen = row
            governed = (
                (by_type[file_type], flags & ~codes.POLICY_SET)
                if chosen is None
                else (chosen, flags | codes.POLICY_SET)
            )
            if governed != (policy, flags):
                seq = seqs.take()
                connection.execute(ACTS["govern"], (row_id, *governed, seq))
                # Its policy says nothing about where and what it is.
                connection.execute(ACTS["still_replayed"], (row_id, old_seq, seq))
        seqs.close()


def hold_values(hold: Hold) -> tuple[object, ...]:
    """The order of `insert_hold` in sql/acts.sql."""
    return (
        hold.hold_id,
        hold.file_id,
        None if hold.query is None else normal(hold.query),
        hold.reason,
        hold.owner,
        hold.created_ns,
        hold.ends_ns,
        hold.released_ns,
    )
