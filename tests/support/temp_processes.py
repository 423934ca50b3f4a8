"""Processes with temporary files: run to their end, or killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_PROLOGUE = """
import asyncio, os, sys, time
from pathlib import Path
from lifecycle_sync import FileCleanupManager, TempFileContext, temp_file_async
base = Path(sys.argv[1])
manager = FileCleanupManager(base)
def made(name):
    (base / name).parent.mkdir(parents=True, exist_ok=True)
    (base / name).write_text(name)
    return base / name
def ready():
    print("ready", flush=True)
    time.sleep(600)
"""


def start(code: str, base: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROLOGUE + code, str(base)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed(code: str, base: Path, how: int = signal.SIGKILL) -> None:
    """Run `code` until it is ready, then kill it."""
    with start(code + "\nready()", base) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(how)
        _, errors = process.communicate(timeout=30)
        assert line == "ready\n", errors


def ran(code: str, base: Path) -> None:
    with start(code, base) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
