"""What a registry keeps of examinations: the evidence that what is kept can be had again."""

from __future__ import annotations

from typing import NamedTuple

# A vault or a copy of one was verified; versions of a root were restored for a trial; a copy of a
# vault was brought up to date.
VERIFY, DRILL, COPY = "verify", "drill", "copy"


class CheckNote(NamedTuple):
    """The last time that something was examined. Times are nanoseconds since 1970 UTC.

    `what` is one of the words above, `subject` the path of a vault or copy, for a drill the id of
    the root. It ended at `ended_ns`, looked at `files` and `bytes`, and found `faults`, of which
    `message` says more. `since_ns` is the time since when all bytes there were read and whole
    ("verify"; 0 where some never were), or when it last went well ("drill", "copy"; 0: never).
    """

    what: str
    subject: bytes
    ended_ns: int
    files: int
    bytes: int
    faults: int
    message: str = ""
    since_ns: int = 0
