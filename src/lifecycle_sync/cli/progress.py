"""Progress of long work: a line that moves on a terminal, two lines a phase elsewhere.

The work calls `advance` often, so that only adds numbers; drawing happens ten times a second in a
thread of its own, from those numbers.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from lifecycle_sync.cli.output import on_terminal
from lifecycle_sync.cli.words import count_text, duration_text, name_text, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lifecycle_sync.cli.session import Session
    from lifecycle_sync.service.api import CancelToken

_PER_SECOND = 10
_RATE_SECONDS = 8.0
_BAR_WIDTH = 24
# What opening a file costs, as the bytes that could be read meanwhile: a bar of bytes alone would
# stand still among small files.
_FILE_COST = 24 * 1024
_DOING = {
    "index": "Indexing",
    "hash": "Hashing",
    "scrub": "Scrubbing",
    "backup": "Backing up",
    "archive": "Archiving",
    "expire": "Marking as expired",
    "recall": "Recalling",
    "delete": "Deleting",
    "undelete": "Undeleting",
    "restore": "Restoring",
    "purge": "Purging",
    "prune": "Pruning",
    "give up": "Giving up",
    "verify": "Verifying",
    "copy": "Copying to",
    "rewrite": "Writing anew to",
    "mend": "Mending from",
    "heal": "Healing",
    "drill": "Restoring for a trial from",
    "recover": "Recovering",
}
_DONE = {
    "index": "Indexed",
    "hash": "Hashed",
    "scrub": "Scrubbed",
    "backup": "Backed up",
    "archive": "Archived",
    "expire": "Marked as expired",
    "recall": "Recalled",
    "delete": "Deleted",
    "undelete": "Undeleted",
    "restore": "Restored",
    "purge": "Purged",
    "prune": "Pruned",
    "give up": "Gave up",
    "verify": "Verified",
    "copy": "Copied to",
    "rewrite": "Written anew to",
    "mend": "Mended from",
    "heal": "Healed",
    "drill": "Restored for a trial from",
    "recover": "Recovered",
}


# What costs by the file, however large it is.
_BY_FILES = frozenset({"index", "delete", "undelete", "purge", "recover", "expire"})


class Phase:
    """How far one phase has come."""

    def __init__(
        self, name: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None:
        self.name = name
        self.root = name_text(root)
        self.total_files = total_files
        self.total_bytes = total_bytes
        self.files = 0
        self.bytes = 0
        self._begun = time.monotonic()
        self._samples: deque[tuple[float, int, int]] = deque([(self._begun, 0, 0)])

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    @property
    def share(self) -> float | None:
        """What is done, 0 to 1; None where the whole is not known."""
        if not self.total_files:
            return None
        # The tree may have grown since the total was taken.
        return min(self._cost(self.files, self.bytes) / self._total_cost(), 1.0)

    def rates(self) -> tuple[float, float]:
        """Files and bytes a second, lately."""
        now = time.monotonic()
        self._samples.append((now, self.files, self.bytes))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
            self._samples.popleft()
        then, files, size = self._samples[0]
        seconds = max(now - then, 0.001)
        return (self.files - files) / seconds, (self.bytes - size) / seconds

    def seconds_left(self, rates: tuple[float, float]) -> float | None:
        """At the present rate; None where that cannot be said yet."""
        speed = self._cost(*rates)
        if not self.total_files or self.seconds < 1 or speed <= 0:
            return None
        return max(self._total_cost() - self._cost(self.files, self.bytes), 0) / speed

    def _cost(self, files: float, size: float) -> float:
        return files if self.name in _BY_FILES else size + files * _FILE_COST

    def _total_cost(self) -> float:
        return max(self._cost(self.total_files or 0, self.total_bytes or 0), 1)


class PlainProgress:
    """For a pipe or a log: a line when a phase begins and one when it ends, until it is `calm`.
    Also remembers what was done, for the one who is interrupted."""

    wants_totals = True

    def __init__(self, session: Session) -> None:
        self._session = session
        self.phase: Phase | None = None
        self.calm = False

    def begin(
        self, phase: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None:
        self.phase = Phase(phase, root, total_files, total_bytes)
        of = f" ({count_text(total_files, 'file')})" if total_files else ""
        self._say(f"{_DOING[phase]} {self.phase.root}{of}")

    def advance(self, files: int, bytes_: int) -> None:
        if self.phase is not None:
            self.phase.files += files
            self.phase.bytes += bytes_

    def end(self) -> None:
        if self.phase is not None:
            self._say(f"{_DONE[self.phase.name]} {self.done()}")

    def _say(self, text: str) -> None:
        if not self.calm:
            self._session.say(text)

    def doing(self) -> str:
        """The last phase, as a verb."""
        return "" if self.phase is None else _DOING[self.phase.name].lower()

    def done(self) -> str:
        """What the last phase came to, in words."""
        phase = self.phase
        if phase is None:
            return "nothing"
        rate = phase.files / max(phase.seconds, 0.001)
        speed = f", {rate:,.0f} files/s" if phase.seconds > 0.05 else ""
        return (
            f"{phase.root}: {count_text(phase.files, 'file')}, {size_text(phase.bytes)}"
            f" in {duration_text(phase.seconds)}{speed}"
        )


class SilentProgress(PlainProgress):
    """Says nothing, but knows what was done."""

    wants_totals = False

    def begin(
        self, phase: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None:
        self.phase = Phase(phase, root, total_files, total_bytes)

    def end(self) -> None:
        pass


class TerminalProgress(SilentProgress):
    """A bar with files, bytes, rate and time left; it goes when the phase ends."""

    wants_totals = True

    def __init__(self, session: Session, cancel: CancelToken) -> None:
        super().__init__(session)
        self._cancel = cancel
        self._live: Any = None

    def begin(
        self, phase: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        super().begin(phase, root, total_files, total_bytes)
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live = Live(
            get_renderable=self._draw,
            console=console,
            refresh_per_second=_PER_SECOND,
            transient=True,
            redirect_stdout=False,
        )
        self._live.start()
        # A second signal kills at once, and would leave the terminal without a cursor.
        console.show_cursor(True)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        phase = self.phase
        if phase is None:
            return Text("")
        rates = phase.rates()
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        cells: list[RenderableType] = [Text(f"{_DOING[phase.name]} {phase.root}", style="cyan")]
        share = phase.share
        if share is not None:
            line.add_column(width=_BAR_WIDTH)
            line.add_column(no_wrap=True, justify="right")
            cells += [ProgressBar(1.0, share, width=_BAR_WIDTH), Text(f"{100 * share:.0f} %")]
        for text, style in self._facts(phase, rates):
            line.add_column(no_wrap=True)
            cells.append(Text(text, style=style))
        line.add_row(*cells)
        return line

    def _facts(self, phase: Phase, rates: tuple[float, float]) -> list[tuple[str, str]]:
        rate = f"{rates[0]:,.0f}/s" if phase.name in _BY_FILES else f"{size_text(int(rates[1]))}/s"
        facts = [
            (f"{phase.files:,} files", ""),
            (size_text(phase.bytes), ""),
            (rate, "dim"),
            (duration_text(phase.seconds), "dim"),
        ]
        if self._cancel.cancelled:
            return [*facts, ("stopping at a safe point; ^C again stops at once", "yellow")]
        left = phase.seconds_left(rates)
        return [*facts, (f"{duration_text(left)} left", "")] if left is not None else facts


def progress_for(session: Session, cancel: CancelToken) -> PlainProgress:
    """The progress that suits whoever looks at standard error."""
    if session.quiet:
        return SilentProgress(session)
    if on_terminal("stderr"):
        return TerminalProgress(session, cancel)
    return SilentProgress(session) if session.as_json else PlainProgress(session)
