"""Events as the JSON lines of a manifest, and back.

What varies from file to file stands first in a line and what repeats stands last, and what is as
usual is left out: that is what lets a compressor make some eighty bytes of a version. A line that
this program does not understand becomes an `UnknownEvent` with its bytes, never an error: a newer
writer may say more.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec
from msgspec import UNSET, Struct, UnsetType

from lifecycle_sync.model.content import ContentKey, Metadata, key_from_text
from lifecycle_sync.model.event import (
    AssignmentEvent,
    CondemnedEvent,
    ConfirmationEvent,
    DirectoryEvent,
    Event,
    HoldEvent,
    PolicyEvent,
    PrunedEvent,
    RepositoryEvent,
    StateEvent,
    UnknownEvent,
    VersionEvent,
)
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.repository import RepositoryKind

_KIND_NAMES = {kind: kind.name.lower() for kind in Kind}
_KINDS = {name: kind for kind, name in _KIND_NAMES.items()}
_ID_BYTES, _NAME_BYTES = 16, 32


# The shapes of the lines. A path is text that is always valid UTF-8, odd bytes as \xNN; where that
# is not the path's own bytes, `path_bytes` has them (base64).


class _MetadataLine(Struct, kw_only=True, omit_defaults=True):
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


class _Line(Struct, kw_only=True, omit_defaults=True, tag_field="event"):
    pass


class _VersionLine(_Line, tag="version", kw_only=True):
    file: str
    path: str
    path_bytes: str | None = None
    content: str | None
    version: str
    operation: str
    metadata: _MetadataLine
    number: int
    state: LifecycleState
    policy: str
    explicit: bool = False
    repository: str
    at: int


class _StateLine(_Line, tag="state", kw_only=True):
    file: str
    path: str
    path_bytes: str | None = None
    operation: str
    state: LifecycleState
    reason: str = ""
    repository: str
    at: int


class _DirectoryLine(_Line, tag="directory", kw_only=True):
    path: str
    path_bytes: str | None = None
    metadata: _MetadataLine
    repository: str
    at: int


class _RepositoryLine(_Line, tag="repository", kw_only=True):
    repository: str
    path: str
    path_bytes: str | None = None
    kind: RepositoryKind
    enforce: bool
    registry: str
    at: int


class _PolicyLine(_Line, tag="policy", kw_only=True):
    policy: LifecyclePolicy
    removed: bool = False
    at: int


class _AssignmentLine(_Line, tag="assignment", kw_only=True):
    file: str
    path: str
    path_bytes: str | None = None
    policy: str
    explicit: bool = False
    repository: str
    at: int


class _HoldLine(_Line, tag="hold", kw_only=True):
    hold: str
    file: str | None = None
    query: str | None = None
    reason: str
    owner: str
    created: int
    ends: int | None = None
    released: int | None = None


class _ConfirmationLine(_Line, tag="confirmation", kw_only=True):
    repository: str
    guard: str
    evidence: str
    at: int


# Many ids and names stand in one text, as the digests of a pack do.


class _PrunedLine(_Line, tag="pruned", kw_only=True):
    versions: str
    reason: str = ""
    at: int


class _CondemnedLine(_Line, tag="condemned", kw_only=True):
    packs: str = ""
    objects: str = ""
    at: int


_AnyLine = (
    _VersionLine
    | _StateLine
    | _DirectoryLine
    | _RepositoryLine
    | _PolicyLine
    | _AssignmentLine
    | _HoldLine
    | _ConfirmationLine
    | _PrunedLine
    | _CondemnedLine
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_AnyLine).decode


class VersionLine(NamedTuple):
    """A version of a content that lies in a file, whose line was made already: what else has to be
    known of it. `raw` is the line."""

    number: int
    version_id: bytes
    content: ContentKey
    at_ns: int
    raw: bytes


def encode_event(event: Event) -> bytes:
    """The line of an event, without its line break."""
    if isinstance(event, VersionEvent):
        # A backup is made of these, so they get no helper that could be spared.
        path, odd = _text(event.path)
        content = event.content
        return _encode(
            _VersionLine(
                file=event.file_id.hex(),
                path=path,
                path_bytes=odd,
                content=None if content is None else f"{content[0]}:{content[1].hex()}",
                version=event.version_id.hex(),
                operation=event.operation_id.hex(),
                metadata=_metadata_line(event.metadata),
                number=event.number,
                state=event.state,
                policy=event.policy_name,
                explicit=event.policy_explicit,
                repository=event.repository_id.hex(),
                at=event.at_ns,
            )
        )
    return _encode_other(event)


class PlainFile(NamedTuple):
    """A regular file with nothing special about it: what a version of it says beside its place."""

    size: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    inode: int
    nlink: int
    mode: int
    uid: int
    gid: int
    user: str
    group: str


def encode_plain(
    it: PlainFile,
    *,
    file_id: bytes,
    repository: str,
    path: bytes,
    number: int,
    version_id: bytes,
    content: ContentKey,
    policy: str,
    explicit: bool,
    state: LifecycleState,
    at_ns: int,
    operation_id: bytes,
) -> bytes:
    """The line that `encode_event` would make of the version of such a file; `repository` is the
    id in hexadecimal. This is what a process that reads ahead does for each of its files."""
    text, odd = _text(path)
    mtime = it.mtime_ns
    return _encode(
        _VersionLine(
            file=file_id.hex(),
            path=text,
            path_bytes=odd,
            content=f"{content[0]}:{content[1].hex()}",
            version=version_id.hex(),
            operation=operation_id.hex(),
            metadata=_MetadataLine(
                size=it.size,
                mtime=mtime,
                ctime=UNSET if it.ctime_ns == mtime else it.ctime_ns,
                atime=UNSET if it.atime_ns == mtime else it.atime_ns,
                btime=None,
                inode=it.inode,
                nlink=it.nlink,
                kind="regular",
                mode=it.mode,
                uid=it.uid,
                gid=it.gid,
                user=it.user,
                group=it.group,
            ),
            number=number,
            state=state,
            policy=policy,
            explicit=explicit,
            repository=repository,
            at=at_ns,
        )
    )


def _encode_other(event: Event) -> bytes:
    line: _Line
    match event:
        case UnknownEvent(raw):
            return raw
        case StateEvent():
            path, odd = _text(event.path)
            line = _StateLine(
                file=event.file_id.hex(),
                path=path,
                path_bytes=odd,
                operation=event.operation_id.hex(),
                state=event.state,
                reason=event.reason,
                repository=event.repository_id.hex(),
                at=event.at_ns,
            )
        case DirectoryEvent():
            path, odd = _text(event.path)
            line = _DirectoryLine(
                path=path,
                path_bytes=odd,
                metadata=_metadata_line(event.metadata),
                repository=event.repository_id.hex(),
                at=event.at_ns,
            )
        case RepositoryEvent():
            path, odd = _text(event.path)
            line = _RepositoryLine(
                repository=event.repository_id.hex(),
                path=path,
                path_bytes=odd,
                kind=event.kind,
                enforce=event.enforce,
                registry=event.registry_id.hex(),
                at=event.at_ns,
            )
        case PolicyEvent():
            line = _PolicyLine(policy=event.policy, removed=event.removed, at=event.at_ns)
        case AssignmentEvent():
            path, odd = _text(event.path)
            line = _AssignmentLine(
                file=event.file_id.hex(),
                path=path,
                path_bytes=odd,
                policy=event.policy_name,
                explicit=event.explicit,
                repository=event.repository_id.hex(),
                at=event.at_ns,
            )
        case HoldEvent():
            line = _HoldLine(
                hold=event.hold_id.hex(),
                file=None if event.file_id is None else event.file_id.hex(),
                query=event.query,
                reason=event.reason,
                owner=event.owner,
                created=event.created_ns,
                ends=event.ends_ns,
                released=event.released_ns,
            )
        case ConfirmationEvent():
            line = _ConfirmationLine(
                repository=event.repository_id.hex(),
                guard=event.guard,
                evidence=event.evidence,
                at=event.at_ns,
            )
        case PrunedEvent():
            line = _PrunedLine(
                versions=b"".join(event.version_ids).hex(), reason=event.reason, at=event.at_ns
            )
        case CondemnedEvent():
            line = _CondemnedLine(
                packs=b"".join(event.packs).hex(),
                objects=b"".join(event.objects).hex(),
                at=event.at_ns,
            )
        case _:
            raise TypeError(f"no event: {event!r}")
    return _encode(line)


def told_at(event: VersionEvent | VersionLine, at_ns: int) -> VersionEvent | VersionLine:
    """The same version, told at another time (nanoseconds since 1970 UTC)."""
    if isinstance(event, VersionEvent):
        return replace(event, at_ns=at_ns)
    line = _decode(event.raw)
    line.at = at_ns
    return event._replace(at_ns=at_ns, raw=_encode(line))


def decode_event(raw: bytes) -> Event:
    """The event of a line; an `UnknownEvent` for what does not fit any shape known here."""
    try:
        line = _decode(raw)
        return _event_of(line)
    except (msgspec.DecodeError, ValueError, KeyError):
        return UnknownEvent(raw)


def look_at(raw: bytes) -> tuple[type[Event], ContentKey | None]:
    """Which kind of event `decode_event` would make of a line, and the content of a version; for
    most lines without making it."""
    try:
        line = _decode(raw)
    except (msgspec.DecodeError, ValueError):
        return UnknownEvent, None
    if isinstance(line, _VersionLine):
        it = line.metadata
        usual = (
            it.kind in _KINDS and not it.xattrs and it.target is None and line.path_bytes is None
        )
        texts = (line.file, line.repository, line.version, line.operation)
        try:
            if usual and all(len(bytes.fromhex(text)) == _ID_BYTES for text in texts):
                content = None if line.content is None else key_from_text(line.content)
                return VersionEvent, content
        except ValueError:
            return UnknownEvent, None
    event = decode_event(raw)
    return type(event), event.content if isinstance(event, VersionEvent) else None


def _event_of(line: Any) -> Event:
    match line:
        case _VersionLine():
            return VersionEvent(
                file_id=_id(line.file),
                repository_id=_id(line.repository),
                path=_bytes(line.path, line.path_bytes),
                number=line.number,
                version_id=_id(line.version),
                content=None if line.content is None else key_from_text(line.content),
                metadata=_metadata_of(line.metadata),
                policy_name=line.policy,
                policy_explicit=line.explicit,
                state=line.state,
                at_ns=line.at,
                operation_id=_id(line.operation),
            )
        case _StateLine():
            return StateEvent(
                file_id=_id(line.file),
                repository_id=_id(line.repository),
                path=_bytes(line.path, line.path_bytes),
                state=line.state,
                at_ns=line.at,
                operation_id=_id(line.operation),
                reason=line.reason,
            )
        case _DirectoryLine():
            return DirectoryEvent(
                repository_id=_id(line.repository),
                path=_bytes(line.path, line.path_bytes),
                metadata=_metadata_of(line.metadata),
                at_ns=line.at,
            )
        case _RepositoryLine():
            return RepositoryEvent(
                repository_id=_id(line.repository),
                path=_bytes(line.path, line.path_bytes),
                kind=line.kind,
                enforce=line.enforce,
                registry_id=_id(line.registry),
                at_ns=line.at,
            )
        case _PolicyLine():
            return PolicyEvent(policy=line.policy, removed=line.removed, at_ns=line.at)
        case _AssignmentLine():
            return AssignmentEvent(
                file_id=_id(line.file),
                repository_id=_id(line.repository),
                path=_bytes(line.path, line.path_bytes),
                policy_name=line.policy,
                explicit=line.explicit,
                at_ns=line.at,
            )
        case _HoldLine():
            return HoldEvent(
                hold_id=_id(line.hold),
                file_id=None if line.file is None else _id(line.file),
                query=line.query,
                reason=line.reason,
                owner=line.owner,
                created_ns=line.created,
                ends_ns=line.ends,
                released_ns=line.released,
            )
        case _PrunedLine():
            return PrunedEvent(_cut(line.versions, _ID_BYTES), line.at, line.reason)
        case _CondemnedLine():
            return CondemnedEvent(
                _cut(line.packs, _NAME_BYTES), _cut(line.objects, _NAME_BYTES), line.at
            )
        case _:
            return ConfirmationEvent(
                repository_id=_id(line.repository),
                guard=line.guard,
                evidence=line.evidence,
                at_ns=line.at,
            )


def _cut(text: str, size: int) -> tuple[bytes, ...]:
    data = bytes.fromhex(text)
    if len(data) % size or 2 * len(data) != len(text):
        raise ValueError("a name that is too short")
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def _metadata_line(metadata: Metadata) -> _MetadataLine:
    mtime = metadata.mtime_ns
    line = _MetadataLine(
        size=metadata.size,
        mtime=mtime,
        ctime=UNSET if metadata.ctime_ns == mtime else metadata.ctime_ns,
        atime=UNSET if metadata.atime_ns == mtime else metadata.atime_ns,
        btime=UNSET if metadata.btime_ns == mtime else metadata.btime_ns,
        inode=metadata.inode,
        nlink=metadata.nlink,
        kind=_KIND_NAMES[metadata.kind],
        mode=metadata.mode,
        uid=metadata.uid,
        gid=metadata.gid,
        user=metadata.user,
        group=metadata.group,
    )
    if metadata.target is not None:
        line.target, line.target_bytes = _text(metadata.target)
    if metadata.xattrs:
        line.xattrs = {
            quote_from_bytes(name): base64.b64encode(value).decode()
            for name, value in metadata.xattrs
        }
    if metadata.extents is not None:
        line.extents = list(metadata.extents)
    return line


def _metadata_of(line: _MetadataLine) -> Metadata:
    mtime = line.mtime
    return Metadata(
        kind=_KINDS[line.kind],
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
        target=None if line.target is None else _bytes(line.target, line.target_bytes),
    )


def _text(path: bytes) -> tuple[str, str | None]:
    """A path as text, and in base64 where the text is not its bytes."""
    try:
        return path.decode(), None
    except UnicodeDecodeError:
        return path.decode(errors="backslashreplace"), base64.b64encode(path).decode()


def _bytes(text: str, odd: str | None) -> bytes:
    return text.encode() if odd is None else base64.b64decode(odd, validate=True)


def _id(text: str) -> bytes:
    identifier = bytes.fromhex(text)
    if len(identifier) != _ID_BYTES:
        raise ValueError(f"no id: {text[:100]!r}")
    return identifier
