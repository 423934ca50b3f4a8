"""A place that is put back as it was, inodes and times included, for one try after the other.

A copy of files is not what they were: it has other inodes and other times, and a registry takes it
for other files. So where root may mount, the place is a small ext4 in memory, and its image is what
is put back, in some 3 ms. It is mounted in a namespace of this process alone, and gone with it.
Elsewhere each try has an empty folder in which all is made anew.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import fcntl
import gc
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_SIZE = 16 << 30  # nearly all of it holes, and no order finds it full
_MAKE = "mkfs.ext4 -q -F -b 4096 -I 256 -N 16384 -O ^has_journal,^resize_inode".split()
# From linux/sched.h, linux/mount.h and linux/loop.h.
_NEW_NAMESPACE, _PRIVATE_BELOW, _NO_ATIME = 0x20000, 1 << 18 | 1 << 14, 1 << 10
_LOOP_CONFIGURE, _LOOP_FREE, _FLUSH_BUFFERS = 0x4C0A, 0x4C82, 0x1261
_CLEARED_WITH_ITS_LAST_USER = 4


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, in memory where that can be had: then a sync costs nothing."""
    memory = "/dev/shm"
    place = memory if os.access(memory, os.W_OK) and _has_attributes(memory) else None
    with tempfile.TemporaryDirectory(prefix="lifecycle-faults-", dir=place) as path:
        yield Path(path)


@contextmanager
def ready(what: Hashable, make: Callable[[Path], None]) -> Iterator[Path]:
    """A folder as `make` leaves it; what it makes is known by `what`, and made once where it can
    be put back."""
    ground = _ground()
    if ground is None:
        with folder() as base:
            make(base)
            yield base
    else:
        with ground.ready(what, make) as base:
            yield base


def _has_attributes(path: str) -> bool:
    with tempfile.NamedTemporaryFile(dir=path) as file:
        try:
            os.setxattr(file.name, "user.test", b"")
        except OSError:
            return False
    return True


@cache
def _ground() -> Ground | None:
    """The one of this process; None where nothing may be mounted."""
    if os.geteuid() or shutil.which(_MAKE[0]) is None:
        return None
    try:
        return Ground()
    except OSError:
        return None


class Ground:
    """A filesystem in memory. The last thing that was made on it is kept, and can be had again."""

    def __init__(self) -> None:
        """Raises `OSError` where the kernel does not let it be mounted."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._call("unshare", _NEW_NAMESPACE)
        self._call("mount", b"none", b"/", None, _PRIVATE_BELOW, None)
        self._at = Path(tempfile.mkdtemp(prefix="lifecycle-ground-"))
        atexit.register(_remove, self._at, os.getpid())
        # So that it is there alone for as long as this process is.
        self._call("mount", b"none", os.fsencode(self._at), b"tmpfs", 0, None)
        self._image, self._empty, self._saved = (_memory() for _ in range(3))
        command = [*_MAKE, f"/proc/{os.getpid()}/fd/{self._empty}"]
        subprocess.run(command, check=True, capture_output=True)
        self._what: Hashable = None
        self._device, self._fd = self._loop()
        self._put(self._empty)
        with self._mounted():
            pass

    @contextmanager
    def ready(self, what: Hashable, make: Callable[[Path], None]) -> Iterator[Path]:
        if self._what != what:
            self._what = None
            self._put(self._empty)
            with self._mounted() as base:
                make(base)
            _copy(self._image, self._saved)
            self._what = what
        self._put(self._saved)
        with self._mounted() as base:
            yield base

    @contextmanager
    def _mounted(self) -> Iterator[Path]:
        place = os.fsencode(self._at / "disk")
        os.makedirs(place, exist_ok=True)
        self._call("mount", os.fsencode(self._device), place, b"ext4", _NO_ATIME, None)
        try:
            base = Path(os.fsdecode(place), "base")
            base.mkdir(exist_ok=True)
            yield base
        finally:
            self._unmount(place)

    def _unmount(self, place: bytes) -> None:
        until = time.monotonic() + 10
        while True:
            try:
                return self._call("umount2", place, 0)
            except OSError as error:
                # Threads that are just ending have it open.
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    raise
                gc.collect()
                time.sleep(0.001)

    def _put(self, image: int) -> None:
        _copy(image, self._image)
        # The device is never closed, so it would remember what it has read.
        fcntl.ioctl(self._fd, _FLUSH_BUFFERS)

    def _loop(self) -> tuple[str, int]:
        """A device whose disk is the image; nobody needs to clear it."""
        info = bytearray(304)
        struct.pack_into("II", info, 0, self._image, 4096)
        struct.pack_into("I", info, 8 + 52, _CLEARED_WITH_ITS_LAST_USER)
        with open("/dev/loop-control", "rb") as control:
            while True:
                device = f"/dev/loop{fcntl.ioctl(control, _LOOP_FREE)}"
                fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(fd, _LOOP_CONFIGURE, bytes(info))
                except OSError as error:
                    os.close(fd)
                    # Another one was quicker.
                    if error.errno != errno.EBUSY:
                        raise
                else:
                    return device, fd

    def _call(self, name: str, *args: object) -> None:
        if getattr(self._libc, name)(*args):
            code = ctypes.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")


def _remove(place: Path, process: int) -> None:
    if os.getpid() == process:
        subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)
        place.rmdir()


def _memory() -> int:
    fd = os.memfd_create("lifecycle-ground", os.MFD_CLOEXEC)
    os.truncate(fd, _SIZE)
    return fd


def _copy(source: int, target: int) -> None:
    """All that is no hole."""
    os.truncate(target, 0)
    os.truncate(target, _SIZE)
    position = 0
    while True:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(source, position, os.SEEK_HOLE)
        while position < end:
            position += os.copy_file_range(source, target, end - position, position, position)
