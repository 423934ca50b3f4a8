"""`temp_file_async`: a temporary file for the length of an `async with` block."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_sync.service.temp.context import TempFileContext
from lifecycle_sync.service.threads import in_thread

if TYPE_CHECKING:
    from lifecycle_sync.service.temp.manager import FileCleanupManager


@asynccontextmanager
async def temp_file_async(
    file_path: str | os.PathLike[str],
    cleanup_on_error: bool = True,
    *,
    manager: FileCleanupManager | None = None,
) -> AsyncIterator[Path]:
    """Remove a file when the block ends, as `TempFileContext` does, without blocking the loop.

    A cancelled block counts as an error, and its file is gone before the cancellation goes on.
    """
    context = TempFileContext(file_path, cleanup_on_error, manager=manager)
    path = context.__enter__()
    try:
        yield path
    except BaseException as error:
        kind, raised, trace = type(error), error, error.__traceback__
        await in_thread(lambda: context.__exit__(kind, raised, trace))
        raise
    await in_thread(lambda: context.__exit__(None, None, None))
