"""`lifecycle cleanup` and `lifecycle temp`: temporary files, and the uploads of an application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.process import cancelled_by_signals
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Notes, Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text, name_text, size_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import CancelToken

_WHAT = ("expired", "orphans", "temp", "downloads", "emergency", "scheduled")
_REGISTRY = "registry"
_SHOWN_MAX = 20

_NOTES = """\b
What is cleaned up:
  orphans    temporary files that have lost their owner, once they are old enough;
             with --files: uploads that have no row
  temp       files of jobs that failed, or of one job that is over (--job), and
             what killed processes left
  emergency  as much as it takes to get down to the warning threshold: trash that has a
             verified copy first, orphans, files of failed jobs, the oldest
  scheduled  an emergency if there is one, orphans, and files of failed jobs
  expired    uploads whose time is over           (--files, --table, --uploads)
  downloads  rows of files that were downloaded long ago       (--files, --table)

The settings of temporary files are TEMP_STORAGE_CLEANUP_... in the environment. Files of a
live job, or of one of which nothing is known, files open for writing and what is held
(`lifecycle hold`) always stay."""


@command(
    "cleanup",
    notes=_NOTES,
    examples="""
        lifecycle cleanup orphans --folder temp --jobs sqlite:///app.db --dry-run
        lifecycle cleanup temp --job 123 --jobs postgresql://localhost/app
        lifecycle cleanup expired --files sqlite:///app.db --table files --uploads uploads
    """,
)
@click.argument("what", type=click.Choice(_WHAT))
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and why; change nothing.")
@click.option("--job", metavar="ID", help="With temp: the files of this job alone.")
@click.option(
    "--max-age", type=float, metavar="HOURS", help="With orphans: how old they have to be."
)
@click.option(
    "--folder",
    type=click.Path(readable=False),
    metavar="DIR",
    help="The folder of temporary files.",
)
@click.option(
    "--jobs",
    metavar="URL",
    envvar="LIFECYCLE_JOBS_URL",
    help="Who says which jobs are alive: a database with the table crawl_jobs, or `registry`.",
)
@click.option(
    "--files",
    metavar="URL",
    envvar="LIFECYCLE_FILES_URL",
    help="The database of the application's table of files.",
)
@click.option("--table", metavar="NAME", help="That table.")
@click.option(
    "--uploads", type=click.Path(readable=False), metavar="DIR", help="The folder of its files."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="MEANING=NAME",
    help="A column called otherwise than id, path, status, expiry_at, downloaded_at.",
)
@click.option(
    "--days",
    type=float,
    default=7,
    show_default=True,
    metavar="N",
    help="With downloads: how long ago.",
)
@click.option(
    "--confirm", is_flag=True, help="With orphans and --files: also if they are very many."
)
def cleanup(
    session: Session, what: str, dry_run: bool, confirm: bool, max_age: float | None, **given: Any
) -> int:
    """Clean up temporary files, or an application's uploads, once."""
    from lifecycle_sync.service.temp.cleanup import check_age
    from lifecycle_sync.service.temp.orders import CleanupOrder, carry_out

    check_age(max_age)
    if given["job"] is not None and what != "temp":
        raise UsageError("--job goes with temp alone", operation=f"clean up {what}")
    jobs_url = given["jobs"]
    order = CleanupOrder(
        what,
        dry_run=dry_run,
        job=given["job"],
        max_age_hours=max_age,
        folder=given["folder"],
        jobs_url=None if jobs_url == _REGISTRY else jobs_url,
        files_url=given["files"],
        table=given["table"],
        uploads=given["uploads"],
        columns=dict(map(_column, given["columns"])),
        days=given["days"],
        confirm_mass=confirm,
    )
    cancel = CancelToken()
    with cancelled_by_signals(cancel), _registry(session, jobs_url) as known:
        outcome = carry_out(replace(order, **known), cancel)
    if session.as_json:
        write_json(_fields(outcome))
    else:
        _show(session, outcome)
    return 3 if outcome.errors else 0


