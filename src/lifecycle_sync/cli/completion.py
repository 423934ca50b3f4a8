"""`lifecycle completion`: the script by which a shell completes commands, options and paths."""

from __future__ import annotations

import os

import click

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json, write_line
from lifecycle_sync.cli.session import Session
from lifecycle_sync.errors import UsageError

_SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    examples="""
        lifecycle completion bash > ~/.local/share/bash-completion/completions/lifecycle
        source <(lifecycle completion zsh)
    """,
)
@click.argument("shell", required=False, type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, session: Session, shell: str | None) -> None:
    """Print the completion script of a shell, by default of the one in $SHELL."""
    from click.shell_completion import get_completion_class

    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    kind = get_completion_class(name) if name in _SHELLS else None
    if kind is None:
        raise UsageError(
            "is no shell that is known here" if name else "$SHELL is not set",
            operation="completion",
            subject=name,
            remedy=f"name one: {', '.join(_SHELLS)}",
        )
    group = ctx.find_root().command
    script = kind(group, {}, "lifecycle", "_LIFECYCLE_COMPLETE").source()
    if session.as_json:
        write_json({"shell": name, "script": script})
    else:
        write_line(script.rstrip())
