"""A filesystem in a file, mounted, whose power can be cut: the kernel's own shutdown of it.

The ioctl `EXT4_IOC_SHUTDOWN` (XFS has the same number) stops a filesystem as it is, without a
flush of its log: what no sync has made durable is gone when it is mounted again, after the kernel's
replay of the journal. Whoever mounts has to be root, and should be in a mount namespace of its own
(`unshare --mount`), so that nothing stays mounted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

# _IOR('X', 125, __u32), and not to flush the log.
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2
# No filesystem that is shut down within seconds has begun to write by itself.
_MAKE = {
    "ext4": (["mkfs.ext4", "-q", "-E", "lazy_itable_init=0"], 64 << 20, "commit=600"),
    "xfs": (["mkfs.xfs", "-q"], 300 << 20, "defaults"),
}


def reason_against(kind: str) -> str:
    """Why no power can be cut here; empty where it can."""
    if os.geteuid():
        return "only root may mount"
    for command in (_MAKE[kind][0][0], "mount", "umount", "unshare"):
        if shutil.which(command) is None:
            return f"there is no {command}"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    probe = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        check=False,
        capture_output=True,
    )
    return "" if probe.returncode == 0 else f"mounting is refused: {probe.stderr.decode().strip()}"


class LoopDisk:
    """A disk mounted at `at`, its image a file in `folder`."""

    def __init__(self, folder: Path, at: Path, kind: str) -> None:
        make, size, self._options = _MAKE[kind]
        self._kind, self.at = kind, at
        self._image, self._saved = folder / "image", folder / "saved"
        with open(self._image, "wb") as file:
            file.truncate(size)
        _run(*make, str(self._image))
        at.mkdir(exist_ok=True)

    def mount(self) -> None:
        options = f"loop,{self._options}"
        _run("mount", "-t", self._kind, "-o", options, str(self._image), str(self.at))

    def unmount(self) -> None:
        """Waits for whoever is just letting go of it."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return _run("umount", str(self.at))
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def save(self) -> None:
        """Remember it as it is, unmounted."""
        _run("cp", "--sparse=always", str(self._image), str(self._saved))

    def return_to_saved(self) -> None:
        _run("cp", "--sparse=always", str(self._saved), str(self._image))

    def cut_power(self) -> None:
        """From now on every operation fails; unmount it and mount it again."""
        fd = os.open(self.at, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode().strip()}")
