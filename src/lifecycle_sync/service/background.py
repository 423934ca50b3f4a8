"""`LifecycleScheduler`: the loops of `lifecycle run` in a thread of an asynchronous application."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.config import Settings, load_config
from lifecycle_sync.errors import CancelledError, ConfigError, LifecycleError
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.daemon import Daemon
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.orders import configured_folders, register_roots
from lifecycle_sync.service.present import statistics, tell_of_mirror
from lifecycle_sync.service.threads import ended
from lifecycle_sync.service.watching import Watching

_log = logging.getLogger(__name__)
_Tell = Callable[[BaseException | None], None]


class LifecycleScheduler:
    """Registry sync, backup, policy enforcement and clean-up at their intervals, in one thread.

    `config` is what `load_config` returns; None loads it. `start` takes the folders that it names
    under management, enforced, and returns once the loops run; the first pass goes on meanwhile.
    `stop` waits for the next safe point: what has begun is finished or rolled back. A SIGHUP, where
    the application has no handler of its own, reads the configuration's file again between cycles.
    Use it as an asynchronous context manager, or `stop` it.
    """

    def __init__(self, config: Settings | None = None) -> None:
        self._settings = config if config is not None else load_config()
        self._cancel = CancelToken()
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._using = threading.Lock()
        self._again = threading.Event()
        self._failure: BaseException | None = None
        self._hangup: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> LifecycleScheduler:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def running(self) -> bool:
        """Whether the loops run."""
        return self._thread is not None and self._thread.is_alive()

    async def start(self) -> None:
        """Begin. Idempotent. Raises `BusyError` where another process runs the loops on one of the
        roots, `RootError` for a folder that cannot be one, and what opening the registry raises."""
        if self.running:
            return
        self._cancel, self._failure = CancelToken(), None
        started = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def tell(error: BaseException | None) -> None:
            if started.done():
                return
            if error is None:
                started.set_result(None)
            else:
                started.set_exception(error)

        self._thread = threading.Thread(
            target=self._run,
            args=(lambda error: loop.call_soon_threadsafe(tell, error),),
            name="lifecycle-scheduler",
            daemon=True,
        )
        self._thread.start()
        try:
            await started
        except BaseException:
            await self.stop()
            raise
        self._listen(loop)

    async def stop(self) -> None:
        """End at the next safe point, and wait for it. Idempotent. Raises what ended the loops
        before, if something did: a registry that was lost."""
        self._cancel.cancel()
        if self._hangup is not None:
            self._hangup.remove_signal_handler(signal.SIGHUP)
            self._hangup = None
        thread, self._thread = self._thread, None
        if thread is not None:
            joining = asyncio.ensure_future(asyncio.to_thread(thread.join))
            try:
                await asyncio.shield(joining)
            finally:
                await ended(joining)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def reload(self) -> None:
        """Read the configuration's file again between two cycles; the loops begin anew with it.
        One with a fault is told of in the log, and the old one stays."""
        self._again.set()

    async def get_statistics(self) -> dict[str, Any]:
        """As `LifecycleSync.get_statistics`; also before the start and after the end."""
        return await asyncio.to_thread(self._statistics)

    def _statistics(self) -> dict[str, Any]:
        with self._using:
            if self._engine is not None:
                return statistics(self._engine)
        with Engine.open(self._settings) as engine:
            return statistics(engine)

    # -- the thread ------------------------------------------------------------------------

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
            return
        try:
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        except NotImplementedError:
            return  # not every loop can
        self._hangup = loop

    def _run(self, tell: _Tell) -> None:
        try:
            while self._follow(tell):
                self._read_again()
        except CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - it comes out of `stop`
            self._failure = error
            _log.exception("the loops have ended")
            tell(error)
            # Who waits for the start has it.
            return
        tell(None)

    def _follow(self, tell: _Tell) -> bool:
        """Until the end, or (True) until the configuration is to be read again."""
        settings = self._settings
        tell_of_mirror(settings)
        with Engine.open(settings) as engine:
            self._engine = engine
            try:
                register_roots(engine, configured_folders(settings), enforce=True)
                daemon = Daemon(
                    engine,
                    cancel=self._cancel,
                    on_report=_on_report,
                    on_trouble=_on_trouble,
                    watching=Watching(engine, on_report=_on_report),
                )
                with daemon:
                    tell(None)
                    daemon.once()
                    daemon.enforce()
                    return daemon.follow(settings.registry_sync_interval, self._again.is_set)
            finally:
                # Whoever looks into it has done so before it is closed.
                with self._using:
                    self._engine = None

    def _read_again(self) -> None:
        self._again.clear()
        source = self._settings.source
        if source is None:
            _log.info("the configuration came from no file: the loops begin anew with it")
            return
        try:
            self._settings = load_config(source)
        except ConfigError as error:
            _log.error("the configuration stays as it was: %s", error)
            return
        _log.info("read %s again", source)


def _on_report(report: SyncReport) -> None:
    run = report.run
    if report.error is not None:
        _log.warning("%s", report.error)
    elif report.verdict is not None:
        _log.warning("%s: %s", report.verdict.guard, report.verdict.reason)
    elif run is not None and (run.files_added or run.files_updated or run.files_removed):
        _log.info(
            "%r: %d added, %d updated, %d removed",
            report.repository.path,
            run.files_added,
            run.files_updated,
            run.files_removed,
        )


def _on_trouble(error: LifecycleError) -> None:
    _log.warning("%s", error)
