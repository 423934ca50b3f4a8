"""Other processes on the same registry, as a daemon and a command are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parents[2]

# What every child begins with; its arguments are in `arguments`.
_PROLOGUE = """
import os, sys, time
from pathlib import Path
from lifecycle_sync.service.engine import Engine
from tests.support.house import settings_in
base, arguments = Path(sys.argv[1]), sys.argv[2:]
engine = Engine.open(settings_in(base))
print("ready", flush=True)
"""

SYNC_FOR_EVER = """
while True:
    engine.add_root(base / "root")
    for report in engine.sync():
        if report.error is not None and report.error.exit_code != 5:
            raise report.error
"""

SYNC_ONCE = """
added = engine.add_root(base / "root")
(report,) = engine.sync([added.repository])
if report.error is not None:
    raise report.error
if report.verdict is not None:
    raise SystemExit(str(report.verdict))
"""

REGISTER_NUMBERED = """
first, last = map(int, arguments)
for number in range(first, last):
    record = engine.register_file(base / "root" / f"{number % 10}" / f"{number}.txt")
    print(number, record.file_id.hex(), flush=True)
"""


def start(code: str, base: Path, *arguments: object, wait: bool = True) -> subprocess.Popen[str]:
    """Run `code` in another interpreter, with an engine on the registry in `base` (see `House`).

    With `wait` it has been opened when this returns.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _PROLOGUE + code, str(base), *map(str, arguments)],
        cwd=_HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_HERE), *_python_path()])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if wait:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", finish(process)
    return process


def _python_path() -> list[str]:
    return [path for path in (os.environ.get("PYTHONPATH"),) if path]


def finish(process: subprocess.Popen[str], seconds: float = 60) -> str:
    """Wait for a child that must end well; what it said."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err[-3000:]
    return out


def stop(process: subprocess.Popen[str]) -> None:
    """End a child that goes on for ever, and must not have failed before that."""
    ended = process.poll()
    process.kill()
    _out, err = process.communicate(timeout=30)
    assert ended is None, err[-3000:]
