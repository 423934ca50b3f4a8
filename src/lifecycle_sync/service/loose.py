"""Listings of a loose repository: only the files that were registered by name are looked at."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from lifecycle_sync.clock import NS_MAX, NS_MIN, Clock
from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.observation import Columns, DirectoryListing, Listing
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.protocol import ScanStore

OBSERVED = {Kind.REGULAR, Kind.SYMLINK}


def loose_listings(
    store: ScanStore, repository: Repository, fs: FileOps, clock: Clock, margin_ns: int
) -> Iterator[Listing]:
    """One listing a directory that has registered files; without a signature, so that the next
    pass looks again. Raises `OfflineError` when the folder cannot be opened."""
    with Descent(fs, repository.path) as descent:
        for path in store.directory_paths(repository.repository_id):
            stored = store.directories(repository.repository_id, [path])[path]
            names = sorted(record.name for record in store.files_in(stored.directory_id))
            racy_since_ns = clock.now_ns() - margin_ns
            try:
                columns = stat_names(fs, descent.open(path), names, racy_since_ns)
            except (FileNotFoundError, NotADirectoryError):
                columns = Columns()
            except OSError as error:
                yield DirectoryListing(path, error=error.strerror or str(error))
                continue
            yield DirectoryListing(path, columns=columns)


def stat_names(fs: FileOps, dir_fd: int, names: list[bytes], racy_since_ns: int) -> Columns:
    """Columns of those of `names` (sorted) that are files or symlinks in a directory."""
    found: list[tuple[bytes, os.stat_result]] = []
    for name in names:
        try:
            entry = fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue
            raise
        if entry.st_mode >> 12 in OBSERVED:
            found.append((name, entry))
    entries = [entry for _, entry in found]
    mtimes = [_clamp(entry.st_mtime_ns) for entry in entries]
    ctimes = [_clamp(entry.st_ctime_ns) for entry in entries]
    return Columns(
        names=[name for name, _ in found],
        kinds=[entry.st_mode >> 12 for entry in entries],
        sizes=[entry.st_size for entry in entries],
        mtimes_ns=mtimes,
        ctimes_ns=ctimes,
        inodes=[_signed(entry.st_ino) for entry in entries],
        modes=[entry.st_mode for entry in entries],
        uids=[entry.st_uid for entry in entries],
        gids=[entry.st_gid for entry in entries],
        nlinks=[entry.st_nlink for entry in entries],
        atimes_ns=[_clamp(entry.st_atime_ns) for entry in entries],
        racy=frozenset(
            position
            for position in range(len(entries))
            if max(mtimes[position], ctimes[position]) > racy_since_ns
        ),
    )


def _clamp(time_ns: int) -> int:
    return min(max(time_ns, NS_MIN), NS_MAX)


def _signed(inode: int) -> int:
    return inode - 2**64 if inode >= 2**63 else inode
