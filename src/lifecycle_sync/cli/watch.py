"""`lifecycle watch`: what changes in roots, while it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.live import Live
from lifecycle_sync.cli.process import cancelled_by_signals
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import count_text
from lifecycle_sync.errors import BusyError, CancelledError, LifecycleError
from lifecycle_sync.service.api import CancelToken, Repository, RepositoryKind

if TYPE_CHECKING:
    from lifecycle_sync.service.engine import Engine

_PAUSE_SECONDS = 0.2


@command(
    "watch",
    notes="A signal (^C) ends it. With --json it gives one line a change.",
    examples="""
        lifecycle watch
        lifecycle watch ~/Pictures --json | jq .path
    """,
)
@directory_argument("dir", many=True, required=False)
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after so long.",
)
def watch(session: Session, dir: tuple[str, ...], seconds: float | None) -> int:
    """Show a line for each file that is added (+), changed (~), moved (→) or removed (-).

    Shows what whoever follows the roots records; those that nobody follows are followed by it
    itself. Without DIR all roots. It registers nothing: `lifecycle run` does.
    """
    settings = session.settings()
    with session.engine(settings) as engine:
        return _Watch(session, engine, _roots(engine, dir)).run(seconds)


def _roots(engine: Engine, folders: Sequence[str]) -> list[Repository]:
    from lifecycle_sync.service.orders import folder_at

    if not folders:
        return [it for it in engine.roots.all() if it.kind is RepositoryKind.ROOT]
    found = (folder_at(engine, folder, recorded=False)[0] for folder in folders)
    return list({it.repository_id: it for it in found}.values())


class _Watch:
    def __init__(self, session: Session, engine: Engine, roots: list[Repository]) -> None:
        self._session = session
        self._engine = engine
        self._roots = roots
        self._cancel = CancelToken()
        self._live = Live(
            session, engine, events=True, roots=[root.repository_id for root in roots]
        )

    def run(self, seconds: float | None) -> int:
        from lifecycle_sync.service.daemon import Daemon
        from lifecycle_sync.service.watching import Watching

        free = [root for root in self._roots if not self._is_followed(root)]
        others = len(self._roots) - len(free)
        told = f"Watching {count_text(len(self._roots), 'root')}"
        if others:
            told += f", {others} of them as another process follows them"
        self._session.say(f"{told}; ^C ends it")
        daemon = Daemon(
            self._engine,
            free,
            cancel=self._cancel,
            on_report=lambda _: self._live.read(),
            on_trouble=lambda error: self._session.warn(f"lifecycle: {error}"),
            policies=False,
            watching=Watching(self._engine, on_settled=self._live.settled) if free else None,
        )
        with daemon, cancelled_by_signals(self._cancel):
            try:
                if free:
                    daemon.once()
                self._follow(seconds)
            except CancelledError:
                pass
        return 0

    def _follow(self, seconds: float | None) -> None:
        left = float("inf") if seconds is None else seconds
        while left > 0 and not self._cancel.wait(min(_PAUSE_SECONDS, left)):
            left -= _PAUSE_SECONDS
            self._live.read()
        self._live.read()

    def _is_followed(self, root: Repository) -> bool:
        try:
            with self._engine.locks.hold("run", root.repository_id, root.path):
                return False
        except BusyError:
            return True
        except LifecycleError as error:
            self._session.warn(f"lifecycle: {error}")
            return True
