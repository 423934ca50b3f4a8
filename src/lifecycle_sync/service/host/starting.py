"""Ways to run a `CleanupService` other than its own thread: beside an ASGI application, from cron,
as a function in a cloud."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from lifecycle_sync.errors import BusyError, LifecycleError, UsageError
from lifecycle_sync.service.host.service import CleanupService

_log = logging.getLogger("lifecycle_sync.cleanup")

Factory = Callable[[], CleanupService]


def cleanup_lifespan(
    service: CleanupService,
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan for FastAPI or Starlette: the clean-up runs for as long as the application does.

    `FastAPI(lifespan=cleanup_lifespan(service))`.
    """
    from lifecycle_sync.service.threads import in_thread

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            if service.running:
                await in_thread(service.stop)

    return lifespan


def run_from_cron(service: CleanupService) -> int:
    """One cycle; the exit code of the script: 0 done, 1 failed, 3 some files failed, 5 another
    process is at it (give the service a `lock_file`). What went wrong is on standard error, so that
    cron sends it."""
    try:
        failures = service.run_cleanup_cycle()
    except LifecycleError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the log has the rest
        _log.exception("the clean-up failed")
        sys.stderr.write(f"the clean-up failed: {error}\n")
        return 1
    if failures:
        sys.stderr.write(f"{failures} files failed; see the log\n")
        return 3
    return 0


def cleanup_handler(factory: Factory) -> Callable[[Any, Any], dict[str, Any]]:
    """A `handler(event, context)` for a function in a cloud.

    `event["task"]` is "cycle" (the default), "expired", "orphans" or "downloads". The service is
    made by the first call and kept for the next ones. Gives `status` ("done", "failed" or "busy"),
    `failures` and `stats`.
    """
    made: list[CleanupService] = []

    def handler(event: Any, context: Any) -> dict[str, Any]:
        if not made:
            made.append(factory())
        service = made[0]
        asked = event.get("task", "cycle") if isinstance(event, dict) else "cycle"
        tasks: dict[str, Callable[[], int]] = {
            "cycle": service.run_cleanup_cycle,
            "expired": service.cleanup_expired_files,
            "orphans": service.cleanup_orphaned_files,
            "downloads": service.cleanup_old_downloaded_files,
        }
        if asked not in tasks:
            raise UsageError(
                f"there is no task {asked!r}",
                operation="clean up",
                remedy="it is one of " + ", ".join(tasks),
            )
        try:
            answer = tasks[asked]()
        except BusyError as error:
            return {"status": "busy", "failures": 0, "stats": _plain(service), "error": str(error)}
        failures = answer if asked == "cycle" else 0
        status = "failed" if failures else "done"
        return {"status": status, "failures": failures, "stats": _plain(service)}

    return handler


def _plain(service: CleanupService) -> dict[str, Any]:
    stats = service.get_stats()
    last = stats["last_run"]
    return {**stats, "last_run": None if last is None else last.isoformat()}
