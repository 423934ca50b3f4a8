"""On which filesystem a path lies: its type, its lasting id, and whether the network is between."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_NETWORK_TYPES = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p afs ceph glusterfs lustre beegfs gpfs ocfs2 gfs2 davfs"
    " ncpfs".split()
)
# statvfs' f_fsid comes from the filesystem's UUID on these; elsewhere from the device's number,
# which another boot may give to another disk.
_LASTING_FSID_TYPES = frozenset("ext2 ext3 ext4 btrfs f2fs erofs squashfs".split())
_BY_UUID = "/dev/disk/by-uuid"
FSTAB = "/etc/fstab"
_MOUNTS = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class Filesystem:
    """`identity` is empty where nothing lasting is known. `fuse` filesystems and network ones may
    give a file another inode number at every mount."""

    type: str
    identity: str
    network: bool
    fuse: bool

    @property
    def stable_inodes(self) -> bool:
        return not (self.fuse or self.type in {"cifs", "smb3", "smbfs", "9p", "davfs"})


def filesystem_of(path: bytes) -> Filesystem:
    """The filesystem an existing path lies on. Raises `OSError` if the path cannot be stat'ed."""
    device = os.stat(path).st_dev
    kind = _type_of(path, device)
    fuse = kind.startswith("fuse") and kind != "fuseblk"
    # sshfs, rclone and their like: a network behind FUSE.
    network = kind in _NETWORK_TYPES or fuse
    return Filesystem(kind, _identity(path, device, kind), network, fuse)


def spins(device: int) -> bool | None:
    """Whether a device (`st_dev`) is a spinning disk; False for flash, None where nobody knows."""
    place = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    # A partition asks the disk that it lies on.
    for folder in (place, f"{place}/.."):
        try:
            with open(f"{folder}/queue/rotational", encoding="ascii") as told:
                return told.read().strip() == "1"
        except (OSError, ValueError):
            continue
    return None


def awaited_mount(path: str) -> str | None:
    """The mount point at or above a path that FSTAB names and on which nothing is mounted now:
    what is written there would lie beneath the disk that belongs there. None without one, and
    where nobody can tell."""
    real = os.path.realpath(path).rstrip("/") + "/"
    try:
        with open(FSTAB, encoding="utf-8", errors="surrogateescape") as table:
            rows = [line.split() for line in table if not line.lstrip().startswith("#")]
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            mounted = {_unescape(line.split(" ")[4]) for line in mounts}
    except OSError:
        return None
    for row in rows:
        place = os.path.realpath(_unescape(row[1])) if len(row) > 2 else ""
        # Swap has "none" in place of a mount point.
        below = row[1:2] and row[1].startswith("/") and real.startswith(place.rstrip("/") + "/")
        if below and place not in mounted:
            return place
    return None


def _type_of(path: bytes, device: int) -> str:
    """By device number, else (btrfs gives subvolumes numbers of their own) by mount point."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    real = os.fsdecode(os.path.realpath(path)).rstrip("/") + "/"
    longest, by_mount_point = -1, ""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                # 36 35 98:0 /root /mount/point options [optional fields] - type source options
                fields, _, tail = line.partition(" - ")
                number, mount_point = fields.split(" ")[2], _unescape(fields.split(" ")[4])
                kind = tail.split(" ", 1)[0]
                if number == wanted:
                    return kind
                prefix = mount_point.rstrip("/") + "/"
                if real.startswith(prefix) and len(prefix) >= longest:
                    longest, by_mount_point = len(prefix), kind
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # No /proc (macOS, a bare container): the type is only a hint. That no descriptors are left
        # is another matter: a root must not seem to lie on another filesystem.
        pass
    return by_mount_point


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)


def _identity(path: bytes, device: int, kind: str) -> str:
    try:
        for entry in os.scandir(_BY_UUID):
            if os.stat(entry.path).st_rdev == device:
                return f"uuid:{entry.name}"
    except OSError:
        pass
    if kind in _LASTING_FSID_TYPES:
        return f"fsid:{os.statvfs(path).f_fsid:x}"
    return ""
