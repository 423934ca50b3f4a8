"""What the commands share that change files: their options, and how it is shown what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.output import on_terminal, write_json, write_line
from lifecycle_sync.cli.passes import telling_what_was_done
from lifecycle_sync.cli.process import cancelled_by_signals
from lifecycle_sync.cli.progress import SilentProgress, progress_for
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text, duration_text, name_text, size_text
from lifecycle_sync.service.api import (
    CancelToken,
    below,
    error_fields,
    path_fields,
    repository_fields,
    to_text,
    utf8_text,
)

if TYPE_CHECKING:
    from lifecycle_sync.errors import LifecycleError
    from lifecycle_sync.service.act_orders import How, RootOutcome
    from lifecycle_sync.service.engine import Engine

_SHOWN = 10
# As it was done, and as it would be.
_DONE = {
    "backup": ("backed up", "would back up"),
    "archive": ("archived", "would archive"),
    "recall": ("recalled", "would recall"),
    "delete": ("moved to the trash:", "would move to the trash:"),
    "undelete": ("gave back", "would give back"),
    "restore": ("restored", "would restore"),
    "purge": ("purged", "would purge"),
    "prune": ("pruned versions of", "would prune versions of"),
    "expire": ("past their retention:", "would be past their retention:"),
    "conflict": ("resolved conflicts:", "would resolve conflicts:"),
    "apply": ("done:", "would do:"),
}

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, change nothing."
)
reason_option = click.option(
    "--reason", default="", metavar="TEXT", help="Why: it stands in the journal."
)


def paths_argument(*, required: bool = True) -> Callable[..., Any]:
    """Files, folders, roots or ids; whether they exist is the service's to say."""
    return click.argument(
        "path", nargs=-1, required=required, metavar="PATH…", type=click.Path(readable=False)
    )


@contextmanager
def carried_out(session: Session, *, dry_run: bool = False, reason: str = "") -> Iterator[How]:
    """How an order is carried out for whoever gave it: with progress, and a clean end by ^C."""
    from lifecycle_sync.service.act_orders import How

    cancel = CancelToken()
    # Elsewhere than on a terminal the result alone says enough.
    progress = progress_for(session, cancel) if on_terminal("stderr") else SilentProgress(session)
    with cancelled_by_signals(cancel), telling_what_was_done(progress, session.command):
        yield How(dry_run=dry_run, reason=reason, progress=progress, cancel=cancel)


def show_outcomes(
    session: Session,
    verb: str,
    outcomes: Sequence[RootOutcome],
    *,
    dry_run: bool,
    copies: LifecycleError | None = None,
) -> int:
    """Show what an order came to, and return its exit code. `copies`: why some copies of the vault
    that it wrote to could not be brought up to date; it is told, and no failure of the order."""
    from lifecycle_sync.service.act_orders import exit_code_of

    code = exit_code_of(outcomes)
    if session.as_json:
        roots = [outcome_fields(outcome) for outcome in outcomes]
        fields = {"verb": verb, "dry_run": dry_run, "roots": roots, "exit_code": code}
        if copies is not None:
            fields["copies_error"] = error_fields(copies)
        write_json(fields)
        return code
    for outcome in outcomes:
        if outcome.exit_code or outcome.remarks or not session.quiet:
            _show(outcome)
    if copies is not None:
        session.warn(str(copies))
    return code


def copies_updated(engine: Engine, how: How, *, archive: bool = False) -> LifecycleError | None:
    """Bring the copies of a vault that was written to up to date, as `run` does, and give back what
    stands against it, for `show_outcomes`."""
    settings = engine.settings
    if how.dry_run or not (settings.archive_copies if archive else settings.backup_copies):
        return None
    from lifecycle_sync.service.named_copies import update_copies

    return update_copies(engine, how.cancel, archive=archive, progress=how.progress)


# -- for people ----------------------------------------------------------------------------


def _show(outcome: RootOutcome) -> None:
    root = name_text(outcome.repository.path)
    if outcome.error is not None:
        remedy = f" (remedy: {outcome.error.remedy})" if outcome.error.remedy else ""
        write_line(name_text(f"{root}: FAILED: {outcome.error.cause}{remedy}"))
        return
    write_line(f"{root}: {_line(outcome)}")
    rows: list[list[Text]] = []
    if outcome.dry_run:
        rows += _names(outcome)
    rows += _left(outcome)
    rows += [["", Styled(utf8_text(note), "warn")] for note in outcome.remarks]
    failure = outcome.failure
    if failure is not None and failure.remedy:
        rows.append(["", f"Remedy: {failure.remedy}"])
    if rows:
        show([Table("", rows)])


