"""Running all points (`make faults`), a sample of them (`make test`), or one again."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.support.points import Case, try_points

# What `make test` takes: points of a workload, workloads of a test.
_SAMPLE, _WORKLOADS = 2, 4


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--point", type=int, help="only this point of the chosen workload")
    group.addoption("--moment", help="only this moment of the chosen workload's power cuts")
    group.addoption("--workload", help="only this workload")
    group.addoption("--fault", help="only this kind of fault")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = {name: config.getoption(f"--{name}", default=None) for name in ("workload", "fault")}
    chosen = []
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if all(it is None or params.get(name) == it for name, it in wanted.items()):
            chosen.append(item)
    if not any(wanted.values()) and "faults" not in (config.getoption("markexpr") or ""):
        chosen = _sample(chosen)
    items[:] = chosen


def _sample(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of each test that is run with many workloads, a few."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        several = item.get_closest_marker("faults") is not None and "[" in item.nodeid
        groups.setdefault(item.nodeid.partition("[")[0] if several else item.nodeid, []).append(
            item
        )
    few = set()
    for group in groups.values():
        few.update(random.Random(group[0].nodeid).sample(group, min(_WORKLOADS, len(group))))
    return [item for item in items if item in few]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    points = failures = 0
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, count in getattr(report, "user_properties", ()):
                points += count if name == "points" else 0
                failures += count if name == "failures" else 0
    if points:
        terminalreporter.write_line(f"{points:,} points, {failures} failures")


@pytest.fixture
def all_points(request) -> bool:
    """Whether all are tried (`-m faults`), or a few that are the same in every run."""
    return "faults" in (request.config.getoption("markexpr") or "")


@pytest.fixture
def try_case(request, all_points, record_property) -> Callable[[Case], None]:
    """Try the points of a case, and fail with how to try again what failed."""

    def run(case: Case, sample: int = _SAMPLE) -> None:
        one = request.config.getoption("--point", default=None)
        points = case.points() if one is None else [one]
        if one is None and not all_points:
            chosen = random.Random(f"{case.workload.name} {case.fault}")
            points = sorted(chosen.sample(points, min(sample, len(points))))
        count, failures = try_points(case, points)
        record_property("points", count)
        record_property("failures", len(failures))
        assert not failures, f"{len(failures)} of {count} points:\n" + "\n".join(failures[:20])

    return run
