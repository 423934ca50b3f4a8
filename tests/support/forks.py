"""Work in a forked child: it may be killed, and its parent looks at what is left."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

_SECONDS_MAX = 60


def _too_long(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"it hangs, for over {_SECONDS_MAX} s")


def in_child(work: Callable[[], None], base: Path) -> int:
    """Run `work` in a forked child; its wait status. What it raises is in `base/error`."""
    return end_child(begin_child(work, base))


def end_child(child: int) -> int:
    """Wait for a child; its wait status."""
    return os.waitpid(child, 0)[1]


def begin_child(work: Callable[[], None], base: Path) -> int:
    """`in_child` for one who does not wait yet; the child's process id."""
    with warnings.catch_warnings():
        # The parent holds nothing that a child would miss: its engines are closed.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, _too_long)
            signal.alarm(_SECONDS_MAX)
            work()
        except BaseException:
            (base / "error").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    return child
