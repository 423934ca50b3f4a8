"""The sidecar of a batch in the trash: written before anything is moved, read to bring it back.

JSON lines: a header, the folders, the files (the nth lies under the name n), and a last line that
counts the lines, so that a torn sidecar is noticed. Whoever can write into a root can write a
sidecar: everything in it is checked, and no path in it leads out of the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from lifecycle_sync.clock import from_datetime, to_iso
from lifecycle_sync.errors import TrashError, TrashNewerError
from lifecycle_sync.model.content import key_from_text
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY
from lifecycle_sync.model.trash import (
    TRASH_FORMAT,
    TrashBatch,
    TrashEntry,
    TrashFolder,
    TrashReason,
)

SIDECAR_MAX_BYTES = 32 << 20
_ABOUT = (
    "Files that Lifecycle Sync took away; each lies beside this file under its `name`. To have one"
    " back: `lifecycle undelete`, or move it to its `path` by hand."
)
_ID_SIZE = 16
_OWN = b"\0/" + PRIVATE_DIRECTORY + b"/"
_KIND_NAMES = {int(kind): kind.name.lower() for kind in Kind}
_KINDS = {name: Kind(kind) for kind, name in _KIND_NAMES.items()}


class _Line(msgspec.Struct, tag_field="line", omit_defaults=True):
    """One line of a sidecar."""


class _Header(_Line, tag="batch"):
    trash: int
    batch_id: str
    repository_id: str
    registry_id: str
    reason: str
    at: str
    until: str
    about: str = ""


class _Folder(_Line, tag="folder"):
    path: str
    mode: int
    uid: int
    gid: int
    path_bytes: bytes | None = None


class _File(_Line, tag="file"):
    name: str
    path: str
    file_id: str
    operation_id: str
    kind: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    checksum: str | None = None
    path_bytes: bytes | None = None


class _End(_Line, tag="end"):
    lines: int


class _Format(msgspec.Struct):
    """What is understood of any format: its number."""

    trash: int


_encoder = msgspec.json.Encoder()
_format_decoder = msgspec.json.Decoder(_Format)
_decoder = msgspec.json.Decoder(_Header | _Folder | _File | _End)


def check_path(path: bytes) -> None:
    """Raises `ValueError` for what is not the path of something in a root that is not our own."""
    if not all_paths_good([path]):
        raise ValueError(f"not a path below the root, or one of our own: {path[:100]!r}")


def all_paths_good(paths: Sequence[bytes]) -> bool:
    """Whether `check_path` would take each of them; a batch at once, for it is looked at often."""
    # Each between slashes and NULs, so that a component is what stands between two slashes.
    text = b"\0/%b/\0" % b"/\0/".join(paths)
    return (
        text.count(b"\0") == len(paths) + 1
        and b"//" not in text
        and b"/./" not in text
        and b"/../" not in text
        and _OWN not in text
    )


def encode(batch: TrashBatch) -> bytes:
    """The text of a batch's sidecar."""
    lines: list[_Line] = [
        _Header(
            trash=TRASH_FORMAT,
            batch_id=batch.batch_id.hex(),
            repository_id=batch.repository_id.hex(),
            registry_id=batch.registry_id.hex(),
            reason=batch.reason.value,
            at=to_iso(batch.at_ns),
            until=to_iso(batch.until_ns),
            about=_ABOUT,
        )
    ]
    for path, folder in batch.folders.items():
        text, exact = _path_text(path)
        lines.append(_Folder(text, folder.mode, folder.uid, folder.gid, exact))
    for number, (file_id, operation_id, path, print_, algorithm, checksum) in enumerate(
        batch.entries
    ):
        text, exact = _path_text(path)
        lines.append(
            _File(
                str(number),
                text,
                file_id.hex(),
                operation_id.hex(),
                _KIND_NAMES[print_.kind],
                print_.size,
                print_.mtime_ns,
                print_.ctime_ns,
                print_.inode,
                None if checksum is None else f"{algorithm}:{checksum.hex()}",
                exact,
            )
        )
    lines.append(_End(len(lines) + 1))
    return _encoder.encode_lines(lines)


def decode(data: bytes, subject: str) -> TrashBatch:
    """The batch that a sidecar tells of. `subject` names it in errors.

    Raises `TrashNewerError` for one of a newer program, `TrashError` for one that is damaged or
    leads where nothing of the trash belongs.
    """
    try:
        number = _format_decoder.decode(data[: data.find(b"\n") + 1]).trash
        if number > TRASH_FORMAT:
            raise TrashNewerError(
                f"has format {number}; this program knows up to {TRASH_FORMAT}",
                operation="read trash",
                subject=subject,
                remedy="upgrade lifecycle-sync",
            )
        return _batch(_decoder.decode_lines(data))
    except (ValueError, KeyError, OverflowError, RecursionError) as error:
        # msgspec's errors are ValueErrors.
        raise TrashError(
            f"its sidecar is damaged ({error})",
            operation="read trash",
            subject=subject,
            remedy="its files stay where they are; look at them, and move or delete them by hand",
        ) from error


def _batch(lines: Sequence[_Line]) -> TrashBatch:
    header, end = lines[0], lines[-1]
    if not isinstance(header, _Header) or not isinstance(end, _End) or end.lines != len(lines):
        raise ValueError("it is torn")
    folders: dict[bytes, TrashFolder] = {}
    entries: list[TrashEntry] = []
    for line in lines[1:-1]:
        if isinstance(line, _File):
            if line.name != str(len(entries)):
                raise ValueError(f"a file is named {line.name[:100]!r}")
            entries.append(_entry(line))
        elif isinstance(line, _Folder):
            folders[_path(line)] = TrashFolder(line.mode & 0o7777, line.uid, line.gid)
        else:
            raise ValueError("its lines are in disorder")
    paths = [entry.path for entry in entries]
    if len({*paths}) != len(paths):
        raise ValueError("a file is in it twice")
    for path in () if all_paths_good([*paths, *folders]) else (*paths, *folders):
        check_path(path)
    return TrashBatch(
        batch_id=_identifier(header.batch_id),
        repository_id=_identifier(header.repository_id),
        registry_id=_identifier(header.registry_id),
        reason=TrashReason(header.reason),
        at_ns=_moment(header.at),
        until_ns=_moment(header.until),
        entries=tuple(entries),
        folders=folders,
    )


def _entry(line: _File) -> TrashEntry:
    algorithm, checksum = "", None
    if line.checksum is not None:
        algorithm, checksum = key_from_text(line.checksum)
    return TrashEntry(
        _identifier(line.file_id),
        _identifier(line.operation_id),
        _path(line),
        Fingerprint(_KINDS[line.kind].value, line.size, line.mtime_ns, line.ctime_ns, line.inode),
        algorithm,
        checksum,
    )


def _path_text(path: bytes) -> tuple[str, bytes | None]:
    """As text, and the bytes where they differ."""
    try:
        return path.decode(), None
    except UnicodeDecodeError:
        return path.decode("utf-8", "backslashreplace"), path


def _path(line: _Folder | _File) -> bytes:
    return line.path.encode() if line.path_bytes is None else line.path_bytes


def _identifier(text: str) -> bytes:
    identifier = bytes.fromhex(text)
    if len(identifier) != _ID_SIZE:
        raise ValueError(f"not an id: {text[:100]!r}")
    return identifier


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text[:100]!r}")
    return from_datetime(moment)


def folders_of(paths: Iterable[bytes]) -> list[bytes]:
    """The folders that the paths lie in, and those that these lie in, each before what it holds."""
    found: set[bytes] = set()
    for path in paths:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition(b"/")[0]
    return sorted(found)
