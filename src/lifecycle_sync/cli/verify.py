"""`lifecycle verify`: damage in the vaults, found and healed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.acting import carried_out
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.quantities import size_bytes
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text, name_text, size_text
from lifecycle_sync.service.api import error_fields, path_fields, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.verifying import CopyOutcome, Manner, VaultOutcome

_AFFECTED_SHOWN = 10
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = _PERCENT.fullmatch(value.strip())
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise click.BadParameter(
            f"{name_text(value)!r} is no share; write 5% or 0.5%, up to 100%", ctx, param
        )
    return share


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    rate = size_bytes(ctx, param, re.sub(r"/s$", "", value.strip()))
    if not rate:
        raise click.BadParameter(f"{name_text(value)!r} is no rate; write 50MB/s", ctx, param)
    return rate


@command(
    "verify",
    notes="Ends with 1 when there is damage that was not healed. What was read the longest ago"
    " comes first, so that a second run goes on where one was cut off, and twenty samples of 5% are"
    " all of it. Copies that the settings name are examined, too; one that is away is told.",
    examples="""
        lifecycle verify
        lifecycle verify --sample 5% --rate 50MB/s
        lifecycle verify --all --heal --json
    """,
)
@click.option(
    "--structure",
    is_flag=True,
    help="That all is there, and manifests are right (the default without --heal).",
)
@click.option("--sample", metavar="SHARE", callback=_share, help="Read a share of it, such as 5%.")
@click.option(
    "--all",
    "--all-bytes",
    "all_bytes",
    is_flag=True,
    help="Read and hash every byte (the default with --heal).",
)
@click.option(
    "--contents", is_flag=True, help="Unpack every content, too, and compare it with its key."
)
@click.option("--rate", metavar="RATE", callback=_rate, help="Read no faster than, such as 50MB/s.")
@click.option(
    "--heal",
    is_flag=True,
    help="Set damaged files aside, and store anew what copies, the other vault or files that still"
    " match have of them.",
)
def verify(
    session: Session,
    *,
    structure: bool,
    sample: float | None,
    all_bytes: bool,
    contents: bool,
    rate: int | None,
    heal: bool,
) -> int:
    """Look for damage in vault, archive and their copies, and heal it.

    Without --heal nothing in the vaults is changed; each finding says what can be done. What is
    lost is forgotten, so that the next `backup --again` stores it anew. With --heal a damaged file
    is moved to quarantine/ in the vault, and never deleted.
    """
    from lifecycle_sync.service.verifying import Manner, verify_vaults

    if structure + (sample is not None) + all_bytes + contents > 1:
        raise click.UsageError("choose one of --structure, --sample, --all and --contents")
    # What is to be healed has to be found first.
    whole = all_bytes or contents or (heal and not structure and sample is None)
    share = 1.0 if whole else sample or 0.0
    manner = Manner(share, contents=contents, heal=heal, rate=rate)
    with session.engine() as engine, carried_out(session) as how:
        outcomes = verify_vaults(engine, manner, progress=how.progress, cancel=how.cancel)
    sound = all(it.ok and all(copy.ok for copy in it.copies) for it in outcomes)
    if session.as_json:
        vaults = [_fields(outcome) for outcome in outcomes]
        write_json(
            {
                "all_bytes": share == 1.0,
                "share": share,
                "contents": contents,
                "ok": sound,
                "vaults": vaults,
            }
        )
    elif not (session.quiet and sound):
        blocks: list[Block] = []
        for outcome in outcomes:
            blocks += _sheet(outcome, manner)
        show(blocks)
    return 0 if sound else 1


def _sheet(outcome: VaultOutcome, manner: Manner) -> list[Block]:
    report = outcome.report
    if outcome.error is not None:
        note: Text = Styled("cannot be used", "bad")
        rows: list[list[Text]] = [["why", outcome.error.cause], ["remedy", outcome.error.remedy]]
        return [Heading(_title(outcome), note), Table("", rows)]
    if report is None:
        return [Heading(_title(outcome), Styled("nothing is there yet", "dim"))]
    damage = outcome.damage
    left = sum(not it.healed for it in damage)
    note = Styled(count_text(left, "fault"), "bad") if left else Styled("sound", "good")
    if damage and not left:
        note = Styled(f"{count_text(len(damage), 'fault')}, healed", "good")
    how = "every byte read" if manner.share == 1.0 else "structure only: --all reads every byte"
    if 0 < manner.share < 1:
        how = f"{size_text(report.hashed_bytes)} of it read whole"
    rows = [
        ["versions", f"{report.versions:,} in {count_text(report.manifests, 'manifest')}"],
        ["looked at", f"{count_text(report.files, 'file')}, {size_text(report.bytes)} ({how})"],
    ]
    if report.condemned:
        text = f"{count_text(len(report.condemned), 'file')} that a prune is to delete"
        rows.append(["condemned", text])
    if report.unreferenced:
        text = f"{count_text(len(report.unreferenced), 'file')} that no manifest tells of (no harm)"
        rows.append(["beside", text])
    if report.quarantined:
        text = f"{count_text(len(report.quarantined), 'file')} in quarantine/ of the vault"
        rows.append(["set aside", text])
    rows += [_copy_row(copy) for copy in outcome.copies]
    blocks: list[Block] = [Heading(_title(outcome), note), Table("", rows)]
    if damage:
        found: list[list[Text]] = []
        for it in damage:
            found.append([Styled(it.problem, "bad"), f"{it.subject}: {it.detail}"])
            found.append(["", Styled("healed", "good") if it.healed else f"Remedy: {it.remedy}"])
        blocks.append(Table("Damage", found))
    blocks += _healing(outcome)
    if outcome.affected:
        shown: list[list[Text]] = [
            [f"version {it.number}", utf8_text(it.path)]
            for it in outcome.affected[:_AFFECTED_SHOWN]
        ]
        more = len(outcome.affected) - len(shown)
        if more:
            shown.append(["", Styled(f"and {more:,} more", "dim")])
        blocks.append(Table(Styled("Cannot be restored", "warn"), shown))
    return blocks


def _copy_row(copy: CopyOutcome) -> list[Text]:
    path = utf8_text(copy.path)
    if copy.error is not None:
        return ["copy", Styled(f"{path}: {copy.error.cause}", "warn")]
    check = copy.check
    if check is None:
        return ["copy", Styled(f"{path}: there is none yet: `lifecycle vault copy`", "warn")]
    text = f"{path}: {count_text(check.files, 'file')}, {size_text(check.bytes)} read"
    if check.left_out:
        text += f", {check.left_out:,} left out by policies"
    if check.behind:
        text += f", {check.behind:,} not copied yet"
    if check.damaged:
        text += f", {check.damaged[0][0]} and so on: " if len(check.damaged) > 1 else ", "
        text += f"{count_text(len(check.damaged), 'file')} damaged, {check.mended:,} of them mended"
        return ["copy", Styled(text, "good" if copy.ok else "bad")]
    return ["copy", text]


def _healing(outcome: VaultOutcome) -> list[Block]:
    report = outcome.healing
    if report is None:
        return []
    rows: list[list[Text]] = []
    for it in report.healed:
        what = f"{count_text(it.contents, 'content')} from" if it.contents else "from"
        rows.append(["", f"{it.subject}: {what} {utf8_text(it.source)}"])
    for name, count in report.untold.items():
        lost = "nobody knows how many lines" if count < 0 else count_text(count, "line")
        rows.append(["", Styled(f"manifests/{name}: {lost} of it are told by nobody", "bad")])
    for name, why in report.failed:
        rows.append(["", Styled(f"{name}: {why}", "bad")])
    return [Table("Healed", rows)] if rows else []


def _title(outcome: VaultOutcome) -> str:
    return f"{'Vault' if outcome.kind == 'backup' else 'Archive'} {utf8_text(outcome.path)}"


def _fields(outcome: VaultOutcome) -> dict[str, Any]:
    report = outcome.report
    return {
        "kind": outcome.kind,
        **path_fields(outcome.path.encode("utf-8", "surrogateescape")),
        "there": report is not None or outcome.error is not None,
        "ok": outcome.ok,
        "manifests": report.manifests if report else 0,
        "versions": report.versions if report else 0,
        "files": report.files if report else 0,
        "bytes": report.bytes if report else 0,
        "findings": [it._asdict() for it in outcome.damage],
        "affected": [{**path_fields(it.path), "version": it.number} for it in outcome.affected],
        "condemned": report.condemned if report else [],
        "unreferenced": report.unreferenced if report else [],
        "hashed": {
            "files": report.hashed if report else 0,
            "bytes": report.hashed_bytes if report else 0,
        },
        "quarantined": report.quarantined if report else [],
        "healing": _healing_fields(outcome),
        "copies": [_copy_fields(copy) for copy in outcome.copies],
        "error": None if outcome.error is None else error_fields(outcome.error),
    }


def _healing_fields(outcome: VaultOutcome) -> dict[str, Any] | None:
    report = outcome.healing
    if report is None:
        return None
    return {
        "healed": [{**it._asdict(), "source": utf8_text(it.source)} for it in report.healed],
        "quarantined": report.quarantined,
        "lost": sorted(map(str, report.lost)),
        "untold": report.untold,
        "failed": [{"name": name, "reason": why} for name, why in report.failed],
    }


def _copy_fields(copy: CopyOutcome) -> dict[str, Any]:
    check = copy.check
    return {
        **path_fields(copy.path.encode("utf-8", "surrogateescape")),
        "there": check is not None,
        "ok": copy.ok,
        "files": check.files if check else 0,
        "hashed": {"files": check.hashed, "bytes": check.bytes} if check else None,
        "behind": check.behind if check else 0,
        "left_out": check.left_out if check else 0,
        "damaged": [{"name": name, "reason": why} for name, why in check.damaged] if check else [],
        "mended": check.mended if check else 0,
        "error": None if copy.error is None else error_fields(copy.error),
    }
