"""`lifecycle vault give-up`: a lost manifest is waited for no longer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.acting import carried_out, dry_run_option
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import on_terminal, write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text, name_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import path_fields, to_iso, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.giving_up import GivingUp, LostManifest, Neighbour


@command(
    "give-up",
    notes="Only for a manifest that `lifecycle vault prune` waits for, and that neither `lifecycle"
    " verify --heal` nor a copy brings back. It deletes nothing: what the registry knows of it is"
    " told to the vault again first, what can still be read of it, too; then it is said, for all"
    " who use the vault, that nobody waits for it. What only it told is lost: versions of other"
    " registries that write to this vault, and of this one where it was rebuilt since. If they have"
    " a registry still, give this order there first. What was given up stays in quarantine/, and is"
    " read again if it turns up whole.",
    examples="""
        lifecycle vault give-up 0000000007-3b1f….jsonl.zst --dry-run
        lifecycle vault give-up 0000000007-3b1f….jsonl.zst --yes
    """,
)
@click.argument("manifest", nargs=-1, required=True)
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def give_up(session: Session, *, manifest: tuple[str, ...], dry_run: bool, yes: bool) -> int:
    """Wait no longer for a MANIFEST of the backup vault that is lost for good."""
    from lifecycle_sync.service.giving_up import give_up_manifests

    names = list(dict.fromkeys(manifest))
    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        if not dry_run and not yes:
            if session.as_json or not on_terminal("stdin"):
                raise UsageError(
                    "cannot be taken back, so it needs to be confirmed",
                    operation="give up manifest",
                    subject=names[0],
                    remedy="add --yes; --dry-run shows what is known of it",
                )
            _show(give_up_manifests(engine, names, replace(how, dry_run=True)))
            if not click.confirm("Wait for it no longer?", default=False, err=True):
                return 0
        outcome = give_up_manifests(engine, names, how)
    if session.as_json:
        write_json(_fields(outcome))
    elif not session.quiet:
        _show(outcome)
    return 0


def _show(outcome: GivingUp) -> None:
    done = "would give up" if outcome.dry_run else "gave up"
    count = count_text(len(outcome.manifests), "manifest")
    write_line(f"{name_text(outcome.path)}: {done} {count}")
    blocks: list[Block] = [Table(it.name, _rows(outcome, it)) for it in outcome.manifests]
    retold, again = outcome.retold, "would be told again" if outcome.dry_run else "told again"
    rows: list[list[Text]] = [
        ["registry", f"{count_text(retold.versions, 'version')} that only it knows, {again}"]
    ]
    if retold.lost:
        text = f"{count_text(retold.lost, 'version')} it knows whose content the vault has not"
        rows.append([Styled("lost", "bad"), text])
    if outcome.contents:
        text = f"{count_text(outcome.contents, 'content')} that no manifest places"
        rows.append(["found", text])
    rows += [["set aside", name] for name in outcome.quarantined]
    show([*blocks, Table("What is known beside", rows)])


def _rows(outcome: GivingUp, it: LostManifest) -> list[list[Text]]:
    if it.name in outcome.taken_up:
        told: Text = "this registry has read it, and knows all versions that it told of"
    else:
        told = Styled("this registry has never read it: nobody knows what it told", "warn")
    return [
        ["why", Styled(it.cause, "bad")],
        ["before it", _neighbour(it.before)],
        ["after it", _neighbour(it.after)],
        ["known to", f"who wrote {count_text(it.followers, 'manifest')} right after it"],
        ["told", told],
    ]


def _neighbour(it: Neighbour | None) -> Text:
    if it is None:
        return Styled("none", "dim")
    at = to_iso(it.at_ns)[:19].replace("T", " ")
    return f"{at} by {utf8_text(it.writer)} ({it.name[:18]}…)"


def _fields(outcome: GivingUp) -> dict[str, object]:
    return {
        "verb": "give-up",
        "dry_run": outcome.dry_run,
        **path_fields(outcome.path.encode("utf-8", "surrogateescape")),
        "manifests": [
            {
                "name": it.name,
                "why": it.cause,
                "before": _neighbour_fields(it.before),
                "after": _neighbour_fields(it.after),
                "followers": it.followers,
                "taken_up": it.name in outcome.taken_up,
            }
            for it in outcome.manifests
        ],
        "versions_told_again": outcome.retold.versions,
        "versions_lost": outcome.retold.lost,
        "contents_found": outcome.contents,
        "quarantined": outcome.quarantined,
    }


def _neighbour_fields(it: Neighbour | None) -> dict[str, object] | None:
    if it is None:
        return None
    return {"name": it.name, "writer": it.writer, "at": to_iso(it.at_ns)}
