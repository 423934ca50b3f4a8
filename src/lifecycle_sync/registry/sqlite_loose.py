"""What happens to loose repositories when a root is put around their files, on SQLite."""

from __future__ import annotations

from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.sqlite_base import REPOSITORIES, Seqs

# The rows of a repository, that of itself last.
FORGET = (
    "DELETE FROM files WHERE repository = ?",
    "DELETE FROM missing WHERE repository = ?",
    "DELETE FROM directories WHERE repository = ?",
    "DELETE FROM runs WHERE repository = ?",
    "DELETE FROM repositories WHERE number = ?",
)


class TakingOver:
    """Moves the records that loose repositories have in a root into it, within a transaction.

    They keep their ids, and are compared by the root's next scan like any others.
    """

    def __init__(self, connection: Connection, root: Repository) -> None:
        self._connection = connection
        self._root = root
        self._loose: list[tuple[int, bytes]] = []
        if root.kind is RepositoryKind.ROOT:
            rows = connection.execute(REPOSITORIES["loose_repositories"]).fetchall()
            # At the root, in it, or around it.
            self._loose = [
                (number, path)
                for number, path in rows
                if _within(path, root.path) or _within(root.path, path)
            ]

    def make_room(self) -> None:
        """Take the root's own path from a loose repository that has it."""
        for number, path in self._loose:
            if path == self._root.path:
                self._connection.execute(REPOSITORIES["give_up_path"], (number,))

    def take(self, root_number: int, now_ns: int) -> None:
        """Move the directories, and with them the records; a loose one without any goes."""
        if not self._loose:
            return
        seqs = Seqs(self._connection, now_ns)
        for number, path in self._loose:
            self._take_directories(number, path, root_number)
            rows = self._connection.execute(
                REPOSITORIES["files_taken"], (number, root_number)
            ).fetchall()
            self._connection.executemany(
                REPOSITORIES["take_file"], ((row, root_number, seqs.take()) for (row,) in rows)
            )
            self._connection.executemany(
                REPOSITORIES["take_missing"], ((row, root_number) for (row,) in rows)
            )
            if not self._connection.execute(REPOSITORIES["has_live_files"], (number,)).get:
                for statement in FORGET:
                    self._connection.execute(statement, (number,))
        seqs.close()

    def _take_directories(self, number: int, path: bytes, root_number: int) -> None:
        rows = self._connection.execute(
            "SELECT directory_id, path FROM directories WHERE repository = ?", (number,)
        ).fetchall()
        for directory_id, below in rows:
            absolute = path + b"/" + below if below else path
            if not _within(absolute, self._root.path):
                continue
            relative = absolute[len(self._root.path) + 1 :]
            known = self._connection.execute(
                "SELECT directory_id FROM directories WHERE repository = ? AND path = ?",
                (root_number, relative),
            ).get
            if known is None:
                self._connection.execute(
                    REPOSITORIES["take_directory"],
                    (directory_id, root_number, relative, codes.text_of(relative)),
                )
                continue
            # A root that has moved here knows the folder: of two records of one file its own stays.
            self._connection.execute(REPOSITORIES["compare_again"], (known,))
            self._connection.execute(REPOSITORIES["merge_files"], (directory_id, known))
            self._connection.execute("DELETE FROM files WHERE directory_id = ?", (directory_id,))
            self._connection.execute(
                "DELETE FROM directories WHERE directory_id = ?", (directory_id,)
            )


def _within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
