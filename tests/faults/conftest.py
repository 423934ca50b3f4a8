"""Running all points (`make faults`), a sample of them (`make test`), or one again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.points import ERRORS, PARTS, Case, of_part, try_points

# What `make test` takes: points of a workload, workloads of a test.
_SAMPLE, _WORKLOADS = 2, 4
_SHORT = frozenset(ERRORS) - {"eio"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--point", type=int, help="only this point of the chosen workload")
    group.addoption("--moment", help="only this moment of the chosen workload's power cuts")
    group.addoption("--workload", help="only this workload")
    group.addoption("--fault", help="only this kind of fault")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        whole = (
            _is_whole(metafunc.config)
            and metafunc.config.getoption("--point", default=None) is None
        )
        metafunc.parametrize("part", range(PARTS) if whole else [None])


def _is_whole(config: pytest.Config) -> bool:
    return "faults" in (config.getoption("markexpr") or "")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = {name: config.getoption(f"--{name}", default=None) for name in ("workload", "fault")}
    chosen = []
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        missing = params.get("part") and params.get("fault") in _SHORT
        if not missing and all(it in (None, params.get(name)) for name, it in wanted.items()):
            chosen.append(item)
    if not any(wanted.values()) and not _is_whole(config):
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
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            # What was recorded is with the report of the set-up and of the end, too.
            if getattr(report, "when", None) == "call":
                counts.update(dict(report.user_properties))
    failures = counts.pop("failures", 0)
    if not counts:
        return
    states = counts.get("power cut", 0)
    lines = [f"{kind:12} {count:7,}" for kind, count in sorted(counts.items())]
    terminalreporter.write_line("\n".join(["", "points by what happens there:", *lines]))
    terminalreporter.write_line(
        f"{counts.total():,} points, {len(counts)} faults, {states:,} states of a disk that lost"
        f" its power, {failures} failures"
    )


@pytest.fixture
def all_points(request) -> bool:
    """Whether all are tried (`-m faults`), or a few that are the same in every run."""
    return _is_whole(request.config)


@pytest.fixture
def try_case(request, all_points, record_property) -> Callable[..., None]:
    """Try the points of a case, and fail with how to try again what failed."""

    def run(case: Case, sample: int = _SAMPLE, part: int | None = None) -> None:
        one = request.config.getoption("--point", default=None)
        points = case.points() if one is None else [one]
        if one is None and not all_points:
            chosen = random.Random(f"{case.workload.name} {case.fault}")
            points = sorted(chosen.sample(points, min(sample, len(points))))
        elif case.fault not in _SHORT:
            points = of_part(points, part)
        count, failures = try_points(case, points)
        record_property(case.fault, count)
        record_property("failures", len(failures))
        assert not failures, f"{len(failures)} of {count} points:\n" + "\n".join(failures[:20])

    return run
