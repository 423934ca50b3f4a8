"""A root with a trash, and short words for what tests do with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lifecycle_sync.act.batches import DamagedBatch
from lifecycle_sync.act.taking import Taking
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.trash import TrashBatch, TrashEntry, TrashOutcome, TrashReason

START_NS = 1_767_323_045_000_000_000
GRACE_NS = 86_400 * 10**9
REPOSITORY_ID, REGISTRY_ID = b"r" * 16, b"g" * 16


def entry_of(path: Path, name: bytes, content: bytes | None = None) -> TrashEntry:
    """What the registry would know of a file; with its hash where the content is given."""
    found = path.lstat()
    return TrashEntry(
        file_id=hashlib.md5(name).digest(),
        operation_id=os.urandom(16),
        path=name,
        fingerprint=Fingerprint(
            Kind(found.st_mode >> 12).value,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_ino,
        ),
        algorithm="" if content is None else "sha256",
        checksum=None if content is None else hashlib.sha256(content).digest(),
    )


class Yard:
    """A root below `base` (`root`), and a folder beside it that nothing may touch (`outside`)."""

    def __init__(self, base: Path, root: Path | None = None) -> None:
        self.root = root or base / "root"
        self.outside = base / "outside"
        self.root.mkdir(exist_ok=True)
        self.outside.mkdir()
        self.clock = FixedClock(START_NS)
        self._open: list[Trash] = []

    def trash(self, fs: FileOps | None = None) -> Trash:
        made = Trash(
            fs or FileOps(),
            self.clock,
            os.fsencode(self.root),
            repository_id=REPOSITORY_ID,
            registry_id=REGISTRY_ID,
        )
        self._open.append(made)
        return made

    def close(self) -> None:
        for trash in self._open:
            trash.close()
        self._open.clear()

    def path(self, name: str | bytes) -> Path:
        return self.root / os.fsdecode(name)

    def put(self, name: str | bytes, content: bytes = b"bytes") -> TrashEntry:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return self.entry(name, content)

    def entry(self, name: str | bytes, content: bytes | None = None) -> TrashEntry:
        return entry_of(self.path(name), os.fsencode(name), content)

    def begin(
        self,
        entries: Sequence[TrashEntry],
        fs: FileOps | None = None,
        reason: TrashReason = TrashReason.DELETE,
    ) -> Taking:
        return self.trash(fs).begin(entries, grace_ns=GRACE_NS, reason=reason)

    def take(self, *entries: TrashEntry, fs: FileOps | None = None) -> list[TrashOutcome]:
        """One batch of them; what came of each."""
        with self.begin(entries, fs) as taking:
            outcomes = [taking.take(entry) for entry in entries]
            taking.sync()
            return outcomes

    def batches(self) -> list[TrashBatch]:
        found = list(self.trash().batches())
        assert not [it for it in found if isinstance(it, DamagedBatch)]
        return [it for it in found if isinstance(it, TrashBatch)]

    def damaged(self) -> list[DamagedBatch]:
        return [it for it in self.trash().batches() if isinstance(it, DamagedBatch)]

    def in_trash(self) -> dict[bytes, bytes]:
        """Path by the sidecars to the content that lies there."""
        trash = self.trash()
        found = {}
        for batch in self.batches():
            for entry in trash.left(batch):
                place = self.batch_path(batch) / str(batch.entries.index(entry))
                found[entry.path] = place.read_bytes() if place.is_file() else b""
        return found

    def batch_path(self, batch: TrashBatch) -> Path:
        return self.root / ".lifecycle/trash" / _text(batch.batch_id)

    def item(self, batch: TrashBatch, number: int = 0) -> Path:
        return self.batch_path(batch) / str(number)

    def only(self) -> tuple[TrashBatch, TrashEntry]:
        (batch,) = self.batches()
        (entry,) = batch.entries
        return batch, entry

    def files(self) -> dict[str, bytes]:
        """The files of the root by path, without our own."""
        return dict(_files(self.root, skip=".lifecycle"))

    def outside_files(self) -> dict[str, bytes]:
        return dict(_files(self.outside))


def _files(top: Path, skip: str = "") -> Iterator[tuple[str, bytes]]:
    for folder, folders, names in os.walk(top):
        if skip in folders:
            folders.remove(skip)
        for name in names:
            path = Path(folder, name)
            yield str(path.relative_to(top)), b"" if path.is_symlink() else path.read_bytes()


def _text(batch_id: bytes) -> str:
    digits = batch_id.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
