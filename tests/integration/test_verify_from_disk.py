"""What is verified is read from the disk, not from what the kernel remembers of it."""

from __future__ import annotations

import os
import random

import pytest

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.storage.local import LocalStorage
from tests.support.vaults import EncryptedHouse, VaultHouse

PAGE = 4096


class Watched(FileOps):
    """Notes which files were read without having been dropped from memory before."""

    def __init__(self) -> None:
        self.dropped: set[int] = set()
        self.warm: list[str] = []
        self.seen: set[str] = set()
        self.watching = False

    def drop_cache(self, fd: int) -> None:  # type: ignore[override]
        self.dropped.add(os.fstat(fd).st_ino)
        super().drop_cache(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if self.watching:
            name = os.readlink(f"/proc/self/fd/{fd}")
            self.seen.add(name)
            if os.fstat(fd).st_ino not in self.dropped:
                self.warm.append(name)
        return os.pread(fd, size, offset)


@pytest.mark.parametrize("make", [VaultHouse, EncryptedHouse])
@pytest.mark.parametrize("how", [{"contents": True}, {"share": 1.0}])
def test_every_file_that_is_verified_was_dropped_from_memory_first(tmp_path, make, how):
    house = make(tmp_path)
    house.fs = fs = Watched()
    with house.open() as vault:
        house.store(vault, {b"a": b"small", b"b": random.Random(1).randbytes((1 << 20) + 9)})
        fs.watching = True
        assert vault.verify(**how).ok
        fs.watching = False
    inside = {str(it) for it in house.files()}
    assert inside <= fs.seen
    assert [it for it in fs.warm if it in inside] == []


def test_what_was_dropped_is_not_in_memory(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(64 * PAGE))
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        if not _forgets(file.fileno()):
            pytest.skip("the filesystem here does not forget on demand, or cannot be asked")
        assert _is_in_memory(file.fileno())
        with LocalStorage(str(tmp_path), FileOps()) as storage:
            storage.drop_cache("file")
            assert not _is_in_memory(file.fileno())
            storage.drop_cache("missing")


def _forgets(fd: int) -> bool:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        if _is_in_memory(fd):
            return False
    except OSError:
        return False
    os.pread(fd, PAGE, 0)
    return True


def _is_in_memory(fd: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(PAGE)], 0, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
