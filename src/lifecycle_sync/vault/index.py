"""The index of a vault: which content lies where, and in which manifest a version stands.

A SQLite file beside the vault's user, never in the vault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault.content_lines import ObjectLine, ObjectPart, PackLine
from lifecycle_sync.vault.format import algorithm_name, code_byte
from lifecycle_sync.vault.index_checks import IndexChecks
from lifecycle_sync.vault.index_file import Connection
from lifecycle_sync.vault.index_pruned import IndexPruned
from lifecycle_sync.vault.pack import Member

# The tables of what manifests tell.
_TOLD = [*("manifest", "pack", "object", "part", "content", "other_place")]
_TOLD += [*("condemned", "pruned", "given_up", "version", "directory")]


class PackPlace(NamedTuple):
    """A content in a pack: `stored` bytes from `offset` on."""

    sha256: bytes
    length: int
    offset: int
    stored: int
    size: int


class ObjectPlace(NamedTuple):
    """A content in objects of its own."""

    parts: tuple[ObjectPart, ...]
    size: int


Place = PackPlace | ObjectPlace


class VersionRow(NamedTuple):
    """Where the line of a version stands. `path` is a number made of repository and path."""

    version_id: bytes
    file_id: bytes
    path: int
    frame: int
    offset: int


class KnownManifest(NamedTuple):
    """A manifest that the index has taken up; `covers` is None where it is no checkpoint."""

    name: str
    length: int
    covers: frozenset[str] | None
    head: bool
    read: bool


class GivenUp(NamedTuple):
    """Since when a manifest is given up, in nanoseconds since 1970 UTC, and what was said of it."""

    at_ns: int
    reason: str


def key_blob(key: ContentKey) -> bytes:
    """A key as the index has it: the digest, and one byte for the algorithm."""
    # By their places: it is asked for each content several times.
    return key[1] + code_byte(key[0])


def key_of_blob(blob: bytes) -> ContentKey:
    """The key that `key_blob` made it of."""
    return ContentKey(algorithm_name(blob[-1]), blob[:-1])


class Index(IndexChecks, IndexPruned):
    """One open index. Thread-safe."""

    # -- manifests -------------------------------------------------------------------------

    def manifests(self) -> list[KnownManifest]:
        with self._use() as connection:
            rows = connection.execute(
                "SELECT name, length, covers, head, read FROM manifest ORDER BY name"
            ).fetchall()
        return [
            KnownManifest(
                name,
                length,
                None if covers is None else frozenset(msgspec.json.decode(covers)),
                bool(head),
                bool(read),
            )
            for name, length, covers, head, read in rows
        ]

    def add_manifest(
        self,
        name: str,
        length: int,
        previous: Iterable[str],
        covers: Iterable[str] | None,
        *,
        read: bool,
        head: bool = True,
    ) -> bool:
        """Take up a manifest; False when it was. Its lines are for `add_contents`."""
        text = None if covers is None else msgspec.json.encode(sorted(covers)).decode()
        with self._use(write=True) as connection:
            known = connection.execute("SELECT 1 FROM manifest WHERE name = ?", (name,)).get
            if known is not None:
                return False
            connection.execute(
                "INSERT INTO manifest (name, length, covers, head, read) VALUES (?, ?, ?, ?, ?)",
                (name, length, text, head, read),
            )
            connection.executemany(
                "UPDATE manifest SET head = 0 WHERE name = ?", ((it,) for it in previous)
            )
        return True

    def drop_manifests(self, names: Sequence[str]) -> None:
        """Forget manifests (and where versions stand in them) whose contents others tell, too."""
        with self._use(write=True) as connection:
            for name in names:
                number = connection.execute("SELECT id FROM manifest WHERE name = ?", (name,)).get
                connection.execute("DELETE FROM version WHERE manifest = ?", (number,))
                connection.execute("DELETE FROM directory WHERE manifest = ?", (number,))
                connection.execute("DELETE FROM manifest WHERE id = ?", (number,))
            connection.execute(
                "UPDATE manifest SET read = 1, versions = 0 WHERE covers IS NOT NULL"
            )

    def clear(self, vanished: Iterable[str] = ()) -> None:
        """Forget everything but the names of manifests that were there once."""
        with self._use(write=True) as connection:
            self._moved += 1
            for table in _TOLD:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608
            connection.executemany(
                "INSERT OR IGNORE INTO vanished VALUES (?)", ((name,) for name in vanished)
            )
        self.forget_claims()

    def vanished(self) -> list[str]:
        """The names of manifests that were read once and have gone since."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT name FROM vanished WHERE name NOT IN (SELECT name FROM manifest)"
            ).fetchall()
        return sorted(name for (name,) in rows)

    def add_given_up(self, names: Iterable[str], at_ns: int, reason: str) -> None:
        """Nobody waits for these any more; the first who said so counts."""
        with self._use(write=True) as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO given_up VALUES (?, ?, ?)",
                ((name, at_ns, reason) for name in names),
            )

    def given_up(self) -> dict[str, GivenUp]:
        """The manifests that nobody waits for, by name; not those that are there all the same."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT name, at_ns, reason FROM given_up WHERE name NOT IN"
                " (SELECT name FROM manifest) ORDER BY name"
            ).fetchall()
        return {name: GivenUp(at_ns, reason) for name, at_ns, reason in rows}

    # -- contents --------------------------------------------------------------------------

    def add_contents(self, lines: Iterable[PackLine | ObjectLine]) -> None:
        with self._use(write=True) as connection:
            for line in lines:
                if isinstance(line, PackLine):
                    self._add_pack(connection, line)
                else:
                    self._add_object(connection, line)

    def _add_pack(self, connection: Connection, line: PackLine) -> None:
        connection.execute(
            "INSERT INTO pack (sha256, length, condemned) VALUES (?1, ?2, EXISTS"
            " (SELECT 1 FROM condemned WHERE sha256 = ?1)) ON CONFLICT DO NOTHING",
            (line.sha256, line.length),
        )
        place = connection.execute("SELECT id FROM pack WHERE sha256 = ?", (line.sha256,)).get
        code = code_byte(line.algorithm)
        members = zip(line.digests, line.offsets, line.stored, line.sizes, strict=True)
        rows = [(digest + code, place, *rest) for digest, *rest in members]
        self._place_contents(connection, place, rows)

    def _add_object(self, connection: Connection, line: ObjectLine) -> None:
        parts = [(part.sha256.hex(), part.stored, part.size) for part in line.parts]
        text = msgspec.json.encode(parts).decode()
        # The last part names the content, so an object that was told before has the same one.
        number = connection.execute(
            "SELECT id FROM part JOIN object ON id = object WHERE sha256 = ? AND parts = ?",
            (line.parts[-1].sha256, text),
        ).get
        if number is None:
            names = [(part.sha256,) for part in line.parts]
            condemned = any(
                connection.execute("SELECT 1 FROM condemned WHERE sha256 = ?", name).get
                for name in names
            )
            connection.execute(
                "INSERT INTO object (parts, condemned) VALUES (?, ?)", (text, condemned)
            )
            number = connection.last_insert_rowid()
            connection.executemany(
                "INSERT OR IGNORE INTO part VALUES (?, ?)", ((*name, number) for name in names)
            )
        self._place_contents(connection, -number, [(key_blob(line.key), -number, 0, 0, line.size)])

    def is_empty(self) -> bool:
        """Whether no content is known."""
        with self._use() as connection:
            return not connection.execute("SELECT EXISTS (SELECT 1 FROM content)").get

    def places(self, blobs: Sequence[bytes]) -> dict[bytes, int]:
        """Of those keys (as `key_blob` has them) that are known: in which pack (or object, as a
        negative number) each lies."""
        return dict(self._among("SELECT key, place FROM content WHERE key IN {}", blobs))

    def place_number(self, blob: bytes) -> int | None:
        """The same for one key."""
        with self._mutex:
            row = self._connection.execute(
                "SELECT place FROM content WHERE key = ?", (blob,)
            ).fetchone()
        return None if row is None else row[0]

    def files_of(self, place: int) -> list[tuple[bytes, int]]:
        """The SHA-256 and length of each stored file that a place needs; negative: objects."""
        with self._use() as connection:
            if place < 0:
                return [(part.sha256, part.stored) for part in _parts(connection, -place)]
            rows: list[tuple[bytes, int]] = connection.execute(
                "SELECT sha256, length FROM pack WHERE id = ?", (place,)
            ).fetchall()
            return rows

    def place(self, key: ContentKey) -> Place | None:
        """Where a content lies: the place that counts."""
        return self._place_in("content", "key = ?", key_blob(key))

    def place_beside(self, key: ContentKey, place: int) -> Place | None:
        """The same of one of its `other_places`."""
        return self._place_in("other_place", "key = ? AND place = ?", key_blob(key), place)

    def _place_in(self, table: str, condition: str, *values: object) -> Place | None:
        with self._use() as connection:
            row = connection.execute(
                "SELECT place, offset, stored, size, sha256, length"  # noqa: S608
                f" FROM {table} LEFT JOIN pack ON pack.id = place WHERE {condition}",
                values,
            ).fetchone()
            if row is None:
                return None
            place, offset, stored, size, sha256, length = row
            if place < 0:
                return ObjectPlace(_parts(connection, -place), size)
            return PackPlace(sha256, length, offset, stored, size)

    def pack_places(self, blobs: Sequence[bytes]) -> dict[bytes, PackPlace]:
        """`place` of many keys (as `key_blob` has them), of those that lie in packs."""
        rows = self._among(
            "SELECT key, sha256, length, offset, stored, content.size FROM content"
            " JOIN pack ON pack.id = place WHERE key IN {}",
            blobs,
        )
        return {row[0]: PackPlace._make(row[1:]) for row in rows}

    def forget(self, keys: Iterable[ContentKey]) -> None:
        """Rely no more on where contents lie that were found damaged, so that they are stored anew.
        Nothing counts then, and who reads looks there all the same."""
        with self._use(write=True) as connection:
            self._moved += 1
            blobs = [(key_blob(key),) for key in keys]
            connection.executemany(
                "INSERT OR IGNORE INTO other_place SELECT key, place, offset, stored, size"
                " FROM content WHERE key = ?",
                blobs,
            )
            connection.executemany("DELETE FROM content WHERE key = ?", blobs)
            # With it: who comes after one that was killed has to miss them, too.
            self.forget_claims()

    def packs(self) -> Iterator[tuple[int, bytes, int]]:
        """Number, SHA-256 and length of every pack that is referred to, and not condemned."""
        yield from self._paged(
            "SELECT id, sha256, length FROM pack WHERE id > ? AND NOT condemned ORDER BY id"
        )

    def objects(self) -> Iterator[tuple[int, tuple[ObjectPart, ...]]]:
        """Number and parts of every object that is referred to, and not condemned."""
        for number, parts in self._paged(
            "SELECT id, parts FROM object WHERE id > ? AND NOT condemned ORDER BY id"
        ):
            yield number, _decode_parts(parts)

    def members(self, place: int) -> list[Member]:
        """What is looked for in a pack, in order."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT key, offset, stored, size FROM content WHERE place = ? ORDER BY offset",
                (place,),
            ).fetchall()
        return [Member(key_of_blob(key), *rest) for key, *rest in rows]

    def key_at(self, place: int) -> tuple[ContentKey, int] | None:
        """The content, and its size, that is looked for in an object."""
        with self._use() as connection:
            row = connection.execute(
                "SELECT key, size FROM content WHERE place = ?", (place,)
            ).fetchone()
        return None if row is None else (key_of_blob(row[0]), row[1])

    def pack_number(self, sha256: bytes) -> int | None:
        with self._use() as connection:
            row = connection.execute("SELECT id FROM pack WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else row[0]

    def keys_of_part(self, sha256: bytes) -> list[ContentKey]:
        """The contents that are looked for in objects with this part. Reads all that there are."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT key FROM object JOIN content ON place = -id WHERE instr(parts, ?)",
                (sha256.hex(),),
            ).fetchall()
        return [key_of_blob(key) for (key,) in rows]

    def _paged(self, sql: str) -> Iterator[tuple[Any, ...]]:
        last = 0
        while True:
            with self._use() as connection:
                rows = connection.execute(f"{sql} LIMIT 1000", (last,)).fetchall()
            if not rows:
                return
            yield from rows
            last = rows[-1][0]

    # -- versions --------------------------------------------------------------------------

    def without_versions(self) -> list[str]:
        """The manifests whose versions are not taken up yet; they are when somebody asks."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT name FROM manifest WHERE read AND NOT versions ORDER BY name"
            ).fetchall()
        return [name for (name,) in rows]

    def add_versions(
        self, name: str, versions: Iterable[VersionRow], directories: Iterable[tuple[int, int]]
    ) -> None:
        """Take up where the versions and directories of a manifest stand. A version that another
        manifest tells as well stays as it is, unless it was pruned: then it is told anew."""
        with self._use(write=True) as connection:
            row = connection.execute(
                "SELECT id FROM manifest WHERE name = ? AND NOT versions", (name,)
            ).fetchone()
            if row is None:
                return
            number = row[0]
            connection.executemany(
                "INSERT INTO version VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " manifest = excluded.manifest, frame = excluded.frame, offset = excluded.offset"
                " WHERE version_id IN (SELECT version_id FROM pruned)",
                ((*row[:3], number, *row[3:]) for row in versions),
            )
            connection.executemany(
                "INSERT INTO directory VALUES (?, ?, ?)", ((number, *row) for row in directories)
            )
            connection.execute("UPDATE manifest SET versions = 1 WHERE id = ?", (number,))

    def ask_all(self) -> None:
        """A manifest is damaged: those are to be asked for versions, too, that may say the same, be
        it that a checkpoint repeats it, or that it is a checkpoint which repeats them."""
        with self._use(write=True) as connection:
            connection.execute("UPDATE manifest SET read = 1")

    def lose_frame(self, name: str, frame: int) -> bool:
        """Forget what stands in a frame that turned out to be damaged, where another manifest says
        the same, which is asked from now on; False where none does: what is missing is to be told
        again by whoever comes next."""
        known = self.manifests()
        names = {it.name for it in known}
        repeated = any(
            name in it.covers or (it.name == name and it.covers & names)
            for it in known
            if it.covers
        )
        if not repeated:
            return False
        with self._use(write=True) as connection:
            connection.execute(
                "DELETE FROM version WHERE frame = ?"
                " AND manifest = (SELECT id FROM manifest WHERE name = ?)",
                (frame, name),
            )
            connection.execute(
                "DELETE FROM directory WHERE frame = ?1 OR manifest !="
                " (SELECT id FROM manifest WHERE name = ?2)",
                (frame, name),
            )
            # What else stands in this one is still found there.
            connection.execute(
                "UPDATE manifest SET read = 1, versions = 0 WHERE name != ?", (name,)
            )
        return True

    def versions_of(self, file_id: bytes) -> list[tuple[str, int, int]]:
        """Manifest, frame and offset of every version of a file."""
        return self._lines_where("file_id = ?", file_id)

    def versions_at(self, path: int) -> list[tuple[str, int, int]]:
        return self._lines_where("path = ?", path)

    def _lines_where(self, condition: str, value: object) -> list[tuple[str, int, int]]:
        with self._use() as connection:
            rows: list[tuple[str, int, int]] = connection.execute(
                "SELECT name, frame, offset"  # noqa: S608
                " FROM version JOIN manifest ON manifest.id = manifest"
                f" WHERE {condition} ORDER BY name, frame, offset",
                (value,),
            ).fetchall()
            return rows

    def version_near(self, part: float) -> tuple[str, int, int] | None:
        """Manifest, frame and offset of the version that stands at a part (0 up to 1) of all."""
        with self._use() as connection:
            row: tuple[str, int, int] | None = connection.execute(
                "SELECT name, frame, offset FROM version JOIN manifest ON manifest.id = manifest"
                " WHERE version.rowid >= ? * (SELECT max(rowid) FROM version)"
                " ORDER BY version.rowid LIMIT 1",
                (part,),
            ).fetchone()
        return row

    def lines_of(self, table: str, name: str) -> Iterator[tuple[int, int]]:
        """Frame and offset of each version (or directory) that a manifest is asked for."""
        assert table in {"version", "directory"}
        last = (-1, -1)
        while True:
            with self._use() as connection:
                rows = connection.execute(
                    f"SELECT frame, offset FROM {table} WHERE"  # noqa: S608
                    " manifest = (SELECT id FROM manifest WHERE name = ?)"
                    " AND (frame, offset) > (?, ?) ORDER BY frame, offset LIMIT 1000",
                    (name, *last),
                ).fetchall()
            if not rows:
                return
            yield from rows
            last = rows[-1]

    def told_versions(self, version_ids: Sequence[bytes]) -> set[bytes]:
        """Those of these that stand in a manifest."""
        rows = self._among("SELECT version_id FROM version WHERE version_id IN {}", version_ids)
        return {version_id for (version_id,) in rows}

    def version_manifests(self) -> list[str]:
        """The manifests that versions were taken up from, in order."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT name FROM manifest WHERE versions ORDER BY name"
            ).fetchall()
        return [name for (name,) in rows]


def _parts(connection: Connection, number: int) -> tuple[ObjectPart, ...]:
    return _decode_parts(connection.execute("SELECT parts FROM object WHERE id = ?", (number,)).get)


def _decode_parts(text: str) -> tuple[ObjectPart, ...]:
    rows = msgspec.json.decode(text, type=list[tuple[str, int, int]])
    return tuple(ObjectPart(bytes.fromhex(sha256), stored, size) for sha256, stored, size in rows)
