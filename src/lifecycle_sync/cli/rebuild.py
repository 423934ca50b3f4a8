"""`lifecycle rebuild`: a lost or damaged registry made anew from its roots."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.passes import telling_what_was_done
from lifecycle_sync.cli.process import cancelled_by_signals
from lifecycle_sync.cli.progress import progress_for
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Notes, Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text
from lifecycle_sync.service.api import CancelToken, path_fields, to_text, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.rebuild import RebuildReport, RebuiltRoot

_STYLE = {"scanned": "good", "offline": "warn", "held": "warn", "not taken": "warn"}


@command(
    "rebuild",
    notes="The old database is set aside beside the new one and never changed. Stopped in the"
    " middle, it goes on when it is run again.",
    examples="""
        lifecycle rebuild
        lifecycle rebuild /srv/uploads /srv/media
    """,
)
@directory_argument("dir", many=True, required=False)
@click.option("--force", is_flag=True, help="Also when the registry is whole, or is not ours.")
def rebuild(session: Session, dir: tuple[str, ...], force: bool) -> int:
    """Make a lost or damaged registry again: from DIR, the settings' roots, and what the old one
    still tells.

    Ids of roots come from their markers; ids of files and the journal from what can be read of the
    old database. Every root is scanned and hashed again.
    """
    from lifecycle_sync.service.rebuild import rebuild as make_again

    settings = session.settings()
    cancel = CancelToken()
    progress = progress_for(session, cancel)
    with cancelled_by_signals(cancel), telling_what_was_done(progress, "rebuild"):
        report = make_again(settings, dir, force=force, progress=progress, cancel=cancel)
    if session.as_json:
        write_json(_fields(report))
    elif not session.quiet:
        show(_sheet(report))
    return _exit_code(report)


def _exit_code(report: RebuildReport) -> int:
    """Finished, but not with every root or not with every file: 3."""
    whole = all(
        root.outcome == "scanned" and not (root.report and root.report.hashes.failed)
        for root in report.roots
    )
    return 0 if whole else 3


def _fields(report: RebuildReport) -> dict[str, Any]:
    return {
        "registry": path_fields(os.fsencode(report.database)),
        "registry_id": to_text(report.registry_id),
        "registry_id_from": utf8_text(report.origin),
        "records_from": utf8_text(report.source),
        "set_aside": path_fields(os.fsencode(report.set_aside)) if report.set_aside else None,
        "resumed": report.resumed,
        "roots": [
            {
                **path_fields(root.path),
                "outcome": root.outcome,
                "note": utf8_text(root.note),
                "records_kept": root.kept,
                "files": _files(root),
            }
            for root in report.roots
        ],
        "learned": [utf8_text(line) for line in report.learned],
        "lost": [utf8_text(line) for line in report.lost],
        "exit_code": _exit_code(report),
    }


def _files(root: RebuiltRoot) -> int | None:
    return None if root.report is None else root.report.counts.files


def _sheet(report: RebuildReport) -> list[Block]:
    facts: list[list[Text]] = [
        ["old one", utf8_text(report.set_aside) if report.set_aside else "there was none"],
        ["its id", f"from {utf8_text(report.origin)}"],
        ["records", f"from {utf8_text(report.source)}" if report.source else "none could be kept"],
    ]
    note = "rebuilt; went on with a rebuild that was stopped" if report.resumed else "rebuilt"
    blocks: list[Block] = [
        Heading(utf8_text(report.database), Styled(note, "good")),
        Table("", facts),
    ]
    rows: list[list[Text]] = []
    for root in report.roots:
        files = _files(root)
        rows.append(
            [
                Styled(root.outcome, _STYLE.get(root.outcome, "bad")),
                "" if files is None else count_text(files, "file"),
                f"{root.kept:,} records kept" if root.kept else "",
                utf8_text(root.path) + (f"  ({utf8_text(root.note)})" if root.note else ""),
            ]
        )
    blocks.append(Table("Roots", rows, right=frozenset({1, 2})))
    if report.learned:
        learned: list[Text] = [utf8_text(line) for line in report.learned]
        blocks.append(Notes(Styled("Learned from", "good"), learned))
    if report.lost:
        lost: list[Text] = [utf8_text(line) for line in report.lost]
        blocks.append(Notes(Styled("Lost", "warn"), lost))
    return blocks
