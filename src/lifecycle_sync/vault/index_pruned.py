"""What is kept no longer, in the index of a vault: pruned versions, condemned packs and objects.

A content may have several places. The last one told counts, but one that is condemned only where
there is no other; so the places that were told before, or lie in what is condemned, are remembered
beside the one that counts. Where there is nothing of all that, it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from lifecycle_sync.bulk_rows import LONG_ROWS, in_bulk
from lifecycle_sync.model.event import Event, VersionEvent
from lifecycle_sync.vault.index_file import Connection, IndexFile

_EVENTS = 1_000
_NEVER = -(2**63)
_E = TypeVar("_E", bound=Event)
# place > 0 is a pack, place < 0 an object.
IS_CONDEMNED = (
    "CASE WHEN {0} > 0 THEN (SELECT condemned FROM pack WHERE id = {0})"
    " ELSE (SELECT condemned FROM object WHERE id = -{0}) END"
)
# The better place becomes the one that counts, and that one the other.
_SWAP = f"""
CREATE TEMP TABLE swapped AS
    SELECT o.key AS key, o.place AS place, o.offset AS offset, o.stored AS stored, o.size AS size
    FROM other_place o JOIN content c ON c.key = o.key
    WHERE {IS_CONDEMNED.format("c.place")} AND NOT {IS_CONDEMNED.format("o.place")}
    GROUP BY o.key;
INSERT OR IGNORE INTO other_place
    SELECT c.key, c.place, c.offset, c.stored, c.size FROM content c JOIN swapped USING (key);
