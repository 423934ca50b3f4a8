"""What the commands share that make passes over roots: registering, syncing, showing, stopping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lifecycle_sync.cli.output import flush, write_json, write_line
from lifecycle_sync.cli.process import cancelled_by_signals
from lifecycle_sync.cli.progress import PlainProgress, progress_for
from lifecycle_sync.cli.words import name_text
from lifecycle_sync.errors import CancelledError, UsageError
from lifecycle_sync.service.api import CancelToken, Repository

if TYPE_CHECKING:
    from lifecycle_sync.cli.session import Session
    from lifecycle_sync.service.api import Settings
    from lifecycle_sync.service.cycle import SyncReport
    from lifecycle_sync.service.engine import Engine
    from lifecycle_sync.service.outcome import PassOutcome
    from lifecycle_sync.service.roots import AddedRoot


def check_configured(settings: Settings, operation: str) -> None:
    """Before a database is made for an order that names no folder: whether the settings name any,
    and each can be a root. Raises `UsageError`."""
    from lifecycle_sync.service.orders import configured_folders, preview_roots

    if settings.database_path.exists():
        return
    folders = configured_folders(settings)
    if not folders:
        raise _no_root(operation)
    preview_roots(settings, folders)


def register_configured(session: Session, engine: Engine, operation: str) -> list[Repository]:
    """Take the folders that the settings name under management, enforced, as they promise, and
    return all there are then. Raises `UsageError` when that is none."""
    from lifecycle_sync.service.orders import configured_folders, register_roots

    for added in register_roots(engine, configured_folders(engine.settings), enforce=True):
        say_added(session, added)
    found = engine.roots.all()
    if not found:
        raise _no_root(operation)
    return found


def _no_root(operation: str) -> UsageError:
    return UsageError(
        "no folder is named, and there is no root yet",
        operation=operation,
        remedy="name one: `lifecycle run FOLDER`, or put it into `roots` in lifecycle.toml",
    )


def say_added(session: Session, added: AddedRoot) -> None:
    """Tell of a root that is new, or has something about it that a person should know."""
    if added.created or added.note:
        note = f" ({added.note})" if added.note else ""
        word = "Registered" if added.created else "Known:"
        session.say(f"{word} {name_text(added.repository.path)}{note}")


def sync_roots(
    session: Session,
    engine: Engine,
    repositories: Sequence[Repository],
    *,
    hashes: bool = True,
    scrub: bool = False,
    below: Mapping[bytes, Sequence[bytes]] | None = None,
    also: dict[str, Any] | None = None,
) -> int:
    """Pass over roots once, a line each, and return the exit code.

    `also` is added to the JSON document. Raises `CancelledError`, which tells what was done, when
    a signal came.
    """
    from lifecycle_sync.cli.summary_sheet import pass_line
    from lifecycle_sync.service.outcome import exit_code_of, outcome_fields, outcome_of

    cancel = CancelToken()
    progress = progress_for(session, cancel)
    outcomes: list[PassOutcome] = []

    def on_report(report: SyncReport) -> None:
        outcome = outcome_of(engine, report)
        outcomes.append(outcome)
        wrong = outcome.exit_code or report.verdict is not None
        if not session.as_json and (wrong or not session.quiet):
            write_line(name_text(pass_line(outcome)))
            flush()

    with cancelled_by_signals(cancel), telling_what_was_done(progress, "sync"):
        engine.sync(
            repositories,
            hashes=None if hashes else False,
            scrub=scrub,
            below=below,
            progress=progress,
            cancel=cancel,
            on_report=on_report,
        )
    code = exit_code_of(outcomes)
    if session.as_json:
        roots = [outcome_fields(outcome) for outcome in outcomes]
        write_json({**(also or {}), "roots": roots, "exit_code": code})
    return code


@contextmanager
def telling_what_was_done(progress: PlainProgress, operation: str) -> Iterator[None]:
    """Let the error of an interrupted pass say how far it came."""
    try:
        yield
    except CancelledError as error:
        phase = progress.phase
        where = f" while {progress.doing()} {progress.done()}" if phase is not None else ""
        raise CancelledError(
            f"stopped by a signal{where}",
            operation=operation,
            remedy="what was recorded stays; run again to go on from there",
        ) from error
