"""One statement for many rows: all of them, in order, by statements of few lengths."""

from __future__ import annotations

import apsw
import pytest

from lifecycle_sync.bulk_rows import LONG_ROWS, in_bulk

_INSERT = "INSERT INTO rows SELECT ?1, column1, column2 FROM (\nVALUES (?, ?)\n)"


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 99, 100, 437, 500, 501, 1999])
def test_all_rows_arrive_in_order_by_statements_of_few_lengths(count):
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE rows (run, number, text)")
    lengths = set()
    connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda it: lengths.add(it["sql"].count("(?, ?)")))
    values = [it for number in range(count) for it in (number, f"text {number}")]
    assert in_bulk(connection, _INSERT, values, 2, first=(7,), rows=LONG_ROWS) == []
    connection.trace_v2(0)
    found = connection.execute("SELECT * FROM rows").fetchall()
    assert found == [(7, number, f"text {number}") for number in range(count)]
    assert lengths <= {500, 100, 20, 4, 1}


def test_what_it_returns_comes_together():
    connection = apsw.Connection(":memory:")
    statement = "SELECT column1 FROM (\nVALUES (?)\n)"
    assert in_bulk(connection, statement, list(range(250)), 1) == [(it,) for it in range(250)]
