"""`lifecycle vault keygen`, `recipients` and `rewrite`: who can read a vault."""

from __future__ import annotations

import os

import click

from lifecycle_sync.cli.acting import carried_out, dry_run_option
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import count_text, name_text, size_text
from lifecycle_sync.service.api import path_fields

_archive = click.option("--archive", is_flag=True, help="The archive, not the backup vault.")


@command(
    "keygen",
    notes="Keep FILE where the vault is not, and a second copy of it elsewhere: without it nobody"
    " reads an encrypted vault again. Put the public half into backup_recipients in the settings.",
    examples="""
        lifecycle vault keygen /media/stick/vault-key
    """,
)
@click.argument("file", type=click.Path())
def keygen(session: Session, *, file: str) -> int:
    """Make a secret key in a new FILE, and show its public half."""
    from lifecycle_sync.service.vault_keys import make_key

    public = make_key(file)
    if session.as_json:
        write_json({**path_fields(os.fsencode(file)), "public_key": public})
    else:
        write_line(public)
        session.say(f"the secret half is in {name_text(file)}; keep a copy of it in another place")
    return 0


@command(
    "recipients",
    notes="Keys are added and taken out in the settings: backup_recipients and archive_recipients"
    " are written to from then on. What is there already can be read by whom it was written for,"
    " until `lifecycle vault rewrite` has written the vault anew.",
    examples="""
        lifecycle vault recipients
        lifecycle vault recipients --archive --json
    """,
)
@_archive
def recipients(session: Session, *, archive: bool) -> int:
    """Show to which keys the vault is encrypted."""
    from lifecycle_sync.service.vault_keys import keys_of

    with session.engine() as engine:
        found = keys_of(engine, archive=archive)
    if session.as_json:
        write_json(
            {
                **path_fields(os.fsencode(found.path)),
                "encrypted": found.encrypted,
                "recipients": [
                    {"key": it.key, "written": it.written, "told": it.told}
                    for it in found.recipients
                ],
            }
        )
        return 0
    state = {None: "no vault yet", True: "encrypted", False: "not encrypted"}[found.encrypted]
    session.say(f"{name_text(found.path)}: {state}")
    for it in found.recipients:
        if not it.written:
            note = "  reads what was written before it was taken out"
        elif it.told or not found.encrypted:
            note = ""
        else:
            note = "  reads what is written from now on"
        write_line(f"{name_text(it.key)}{note}")
    return 0


@command(
    "rewrite",
    notes="To encrypt a vault that is not, to take a key out for good, or (--plain) to give"
    " encryption up. The old vault is only read; one that was cut off goes on, and a second run"
    " brings what is new. When it is done and verified, set backup_path (or archive_path) and the"
    " recipients in the settings, and remove the old one. Ends with 3 when a file of the vault was"
    " damaged.",
    examples="""
        lifecycle vault rewrite /mnt/disk/new-vault --recipient age1…
        lifecycle vault rewrite /mnt/disk/new-vault --identity /media/stick/vault-key
        lifecycle vault rewrite /mnt/disk/plain --plain --identity /media/stick/vault-key
    """,
)
@click.argument("dir", type=click.Path())
@_archive
@click.option(
    "--recipient", multiple=True, metavar="KEY", help="A public key (default: the settings')."
)
@click.option("--plain", is_flag=True, help="Without encryption.")
@dry_run_option
def rewrite(
    session: Session,
    *,
    dir: str,
    archive: bool,
    recipient: tuple[str, ...],
    plain: bool,
    dry_run: bool,
) -> int:
    """Write the vault anew into another folder, encrypted to other keys or not at all."""
    from lifecycle_sync.service.vault_keys import rewrite as write_anew

    if plain and recipient:
        raise click.UsageError("--plain and --recipient exclude each other")
    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        report = write_anew(
            engine,
            dir,
            recipient,
            plain=plain,
            archive=archive,
            dry_run=dry_run,
            progress=how.progress,
            cancel=how.cancel,
        )
    code = 3 if report.damaged else 0
    if session.as_json:
        write_json(
            {
                "verb": "rewrite",
                "dry_run": dry_run,
                **path_fields(os.fsencode(dir)),
                "manifests": report.manifests,
                "files": report.files,
                "bytes": report.bytes,
                "there": report.there,
                "damaged": [{"name": name, "reason": why} for name, why in report.damaged],
                "exit_code": code,
            }
        )
        return code
    for name, why in report.damaged:
        session.say(f"{name}: {why}")
    if not session.quiet:
        done = "would write anew" if dry_run else "wrote anew"
        text = f"{done} {count_text(report.files, 'file')}, {size_text(report.bytes)}"
        text += f", and {count_text(report.manifests, 'manifest')}"
        write_line(f"{name_text(dir)}: {text}; {report.there:,} manifests there already")
    return code
