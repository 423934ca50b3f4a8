"""What a registry keeps of the watching and scrubbing of a root, beside what was found there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WatchNote:
    """`needs_recrawl`: events were lost, and until a whole scan has ended well the records may be
    behind. `health` is JSON text, what the last watcher had to say at `noted_ns` (0: nothing)."""

    needs_recrawl: bool = False
    noted_ns: int = 0
    health: str = ""


@dataclass(frozen=True, slots=True)
class ScrubNote:
    """How far the scrubbing of a root has come. Times are nanoseconds since 1970 UTC.

    The round under way began at `begun_ns` (0: none has yet), has read `files` and `bytes`, and
    goes on after the record numbered `after`; files that came before that record since are for the
    next one. `slice_ns` is until when it has done its share, `ended_ns` when the last whole round
    ended (0: none has).
    """

    begun_ns: int = 0
    after: int = 0
    files: int = 0
    bytes: int = 0
    slice_ns: int = 0
    ended_ns: int = 0