@contextmanager
def _registry(session: Session, asked: str | None) -> Iterator[dict[str, Any]]:
    """What a registry knows of temporary files, if there is one, for they need none: `jobs`, if it
    is the one that is asked, the holds (`held`), and the `trash` of its roots."""
    settings = session.settings()
    if asked != _REGISTRY and not settings.database_path.exists():
        yield {}
        return
    from lifecycle_sync.service.temp.holds import RegistryHolds
    from lifecycle_sync.service.temp.jobs_registry import RegistryJobs
    from lifecycle_sync.service.temp.trash_first import TrashFirst

    with session.engine(settings) as engine:
        jobs = RegistryJobs(engine.registry) if asked == _REGISTRY else None
        held = RegistryHolds(engine.registry)
        yield {"jobs": jobs, "held": held, "trash": TrashFirst(engine)}


def _column(text: str) -> tuple[str, str | None]:
    meaning, separator, name = text.partition("=")
    if not separator:
        raise UsageError(
            f"{text!r} names no column", operation="map columns", remedy="MEANING=NAME, like id=key"
        )
    return meaning, name or None


def _fields(outcome: Any) -> dict[str, Any]:
    from lifecycle_sync.service.api import path_fields

    fields = {
        "what": outcome.what,
        "dry_run": outcome.dry_run,
        "removed": 0 if outcome.dry_run else outcome.removed,
        "would_remove": outcome.removed if outcome.dry_run else 0,
        "bytes_freed": outcome.freed,
        "files": [
            {**path_fields(path.encode(errors="surrogateescape")), "size": size, "reason": why}
            for path, size, why in outcome.files
        ],
        "errors": outcome.errors,
        "notes": outcome.notes,
    }
    return fields if outcome.result is None else {**fields, "result": outcome.result}


def _show(session: Session, outcome: Any) -> None:
    rows: list[list[Text]] = [
        ["" if size is None else size_text(size), name_text(path), Styled(why, "dim")]
        for path, size, why in outcome.files[:_SHOWN_MAX]
    ]
    blocks: list[Any] = []
    if rows and not session.quiet:
        blocks.append(Table("", rows, right=frozenset({0})))
        if outcome.removed > len(rows):
            blocks.append(Notes("", [f"… and {outcome.removed - len(rows):,} more"]))
    if blocks:
        show(blocks)
    noun = "record" if outcome.what == "downloads" else "file"
    count = count_text(outcome.removed, noun)
    if outcome.dry_run:
        session.say(f"{count} would be removed; nothing was changed")
    else:
        freed = f", {size_text(outcome.freed)} freed" if outcome.freed else ""
        session.say(f"{count} removed{freed}")
    if outcome.result is not None and not outcome.dry_run:
        before, after = (outcome.result[f"storage_{when}_percent"] for when in ("before", "after"))
        session.say(f"the storage is {after:.1f} % full (before: {before:.1f} %)")
    for note in outcome.notes:
        session.say(note)
    if outcome.errors:
        # Each was logged when it came.
        session.warn(f"finished with {count_text(len(outcome.errors), 'error')}")


_TEMP_NOTES = """\b
  status            how full the storage is, what lies there, and whose it is
  start JOB         a job begins; before it makes its first file
  declare JOB FILE  these files are its own, whatever their names are
  beat JOB          it is still at work
  end JOB           it has ended, well or (--failed) not

The jobs are those of the registry, for what has no table of its own: a script, say. Clean-ups ask
for them with --jobs registry."""


