"""What a vault needs, worked out beside its index: what versions hold, and what of each pack.

The tables are temporary ones of SQLite's, in a file of its own, so that the memory stays the same
however many contents there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from lifecycle_sync.vault.held import Told
from lifecycle_sync.vault.index import Index, key_of_blob
from lifecycle_sync.vault.index_pruned import IS_CONDEMNED
from lifecycle_sync.vault.pack import MEMBER_OVERHEAD, Member

_SCHEMA = """
CREATE TEMP TABLE told (key BLOB, version_id BLOB, at_ns INTEGER, lines INTEGER);
CREATE TEMP TABLE live (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE going (version_id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE used (place INTEGER PRIMARY KEY, count INTEGER, stored INTEGER);
CREATE TEMP TABLE moving (
    place INTEGER, offset INTEGER, stored INTEGER, size INTEGER, key BLOB,
    PRIMARY KEY (place, offset)
) WITHOUT ROWID;
CREATE TEMP TABLE beside (id INTEGER PRIMARY KEY, key BLOB);
CREATE TEMP TABLE going_place (place INTEGER PRIMARY KEY);
"""
_TABLES = ("told", "live", "going", "used", "moving", "beside", "going_place")
# Of keys and ids that stand one after the other, and times as JSON.
_ADD = """
INSERT INTO told SELECT substr(?1, ?2 * key + 1, ?2), substr(?3, 16 * key + 1, 16), value, {}
FROM json_each(?4)
"""
_STAYING = """
CREATE TEMP TABLE staying AS SELECT t.key AS key, t.lines AS lines
FROM told t LEFT JOIN pruned p ON p.version_id = t.version_id AND p.at_ns >= t.at_ns
WHERE p.version_id IS NULL AND t.version_id NOT IN (SELECT version_id FROM going)
"""
# In the order of the keys, so that each is put beside the one before.
_TAKE_UP = """
INSERT OR IGNORE INTO live SELECT key FROM staying ORDER BY key;
DROP TABLE staying;
DELETE FROM told;
"""
# What lies in places that go beside the one that counts, and does not count in one that was made
# since; in the order in which it is read there.
_BESIDE = """
INSERT INTO beside (key) SELECT DISTINCT o.key FROM other_place o
CROSS JOIN going_place USING (place) CROSS JOIN live l ON l.key = o.key
LEFT JOIN content c ON c.key = o.key
WHERE c.place IS NULL OR c.place BETWEEN ? AND ? ORDER BY c.place, c.offset
"""
# Both are in the order of their keys.
_USED = """
DELETE FROM used;
INSERT INTO used SELECT place, count(*), sum(stored) FROM live CROSS JOIN content USING (key)
    GROUP BY place;
"""
_UNUSED_PARTS = """
SELECT DISTINCT sha256 FROM part WHERE sha256 > ?
    AND sha256 NOT IN (SELECT sha256 FROM condemned)
    AND sha256 NOT IN (
        SELECT sha256 FROM part WHERE object IN (SELECT -place FROM used WHERE place < 0)
    )
ORDER BY sha256 LIMIT 1000
"""
_PARTLY_USED = """
SELECT id, sha256, length FROM pack JOIN used ON place = id
WHERE id > ? AND NOT condemned AND stored + count * ? + ? < length * ? ORDER BY id LIMIT ?
"""
_IS_ANY_CONDEMNED = f"SELECT EXISTS (SELECT 1 FROM used WHERE {IS_CONDEMNED.format('place')})"  # noqa: S608
_CHUNK = 500
_GOING = 5_000
# What a pack has beside its members, at most: its end, and what encryption adds.
FIXED = 2048


# A manifest, and which batch of its lines.
Lines = tuple[str, int]


class Pack(NamedTuple):
    """A pack: its number in the index, its name, its bytes."""

    place: int
    sha256: bytes
    length: int


class Live:
    """The contents that the versions of a vault hold. For one thread."""

    def __init__(self, index: Index) -> None:
        self._index = index
        # Which lines were noted under which number, and how many versions they tell of.
        self._noted: list[tuple[Lines, int]] = []
        # Of lines of which all versions stay, or none: whether they do.
        self.stay: dict[Lines, bool] = {}
        # Of which places it was worked out what of them is used.
        self._as_of: tuple[int, int] | None = None
        self._drop()
        with index.raw() as connection:
            connection.execute(_SCHEMA)
            # The last object, as a place, and the last pack that was there when this began.
            self._newest: tuple[int, int] = connection.execute(
                "SELECT -(SELECT coalesce(max(id), 0) FROM object),"
                " (SELECT coalesce(max(id), 0) FROM pack)"
            ).fetchone()

    def believe_nothing(self) -> None:
        """The places have other numbers now: which of them were made since, nobody knows."""
        self._newest = (-(2**62), 2**62)

    def leave_out(self, version_ids: Iterable[bytes]) -> None:
        """Count these versions as pruned, for who only wants to know."""
        coming = iter(version_ids)
        while batch := [(it,) for it in islice(coming, _GOING)]:
            with self._index.transaction() as connection:
                connection.executemany("INSERT OR IGNORE INTO going VALUES (?)", batch)

    def add(self, told: Told, lines: Lines) -> None:
        """Note what versions hold of which some lines tell; what is pruned of them is left out when
        all is taken up."""
        columns, others, rest = told
        number = "NULL"
        if rest is not None:
            number = str(len(self._noted))
            self._noted.append((lines, columns.versions + len(others)))
        with self._index.transaction() as connection:
            if columns.versions:
                # Nearly always: one statement for all, beside which other threads can work.
                size = len(columns.keys) // columns.versions
                connection.execute(
                    _ADD.format(number),
                    (columns.keys, size, columns.version_ids, f"[{columns.times}]"),
                )
            sql = f"INSERT INTO told VALUES (?, ?, ?, {number})"  # noqa: S608
            connection.executemany(sql, others)

    def take_up(self) -> None:
        """Take up what was noted, but for what is pruned by now."""
        with self._index.transaction() as connection:
            connection.execute(_STAYING)
            left = dict(connection.execute("SELECT lines, count(*) FROM staying GROUP BY lines"))
            connection.execute(_TAKE_UP)
            if left:
                self._as_of = None
        for number, (lines, count) in enumerate(self._noted):
            if left.get(number, 0) in {0, count}:
                self.stay[lines] = number in left
        self._noted.clear()

    def unplaced(self) -> int:
        """How many of them no manifest placed when they were last summed up."""
        with self._index.raw() as connection:
            return int(
                connection.execute(
                    "SELECT (SELECT count(*) FROM live) - (SELECT total(count) FROM used)"
                ).get
            )

    def sum_up(self) -> None:
        """Work out what of each place is used, where that may have changed."""
        with self._index.transaction() as connection:
            as_of = self._index.places_as_of()
            if as_of != self._as_of:
                connection.execute(_USED)
                self._as_of = as_of

    def used_condemned(self) -> list[int]:
        """The condemned places in which contents count."""
        sql = f"SELECT place FROM used WHERE {IS_CONDEMNED.format('place')}"  # noqa: S608
        with self._index.raw() as connection:
            rows = connection.execute(sql).fetchall()
        return [place for (place,) in rows]

    def used_places(self) -> Iterator[int]:
        yield from (row[0] for row in self._paged("SELECT place FROM used WHERE place > ?"))
        yield from (-row[0] for row in self._paged("SELECT -place FROM used WHERE -place > ?"))

    def _paged(self, sql: str) -> Iterator[tuple[Any, ...]]:
        last = 0
        while True:
            with self._index.raw() as connection:
                rows = connection.execute(f"{sql} ORDER BY 1 LIMIT 1000", (last,)).fetchall()
            if not rows:
                return
            yield from rows
            last = rows[-1][0]

    def unused_packs(self) -> Iterator[Pack]:
        """Packs of which nothing is used, and that are not condemned yet."""
        for row in self._paged(
            "SELECT id, sha256, length FROM pack WHERE id > ? AND NOT condemned"
            " AND id NOT IN (SELECT place FROM used)"
        ):
            yield Pack._make(row)

    def unused_parts(self) -> Iterator[bytes]:
        """Parts of objects of which no content is used."""
        last = b""
        while True:
            with self._index.raw() as connection:
                rows = connection.execute(_UNUSED_PARTS, (last,)).fetchall()
            if not rows:
                return
            yield from (row[0] for row in rows)
            last = rows[-1][0]

    def partly_used_packs(self, share: float, after: int, most: int) -> list[Pack]:
        """Packs of which less than this share of their bytes is used, by their numbers, which are
        greater than `after`; at most so many."""
        with self._index.raw() as connection:
            rows = connection.execute(
                _PARTLY_USED, (after, MEMBER_OVERHEAD, FIXED, share, most)
            ).fetchall()
        return [Pack._make(row) for row in rows]

    def beside(self, names: Iterable[bytes]) -> Iterator[bytes]:
        """Contents that lie in these files (by their SHA-256) beside the place that counts, but for
        what was stored since this began."""
        with self._index.transaction() as connection:
            connection.execute("DELETE FROM going_place")
            connection.execute("DELETE FROM beside")
            for sql in (
                "INSERT OR IGNORE INTO going_place SELECT id FROM pack WHERE sha256 = ?",
                "INSERT OR IGNORE INTO going_place SELECT -object FROM part WHERE sha256 = ?",
            ):
                connection.executemany(sql, ((name,) for name in names))
            connection.execute(_BESIDE, self._newest)
        for _, key in self._paged("SELECT id, key FROM beside WHERE id > ?"):
            yield key

    def gather(self, packs: Sequence[Pack]) -> None:
        """Look up what is used of these packs, for `members`."""
        with self._index.transaction() as connection:
            connection.execute("DELETE FROM moving")
            connection.execute("CREATE TEMP TABLE wanted (place INTEGER PRIMARY KEY)")
            connection.executemany("INSERT INTO wanted VALUES (?)", ((it.place,) for it in packs))
            connection.execute(
                "INSERT INTO moving SELECT place, offset, stored, size, key"
                " FROM live JOIN content USING (key) JOIN wanted USING (place)"
            )
            connection.execute("DROP TABLE wanted")

    def members(self, pack: Pack) -> Iterator[Member]:
        """What is used of a gathered pack, in order."""
        last = -1
        while True:
            with self._index.raw() as connection:
                rows = connection.execute(
                    "SELECT key, offset, stored, size FROM moving WHERE place = ? AND offset > ?"
                    " ORDER BY offset LIMIT 1000",
                    (pack.place, last),
                ).fetchall()
            if not rows:
                return
            for key, offset, stored, size in rows:
                yield Member(key_of_blob(key), offset, stored, size)
            last = rows[-1][1]

    def keys_at(self, place: int) -> list[bytes]:
        """The contents that are looked for in a place. Reads all that there are."""
        with self._index.raw() as connection:
            rows = connection.execute(
                "SELECT key FROM live JOIN content USING (key) WHERE place = ?", (place,)
            ).fetchall()
        return [key for (key,) in rows]

    def in_condemned(self) -> Iterator[list[bytes]]:
        """Contents that lie in what is condemned and nowhere else, some at a time."""
        last = b""
        with self._index.raw() as connection:
            # Places are few, contents are not.
            if not connection.execute(_IS_ANY_CONDEMNED).get:
                return
        while True:
            with self._index.raw() as connection:
                rows = connection.execute(
                    "SELECT key FROM live JOIN content c USING (key) WHERE key > ? AND"  # noqa: S608
                    f" {IS_CONDEMNED.format('c.place')} ORDER BY key LIMIT {_CHUNK}",
                    (last,),
                ).fetchall()
            if not rows:
                return
            yield [key for (key,) in rows]
            last = rows[-1][0]

    def close(self) -> None:
        self._drop()

    def _drop(self) -> None:
        with self._index.raw() as connection:
            for table in _TABLES:
                connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
