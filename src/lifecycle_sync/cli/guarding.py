"""`lifecycle enforce`, `confirm`, `pause`, `hold` and their like: what may happen to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.acting import dry_run_option, reason_option
from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.quantities import When, moment
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Styled, Table, Text
from lifecycle_sync.cli.sheet import show as show_sheet
from lifecycle_sync.cli.words import count_text, name_text, time_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import path_fields, repository_fields, to_iso, to_text, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.api import Hold
    from lifecycle_sync.service.guarding import Waiting

_owner_option = click.option("--owner", metavar="NAME", help="Who says so (default: you).")


@command(
    "enforce",
    examples="""
        lifecycle enforce /srv/uploads
        lifecycle enforce /srv/uploads --advise
    """,
)
@directory_argument("dir", many=True)
@click.option("--advise", is_flag=True, help="The contrary: policies only advise from now on.")
@dry_run_option
def enforce(session: Session, dir: tuple[str, ...], advise: bool, dry_run: bool) -> None:
    """Let policies archive and delete in folders under management. It is remembered."""
    from lifecycle_sync.service.guarding import set_enforcement

    with session.engine() as engine:
        roots = [engine.roots.get(name) for name in dir]
        if not dry_run:
            roots = [set_enforcement(engine, root, enforce=not advise) for root in roots]
    if session.as_json:
        write_json({"dry_run": dry_run, "roots": [repository_fields(root) for root in roots]})
        return
    would = "would " if dry_run else ""
    for root in roots:
        mode = f"policies {would}only advise" if advise else f"policies {would}act on it"
        write_line(f"{name_text(root.path)}: {mode}")
    if not advise:
        session.say("`lifecycle plan` shows what they do")


# -- confirmations -------------------------------------------------------------------------


@command(
    "confirm",
    notes="A confirmed mass holds for a day and for as many deletions as were shown; one more waits"
    " again.",
    examples="""
        lifecycle confirm /srv/uploads
        lifecycle confirm --guard clock
    """,
)
@directory_argument("dir", many=True, required=False)
@click.option(
    "--guard", type=click.Choice(["mass", "clock"]), default="mass", help="Which (default: mass)."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
def confirm(session: Session, dir: tuple[str, ...], guard: str, yes: bool, dry_run: bool) -> None:
    """Look at what a guard holds, with its evidence, and let it go on."""
    from lifecycle_sync.service.guarding import confirm_waiting, waiting

    with session.engine() as engine:
        if guard == "clock":
            reason = engine.clock_doubt.reason()
            if reason and not dry_run:
                _ask(session, f"{reason}. Is the date right?", yes=yes)
                engine.clock_doubt.trust()
            _say_clock(session, reason, dry_run=dry_run)
            return
        roots = [engine.roots.get(name) for name in dir] or None
        held = waiting(engine, roots)
        if session.as_json:
            if not dry_run:
                _ask(session, "confirm", yes=yes or not held)
                for it in held:
                    confirm_waiting(engine, it)
            write_json({"dry_run": dry_run, "confirmed": [_waiting_fields(it) for it in held]})
            return
        if not held:
            write_line("Nothing waits for a confirmation")
            return
        for it in held:
            _show_waiting(it)
            if not dry_run:
                _ask(session, "Delete them?", yes=yes)
                confirm_waiting(engine, it)
                write_line("Confirmed: the next run does it, or `lifecycle run --once`")


def _ask(session: Session, question: str, *, yes: bool) -> None:
    if yes:
        return
    if session.as_json or not sys.stdin.isatty():
        raise UsageError(
            "needs to be confirmed",
            operation="confirm",
            remedy="look at --dry-run, then add --yes",
        )
    click.confirm(question, abort=True, err=True)


def _say_clock(session: Session, reason: str, *, dry_run: bool) -> None:
    if session.as_json:
        write_json({"dry_run": dry_run, "guard": "clock", "reason": reason})
    elif not reason:
        write_line("The clock is not in doubt")
    else:
        write_line(reason if dry_run else "Confirmed: the date is right")


def _show_waiting(held: Waiting) -> None:
    write_line(f"{name_text(held.repository.path)}: {held.reason}")
    rows: list[list[Text]] = [["", utf8_text(path)] for path in held.sample]
    left = held.deletions - len(rows)
    if left > 0:
        rows.append(["", Styled(f"and {left:,} more; `lifecycle plan --all` shows them", "dim")])
    show_sheet([Table("", rows)])


def _waiting_fields(held: Waiting) -> dict[str, Any]:
    return {
        **repository_fields(held.repository),
        "guard": "mass",
        "reason": held.reason,
        "deletions": held.deletions,
        "sample": [path_fields(path) for path in held.sample],
    }


# -- pause ---------------------------------------------------------------------------------


@command("pause", examples="lifecycle pause --reason 'moving to the new disk'")
@reason_option
@_owner_option
def pause(session: Session, reason: str, owner: str | None) -> None:
    """Stop everything that takes files away, in every process, from its next batch on."""
    with session.engine() as engine:
        switch = engine.statements.pause(reason, owner)
    if session.as_json:
        write_json({"paused": True, "reason": switch.reason, "owner": switch.owner})
    else:
        write_line(
            "Paused: nothing is archived, deleted, purged or pruned until `lifecycle resume`"
        )


@command("resume", examples="lifecycle resume")
def resume(session: Session) -> None:
    """Let go on what `pause` stopped."""
    with session.engine() as engine:
        was = engine.statements.resume()
    if session.as_json:
        write_json({"paused": False, "was_paused": was})
    else:
        write_line("It goes on" if was else "It was not paused")


# -- holds ---------------------------------------------------------------------------------


@command(
    "hold",
    notes="PATH is a file, a folder with all below it, a pattern (quoted), or an id. Without PATH"
    " the holds are listed.",
    examples="""
        lifecycle hold /srv/uploads/contract.pdf --reason 'case 4711'
        lifecycle hold '/srv/uploads/*.raw' --until 2027-01-31
        lifecycle hold
    """,
)
@click.argument("path", nargs=-1, metavar="[PATH…]", type=click.Path(readable=False))
@reason_option
@_owner_option
@click.option("--until", callback=moment, metavar="WHEN", help="A date, or +30d.")
def hold(
    session: Session, path: tuple[str, ...], reason: str, owner: str | None, until: When | None
) -> None:
    """Keep files from everything that would take them away, whatever a policy or an order says."""
    from lifecycle_sync.service.guarding import hold_named, holds_nothing

    with session.engine() as engine:
        if not path:
            _list_holds(session, engine.registry.holds(now_ns=engine.now_ns()))
            return
        ends_ns = None if until is None else until.ns(engine.now_ns())
        made = [hold_named(engine, it, reason=reason, owner=owner, ends_ns=ends_ns) for it in path]
        for it in made:
            if holds_nothing(engine, it):
                session.warn(
                    f"lifecycle: {name_text(it.query or '')}: there is nothing by that name now;"
                    " what comes there is held"
                )
        if session.as_json:
            write_json({"holds": [_hold_fields(it) for it in made]})
            return
        for name in path:
            end = "" if ends_ns is None else f" until {time_text(ends_ns)}"
            write_line(f"{name_text(name)}: held{end}")


def _list_holds(session: Session, holds: Sequence[Hold]) -> None:
    if session.as_json:
        write_json({"holds": [_hold_fields(it) for it in holds]})
        return
    rows: list[list[Text]] = [
        [
            to_text(it.hold_id),
            it.owner,
            time_text(it.created_ns),
            "for ever" if it.ends_ns is None else time_text(it.ends_ns),
            it.reason,
            it.query if it.query is not None else to_text(it.file_id or b""),
        ]
        for it in holds
    ]
    if rows:
        headers = ("hold", "owner", "since", "until", "reason", "what")
        show_sheet([Table("", rows, headers)])
    else:
        write_line("Nothing is held")


def _hold_fields(it: Hold) -> dict[str, Any]:
    return {
        "hold_id": to_text(it.hold_id),
        "file_id": None if it.file_id is None else to_text(it.file_id),
        "query": it.query,
        "reason": it.reason,
        "owner": it.owner,
        "created": to_iso(it.created_ns),
        "ends": None if it.ends_ns is None else to_iso(it.ends_ns),
    }


@command(
    "release",
    notes="NAME is what was held (a path, a pattern, an id), or the id of a hold.",
    examples="lifecycle release /srv/uploads/contract.pdf",
)
@click.argument("name", nargs=-1, required=True, type=click.Path(readable=False))
@dry_run_option
def release(session: Session, name: tuple[str, ...], dry_run: bool) -> None:
    """Release holds. One that was set on a folder is not released for a single file in it."""
    from lifecycle_sync.service.guarding import holds_named

    with session.engine() as engine:
        found = [it for each in name for it in holds_named(engine, each)]
        if not dry_run:
            for it in found:
                engine.statements.release(it)
    if session.as_json:
        write_json({"dry_run": dry_run, "released": [_hold_fields(it) for it in found]})
    else:
        would = "would be " if dry_run else ""
        write_line(f"{count_text(len(found), 'hold')} {would}released")


# -- audit ---------------------------------------------------------------------------------


@command(
    "audit",
    notes="One JSON line an act, whether --json is given or not: who or which rule, what, when,"
    " why, and where the bytes went.",
    examples="""
        lifecycle audit > audit.jsonl
        lifecycle audit --type delete --since 30d | jq -r .path
    """,
)
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(
        ["backup", "archive", "expire", "delete", "purge", "prune", "undelete", "recall", "restore"]
    ),
    help="Only these (default: all that was ever done).",
)
@click.option("--since", callback=moment, metavar="WHEN", help="Only what was done since then.")
def audit(session: Session, types: tuple[str, ...], since: When | None) -> None:
    """Export the journal: for every deletion exactly one entry that was completed."""
    from lifecycle_sync.service.guarding import audit_trail

    with session.engine() as engine:
        since_ns = None if since is None else since.ns(engine.now_ns())
        for row in audit_trail(engine, types=types, since_ns=since_ns):
            write_json(
                {
                    "item": "act",
                    "operation_id": to_text(row.operation.operation_id),
                    "file_id": to_text(row.operation.file_id),
                    **(path_fields(row.path) if row.path else {"path": None}),
                    "type": row.operation.operation_type,
                    "status": row.operation.status,
                    "begun": to_iso(row.operation.timestamp_ns),
                    "finished": None
                    if row.operation.finished_ns is None
                    else to_iso(row.operation.finished_ns),
                    "details": json.loads(row.operation.details or "{}"),
                }
            )
