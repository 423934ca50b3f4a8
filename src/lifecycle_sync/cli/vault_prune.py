"""`lifecycle vault prune`: what no version needs is taken out of the backup vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.acting import carried_out, dry_run_option
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import on_terminal, write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text, name_text, size_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import error_fields, path_fields, to_iso, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.act_orders import How
    from lifecycle_sync.service.pruning import PruneOutcome

_SHOWN = 10


@command(
    "prune",
    notes="Which versions go is for the policies to say (`lifecycle policy show`); what is held, or"
    " suspect, stays. Packs and objects that nothing needs are condemned first: they can still be"
    " read, and are deleted by a prune after the grace. Others may write to the vault meanwhile,"
    " and whoever is cut off goes on. The archive is never pruned. Ends with 3 when something could"
    " not be read and was kept, and with 4 while the clock is in doubt.",
    examples="""
        lifecycle vault prune --dry-run
        lifecycle vault prune --yes
        lifecycle vault prune --grace 0 --yes
        lifecycle vault prune --copy /mnt/second/vault --yes
    """,
)
@dry_run_option
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="How long ago it must have been condemned what is deleted now (default: as the settings"
    " say, 7).",
)
@click.option(
    "--repack-below",
    type=click.IntRange(0, 100),
    default=50,
    show_default=True,
    metavar="PERCENT",
    help="Copy what is needed out of packs of which less than this is needed.",
)
@click.option("--allow-empty", is_flag=True, help="Also the last version, where no rule keeps it.")
@click.option(
    "--copy",
    type=click.Path(),
    metavar="DIR",
    help="Not the vault but a copy of it: delete there what was condemned.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(
    session: Session,
    *,
    dry_run: bool,
    grace: float | None,
    repack_below: int,
    allow_empty: bool,
    copy: str | None,
    yes: bool,
) -> int:
    """Take out of the backup vault what no rule keeps and no version needs."""
    from dataclasses import replace

    from lifecycle_sync.service.pruning import Pruning, prune_copy, prune_vault

    pruning = Pruning(grace_days=grace, repack_below=repack_below / 100, allow_empty=allow_empty)
    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:

        def work(how: How) -> PruneOutcome:
            if copy is not None:
                return prune_copy(engine, copy, pruning, how)
            return prune_vault(engine, pruning, how)

        if not dry_run and not yes and not _agreed(session, work(replace(how, dry_run=True))):
            return 0
        outcome = work(how)
    if session.as_json:
        write_json(_fields(outcome))
    elif outcome.exit_code or not session.quiet:
        _show(outcome)
    return outcome.exit_code


def _agreed(session: Session, ahead: PruneOutcome) -> bool:
    """Whether a person agrees to what would be done; where there is nothing, nobody is asked."""
    it = ahead.vault
    if not (ahead.versions or it.condemned or it.deleted):
        return True
    if session.as_json or not on_terminal("stdin"):
        raise UsageError(
            "cannot be brought back, so it needs to be confirmed",
            operation="prune",
            subject="what is pruned",
            remedy="add --yes; --dry-run shows what it would do",
        )
    _show(ahead)
    return click.confirm("Prune this?", default=False, err=True)


def _show(outcome: PruneOutcome) -> None:
    it, dry = outcome.vault, outcome.dry_run
    write_line(f"{name_text(outcome.path)}: {'would prune' if dry else 'pruned'}")
    rows: list[list[Text]] = [
        [
            "versions",
            f"{outcome.versions:,} of {count_text(outcome.files, 'file')}"
            f" (content of {size_text(outcome.size)})"
            if outcome.versions
            else "nothing",
        ],
        ["condemned", _files(it.condemned, it.condemned_bytes)],
    ]
    if it.emptied:
        rows.append(
            [
                "copied out",
                f"{size_text(it.copied_bytes)} from {count_text(it.emptied, 'pack')}",
            ]
        )
    rows.append(["deleted", _files(it.deleted, it.deleted_bytes)])
    if it.waiting:
        until = to_iso(it.waiting_until_ns or 0)[:16].replace("T", " ")
        rows.append(["waiting", f"{_files(it.waiting, it.waiting_bytes)}, the first until {until}"])
    if it.strays:
        rows.append(["unfinished", f"{count_text(it.strays, 'file')} that no manifest tells of"])
    if it.manifests:
        rows.append(["manifests", f"{it.manifests:,} taken away"])
    rows += [
        [Styled(guard, "warn"), f"{count_text(count, 'version')} kept: {_why(outcome, guard)}"]
        for guard, count in sorted(outcome.waits.items())
    ]
    rows += [
        [Styled("kept", "bad"), f"{name}: something in it cannot be read"]
        for name in it.unsaved[:_SHOWN]
    ]
    if it.missing:
        text = f"{count_text(it.missing, 'content')} of versions: `lifecycle verify` tells of them"
        rows.append([Styled("missing", "bad"), text])
    if it.full:
        rows.append([Styled("full", "bad"), "no room to copy out of packs: run again"])
    if not outcome.reserve:
        rows.append([Styled("no reserve", "warn"), "no room to lay by for the next prune"])
    rows += [
        [Styled("failed", "bad"), f"{name_text(root)}: {error.cause}"]
        for root, error in outcome.errors
    ]
    show([Table("", rows)])


def _why(outcome: PruneOutcome, guard: str) -> str:
    return utf8_text(outcome.why.get(guard) or "held, or another act was pending")


def _files(count: int, size: int) -> str:
    return f"{count_text(count, 'file')}, {size_text(size)}" if count else "nothing"


def _fields(outcome: PruneOutcome) -> dict[str, object]:
    it = outcome.vault
    until_ns = it.waiting_until_ns
    return {
        "verb": "prune",
        "dry_run": outcome.dry_run,
        **path_fields(outcome.path.encode("utf-8", "surrogateescape")),
        "files": outcome.files,
        "versions": outcome.versions,
        "bytes": outcome.size,
        "waits": dict(outcome.waits),
        "condemned": {"files": it.condemned, "bytes": it.condemned_bytes},
        "copied_out": {"packs": it.emptied, "bytes": it.copied_bytes},
        "deleted": {"files": it.deleted, "bytes": it.deleted_bytes},
        "waiting": {
            "files": it.waiting,
            "bytes": it.waiting_bytes,
            "until": None if until_ns is None else to_iso(until_ns),
        },
        "strays": it.strays,
        "saved": it.saved,
        "missing": it.missing,
        "unsaved": it.unsaved,
        "manifests": it.manifests,
        "full": it.full,
        "reserve": outcome.reserve,
        "failed": outcome.failed,
        "errors": [
            {**path_fields(root), "error": error_fields(error)} for root, error in outcome.errors
        ],
        "exit_code": outcome.exit_code,
    }
