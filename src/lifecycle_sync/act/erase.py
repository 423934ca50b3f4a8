"""Overwrites a file before it is unlinked, and says what that cannot reach.

It is done at once: no trash, no grace, no way back. Whether it does what a person hopes for is a
matter of what lies below: a filesystem that writes elsewhere, flash that does, snapshots, backups.
So every answer carries its limits.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from lifecycle_sync.act.taking import differences, refused
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Fingerprint

_PIECE = 1 << 20
_COPY_ON_WRITE = frozenset("btrfs zfs bcachefs nilfs2 apfs refs".split())
_LOG_STRUCTURED = frozenset("f2fs jffs2 ubifs logfs".split())
_SHARED_BLOCKS = frozenset("xfs ocfs2".split())
_LAYERED = frozenset("overlay aufs ecryptfs mergerfs".split())
_MEMORY = frozenset("tmpfs ramfs".split())
_JOURNALLED = frozenset("ext3 ext4".split())


class Erased(NamedTuple):
    """What came of it. `limits` are sentences about what overwriting cannot reach here; where it
    is not `ok`, `begun` says whether the content is (partly) gone all the same."""

    ok: bool
    reason: str = ""
    begun: bool = False
    limits: tuple[str, ...] = ()


def limits_of(filesystem: str, *, spinning: bool | None, network: bool = False) -> tuple[str, ...]:
    """What overwriting cannot reach, by the type of the filesystem and the disk it lies on."""
    limits = []
    if network or filesystem.startswith("fuse"):
        limits.append("another machine or program stores the bytes, and may write them elsewhere")
    if filesystem in _COPY_ON_WRITE:
        limits.append(f"{filesystem} writes new blocks and leaves the old ones, until it uses them")
    if filesystem in _LOG_STRUCTURED:
        limits.append(f"{filesystem} appends to a log and leaves the old blocks for a while")
    if filesystem in _LAYERED:
        limits.append(f"{filesystem} writes to its upper layer; lower layers keep what they have")
    if filesystem in _SHARED_BLOCKS:
        limits.append(f"copies that share blocks with it (reflinks) keep theirs on {filesystem}")
    if filesystem in _JOURNALLED:
        limits.append(f"where {filesystem} journals data too (data=journal), old bytes stay there")
    if not filesystem:
        limits.append("the type of the filesystem is not known")
    if filesystem in _MEMORY:
        limits.append("what was swapped out may stay in the swap")
    elif spinning is False:
        limits.append("flash writes elsewhere; only the drive's own erase reaches the old cells")
    elif spinning is None:
        limits.append("the disk is not known; on flash the old cells stay")
    limits.append("snapshots, backups, versions in a vault and other copies are not touched")
    return tuple(limits)


def erase(
    fs: FileOps,
    dir_fd: int,
    name: bytes,
    expected: Fingerprint,
    *,
    limits: tuple[str, ...],
    stable_inodes: bool = True,
) -> Erased:
    """Overwrite a regular file with random bytes, durably, then truncate and unlink it.

    Refused, untouched: what is not what was expected, has several links, is open for writing, or is
    not a regular file. Raises no `OSError`.
    """
    try:
        _refuse(fs, dir_fd, name, expected, stable_inodes)
        fd, status = fs.open_write(name, dir_fd)
    except (OSError, ValueError) as error:
        return Erased(False, refused(error).reason, limits=limits)
    begun = False
    try:
        # Again, now that it is certain which file it is.
        _compare(status, expected, stable_inodes)
        begun = True
        _overwrite(fs, fd, status.st_size)
        fs.fsync(fd)
        here = fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if (here.st_dev, here.st_ino) != (status.st_dev, status.st_ino):
            raise ValueError("overwritten, but another file has its name by now, which is left")
        if fs.fstat(fd).st_nlink != 1:
            raise ValueError("overwritten, but it got another name meanwhile; both are left")
        fs.truncate(fd, 0)
        fs.fsync(fd)
        fs.unlink(name, dir_fd)
        fs.fsync(dir_fd)
    except (OSError, ValueError) as error:
        return Erased(False, refused(error).reason, begun, limits)
    finally:
        try:
            fs.close(fd)
        except OSError:
            pass  # all that matters was synced
    return Erased(True, begun=True, limits=limits)


def _refuse(fs: FileOps, dir_fd: int, name: bytes, expected: Fingerprint, inode: bool) -> None:
    """Raises `ValueError` with the reason. Looks through a descriptor that cannot change it, for
    one that can would look like a writer itself."""
    fd, status = fs.open_read_stat(name, dir_fd)
    try:
        _compare(status, expected, inode)
        if fs.has_writers(fd):
            raise ValueError("somebody has it open for writing")
    finally:
        fs.close(fd)


def _compare(status: os.stat_result, expected: Fingerprint, inode: bool) -> None:
    differing = differences(status, expected, inode=inode, ctime=True)
    if differing:
        raise ValueError(f"it changed: {', '.join(differing)}")
    if status.st_nlink > 1:
        raise ValueError(
            f"it has {status.st_nlink} names (hard links), and all of them would lose the content"
        )


def _overwrite(fs: FileOps, fd: int, size: int) -> None:
    """Only where there is data: to fill holes would take space, and reach nothing."""
    for start, length in fs.extents(fd, size):
        position, end = start, start + length
        while position < end:
            piece = os.urandom(min(_PIECE, end - position))
            fs.write_at(fd, piece, position)
            position += len(piece)
