"""A line of the report, and the usual ways to make one of measurements taken in turns."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.measure import Pairs, Sample

MIB = 1 << 20


@dataclass(slots=True)
class Row:
    """One line of the report. `value` is judged against `limit`, if both are there.

    `spread` is from the least to the greatest; `mine` and `peer` say in words what was measured.
    """

    name: str
    title: str
    value: float | None
    unit: str
    limit: float | None = None
    at_most: bool = True
    spread: tuple[float, float] | None = None
    mine: str = ""
    peer: str = ""
    note: str = ""
    samples: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        if self.value is None:
            return "not measured"
        kept = self.value <= self.limit if self.at_most else self.value >= self.limit
        return "ok" if kept else "MISSED"


def missing_tools(*names: str) -> list[str]:
    """Those of the peer's programs that are not installed."""
    return [name for name in names if shutil.which(name) is None]


def work(sample: Sample) -> float:
    return sample.work


def inverse(ratio: float | None) -> float | None:
    return None if ratio is None else 1 / ratio


def ratio_row(name: str, title: str, pairs: Pairs, label: str, limit: float | None) -> Row:
    """How long the work took, in times of the peer's."""
    whole = pairs.ratio(lambda sample: sample.whole)
    return Row(
        name,
        title,
        pairs.ratio(work),
        "×",
        limit,
        spread=pairs.spread(work),
        mine=f"{pairs.work:.2f} s",
        peer=peer_words(pairs, label),
        note=whole_words(pairs) + ("" if whole is None else f"; {whole:.2f} × as a whole"),
        samples=samples_of(pairs),
    )


def speed_row(
    name: str,
    title: str,
    pairs: Pairs,
    label: str,
    *,
    of: Callable[[Sample], float] = work,
    limit: float | None = 0.95,
) -> Row:
    """How fast the work was, in speeds of the peer's."""
    spread = pairs.spread(of)
    return Row(
        name,
        title,
        inverse(pairs.ratio(of)),
        "× the speed",
        limit,
        at_most=False,
        spread=(1 / spread[1], 1 / spread[0]) if spread else None,
        mine=f"{median(map(of, pairs.mine)):.2f} s",
        peer=peer_words(pairs, label),
        note=whole_words(pairs),
        samples=samples_of(pairs),
    )


def peer_words(pairs: Pairs, label: str) -> str:
    return f"{median(pairs.peer):.2f} s, {label}" if pairs.peer else label


def whole_words(pairs: Pairs) -> str:
    """What else shared the two cores shows less in CPU time than in the time on the wall."""
    mine, peer = (median(s.cpu for s in some) if some else 0 for some in (pairs.mine, pairs.peers))
    return f"the whole process {pairs.whole:.2f} s; CPU time {mine:.2f} s, the peer's {peer:.2f} s"


def samples_of(pairs: Pairs) -> dict[str, Any]:
    return {
        "work": [sample.work for sample in pairs.mine],
        "whole": [sample.whole for sample in pairs.mine],
        "cpu": [sample.cpu for sample in pairs.mine],
        "peak_bytes": [sample.data.get("peak_bytes") for sample in pairs.mine],
        "peer": pairs.peer,
        "peer_cpu": [sample.cpu for sample in pairs.peers],
    }
