"""How a `MemoryRegistry` learns from the events of vaults."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

from lifecycle_sync.model.act import DONE_BY_ACT, VersionRow
from lifecycle_sync.model.event import Event, RepositoryEvent, VersionEvent
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.hold import Confirmation, Hold
from lifecycle_sync.model.repository import Repository, RepositoryStatus
from lifecycle_sync.registry.codes import STATE_CODE
from lifecycle_sync.registry.refusals import SHIPPED_NAMES
from lifecycle_sync.registry.replay import (
    Replayed,
    Told,
    ToldFile,
    assignment_key,
    becomes,
    copy_of,
    fold,
    location_of,
    operations_of,
    place_key,
    policy_key,
    repository_key,
    state_key,
    version_key,
)
from lifecycle_sync.testing.memory_acts import MemoryActs
from lifecycle_sync.testing.memory_holds import by_id, kept
from lifecycle_sync.testing.memory_tables import FileRow, Tables

_DELETED = LifecycleState.DELETED


class MemoryReplay(MemoryActs):
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
        with self._writing() as tables:
            told = fold(events)
            for root in told.repositories:
                self._tell_repository(tables, root, result)
            self._tell_others(tables, told, result)
            location = location_of(manifests)
            for file_id, story in told.files.items():
                assert story.place is not None
                if story.place.repository_id not in tables.repositories:
                    result.passed_over += len(story.events)
                    result.reasons.add("no event tells of their repository")
                    continue
                self._tell_file(
                    tables,
                    file_id,
                    story,
                    now_ns=now_ns,
                    location=location,
                    copy_field=f"{kind}_path",
                    result=result,
                )
            for gone in told.pruned:
                ids = set(gone.version_ids)
                left = {
                    key: row
                    for key, row in tables.versions.items()
                    if key[2] not in ids or row.created_ns > gone.at_ns
                }
                result.others += len(tables.versions) - len(left)
                tables.versions = left
            self._govern(tables)
            tables.manifests |= dict.fromkeys(manifests)
        return result

    def _tell_repository(self, tables: Tables, root: RepositoryEvent, result: Replayed) -> None:
        known = tables.repositories.get(root.repository_id)
        taken = any(
            other.path == root.path and other.repository_id != root.repository_id
            for other in tables.repositories.values()
        )
        if known is None:
            if taken:
                result.passed_over += 1
                result.reasons.add("another repository has the path of theirs")
                return
            known = Repository(
                root.repository_id,
                root.path,
                root.kind,
                RepositoryStatus.OFFLINE,
                enforce=root.enforce,
                added_ns=root.at_ns,
            )
        else:
            told_ns = tables.told_ns.get(root.repository_id, 0)
            known = replace(known, added_ns=min(known.added_ns, root.at_ns))
            tables.repositories[root.repository_id] = known
            if repository_key(root) <= (told_ns, not known.enforce):
                return
            path = root.path if known.generation == 0 and not taken else known.path
            known = replace(known, enforce=root.enforce, path=path)
        tables.repositories[root.repository_id] = known
        tables.told_ns[root.repository_id] = root.at_ns
        result.others += 1

    def _tell_others(self, tables: Tables, told: Told, result: Replayed) -> None:
        for rules in told.policies.values():
            name = rules.policy.name
            if name in tables.policy_changes and policy_key(rules) <= tables.policy_changes[name]:
                continue
            if not rules.removed:
                self._put_policy(tables, rules.policy, rules.at_ns)
            elif name in SHIPPED_NAMES:
                result.passed_over += 1
                result.reasons.add("a shipped policy is not removed")
                continue
            else:
                self._remove_policy(tables, name, rules.at_ns)
            result.others += 1
        for event in told.holds:
            fields = [getattr(event, name) for name in Hold.__slots__]
            hold = tables.holds.setdefault(event.hold_id, kept(Hold(*fields)))
            released = [ns for ns in (hold.released_ns, event.released_ns) if ns is not None]
            tables.holds[event.hold_id] = replace(hold, released_ns=min(released, default=None))
        for confirmed in told.confirmations:
            key = Confirmation(
                confirmed.repository_id, confirmed.guard, confirmed.evidence, confirmed.at_ns
            )
            tables.confirmations[key] = None

    def _tell_file(
        self,
        tables: Tables,
        file_id: bytes,
        story: ToldFile,
        *,
        now_ns: int,
        location: str | None,
        copy_field: str,
        result: Replayed,
    ) -> None:
        assert story.place is not None
        version = story.version
        newest = max(
            ((v.created_ns, v.number, v.version_id) for v in self._versions(tables, file_id)),
            default=None,
        )
        file = by_id(tables, file_id)
        if version is not None and newest is not None:
            known = version_key(version) == newest and file is not None
            if known or version_key(version) < newest:
                version = None
        for event in story.events:
            if isinstance(event, VersionEvent):
                row = _version_row(event, location)
                result.versions += self._add_version(tables, file_id, row)
        for operation in operations_of(story, archive=copy_field == "archive_path"):
            tables.operations.setdefault(operation.operation_id, operation)
        if story.assignment is not None:
            key = assignment_key(story.assignment)
            if key > tables.assignments.get(file_id, (-(2**63), False, "")):
                tables.assignments[file_id] = key
        copy = {}
        if version is not None and location is not None:
            copy[copy_field] = copy_of(version, location)
        if file is None:
            self._insert_told(tables, file_id, story, version, now_ns=now_ns, copy=copy)
            result.records += 1
        else:
            self._tell(tables, file, story, version, now_ns=now_ns, copy=copy)

    def _insert_told(
        self,
        tables: Tables,
        file_id: bytes,
        story: ToldFile,
        version: VersionEvent | None,
        *,
        now_ns: int,
        copy: dict[str, Any],
    ) -> None:
        place = story.place
        assert place is not None
        folder, _, name = place.path.rpartition(b"/")
        directory = self._ensure_directory(tables, place.repository_id, folder, now_ns)
        state = becomes(story)
        where = directory.directory_id, name
        if state is not _DELETED and not self._wins(tables, where, file_id, place.at_ns, now_ns):
            state = _DELETED
        look = _look(version, away=state in DONE_BY_ACT)
        file = self._insert(
            tables,
            FileRow(
                row_id=tables.number(),
                file_id=file_id,
                repository_id=place.repository_id,
                directory_id=directory.directory_id,
                name=name,
                policy_name=self._policy_of(name),
                registered_ns=story.first_ns,
                state=state,
                outdated=True,
                **look,
                **copy,
            ),
            now_ns,
        )
        since = 0 if story.state is None else story.state.at_ns
        # It is no arrival of a scan.
        file = replace(file, state_since_ns=since, registered_seq=0)
        tables.files[file.row_id] = file
        tables.replayed[file.row_id] = (file.seq, place.at_ns, True)

    def _known(self, tables: Tables, file: FileRow) -> tuple[int, bool]:
        """Since when a record is known to be as it is, and whether no scan has seen it."""
        seq, at_ns, unseen = tables.replayed.get(file.row_id, (-1, 0, False))
        return (at_ns, unseen) if seq == file.seq else (file.changed_ns, False)

    def _wins(
        self, tables: Tables, place: tuple[int, bytes], file_id: bytes, at_ns: int, now_ns: int
    ) -> bool:
        there = self._live_at(tables, tables.directories[place[0]], place[1])
        if there is None or there.file_id == file_id:
            return True
        known_ns, _unseen = self._known(tables, there)
        if (known_ns, there.file_id) > (at_ns, file_id):
            return False
        gone = self._change(tables, there.row_id, now_ns, state=_DELETED)
        tables.files[gone.row_id] = replace(gone, state_since_ns=there.state_since_ns)
        tables.replayed[gone.row_id] = (gone.seq, known_ns, False)
        return True

    def _tell(
        self,
        tables: Tables,
        file: FileRow,
        story: ToldFile,
        version: VersionEvent | None,
        *,
        now_ns: int,
        copy: dict[str, Any],
    ) -> None:
        told = story.place
        assert told is not None
        known_ns, unseen = self._known(tables, file)
        fields: dict[str, Any] = dict(copy)
        state, since = file.state, file.state_since_ns
        if story.state is not None and state_key(story.state) > (since, STATE_CODE[state]):
            state, since = story.state.state, story.state.at_ns
        place = file.directory_id, file.name
        path = self._path(tables, file)
        where = file.repository_id, path
        at_ns = max(known_ns, told.at_ns)
        if place_key(told) > (known_ns, path) and where != (told.repository_id, told.path):
            folder, _, name = told.path.rpartition(b"/")
            directory = self._ensure_directory(tables, told.repository_id, folder, now_ns)
            place = directory.directory_id, name
            fields |= {"repository_id": told.repository_id, "directory_id": place[0], "name": name}
            self._look_again(tables, file.directory_id)
        appears = place != (file.directory_id, file.name) or not file.live
        if (
            state is not _DELETED
            and appears
            and not self._wins(tables, place, file.file_id, at_ns, now_ns)
        ):
            state = _DELETED
        if (state, since) != (file.state, file.state_since_ns):
            away = state in DONE_BY_ACT
            if away or file.state in DONE_BY_ACT:
                told_digest = unseen and file.checksum is not None
                fields["hash_due"] = not (away or told_digest) and file.kind is Kind.REGULAR
            if away:
                fields |= {"last_seen_ns": None, "place_before": None}
            self._look_again(tables, file.directory_id)
        if unseen:
            if version is not None:
                fields |= _look(version, away=state in DONE_BY_ACT)
            fields["registered_ns"] = min(file.registered_ns, story.first_ns)
        elif file.registered_seq == 0:
            fields["registered_ns"] = min(file.registered_ns, story.first_ns)
        file = self._change(tables, file.row_id, now_ns, **fields, state=state)
        file = replace(file, state_since_ns=since)
        tables.files[file.row_id] = file
        tables.replayed[file.row_id] = (file.seq, at_ns, unseen)


def _version_row(event: VersionEvent, location: str | None) -> VersionRow:
    key = event.content
    return VersionRow(
        event.version_id,
        event.number,
        key.algorithm if key else "sha256",
        key.digest if key else None,
        event.metadata.size,
        event.metadata.mtime_ns,
        event.at_ns,
        location,
    )


def _look(version: VersionEvent | None, *, away: bool) -> dict[str, Any]:
    """What a record has of a file: as a version had it, or nothing to be believed."""
    if version is None:
        look = dict.fromkeys("size mtime_ns ctime_ns inode uid gid atime_ns".split(), 0)
        return look | {
            "kind": Kind.REGULAR,
            "mode": 0o100000,
            "nlink": 1,
            "btime_ns": None,
            "hash_due": not away,
        }
    names = "kind size mtime_ns ctime_ns inode uid gid nlink atime_ns btime_ns".split()
    metadata, key = version.metadata, version.content
    return {name: getattr(metadata, name) for name in names} | {
        "mode": int(metadata.kind) << 12 | metadata.mode & 0o7777,
        "checksum": key.digest if key else None,
        "algorithm": key.algorithm if key else "sha256",
        "hash_due": key is None and metadata.kind is Kind.REGULAR and not away,
    }
