"""How a command is declared: with the common options, and an example in its help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lifecycle_sync.cli.session import Session

_F = TypeVar("_F", bound=Callable[..., Any])


def command(name: str, *, examples: str, notes: str = "") -> Callable[[_F], click.Command]:
    """Make a function a command of that name. It is called with the session and its parameters,
    and returns its exit code (None for 0). Its docstring is the help text."""

    def declare(function: _F) -> click.Command:
        declared = click.command(
            name,
            cls=_Command,
            epilog=_epilog(examples, notes),
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )(click.pass_obj(function))
        declared.params.extend(_common())
        return declared

    return declare


class _Command(click.Command):
    def invoke(self, ctx: click.Context) -> Any:
        from lifecycle_sync.cli.logs import shown_logs

        session = ctx.ensure_object(Session)
        session.command = ctx.info_name or ""
        with shown_logs(session.verbose):
            return super().invoke(ctx)


def common_options(group: click.Group) -> None:
    """Let the common options stand before the command's name, too."""
    group.params.extend(_common())


def directory_argument(
    name: str, *, many: bool = False, required: bool = True
) -> Callable[..., Any]:
    """Folders; whether they exist is the service's to say, with a remedy."""
    return click.argument(
        name,
        nargs=-1 if many else 1,
        required=required,
        metavar=f"{name.upper()}{'…' if many else ''}",
        type=click.Path(readable=False),
    )


def _epilog(examples: str, notes: str) -> str:
    text = "\b\nExamples:\n" + "\n".join(
        f"  {line.strip()}" for line in examples.strip().splitlines()
    )
    return f"{notes.strip()}\n\n{text}" if notes else text


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config"],
            type=click.Path(readable=False),
            metavar="FILE",
            help="Settings file (default: lifecycle.toml here, or the user's own).",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--database"],
            type=click.Path(readable=False),
            metavar="FILE",
            help="Registry to use instead of the one in the settings.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--identity"],
            type=click.Path(readable=False),
            metavar="FILE",
            help="Secret key that opens an encrypted vault or archive.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="Give JSON on standard output.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            help="Only results that were asked for, warnings and errors.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Say what is being done; twice: everything.",
            expose_value=False,
            callback=_keep,
        ),
    ]


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    session = ctx.ensure_object(Session)
    # One that is not given here must not undo one that stood before the command's name.
    if value:
        assert param.name is not None
        setattr(session, param.name, value)
