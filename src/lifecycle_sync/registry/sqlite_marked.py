"""Versions that are marked as kept by no rule, given up many at a time on SQLite.

Whole pages go by statements that judge and write at once: no row of them is looked at from outside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from lifecycle_sync.model.ids import ID_BYTES
from lifecycle_sync.model.operation import ActRun
from lifecycle_sync.model.plan import MarkedGoing, MarkedPage
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite_acts import apply_manifests
from lifecycle_sync.registry.sqlite_base import ACTS, SqliteBase

_RAW = statements("marked")
MARKED = {
    name: text.replace("{marked_alike}", _RAW["marked_alike"])
    .replace("{held}", ACTS["held"])
    .replace("{locations}", _RAW["locations"])
    for name, text in _RAW.items()
}
# By what is looked through for a page: few files of many, or all there are.
_FEW, _ALL = (
    MARKED["marked"].replace("{looked_through}", MARKED[it]).replace("{grouped}", f"{by}.file_id")
    for it, by in (("marked_alone", "b"), ("all_between", "v"))
)
_ROOTS = f"{_FEW}\n{MARKED['marked_roots']}"
_DIGITS = 2 * ID_BYTES
# Where of so many versions one goes, at least, all of them are passed over to find it.
_ONE_IN = 4


class SqliteMarked(SqliteBase):
    """`MarkedStore`."""

    def last_marked(self, after: bytes | None, limit: int) -> bytes | None:
        with self._db.read() as connection:
            last: bytes | None = connection.execute(
                MARKED["last_marked"], (after or b"", limit - 1)
            ).get
        return last

    def marked_roots(self, page: MarkedPage, most: int) -> list[bytes]:
        with self._db.read() as connection:
            rows = connection.execute(_ROOTS, (most, None, None, *_bindings(page))).fetchall()
        return [repository_id for (repository_id,) in rows]

    def begin_marked(
        self, act: ActRun, page: MarkedPage, ids: bytes, now_ns: int
    ) -> MarkedGoing | None:
        with self._db.write(durable=True) as connection:
            number = self._number(connection, act.repository_id)
            many = _are_near(connection, page, len(ids) // ID_BYTES)
            connection.execute(
                f"{_ALL if many else _FEW}\n{MARKED['begin_marked']}",
                (now_ns, act.act_id, number, *_bindings(page), ids),
            )
            files = int(connection.changes())
            if not files:
                return None
            first, last = ids[:ID_BYTES], ids[-ID_BYTES:]
            told, _count, size, newest_ns = connection.execute(
                MARKED["begun_marked"], (first, last, act.act_id)
            ).fetchone()
        return MarkedGoing(page, first, last, files, told, int(size), newest_ns)

    def finish_marked(
        self,
        act: ActRun,
        going: MarkedGoing,
        at_ns: int,
        now_ns: int,
        *,
        manifests: Sequence[tuple[bytes, str]] = (),
    ) -> int:
        with self._db.write(durable=True) as connection:
            begun = (going.first_id, going.last_id, act.act_id)
            if at_ns >= going.newest_ns and _is_all(connection, going):
                connection.execute(MARKED["drop_all_marked"], _range(going.page))
            else:
                told = going.version_ids
                ids = [told[at : at + _DIGITS] for at in range(0, len(told), _DIGITS)]
                connection.execute(MARKED["drop_marked"], (*begun, at_ns, json.dumps(ids)))
            count = int(connection.changes())
            connection.execute(MARKED["complete_marked"], (*begun, now_ns))
            apply_manifests(connection, manifests, now_ns)
        return count


def _range(page: MarkedPage) -> tuple[bytes, bytes]:
    return page.after or b"", page.last


def _bindings(page: MarkedPage) -> tuple[str, bytes, bytes]:
    kinds = [(codes.TYPE_CODE[it.file_type], it.explicit, it.kept, it.why) for it in page.kinds]
    return json.dumps(kinds), *_range(page)


def _is_all(connection: Connection, going: MarkedGoing) -> bool:
    """Whether what is to go is exactly what is marked on the page, and much of what is there."""
    where = _range(going.page)
    return _are_near(connection, going.page, going.versions) and bool(
        connection.execute(MARKED["still_marked"], where).get == going.version_ids
    )


def _are_near(connection: Connection, page: MarkedPage, going: int) -> bool:
    """Whether the files of a page have few versions beside the `going` ones."""
    most = _ONE_IN * going
    return bool(connection.execute(MARKED["near"], (*_range(page), most)).get < most)
