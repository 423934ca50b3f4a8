"""Writes docs/reference/command.md from the command's own help; a test compares the two."""

from __future__ import annotations

from pathlib import Path

import click
from click.testing import CliRunner

from lifecycle_sync.cli.app import lifecycle

TARGET = Path(__file__).parent.parent / "docs" / "reference" / "command.md"
_WIDTH = 96


def page() -> str:
    """The whole page."""
    runner = CliRunner(env={"COLUMNS": str(_WIDTH), "LANG": "C.UTF-8"})
    parts = [
        "# The command",
        "",
        "Written by `python scripts/command_reference.py` from the command's own help.",
        "",
        *_block(runner, []),
    ]
    assert isinstance(lifecycle, click.Group)
    for name in lifecycle.list_commands(click.Context(lifecycle)):
        parts += [f"## {name}", "", *_block(runner, [name])]
        group = lifecycle.get_command(click.Context(lifecycle), name)
        if isinstance(group, click.Group):
            for part in group.commands:
                parts += [f"### {name} {part}", "", *_block(runner, [name, part])]
    return "\n".join(parts).rstrip() + "\n"


def _block(runner: CliRunner, command: list[str]) -> list[str]:
    result = runner.invoke(
        lifecycle,
        [*command, "--help"],
        prog_name="lifecycle",
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
    )
    assert result.exit_code == 0, result.output
    return ["```", *result.output.rstrip().splitlines(), "```", ""]


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
