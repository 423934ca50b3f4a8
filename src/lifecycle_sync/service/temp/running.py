"""Clean-ups that were asked for and go on by themselves: in a few threads here, each under an id by
which its end can be asked for. What a Celery application does elsewhere has the same face."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import BusyError
from lifecycle_sync.service.temp.core import TempCleanup

_KEPT = 1000
_WAITING_MAX = 100

_log = logging.getLogger("lifecycle_sync.temp")


class TaskRunner(Protocol):
    """Starts clean-ups and knows what became of them."""

    def start(self, kind: str, **arguments: Any) -> str:
        """Begin "scheduled", "emergency", "orphaned" or "crash"; the id of the task. Raises
        `BusyError` when too many wait."""

    def status(self, task_id: str) -> dict[str, Any] | None:
        """`task_id`, `status` (PENDING, STARTED, SUCCESS, FAILURE, RETRY, REVOKED), `result` and
        `error`; None for an id that is not known."""


class HereRunner:
    """Runs them in threads of this process, one after the other; remembers the last thousand."""

    def __init__(self, cleanup: TempCleanup) -> None:
        self._kinds: dict[str, Callable[..., dict[str, Any]]] = {
            "scheduled": cleanup.scheduled,
            "emergency": cleanup.emergency,
            "orphaned": cleanup.orphaned,
            "crash": cleanup.after_crash,
        }
        self._lock = threading.Lock()
        self._tasks: OrderedDict[str, Future[dict[str, Any]]] = OrderedDict()
        self._cancel = CancelToken()
        self._pool = ThreadPoolExecutor(1, "lifecycle-cleanup")

    def start(self, kind: str, **arguments: Any) -> str:
        work = self._kinds[kind]
        task_id = str(uuid.uuid4())
        with self._lock:
            if sum(not task.done() for task in self._tasks.values()) >= _WAITING_MAX:
                raise BusyError("too many clean-ups wait already", remedy="try again later")
            self._tasks[task_id] = self._pool.submit(work, cancel=self._cancel, **arguments)
            while len(self._tasks) > _KEPT:
                # The oldest; it has long been done, for there are fewer that wait.
                self._tasks.popitem(last=False)
        return task_id

    def status(self, task_id: str) -> dict[str, Any] | None:
        with self._lock:
            task = self._tasks.get(task_id)
        if task is None:
            return None
        told: dict[str, Any] = {"task_id": task_id, "status": "PENDING", "result": None}
        told["error"] = None
        if task.running():
            told["status"] = "STARTED"
        elif task.done():
            error = task.exception()
            if error is not None:
                told.update(status="FAILURE", error=str(error))
            else:
                told.update(status="SUCCESS", result=task.result())
        return told

    def close(self) -> None:
        """Stop at the next safe point; what waits is not begun."""
        self._cancel.cancel()
        self._pool.shutdown(cancel_futures=True)
