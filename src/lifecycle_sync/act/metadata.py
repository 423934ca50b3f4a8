"""What a file is like beside its bytes: read from an open file, and put onto another.

Read: owner and group with their names, permission bits, times, extended attributes (ACLs among
them) and where a sparse file has its data. Putting it back never fails as a whole: what cannot be
applied is told, line by line, and the rest is.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat as stat_module
from functools import lru_cache

from lifecycle_sync.fileops import FileOps, Name
from lifecycle_sync.model.content import Metadata
from lifecycle_sync.model.file import Kind

# Gone since it was listed, or not for us to read (trusted.*).
_UNREADABLE = {errno.ENODATA, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP}
_ACL = b"system.posix_acl_"
_SET_ID = stat_module.S_ISUID | stat_module.S_ISGID
_BLOCK = 512


def capture(fs: FileOps, fd: int, status: os.stat_result, *, birth: bool = True) -> Metadata:
    """What an open regular file or directory is like; `status` is its fstat. Raises `OSError`.

    Without `birth` the time of its birth is left out: asking costs as much as reading a small file,
    and nothing can be given that time again."""
    extents = None
    # Fewer blocks than bytes: only then is it worth asking where the holes are.
    if stat_module.S_ISREG(status.st_mode) and status.st_blocks * _BLOCK < status.st_size:
        found = tuple(fs.extents(fd, status.st_size))
        extents = found if found != ((0, status.st_size),) else None
    return Metadata(
        kind=Kind(status.st_mode >> 12),
        size=status.st_size,
        mode=status.st_mode & 0o7777,
        uid=status.st_uid,
        gid=status.st_gid,
        user=user_name(status.st_uid),
        group=group_name(status.st_gid),
        mtime_ns=status.st_mtime_ns,
        atime_ns=status.st_atime_ns,
        btime_ns=fs.birth_time_ns(fd) if birth else None,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        nlink=status.st_nlink,
        xattrs=_xattrs(fs, fd, None),
        extents=extents,
    )


def capture_symlink(fs: FileOps, dir_fd: int, name: bytes, status: os.stat_result) -> Metadata:
    """What a symlink is like, where it points among it; `status` is its lstat. Raises `OSError`."""
    return Metadata(
        kind=Kind(status.st_mode >> 12),
        size=status.st_size,
        mode=status.st_mode & 0o7777,
        uid=status.st_uid,
        gid=status.st_gid,
        user=user_name(status.st_uid),
        group=group_name(status.st_gid),
        mtime_ns=status.st_mtime_ns,
        atime_ns=status.st_atime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        nlink=status.st_nlink,
        xattrs=_xattrs(fs, name, dir_fd),
        target=fs.readlink(name, dir_fd),
    )


def _xattrs(fs: FileOps, where: int | Name, dir_fd: int | None) -> tuple[tuple[bytes, bytes], ...]:
    names = fs.list_xattrs(where, dir_fd)
    if not names:
        return ()
    found = []
    for name in sorted(names):
        try:
            found.append((name, fs.get_xattr(where, name, dir_fd)))
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
    return tuple(found)


def apply(
    fs: FileOps, dir_fd: int, name: bytes, fd: int | None, metadata: Metadata, *, owner: bool
) -> list[str]:
    """Make a file, symlink or directory that we made what `metadata` says; what could not be done.

    `fd` is its descriptor, None for a symlink (then `name` in `dir_fd` is used). With `owner` it is
    given to its owner and group, by name where this machine knows the name. Raises no `OSError`.

    Order: owner first, for changing it takes set-id bits and capabilities away; attributes while
    the mode is still the one it was made with, for `user.*` needs write permission; ACLs after the
    mode, whose group bits they bring; times last, for all others move them.
    """
    made = _Made(fs, dir_fd, name, fd)
    if owner:
        made.give(metadata)
    made.set_xattrs([it for it in metadata.xattrs if not it[0].startswith(_ACL)])
    made.set_mode(metadata)
    made.set_xattrs([it for it in metadata.xattrs if it[0].startswith(_ACL)])
    made.set_times(metadata)
    return made.missed


class _Made:
    """What gets the metadata; `missed` says what it did not get, and why."""

    def __init__(self, fs: FileOps, dir_fd: int, name: bytes, fd: int | None) -> None:
        self._fs, self._dir_fd, self._name, self._fd = fs, dir_fd, name, fd
        self.missed: list[str] = []

    def give(self, metadata: Metadata) -> None:
        uid = _uid_of(metadata.user, metadata.uid)
        gid = _gid_of(metadata.group, metadata.gid)
        try:
            self._chown(uid, gid)
            return
        except (OSError, OverflowError):
            pass
        # The group by itself: who may not give files away may still choose among their groups.
        for wanted, user, group in (
            (f"owner {metadata.user or uid}", uid, -1),
            (f"group {metadata.group or gid}", -1, gid),
        ):
            try:
                self._chown(user, group)
            except (OSError, OverflowError) as error:
                self._miss(wanted, error)

    def _chown(self, user: int, group: int) -> None:
        if self._fd is not None:
            self._fs.chown_fd(self._fd, user, group)
        else:
            self._fs.chown(self._name, user, group, self._dir_fd)

    def set_mode(self, metadata: Metadata) -> None:
        if self._fd is None:
            return
        try:
            mode = _allowed_mode(self._fs.fstat(self._fd), metadata)
            self._fs.chmod_fd(self._fd, mode)
        except OSError as error:
            self._miss(f"mode {metadata.mode:o}", error)
            return
        if mode != metadata.mode:
            self.missed.append(f"mode {metadata.mode:o}: its set-id bits are another owner's")

    def set_xattrs(self, xattrs: list[tuple[bytes, bytes]]) -> None:
        for attribute, value in xattrs:
            try:
                if self._fd is not None:
                    self._fs.set_xattr(self._fd, attribute, value)
                else:
                    self._fs.set_xattr(self._name, attribute, value, self._dir_fd)
            except (OSError, ValueError) as error:
                self._miss(f"attribute {attribute.decode('utf-8', 'backslashreplace')}", error)

    def set_times(self, metadata: Metadata) -> None:
        try:
            if self._fd is not None:
                self._fs.set_times_fd(self._fd, metadata.atime_ns, metadata.mtime_ns)
            else:
                self._fs.set_times(self._name, metadata.atime_ns, metadata.mtime_ns, self._dir_fd)
        except (OSError, OverflowError) as error:
            self._miss("times", error)

    def _miss(self, what: str, error: Exception) -> None:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        self.missed.append(f"{what}: {cause}")


def _allowed_mode(status: os.stat_result, metadata: Metadata) -> int:
    """The mode, without the set-id bits of an owner that the file did not get: they would lend
    the power of another one. (On a directory they lend none.)"""
    mode = metadata.mode
    if stat_module.S_ISDIR(status.st_mode) or not mode & _SET_ID:
        return mode
    if mode & stat_module.S_ISUID and status.st_uid != _uid_of(metadata.user, metadata.uid):
        mode &= ~stat_module.S_ISUID
    if mode & stat_module.S_ISGID and status.st_gid != _gid_of(metadata.group, metadata.gid):
        mode &= ~stat_module.S_ISGID
    return mode


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """Empty where this machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


@lru_cache(maxsize=1024)
def group_name(gid: int) -> str:
    """Empty where this machine knows none."""
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return ""


@lru_cache(maxsize=1024)
def _uid_of(user: str, uid: int) -> int:
    try:
        return pwd.getpwnam(user).pw_uid if user else uid
    except (KeyError, ValueError):
        return uid


@lru_cache(maxsize=1024)
def _gid_of(group: str, gid: int) -> int:
    try:
        return grp.getgrnam(group).gr_gid if group else gid
    except (KeyError, ValueError):
        return gid
