"""The *breaker* guard: counts what a disk has refused, and says when it was too often.

An error of one file alone (it may not be read, it is in use) is no reason to leave the others.
"""

from __future__ import annotations

import errno

# What a disk is to blame for, not the file.
OF_THE_DISK = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO}
)
BROKEN = "left alone: too much failed before it"


class Breaker:
    """Trips after `most` errors of a disk; with None never."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self.errors = 0

    @property
    def tripped(self) -> bool:
        """From then on nothing more is begun."""
        return self._most is not None and self.errors >= self._most

    def count(self) -> None:
        """Note an error that the disk is to blame for."""
        self.errors += 1
