"""`lifecycle drill`: a restore for a trial."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.acting import carried_out
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text, name_text, size_text
from lifecycle_sync.service.api import below, error_fields, path_fields, repository_fields

if TYPE_CHECKING:
    from lifecycle_sync.service.drill import DrillOutcome

_SHOWN = 10


@command(
    "drill",
    notes="What it came to stands in `lifecycle status`. Ends with 1 when a version did not come"
    " back as it was kept. With the same --seed the same versions are drawn again.",
    examples="""
        lifecycle drill
        lifecycle drill /srv/photos --sample 200 --json
    """,
)
@click.argument("root", nargs=-1, type=click.Path(readable=False))
@click.option(
    "--sample",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Versions of each root (default: drill_files of the settings).",
)
@click.option("--seed", type=int, metavar="N", help="What draws the lots; shown in any case.")
def drill(session: Session, *, root: tuple[str, ...], sample: int | None, seed: int | None) -> int:
    """Restore some versions of each root to a scratch folder, and compare them.

    They are drawn by lot from vault and archive, come back the way every restore goes, and are
    compared with what was kept: bytes, size, mode, times. Nothing in the roots is touched, and the
    scratch folder beside the registry is removed.
    """
    from lifecycle_sync.service.drill import drill as carry_out

    seed = secrets.randbelow(1_000_000) if seed is None else seed
    with session.engine() as engine, carried_out(session) as how:
        roots = [engine.roots.get(name) for name in root] if root else engine.roots.all()
        outcomes = carry_out(
            engine,
            roots,
            sample=sample or engine.settings.drill_files,
            seed=seed,
            progress=how.progress,
            cancel=how.cancel,
        )
    well = all(it.ok for it in outcomes)
    if session.as_json:
        write_json({"seed": seed, "ok": well, "roots": [_fields(it) for it in outcomes]})
    else:
        for outcome in outcomes:
            if not (session.quiet and outcome.ok):
                _show(outcome)
    return 0 if well else 1


def _show(outcome: DrillOutcome) -> None:
    root = name_text(outcome.repository.path)
    if outcome.error is not None:
        remedy = f" (remedy: {outcome.error.remedy})" if outcome.error.remedy else ""
        write_line(name_text(f"{root}: FAILED: {outcome.error.cause}{remedy}"))
        return
    text = f"{root}: {count_text(outcome.versions, 'version')} came back as kept"
    write_line(f"{text}, {size_text(outcome.bytes)} (seed {outcome.seed})")
    rows: list[list[Text]] = [
        ["", Styled(f"{name_text(it.path)}, version {it.number}, {it.vault}: {it.reason}", "bad")]
        for it in outcome.failures[:_SHOWN]
    ]
    if len(outcome.failures) > _SHOWN:
        rows.append(["", Styled(f"and {len(outcome.failures) - _SHOWN:,} more", "dim")])
    if rows:
        rows.append(["", "Remedy: `lifecycle verify --all --heal`"])
        show([Table("", rows)])


def _fields(outcome: DrillOutcome) -> dict[str, Any]:
    root = outcome.repository.path
    return {
        **repository_fields(outcome.repository),
        "ok": outcome.ok,
        "versions": outcome.versions,
        "bytes": outcome.bytes,
        "metadata_missed": outcome.missed,
        "failures": [
            {
                **path_fields(below(root, it.path)),
                "version": it.number,
                "vault": it.vault,
                "reason": it.reason,
            }
            for it in outcome.failures
        ],
        "error": None if outcome.error is None else error_fields(outcome.error),
    }
