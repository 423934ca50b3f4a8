"""`lifecycle init`: a commented settings file and the registry it names."""

from __future__ import annotations

import os

import click

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import name_text
from lifecycle_sync.service.api import path_fields


@command(
    "init",
    notes="The file is found by commands that are run beside it, or with --config FILE.",
    examples="""
        lifecycle init
        lifecycle init --path /etc/lifecycle
    """,
)
@click.option(
    "--path",
    type=click.Path(readable=False),
    metavar="DIR|FILE",
    help="Where to write it, instead of the working directory.",
)
def init(session: Session, path: str | None) -> None:
    """Write a commented lifecycle.toml and make the registry that it names.

    A file that exists is never overwritten.
    """
    from lifecycle_sync.service.starter import make_registry, write_settings_file

    file = write_settings_file(path or session.config or ".")
    settings, made = make_registry(file, session.database)
    database = os.fspath(settings.database_path)
    if session.as_json:
        write_json(
            {
                "settings": path_fields(os.fsencode(file)),
                "registry": path_fields(os.fsencode(database)),
                "registry_made": made,
            }
        )
        return
    if session.quiet:
        return
    write_line(f"Wrote {name_text(os.fspath(file))}")
    write_line(f"{'Made' if made else 'Found'} the registry {name_text(database)}")
    session.say(
        "Next: put your folders into `roots` there, then `lifecycle run`;"
        " or `lifecycle run FOLDER` at once"
    )
