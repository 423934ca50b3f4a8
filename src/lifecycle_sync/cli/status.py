"""`lifecycle status`: where every root stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Notes, Styled, Table, Text, show
from lifecycle_sync.cli.words import (
    ago_text,
    count_text,
    duration_text,
    size_text,
    unprotected_lines,
)
from lifecycle_sync.service.api import (
    NS_PER_SECOND,
    RepositoryKind,
    RepositoryStatus,
    Run,
    RunStatus,
    to_iso,
    utf8_text,
)

if TYPE_CHECKING:
    from lifecycle_sync.service.guarding import Stop
    from lifecycle_sync.service.standing import Evidence, LoopsStanding, Standing
    from lifecycle_sync.service.watch_health import RootHealth

_STYLE = {
    RepositoryStatus.ACTIVE: "good",
    RepositoryStatus.OFFLINE: "warn",
    RepositoryStatus.HELD: "bad",
}


@command(
    "status",
    examples="""
        lifecycle status
        lifecycle status --json
    """,
)
def status(session: Session) -> None:
    """Where every root stands: its guard, its files, its last pass, and what waits.

    Looks at the roots, changes nothing.
    """
    from lifecycle_sync.service.guarding import stops
    from lifecycle_sync.service.standing import (
        evidence,
        loops_standing,
        registry_place,
        standings,
        status_fields,
        vault_places,
    )

    with session.engine() as engine:
        found = standings(engine)
        if session.as_json:
            stopped = [it._asdict() for it in stops(engine)]
            write_json({**status_fields(engine, found), "stops": stopped})
            return
        now_ns = engine.now_ns()
        place, size = registry_place(engine)
        blocks: list[Block] = []
        for standing in found:
            blocks += _sheet(standing, now_ns)
        if not found:
            blocks.append(Notes("", ["No root yet: `lifecycle run FOLDER` makes one"]))
        blocks += _stops(stops(engine))
        blocks += _loops(loops_standing(engine), now_ns)
        rows: list[list[Text]] = [["registry", f"{utf8_text(place)}, {size_text(size)}"]]
        for vault in vault_places(engine):
            name = "vault" if vault.kind == "backup" else vault.kind
            there = "" if vault.there else "  (made when it is first used)"
            rows.append([name, utf8_text(vault.path) + there])
        blocks += [Heading("Places"), Table("", rows)]
        blocks += _evidence(evidence(engine), now_ns)
        show(blocks)


def _sheet(standing: Standing, now_ns: int) -> list[Block]:
    repository, totals = standing.repository, standing.totals
    word = Styled(standing.status.value, _STYLE[standing.status])
    rows: list[list[Text]] = [
        [
            "files",
            f"{totals.files:,} in {count_text(totals.directories, 'folder')},"
            f" {size_text(totals.bytes)}",
        ],
        ["last pass", _last(standing.last_run, now_ns)],
    ]
    rows += _watching(standing.health)
    rows.append(["last backup", _last_backup(standing, now_ns)])
    left_out = unprotected_lines(totals.ignored, totals.special, standing.mounts)
    rows += [["" if number else "not kept", line] for number, line in enumerate(left_out)]
    rows += _scrub(standing, now_ns)
    trash = standing.trash
    if trash is not None and (trash.files or trash.damaged):
        rows.append(["trash", f"{count_text(trash.files, 'file')}, {size_text(trash.bytes)}"])
    if trash is not None and trash.damaged:
        batches = count_text(trash.damaged, "batch", "batches")
        rows.append(["", Styled(f"{batches} cannot be read: `lifecycle doctor`", "bad")])
    if repository.kind is RepositoryKind.LOOSE:
        rows.append(["kind", "only files that were registered by name"])
    else:
        rows.append(["policies", "act" if repository.enforce else "advise only"])
    if standing.verdict is not None:
        rows.append(["why", Styled(f"{standing.verdict.guard}: {standing.verdict.reason}", "bad")])
        rows.append(["remedy", standing.verdict.remedy])
    for count, label, text in (
        (standing.due_files, "to hash", f" ({size_text(standing.due_bytes)})"),
        (standing.missing, "missing", " (kept until accepted)"),
        (standing.suspect, "suspect", " (`lifecycle find --suspect`)"),
        (standing.unreadable, "unreadable", " (`lifecycle find --unreadable`)"),
        (standing.conflicts, "conflicts", " (resolved when policies are enforced)"),
    ):
        if count:
            rows.append([label, Styled(f"{count_text(count, 'file')}{text}", "warn")])
    if standing.unread:
        rows.append(["unread", Styled(count_text(len(standing.unread), "folder"), "warn")])
    return [Heading(utf8_text(repository.path), word), Table("", rows)]


def _stops(found: Sequence[Stop]) -> list[Block]:
    """What stops policies in all roots; nothing where nothing does."""
    if not found:
        return []
    rows: list[list[Text]] = []
    for stop in found:
        rows.append([stop.guard, Styled(utf8_text(stop.reason), "bad")])
        rows.append(["", stop.remedy])
    return [Heading("Attention"), Table("", rows)]


_CHECKED = {
    "verify": "verified",
    "copy": "copied to",
    "drill": "restored for a trial",
    "prune": "pruned",
}


def _evidence(found: Sequence[Evidence], now_ns: int) -> list[Block]:
    """When what is kept was examined, and what came of it."""
    rows: list[list[Text]] = []
    for it in found:
        note = it.note
        if note is None:
            text, style = f"{utf8_text(it.place)}: never", "dim"
        else:
            ago = ago_text(note.ended_ns, now_ns)
            what = "version" if it.what == "drill" else "file"
            text = f"{utf8_text(it.place)}: {ago}, {count_text(note.files, what)}"
            text += f", {size_text(note.bytes)}"
            if it.what == "prune":
                text += " waiting to be deleted"
                if note.since_ns:
                    text += f", the first until {to_iso(note.since_ns)[:16].replace('T', ' ')}"
            if it.what == "verify" and note.since_ns:
                text += f"; all of it since {ago_text(note.since_ns, now_ns)}"
            style = ""
            if note.faults:
                text += f": {count_text(note.faults, 'fault')}: {utf8_text(note.message)}"
                style = "bad"
            elif it.late:
                style = "warn"
        rows.append([_CHECKED[it.what], Styled(text, style) if style else text])
    return [Heading("Evidence"), Table("", rows)] if rows else []


def _watching(health: RootHealth | None) -> list[list[Text]]:
    if health is None:
        return [["followed", "by nobody: `lifecycle run`"]]
    watched = f"{count_text(health.watched_directories, 'folder')} watched"
    if health.polled_directories:
        watched += f", {health.polled_directories:,} polled"
    told = f"{health.mode.value} (process {health.process_id}), {watched}"
    told += f", {count_text(health.events, 'event')}"
    if health.overflows:
        told += f", {count_text(health.overflows, 'overflow')}"
    rows: list[list[Text]] = [["followed", told if health.healthy else Styled(told, "warn")]]
    for alarm in health.alarms:
        rows.append(["alarm", Styled(f"{alarm.name}: {utf8_text(alarm.text)}", "bad")])
        rows.append(["remedy", alarm.remedy])
    return rows


def _scrub(standing: Standing, now_ns: int) -> list[list[Text]]:
    """How far the round of reading everything again is; nothing where none has begun."""
    scrub = standing.scrub
    told = []
    if scrub.begun_ns:
        part = scrub.bytes / max(1, standing.totals.bytes)
        told.append(f"{min(part, 1):.0%} of a round, begun {ago_text(scrub.begun_ns, now_ns)}")
    if scrub.ended_ns:
        told.append(f"the last round ended {ago_text(scrub.ended_ns, now_ns)}")
    return [["scrub", "; ".join(told)]] if told else []


def _loops(standing: LoopsStanding, now_ns: int) -> list[Block]:
    """Nothing where `run` was never left to go on."""
    if not standing.loops:
        return []
    word = Styled("running", "good") if standing.running else Styled("not running", "warn")
    rows: list[list[Text]] = []
    for loop in standing.loops:
        took = duration_text((loop.ended_ns - loop.started_ns) / NS_PER_SECOND)
        last = f"{ago_text(loop.started_ns, now_ns)}, took {took}"
        if loop.status != "completed":
            rows.append([loop.name, Styled(f"{last}, failed: {utf8_text(loop.message)}", "bad")])
            continue
        left = (loop.due_ns - now_ns) / NS_PER_SECOND
        due = "now" if left < 1 else f"in {duration_text(left)}"
        rows.append([loop.name, f"{last}; due {due}" if standing.running else last])
    if not standing.running:
        rows.append(["remedy", "`lifecycle run` goes on with them"])
    return [Heading("Loops", word), Table("", rows)]


def _last_backup(standing: Standing, now_ns: int) -> Text:
    act = standing.last_backup
    due = f"{count_text(standing.unkept_files, 'file')} ({size_text(standing.unkept_bytes)})"
    if act is None:
        return Styled("none yet: `lifecycle backup`", "warn")
    when = ago_text(act.ended_ns or act.started_ns, now_ns)
    if standing.unkept_files:
        return f"{when}; {due} since changed"
    totals = standing.totals
    # What no policy can speak of is no reason for a warning, and not kept either.
    some = totals.ignored or totals.special or totals.failed
    return f"{when}; all that is in the registry is kept" if some else f"{when}; all is kept"


def _last(run: Run | None, now_ns: int) -> str:
    if run is None:
        return "none yet: `lifecycle sync`"
    when = ago_text(run.started_ns, now_ns)
    if run.ended_ns is None:
        return f"began {when} and is under way, or was killed"
    took = duration_text((run.ended_ns - run.started_ns) / NS_PER_SECOND)
    if run.status is not RunStatus.COMPLETED:
        return f"{when}, {run.status.value}: {utf8_text(run.error_message or 'no reason known')}"
    found = (
        (run.files_added, "added"),
        (run.files_updated, "updated"),
        (run.files_removed, "removed"),
    )
    changed = ", ".join(f"{count:,} {word}" for count, word in found if count)
    return f"{when}, took {took}: {changed or 'nothing changed'}"
