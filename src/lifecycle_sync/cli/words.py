"""Numbers, times and names in words, as people are shown them.

Sizes are in binary units (1 KiB = 1024 bytes), times local, as in `ls`; JSON has bytes and UTC.
Names may hold anything: whatever could move a cursor, end a line or change a terminal is shown as
an escape (`\\n`, `\\x1b`, `\\xff`), never sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle_sync.service.api import (
    NS_PER_SECOND,
    to_datetime,
    utf8_text,
)

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# Joiners inside words and emoji; they are not printable to Python, and do no harm.
_JOINERS = "\u200c\u200d"


def name_text(name: bytes | str) -> str:
    """A name or any other foreign text, fit to be shown: one line, no control characters."""
    text = utf8_text(name)
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in _JOINERS
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def size_text(size: int) -> str:
    """`0 B`, `999 B`, `1.5 KiB`, `120 MiB`."""
    value, unit = float(size), 0
    # What would be shown as 1024 of one unit is 1.0 of the next.
    while value >= 1023.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    if unit == 0:
        return f"{size} B"
    return f"{value:.1f} {_UNITS[unit]}" if value < 99.95 else f"{value:.0f} {_UNITS[unit]}"


def count_text(count: int, noun: str, plural: str = "") -> str:
    """`1 file`, `2,000 files`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def unprotected_lines(ignored: int, special: int, mounts: Sequence[bytes]) -> list[str]:
    """What of a folder is not in the registry, and so not kept: how much, and why."""
    lines = []
    if ignored:
        entries = count_text(ignored, "entry is ignored", "entries are ignored")
        lines.append(f"{entries}: hidden, temporary, or matched by your patterns")
    if mounts:
        names = ", ".join(name_text(path) for path in mounts[:3])
        lines.append(
            f"{count_text(len(mounts), 'folder')} on another filesystem, not entered: {names}"
        )
    if special:
        files = count_text(special, "socket, FIFO or device", "sockets, FIFOs or devices")
        lines.append(f"{files} skipped")
    return lines


def duration_text(seconds: float) -> str:
    """`0.04 s`, `3.2 s`, `12 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 0.1:
        return f"{max(seconds, 0):.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 86_400:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3600, "h")


def _two(whole: int, large: int, unit: str, small: int, part: str) -> str:
    rest = whole % large // small
    return f"{whole // large} {unit}" + (f" {rest} {part}" if rest else "")


def time_text(ns: int) -> str:
    """Local time to the minute: `2026-01-02 03:04`."""
    return to_datetime(ns).astimezone().strftime("%Y-%m-%d %H:%M")


def ago_text(ns: int, now_ns: int) -> str:
    """`just now`, `5 min ago`, `3 d 4 h ago`; a time to come is shown as a time."""
    seconds = (now_ns - ns) / NS_PER_SECOND
    if seconds < -60:
        return time_text(ns)
    return "just now" if seconds < 10 else f"{duration_text(seconds)} ago"
