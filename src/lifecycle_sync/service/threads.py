"""Synchronous work awaited: handed to a thread, and never left running behind a cancelled await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from lifecycle_sync.cancel import CancelToken

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T], cancel: CancelToken | None = None) -> _T:
    """Do it in a thread. When the await is cancelled, `cancel` is set, and the cancellation comes
    out once the thread has ended. Where no more threads are to be had, because the interpreter or
    the loop is ending, it is done here."""
    loop = asyncio.get_running_loop()
    try:
        working = loop.run_in_executor(None, copy_context().run, work)
    except RuntimeError:
        return work()
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if cancel is not None:
            cancel.cancel()
        await ended(working)
        raise


async def ended(work: asyncio.Future[Any]) -> None:
    """Wait for its end, however often this is cancelled meanwhile; never raises."""
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            continue
    if not work.cancelled():
        work.exception()  # seen, so that asyncio does not complain that nobody did
