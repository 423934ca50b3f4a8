"""Processes that work for this one: fresh interpreters, for SQLite's connections must not cross a
fork. They change nothing, can be killed at any moment, and end when their parent does."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import Any

# Linux's limit for the unprivileged; one batch of results fits many times.
PIPE_BYTES = 1 << 20


def start_worker(module: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """A fresh interpreter that runs `module` with this process's id and `arguments`, its standard
    input and output being wide pipes."""
    # Without `site`, which would only work out again what this process's path is. The package's
    # own place is added for those that found it otherwise, by an import hook.
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = [*(os.path.abspath(entry) for entry in sys.path), home]
    process = subprocess.Popen(
        [sys.executable, "-S", "-P", "-m", module, str(os.getpid()), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd="/",  # so that it keeps nothing from being unmounted
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        start_new_session=True,  # a terminal's Ctrl-C is for the parent to act on
    )
    for pipe in (process.stdin, process.stdout):
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            try:
                fcntl.fcntl(_fd(pipe), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                pass  # over the user's limit; a smaller pipe only means more turns
    return process


def pipe_size(pipe: Any) -> int:
    """How many bytes a pipe holds; 0 where that is not known."""
    try:
        return fcntl.fcntl(_fd(pipe), fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 0
    except OSError:
        return 0


def _fd(pipe: Any) -> int:
    return int(pipe.fileno())
