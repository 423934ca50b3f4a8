"""A page of findings, laid out twice: in colour for a terminal, plain and aligned for a pipe.

A sheet is a list of blocks. Whoever makes one need not care what a name contains: every text is
made fit to be shown when it is laid out, and nothing in it is taken for markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lifecycle_sync.cli.output import on_terminal, write_line
from lifecycle_sync.cli.words import name_text


@dataclass(frozen=True, slots=True)
class Styled:
    """A text with what it means: "good", "warn", "bad", "dim", "strong" or "bar"."""

    text: str
    style: str


Text = str | Styled


@dataclass(frozen=True, slots=True)
class Heading:
    """What the blocks below are about, and a short word on it."""

    text: str
    note: Text = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title. Columns in `right` are numbers; the last column may be long."""

    title: Text
    rows: Sequence[Sequence[Text]]
    headers: Sequence[str] = ()
    right: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Notes:
    """Lines under a title; without one they stand by themselves."""

    title: Text
    lines: Sequence[Text]


Block = Heading | Table | Notes


def show(blocks: Sequence[Block]) -> None:
    """Lay a sheet out on standard output."""
    if on_terminal():
        from lifecycle_sync.cli.rich_sheet import print_sheet

        print_sheet(blocks)
    else:
        for line in plain_lines(blocks):
            write_line(line)


def plain_lines(blocks: Sequence[Block]) -> list[str]:
    """The sheet as lines of plain text, columns aligned."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            lines += [""] if lines else []
            note = text_of(block.note)
            lines.append(name_text(block.text) + (f"  ({note})" if note else ""))
            continue
        title = text_of(block.title)
        if title:
            lines += ["", f"  {title}"]
        margin = "    " if title else "  "
        if isinstance(block, Notes):
            lines += [margin + text_of(line) for line in block.lines]
        else:
            lines += [(margin + line).rstrip() for line in _aligned(block)]
    return lines


def text_of(text: Text) -> str:
    """The text alone, fit to be shown."""
    return name_text(text.text if isinstance(text, Styled) else text)


def _aligned(table: Table) -> list[str]:
    rows = [[text_of(cell) for cell in row] for row in table.rows]
    if any(table.headers):
        rows.insert(0, [name_text(header) for header in table.headers])
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in table.right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
