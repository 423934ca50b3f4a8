"""The group of all commands: found by name, imported when called; and the frame around a call."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from lifecycle_sync._version import __version__
from lifecycle_sync.cli.command import common_options
from lifecycle_sync.cli.process import abandon_output
from lifecycle_sync.cli.session import Session
from lifecycle_sync.errors import LifecycleError

# A section of the help, then name: (module, first line of its help). What stands here is all that
# `lifecycle --help` needs to know of a command.
_SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Folders": {
        "run": ("run", "Register folders, index them, and keep following them."),
        "init": ("init", "Write a settings file and make the registry."),
        "add": ("roots", "Take folders under management."),
        "accept": ("roots", "Confirm what a guard holds."),
        "remove": ("roots", "Forget a folder; its files stay."),
        "watch": ("watch", "Show what changes in roots, while it changes."),
        "sync": ("sync", "Bring the registry in step with the disk once."),
    },
    "Policies": {
        "plan": ("plan", "Show what policies would do, and why."),
        "apply": ("plan", "Do what a plan in a file says, or less."),
        "explain": ("explain", "Say what will happen to a file, when, and why."),
        "policy": ("policy", "Show, set and assign policies."),
        "enforce": ("guarding", "Let policies act in a folder, or only advise."),
        "confirm": ("guarding", "Look at what a guard holds, and let it go on."),
        "pause": ("guarding", "Stop everything that takes files away."),
        "resume": ("guarding", "Let it go on."),
        "hold": ("guarding", "Keep files whatever a policy says, or list what is held."),
        "release": ("guarding", "Release holds."),
        "audit": ("guarding", "Export who did what, when, why and where to."),
    },
    "Keeping": {
        "backup": ("keep", "Back up what changed, into the vault."),
        "restore": ("restore", "Bring files back from the vault."),
        "archive": ("keep", "Move files into the archive."),
        "recall": ("keep", "Bring archived files back."),
        "delete": ("trash", "Move files into the trash."),
        "undelete": ("trash", "Give files back out of the trash, or list it."),
        "purge": ("trash", "Unlink what lies in the trash past its grace."),
        "verify": ("verify", "Look for damage in vault and archive, and heal it."),
        "drill": ("drill", "Restore some versions for a trial, and compare them."),
        "vault": ("vault", "Copy a vault, mend it from a copy, and look after its keys."),
    },
    "Temporary files": {
        "cleanup": ("cleanup", "Clean up temporary files, or an application's uploads, once."),
        "temp": ("cleanup", "How full the temporary storage is, and what lies there."),
    },
    "Questions": {
        "status": ("status", "Where every root stands."),
        "ls": ("ls", "List a folder as the registry knows it."),
        "diff": ("past", "What became of a folder's files between two moments."),
        "find": ("find", "Search: by name, size, age, type, change; duplicates, top folders."),
        "show": ("show", "All that is known of one file."),
        "history": ("show", "What was done to one file."),
        "sql": ("sql", "Ask the registry in SQL."),
    },
    "Care": {
        "rebuild": ("rebuild", "Make a lost or damaged registry anew from the roots."),
        "doctor": ("doctor", "Examine machine, settings, roots and registry."),
        "completion": ("completion", "Print the completion script of a shell."),
    },
}
_COMMANDS = {name: entry for section in _SECTIONS.values() for name, entry in section.items()}

_EPILOG = """\b
Examples:
  lifecycle run ~/Pictures --once
  lifecycle find --larger 100M --older 1y
  lifecycle ls -R --json | jq .path

Messages and errors go to standard error, data to standard output. With --json that is one
document, or one JSON line a record (run, watch, ls, find), each with a schema_version; an error
is then one JSON line on standard error.

\b
Exit codes:
  0  done (a guard's "wait" is no failure)
  1  failed, or stopped by a signal before the end
  2  the order was wrong: an option, a path, the settings
  3  finished, but some files or folders failed, could not be read, or are damaged
  4  a guard or a hold stopped the order and nothing was done
  5  busy or offline: try again later"""


class _Commands(click.Group):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"lifecycle_sync.cli.{_COMMANDS[cmd_name][0]}")
        found = getattr(module, cmd_name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Named otherwise, because click would make exit code 1 of it.
            raise _ReaderGoneError from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], _COMMANDS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()])


class _ReaderGoneError(Exception):
    """The pipe that standard output goes to was closed: `| head` has enough."""


@click.group(
    "lifecycle",
    cls=_Commands,
    epilog=_EPILOG,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="lifecycle %(version)s")
@click.pass_context
def lifecycle(ctx: click.Context) -> None:
    """A registry of files that is in step with the folders they live in.

    Start with `lifecycle run FOLDER`: it registers the folder, indexes it, and shows what there
    is. That changes nothing in your folders, but for the marker .lifecycle/root.json in each root;
    `lifecycle backup` keeps versions of what is there.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


common_options(lifecycle)


def run_command(arguments: list[str]) -> int:
    """Run the command line and return the exit code. Whatever happens is shown, never thrown."""
    session = Session()
    try:
        code = lifecycle.main(arguments, "lifecycle", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except (_ReaderGoneError, BrokenPipeError):
        abandon_output()
        return 0
    except Exception as error:  # noqa: BLE001 - the last door; tracebacks are for those who ask
        code = _show(error, session, arguments)
        try:
            sys.stdout.flush()
        except OSError:
            abandon_output()
    return int(code or 0)


def _show(error: Exception, session: Session, arguments: list[str]) -> int:
    from lifecycle_sync.cli import failures

    if isinstance(error, LifecycleError):
        return failures.show_error(error, as_json=session.as_json)
    if isinstance(error, click.UsageError):
        # The options may not have been read yet.
        path = error.ctx.command_path if error.ctx is not None else "lifecycle"
        as_json = session.as_json or "--json" in arguments
        return failures.show_usage(error.format_message(), path, as_json=as_json)
    if isinstance(error, click.Abort):
        nothing = LifecycleError("not confirmed, so nothing was done")
        return failures.show_error(nothing, as_json=session.as_json)
    if isinstance(error, OSError) and error.strerror and not session.verbose:
        plain = LifecycleError(
            error.strerror.lower(),
            subject=os.fsdecode(error.filename) if error.filename else "",
            remedy="check the disk and its permissions; -v shows where it happened",
        )
        return failures.show_error(plain, as_json=session.as_json)
    return failures.show_unexpected(error, verbose=session.verbose > 0, as_json=session.as_json)
