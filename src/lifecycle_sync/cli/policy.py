"""`lifecycle policy`: the rules by which files live."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.acting import dry_run_option
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.quantities import When, moment, size_bytes
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Heading, Notes, Table
from lifecycle_sync.cli.sheet import show as show_sheet
from lifecycle_sync.cli.words import name_text
from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.service.api import FileType, to_text

if TYPE_CHECKING:
    from lifecycle_sync.service.api import LifecyclePolicy

_TYPES = [file_type.value for file_type in FileType]
_AGES = ("later", "modified", "registered", "accessed", "downloaded")
_allow_empty = click.option("--allow-empty", is_flag=True, help="Let it keep no version at all.")


@click.group("policy", context_settings={"help_option_names": ["-h", "--help"]})
def policy() -> None:
    """Show, set and assign the rules by which files live.

    A file goes by the policy that was assigned to it, else by the first whose match holds, else by
    the one for its type, else by `default`.
    """


@command("list", examples="lifecycle policy list")
def list_policies(session: Session) -> None:
    """List all policies, in the order in which they are asked."""
    from lifecycle_sync.service.policy_words import for_whom, policy_fields, rules_of

    with session.engine() as engine:
        known = engine.statements.policies()
    if session.as_json:
        write_json({"policies": [policy_fields(it) for it in known]})
        return
    rows = [[it.name, for_whom(it), "; ".join(rules_of(it))] for it in known]
    show_sheet([Table("", rows, ("policy", "for", "what it does"))])


@command("show", examples="lifecycle policy show documents")
@click.argument("name")
def show(session: Session, name: str) -> None:
    """Show one policy whole."""
    from lifecycle_sync.service.policy_words import for_whom, policy_fields, rules_of

    with session.engine() as engine:
        found = engine.statements.policy(name)
    if session.as_json:
        write_json(policy_fields(found))
        return
    rows = [[key, _shown(value)] for key, value in policy_fields(found).items() if key != "name"]
    show_sheet(
        [Heading(found.name, for_whom(found)), Notes("", rules_of(found)), Table("Fields", rows)]
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(it)}" for key, it in value.items() if it) or "none"
    if isinstance(value, list):
        return ", ".join(str(getattr(it, "value", it)) for it in value) or "none"
    return (
        {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    )


@command(
    "set",
    notes="What is not named stays as it is; a new policy begins with the rules of `default`.",
    examples="""
        lifecycle policy set quick --delete-after-days 30 --auto-delete --path '*/incoming/*'
        lifecycle policy set documents --archive-after-days 180
    """,
)
@click.argument("name")
@click.option("--type", "file_types", multiple=True, type=click.Choice(_TYPES))
@click.option("--retention-days", type=int)
@click.option("--archive-after-days", type=int)
@click.option("--delete-after-days", type=int)
@click.option("--backup-frequency-hours", type=int)
@click.option("--auto-archive/--no-auto-archive", default=None)
@click.option("--auto-delete/--no-auto-delete", default=None)
@click.option("--versioning/--no-versioning", "versioning_enabled", default=None)
@click.option("--max-versions", type=int)
@click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Only files there.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No file there.")
@click.option("--min-size", callback=size_bytes, metavar="SIZE")
@click.option("--max-size", callback=size_bytes, metavar="SIZE")
@click.option("--owner", "owners", multiple=True, type=int, metavar="UID")
@click.option("--older-than-days", type=int)
@click.option("--age-from", type=click.Choice(_AGES), help="Since when age counts.")
@click.option("--keep-last", type=int)
@click.option("--keep-hourly", type=int)
@click.option("--keep-daily", type=int)
@click.option("--keep-weekly", type=int)
@click.option("--keep-monthly", type=int)
@click.option("--keep-yearly", type=int)
@click.option("--grace-days", type=int, help="How long what was deleted lies in the trash.")
@click.option("--verified-copies", type=int, help="Places that must hold a file before it goes.")
@click.option("--verified-within-days", type=int, help="How long ago each was verified at most.")
@click.option(
    "--verified-place", "verified_places", multiple=True, metavar="DIR", help="One that must be."
)
@click.option(
    "--copy", "copies", multiple=True, metavar="DIR", help="A copy it goes to; to no other then."
)
@click.option("--no-copies", is_flag=True, help="It goes to no copy.")
@click.option("--all-copies", is_flag=True, help="It goes to all copies (as from the start).")
@_allow_empty
@dry_run_option
def set_policy(
    session: Session,
    name: str,
    *,
    no_copies: bool,
    all_copies: bool,
    allow_empty: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Make a policy, or change what is named of one."""
    from lifecycle_sync.service.policy_words import changed

    if bool(given["copies"]) + no_copies + all_copies > 1:
        raise click.UsageError("choose one of --copy, --no-copies and --all-copies")

    with session.engine(create=True) as engine:
        try:
            before = engine.statements.policy(name)
        except NotFoundError:
            before = engine.statements.new_policy(name)
        after = changed(before, **given)
        if no_copies or all_copies:
            after = replace(after, copies=[] if no_copies else None)
        engine.statements.check_policy(after, allow_empty=allow_empty)
        if not dry_run:
            engine.statements.put_policy(after, allow_empty=allow_empty)
    _show_put(session, [after], dry_run=dry_run)


