"""A file under management: its kind, its type, its state, and the record of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, IntFlag, StrEnum


class Kind(IntEnum):
    """What a directory entry is; the values are the file-type nibble of `st_mode`."""

    FIFO = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 4
    BLOCK_DEVICE = 6
    REGULAR = 8
    SYMLINK = 10
    SOCKET = 12


class FileType(StrEnum):
    """What a file is for, judged by its suffix."""

    DOCUMENT = "document"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    ARCHIVE = "archive"
    OTHER = "other"


class LifecycleState(StrEnum):
    """Where a file stands in its life."""

    UPLOADED = "uploaded"  # new or changed
    PROCESSING = "processing"  # unstable, being hashed, or claimed by the application
    ARCHIVED = "archived"
    DELETED = "deleted"  # gone; the record stays until it is purged
    BACKUP_PENDING = "backup_pending"
    BACKUP_COMPLETE = "backup_complete"
    EXPIRED = "expired"  # past its retention


class Tracking(IntEnum):
    """Whether the registry follows a file that exists."""

    TRACKED = 0
    IGNORED = 1  # an ignore rule took it out; it comes back with its id when the rule goes
    UNREGISTERED = 2  # taken out by an order; stays out until it is registered again


class FileFlag(IntFlag):
    """What is known about a record beside its state."""

    RACY = 1  # changed within the clock's grain of the look: an equal tuple proves nothing
    UNSTABLE = 2  # changed while it was read; the old checksum is kept
    SUSPECT = 4  # the content changed and the tuple did not (bit rot); a person decides
    UNREADABLE = 8  # could not be opened or read
    CLAIMED = 16  # the application works on it (`claim`); nothing else does until `release`


_S = LifecycleState
# From a state to those it may become. A vanished file may become DELETED from anywhere, and a
# changed one UPLOADED; what is not in here is an error.
TRANSITIONS: dict[LifecycleState, frozenset[LifecycleState]] = {
    _S.UPLOADED: frozenset({_S.PROCESSING, _S.BACKUP_PENDING, _S.ARCHIVED, _S.EXPIRED, _S.DELETED}),
    _S.PROCESSING: frozenset({_S.UPLOADED, _S.DELETED}),
    _S.BACKUP_PENDING: frozenset({_S.UPLOADED, _S.PROCESSING, _S.BACKUP_COMPLETE, _S.DELETED}),
    _S.BACKUP_COMPLETE: frozenset(
        {_S.UPLOADED, _S.PROCESSING, _S.BACKUP_PENDING, _S.ARCHIVED, _S.EXPIRED, _S.DELETED}
    ),
    _S.ARCHIVED: frozenset({_S.UPLOADED, _S.EXPIRED, _S.DELETED}),
    _S.EXPIRED: frozenset({_S.UPLOADED, _S.PROCESSING, _S.ARCHIVED, _S.DELETED}),
    _S.DELETED: frozenset({_S.UPLOADED}),
}


def may_become(old: LifecycleState, new: LifecycleState) -> bool:
    """Whether the transition table has `old` to `new`; staying is always allowed."""
    return old == new or new in TRANSITIONS[old]


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """One file as the documented `file_registry` table shows it.

    Sizes are bytes, times aware UTC datetimes. `checksum` is hexadecimal and empty until the file
    has been hashed; `expiry_date` is None where nothing will expire it.
    """

    file_id: str
    file_path: str
    file_name: str
    file_type: FileType
    file_size: int
    created_at: datetime
    modified_at: datetime
    accessed_at: datetime
    state: LifecycleState
    policy_name: str
    checksum: str
    version: int = 1
    parent_id: str | None = None
    backup_path: str | None = None
    archive_path: str | None = None
    expiry_date: datetime | None = None
    last_state_change: datetime | None = None


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file as the registry knows it. Times are nanoseconds since 1970 UTC, `path` is relative
    to the root of its repository, and `seq` grows with every change of any record."""

    file_id: bytes
    repository_id: bytes
    path: bytes
    kind: Kind
    file_type: FileType
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int
    uid: int
    gid: int
    nlink: int
    atime_ns: int
    btime_ns: int | None
    state: LifecycleState
    tracking: Tracking
    flags: FileFlag
    policy_name: str
    policy_explicit: bool
    algorithm: str
    checksum: bytes | None
    # True while `checksum` is missing or may not be that of the bytes on the disk.
    hash_due: bool
    version: int
    registered_ns: int
    state_since_ns: int
    changed_ns: int
    scanned_ns: int
    scan_generation: int
    seq: int
    # Where in which vault a copy lies.
    backup_path: str | None = None
    archive_path: str | None = None

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


_SUFFIXES: dict[FileType, str] = {
    FileType.DOCUMENT: "txt pdf doc docx odt ods odp rtf md rst tex csv tsv xls xlsx ppt pptx htm"
    " html xml json yaml yml epub ps log",
    FileType.IMAGE: "jpg jpeg jpe png gif bmp tif tiff webp heic heif avif svg ico raw cr2 cr3 nef"
    " arw dng orf rw2 raf psd xcf jxl",
    FileType.VIDEO: "mp4 m4v mov avi mkv webm wmv flv mpg mpeg 3gp mts m2ts ogv vob",
    FileType.AUDIO: "mp3 wav flac ogg oga opus m4a aac wma aif aiff mid midi ape",
    FileType.ARCHIVE: "zip rar 7z tar gz tgz bz2 tbz2 xz txz zst lz lz4 lzma cab iso jar war deb"
    " rpm",
}
# With their dots, as a name ends.
TYPE_OF_SUFFIX: dict[bytes, FileType] = {
    b"." + suffix.encode(): file_type
    for file_type, suffixes in _SUFFIXES.items()
    for suffix in suffixes.split()
}


def type_of_name(name: bytes) -> FileType:
    """The type by the last suffix, without regard to case; OTHER where there is none."""
    # Without a dot this is the last letter, which is nobody's suffix.
    return TYPE_OF_SUFFIX.get(name[name.rfind(b".") :].lower(), FileType.OTHER)
