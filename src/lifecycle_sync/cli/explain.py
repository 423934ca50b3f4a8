"""`lifecycle explain`: what will happen to one file, when, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.plan import STYLES, at_option
from lifecycle_sync.cli.quantities import When
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Notes, Styled, Table, Text
from lifecycle_sync.cli.sheet import show as show_sheet
from lifecycle_sync.cli.words import name_text, size_text, time_text
from lifecycle_sync.service.api import below, path_fields, to_iso, to_text, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.api import Explanation


@command(
    "explain",
    examples="""
        lifecycle explain /srv/uploads/report.pdf
        lifecycle explain /srv/uploads/report.pdf --at +1y --json
    """,
)
@click.argument("file", metavar="FILE|ID", type=click.Path(readable=False))
@at_option
def explain(session: Session, file: str, at: When | None) -> None:
    """Say what will happen to a file, when, and why: every rule that was asked, and what blocks."""
    with session.engine() as engine:
        record = engine.find_record(file)
        at_ns = None if at is None else at.ns(engine.now_ns())
        found = engine.decisions.explain(record.file_id, at_ns=at_ns)
        if session.as_json:
            write_json(_explained_fields(found))
        else:
            show_sheet(_explained_sheet(found))


def _explained_sheet(found: Explanation) -> list[Block]:
    file, verdict, dates = found.file, found.verdict, found.dates
    blocks: list[Block] = [Heading(name_text(file.place), file.state.value)]
    now: list[Text] = []
    if verdict.verb is not None:
        line = f"{verdict.verb.value}, since {time_text(verdict.due_ns)}: {verdict.reason}"
        now.append(Styled(line, STYLES[verdict.verb.value]))
        if verdict.guard:
            now.append(Styled(f"but it waits: {verdict.guard}: {verdict.waits}", "warn"))
    else:
        now.append(f"nothing: {verdict.reason}")
        coming = found.coming
        if coming is not None:
            then = f"{time_text(coming.due_ns)}  {coming.verb.value}: {coming.reason}"
            now.append(f"next: {then}")
            if coming.guard:
                now.append(Styled(f"it will wait then: {coming.guard}: {coming.waits}", "warn"))
    blocks.append(Notes("Now", now))
    rows: list[list[Text]] = [
        [Styled("chosen", "good") if it.chosen else "", it.policy.name, it.why]
        for it in found.considered
    ]
    blocks.append(Table("Rules, in the order in which they are asked", rows))
    moments = [
        ("age counts from", dates.age_ns),
        ("backup", dates.backup_ns),
        ("archive", dates.archive_ns),
        ("retention ends", dates.retention_ns),
        ("delete", dates.delete_ns),
    ]
    blocks.append(
        Table(
            "Dates",
            [[name, _never(found, name) if ns is None else time_text(ns)] for name, ns in moments],
        )
    )
    if found.versions:
        rows = [
            [
                str(version.number),
                size_text(version.size),
                time_text(version.kept_ns),
                "; ".join(reasons) or Styled("no rule keeps it: marked for pruning", "warn"),
            ]
            for version, reasons in found.versions
        ]
        blocks.append(
            Table("Versions", rows, ("number", "size", "kept", "because"), frozenset({0, 1}))
        )
    if found.copies:
        rows = [
            [Styled("goes there", "good") if it.goes else "not there", utf8_text(it.place), it.why]
            for it in found.copies
        ]
        blocks.append(Table("Copies of the vault", rows))
    held: list[Text] = [
        Styled(f"held by {hold.owner}: {hold.reason or 'no reason given'}{_until(hold.ends_ns)}",
               "warn")
        for hold in found.holds
    ]  # fmt: skip
    if held:
        blocks.append(Notes("Holds", held))
    return blocks


def _never(found: Explanation, name: str) -> str:
    """What stands in the place of a date that there is not."""
    if name == "age counts from":
        return "it was never downloaded"
    kept = found.file.state.value == "backup_complete" and found.policy.backup_frequency_hours
    return "when it changes" if name == "backup" and kept else "never"


def _until(ends_ns: int | None) -> str:
    return "" if ends_ns is None else f", until {time_text(ends_ns)}"


def _explained_fields(found: Explanation) -> dict[str, Any]:
    file, verdict, dates, coming = found.file, found.verdict, found.dates, found.coming
    return {
        **path_fields(below(file.root, file.path)),
        "file_id": to_text(file.file_id),
        "state": file.state.value,
        "policy": found.policy.name,
        "verdict": {
            "verb": None if verdict.verb is None else verdict.verb.value,
            "reason": verdict.reason,
            "due": None if verdict.verb is None else to_iso(verdict.due_ns),
            "guard": verdict.guard if verdict.verb is not None else "",
            "waits": verdict.waits if verdict.verb is not None else "",
        },
        "next": None
        if coming is None
        else {
            "verb": coming.verb.value,
            "reason": coming.reason,
            "due": to_iso(coming.due_ns),
            "guard": coming.guard,
            "waits": coming.waits,
        },
        "copies": [{"place": it.place, "goes": it.goes, "why": it.why} for it in found.copies],
        "rules": [
            {"policy": it.policy.name, "chosen": it.chosen, "why": it.why}
            for it in found.considered
        ],
        "dates": {
            name.removesuffix("_ns"): None if ns is None else to_iso(ns)
            for name, ns in dates._asdict().items()
        },
        "versions": [
            {
                "version": version.number,
                "version_id": to_text(version.version_id),
                "kept_at": to_iso(version.kept_ns),
                "size": version.size,
                "kept": bool(reasons),
                "reasons": list(reasons),
                "beyond_since": None if version.beyond_ns is None else to_iso(version.beyond_ns),
            }
            for version, reasons in found.versions
        ],
        "holds": [
            {
                "hold_id": to_text(hold.hold_id),
                "reason": hold.reason,
                "owner": hold.owner,
                "ends": None if hold.ends_ns is None else to_iso(hold.ends_ns),
            }
            for hold in found.holds
        ],
    }
