"""What every command shares: the common options, the settings and the open registry, messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifecycle_sync.service.api import Settings
    from lifecycle_sync.service.engine import Engine


@dataclass(slots=True)
class Session:
    """One order: its command, and the common options, wherever on the line they stood."""

    config: str | None = None
    database: str | None = None
    identity: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    command: str = "lifecycle"

    def settings(self, **changes: object) -> Settings:
        """The settings for this order. Raises `ConfigError`."""
        from lifecycle_sync.service.api import read_settings

        return read_settings(self.config, self.database, identity=self.identity, **changes)

    @contextmanager
    def engine(self, settings: Settings | None = None, *, create: bool = False) -> Iterator[Engine]:
        """The registry, open. It is made only by the orders that may (`create`)."""
        from lifecycle_sync.service.engine import Engine

        settings = settings or self.settings()
        with Engine.open(settings, create=create) as engine:
            yield engine

    def say(self, text: str) -> None:
        """A message on standard error; with `--json` or `--quiet` it is left out."""
        if not (self.quiet or self.as_json):
            to_stderr(text)

    def warn(self, text: str) -> None:
        """A message that also `--quiet` lets through; with `--json` the document has it."""
        if not self.as_json:
            to_stderr(text)


def to_stderr(text: str) -> None:
    """A message, line by line fit to be shown, to whatever standard error is at the moment."""
    from lifecycle_sync.cli.words import name_text

    sys.stderr.write("\n".join(name_text(line) for line in text.split("\n")) + "\n")
    sys.stderr.flush()
