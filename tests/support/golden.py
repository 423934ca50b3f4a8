"""What the golden vault of format 1 holds, in words. Never changed: the vault on disk is not."""

from __future__ import annotations

from lifecycle_sync.model.event import (
    AssignmentEvent,
    ConfirmationEvent,
    DirectoryEvent,
    Event,
    HoldEvent,
    PolicyEvent,
    RepositoryEvent,
    StateEvent,
    UnknownEvent,
    VersionEvent,
)
from lifecycle_sync.model.file import FileType, Kind, LifecycleState
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.repository import RepositoryKind
from lifecycle_sync.vault.frames import key_of as hashed
from tests.support.vaults import REPOSITORY, START_NS, key_of, metadata

TEXT, ODD, EMPTY = b"A text that compresses, a text that compresses.\n" * 40, bytes(range(256)), b""
CONTENTS = {
    key_of(TEXT): TEXT,
    key_of(EMPTY): EMPTY,
    hashed("blake3", ODD): ODD,
}
# Compresses to little, and is cut into two parts.
LARGE = b"0123456789abcdef" * (1 << 16) + b"the end"
LARGE_PATH = b"large.bin"


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def events_of() -> list[Event]:
    """The events, in order."""
    first = RepositoryEvent(REPOSITORY, b"/srv/files", RepositoryKind.ROOT, True, _id(9), START_NS)

    def version(number: int, path: bytes, data: bytes | None, **more: object) -> VersionEvent:
        key = None if data is None else hashed("blake3", data) if data is ODD else key_of(data)
        return VersionEvent(
            file_id=_id(100 + number),
            repository_id=REPOSITORY,
            path=path,
            number=1,
            version_id=_id(200 + number),
            content=key,
            metadata=metadata(size=0 if data is None else len(data), **more),
            policy_name="documents",
            policy_explicit=number == 1,
            state=LifecycleState.BACKUP_COMPLETE,
            at_ns=START_NS + number,
            operation_id=_id(300 + number),
        )

    return [
        first,
        version(1, b"text.txt", TEXT, user="anna", group="staff", btime_ns=None),
        version(2, b"caf\xe9/odd \xff\n", ODD, xattrs=((b"user.\xe9", b"\0value"),), nlink=2),
        version(3, b"empty", EMPTY, mtime_ns=-1, atime_ns=2**63 - 1, btime_ns=5),
        version(4, LARGE_PATH, LARGE, extents=((0, 4096), (8192, 1))),
        version(5, b"link", None, kind=Kind.SYMLINK, target=b"../\xfftarget"),
        DirectoryEvent(
            REPOSITORY, b"caf\xe9", metadata(kind=Kind.DIRECTORY, mode=0o2750), START_NS
        ),
        StateEvent(
            _id(101), REPOSITORY, b"text.txt", LifecycleState.DELETED, START_NS, _id(400), "rule"
        ),
        PolicyEvent(LifecyclePolicy("mine", [FileType.IMAGE], 10, 5, 20), False, START_NS),
        AssignmentEvent(_id(102), REPOSITORY, b"caf\xe9/odd \xff\n", "mine", True, START_NS),
        HoldEvent(_id(500), _id(101), None, "court", "anna", START_NS, START_NS + 5, None),
        HoldEvent(_id(501), None, "*.tiff", "audit", "ben", START_NS, None, START_NS + 9),
        ConfirmationEvent(REPOSITORY, "mass", "20 of 30 files", START_NS),
        UnknownEvent(b'{"event":"of a later program","field":[1,2]}'),
    ]
