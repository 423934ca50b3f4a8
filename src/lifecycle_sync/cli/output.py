"""Standard output: JSON documents and streams, lines of text, and raw names.

A command gives either one JSON document, or a stream of JSON lines, one a record. Both carry
`schema_version`, so any line of a stream can be read alone; `item` says what a line is.
"""

from __future__ import annotations

import sys
from typing import Any

from lifecycle_sync.service.api import SCHEMA_VERSION


def write_json(fields: dict[str, Any]) -> None:
    """One document, or one line of a stream; UTF-8 whatever the locale."""
    # The settings' parser has loaded it already; the standard library's is ten times slower.
    from msgspec.json import encode

    write_raw(encode({"schema_version": SCHEMA_VERSION, **fields}) + b"\n")


def write_line(text: str) -> None:
    """A line of text that is fit to be shown."""
    sys.stdout.write(text + "\n")


def write_raw(data: bytes) -> None:
    """Bytes as they are."""
    # Unbuffered (PYTHONUNBUFFERED) it may take less than it was given.
    view = memoryview(data)
    while view:
        view = view[sys.stdout.buffer.write(view) :]


def flush() -> None:
    """Hand over what was written so far, for those who watch a stream grow."""
    sys.stdout.flush()


def on_terminal(stream: str = "stdout") -> bool:
    """Whether a person with a capable terminal is at the other end of "stdout" or "stderr"."""
    import os

    return getattr(sys, stream).isatty() and os.environ.get("TERM", "") not in ("", "dumb")
