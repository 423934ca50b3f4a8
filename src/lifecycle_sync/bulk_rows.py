"""One SQL statement for many rows: what the registry and the index of a vault write in bulk.

A connection runs each statement without the interpreter's lock, and has to wait for it afterwards:
a row a statement, beside other threads, costs more in waiting than in work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

# More make a statement too long for the cache of prepared ones (16 KiB).
_BULK_ROWS = 100
# Prepared anew each time they cost little more, and after each statement a thread waits for its
# turn to run: where others work beside it, few long ones are best.
LONG_ROWS = 500
# What is left over goes by a fifth of them at a time, and so on.
_SHORTER = 5


def in_bulk(
    connection: Any,
    statement: str,
    values: Sequence[Any],
    width: int,
    *,
    first: tuple[Any, ...] = (),
    rows: int = _BULK_ROWS,
) -> list[Any]:
    """Run a statement with one line `VALUES (...)` for many rows of `width` values, given one after
    the other; what it returns. `first` are bindings before the rows'. `rows` at a time."""
    found: list[Any] = []
    start, count = 0, len(values) // width
    while count:
        while rows > count:
            # Few lengths: each that was used once stays prepared, and is memory.
            rows = max(rows // _SHORTER, 1)
        end = start + rows * width
        statement_of_rows = _for_rows(statement, rows)
        found += connection.execute(statement_of_rows, (*first, *values[start:end])).fetchall()
        start, count = end, count - rows
    return found


@cache
def _for_rows(statement: str, count: int) -> str:
    before, marker, rest = statement.partition("VALUES ")
    values, newline, after = rest.partition("\n")
    return f"{before}{marker}{', '.join([values] * count)}{newline}{after}"
