"""A sheet on a terminal, laid out by rich. Imported only when there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lifecycle_sync.cli.sheet import Block, Heading, Notes, Styled, Table, Text
from lifecycle_sync.cli.words import name_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text as RichText

_STYLES = {
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "dim": "dim",
    "strong": "bold",
    "bar": "cyan",
}


def print_sheet(blocks: Sequence[Block]) -> None:
    """Print a sheet on standard output."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=False)
    for number, block in enumerate(blocks):
        if isinstance(block, Heading):
            _print_heading(console, block)
            continue
        title = _rich(block.title, "bold")
        if title:
            # A sheet ends with an empty line, so another one needs none above it.
            if number:
                console.print()
            console.print(title)
        if isinstance(block, Notes):
            _print_notes(console, block)
        else:
            _print_table(console, block)
    console.print()


def _print_heading(console: Console, block: Heading) -> None:
    from rich.rule import Rule
    from rich.text import Text as RichText

    line = RichText.assemble((name_text(block.text), "bold cyan"))
    if block.note:
        line.append("  ")
        line.append_text(_rich(block.note, "dim"))
    console.print()
    console.print(line)
    console.print(Rule(style="dim", characters="─"))


def _print_notes(console: Console, block: Notes) -> None:
    from rich.padding import Padding

    for line in block.lines:
        console.print(Padding(_rich(line), (0, 0, 0, 2)))


def _print_table(console: Console, block: Table) -> None:
    from rich.padding import Padding
    from rich.table import Table as RichTable

    columns = len(block.rows[0]) if block.rows else 0
    table = RichTable(
        box=None,
        show_header=any(block.headers),
        header_style="dim",
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for column in range(columns):
        last = column == columns - 1
        table.add_column(
            _rich(block.headers[column] if block.headers else ""),
            justify="right" if column in block.right else "left",
            # Numbers stay whole; a long path goes on in the next line rather than being cut.
            no_wrap=not last,
            overflow="fold",
        )
    for row in block.rows:
        table.add_row(*(_rich(cell) for cell in row))
    console.print(Padding(table, (0, 0, 0, 2)))


def _rich(text: Text, default: str = "") -> RichText:
    from rich.text import Text as RichText

    if isinstance(text, Styled):
        return RichText(name_text(text.text), style=_STYLES[text.style])
    return RichText(name_text(text), style=default)
