"""Brings files of a root back: out of the archive, out of the trash, out of the vault.

Each is journalled as an act on the record that gets its file back; the record then says what lies
there, and is UPLOADED: the next backup looks at it again.
"""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from lifecycle_sync.act.fingerprints import fingerprint_of
from lifecycle_sync.act.occupied import Conflict, Wanted, beside
from lifecycle_sync.act.restore import Restored, Restorer
from lifecycle_sync.act.site import (
    COMPLETED,
    SKIPPED,
    Done,
    Results,
    Site,
    intend,
    note,
    tell,
    to_place,
)
from lifecycle_sync.descent import Descent
from lifecycle_sync.model.act import DONE_WORDS, ActFile, ActOutcome, Attributes, RecordChange
from lifecycle_sync.model.event import StateEvent, VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.trash import (
    BATCH_MAX,
    PLACE_TAKEN,
    TrashBatch,
    TrashEntry,
    TrashOutcome,
    TrashReason,
)
from lifecycle_sync.vault.vault import Vault

_UPLOADED = LifecycleState.UPLOADED
# Takes away what stands at a path; the reason where it stays.
MakeRoom = Callable[[bytes], str | None]


class Back(NamedTuple):
    """A file of the root and the version that it is to become; `to` is relative to the root."""

    file: ActFile
    version: VersionEvent
    to: bytes


def bring_back(
    site: Site,
    verb: str,
    vault: Vault,
    wanted: Sequence[Back],
    restorer: Restorer,
) -> tuple[list[Done], list[Restored]]:
    """Restore versions into the root they came from ("recall" or "restore"): a batch.

    Raises what concerns the root or the vault as a whole; then recovery has to judge.
    """
    by_file = {item.file.file_id: item for item in wanted}
    ordered = intend(
        site,
        verb,
        [item.file for item in by_file.values()],
        unless_held=False,
        details=lambda file: to_place(by_file[file.file_id].to),
    )
    results = Results(ordered.refused)
    operations = {file.file_id: operation_id for operation_id, file in ordered.files}
    # What makes room for a file is known by the operation, should it be cut off.
    site.placing = {by_file[file_id].to: it for file_id, it in operations.items()}
    batch = [
        Wanted(item.version, item.to)
        for item in by_file.values()
        if item.file.file_id in operations
    ]
    # What this raises leaves the rows pending: some files may have got their places, and only what
    # is found there tells.
    restored = restorer.restore(batch)
    for item in restored:
        back = by_file[item.wanted.version.file_id]
        operation_id = operations[back.file.file_id]
        told = back.file._replace(size=back.version.metadata.size)
        if item.outcome != COMPLETED:
            keep = results.skip if item.outcome == SKIPPED else results.fail
            keep(operation_id, told, item.reason)
            continue
        change = _change(back, item, at_its_place=item.path == back.file.path)
        more = {"copy": item.copy} if item.copy else {}
        details = note(**to_place(item.path), version=back.version.number, **more)
        outcome = ActOutcome(operation_id, COMPLETED, details, change)
        results.add(told, outcome, "; ".join(item.missed))
        if change is not None:
            site.owed.append(
                StateEvent(
                    back.file.file_id,
                    site.repository_id,
                    item.path,
                    _UPLOADED,
                    site.now_ns(),
                    operation_id,
                    DONE_WORDS[verb],
                )
            )
    return results.finish(site, tell(site)), restored


def _change(back: Back, item: Restored, *, at_its_place: bool) -> RecordChange | None:
    """What the record of a file becomes; nothing where it lives on elsewhere (renamed since), or
    where the file was put beside it: then the next scan finds a new one."""
    gone = back.file.state in (LifecycleState.DELETED, LifecycleState.ARCHIVED)
    if not gone and not at_its_place:
        return None
    key = back.version.content
    found = item.found
    return RecordChange(
        back.file.file_id,
        state=_UPLOADED,
        fingerprint=fingerprint_of(found) if found else None,
        attributes=_attributes(found) if found else None,
        checksum=key.digest if key and found else None,
        algorithm=key.algorithm if key else "sha256",
        path=item.path,
    )


