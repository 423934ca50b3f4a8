"""`lifecycle vault keygen`, `recipients` and `rewrite`: who can read a vault."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.acting import carried_out, dry_run_option
from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import count_text, name_text, size_text
from lifecycle_sync.service.api import path_fields

if TYPE_CHECKING:
    from lifecycle_sync.service.vault_keys import ChangedKeys, RewriteReport, VaultKeys

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
    notes="`add` and `remove` change backup_recipients (or archive_recipients) in the settings"
    " file, and nothing else in it; a `lifecycle run` that goes on takes that up at a SIGHUP. It"
    " concerns what is written from then on: who was added does not read what is there already, and"
    " who was taken out still does, until `lifecycle vault rewrite` has written the vault anew:"
    " here at once with --rewrite DIR. KEY is a public key as `lifecycle vault keygen` shows it, or"
    " one of ssh (in quotes); for `remove` its beginning will do.",
    examples="""
        lifecycle vault recipients
        lifecycle vault recipients add age1…
        lifecycle vault recipients add 'ssh-ed25519 AAAA…' --archive
        lifecycle vault recipients remove age1… --rewrite /mnt/disk/new-vault --identity key
    """,
)
@click.argument("action", type=click.Choice(["list", "add", "remove"]), default="list")
@click.argument("key", nargs=-1)
@_archive
@click.option(
    "--rewrite",
    "place",
    type=click.Path(),
    metavar="DIR",
    help="After `add` or `remove` write the vault anew into DIR, for the keys as they are then.",
)
@dry_run_option
def recipients(
    session: Session,
    *,
    action: str,
    key: tuple[str, ...],
    archive: bool,
    place: str | None,
    dry_run: bool,
) -> int:
    """Show who can read the vault; add a KEY to it, or remove one."""
    from lifecycle_sync.service.vault_keys import add_recipients, keys_of, remove_recipients

    if action == "list":
        if key or place is not None:
            raise click.UsageError("the list takes no key and no --rewrite")
        with session.engine() as engine:
            return _show_keys(session, keys_of(engine, archive=archive))
    if not key:
        raise click.UsageError(f"{action} which key?")
    change = add_recipients if action == "add" else remove_recipients
    with session.engine() as engine:
        changed = change(engine, key, archive=archive, dry_run=dry_run)
    if not (session.as_json or session.quiet):
        # Before anything else: it is so, whatever comes of the rest.
        _say_changed(session, action, changed, dry_run=dry_run, archive=archive, place=place)
    report = None
    if place is not None:
        # With the settings as they are now.
        report = _rewritten(
            session, place, changed.keys, plain=False, archive=archive, dry_run=dry_run
        )
    code = 3 if report is not None and report.damaged else 0
    if session.as_json:
        document = {
            "verb": f"recipients {action}",
            "dry_run": dry_run,
            "settings": path_fields(os.fsencode(changed.settings)) if changed.settings else None,
            "recipients": list(changed.keys),
            "written_before": changed.before,
            "rewrite": None if report is None else _rewrite_fields(place or "", report),
            "exit_code": code,
        }
        write_json(document)
        return code
    if report is not None:
        _show_rewritten(session, place or "", report, dry_run=dry_run)
    return code


def _show_keys(session: Session, found: VaultKeys) -> int:
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
        elif it.told:
            note = "  reads what was written since it was added"
        elif found.encrypted is False:
            note = ""
        else:
            note = "  reads what is written from now on"
        write_line(f"{name_text(it.key)}{note}")
    return 0


def _say_changed(
    session: Session,
    action: str,
    changed: ChangedKeys,
    *,
    dry_run: bool,
    archive: bool,
    place: str | None,
) -> None:
    there = count_text(changed.before, "file")
    if dry_run:
        write_line(f"would be written to {count_text(len(changed.keys), 'key')}")
    elif changed.settings:
        written = count_text(len(changed.keys), "key")
        write_line(f"{name_text(changed.settings)}: from now on written to {written}")
    else:
        write_line("nothing to change: it is written to these keys already")
    if changed.before and place is None:
        option = " --archive" if archive else ""
        if action == "remove":
            session.say(
                f"What was written before ({there}) can still be read with the removed key, by"
                " whoever has it and sees the vault or a copy of it."
            )
        else:
            session.say(f"What was written before ({there}) the new key does not read.")
        session.say(f"  `lifecycle vault rewrite DIR{option}` writes it anew, for these keys alone")


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
    if plain and recipient:
        raise click.UsageError("--plain and --recipient exclude each other")
    report = _rewritten(session, dir, recipient, plain=plain, archive=archive, dry_run=dry_run)
    code = 3 if report.damaged else 0
    if session.as_json:
        write_json(
            {
                "verb": "rewrite",
                "dry_run": dry_run,
                **_rewrite_fields(dir, report),
                "exit_code": code,
            }
        )
        return code
    _show_rewritten(session, dir, report, dry_run=dry_run)
    return code


def _rewritten(
    session: Session,
    place: str,
    keys: tuple[str, ...],
    *,
    plain: bool,
    archive: bool,
    dry_run: bool,
) -> RewriteReport:
    from lifecycle_sync.service.vault_keys import rewrite as write_anew

    with session.engine() as engine, carried_out(session, dry_run=dry_run) as how:
        return write_anew(
            engine,
            place,
            keys,
            plain=plain,
            archive=archive,
            dry_run=dry_run,
            progress=how.progress,
            cancel=how.cancel,
        )


def _rewrite_fields(place: str, report: RewriteReport) -> dict[str, object]:
    return {
        **path_fields(os.fsencode(place)),
        "manifests": report.manifests,
        "files": report.files,
        "bytes": report.bytes,
        "there": report.there,
        "damaged": [{"name": name, "reason": why} for name, why in report.damaged],
    }


def _show_rewritten(session: Session, place: str, report: RewriteReport, *, dry_run: bool) -> None:
    for name, why in report.damaged:
        session.say(f"{name}: {why}")
    if not session.quiet:
        done = "would write anew" if dry_run else "wrote anew"
        text = f"{done} {count_text(report.files, 'file')}, {size_text(report.bytes)}"
        text += f", and {count_text(report.manifests, 'manifest')}"
        write_line(f"{name_text(place)}: {text}; {report.there:,} manifests there already")
