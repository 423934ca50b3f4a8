"""The library's log, shown to people on standard error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle_sync.cli.session import to_stderr


class _Handler(logging.Handler):
    """Writes to what is standard error at the moment: a progress bar may stand before it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            to_stderr(f"lifecycle: {record.levelname.lower()}: {record.getMessage()}")
        except OSError:
            pass


@contextmanager
def shown_logs(verbosity: int) -> Iterator[None]:
    """Meanwhile show warnings; with verbosity 1 also what the library does, with 2 everything."""
    logger = logging.getLogger("lifecycle_sync")
    handler, level = _Handler(), logger.level
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