def undelete(
    site: Site,
    wanted: Sequence[tuple[ActFile, TrashBatch, TrashEntry]],
    *,
    to: bytes | None = None,
    conflict: Conflict = Conflict.SKIP,
    make_room: MakeRoom | None = None,
) -> list[Done]:
    """Give files back out of the trash, to their place or (one file) to another path.

    `conflict` says what to do where something stands there; `make_room` takes that away, or says
    why it stays.
    """
    by_file = {file.file_id: (batch, entry) for file, batch, entry in wanted}
    places = _places(site, by_file, to, conflict)
    ordered = intend(
        site,
        "undelete",
        [file for file, _, _ in wanted],
        unless_held=False,
        details=lambda file: {
            **to_place(places[file.file_id]),
            "trash": to_text(by_file[file.file_id][0].batch_id),
        },
    )
    results = Results(ordered.refused)
    back: list[tuple[bytes, ActFile, bytes]] = []
    for operation_id, file in ordered.files:
        batch, entry = by_file[file.file_id]
        path = places[file.file_id]
        outcome = site.trash.put_back(batch, entry, to=path)
        if not outcome.ok and outcome.reason == PLACE_TAKEN:
            outcome = _make_way(site, entry, path, conflict, make_room) or site.trash.put_back(
                batch, entry, to=path
            )
        site.told.advance(1, entry.fingerprint.size)
        if outcome.ok:
            back.append((operation_id, file, path))
        else:
            results.skip(operation_id, file, outcome.reason)
    site.trash.sync()
    for batch in {batch.batch_id: batch for batch, _ in by_file.values()}.values():
        site.trash.tidy(batch)
    with Descent(site.fs, site.root) as descent:
        for operation_id, file, path in back:
            returned(site, results, descent, operation_id, file, path=path, verb="undelete")
    return results.finish(site, tell(site))


def _places(
    site: Site,
    wanted: Mapping[bytes, tuple[TrashBatch, TrashEntry]],
    to: bytes | None,
    conflict: Conflict,
) -> dict[bytes, bytes]:
    """Where each file is to lie: known before it moves, for whoever has to tell what a killed
    process has done."""
    places = {file_id: to or entry.path for file_id, (_, entry) in wanted.items()}
    if conflict is not Conflict.KEEP_BOTH:
        return places
    with Descent(site.fs, site.root) as descent:
        return {
            file_id: next(
                place for place in _names_beside(path) if _lstat(site, descent, place) is None
            )
            for file_id, path in places.items()
        }


def _names_beside(path: bytes) -> Iterator[bytes]:
    """A path, and then others beside it without end."""
    yield path
    folder, _, name = path.rpartition(b"/")
    for number in count(1):
        chosen = beside(name, number)
        yield folder + b"/" + chosen if folder else chosen


def _lstat(site: Site, descent: Descent, path: bytes) -> os.stat_result | None:
    folder, _, name = path.rpartition(b"/")
    try:
        return site.fs.stat(name, dir_fd=descent.open(folder), follow_symlinks=False)
    except OSError:
        return None


def _make_way(
    site: Site, entry: TrashEntry, path: bytes, conflict: Conflict, make_room: MakeRoom | None
) -> TrashOutcome | None:
    """None once what stood at a place is gone from it; else why it stays."""
    if conflict in (Conflict.SKIP, Conflict.KEEP_BOTH):
        return TrashOutcome(False, PLACE_TAKEN)
    if conflict is Conflict.NEWEST and not _is_older(site, path, entry.fingerprint.mtime_ns):
        return TrashOutcome(False, "what is there is newer")
    assert make_room is not None, "to replace takes somebody to make room"
    reason = make_room(path)
    return None if reason is None else TrashOutcome(False, reason)


def _is_older(site: Site, path: bytes, than_ns: int) -> bool:
    with Descent(site.fs, site.root) as descent:
        found = _lstat(site, descent, path)
    return found is not None and found.st_mtime_ns < than_ns