INSERT OR REPLACE INTO content SELECT key, place, offset, stored, size FROM swapped;
DROP TABLE swapped;
"""  # noqa: S608
_INSERT = "INSERT OR IGNORE INTO content\nVALUES (?, ?, ?, ?, ?)\n"
# Of many ids that stand one after the other, in their order, so that each is put beside the last.
_ADD_PRUNED = """
WITH RECURSIVE start (at) AS (
    SELECT 1 UNION ALL SELECT at + 16 FROM start WHERE at + 16 < length(?1)
)
INSERT INTO pruned SELECT substr(?1, at, 16), ?2 FROM start WHERE true ORDER BY 1
ON CONFLICT DO UPDATE SET at_ns = max(at_ns, excluded.at_ns)
"""
Row = tuple[bytes, int, int, int, int]


class Condemned(NamedTuple):
    """A pack, or a part of an object, that is condemned; since when, as whoever did it said."""

    sha256: bytes
    is_pack: bool
    at_ns: int


class IndexPruned(IndexFile):
    """The part of `Index` that knows what is kept no longer."""

    # -- versions --------------------------------------------------------------------------

    def add_pruned(self, version_ids: Iterable[bytes], at_ns: int) -> None:
        """What was told of these versions until then counts no more."""
        ids = b"".join(version_ids)
        if ids:
            with self._use(write=True) as connection:
                connection.execute(_ADD_PRUNED, (ids, at_ns))

    def has_pruned(self) -> bool:
        with self._use() as connection:
            return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM pruned)").get)

    def pruned_at(self, version_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Until when what was told of these versions counts no more, of those that were pruned."""
        sql = "SELECT version_id, at_ns FROM pruned WHERE version_id IN {}"
        return dict(self._among(sql, version_ids))

    def unpruned(self, events: Iterable[_E]) -> Iterator[_E]:
        """The events without what was told of versions that are kept no longer."""
        if not self.has_pruned():
            yield from events
            return
        coming = iter(events)
        while batch := list(islice(coming, _EVENTS)):
            until = self.pruned_at([it.version_id for it in batch if isinstance(it, VersionEvent)])
            for it in batch:
                pruned = isinstance(it, VersionEvent) and it.at_ns <= until.get(
                    it.version_id, _NEVER
                )
                if not pruned:
                    yield it

    # -- packs and objects -----------------------------------------------------------------

    def add_condemned(self, packs: Iterable[bytes], objects: Iterable[bytes], at_ns: int) -> None:
        """These names never count again, whenever they are told of."""
        with self._use(write=True) as connection:
            for is_pack, names in ((1, packs), (0, objects)):
                rows = [(name, is_pack, at_ns) for name in names]
                connection.executemany("INSERT OR IGNORE INTO condemned VALUES (?, ?, ?)", rows)
                sql = (
                    "UPDATE pack SET condemned = 1 WHERE sha256 = ?"
                    if is_pack
                    else "UPDATE object SET condemned = 1 WHERE id IN"
                    " (SELECT object FROM part WHERE sha256 = ?)"
                )
                connection.executemany(sql, ((row[0],) for row in rows))
            before = connection.total_changes()
            connection.execute(_SWAP)
            self._moved += connection.total_changes() > before

    def has_condemned(self) -> bool:
        with self._use() as connection:
            return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM condemned)").get)

    def condemned(self) -> Iterator[Condemned]:
        """All of them, in the order of their names."""
        last = b""
        while True:
            with self._use() as connection:
                rows = connection.execute(
                    "SELECT sha256, is_pack, at_ns FROM condemned WHERE sha256 > ?"
                    " ORDER BY sha256 LIMIT 1000",
                    (last,),
                ).fetchall()
            if not rows:
                return
            for sha256, is_pack, at_ns in rows:
                yield Condemned(sha256, bool(is_pack), at_ns)
            last = rows[-1][0]

    def are_condemned(self, names: Sequence[bytes]) -> set[bytes]:
        """Those of the names (SHA-256) that are."""
        rows = self._among("SELECT sha256 FROM condemned WHERE sha256 IN {}", names)
        return {sha256 for (sha256,) in rows}

    def is_condemned(self, place: int) -> bool:
        """Whether a place (a pack, or minus an object) is, or a part of it."""
        table = "pack" if place > 0 else "object"
        with self._use() as connection:
            sql = f"SELECT condemned FROM {table} WHERE id = ?"  # noqa: S608
            return bool(connection.execute(sql, (abs(place),)).get)

    def other_places(self, blob: bytes) -> list[int]:
        """The places of a content beside the one that counts."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT place FROM other_place WHERE key = ?", (blob,)
            ).fetchall()
        return [place for (place,) in rows]

    def blobs_beside(self, sha256: bytes) -> list[bytes]:
        """The contents, as `key_blob` has them, that lie in a pack or in objects with this part and
        count elsewhere, or nowhere. Reads all that there are."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT DISTINCT key FROM other_place WHERE place IN (SELECT id FROM pack"
                " WHERE sha256 = ?1 UNION ALL SELECT -object FROM part WHERE sha256 = ?1)",
                (sha256,),
            ).fetchall()
        return [blob for (blob,) in rows]

    def holding(self, names: Sequence[bytes]) -> set[bytes]:
        """Those of these packs and parts of objects, by their SHA-256, in which contents count.
        Reads all that there are, once for many."""
        files = self._among("SELECT sha256, id FROM pack WHERE sha256 IN {}", names)
        files += self._among("SELECT sha256, -object FROM part WHERE sha256 IN {}", names)
        places = sorted({place for _, place in files})
        rows = self._among("SELECT DISTINCT place FROM content WHERE place IN {}", places)
        used = {place for (place,) in rows}
        return {sha256 for sha256, place in files if place in used}

    def unasked_places(self) -> list[int]:
        """The condemned packs, and minus objects, of which `note_gone` was not told."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT id FROM pack WHERE condemned = 1"
                " UNION ALL SELECT -id FROM object WHERE condemned = 1"
            ).fetchall()
        return [place for (place,) in rows]

    def note_gone(self, names: Iterable[bytes], *, gone: bool = True) -> None:
        """These condemned files (SHA-256) have gone, and no version needed what was in there: that
        need not be asked again, unless they are `gone` no more."""
        rows = [(int(gone) + 1, name) for name in names]
        with self._use(write=True) as connection:
            connection.executemany(
                "UPDATE pack SET condemned = ?1 WHERE condemned AND condemned <> ?1"
                " AND sha256 = ?2",
                rows,
            )
            connection.executemany(
                "UPDATE object SET condemned = ?1 WHERE condemned AND condemned <> ?1"
                " AND id IN (SELECT object FROM part WHERE sha256 = ?2)",
                rows,
            )

    def prefer(self, blob: bytes, place: int, *, forget: bool = False) -> None:
        """Let another place of a content be the one that counts, and `forget` that one."""
        with self._use(write=True) as connection:
            row = connection.execute(
                "SELECT key, place, offset, stored, size FROM other_place"
                " WHERE key = ? AND place = ?",
                (blob, place),
            ).fetchone()
            if row is not None:
                self._moved += 1
                if forget:
                    connection.execute("DELETE FROM content WHERE key = ?", (blob,))
                _keep_others(connection, [blob], place)
                connection.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?)", row)

    # -- strays ----------------------------------------------------------------------------

    def strays(
        self, names: Sequence[tuple[str, bytes]], now_ns: int, *, note: bool
    ) -> dict[str, int]:
        """Of these files (name, SHA-256) those that no manifest tells of, and since when that is
        known; for what is seen the first time, since now, which is noted."""
        found: dict[str, int] = {}
        with self._use(write=note) as connection:
            for name, sha256 in names:
                known = connection.execute(
                    "SELECT EXISTS (SELECT 1 FROM pack WHERE sha256 = ?1)"
                    " OR EXISTS (SELECT 1 FROM part WHERE sha256 = ?1)"
                    " OR EXISTS (SELECT 1 FROM condemned WHERE sha256 = ?1)",
                    (sha256,),
                ).get
                if known:
                    continue
                seen_ns = connection.execute(
                    "SELECT seen_ns FROM stray WHERE name = ?", (name,)
                ).get
                if seen_ns is None and note:
                    connection.execute("INSERT INTO stray VALUES (?, ?)", (name, now_ns))
                found[name] = now_ns if seen_ns is None else seen_ns
        return found

    # -- places ----------------------------------------------------------------------------

    def places_as_of(self) -> tuple[int, int]:
        """Says the same as before only where no content got another place since, by whomever."""
        with self._use() as connection:
            return connection.execute("PRAGMA data_version").get, self._moved

    def _place_contents(self, connection: Connection, place: int, rows: list[Row]) -> None:
        """Take up where contents lie, all in one place. It counts unless it is condemned and
        another is known."""
        self._moved += 1
        before = connection.total_changes()
        # In the order of the table: what they touch of it is at hand once, and not again and again.
        values = list(chain.from_iterable(sorted(rows)))
        in_bulk(connection, _INSERT, values, 5, rows=LONG_ROWS)
        if connection.total_changes() - before == len(rows):
            return
        if connection.execute(f"SELECT {IS_CONDEMNED.format('?1')}", (place,)).get:
            connection.executemany(
                "INSERT OR IGNORE INTO other_place SELECT ?1, ?2, ?3, ?4, ?5"
                " WHERE NOT EXISTS (SELECT 1 FROM content WHERE key = ?1 AND place = ?2)",
                rows,
            )
            return
        _keep_others(connection, [row[0] for row in rows], place)
        connection.executemany("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?)", rows)


def _keep_others(connection: Connection, keys: list[bytes], place: int) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO other_place SELECT key, place, offset, stored, size FROM content"
        " WHERE key = ?1 AND place <> ?2",
        ((key, place) for key in keys),
    )
    connection.executemany(
        "DELETE FROM other_place WHERE key = ?1 AND place = ?2", ((key, place) for key in keys)
    )
