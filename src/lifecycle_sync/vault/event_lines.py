"""The shapes of the lines that manifests say events in; how paths, ids and metadata stand there.

What varies from file to file stands first in a line and what repeats stands last, and what is as
usual is left out: that is what lets a compressor make some eighty bytes of a version.
"""

from __future__ import annotations

import base64
from urllib.parse import quote_from_bytes, unquote_to_bytes

from msgspec import UNSET, Struct, UnsetType

from lifecycle_sync.model.content import Metadata
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.repository import RepositoryKind

KIND_NAMES = {kind: kind.name.lower() for kind in Kind}
KINDS = {name: kind for kind, name in KIND_NAMES.items()}
ID_BYTES, NAME_BYTES = 16, 32


# A path is text that is always valid UTF-8, odd bytes as \xNN; where that
# is not the path's own bytes, `path_bytes` has them (base64).


class MetadataShape(Struct, kw_only=True, omit_defaults=True):
    size: int
    mtime: int
    # Left out: as mtime. Birth time null: the filesystem has none.
    ctime: int | UnsetType = UNSET
    atime: int | UnsetType = UNSET
    btime: int | UnsetType | None = UNSET
    inode: int
    target: str | None = None
    target_bytes: str | None = None
    # Names percent-encoded, values base64.
    xattrs: dict[str, str] = {}
    extents: list[tuple[int, int]] | None = None
    nlink: int = 1
    kind: str
    mode: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""


class Shape(Struct, kw_only=True, omit_defaults=True, tag_field="event"):
    pass


class OfFileShape(Shape, kw_only=True):
    file: str
    path: str
    path_bytes: str | None = None


class VersionShape(OfFileShape, tag="version", kw_only=True):
    content: str | None
    version: str
    operation: str
    metadata: MetadataShape
    number: int
    state: LifecycleState
    policy: str
    explicit: bool = False
    repository: str
    at: int


class StateShape(OfFileShape, tag="state", kw_only=True):
    operation: str
    state: LifecycleState
    reason: str = ""
    repository: str
    at: int


class DirectoryShape(Shape, tag="directory", kw_only=True):
    path: str
    path_bytes: str | None = None
    metadata: MetadataShape
    repository: str
    at: int


class RepositoryShape(Shape, tag="repository", kw_only=True):
    repository: str
    path: str
    path_bytes: str | None = None
    kind: RepositoryKind
    enforce: bool
    registry: str
    at: int


class PolicyShape(Shape, tag="policy", kw_only=True):
    policy: LifecyclePolicy
    removed: bool = False
    at: int


class AssignmentShape(OfFileShape, tag="assignment", kw_only=True):
    policy: str
    explicit: bool = False
    repository: str
    at: int


class HoldShape(Shape, tag="hold", kw_only=True):
    hold: str
    file: str | None = None
    query: str | None = None
    reason: str
    owner: str
    created: int
    ends: int | None = None
    released: int | None = None


class ConfirmationShape(Shape, tag="confirmation", kw_only=True):
    repository: str
    guard: str
    evidence: str
    at: int


# Many ids and names stand in one text, as the digests of a pack do.


class PrunedShape(Shape, tag="pruned", kw_only=True):
    versions: str
    reason: str = ""
    at: int


class CondemnedShape(Shape, tag="condemned", kw_only=True):
    packs: str = ""
    objects: str = ""
    at: int


class GivenUpShape(Shape, tag="given_up", kw_only=True):
    manifests: list[str]
    reason: str = ""
    at: int


AnyShape = (
    VersionShape
    | StateShape
    | DirectoryShape
    | RepositoryShape
    | PolicyShape
    | AssignmentShape
    | HoldShape
    | ConfirmationShape
    | PrunedShape
    | CondemnedShape
    | GivenUpShape
)


def cut(text: str, size: int) -> tuple[bytes, ...]:
    """The ids or names, of so many bytes each, that stand in one text. Raises `ValueError`."""
    data = bytes.fromhex(text)
    if len(data) % size or 2 * len(data) != len(text):
        raise ValueError("a name that is too short")
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def metadata_shape(metadata: Metadata) -> MetadataShape:
    """How a line says metadata."""
    mtime = metadata.mtime_ns
    line = MetadataShape(
        size=metadata.size,
        mtime=mtime,
        ctime=UNSET if metadata.ctime_ns == mtime else metadata.ctime_ns,
        atime=UNSET if metadata.atime_ns == mtime else metadata.atime_ns,
        btime=UNSET if metadata.btime_ns == mtime else metadata.btime_ns,
        inode=metadata.inode,
        nlink=metadata.nlink,
        kind=KIND_NAMES[metadata.kind],
        mode=metadata.mode,
        uid=metadata.uid,
        gid=metadata.gid,
        user=metadata.user,
        group=metadata.group,
    )
    if metadata.target is not None:
        line.target, line.target_bytes = text_of(metadata.target)
    if metadata.xattrs:
        line.xattrs = {
            quote_from_bytes(name): base64.b64encode(value).decode()
            for name, value in metadata.xattrs
        }
    if metadata.extents is not None:
        line.extents = list(metadata.extents)
    return line


def metadata_of(line: MetadataShape) -> Metadata:
    """The metadata that a line says. Raises `ValueError`, `KeyError`."""
    mtime = line.mtime
    return Metadata(
        kind=KINDS[line.kind],
        size=line.size,
        mode=line.mode,
        uid=line.uid,
        gid=line.gid,
        user=line.user,
        group=line.group,
        mtime_ns=mtime,
        atime_ns=mtime if line.atime is UNSET else line.atime,
        btime_ns=mtime if line.btime is UNSET else line.btime,
        ctime_ns=mtime if line.ctime is UNSET else line.ctime,
        inode=line.inode,
        nlink=line.nlink,
        xattrs=tuple(
            (unquote_to_bytes(name), base64.b64decode(value, validate=True))
            for name, value in line.xattrs.items()
        ),
        extents=None if line.extents is None else tuple(line.extents),
        target=None if line.target is None else bytes_of(line.target, line.target_bytes),
    )


def text_of(path: bytes) -> tuple[str, str | None]:
    """A path as text, and in base64 where the text is not its bytes."""
    try:
        return path.decode(), None
    except UnicodeDecodeError:
        return path.decode(errors="backslashreplace"), base64.b64encode(path).decode()


def bytes_of(text: str, odd: str | None) -> bytes:
    """The path that `text_of` made it of. Raises `ValueError`."""
    return text.encode() if odd is None else base64.b64decode(odd, validate=True)


def id_of(text: str) -> bytes:
    """The id of its hexadecimal digits. Raises `ValueError`."""
    identifier = bytes.fromhex(text)
    if len(identifier) != ID_BYTES:
        raise ValueError(f"no id: {text[:100]!r}")
    return identifier
