"""The parts in C, which are optional: without a compiler their twins in Python serve."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def extension(name: str, interface: int) -> Any:
    """One of them, by the name of its module; None where it was not built, or was built for another
    version than the caller, who says what it was written for."""
    try:
        native = import_module(name)
    except ImportError:
        return None
    return native if interface == native.INTERFACE else None
