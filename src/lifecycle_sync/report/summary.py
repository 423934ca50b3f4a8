"""What there is to say about a root after a pass: sums, the largest files, changes, and worries.

Everything is read from the registry; nothing looks at the disk. Examples are few and bounded, so a
summary of a million files costs little more than one of a thousand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lifecycle_sync.model.file import FileFlag, FileRecord, LifecycleState, Tracking
from lifecycle_sync.model.operation import Run, RunStatus
from lifecycle_sync.model.record import DirectoryTotals, Duplicates, FileQuery, TypeCount
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.report.records import (
    below,
    copies,
    duplicates_fields,
    file_fields,
    path_fields,
    waste,
)

LARGEST = 5
EXAMPLES = 10
TOP_DUPLICATES = 3
# How far the changes of a pass are searched for examples, and how long duplicates are counted.
_CHANGES_READ_MAX = 20_000
_CHANGES_PAGE = 2_000
_DUPLICATES_PAGE = 500
DUPLICATES_SECONDS = 2.0
# A file changed since the last pass may carry a slightly earlier time (another machine's clock).
_SKEW_NS = 5_000_000_000


class Verb(StrEnum):
    """What happened to a file between two passes."""

    ADDED = "added"
    UPDATED = "updated"
    MOVED = "moved"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One file that a pass found changed; `before` is where a moved one was (text, relative)."""

    verb: Verb
    record: FileRecord
    before: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pass found changed since the one before: how many of each, and some examples."""

    counts: dict[Verb, int]
    examples: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return any(self.counts.values())


@dataclass(frozen=True, slots=True)
class Sample:
    """How many records share something, and the first of them."""

    count: int = 0
    records: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class DuplicateSums:
    """Files with one content. `wasted` is what one copy of each would free, in bytes.

    Not `complete`: counting was given up after a while, and there are at least so many.
    """

    groups: int = 0
    files: int = 0
    wasted: int = 0
    top: tuple[Duplicates, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """A root as the registry knows it. `changes` is None for a first index."""

    repository: Repository
    totals: DirectoryTotals
    counts: tuple[TypeCount, ...]
    largest: tuple[FileRecord, ...]
    changes: Changes | None
    unreadable: Sample
    unstable: Sample
    suspect: Sample
    duplicates: DuplicateSums
    due_files: int
    due_bytes: int
    missing: int


def summarise(
    registry: Registry,
    repository: Repository,
    run: Run | None,
    *,
    first: bool = False,
    moved: int = 0,
    duplicates_seconds: float = DUPLICATES_SECONDS,
) -> Summary:
    """The summary of a root after `run`, which recognised `moved` files at a new place.

    `first` says that no pass had seen the whole root before it.
    """
    root_id = repository.repository_id
    due_files, due_bytes = registry.to_hash_totals(root_id)
    changes = None
    if run is not None and not first:
        changes = changes_of(registry, run, moved)
    return Summary(
        repository=repository,
        totals=registry.directory_totals(root_id),
        counts=tuple(registry.type_counts(root_id)),
        largest=tuple(record for record in registry.largest(root_id, LARGEST) if record.size),
        changes=changes,
        unreadable=flagged(registry, root_id, FileFlag.UNREADABLE),
        unstable=flagged(registry, root_id, FileFlag.UNSTABLE),
        suspect=flagged(registry, root_id, FileFlag.SUSPECT),
        duplicates=duplicate_sums(registry, root_id, duplicates_seconds),
        due_files=due_files,
        due_bytes=due_bytes,
        missing=registry.missing_count(root_id),
    )


def flagged(registry: Registry, repository_id: bytes | None, flag: FileFlag) -> Sample:
    """The tracked files with a flag."""
    count = registry.flag_count(repository_id, flag.value)
    if not count:
        return Sample()
    query = FileQuery(repository_id=repository_id, flags=flag.value)
    return Sample(count, registry.find(query, None, EXAMPLES).records)


def duplicate_sums(
    registry: Registry,
    repository_id: bytes | None,
    seconds: float,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> DuplicateSums:
    """Sums over all groups of one content, counted for at most `seconds`."""
    deadline = monotonic() + seconds
    groups = files = wasted = 0
    top: list[Duplicates] = []
    cursor: str | None = None
    while True:
        page, cursor = registry.duplicates(repository_id, cursor, _DUPLICATES_PAGE)
        groups += len(page)
        files += sum(copies(group) for group in page)
        wasted += sum(waste(group) for group in page)
        top = sorted([*top, *page], key=lambda group: (-waste(group), group.checksum))
        del top[TOP_DUPLICATES:]
        if cursor is None or monotonic() > deadline:
            return DuplicateSums(groups, files, wasted, tuple(top), cursor is None)


# -- changes -------------------------------------------------------------------------------


def changes_of(registry: Registry, run: Run, moved: int) -> Changes:
    """What `run` found, with up to `EXAMPLES` files of each kind, as far as a bounded look goes."""
    counts = {
        Verb.ADDED: run.files_added,
        # A moved file is counted among the updated ones by a run.
        Verb.UPDATED: max(run.files_updated - moved, 0),
        Verb.MOVED: moved,
        Verb.REMOVED: run.files_removed,
    }
    wanted = {verb: min(count, EXAMPLES) for verb, count in counts.items()}
    since_ns = _last_pass_ns(registry, run)
    found: dict[Verb, list[Change]] = {verb: [] for verb in Verb}
    after, read = run.first_seq, 0
    while read < _CHANGES_READ_MAX and any(len(found[v]) < wanted[v] for v in Verb):
        page = registry.changes(after, _CHANGES_PAGE)
        if not page:
            break
        after, read = page[-1].seq, read + len(page)
        for record in page:
            if record.repository_id != run.repository_id or record.tracking is not Tracking.TRACKED:
                continue
            change = _change(registry, run, record, since_ns, look_for_moves=moved > 0)
            if change is not None and len(found[change.verb]) < wanted[change.verb]:
                found[change.verb].append(change)
    examples = [change for verb in Verb for change in found[verb]]
    return Changes(counts, tuple(examples))


def _last_pass_ns(registry: Registry, run: Run) -> int:
    """When the last complete pass before `run` began."""
    for earlier in registry.runs(run.repository_id, 50):
        if earlier.run_id < run.run_id and earlier.whole and earlier.status is RunStatus.COMPLETED:
            return earlier.started_ns - _SKEW_NS
    return 0


def _change(
    registry: Registry, run: Run, record: FileRecord, since_ns: int, *, look_for_moves: bool
) -> Change | None:
    """What happened to a record whose `seq` moved. A checksum alone is no change."""
    if record.state is LifecycleState.DELETED:
        removed = record.state_since_ns >= run.started_ns
        return Change(Verb.REMOVED, record) if removed else None
    if record.registered_ns >= run.started_ns:
        return Change(Verb.ADDED, record)
    if look_for_moves:
        last = registry.operations(record.file_id, 1)
        if last and last[0].operation_type == "move" and last[0].run_id == run.run_id:
            return Change(Verb.MOVED, record, str(_details(last[0].details).get("before", "")))
    # Not told by the record itself; the status change time is set by whatever changes a file.
    return Change(Verb.UPDATED, record) if record.ctime_ns >= since_ns else None


def _details(text: str | None) -> dict[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


# -- as JSON -------------------------------------------------------------------------------


def summary_fields(summary: Summary) -> dict[str, Any]:
    """A summary as a part of a JSON document."""
    root = summary.repository.path
    totals = summary.totals
    return {
        "directories": totals.directories,
        "files": totals.files,
        "bytes": totals.bytes,
        "by_state_and_type": [
            {
                "state": count.state.value,
                "type": count.file_type.value,
                "files": count.files,
                "bytes": count.bytes,
            }
            for count in summary.counts
        ],
        "largest": [file_fields(record, root) for record in summary.largest],
        "changes": None if summary.changes is None else _changes_fields(summary.changes, root),
        "ignored_entries": totals.ignored,
        "special_files": totals.special,
        "unreadable_folders": [
            {**path_fields(below(root, path)), "reason": reason} for path, reason in totals.failed
        ],
        "unreadable_files": _sample_fields(summary.unreadable, root),
        "unstable_files": _sample_fields(summary.unstable, root),
        "suspect_files": _sample_fields(summary.suspect, root),
        "duplicates": {
            "groups": summary.duplicates.groups,
            "files": summary.duplicates.files,
            "wasted_bytes": summary.duplicates.wasted,
            "complete": summary.duplicates.complete,
            "top": [duplicates_fields(group, lambda _id: root) for group in summary.duplicates.top],
        },
        "to_hash": {"files": summary.due_files, "bytes": summary.due_bytes},
        "missing_files": summary.missing,
    }


def _changes_fields(changes: Changes, root: bytes) -> dict[str, Any]:
    examples = []
    for change in changes.examples:
        fields = {"change": change.verb.value, **path_fields(below(root, change.record.path))}
        if change.verb is Verb.MOVED:
            fields["before"] = change.before
        examples.append(fields)
    return {**{verb.value: count for verb, count in changes.counts.items()}, "examples": examples}


def _sample_fields(sample: Sample, root: bytes) -> dict[str, Any]:
    examples = [path_fields(below(root, record.path)) for record in sample.records]
    return {"count": sample.count, "examples": examples}
