"""What a registry keeps of the watching of a root, beside what was found there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WatchNote:
    """`needs_recrawl`: events were lost, and until a whole scan has ended well the records may be
    behind. `health` is JSON text, what the last watcher had to say at `noted_ns` (0: nothing)."""

    needs_recrawl: bool = False
    noted_ns: int = 0
    health: str = ""
