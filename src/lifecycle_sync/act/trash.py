"""The trash of a root: `.lifecycle/trash/`, on the filesystem of the files themselves.

Files go there by a rename, in batches that describe themselves, and come back the same way without
asking any database. `taking` moves them in, `batches` keeps the directory; here they are begun,
found, given back and purged. Nothing is unlinked unless it still is what was taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from lifecycle_sync.act.batches import Batches, DamagedBatch, path_of
from lifecycle_sync.act.erase import erase
from lifecycle_sync.act.fingerprints import fingerprint_of
from lifecycle_sync.act.sidecar import all_paths_good, check_path, folders_of
from lifecycle_sync.act.taking import (
    MovedLinks,
    Taking,
    differences,
    give_back,
    refused,
    sync_names,
)
from lifecycle_sync.clock import Clock
from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.model.trash import (
    BATCH_MAX,
    PLACE_TAKEN,
    TrashBatch,
    TrashEntry,
    TrashFolder,
    TrashOutcome,
    TrashReason,
    TrashTotals,
)

_BLOCK = 512

# Whether an open file still is what it was taken for (its content, say).
Check = Callable[[int, TrashEntry], bool]


class Trash:
    """The trash of one root, for one thread; a context manager.

    `stable_inodes` is False where a file gets another inode number at every mount: then it is not
    compared. `links` is what an order has moved before. The caller holds the lock that keeps others
    from acting on the root. What is said of one file is a `TrashOutcome`; only what concerns the
    trash as a whole is raised, as `TrashError`, `StorageFullError` or `OSError`.
    """

    def __init__(
        self,
        fs: FileOps,
        clock: Clock,
        root: bytes,
        *,
        repository_id: bytes,
        registry_id: bytes,
        stable_inodes: bool = True,
        links: MovedLinks | None = None,
    ) -> None:
        """Raises `OfflineError` when the root is not there. Makes nothing yet."""
        self._fs = fs
        self._clock = clock
        self._ids = IdSource(clock.now_ns)
        self._repository_id = repository_id
        self._registry_id = registry_id
        self._stable_inodes = stable_inodes
        self._links = links or MovedLinks()
        self._descent = Descent(fs, root)
        self._batches = Batches(fs, self._descent, root)
        # Folders, and batches by their ids, whose names changed since the last `sync`.
        self._changed: set[bytes] = set()
        self._changed_batches: set[bytes] = set()

    def __enter__(self) -> Trash:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._batches.close()
        self._descent.__exit__()

    # -- into the trash --------------------------------------------------------------------

    def begin(self, entries: Sequence[TrashEntry], *, grace_ns: int, reason: TrashReason) -> Taking:
        """A batch for at most `BATCH_MAX` files, described durably before any of them is moved.

        Raises `TrashError` where the trash cannot be used (another filesystem, a symlink in its
        place, no permission), `StorageFullError` for a full disk; then nothing has changed.
        `ValueError` for directories, for paths that are not of this root, and for one given twice.
        """
        paths = [entry.path for entry in entries]
        if len(entries) > BATCH_MAX:
            raise ValueError("too many files for one batch")
        if len(set(paths)) != len(paths):
            raise ValueError("a file is in the batch twice")
        for path in () if all_paths_good(paths) else paths:
            check_path(path)
        if any(entry.fingerprint.kind == Kind.DIRECTORY for entry in entries):
            raise ValueError("directories do not go into the trash")
        now_ns = self._clock.now_ns()
        batch = TrashBatch(
            batch_id=self._ids.one(),
            repository_id=self._repository_id,
            registry_id=self._registry_id,
            reason=reason,
            at_ns=now_ns,
            until_ns=now_ns + grace_ns,
            entries=tuple(entries),
            folders=self._folders(paths),
        )
        batch_fd = self._batches.make(batch)
        try:
            # A descent of its own: descriptors of this one are used meanwhile.
            descent = Descent(self._fs, b".", self._descent.root_fd)
        except BaseException:
            self._fs.close(batch_fd)
            self._batches.tidy(batch.batch_id)
            raise
        return Taking(
            self._fs,
            descent,
            batch,
            batch_fd,
            stable_inodes=self._stable_inodes,
            links=self._links,
            close=lambda empty: self._end(batch, empty),
        )

    def _folders(self, paths: Sequence[bytes]) -> dict[bytes, TrashFolder]:
        """What the folders are like now; one that cannot be opened is found out when it is used."""
        found = {}
        for folder in folders_of(paths):
            try:
                status = self._fs.fstat(self._descent.open(folder))
            except OSError:
                continue
            found[folder] = TrashFolder(status.st_mode & 0o7777, status.st_uid, status.st_gid)
        return found

    def _end(self, batch: TrashBatch, empty: bool) -> None:
        if empty:
            self._batches.tidy(batch.batch_id)

    # -- what lies there -------------------------------------------------------------------

    def batches(self) -> Iterator[TrashBatch | DamagedBatch]:
        """All batches, oldest first; what cannot be read as one, with the reason."""
        return self._batches.read_all()

    def due(self, now_ns: int) -> Iterator[TrashBatch]:
        """Those whose grace has ended."""
        for batch in self.batches():
            if isinstance(batch, TrashBatch) and batch.until_ns <= now_ns:
                yield batch

    def batch(self, batch_id: bytes) -> TrashBatch | None:
        """One batch; None where it is gone, or cannot be read."""
        found = self._batches.read(batch_id)
        return found if isinstance(found, TrashBatch) else None

    def left(self, batch: TrashBatch) -> list[TrashEntry]:
        """The entries of a batch whose files still lie there."""
        return self._batches.left(batch)

    def find(
        self, *, file_id: bytes | None = None, path: bytes | None = None
    ) -> list[tuple[TrashBatch, TrashEntry]]:
        """Where a file lies, by its id or the path it had; what was taken last comes first."""
        found: list[tuple[TrashBatch, TrashEntry]] = []
        for batch in self.batches():
            if isinstance(batch, TrashBatch):
                wanted = [it for it in batch.entries if it.file_id == file_id or it.path == path]
                left = set(self.left(batch)) if wanted else set()
                found += [(batch, entry) for entry in wanted if entry in left]
        return found[::-1]

    def totals(self) -> TrashTotals:
        """How much lies there; bytes are the sizes of the files when they were taken."""
        batches = files = size = damaged = 0
        for batch in self.batches():
            if isinstance(batch, DamagedBatch):
                damaged += 1
                continue
            left = self.left(batch)
            batches += 1
            files += len(left)
            size += sum(entry.fingerprint.size for entry in left)
        return TrashTotals(batches, files, size, damaged)

    # -- out of the trash ------------------------------------------------------------------

    def put_back(
        self, batch: TrashBatch, entry: TrashEntry, *, to: bytes | None = None
    ) -> TrashOutcome:
        """Give a file back, to the path it had or to another one below the root.

        A place that is taken is refused; folders that are missing are made, as they were. It is
        durable after `sync`.
        """
        path = entry.path if to is None else to
        try:
            check_path(path)
            batch_fd, name = self._batches.place(batch, entry)
            # First a look at the file itself: no folders are made for what is not there.
            self._fs.stat(name, dir_fd=batch_fd, follow_symlinks=False)
            home, target = self._home(batch, path)
            self._fs.rename_noreplace(name, target, batch_fd, home)
        except FileExistsError:
            return TrashOutcome(False, PLACE_TAKEN)
        except (OSError, ValueError) as error:
            return refused(error)
        self._left(batch, name)
        return TrashOutcome(True)

    def _home(self, batch: TrashBatch, path: bytes) -> tuple[int, bytes]:
        """The folder of a path, made where it is missing, and the name in it."""
        folder, _, name = path.rpartition(b"/")

        def made(new: bytes, fd: int) -> None:
            self._changed.add(new.rpartition(b"/")[0])
            self._dress(batch, new, fd)

        fd = self._descent.make(folder, made=made)
        self._changed.add(folder)
        return fd, name

    def _dress(self, batch: TrashBatch, path: bytes, fd: int) -> None:
        """Make a new folder what the old one was; it stays private where nobody remembers that."""
        folder = batch.folders.get(path)
        if folder is None:
            return
        try:
            self._fs.chown_fd(fd, folder.uid, folder.gid)
        except (OSError, OverflowError):
            pass  # not ours to give away
        try:
            self._fs.chmod_fd(fd, folder.mode)
        except OSError:
            pass

    def settle(self, batch: TrashBatch, entry: TrashEntry) -> TrashOutcome:
        """What recovery asks of a taking that was cut off: ok when the file lies in the trash.

        What came instead of it goes back, or is kept with an alarm, as `Taking.take` would have
        done.
        """
        try:
            batch_fd, name = self._batches.place(batch, entry)
            arrived = self._fs.stat(name, dir_fd=batch_fd, follow_symlinks=False)
            if not differences(arrived, entry.fingerprint, inode=self._stable_inodes):
                if arrived.st_nlink == 1 or not self._is_at(arrived, entry.path):
                    return TrashOutcome(True)
                # A rename without a system call of its own was cut off: the file has both names.
                self._fs.unlink(name, batch_fd)
                outcome = TrashOutcome(False, "it is still in its place")
            else:
                home = self._home(batch, entry.path)
                why = "another file came in its stead"
                outcome = give_back(self._fs, (batch_fd, name), home, why)
        except (OSError, ValueError) as error:
            return refused(error)
        if not outcome.alarm:
            self._left(batch, name)
        return outcome

    def settle_return(self, batch: TrashBatch, entry: TrashEntry, *, to: bytes) -> bool:
        """What recovery asks of a giving back that was cut off: whether the file lies at `to`, and
        there alone."""
        try:
            batch_fd, name = self._batches.place(batch, entry)
            lying = self._fs.stat(name, dir_fd=batch_fd, follow_symlinks=False)
            if not self._is_at(lying, to):
                return False
            # A rename without a system call of its own was cut off: the file has both names.
            self._fs.unlink(name, batch_fd)
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            return False
        self._left(batch, name)
        return True

    def _is_at(self, arrived: os.stat_result, path: bytes) -> bool:
        folder, _, name = path.rpartition(b"/")
        try:
            there = self._fs.stat(name, dir_fd=self._descent.open(folder), follow_symlinks=False)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (arrived.st_dev, arrived.st_ino)

    def purge(
        self,
        batch: TrashBatch,
        entry: TrashEntry,
        *,
        check: Check | None = None,
        changed_too: bool = False,
        erase_limits: tuple[str, ...] | None = None,
    ) -> TrashOutcome:
        """Unlink a file for good, if it still is what was taken.

        A late writer (another size or mtime, or a descriptor still open for writing) and a content
        that `check(fd, entry)` refuses keep it, with an alarm. Where the file has another name, its
        content lives on, and a change is no reason. `changed_too` is a person's own order to
        unlink whatever lies there. With `erase_limits` (those of `limits_of`) a regular file is
        overwritten before, and one with several links stays. An empty batch is taken away.
        """
        if batch.repository_id != self._repository_id and not changed_too:
            return TrashOutcome(False, "it belongs to another repository")
        fs = self._fs
        try:
            batch_fd, name = self._batches.place(batch, entry)
            found = fs.stat(name, dir_fd=batch_fd, follow_symlinks=False)
            if not changed_too:
                doubt = self._doubt((batch_fd, name), entry, found, check)
                if doubt:
                    return TrashOutcome(False, f"{doubt}; it is kept", alarm=True)
            if erase_limits is not None and found.st_mode >> 12 == Kind.REGULAR:
                erased = erase(
                    fs,
                    batch_fd,
                    name,
                    fingerprint_of(found),
                    limits=erase_limits,
                    stable_inodes=self._stable_inodes,
                )
                if not erased.ok:
                    return TrashOutcome(False, f"not erased: {erased.reason}", alarm=erased.begun)
            else:
                fs.unlink(name, batch_fd)
        except (OSError, ValueError) as error:
            return refused(error)
        self._left(batch, name)
        return TrashOutcome(True, freed=found.st_blocks * _BLOCK if found.st_nlink == 1 else 0)

    def _doubt(
        self,
        item: tuple[int, bytes],
        entry: TrashEntry,
        found: os.stat_result,
        check: Check | None,
    ) -> str:
        """Why a file must stay; empty where it may go. Raises `OSError`."""
        fs = self._fs
        differing = differences(found, entry.fingerprint, inode=self._stable_inodes)
        lives_on = found.st_nlink > 1 and not {"kind", "inode"} & {*differing}
        if differing and not lives_on:
            return f"it changed after it was taken: {', '.join(differing)}"
        if found.st_mode >> 12 != Kind.REGULAR or lives_on:
            return ""
        fd, before = fs.open_read_stat(item[1], item[0])
        try:
            if (before.st_dev, before.st_ino) != (found.st_dev, found.st_ino):
                return "another file took its place"
            if check is not None and not check(fd, entry):
                return "its content is not what it was taken for"
            if fs.has_writers(fd):
                return "somebody has it open for writing"
            after = fs.fstat(fd)
        finally:
            fs.close(fd)
        if (after.st_size, after.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            return "it changed while it was looked at"
        return ""

    # -- durable, tidy ---------------------------------------------------------------------

    def _left(self, batch: TrashBatch, name: bytes) -> None:
        self._changed_batches.add(batch.batch_id)
        self._batches.gone(batch, name)

    def tidy(self, batch: TrashBatch) -> bool:
        """Take a batch away if nothing is left in it; whether it is gone."""
        return self._batches.tidy(batch.batch_id)

    def sweep(self, *, alone: bool = False) -> int:
        """Take away what dead writers left empty; how many batches that were. Of any age where the
        caller is certain that nobody else fills one (`alone`), else what is over an hour old."""
        return self._batches.sweep(None if alone else self._clock.now_ns())

    def sync(self) -> None:
        """Make what was given back and purged durable. Raises `OSError`; then nothing of it is
        certain."""
        changed = [*self._changed, *(path_of(it) for it in self._changed_batches)]
        self._changed.clear()
        self._changed_batches.clear()
        sync_names(self._fs, self._descent, self._descent.root_fd, changed)