def outcome_lines(outcome: RootOutcome) -> list[Text]:
    """What an order came to in one root, in lines: what was done, and what was left and why."""
    root = name_text(outcome.repository.path)
    lines: list[Text] = []
    report = outcome.report
    for verb, count in sorted(report.by_verb.items()):
        lines.append(f"{root}: {_DONE[verb][0]} {count_text(count, 'file')}")
    lines += [
        Styled(f"{root}: {' '.join(str(getattr(it, 'text', it)) for it in row)}", "warn")
        for row in _left(outcome)
    ]
    if outcome.error is not None:
        lines.append(Styled(f"{root}: stopped: {outcome.error.cause}", "bad"))
    return lines


def _line(outcome: RootOutcome) -> str:
    report = outcome.report
    done, would = _DONE[report.verb]
    count = report.completed - report.unchanged
    parts = []
    if count or not (report.unchanged or report.skipped or report.failed):
        size = f", {size_text(report.size)}" if count else ""
        files = count_text(count, "file") if count else "nothing"
        where = f", below {name_text(outcome.place)}" if outcome.place else ""
        took = "" if outcome.dry_run or not count else f" in {duration_text(report.seconds)}"
        parts.append(f"{would if outcome.dry_run else done} {files}{size}{where}{took}")
    if report.unchanged:
        parts.append(f"{report.unchanged:,} unchanged")
    if report.spared:
        parts.append(f"{report.spared:,} {_spared(outcome)}")
    if undone := report.skipped - report.spared:
        parts.append(f"{undone:,} left as {'it is' if undone == 1 else 'they are'}")
    if report.failed:
        parts.append(f"{report.failed:,} FAILED")
    if report.recovered:
        parts.append(f"{count_text(report.recovered, 'interrupted act')} settled")
    return "; ".join(parts)


def _spared(outcome: RootOutcome) -> str:
    """Why files needed nothing to be done."""
    words = {outcome.spared_words(it.reason) for it in outcome.report.done} - {""}
    return words.pop() if len(words) == 1 else "as wanted already"


def _names(outcome: RootOutcome) -> list[list[Text]]:
    sample = [it for it in outcome.report.sample if not it.reason]
    rows: list[list[Text]] = [[size_text(it.size), utf8_text(it.path)] for it in sample[:_SHOWN]]
    left = outcome.report.completed - outcome.report.unchanged - len(rows)
    if left > 0 and rows:
        rows.append(["", Styled(f"and {left:,} more", "dim")])
    return rows


def _left(outcome: RootOutcome) -> list[list[Text]]:
    report = outcome.report
    # What failed first; what needs nothing to be done is only counted.
    told = [it for it in report.done if not outcome.spared_words(it.reason)]
    ordered = sorted(told, key=lambda it: it.status != "failed")
    rows: list[list[Text]] = [
        [
            Styled("failed", "bad") if it.status == "failed" else Styled("left", "warn"),
            f"{utf8_text(it.path)}: {utf8_text(it.reason)}",
        ]
        for it in ordered[:_SHOWN]
    ]
    more = report.skipped - report.spared + report.failed - len(rows)
    if more > 0 and rows:
        rows.append(["", Styled(f"and {more:,} more", "dim")])
    return rows


# -- for programs --------------------------------------------------------------------------


def outcome_fields(outcome: RootOutcome) -> dict[str, Any]:
    """What an order came to in one root, as JSON."""
    report, root = outcome.report, outcome.repository.path
    files = [*report.sample, *report.done]
    return {
        **repository_fields(outcome.repository),
        "completed": report.completed,
        "unchanged": report.unchanged,
        "skipped": report.skipped,
        "failed": report.failed,
        "bytes": report.size,
        "seconds": round(report.seconds, 3),
        "recovered": report.recovered,
        "files": [
            {
                **path_fields(below(root, it.path)),
                "file_id": to_text(it.file_id) if it.file_id else None,
                "status": it.status,
                "reason": utf8_text(it.reason),
                "size": it.size,
            }
            for it in files
        ],
        "files_not_named": report.completed + report.skipped + report.failed - len(files),
        "to": None if not outcome.place else path_fields(outcome.place),
        "notes": list(outcome.remarks),
        "from_copies": dict(report.from_copies),
        "error": None if outcome.failure is None else error_fields(outcome.failure),
        "exit_code": outcome.exit_code,
    }
