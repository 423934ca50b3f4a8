"""What an act on one root works with: the registry, the vaults, the trash, the file operations.

A `Site` lives for one batch of work, in which its maker holds the root's act lock: so a pending row
of another act on this root belongs to a dead process, and recovery may judge it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple, Protocol

import msgspec

from lifecycle_sync.act.ahead import Ahead
from lifecycle_sync.act.breaker import Breaker
from lifecycle_sync.act.directories import Directories
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActFile, ActOutcome, Intent
from lifecycle_sync.model.event import Event
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.many import many
from lifecycle_sync.model.operation import ActRun
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import ActStore
from lifecycle_sync.vault.events import VersionLine
from lifecycle_sync.vault.vault import Vault, VaultWriter

COMPLETED, SKIPPED, FAILED = "completed", "skipped", "failed"
# Rows of one transaction of the journal: some 80 ms. What each of them writes again of the indexes
# would be written as often as there are transactions.
_PORTION = 5000


class Done(NamedTuple):
    """What became of one file: "completed", "skipped" or "failed", and why. `size` is its bytes."""

    file_id: bytes
    path: bytes
    status: str
    reason: str = ""
    size: int = 0


class Vaults(Protocol):
    """The vaults of the registry, opened (and made) when they are first asked for."""

    def backup(self) -> Vault: ...

    def archive(self) -> Vault: ...

    def news_of(self, vault: Vault, repository: Repository) -> list[Event]:
        """What a vault has yet to be told of the root itself, before anything of its files."""
        ...

    def told(self, vault: Vault, repository: Repository) -> None:
        """The vault knows that now."""
        ...


class Told(Protocol):
    """How an act tells that it goes on; called from the thread that does the work."""

    def advance(self, files: int, bytes_: int) -> None: ...


class Silent:
    """For those who do not look."""

    def advance(self, files: int, bytes_: int) -> None:
        pass


@dataclass
class Site:
    """One root, with all that acts on it need. `algorithm` names contents; `margin_ns` is how much
    older than now a time must be for a tuple to prove something."""

    repository: Repository
    act: ActRun
    registry: ActStore
    trash: Trash
    fs: FileOps
    clock: Clock
    ids: IdSource
    vaults: Vaults
    algorithm: str = "sha256"
    margin_ns: int = 20_000_000
    # What the vaults know of directories, for all batches of one order.
    known: dict[bytes, Directories] = field(default_factory=dict)
    # Reads ahead in another process, where that is worth it; whoever made it closes it.
    ahead: Ahead | None = None
    # Changes of state that the backup vault has yet to be told; the trash tells of them meanwhile.
    owed: list[Event] = field(default_factory=list)
    # Which operation puts a file at a path.
    placing: dict[bytes, bytes] = field(default_factory=dict)
    cancel: CancelToken = field(default_factory=CancelToken)
    told: Told = field(default_factory=Silent)
    breaker: Breaker = field(default_factory=Breaker)

    @property
    def root(self) -> bytes:
        return self.repository.path

    @property
    def repository_id(self) -> bytes:
        return self.repository.repository_id

    def now_ns(self) -> int:
        return self.clock.now_ns()

    def commit(
        self, vault: Vault, writer: VaultWriter, events: Sequence[Event | VersionLine]
    ) -> str:
        """Commit events on files of this root; the name of the manifest."""
        news = self.vaults.news_of(vault, self.repository)
        manifest = writer.commit([*news, *events])
        self.vaults.told(vault, self.repository)
        return manifest

    def directories(self, vault: Vault) -> Directories:
        """What a vault knows of the directories of this root."""
        return self.known.setdefault(vault.store_id, Directories(vault, self.repository_id))


def tell(site: Site) -> list[tuple[bytes, str]]:
    """Tell the backup vault what it is owed; the manifests that tell it, by vault."""
    events, site.owed[:] = list(site.owed), []
    if not events:
        return []
    vault = site.vaults.backup()
    with vault.writer() as writer:
        return [(vault.store_id, site.commit(vault, writer, events))]


class Ordered(NamedTuple):
    """Files whose intents stand in the journal, each with the id of its row; and the refused."""

    files: list[tuple[bytes, ActFile]]
    refused: list[Done]


def intend(
    site: Site,
    verb: str,
    files: list[ActFile],
    *,
    unless_held: bool,
    details: Callable[[ActFile], dict[str, object]] | None = None,
) -> Ordered:
    """Write an intent for each file, durably, before anything is done."""
    ids = site.ids.take(len(files))
    notes = [_json(details(file)) for file in files] if details else repeat(None, len(files))
    file_ids = [file.file_id for file in files]
    intents = list(many(Intent, zip(ids, file_ids, repeat(verb), notes)))
    refused = begin(site, intents, unless_held=unless_held)
    if not refused:
        return Ordered(list(zip(ids, files, strict=True)), [])
    ordered, out = [], []
    for operation_id, file in zip(ids, files, strict=True):
        reason = refused.get(operation_id)
        if reason is None:
            ordered.append((operation_id, file))
        else:
            out.append(Done(file.file_id, file.path, SKIPPED, reason, file.size))
    return Ordered(ordered, out)


def begin(site: Site, intents: Sequence[Intent], *, unless_held: bool) -> dict[bytes, str]:
    """Write intents, durably; which are refused, and why."""
    refused: dict[bytes, str] = {}
    for start in range(0, len(intents), _PORTION):
        refused |= site.registry.begin_operations(
            site.act, intents[start : start + _PORTION], site.now_ns(), unless_held=unless_held
        )
    return refused


def note(**values: object) -> str:
    """The details of an outcome, as JSON text."""
    return _json(values)


def to_place(path: bytes) -> dict[str, object]:
    """Where a file goes, for the details of an act: `to`, and its exact bytes where the text is
    not they."""
    try:
        return {"to": path.decode()}
    except UnicodeDecodeError:
        return {
            "to": path.decode("utf-8", "backslashreplace"),
            "to_bytes": base64.b64encode(path).decode(),
        }


def place_told(details: Mapping[str, object]) -> bytes | None:
    """The path that `to_place` told of; None where there is none."""
    text, odd = details.get("to"), details.get("to_bytes")
    if isinstance(odd, str):
        return base64.b64decode(odd)
    return os.fsencode(text) if isinstance(text, str) and text else None


def _json(values: dict[str, object]) -> str:
    told = {
        key: _encodable(value) if isinstance(value, str) else value
        for key, value in values.items()
        if value not in (None, "")
    }
    return msgspec.json.encode(told).decode()


def _encodable(text: str) -> str:
    """A reason may name a file whose name is no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Results:
    """Collects what becomes of the files of a batch: for the caller, and for the journal."""

    def __init__(self, refused: list[Done]) -> None:
        self.done = list(refused)
        self.outcomes: list[ActOutcome] = []

    def add(self, file: ActFile, outcome: ActOutcome, reason: str = "") -> None:
        """What came of one file, as it is."""
        self.outcomes.append(outcome)
        self.done.append(Done(file.file_id, file.path, outcome.status, reason, file.size))

    def extend(self, outcomes: Iterable[ActOutcome], done: Iterable[Done]) -> None:
        """What came of many files, for the journal and for the caller."""
        self.outcomes += outcomes
        self.done += done

    def fail(self, operation_id: bytes, file: ActFile, reason: str) -> None:
        """Something went wrong with this file; nothing was done to it."""
        outcome = ActOutcome(operation_id, FAILED, note(reason=reason))
        self.add(file, outcome, reason)

    def skip(self, operation_id: bytes, file: ActFile, reason: str) -> None:
        """This file is left as it is, on purpose."""
        outcome = ActOutcome(operation_id, SKIPPED, note(reason=reason))
        self.add(file, outcome, reason)

    def finish(self, site: Site, manifests: list[tuple[bytes, str]]) -> list[Done]:
        """Write all outcomes; the registry may refuse one (its record has become something else
        meanwhile), which then counts as skipped. `manifests` is what vaults were told of them."""
        refused: dict[bytes, str] = {}
        for start in range(0, len(self.outcomes) or 1, _PORTION):
            last = start + _PORTION >= len(self.outcomes)
            refused |= site.registry.finish_operations(
                site.act,
                self.outcomes[start : start + _PORTION],
                site.now_ns(),
                manifests=manifests if last else (),
            )
        if not refused:
            return self.done
        ids = {
            outcome.change.file_id: refused[outcome.operation_id]
            for outcome in self.outcomes
            if outcome.change is not None and outcome.operation_id in refused
        }
        return [
            done._replace(status=SKIPPED, reason=ids[done.file_id]) if done.file_id in ids else done
            for done in self.done
        ]