@command(
    "load",
    notes="The file has one policy as a JSON object, with the documented keys, or a list of them.",
    examples="lifecycle policy load policies.json --dry-run",
)
@click.argument("file", type=click.Path(readable=False))
@_allow_empty
@dry_run_option
def load(session: Session, file: str, allow_empty: bool, dry_run: bool) -> None:
    """Make or replace policies from a file. Nothing is taken of one with a fault in it."""
    from lifecycle_sync.service.policy_words import read_policies

    found = read_policies(file, allow_empty=allow_empty)
    if not dry_run:
        with session.engine(create=True) as engine:
            for it in found:
                engine.statements.put_policy(it, allow_empty=allow_empty)
    _show_put(session, found, dry_run=dry_run)


def _show_put(session: Session, put: list[LifecyclePolicy], *, dry_run: bool) -> None:
    from lifecycle_sync.service.policy_words import policy_fields, rules_of

    if session.as_json:
        write_json({"dry_run": dry_run, "policies": [policy_fields(it) for it in put]})
        return
    for it in put:
        write_line(name_text(f"{it.name}: {'would be ' if dry_run else ''}set"))
        for line in rules_of(it):
            write_line(name_text(f"  {line}"))
    session.say("`lifecycle plan` shows what follows from it")


@command("remove", examples="lifecycle policy remove quick")
@click.argument("name")
@dry_run_option
def remove(session: Session, name: str, dry_run: bool) -> None:
    """Remove a policy. The files that it was assigned to go by the rules again."""
    with session.engine() as engine:
        engine.statements.policy(name)
        if not dry_run:
            engine.statements.remove_policy(name)
    if session.as_json:
        write_json({"dry_run": dry_run, "removed": name})
    else:
        write_line(name_text(f"{name}: {'would be ' if dry_run else ''}removed"))


@command(
    "assign",
    examples="""
        lifecycle policy assign media /srv/uploads/logo.txt
        lifecycle policy assign --none /srv/uploads/logo.txt
    """,
)
@click.argument("name", required=False)
@click.argument("file", nargs=-1, metavar="FILE|ID…", type=click.Path(readable=False))
@click.option("--none", is_flag=True, help="Leave the choice to the rules again.")
@dry_run_option
def assign(
    session: Session, name: str | None, file: tuple[str, ...], none: bool, dry_run: bool
) -> None:
    """Choose a policy for files by name."""
    files = (*((name,) if none and name else ()), *file)
    chosen = None if none else name
    if not files or (chosen is None and not none):
        raise click.UsageError("name a policy and the files that go by it")
    with session.engine() as engine:
        if chosen is not None:
            engine.statements.policy(chosen)
        records = [engine.find_record(it) for it in files]
        if not dry_run:
            for record in records:
                engine.statements.assign(record.file_id, chosen)
            engine.decisions.settle()
    if session.as_json:
        ids = [to_text(record.file_id) for record in records]
        write_json({"dry_run": dry_run, "policy": chosen, "file_ids": ids})
        return
    verb = "would go" if dry_run else "goes" if len(records) == 1 else "go"
    by = f"by {chosen}" if chosen else "by the rules"
    for it in files:
        write_line(name_text(f"{it}: {verb} {by}"))


@command(
    "downloaded",
    notes="With age_from = downloaded the age of a file counts from the last time.",
    examples="""
        lifecycle policy downloaded /srv/exports/report.pdf
        lifecycle policy downloaded /srv/exports/report.pdf --at 2026-03-01
    """,
)
@click.argument(
    "file", nargs=-1, required=True, metavar="FILE|ID…", type=click.Path(readable=False)
)
@click.option(
    "--at", callback=moment, metavar="WHEN", help="At that date, not now; or 3d (3 days ago)."
)
@dry_run_option
def downloaded(session: Session, file: tuple[str, ...], at: When | None, dry_run: bool) -> None:
    """Note that files were downloaded from the application that has them."""
    with session.engine() as engine:
        at_ns = None if at is None else at.ns(engine.now_ns())
        records = [engine.find_record(it) for it in file]
        if not dry_run:
            for record in records:
                engine.note_download(to_text(record.file_id), at_ns)
            engine.decisions.settle()
    if session.as_json:
        write_json({"dry_run": dry_run, "file_ids": [to_text(it.file_id) for it in records]})
        return
    for it in file:
        write_line(name_text(f"{it}: {'would be ' if dry_run else ''}noted"))


for _command in (list_policies, show, set_policy, load, remove, assign, downloaded):
    policy.add_command(_command)
