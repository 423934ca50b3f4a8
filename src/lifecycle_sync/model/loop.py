"""What a registry keeps of the loops of `run`, for whoever asks how they fare."""

from __future__ import annotations

from typing import NamedTuple


class LoopNote(NamedTuple):
    """The last time that a loop was done, by whichever process. Times are nanoseconds since 1970
    UTC; `due_ns` is when it will be done again, if that process still runs. `status` is "completed"
    or "failed", and `message` says why then."""

    name: str
    started_ns: int
    ended_ns: int
    due_ns: int
    status: str
    message: str = ""
