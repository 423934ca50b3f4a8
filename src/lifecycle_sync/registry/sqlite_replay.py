"""Events of vaults written to SQLite: how a lost or rolled-back registry learns what it knew.

See `ReplayStore.apply_events` for what holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal

from lifecycle_sync.model.event import (
    Event,
    HoldEvent,
    PolicyEvent,
    PrunedEvent,
    RepositoryEvent,
)
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.refusals import SHIPPED_NAMES
from lifecycle_sync.registry.replay import (
    Replayed,
    Told,
    batches,
    fold,
    location_of,
    policy_key,
    repository_key,
)
from lifecycle_sync.registry.sqlite_base import ACTS
from lifecycle_sync.registry.sqlite_holds import SqliteHolds, hold_values
from lifecycle_sync.registry.sqlite_told_files import ToldFiles


class SqliteReplay(SqliteHolds):
    """`ReplayStore`."""

    def apply_events(
        self,
        events: Iterable[Event],
        now_ns: int,
        manifests: Sequence[tuple[bytes, str]] = (),
        *,
        kind: Literal["backup", "archive"] = "backup",
    ) -> Replayed:
        result = Replayed()
        waiting: list[Event] = []
        location = location_of(manifests)

        def write(batch: Sequence[Event], *, last: bool) -> None:
            with self._db.write(durable=last) as connection:
                told = fold(batch)
                self._tell_others(connection, told, result)
                files = ToldFiles(
                    connection,
                    now_ns,
                    self._policy_by_type(connection),
                    result,
                    location=location,
                    archive=kind == "archive",
                )
                waiting.extend(files.write(told.files))
                result.others += self._tell_pruned(connection, told.pruned)
                self._govern(connection, files.to_govern, now_ns)
                if last:
                    connection.executemany(
                        ACTS["apply_manifest"],
                        ((store_id, name, now_ns) for store_id, name in manifests),
                    )

        for batch in batches(events):
            write(batch, last=False)
        # Their repository may have been told of after them.
        late, waiting[:] = list(waiting), []
        for batch in batches(late):
            write(batch, last=False)
        write((), last=True)
        if waiting:
            result.passed_over += len(waiting)
            result.reasons.add("no event tells of their repository")
        return result

    def _tell_others(self, connection: Connection, told: Told, result: Replayed) -> None:
        for root in told.repositories:
            self._tell_repository(connection, root, result)
        for rules in told.policies.values():
            result.others += self._tell_policy(connection, rules, result)
        for hold in told.holds:
            result.others += self._tell_hold(connection, hold)
        for confirmed in told.confirmations:
            connection.execute(
                ACTS["insert_confirmation"],
                (confirmed.repository_id, confirmed.guard, confirmed.evidence, confirmed.at_ns),
            )
            result.others += connection.changes()

    @staticmethod
    def _tell_repository(connection: Connection, root: RepositoryEvent, result: Replayed) -> None:
        known = connection.execute(ACTS["told_repository"], (root.repository_id,)).fetchone()
        text = codes.text_of(root.path)
        if known is None:
            connection.execute(
                ACTS["insert_told_repository"],
                (
                    root.repository_id,
                    root.path,
                    text,
                    root.kind.value,
                    int(root.enforce),
                    root.at_ns,
                ),
            )
            if not connection.changes():
                result.reasons.add("another repository has the path of theirs")
                result.passed_over += 1
                return
        else:
            number, _path, enforce, _generation, told_ns = known
            connection.execute(ACTS["tell_added"], (number, root.at_ns))
            if repository_key(root) <= (told_ns, not enforce):
                return
            connection.execute(
                ACTS["tell_repository"],
                (number, int(root.enforce), root.at_ns, root.path, text),
            )
        result.others += 1

    def _tell_policy(self, connection: Connection, rules: PolicyEvent, result: Replayed) -> int:
        name = rules.policy.name
        known = connection.execute(ACTS["told_of_policy"], (name,)).fetchone()
        if known is not None and policy_key(rules) <= (known[0], bool(known[1])):
            return 0
        if not rules.removed:
            self._put_policy(connection, rules.policy, rules.at_ns)
        elif name in SHIPPED_NAMES:
            result.passed_over += 1
            result.reasons.add("a shipped policy is not removed")
            return 0
        else:
            self._remove_policy(connection, name, rules.at_ns)
        return 1

    @staticmethod
    def _tell_pruned(connection: Connection, gone: Sequence[PrunedEvent]) -> int:
        if not gone:
            return 0
        told = [(version_id.hex(), it.at_ns) for it in gone for version_id in it.version_ids]
        found = connection.execute(ACTS["told_pruned"], (json.dumps(told),)).fetchall()
        connection.executemany(ACTS["drop_version"], found)
        return len(found)

    @staticmethod
    def _tell_hold(connection: Connection, hold: HoldEvent) -> int:
        noun = Hold(
            hold.hold_id,
            hold.file_id,
            hold.query,
            hold.reason,
            hold.owner,
            hold.created_ns,
            hold.ends_ns,
            hold.released_ns,
        )
        connection.execute(ACTS["tell_hold"], hold_values(noun))
        return int(connection.changes())
