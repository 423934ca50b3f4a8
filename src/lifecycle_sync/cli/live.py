"""What happens while it happens: a calm line a look, or a line a change. Called from any thread."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from lifecycle_sync.cli.output import flush, write_json, write_line
from lifecycle_sync.cli.words import count_text, name_text, size_text, time_text
from lifecycle_sync.service.api import below, file_fields, path_fields

if TYPE_CHECKING:
    from lifecycle_sync.cli.session import Session
    from lifecycle_sync.service.engine import Engine
    from lifecycle_sync.service.feed import Change
    from lifecycle_sync.service.look import Settled

_SIGNS = {"added": "+", "updated": "~", "moved": "→", "removed": "-"}


class Live:
    """Writes what changes in some roots, or in all. With `events` a line a change, else a line a
    look that found some; with --json an object a line."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        *,
        events: bool,
        roots: Collection[bytes] | None = None,
    ) -> None:
        from lifecycle_sync.service.feed import Feed

        self._session = session
        self._engine = engine
        self._lock = threading.Lock()
        self._feed = Feed(engine, roots) if events else None
        self._said: dict[bytes, str] = {}

    def settled(self, settled: Settled) -> None:
        """A look recorded something."""
        with self._lock:
            if self._feed is not None:
                self._tell_changes()
            else:
                self._tell(settled)
            flush()

    def read(self) -> None:
        """Write what has changed since, whoever recorded it."""
        with self._lock:
            if self._feed is not None:
                self._tell_changes()
                flush()

    def _tell_changes(self) -> None:
        assert self._feed is not None
        for change in self._feed.read():
            root = self._engine.roots.path_of(change.record.repository_id)
            if self._session.as_json:
                moved = (
                    {}
                    if change.before is None
                    else path_fields(below(root, change.before), "moved_from")
                )
                fields = file_fields(change.record, root)
                write_json(
                    {
                        "item": "change",
                        "change": change.kind.value,
                        "seq": change.record.seq,
                        **fields,
                        **moved,
                    }
                )
            else:
                write_line(self._line(change, root))

    def _line(self, change: Change, root: bytes) -> str:
        record = change.record
        where = name_text(below(root, record.path))
        if change.before is not None:
            where = f"{name_text(below(root, change.before))} → {where}"
        size = "" if change.kind.value == "removed" else f"  ({size_text(record.size)})"
        when = time_text(record.changed_ns)
        return f"{when}  {_SIGNS[change.kind.value]}  {where}{size}"

    def _tell(self, settled: Settled) -> None:
        run = settled.run
        if run is None:
            return
        found = [
            f"{count:,} {word}"
            for count, word in (
                (run.files_added, "added"),
                (run.files_updated - settled.moved, "updated"),
                (settled.moved, "moved"),
                (run.files_removed, "removed"),
            )
            if count > 0
        ]
        root = settled.repository.repository_id
        verdict = settled.verdict
        trouble = "" if verdict is None else f"{verdict.reason}; {verdict.remedy}"
        news = [trouble] if trouble and trouble != self._said.get(root) else []
        self._said[root] = trouble
        if not found and not news:
            return
        if self._session.as_json:
            write_json(
                {
                    "item": "look",
                    **path_fields(settled.repository.path),
                    "files_added": run.files_added,
                    "files_updated": run.files_updated,
                    "files_moved": settled.moved,
                    "files_removed": run.files_removed,
                    "guard": None if verdict is None else verdict.guard,
                }
            )
        elif news or not self._session.quiet:
            now = time_text(self._engine.now_ns())
            totals = self._engine.registry.directory_totals(root)
            sums = f"{count_text(totals.files, 'file')}, {size_text(totals.bytes)}"
            what = "; ".join([sums, ", ".join(found) or "unchanged", *news])
            write_line(f"{now}  {name_text(settled.repository.path)}: {what}")
