"""What became of records whose files were not found: still there, moved, or gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping, Sequence

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.operation import Run
from lifecycle_sync.model.record import MissingFile, Move, StoredFile
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.loose import OBSERVED

_PAGE = 2_000
# Among so many runs is the one before this one.
_RUNS = 2


class Presence:
    """The missing files of one root."""

    def __init__(self, store: Registry, repository: Repository, fs: FileOps) -> None:
        self._store = store
        self._repository = repository
        self._fs = fs
        # Where something was that was not found at first: nobody has looked at it there.
        self.present_folders: set[bytes] = set()
        # The inodes of names that went and were not their only ones.
        self.lost_links: set[int] = set()

    def recognise(self, run: Run, cancel: CancelToken) -> int:
        """Settle those that are there after all (one more lstat says so) and those that moved;
        the number of these. What then is still missing is gone."""
        moved = 0
        after = 0
        with Descent(self._fs, self._repository.path) as descent:
            while page := self._store.missing(self._repository.repository_id, after, _PAGE):
                cancel.check()
                after = page[-1].row_id
                absent = _absent(self._fs, descent, page)
                there = [item for item in page if item.row_id not in absent]
                present = [item.row_id for item in there]
                self.present_folders.update(os.path.dirname(item.path) for item in there)
                moves = self._moves([item for item in page if item.row_id in absent])
                moved += len(moves)
                if present or moves:
                    self._store.settle_missing(run, moved=moves, present=present)
                self._note_conflicts(run, absent - {move.old_row_id for move in moves})
        return moved

    def _note_conflicts(self, run: Run, absent: Collection[int]) -> None:
        """A file that is not there may be at the place of another one."""
        if absent and self._repository.identity.stable_inodes:
            self._store.note_renamed_onto(sorted(absent), run.started_ns)

    def renamed(self, run: Run, renames: Mapping[bytes, bytes]) -> tuple[int, dict[int, bytes]]:
        """Settle missing files that the kernel told were renamed, where what is at the new place is
        new and the same inode. How many; and the row ids of those that are otherwise not as they
        were, with where they are now."""
        if not self._repository.identity.stable_inodes:
            return 0, {}
        repository_id = self._repository.repository_id
        arrived = _ends_of(renames)
        places = self._records_at(set(arrived.values()))
        found: dict[int, bytes] = {}
        count = after = 0
        while page := self._store.missing(repository_id, after, _PAGE):
            after = page[-1].row_id
            moves = []
            for item in page:
                place = arrived.get(item.path)
                there = places.get(place) if place is not None else None
                if there is None or there.inode != item.inode or there.kind != item.kind:
                    continue
                news = self._store.arrivals(repository_id, item.inode, item.last_seen_ns)
                if place is not None and any(new.row_id == there.row_id for new in news):
                    moves.append(Move(item.row_id, there.row_id, certain=True))
                    if (there.size, there.mtime_ns) != (item.size, item.mtime_ns):
                        found[item.row_id] = place
                    del places[place]
            if moves:
                self._store.settle_missing(run, moved=moves)
                count += len(moves)
        return count, found

    def _records_at(self, paths: Collection[bytes]) -> dict[bytes, StoredFile]:
        wanted: dict[bytes, set[bytes]] = {}
        for path in paths:
            folder, name = os.path.split(path)
            wanted.setdefault(folder, set()).add(name)
        stored = self._store.directories(self._repository.repository_id, sorted(wanted))
        return {
            os.path.join(folder, record.name): record
            for folder, directory in stored.items()
            for record in self._store.files_in(directory.directory_id)
            if record.name in wanted[folder]
        }

    def retire(self, run: Run, cancel: CancelToken, *, begun_ns: int) -> int:
        """Make those that are still missing DELETED; the number of these.

        A walk takes a while, and a folder that is renamed meanwhile may be seen at neither of its
        two places. So where the folder above something was changed after the pass had begun (at
        `begun_ns`, by the clock of the files), what is missed for the first time waits for the
        next pass.
        """
        gone = after = 0
        before_ns = self._before(run)
        with Descent(self._fs, self._repository.path) as descent:
            while page := self._store.missing(self._repository.repository_id, after, _PAGE):
                cancel.check()
                after = page[-1].row_id
                changed: dict[bytes, bool] = {}
                certain = []
                for item in page:
                    folder = os.path.dirname(item.path)
                    if item.last_seen_ns >= before_ns:
                        if folder not in changed:
                            changed[folder] = _changed_since(self._fs, descent, folder, begun_ns)
                        if changed[folder]:
                            continue
                    certain.append(item.row_id)
                    if item.nlink > 1:
                        self.lost_links.add(item.inode)
                if certain:
                    self._store.settle_missing(run, gone=certain)
                    gone += len(certain)
        return gone

    def _before(self, run: Run) -> int:
        """When the scan before this one began (for a whole one: the whole one before): what was
        seen since is missed just now."""
        runs = self._store.runs(self._repository.repository_id, _RUNS, whole=run.whole)
        earlier = [it.started_ns for it in runs if it.run_id < run.run_id]
        return max(earlier, default=run.started_ns)

    def _moves(self, absent: Sequence[MissingFile]) -> list[Move]:
        """A file under another path with the same inode, size and mtime is the same file; with
        the same ctime too nobody even renamed it (its folder was), so its content is certain."""
        if not self._repository.identity.stable_inodes:
            return []
        moves = []
        taken: set[int] = set()
        for item in absent:
            for arrival in self._store.arrivals(
                self._repository.repository_id, item.inode, item.last_seen_ns
            ):
                same = (arrival.kind, arrival.size, arrival.mtime_ns) == (
                    item.kind,
                    item.size,
                    item.mtime_ns,
                )
                if same and arrival.row_id not in taken:
                    taken.add(arrival.row_id)
                    certain = arrival.ctime_ns == item.ctime_ns or item.checksum is None
                    moves.append(Move(item.row_id, arrival.row_id, certain))
                    break
        return moves


def _ends_of(renames: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Where what was renamed is in the end."""
    ends = {}
    for old, new in renames.items():
        seen = {old}
        while new in renames and new not in seen:
            seen.add(new)
            new = renames[new]
        ends[old] = new
    return ends


def _changed_since(fs: FileOps, descent: Descent, folder: bytes, begun_ns: int) -> bool:
    """Whether names in a folder, or in what is left of the way to it, have changed since."""
    while True:
        try:
            return fs.fstat(descent.open(folder)).st_mtime_ns >= begun_ns
        except (FileNotFoundError, NotADirectoryError):
            if not folder:
                return False
            folder = os.path.dirname(folder)
        except OSError:
            return False


def is_there(fs: FileOps, descent: Descent, directory: bytes, name: bytes) -> bool:
    """Whether anything has a name in a directory; a look that fails proves nothing."""
    try:
        fs.stat(name, dir_fd=descent.open(directory), follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _absent(fs: FileOps, descent: Descent, page: Sequence[MissingFile]) -> set[int]:
    """The row ids of files that are surely not at their path; a look that fails proves nothing."""
    absent = set()
    for item in page:
        directory, name = os.path.split(item.path)
        try:
            found = fs.stat(name, dir_fd=descent.open(directory), follow_symlinks=False)
            if found.st_mode >> 12 not in OBSERVED:
                # A folder or a FIFO has taken its place.
                absent.add(item.row_id)
        except (FileNotFoundError, NotADirectoryError):
            absent.add(item.row_id)
        except OSError as error:
            # A symlink took the place of a directory: what was below it is not there any more.
            if error.errno == errno.ELOOP:
                absent.add(item.row_id)
    return absent
