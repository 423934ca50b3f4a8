"""How long work tells what it is doing; a door may draw it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the thread that does the work; must return at once.

    Phases are "index", "hash", "scrub", "verify", "heal", "copy", "mend", "drill", and the verbs of
    acts ("backup", "delete", ...), in which the bytes may go before their file or stay 0. Totals
    are None where nothing is known of them. `wants_totals` is False for who shows nothing: to count
    costs a look at everything.
    """

    wants_totals: bool

    def begin(
        self, phase: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None: ...

    def advance(self, files: int, bytes_: int) -> None: ...

    def end(self) -> None: ...


class NoProgress:
    """For those who do not look."""

    wants_totals = False

    def begin(
        self, phase: str, root: bytes, total_files: int | None, total_bytes: int | None
    ) -> None:
        pass

    def advance(self, files: int, bytes_: int) -> None:
        pass

    def end(self) -> None:
        pass
