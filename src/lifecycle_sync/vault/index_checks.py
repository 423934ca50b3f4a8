"""When each stored file was last read and found whole, in the index of a vault.

It goes with the index when that is thrown away: then nothing counts as read. `place` is where the
file lies: "" is the vault itself, else the path of a copy of it. Names are those in the vault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lifecycle_sync.vault.index_file import IndexFile

_PAGE = 256


class CheckTotals(NamedTuple):
    """What is known of the packs and objects at a place. `oldest_ns` is when the one was read that
    was read the longest ago, 0 where one never was."""

    files: int
    bytes: int
    oldest_ns: int


class IndexChecks(IndexFile):
    """The part of `Index` that knows of checks. A `round` is the time at which one look through all
    files began, in nanoseconds since 1970 UTC."""

    def meet(self, place: str, files: Iterable[tuple[str, int]], round_ns: int) -> None:
        """These files (name, bytes) belong to what the vault promises, in this round."""
        with self._use(write=True) as connection:
            connection.executemany(
                "INSERT INTO checked (place, name, size, seen_ns) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET size = excluded.size, seen_ns = excluded.seen_ns",
                ((place, name, size, round_ns) for name, size in files),
            )

    def meet_as(self, place: str, other: str, round_ns: int) -> None:
        """All that belongs to one place belongs to another, in this round."""
        with self._use(write=True) as connection:
            connection.execute(
                "INSERT INTO checked (place, name, size, seen_ns)"
                " SELECT ?1, name, size, ?3 FROM checked WHERE place = ?2"
                " ON CONFLICT DO UPDATE SET size = excluded.size, seen_ns = excluded.seen_ns",
                (place, other, round_ns),
            )
        self.forget_unmet(place, round_ns)

    def met(self, place: str, names: Sequence[str], round_ns: int) -> set[str]:
        """Those of the names that were met in this round, or a later one."""
        sql = "SELECT name FROM checked WHERE place = ? AND seen_ns >= ? AND name IN {}"
        return {name for (name,) in self._among(sql, names, place, round_ns)}

    def forget_unmet(self, place: str, round_ns: int) -> None:
        """Forget files that a round did not meet: nothing is promised of them any more."""
        with self._use(write=True) as connection:
            connection.execute(
                "DELETE FROM checked WHERE place = ? AND seen_ns < ?", (place, round_ns)
            )

    def forget_met(self, place: str, names: Iterable[str]) -> None:
        """These files belong to what is promised, but need not be at this place."""
        with self._use(write=True) as connection:
            connection.executemany(
                "DELETE FROM checked WHERE place = ? AND name = ?",
                ((place, name) for name in names),
            )

    def note_checked(
        self,
        place: str,
        names: Iterable[str],
        at_ns: int,
        *,
        detail: int | None = None,
        claims: int = -1,
    ) -> None:
        """These files were read and are whole, as they were met; 0 takes that back. `detail` is a
        number to be remembered with them, where `claims` still are what they were when it was
        found."""
        with self._use(write=True) as connection:
            connection.executemany(
                "UPDATE checked SET at_ns = ?1, detail = CASE"
                " WHEN ?2 IS NOT NULL AND ?3 = (SELECT claims FROM store) THEN ?2 ELSE detail END"
                " WHERE place = ?4 AND name = ?5",
                ((at_ns, detail, claims, place, name) for name in names),
            )

    def checked_ns(self, place: str, names: Sequence[str]) -> dict[str, int]:
        """When these files were last read and whole; those that never were are left out."""
        sql = "SELECT name, at_ns FROM checked WHERE place = ? AND at_ns > 0 AND name IN {}"
        return dict(self._among(sql, names, place))

    def checked_detail(self, place: str, name: str) -> int | None:
        """The number that was noted with a file when it was whole; None when it never was."""
        with self._use() as connection:
            row = connection.execute(
                "SELECT detail FROM checked WHERE place = ? AND name = ? AND at_ns > 0",
                (place, name),
            ).fetchone()
        return None if row is None else row[0]

    def to_check(self, place: str, before_ns: int) -> Iterator[list[tuple[str, int]]]:
        """Name and bytes of the files that were not read since then, page by page, what was read
        the longest ago first. What is noted meanwhile does not come again."""
        last: tuple[int, str] = (-1, "")
        while True:
            with self._use() as connection:
                rows = connection.execute(
                    "SELECT at_ns, name, size FROM checked WHERE place = ? AND at_ns < ?"
                    " AND (at_ns, name) > (?, ?) ORDER BY at_ns, name LIMIT ?",
                    (place, before_ns, *last, _PAGE),
                ).fetchall()
            if not rows:
                return
            yield [(name, size) for _, name, size in rows]
            last = rows[-1][:2]

    def check_totals(self, place: str) -> CheckTotals:
        with self._use() as connection:
            row = connection.execute(
                "SELECT count(*), coalesce(sum(size), 0), coalesce(min(at_ns), 0)"
                " FROM checked WHERE place = ? AND name NOT LIKE 'manifests/%'",
                (place,),
            ).fetchone()
        return CheckTotals(*row)

    def claims(self) -> int:
        """A number that changes when what manifests say of contents is to be looked at anew."""
        with self._use() as connection:
            found: int = connection.execute("SELECT claims FROM store").get
        return found

    def forget_claims(self) -> None:
        """What manifests say of contents is to be looked at anew, also by whoever is at it."""
        with self._use(write=True) as connection:
            connection.execute("UPDATE store SET claims = claims + 1")
            connection.execute(
                "UPDATE checked SET detail = NULL WHERE place = '' AND detail IS NOT NULL"
                " AND name > 'manifests/' AND name < 'manifests0'"
            )
