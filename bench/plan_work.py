"""Planning, measured in a fresh process: dates decided for all records, and plans made of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.act_work import settings_of
from bench.measure import peak_bytes
from lifecycle_sync.model.plan import Decided, Subject
from lifecycle_sync.service.engine import Engine

Arguments = dict[str, Any]
Result = dict[str, Any]

_PAGE = 2_000
_YEAR_NS = 365 * 86_400 * 10**9


def plan_settle(arguments: Arguments) -> Result:
    """The policy and the dates of every record, decided and written down."""
    with Engine.open(settings_of(arguments)) as engine:
        begun = time.perf_counter()
        count = engine.decisions.settle()
        work = time.perf_counter() - begun
    if count < arguments["files"]:
        sys.exit(f"{count} records were decided, there are {arguments['files']} files")
    return {"work": work}


def plan_spread(arguments: Arguments) -> Result:
    """One record in `one_in` is due, all others in a year; with 0 none is."""
    one_in, due = arguments["one_in"], 0
    with Engine.open(settings_of(arguments)) as engine:
        now_ns = engine.now_ns()
        for page in list(_pages(engine, now_ns + 2 * _YEAR_NS)):
            moved = []
            for file in page:
                is_due = bool(one_in) and file.row_id % one_in == 0
                due += is_due
                then_ns = now_ns - 1 if is_due else now_ns + _YEAR_NS
                moved.append(Decided(file.row_id, file.seq, file.governed_by, None, then_ns))
            engine.registry.write_decided(moved, None)
    return {"due": due}


def _pages(engine: Engine, at_ns: int) -> Iterator[list[Subject]]:
    after: tuple[int, int] | None = None
    while True:
        page, after = engine.registry.due(at_ns, after, _PAGE)
        yield page
        if after is None:
            return


def plan_make(arguments: Arguments) -> Result:
    """A plan of what is due, from an open registry to the plan."""
    with Engine.open(settings_of(arguments)) as engine:
        begun, cpu = time.perf_counter(), time.process_time()
        plan = engine.decisions.plan()
        work, cpu = time.perf_counter() - begun, time.process_time() - cpu
    found = len(plan.actions) + plan.more
    if found != arguments["due"]:
        sys.exit(f"{found} actions were planned, {arguments['due']} records are due")
    return {"work": work, "cpu": cpu, "peak_bytes": peak_bytes("self")}


PLAN_ACTS: tuple[Callable[[Arguments], Result], ...] = (plan_settle, plan_spread, plan_make)
