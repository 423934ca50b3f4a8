"""Contents that a vault cannot give, read from its copies: a copy has the same files, by the same
names, so they lie there where the index of the vault says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Self

from lifecycle_sync.vault.contents import Contents
from lifecycle_sync.vault.healing import Copy

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

OpenCopies = Callable[["Vault"], AbstractContextManager[Sequence[Copy]]]


class Spares:
    """The copies of a vault, which are opened when they are first asked for. A context manager, for
    one thread."""

    def __init__(self, vault: Vault, open_copies: OpenCopies) -> None:
        self._vault = vault
        self._open_copies = open_copies
        self._held = ExitStack()
        self._copies: list[tuple[str, Contents]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def all(self) -> list[tuple[str, Contents]]:
        """The folder of each copy that is there, and what it has."""
        if self._copies is None:
            copies = self._held.enter_context(self._open_copies(self._vault))
            self._copies = [(it.name, Contents(self._vault, it.storage)) for it in copies]
        return self._copies
