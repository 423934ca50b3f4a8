"""A vault in a folder, and the shortest words for what tests put into it."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import ContentKey, Metadata
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.vault import age
from lifecycle_sync.vault.format import SMALL_SIZE_MAX, VaultKind
from lifecycle_sync.vault.vault import Vault

START_NS = 1_767_323_045_000_000_000
REPOSITORY = bytes.fromhex("00112233445566778899aabbccddeeff")
STORE = bytes.fromhex("0f" * 16)


class VaultHouse:
    """Where a vault lies, and how it is opened. Ids are counted, so the same steps make the same
    bytes."""

    def __init__(self, folder: Path, *, fs: FileOps | None = None) -> None:
        self.folder = folder
        self.path = folder / "vault"
        self.index_path = folder / "index.db"
        self.clock = FixedClock(START_NS)
        self.fs = fs or FileOps()
        self._number = 0

    def open(self, **options: object) -> Vault:
        given = {
            "index_path": os.fspath(self.index_path),
            "fs": self.fs,
            "clock": self.clock,
            "create": True,
            "writer": "test",
            "store_id": STORE,
        } | options
        kind = given.pop("kind", VaultKind.BACKUP)
        return Vault.open(self.path, kind, **given)  # type: ignore[arg-type]

    def lose_index(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.index_path}{suffix}").unlink(missing_ok=True)

    def id(self) -> bytes:
        self._number += 1
        return self._number.to_bytes(16, "big")

    def version(
        self, path: bytes, key: ContentKey | None, *, size: int = 0, number: int = 1, file_id=None
    ) -> VersionEvent:
        return VersionEvent(
            file_id=file_id or self.id(),
            repository_id=REPOSITORY,
            path=path,
            number=number,
            version_id=self.id(),
            content=key,
            metadata=metadata(size=size),
            policy_name="default",
            policy_explicit=False,
            state=LifecycleState.BACKUP_COMPLETE,
            at_ns=self.clock.now_ns(),
            operation_id=self.id(),
        )

    def store(self, vault: Vault, contents: dict[bytes, bytes]) -> tuple[str, list[VersionEvent]]:
        """Commit a version of each path with these bytes."""
        with vault.writer() as writer:
            events = []
            for path, data in contents.items():
                key = key_of(data)
                if len(data) <= SMALL_SIZE_MAX:
                    writer.add(key, data)
                else:
                    upload = writer.open_object("sha256")
                    upload.write(data)
                    assert upload.finish() == key
                events.append(self.version(path, key, size=len(data)))
            return writer.commit(events), events

    def files(self, folder: str = "") -> list[Path]:
        """All files of the vault, or of one of its folders, in order."""
        return sorted(it for it in (self.path / folder).rglob("*") if it.is_file())


class EncryptedHouse(VaultHouse):
    """A vault with one key, in a file of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.public, text = age.generate()
        self.key_path = folder / "key"
        folder.mkdir(exist_ok=True)
        self.key_path.write_text(text)
        self.key_path.chmod(0o600)

    def open(self, *, key: bool = False, **options: object) -> Vault:  # type: ignore[override]
        given: dict[str, object] = {"recipients": [self.public]} | options
        if key:
            given["identity_path"] = os.fspath(self.key_path)
        return super().open(**given)

    def lose_machine(self) -> None:
        """All that this machine knows of the vault."""
        self.lose_index()
        shutil.rmtree(f"{self.index_path}.manifests", ignore_errors=True)


def noise(seed: int, size: int = 40_000) -> bytes:
    """Bytes that nothing makes smaller."""
    return random.Random(seed).randbytes(size)


def metadata(**changes: object) -> Metadata:
    given: dict[str, object] = {"kind": Kind.REGULAR, "size": 0, "mode": 0o644, "uid": 1, "gid": 1}
    given |= {"mtime_ns": START_NS, "atime_ns": START_NS, "ctime_ns": START_NS + 1, "inode": 7}
    return Metadata(**(given | changes))  # type: ignore[arg-type]


def key_of(data: bytes) -> ContentKey:
    return ContentKey("sha256", hashlib.sha256(data).digest())


def read(vault: Vault, key: ContentKey) -> bytes:
    return b"".join(vault.read(key))


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def contents_of(events: Iterable[VersionEvent]) -> list[ContentKey]:
    return [event.content for event in events if event.content is not None]
