"""What events of vaults come to, folded by what they are about before any of it is written.

Of each file the newest event says where it lies and what it is, the newest version what it is like.
Of two of one time always the same one counts, so the order in which they come does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from lifecycle_sync.model.act import DONE_WORDS, PURGED
from lifecycle_sync.model.event import (
    AssignmentEvent,
    ConfirmationEvent,
    Event,
    HoldEvent,
    PolicyEvent,
    PrunedEvent,
    RepositoryEvent,
    StateEvent,
    VersionEvent,
)
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.registry.codes import STATE_CODE, details

FileEvent = VersionEvent | StateEvent | AssignmentEvent
# Which act it was, by the words that acts give as their reason, and otherwise by what came of it.
_BY_WORD = {word: verb for verb, word in DONE_WORDS.items()}
_BY_STATE = {
    LifecycleState.ARCHIVED: "archive",
    LifecycleState.DELETED: "delete",
}
# Events of one transaction.
BATCH = 1_000


@dataclass(slots=True)
class Replayed:
    """What a replay did: versions, records and other things that are new or newer than was known.

    `passed_over` are events that could not be placed, such as those of a file whose repository no
    event tells of; `reasons` says why, each reason once.
    """

    versions: int = 0
    records: int = 0
    others: int = 0
    passed_over: int = 0
    reasons: set[str] = field(default_factory=set)


@dataclass(slots=True)
class ToldFile:
    """What events say of one file: the newest of each sort."""

    events: list[FileEvent] = field(default_factory=list)
    place: FileEvent | None = None
    state: VersionEvent | StateEvent | None = None
    version: VersionEvent | None = None
    assignment: AssignmentEvent | VersionEvent | None = None
    first_ns: int = 0

    def add(self, event: FileEvent) -> None:
        if not self.events or event.at_ns < self.first_ns:
            self.first_ns = event.at_ns
        self.events.append(event)
        if self.place is None or place_key(event) > place_key(self.place):
            self.place = event
        if not isinstance(event, StateEvent) and (
            self.assignment is None or assignment_key(event) > assignment_key(self.assignment)
        ):
            self.assignment = event
        if isinstance(event, AssignmentEvent):
            return
        if self.state is None or state_key(event) > state_key(self.state):
            self.state = event
        if isinstance(event, VersionEvent) and (
            self.version is None or version_key(event) > version_key(self.version)
        ):
            self.version = event


@dataclass(slots=True)
class Told:
    """What a batch of events says, by what it is about."""

    repositories: list[RepositoryEvent] = field(default_factory=list)
    policies: dict[str, PolicyEvent] = field(default_factory=dict)
    files: dict[bytes, ToldFile] = field(default_factory=dict)
    holds: list[HoldEvent] = field(default_factory=list)
    confirmations: list[ConfirmationEvent] = field(default_factory=list)
    pruned: list[PrunedEvent] = field(default_factory=list)


def fold(events: Iterable[Event]) -> Told:
    """Sort a batch of events by what they are about. Those of directories, which the registry has
    from its scans, and of newer writers are left out."""
    told = Told()
    for event in events:
        if isinstance(event, (VersionEvent, StateEvent, AssignmentEvent)):
            told.files.setdefault(event.file_id, ToldFile()).add(event)
        elif isinstance(event, RepositoryEvent):
            told.repositories.append(event)
        elif isinstance(event, PolicyEvent):
            rules = told.policies.get(event.policy.name)
            if rules is None or policy_key(event) > policy_key(rules):
                told.policies[event.policy.name] = event
        elif isinstance(event, HoldEvent):
            told.holds.append(event)
        elif isinstance(event, ConfirmationEvent):
            told.confirmations.append(event)
        elif isinstance(event, PrunedEvent):
            told.pruned.append(event)
    return told


def batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Events by the thousand, at least one batch."""
    source = iter(events)
    batch = list(islice(source, BATCH))
    while True:
        following = list(islice(source, BATCH))
        yield batch
        if not following:
            return
        batch = following


def state_key(event: VersionEvent | StateEvent) -> tuple[int, int]:
    """Of two states of one time that counts which comes later in a life."""
    return event.at_ns, STATE_CODE[event.state]


def version_key(event: VersionEvent) -> tuple[int, int, bytes]:
    """The newest version is the one that was made last."""
    return event.at_ns, event.number, event.version_id


def assignment_key(event: AssignmentEvent | VersionEvent) -> tuple[int, bool, str]:
    """A version says what policy a file had when it was made."""
    explicit = event.explicit if isinstance(event, AssignmentEvent) else event.policy_explicit
    return event.at_ns, explicit, event.policy_name


def policy_key(event: PolicyEvent) -> tuple[int, bool]:
    """Of two changes of one time the removal counts."""
    return event.at_ns, event.removed


def becomes(told: ToldFile) -> LifecycleState:
    """The state that events give a file that nothing else is known of."""
    return LifecycleState.UPLOADED if told.state is None else told.state.state


def place_key(event: FileEvent) -> tuple[int, bytes]:
    """The newest event knows where a file lies."""
    return event.at_ns, event.path


def repository_key(event: RepositoryEvent) -> tuple[int, bool]:
    """Of two of one time the more careful one counts."""
    return event.at_ns, not event.enforce


def location_of(manifests: Sequence[tuple[bytes, str]]) -> str | None:
    """Where the versions lie that these manifests tell of; None if these are of several vaults."""
    stores = {store_id for store_id, _ in manifests}
    if len(stores) != 1:
        return None
    store_id, name = manifests[0]
    return f"{store_id.hex()}/{name}" if len(manifests) == 1 else store_id.hex()


def copy_of(event: VersionEvent, location: str) -> str:
    """Where the content of a version lies, as `backup_path` and `archive_path` have it."""
    store = location.partition("/")[0]
    return f"{store}/{event.content}" if event.content else store


def operations_of(told: ToldFile, *, archive: bool) -> Iterator[Operation]:
    """The acts that events of a vault tell of, as the journal has them. A version in the archive is
    none yet: only when the file has gone there is it archived."""
    for event in told.events:
        verb = _verb_of(event, archive)
        if verb is None or isinstance(event, AssignmentEvent):
            continue
        reason = event.reason if isinstance(event, StateEvent) else ""
        yield Operation(
            event.operation_id,
            event.file_id,
            verb,
            event.at_ns,
            "completed",
            finished_ns=event.at_ns,
            details=details(told_by="vault", **({"reason": reason} if reason else {})),
        )


def _verb_of(event: FileEvent, archive: bool) -> str | None:
    if isinstance(event, AssignmentEvent):
        return None
    if isinstance(event, VersionEvent):
        return None if archive else "backup"
    if event.reason == PURGED:
        return "purge"
    if event.state is LifecycleState.UPLOADED:
        return _BY_WORD.get(event.reason)
    return _BY_STATE.get(event.state)
