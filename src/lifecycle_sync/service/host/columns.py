"""Which columns of an application's table mean what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lifecycle_sync.errors import UsageError

_MEANINGS = ("id", "path", "status", "expiry_at", "downloaded_at")


class Columns:
    """From what `CleanupService` asks for to what the application calls it.

    `mapping` names those that are called otherwise; None says that there is no such column (only
    `expiry_at`, `downloaded_at` and `status` may be missing). Raises `UsageError`.
    """

    def __init__(self, mapping: Mapping[str, str | None] | None, has: Any) -> None:
        """`has(name)` says whether the table has a column."""
        given = dict(mapping or {})
        wrong = sorted(set(given) - set(_MEANINGS))
        if wrong:
            raise UsageError(
                f"there is no column {wrong[0]!r} to be named",
                operation="map columns",
                remedy="it is one of " + ", ".join(_MEANINGS),
            )
        self._names = {meaning: given.get(meaning, meaning) for meaning in _MEANINGS}
        for meaning, name in self._names.items():
            if name is None and meaning in ("id", "path"):
                raise UsageError(f"a table needs a column for {meaning}", operation="map columns")
            if name is not None and not has(name):
                raise UsageError(
                    f"the table has no column {name!r} for {meaning}",
                    operation="map columns",
                    remedy=f"name it, columns={{{meaning!r}: ...}}, or None if there is none",
                )

    def __getitem__(self, meaning: str) -> str | None:
        return self._names[meaning]

    def row(self, record: Any) -> dict[str, Any]:
        """A record as the dictionary that is asked for."""
        return {
            meaning: None if name is None else getattr(record, name)
            for meaning, name in self._names.items()
        }


def is_before(value: Any, cutoff: datetime) -> bool:
    """Whether a stored moment, ISO text or a datetime of either kind, is before another; False for
    what is none."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return moment.astimezone() < cutoff.astimezone()
