"""The only door for changes to files, and for the reads that a test wants to fail.

Every call is relative to a directory descriptor (or an absolute path where there is none yet) and
never follows a symlink in its last component. `FileOps` is the real thing; `testing.fileops` wraps
it to record, fail, tear or kill at each call. Other modules never call `os` to change a file:
ruff's banned-api says so.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import stat as stat_module
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

from lifecycle_sync.extensions import extension

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK so that a FIFO that took a file's place cannot hang the open.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_NOATIME_FLAGS = READ_FLAGS | getattr(os, "O_NOATIME", 0)
_WRITE_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RENAME_NOREPLACE = 1
# How a kernel or filesystem says that it has no such call or flag.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_NAME_MAX = 255
_BLOCK = 512
# A file in more pieces than this counts as data from there on.
_EXTENTS_MAX = 4096
_STATX_BTIME = 0x800
_AT_EMPTY_PATH = 0x1000
_U32 = struct.Struct("=I")
_STATX_TIME = struct.Struct("=qI")

# What the extension in C is to be of.
_UNLINKING_INTERFACE = 2

Name = str | bytes
# A file of a folder by its name, and what it was when it was judged: its device, inode, size and
# mtime in nanoseconds.
Judged = tuple[bytes, tuple[int, int, int, int]]


class NotRegularFileError(OSError):
    """The thing under a name is not a regular file (any more)."""


class FileOps:
    """Real file operations. Stateless; one instance may serve all threads."""

    # -- reading ---------------------------------------------------------------------------

    # Plain aliases, so that the walker's inner loop pays nothing for the door.
    stat = staticmethod(os.stat)
    fstat = staticmethod(os.fstat)
    pread = staticmethod(os.pread)
    preadv = staticmethod(os.preadv)
    close = staticmethod(os.close)

    @staticmethod
    def drop_cache(fd: int) -> None:
        """Have what is read of a file next come from its disk. Dirty and mapped pages stay, and so
        does everything where the system has no such call, or does not heed it."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    @staticmethod
    def listdir(fd: int) -> list[str]:
        """The names in an open directory, in no order."""
        return os.listdir(fd)

    @staticmethod
    def subdirectories(fd: int) -> list[bytes]:
        """The names of the directories in an open directory, in no order; symlinks are none."""
        with os.scandir(fd) as entries:
            return [
                os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)
            ]

    def look(self, fd: int, names: Sequence[bytes]) -> list[tuple[int, ...] | int]:
        """What lies under each of these names in an open directory, never through a symlink: its
        (mode, size, bytes taken, mtime_ns, device, inode, links), or the errno of one that cannot
        be looked at. By the part in C, where there is one, without the interpreter."""
        native = _unlinking()
        if native is not None and type(self) is FileOps:
            seen: list[tuple[int, ...] | int] = native.look(fd, names)
            return seen
        return [self._look(fd, name) for name in names]

    def _look(self, fd: int, name: bytes) -> tuple[int, ...] | int:
        try:
            it = self.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            return error.errno or errno.EIO
        return (
            it.st_mode,
            it.st_size,
            it.st_blocks * _BLOCK,
            it.st_mtime_ns,
            it.st_dev,
            it.st_ino,
            it.st_nlink,
        )

    def open_directory(self, name: Name, dir_fd: int | None = None) -> int:
        """A descriptor of a directory; a symlink raises `NotADirectoryError` or ELOOP."""
        return os.open(name, DIRECTORY_FLAGS, dir_fd=dir_fd)

    def open_read(self, name: Name, dir_fd: int | None = None) -> int:
        """A descriptor of a regular file, leaving its atime alone where the owner allows it.

        Raises `NotRegularFileError` for anything else, `OSError` as `open` does.
        """
        return self.open_read_stat(name, dir_fd)[0]

    def open_read_stat(self, name: Name, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
        """`open_read`, and what fstat said of the file, for those who need both."""
        try:
            fd = os.open(name, _READ_NOATIME_FLAGS, dir_fd=dir_fd)
        except PermissionError:
            # O_NOATIME is refused to those who do not own the file.
            fd = os.open(name, READ_FLAGS, dir_fd=dir_fd)
        return fd, self._stat_regular(fd, name)

    def _stat_regular(self, fd: int, name: Name) -> os.stat_result:
        try:
            status = self.fstat(fd)
            if not stat_module.S_ISREG(status.st_mode):
                raise NotRegularFileError(errno.EINVAL, "not a regular file", os.fsdecode(name))
        except BaseException:
            self.close(fd)
            raise
        return status

    def readlink(self, name: Name, dir_fd: int | None = None) -> bytes:
        """Where a symlink points."""
        return os.readlink(os.fsencode(name), dir_fd=dir_fd)

    def birth_time_ns(self, fd: int) -> int | None:
        """When an open file was made, in nanoseconds since 1970; None where that is not known."""
        statx = _statx()
        if statx is None:
            return None
        buffer = ctypes.create_string_buffer(256)
        if statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
            return None
        (mask,) = _U32.unpack_from(buffer, 0)
        if not mask & _STATX_BTIME:
            return None
        seconds, nanoseconds = _STATX_TIME.unpack_from(buffer, 80)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def extents(self, fd: int, size: int) -> list[tuple[int, int]]:
        """The (offset, length) of what holds data in the first `size` bytes of a file; the rest
        are holes. One piece where the filesystem does not tell. Moves the descriptor's position.
        """
        found: list[tuple[int, int]] = []
        position = 0
        try:
            while position < size:
                start = os.lseek(fd, position, os.SEEK_DATA)
                if start >= size:
                    break
                if len(found) == _EXTENTS_MAX - 1:
                    found.append((start, size - start))
                    break
                position = min(os.lseek(fd, start, os.SEEK_HOLE), size)
                found.append((start, position - start))
        except OSError as error:
            # ENXIO: nothing but a hole from here to the end.
            if error.errno in _NOT_SUPPORTED:
                return [(0, size)] if size else []
            if error.errno != errno.ENXIO:
                raise
        return found

    def list_xattrs(self, where: int | Name, dir_fd: int | None = None) -> list[bytes]:
        """The names of the extended attributes of an open file, or, for what cannot be opened (a
        symlink), of a name in a directory. Empty where there are none to be had."""
        if not hasattr(os, "listxattr"):
            return []
        try:
            return [os.fsencode(it) for it in _xattr_call(os.listxattr, where, dir_fd)]
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                return []
            raise

    def get_xattr(self, where: int | Name, attribute: bytes, dir_fd: int | None = None) -> bytes:
        value: bytes = _xattr_call(os.getxattr, where, dir_fd, attribute)
        return value

    def bar_writers(self, fd: int) -> bool | None:
        """Take a read lease on the regular file behind a reading descriptor, until that is closed:
        who opens it for writing meanwhile waits. False where somebody has; None where leases are
        refused (another's file, network filesystems): then nobody can say."""
        if not hasattr(fcntl, "F_SETLEASE"):
            return None
        try:
            # A writer that comes in between makes the kernel send a signal: one that is ignored
            # by default, where SIGIO would end the process.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def has_writers(self, fd: int) -> bool | None:
        """Whether anybody has that file open for writing: `bar_writers`, given back at once."""
        barred = self.bar_writers(fd)
        if barred:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return None if barred is None else not barred

    # -- changing --------------------------------------------------------------------------

    def create(self, name: Name, dir_fd: int | None = None, mode: int = 0o600) -> int:
        """A descriptor of a new, empty file; `FileExistsError` if the name is taken."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=dir_fd)

    def open_write(self, name: Name, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
        """A descriptor, for reading and writing, of a regular file that exists, and its fstat.

        Raises `NotRegularFileError` for anything else. Nothing is truncated.
        """
        fd = os.open(name, _WRITE_FLAGS, dir_fd=dir_fd)
        return fd, self._stat_regular(fd, name)

    def open_lock_file(self, name: Name, dir_fd: int | None = None, mode: int = 0o600) -> int:
        """A descriptor of a file that exists to be locked; made when missing, never truncated."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=dir_fd)

    def lock(self, fd: int, *, wait: bool, shared: bool = False) -> bool:
        """Take a flock on a descriptor; False when somebody holds it and `wait` is not set.

        flock, not fcntl: a fcntl lock is lost when any descriptor of the file is closed.
        """
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        """Write all of `data`, however often the system call writes less."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at an offset; what lies between there and the end stays a hole."""
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            offset += written
            view = view[written:]

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        """Make a file or a directory durable. After an error the descriptor is not to be used
        again: the kernel drops the dirty pages and a second call would lie."""
        os.fsync(fd)

    def syncfs(self, fd: int) -> bool:
        """Make everything on the filesystem of an open file durable, all changes of names too.

        Where there is no such call, only that file is synced and the answer is False: then the
        caller syncs one by one. After an error as with `fsync`.
        """
        try:
            call = _libc().syncfs
        except AttributeError:
            os.fsync(fd)
            return False
        if call(fd) != 0:
            code = ctypes.get_errno()
            if code != errno.ENOSYS:
                raise OSError(code, os.strerror(code))
            os.fsync(fd)
            return False
        return True

    def mkdir(self, name: Name, dir_fd: int | None = None, mode: int = 0o700) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)

    def make_directories(self, path: Name, mode: int = 0o700) -> None:
        """Make an absolute directory and its missing parents; existing ones stay as they are."""
        os.makedirs(path, mode, exist_ok=True)

    def rmdir(self, name: Name, dir_fd: int | None = None) -> None:
        os.rmdir(name, dir_fd=dir_fd)

    def unlink(self, name: Name, dir_fd: int | None = None) -> None:
        os.unlink(name, dir_fd=dir_fd)

    def unlink_judged(self, dir_fd: int, files: Sequence[Judged]) -> list[int] | None:
        """Unlink regular files of one folder without the interpreter, each if it still is what was
        judged and nobody has it open for writing: the bytes that its end gave back (0 where it has
        another name), or -1 where it was left as it is, for whatever reason. None where there is no
        such part (it is made from C where there is a compiler), and below a wrapper, which is to
        see each step."""
        native = _unlinking()
        if native is None or type(self) is not FileOps:
            return None
        freed: list[int] = native.unlink_judged(dir_fd, files)
        return freed

    def link(
        self, source: Name, target: Name, source_fd: int | None, target_fd: int | None
    ) -> None:
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)

    def rename(
        self, source: Name, target: Name, source_fd: int | None, target_fd: int | None
    ) -> None:
        """Rename, replacing what stands at the target."""
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def rename_noreplace(self, source: Name, target: Name, source_fd: int, target_fd: int) -> None:
        """Rename, or `FileExistsError` when the target is taken (renameat2, RENAME_NOREPLACE).

        Where the system or the filesystem cannot do that in one call, the file gets its second
        name before it loses the first: a kill in between leaves it under both. Directories are
        refused there.
        """
        rename = _renameat2()
        if rename is not None:
            if (
                rename(
                    source_fd,
                    source if isinstance(source, bytes) else os.fsencode(source),
                    target_fd,
                    target if isinstance(target, bytes) else os.fsencode(target),
                    _RENAME_NOREPLACE,
                )
                == 0
            ):
                return
            code = ctypes.get_errno()
            if code not in _NOT_SUPPORTED:
                names = (os.fsdecode(source), None, os.fsdecode(target))
                raise OSError(code, os.strerror(code), *names)
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        try:
            os.unlink(source, dir_fd=source_fd)
        except BaseException:
            os.unlink(target, dir_fd=target_fd)
            raise

    def symlink(self, target: Name, name: Name, dir_fd: int | None = None) -> None:
        """Make a symlink under `name` that points to `target`."""
        os.symlink(target, name, dir_fd=dir_fd)

    # -- attributes ------------------------------------------------------------------------

    def chmod_fd(self, fd: int, mode: int) -> None:
        """Set the permission bits of an open file. (A symlink has none.)"""
        os.fchmod(fd, mode)

    def chown_fd(self, fd: int, uid: int, gid: int) -> None:
        """Set the owner and group of an open file."""
        os.fchown(fd, uid, gid)

    def chown(self, name: Name, uid: int, gid: int, dir_fd: int | None = None) -> None:
        """Set owner and group of what cannot be opened (a symlink), not of its target."""
        os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)

    def set_times_fd(self, fd: int, atime_ns: int, mtime_ns: int) -> None:
        os.utime(fd, ns=(atime_ns, mtime_ns))

    def set_times(
        self, name: Name, atime_ns: int, mtime_ns: int, dir_fd: int | None = None
    ) -> None:
        """Set the times of what cannot be opened (a symlink), not of its target."""
        os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=False)

    def set_xattr(
        self, where: int | Name, attribute: bytes, value: bytes, dir_fd: int | None = None
    ) -> None:
        """Set an extended attribute; `where` as in `list_xattrs`."""
        _xattr_call(os.setxattr, where, dir_fd, attribute, value)

    def statvfs(self, path: Name) -> os.statvfs_result:
        """How full the filesystem of a path is."""
        return os.statvfs(path)

    # -- composed --------------------------------------------------------------------------

    def write_file(self, name: Name, data: bytes, dir_fd: int, mode: int = 0o600) -> None:
        """Replace or make a small file so that a reader sees the old or the new bytes, never half.

        Order after restic's local backend: exclusive temporary name, write, sync, rename, sync of
        the directory. A failure leaves the old file and no temporary one.
        """
        temporary = b"." + os.fsencode(name)[: _NAME_MAX - 24] + b"." + os.urandom(8).hex().encode()
        fd = self.create(temporary, dir_fd, mode)
        try:
            try:
                self.write(fd, data)
                self.fsync(fd)
            finally:
                self.close(fd)
            self.rename(temporary, name, dir_fd, dir_fd)
        except BaseException:
            try:
                self.unlink(temporary, dir_fd)
            except OSError:
                pass
            raise
        self.fsync(dir_fd)

    def read_file(self, name: Name, dir_fd: int | None = None, limit: int = 1 << 20) -> bytes:
        """The bytes of a small regular file, at most `limit` of them."""
        fd = self.open_read(name, dir_fd)
        try:
            return self.pread(fd, limit, 0)
        finally:
            self.close(fd)


def _unlinking() -> Any:
    return extension("lifecycle_sync._unlinking", _UNLINKING_INTERFACE)


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _renameat2() -> Any:
    """None where the system has no such call (macOS, an old C library)."""
    try:
        call = _libc().renameat2
    except AttributeError:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


@cache
def _statx() -> Any:
    try:
        call = _libc().statx
    except AttributeError:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
    return call


def _xattr_call(call: Any, where: int | Name, dir_fd: int | None, *arguments: bytes) -> Any:
    if isinstance(where, int):
        return call(where, *arguments)
    if dir_fd is not None:
        # There is no such call relative to a directory; the magic link is its descriptor.
        where = b"/proc/self/fd/%d/%b" % (dir_fd, os.fsencode(where))
    return call(where, *arguments, follow_symlinks=False)
