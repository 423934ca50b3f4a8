"""What a registry keeps of examinations: the evidence that what is kept can be had again."""

from __future__ import annotations

from typing import NamedTuple

# A vault or a copy of one was verified; versions of a root were restored for a trial; a copy of a
# vault was brought up to date; a vault was pruned.
VERIFY, DRILL, COPY, PRUNE = "verify", "drill", "copy", "prune"


class CheckNote(NamedTuple):
    """The last time that something was examined. Times are nanoseconds since 1970 UTC.

    `what` is one of the words above, `subject` the path of a vault or copy, for a drill the id of
    the root. It ended at `ended_ns`, looked at `files` and `bytes`, and found `faults`, of which
    `message` says more. `since_ns` is the time since when all bytes there were read and whole
    ("verify"; 0 where some never were), or when it last went well ("drill", "copy"; 0: never). Of a
    prune `files` and `bytes` are what it left to wait, and `since_ns` until when (0: nothing does).
    """

    what: str
    subject: bytes
    ended_ns: int
    files: int
    bytes: int
    faults: int
    message: str = ""
    since_ns: int = 0
