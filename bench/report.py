"""The table for people and the document for programs."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.keepers import PROGRAMS as KEEPERS
from bench.keepers import version_of
from bench.measure import mounted_with_discard, ours
from bench.row import Row, missing_tools

SCHEMA_VERSION = 1
_HEADINGS = ("", "value", "spread", "budget", "", "ours", "peer")
_RIGHT = (1, 3)


def machine(scratch: Path) -> dict[str, Any]:
    """What the figures depend on."""
    data = ours("facts", scratch=str(scratch)).data
    peers = [version for version in map(version_of, KEEPERS) if version]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first_of("/proc/cpuinfo", "model name"),
        "memory": _first_of("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "filesystem": data["filesystem"],
        "discard": mounted_with_discard(scratch),
        "scratch": str(scratch),
        "python": platform.python_version(),
        "sqlite": data["sqlite"],
        "lifecycle_sync": data["lifecycle_sync"],
        "load": [round(each, 2) for each in os.getloadavg()],
        "peers": peers,
        "not_installed": missing_tools("find", "xargs", "sha256sum", *KEEPERS),
    }


def _first_of(path: str, key: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return ""


def headline(facts: dict[str, Any]) -> str:
    """The machine in two lines."""
    gone = facts["not_installed"]
    return (
        f"{facts['cores']} cores ({facts['processor'] or 'unknown'}), {facts['memory']} of memory,"
        f" Linux {facts['kernel']}, {facts['filesystem']}"
        + (" mounted with discard\n" if facts.get("discard") else "\n")
        + f"Python {facts['python']}, SQLite {facts['sqlite']},"
        f" lifecycle-sync {facts['lifecycle_sync']}, load {facts['load'][0]}"
        + "".join(f", {peer}" for peer in facts["peers"])
        + (f", not installed: {', '.join(gone)}" if gone else "")
    )


def table(rows: Iterable[Row]) -> str:
    """Aligned columns, a note below its row."""
    lines = [_cells(row) for row in rows]
    every = [_HEADINGS, *(cells for cells, _ in lines)]
    widths = [max(len(cells[column]) for cells in every) for column in range(len(_HEADINGS))]
    out = [_aligned(_HEADINGS, widths)]
    for cells, note in lines:
        out.append(_aligned(cells, widths))
        if note:
            out.append(f"    {note}")
    return "\n".join(out)


def _cells(row: Row) -> tuple[tuple[str, ...], str]:
    spread = "" if row.spread is None else f"{_figure(row.spread[0])} – {_figure(row.spread[1])}"
    budget = ""
    if row.limit is not None:
        budget = f"{'≤' if row.at_most else '≥'} {row.limit:g}"
    value = "-" if row.value is None else f"{_figure(row.value)} {row.unit}".rstrip()
    return (row.title, value, spread, budget, row.verdict, row.mine, row.peer), row.note


def _figure(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 and value != int(value) else f"{value:,.0f}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if column in _RIGHT else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()


class Document:
    """The JSON report, written anew after every benchmark, so that a cut-off run leaves what it
    has; one that goes on takes it up there."""

    def __init__(self, path: Path | None, facts: dict[str, Any], *, resume: bool) -> None:
        self._path = path
        self._runs: list[dict[str, Any]] = []
        self._facts = facts
        if resume and path is not None and path.exists():
            found = json.loads(path.read_text())
            if found.get("schema_version") == SCHEMA_VERSION:
                self._runs = found["runs"]

    def kept(self, shape: dict[str, Any], name: str) -> list[Row] | None:
        """The rows of a benchmark that an earlier run of this shape has finished."""
        run = self._run(shape)
        if name not in run["benchmarks"]:
            return None
        rows = []
        for fields in run["benchmarks"][name]:
            given = {key: value for key, value in fields.items() if key != "verdict"}
            row = Row(**given)
            row.spread = (row.spread[0], row.spread[1]) if row.spread else None
            rows.append(row)
        return rows

    def add(self, shape: dict[str, Any], name: str, rows: Sequence[Row]) -> None:
        run = self._run(shape)
        run["benchmarks"][name] = [asdict(row) | {"verdict": row.verdict} for row in rows]
        if self._path is None:
            return
        text = json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": self._facts,
                "command": sys.argv[1:],
                "runs": self._runs,
            },
            indent=1,
        )
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.write_text(text + "\n")
        temporary.replace(self._path)

    def _run(self, shape: dict[str, Any]) -> dict[str, Any]:
        for run in self._runs:
            if run["shape"] == shape:
                return run
        run = {"shape": shape, "benchmarks": {}}
        self._runs.append(run)
        return run
