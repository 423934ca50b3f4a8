"""The native walker, where there is one."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from lifecycle_sync.observe.native_walker import unavailable

needs_native = pytest.mark.skipif(
    unavailable() is not None, reason=f"the native walker is {unavailable()}"
)


def can_be_built() -> bool:
    """Whether the machine has what compiles it: then it must be there."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which("gcc") is not None and header.exists()
