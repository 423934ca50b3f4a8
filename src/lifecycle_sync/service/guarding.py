"""Orders about what may happen: enforcement, what waits for a person, holds by name, the audit."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle_sync.decide.planning import MASS, waits_for
from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.hold import Hold, normal
from lifecycle_sync.model.ids import first_id, from_text
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.report.records import below
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.order import pause_words
from lifecycle_sync.service.roots import absolute_path

_SAMPLE = 20
_PAGE = 1_000


@dataclass(frozen=True)
class Waiting:
    """Deletions in a root that wait for somebody to confirm: why, how many, and some of them."""

    repository: Repository
    reason: str
    deletions: int
    sample: tuple[bytes, ...]


class Stop(NamedTuple):
    """What keeps policies from acting in all roots, or a disk from taking more: why, and what lets
    it go on."""

    guard: str
    reason: str
    remedy: str


def stops(engine: Engine) -> list[Stop]:
    """What stands against all that takes files away, now, and which disks are too full."""
    found = []
    paused = engine.registry.switch("pause")
    if paused is not None:
        found.append(Stop("pause", pause_words(paused), "`lifecycle resume` lets it go on"))
    doubt = engine.clock_doubt.reason()
    if doubt:
        remedy = "check the date; if it is right, `lifecycle confirm --guard clock`"
        found.append(Stop("clock", doubt, remedy))
    for repository in engine.roots.all():
        short = engine.space.shortage(repository)
        if short:
            where = os.fsdecode(repository.path)
            remedy = "free some, or move something to another disk"
            found.append(Stop("space", f"{where}: {short}", remedy))
    return found


def set_enforcement(engine: Engine, repository: Repository, *, enforce: bool) -> Repository:
    """Let policies act in a root, or only advise. The backup vault is told, where there is one."""
    fresh = engine.registry.repository(repository.repository_id) or repository
    updated = fresh.evolve(enforce=enforce)
    if updated != fresh:
        engine.registry.update_repository(updated)
        engine.statements.tell_root(updated)
    return updated


def waiting(engine: Engine, roots: Sequence[Repository] | None = None) -> list[Waiting]:
    """What the *mass* guard holds now, root by root."""
    plan = engine.decisions.plan(roots)
    found = []
    for root in plan.roots:
        if root.guard != MASS:
            continue
        mine = [
            action
            for action in plan.actions
            if action.repository_id == root.repository_id and waits_for(action, MASS)
        ]
        repository = engine.registry.repository(root.repository_id)
        assert repository is not None, "the plan is of it"
        sample = tuple(below(root.path, action.path) for action in mine[:_SAMPLE])
        found.append(Waiting(repository, root.waits, root.deletions, sample))
    return found


def confirm_waiting(engine: Engine, held: Waiting) -> None:
    """A person has looked, and agrees to that many deletions, and to those of the last day."""
    repository_id = held.repository.repository_id
    day_ns = 86_400 * 1_000_000_000
    recent = engine.registry.deleted_since(repository_id, engine.now_ns() - day_ns)
    evidence = {
        "deletions": held.deletions + recent,
        "reason": held.reason,
        "sample": [os.fsdecode(path) for path in held.sample[:5]],
    }
    text = json.dumps(evidence, ensure_ascii=True, sort_keys=True)
    engine.statements.confirm(repository_id, MASS, text)


def hold_named(
    engine: Engine, name: str, *, reason: str, owner: str | None, ends_ns: int | None
) -> Hold:
    """Hold a file by its id, or all that a path or a pattern names. Raises `NotFoundError` for an
    id that is not known."""
    try:
        file_id = from_text(name)
    except ValueError:
        query = os.fsdecode(absolute_path(name))
        return engine.statements.hold(query=query, reason=reason, owner=owner, ends_ns=ends_ns)
    return engine.statements.hold(file_id=file_id, reason=reason, owner=owner, ends_ns=ends_ns)


def holds_nothing(engine: Engine, hold: Hold) -> bool:
    """Whether a hold by path is, as things are, on no file: a slip of the pen, perhaps."""
    if hold.query is None or any(it in hold.query for it in "*?["):
        return False
    if os.path.lexists(hold.query):
        return False
    try:
        engine.find_record(hold.query)
    except NotFoundError:
        return True
    return False


def holds_named(engine: Engine, name: str) -> list[Hold]:
    """The holds that still hold by a name: what was held, or a hold's own id. Raises
    `NotFoundError` where there is none."""
    now_ns = engine.now_ns()
    active = engine.registry.holds(now_ns=now_ns)
    try:
        wanted = from_text(name)
    except ValueError:
        query = normal(os.fsdecode(absolute_path(name)))
        found = [it for it in active if it.query == query]
    else:
        found = [it for it in active if wanted in (it.hold_id, it.file_id)]
    if not found:
        raise NotFoundError(
            "is not held by that name",
            operation="release hold",
            subject=name,
            remedy="`lifecycle hold` lists what is held",
        )
    return found


class Entry(NamedTuple):
    """One row of the journal, and where its file is or was, where that is still known."""

    operation: Operation
    path: bytes


def audit_trail(
    engine: Engine, *, types: Collection[str] = (), since_ns: int | None = None
) -> Iterator[Entry]:
    """The journal in the order in which things were done."""
    after = None if since_ns is None else first_id(since_ns)
    while page := engine.registry.journal(after, _PAGE, types=types):
        after = page[-1].operation_id
        known = engine.registry.subjects({row.file_id for row in page})
        for row in page:
            file = known.get(row.file_id)
            yield Entry(row, below(file.root, file.path) if file is not None else b"")
