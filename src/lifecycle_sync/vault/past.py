"""What the files of a root were at a moment: a table with one version of each.

It lies in a temporary file of SQLite's, which goes with it, so the memory does not grow with the
number of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import apsw

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.past import PastFile

# The later of two versions of a file stands; of two files at one path, too.
_SCHEMA = """
CREATE TABLE past (
    file_id BLOB PRIMARY KEY,
    path BLOB NOT NULL,
    number INTEGER NOT NULL,
    version_id BLOB NOT NULL,
    at_ns INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    algorithm TEXT,
    digest BLOB
) WITHOUT ROWID;
CREATE TABLE away (file_id BLOB PRIMARY KEY, word TEXT, at_ns INTEGER) WITHOUT ROWID;
CREATE INDEX past_path ON past (path);
CREATE INDEX past_version ON past (version_id);
"""
_ADD = """
INSERT INTO past VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (file_id) DO UPDATE SET
    path = excluded.path, number = excluded.number, version_id = excluded.version_id,
    at_ns = excluded.at_ns, kind = excluded.kind, size = excluded.size,
    mtime_ns = excluded.mtime_ns, algorithm = excluded.algorithm, digest = excluded.digest
WHERE (excluded.at_ns, excluded.number) >= (at_ns, number)
"""
_ONE_A_PATH = """
DELETE FROM past WHERE EXISTS (
    SELECT 1 FROM past AS other WHERE other.path = past.path
        AND (other.at_ns, other.file_id) > (past.at_ns, past.file_id)
)
"""
_PAGE = 1000


class PastTable:
    """The files of one root at one moment. A context manager, for one thread."""

    def __init__(self) -> None:
        # Without a name it is a temporary file that nobody else can open.
        self._connection: Any = apsw.Connection("")
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Calling it again does nothing."""
        self._connection.close()

    def add(self, files: Iterable[PastFile]) -> None:
        """Take up versions in any order; of each file the last one stands."""
        with self._connection:
            self._connection.executemany(
                _ADD,
                (
                    (*file[:5], int(file.kind), *file[6:8], *(file.content or (None, None)))
                    for file in files
                ),
            )

    def tell(self, moves: Iterable[tuple[bytes, str, int]], *, again: bool = True) -> None:
        """Note what a file did at a time, told in the order of time: of each the last word stands,
        or, unless `again`, the first."""
        verb = "REPLACE" if again else "IGNORE"
        with self._connection:
            self._connection.executemany(
                f"INSERT OR {verb} INTO away VALUES (?, ?, ?)",  # noqa: S608
                moves,
            )

    def move(self, moves: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Files that went to another path at a time, in the order of time; a version kept since
        knows better."""
        with self._connection:
            self._connection.executemany(
                "UPDATE past SET path = ?2 WHERE file_id = ?1 AND at_ns <= ?3", moves
            )

    def leave_out(self, word: str) -> int:
        """Take out the files of which this was told last, unless a version was kept since; how many
        that were."""
        with self._connection:
            return len(
                self._connection.execute(
                    "DELETE FROM past WHERE EXISTS (SELECT 1 FROM away WHERE"
                    " away.file_id = past.file_id AND word = ? AND away.at_ns >= past.at_ns)"
                    " RETURNING 1",
                    (word,),
                ).fetchall()
            )

    def settle(self) -> None:
        """Of files that have one path the last one stays; called when all is told."""
        with self._connection:
            self._connection.execute(_ONE_A_PATH)

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM past").get)

    def files(self, under: bytes = b"") -> Iterator[PastFile]:
        """The files at or below a path, by their paths."""
        low, high = (under, under + b"0") if under else (b"", b"\xff" * 4097)
        after = low
        comparison = ">="
        while True:
            rows = self._connection.execute(
                f"SELECT * FROM past WHERE path {comparison} ? AND path < ?"  # noqa: S608
                " ORDER BY path LIMIT ?",
                (after, high, _PAGE),
            ).fetchall()
            if not rows:
                return
            for row in rows:
                file = _file(row)
                if not under or file.path == under or file.path.startswith(under + b"/"):
                    yield file
            after, comparison = rows[-1][1], ">"

    def at_path(self, path: bytes) -> PastFile | None:
        row = self._connection.execute("SELECT * FROM past WHERE path = ?", (path,)).fetchone()
        return None if row is None else _file(row)

    def of_file(self, file_id: bytes) -> PastFile | None:
        row = self._connection.execute(
            "SELECT * FROM past WHERE file_id = ?", (file_id,)
        ).fetchone()
        return None if row is None else _file(row)

    def among(self, version_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the versions that stand in the table, each with its path."""
        found: dict[bytes, bytes] = {}
        for at in range(0, len(version_ids), _PAGE):
            part = version_ids[at : at + _PAGE]
            marks = ",".join("?" * len(part))
            found.update(
                self._connection.execute(
                    f"SELECT version_id, path FROM past WHERE version_id IN ({marks})",  # noqa: S608
                    part,
                ).fetchall()
            )
        return found


def _file(row: tuple[Any, ...]) -> PastFile:
    content = None if row[9] is None else ContentKey(row[8], row[9])
    file_id, path, number, version_id, at_ns, kind, size, mtime_ns, *_ = row
    return PastFile(file_id, path, number, version_id, at_ns, Kind(kind), size, mtime_ns, content)
