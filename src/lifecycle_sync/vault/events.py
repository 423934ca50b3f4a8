"""Events as the JSON lines of a manifest, and back.

A line that this program does not understand becomes an `UnknownEvent` with its bytes, never an
error: a newer writer may say more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from lifecycle_sync.model.content import ContentKey, key_from_text
from lifecycle_sync.model.event import (
    AssignmentEvent,
    CondemnedEvent,
    ConfirmationEvent,
    DirectoryEvent,
    Event,
    GivenUpEvent,
    HoldEvent,
    PolicyEvent,
    PrunedEvent,
    RepositoryEvent,
    StateEvent,
    UnknownEvent,
    VersionEvent,
)
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.vault.event_lines import (
    ID_BYTES,
    KINDS,
    NAME_BYTES,
    AnyShape,
    AssignmentShape,
    CondemnedShape,
    ConfirmationShape,
    DirectoryShape,
    GivenUpShape,
    HoldShape,
    MetadataShape,
    PolicyShape,
    PrunedShape,
    RepositoryShape,
    Shape,
    StateShape,
    VersionShape,
    bytes_of,
    cut,
    id_of,
    metadata_of,
    metadata_shape,
    text_of,
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyShape).decode


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
        path, odd = text_of(event.path)
        content = event.content
        return _encode(
            VersionShape(
                file=event.file_id.hex(),
                path=path,
                path_bytes=odd,
                content=None if content is None else f"{content[0]}:{content[1].hex()}",
                version=event.version_id.hex(),
                operation=event.operation_id.hex(),
                metadata=metadata_shape(event.metadata),
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
    text, odd = text_of(path)
    mtime = it.mtime_ns
    return _encode(
        VersionShape(
            file=file_id.hex(),
            path=text,
            path_bytes=odd,
            content=f"{content[0]}:{content[1].hex()}",
            version=version_id.hex(),
            operation=operation_id.hex(),
            metadata=MetadataShape(
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
    line: Shape
    match event:
        case UnknownEvent(raw):
            return raw
        case StateEvent():
            path, odd = text_of(event.path)
            line = StateShape(
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
            path, odd = text_of(event.path)
            line = DirectoryShape(
                path=path,
                path_bytes=odd,
                metadata=metadata_shape(event.metadata),
                repository=event.repository_id.hex(),
                at=event.at_ns,
            )
        case RepositoryEvent():
            path, odd = text_of(event.path)
            line = RepositoryShape(
                repository=event.repository_id.hex(),
                path=path,
                path_bytes=odd,
                kind=event.kind,
                enforce=event.enforce,
                registry=event.registry_id.hex(),
                at=event.at_ns,
            )
        case PolicyEvent():
            line = PolicyShape(policy=event.policy, removed=event.removed, at=event.at_ns)
        case AssignmentEvent():
            path, odd = text_of(event.path)
            line = AssignmentShape(
                file=event.file_id.hex(),
                path=path,
                path_bytes=odd,
                policy=event.policy_name,
                explicit=event.explicit,
                repository=event.repository_id.hex(),
                at=event.at_ns,
            )
        case HoldEvent():
            line = HoldShape(
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
            line = ConfirmationShape(
                repository=event.repository_id.hex(),
                guard=event.guard,
                evidence=event.evidence,
                at=event.at_ns,
            )
        case PrunedEvent():
            line = PrunedShape(
                versions=b"".join(event.version_ids).hex(), reason=event.reason, at=event.at_ns
            )
        case CondemnedEvent():
            line = CondemnedShape(
                packs=b"".join(event.packs).hex(),
                objects=b"".join(event.objects).hex(),
                at=event.at_ns,
            )
        case GivenUpEvent():
            line = GivenUpShape(
                manifests=list(event.manifests), reason=event.reason, at=event.at_ns
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
    if isinstance(line, VersionShape):
        it = line.metadata
        usual = it.kind in KINDS and not it.xattrs and it.target is None and line.path_bytes is None
        texts = (line.file, line.repository, line.version, line.operation)
        try:
            if usual and all(len(bytes.fromhex(text)) == ID_BYTES for text in texts):
                content = None if line.content is None else key_from_text(line.content)
                return VersionEvent, content
        except ValueError:
            return UnknownEvent, None
    event = decode_event(raw)
    return type(event), event.content if isinstance(event, VersionEvent) else None


def _event_of(line: Any) -> Event:
    match line:
        case VersionShape():
            return VersionEvent(
                file_id=id_of(line.file),
                repository_id=id_of(line.repository),
                path=bytes_of(line.path, line.path_bytes),
                number=line.number,
                version_id=id_of(line.version),
                content=None if line.content is None else key_from_text(line.content),
                metadata=metadata_of(line.metadata),
                policy_name=line.policy,
                policy_explicit=line.explicit,
                state=line.state,
                at_ns=line.at,
                operation_id=id_of(line.operation),
            )
        case StateShape():
            return StateEvent(
                file_id=id_of(line.file),
                repository_id=id_of(line.repository),
                path=bytes_of(line.path, line.path_bytes),
                state=line.state,
                at_ns=line.at,
                operation_id=id_of(line.operation),
                reason=line.reason,
            )
        case DirectoryShape():
            return DirectoryEvent(
                repository_id=id_of(line.repository),
                path=bytes_of(line.path, line.path_bytes),
                metadata=metadata_of(line.metadata),
                at_ns=line.at,
            )
        case RepositoryShape():
            return RepositoryEvent(
                repository_id=id_of(line.repository),
                path=bytes_of(line.path, line.path_bytes),
                kind=line.kind,
                enforce=line.enforce,
                registry_id=id_of(line.registry),
                at_ns=line.at,
            )
        case PolicyShape():
            return PolicyEvent(policy=line.policy, removed=line.removed, at_ns=line.at)
        case AssignmentShape():
            return AssignmentEvent(
                file_id=id_of(line.file),
                repository_id=id_of(line.repository),
                path=bytes_of(line.path, line.path_bytes),
                policy_name=line.policy,
                explicit=line.explicit,
                at_ns=line.at,
            )
        case HoldShape():
            return HoldEvent(
                hold_id=id_of(line.hold),
                file_id=None if line.file is None else id_of(line.file),
                query=line.query,
                reason=line.reason,
                owner=line.owner,
                created_ns=line.created,
                ends_ns=line.ends,
                released_ns=line.released,
            )
        case PrunedShape():
            return PrunedEvent(cut(line.versions, ID_BYTES), line.at, line.reason)
        case GivenUpShape():
            return GivenUpEvent(tuple(line.manifests), line.at, line.reason)
        case CondemnedShape():
            return CondemnedEvent(
                cut(line.packs, NAME_BYTES), cut(line.objects, NAME_BYTES), line.at
            )
        case _:
            return ConfirmationEvent(
                repository_id=id_of(line.repository),
                guard=line.guard,
                evidence=line.evidence,
                at_ns=line.at,
            )
