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
    step = rows * width
    for start in range(0, len(values), step):
        part = values[start : start + step]
        found += connection.execute(
            _for_rows(statement, len(part) // width), (*first, *part)
        ).fetchall()
    return found


@cache
def _for_rows(statement: str, count: int) -> str:
    before, marker, rest = statement.partition("VALUES ")
    values, newline, after = rest.partition("\n")
    return f"{before}{marker}{', '.join([values] * count)}{newline}{after}"
