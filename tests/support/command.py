"""The command `lifecycle` as tests call it: in this process, or in one of its own."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from lifecycle_sync.cli import main


@dataclass(frozen=True)
class Done:
    """What a call came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        (document,) = self.lines
        return document

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on standard output, each with its schema version."""
        found = [json.loads(line) for line in self.out.splitlines()]
        assert all(item["schema_version"] == 1 for item in found)
        return found

    @property
    def error(self) -> dict[str, Any]:
        """The JSON error on standard error."""
        document = json.loads(self.err)
        assert document["schema_version"] == 1
        error: dict[str, Any] = document["error"]
        assert error["exit_code"] == self.code
        return error


def lifecycle(*arguments: str | os.PathLike[str]) -> Done:
    """Run the command in this process."""
    out, err = _stream(), _stream()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([os.fspath(argument) for argument in arguments])
    return Done(code, _text(out), _text(err))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="")


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    # Odd bytes as `os.fsdecode` has them.
    return stream.buffer.getvalue().decode("utf-8", "surrogateescape")


def lifecycle_on_terminal(*arguments: str | os.PathLike[str]) -> tuple[int, str]:
    """Run the command in a process of its own on a terminal; its exit code, and all it showed."""
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "lifecycle_sync", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:
        pass  # the other end was closed
    finally:
        os.close(ours)
    return process.wait(60), seen.decode()


def lifecycle_process(*arguments: str | os.PathLike[str], **options: Any) -> subprocess.Popen[str]:
    """Start the command in a process of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "lifecycle_sync", *(os.fspath(argument) for argument in arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_line(stream: Any, text: str, seconds: float = 30) -> str:
    """Read a pipe until it says `text`; what was read."""
    deadline = time.monotonic() + seconds
    found = b""
    while text.encode() not in found:
        left = deadline - time.monotonic()
        assert left > 0, f"no {text!r} in {found!r}"
        if select.select([stream], [], [], left)[0]:
            part = os.read(stream.fileno(), 65536)
            assert part, f"ended without {text!r}: {found!r}"
            found += part
    return found.decode()
