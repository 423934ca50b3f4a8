"""Scenarios in a process of their own, with limits, mounts and rights that no other test shares."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parents[2]


def run_alone(scenario: Callable[[Path], None], base: Path, *how: str) -> None:
    """Call a function of a test module, with `base`, in a process that `how` starts (`unshare` or
    `setpriv`, with their arguments). Skips the test where that is not allowed."""
    reason = _refusal(how)
    if reason:
        pytest.skip(f"{' '.join(how)}: {reason}")
    code = (
        f"import pathlib, sys, {scenario.__module__} as module;"
        f" module.{scenario.__name__}(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [*how, sys.executable, "-c", code, str(base)],
        check=False,
        cwd=_HERE,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def _refusal(how: tuple[str, ...]) -> str:
    """Why a process cannot be started like this; empty where it can."""
    if how and shutil.which(how[0]) is None:
        return "is not installed"
    tried = subprocess.run([*how, "true"], check=False, capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ""
