"""What is measured of planning: dates decided for all records, plans of what is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from bench.lab import Lab
from bench.measure import ours
from bench.row import MIB, Row

_MILLION = 1_000_000


def planning(lab: Lab) -> Iterator[Row]:
    """Plans over all records, of which none or one in a hundred is due. The budgets are those of a
    million records; with fewer there are none."""
    grown = lab.files()
    of_a_million = grown.tree.files >= _MILLION
    with grown.copy(grown.indexed()) as database:
        told = grown.arguments(database)
        settled = float(ours("plan_settle", **told).data["work"])
        yield Row("plan", "policies and dates decided for all records", settled, "s")
        for one_in, title, limit in ((0, "nothing due", 0.1), (100, "1 % due", 2.0)):
            due = int(ours("plan_spread", one_in=one_in, **told).data["due"])
            samples = [ours("plan_make", due=due, **told) for _ in range(lab.options.repeat)]
            each = [sample.work for sample in samples]
            yield Row(
                "plan",
                f"plan, {title}",
                median(each),
                "s",
                limit if of_a_million else None,
                spread=(min(each), max(each)),
                mine=f"{due:,} actions of {grown.tree.files:,} records",
            )
            peak = max(int(sample.data["peak_bytes"]) for sample in samples)
            yield Row("plan", "  its peak memory", peak / MIB, "MiB", 150.0)


PLAN_BENCHMARKS: dict[str, Callable[[Lab], Iterator[Row]]] = {"plan": planning}