def returned(
    site: Site,
    results: Results,
    descent: Descent,
    operation_id: bytes,
    file: ActFile,
    *,
    path: bytes,
    verb: str,
) -> None:
    """A file lies at `path` again by an act, as it was: its record says so."""
    folder, _, name = path.rpartition(b"/")
    try:
        found = site.fs.stat(name, dir_fd=descent.open(folder), follow_symlinks=False)
    except OSError:
        # It is there all the same; the next scan looks at it.
        found = None
    change = RecordChange(
        file.file_id,
        state=_UPLOADED,
        fingerprint=fingerprint_of(found) if found else None,
        attributes=_attributes(found) if found else None,
        path=path,
    )
    details = note(**to_place(path))
    results.add(file._replace(path=path), ActOutcome(operation_id, COMPLETED, details, change))
    site.owed.append(
        StateEvent(
            file.file_id,
            site.repository_id,
            path,
            _UPLOADED,
            site.now_ns(),
            operation_id,
            DONE_WORDS[verb],
        )
    )


class Displacer:
    """Moves what stands in the way of a restore into the trash of the root.

    It is known to the registry by its record, or to nobody: then the trash alone remembers it.
    """

    def __init__(
        self, site: Site, *, grace_ns: int, known_as: Mapping[bytes, bytes] | None = None
    ) -> None:
        """`known_as`: the ids, by path, of files that are other ones than the registry says."""
        self._site = site
        self._grace_ns = grace_ns
        self._known_as = known_as or {}

    def take(self, paths: Sequence[bytes]) -> dict[bytes, str]:
        """Take them all, durably; those that stay, with the reason."""
        stay: dict[bytes, str] = {}
        entries: list[TrashEntry] = []
        with Descent(self._site.fs, self._site.root) as descent:
            for path in dict.fromkeys(paths):
                entry = self._entry(descent, path)
                if isinstance(entry, str):
                    stay[path] = entry
                else:
                    entries.append(entry)
        for start in range(0, len(entries), BATCH_MAX):
            stay |= self._take(entries[start : start + BATCH_MAX])
        return stay

    def _take(self, entries: Sequence[TrashEntry]) -> dict[bytes, str]:
        with self._site.trash.begin(
            entries, grace_ns=self._grace_ns, reason=TrashReason.REPLACE
        ) as batch:
            outcomes = {entry.path: batch.take(entry) for entry in entries}
            try:
                batch.sync()
            except OSError as error:
                for path, outcome in outcomes.items():
                    if outcome.ok:
                        self.give_back(path)
                return dict.fromkeys(outcomes, (error.strerror or str(error)).lower())
        return {path: outcome.reason for path, outcome in outcomes.items() if not outcome.ok}

    def _entry(self, descent: Descent, path: bytes) -> TrashEntry | str:
        """What stands at a place as the trash is to know it; or why it stays."""
        site = self._site
        folder, _, name = path.rpartition(b"/")
        try:
            found = site.fs.stat(name, dir_fd=descent.open(folder), follow_symlinks=False)
        except OSError as error:
            return (error.strerror or str(error)).lower()
        if stat_module.S_ISDIR(found.st_mode):
            return "a directory is there"
        near = site.registry.files_under(site.repository_id, path, None, 1)
        record = next((it for it in near if it.path == path), None)
        if record is not None:
            held = site.registry.held([record.file_id], site.now_ns())
            if record.file_id in held:
                return f"held: {held[record.file_id]}"
        known = self._known_as.get(path) or (record.file_id if record else None)
        return TrashEntry(
            known or site.ids.one(),
            site.placing.get(path) or site.ids.one(),
            path,
            fingerprint_of(found),
        )

    def give_back(self, path: bytes) -> None:
        """Put back what was taken: nothing came in its place."""
        operation_id = self._site.placing.get(path)
        for batch, entry in self._site.trash.find(path=path):
            if operation_id in (None, entry.operation_id):
                give_room_back(self._site, batch, entry)
                return


def give_room_back(site: Site, batch: TrashBatch, entry: TrashEntry) -> None:
    """Put back what was moved out of the way of a restore, if its place is free."""
    if batch.reason is TrashReason.REPLACE:
        site.trash.put_back(batch, entry)
        site.trash.sync()
        site.trash.tidy(batch)


def _attributes(found: os.stat_result) -> Attributes:
    return Attributes(found.st_mode, found.st_uid, found.st_gid, found.st_nlink)
