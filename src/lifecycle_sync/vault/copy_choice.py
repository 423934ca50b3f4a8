"""Which packs and objects of a vault a copy of it may do without.

A file of the vault is left out only when everything in it is to be spared that copy. What nobody
says anything of goes everywhere. The tables are temporary ones of the index, so that the memory
stays the same however many contents there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from lifecycle_sync.vault.format import PACKS
from lifecycle_sync.vault.hashing import digest_named
from lifecycle_sync.vault.index import Index

_SCHEMA = """
DROP TABLE IF EXISTS temp.spared;
DROP TABLE IF EXISTS temp.wanted_there;
DROP TABLE IF EXISTS temp.left_out;
CREATE TEMP TABLE spared (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE wanted_there (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE left_out (place INTEGER PRIMARY KEY);
"""
_SETTLE = """
DELETE FROM spared WHERE key IN (SELECT key FROM wanted_there);
DELETE FROM left_out;
INSERT INTO left_out SELECT place FROM (
    SELECT key, place FROM content UNION ALL SELECT key, place FROM other_place
) GROUP BY place HAVING min(key IN (SELECT key FROM spared));
"""
_PACK = "SELECT EXISTS (SELECT 1 FROM left_out JOIN pack ON id = place WHERE sha256 = ?1)"
# A part may belong to several objects.
_PART = """
SELECT EXISTS (SELECT 1 FROM part WHERE sha256 = ?1) AND NOT EXISTS (
    SELECT 1 FROM part WHERE sha256 = ?1 AND -object NOT IN (SELECT place FROM left_out)
)
"""


class CopyChoice:
    """What one copy is spared. For one thread; the index is used by nobody else for this."""

    def __init__(self, index: Index) -> None:
        self._index = index
        with index.raw() as connection:
            connection.execute(_SCHEMA)

    def add(self, spared: Iterable[bytes], wanted: Iterable[bytes]) -> None:
        """Contents, as `key_blob` has them, that some file spares the copy, or wants there; what
        any wants is not spared."""
        with self._index.transaction() as connection:
            for table, keys in (("spared", spared), ("wanted_there", wanted)):
                connection.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES (?)",  # noqa: S608
                    ((key,) for key in keys),
                )

    def settle(self) -> None:
        """Work out which files that leaves out; once, after all was added."""
        with self._index.transaction() as connection:
            connection.execute(_SETTLE)

    def leaves_out(self, name: str) -> bool:
        """Whether a pack, or a part of an object, need not be there."""
        sha256 = digest_named(name)
        with self._index.raw() as connection:
            sql = _PACK if name.startswith(PACKS) else _PART
            return bool(connection.execute(sql, (sha256,)).get)

    def close(self) -> None:
        with self._index.raw() as connection:
            for table in ("spared", "wanted_there", "left_out"):
                connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