@command(
    "temp",
    notes=_TEMP_NOTES,
    examples="""
        lifecycle temp status
        lifecycle temp status --folder temp --jobs registry --json
        lifecycle temp declare nightly-7 temp/dump.sql
    """,
)
@click.argument("what", type=click.Choice(["status", "start", "declare", "beat", "end"]))
@click.argument("job", required=False)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(readable=False))
@click.option("--chunk", metavar="ID", help="With declare: the files are of this chunk of the job.")
@click.option("--failed", is_flag=True, help="With end: it did not end well.")
@click.option(
    "--folder",
    type=click.Path(readable=False),
    metavar="DIR",
    help="The folder of temporary files.",
)
@click.option(
    "--jobs",
    metavar="URL",
    envvar="LIFECYCLE_JOBS_URL",
    help="Who says which jobs are alive: a database with the table crawl_jobs, or `registry`.",
)
def temp(
    session: Session,
    what: str,
    *,
    job: str | None,
    files: tuple[str, ...],
    chunk: str | None,
    failed: bool,
    folder: str | None,
    jobs: str | None,
) -> int:
    """Show where the temporary storage stands, or say which files belong to a job that lives."""
    if (job is None) != (what == "status") or bool(files) != (what == "declare"):
        raise UsageError(
            f"`temp {what}` takes {_TAKES.get(what, 'a JOB')}",
            operation="temp",
            remedy="lifecycle temp --help shows each",
        )
    if job is not None:
        return _tell_of_job(session, what, job, files, chunk=chunk, failed=failed)
    _show_status(session, folder, jobs)
    return 0


_TAKES = {"status": "neither JOB nor FILE", "declare": "a JOB and at least one FILE"}


def _tell_of_job(
    session: Session,
    what: str,
    job: str,
    files: tuple[str, ...],
    *,
    chunk: str | None,
    failed: bool,
) -> int:
    from lifecycle_sync.service.temp.jobs_registry import RegistryJobs

    with session.engine() as engine:
        jobs = RegistryJobs(engine.registry)
        known = True
        if what == "start":
            jobs.start(job)
        elif what == "declare":
            jobs.declare(job, files, chunk_id=chunk)
        elif what == "beat":
            known = jobs.beat(job)
        else:
            jobs.end(job, failed=failed)
    if session.as_json:
        write_json({"job": job, "what": what, "known": known, "files": len(files)})
    if not known:
        session.warn(f"job {job} was never started, or has ended: lifecycle temp start {job}")
    return 0 if known else 1


def _show_status(session: Session, folder: str | None, jobs: str | None) -> None:
    from lifecycle_sync.service.temp.status import temp_status

    with _registry(session, jobs) as known:
        url = None if jobs == _REGISTRY else jobs
        status = temp_status(folder, url, known.get("jobs"), known.get("held"))
    if session.as_json:
        write_json(status)
        return
    styles = {"healthy": "good", "warning": "warn", "critical": "bad"}
    stats, leases = status["stats"], status["leases"]
    alive = count_text(leases["living_processes"], "living process", "living processes")
    left = count_text(leases["dead_processes"], "dead process", "dead processes")
    rows: list[list[Text]] = [
        ["folder", status["folder"]],
        ["health", Styled(status["health"], styles[status["health"]])],
        [
            "usage",
            f"{stats['storage_usage_percent']:.1f} %"
            f" (warning from {status['warning_threshold']:g} %,"
            f" emergency from {stats['emergency_threshold']:g} %)",
        ],
        ["free", size_text(status["available_bytes"])],
        [
            "temporary files",
            f"{stats['temp_files_count']:,}, {size_text(stats['temp_files_size_bytes'])}",
        ],
        [
            "orphans",
            f"{stats['orphaned_files_count']:,}, {size_text(stats['orphaned_files_size_bytes'])}",
        ],
        ["jobs", f"{stats['active_jobs_count']:,} live, {stats['failed_jobs_count']:,} failed"],
        ["tracked", f"{leases['living_files']:,} by {alive}, {leases['dead_files']:,} by {left}"],
    ]
    show([Table("", rows)])
    if stats["cleanup_needed"]:
        session.warn("an emergency clean-up is due: lifecycle cleanup emergency")
    elif leases["dead_files"]:
        session.say("what dead processes left goes with: lifecycle cleanup temp")
