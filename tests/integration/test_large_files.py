"""Large files: hashed beside the others, no faster than wished, and from where it was stopped."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.errors import CancelledError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.record import HashResult
from lifecycle_sync.observe import hasher, resumable
from lifecycle_sync.observe.checkpoints import Checkpoints, Seen
from lifecycle_sync.observe.hasher import Hasher, hash_in_root
from lifecycle_sync.observe.throttle import Throttle
from tests.support import oracle
from tests.support.watched import Watched, until

needs_states = pytest.mark.skipif(
    resumable.sha256() is None, reason="this Python has its SHA-256 all to itself"
)
SIZE = 40 << 20


# -- states ------------------------------------------------------------------------------------


@needs_states
@pytest.mark.parametrize("cut", [0, 64, 128, 4096, 1 << 20])
def test_a_sha256_is_put_down_and_taken_up_at_any_whole_block(cut):
    content = os.urandom((1 << 20) + 77)
    first = resumable.sha256()
    assert first is not None
    first.update(memoryview(bytearray(content[:cut])))
    second = resumable.sha256(first.state())
    assert second is not None
    second.update(content[cut:])
    assert second.digest() == hashlib.sha256(content).digest()


@needs_states
def test_a_state_in_the_middle_of_a_block_is_refused():
    hashed = resumable.sha256()
    assert hashed is not None
    hashed.update(b"half a block")
    with pytest.raises(ValueError, match="middle"):
        hashed.state()


def test_a_library_whose_structure_is_another_is_not_relied_on(monkeypatch):
    """A fake one, with everything else in its place."""

    class Other:
        def __getattr__(self, name: str) -> object:
            return lambda *_: 1

    assert not resumable._holds(Other())


# -- checkpoints -------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(FileOps(), os.fspath(tmp_path / "hashing"))


FILE = Seen(1, 2, 3_000, 4, 5)
STATE = b"s" * resumable.STATE_BYTES


def test_a_checkpoint_counts_for_the_very_same_file_only(checkpoints):
    assert checkpoints.load(FILE) is None
    checkpoints.save(FILE, 1_280, STATE)
    assert checkpoints.load(FILE) == (1_280, STATE)
    for other in (
        FILE._replace(size=3_001),
        FILE._replace(mtime_ns=0),
        FILE._replace(ctime_ns=0),
        FILE._replace(inode=3),
        FILE._replace(device=2),
    ):
        assert checkpoints.load(other) is None
    checkpoints.drop(FILE)
    assert checkpoints.load(FILE) is None


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff" * 200])
def test_a_damaged_checkpoint_is_none(checkpoints, tmp_path, damage):
    checkpoints.save(FILE, 1_280, STATE)
    (path,) = (tmp_path / "hashing").iterdir()
    path.write_bytes(damage)
    assert checkpoints.load(FILE) is None


def test_a_checkpoint_that_cannot_be_written_costs_nothing_else(tmp_path):
    (tmp_path / "hashing").write_text("a file where a folder is meant")
    checkpoints = Checkpoints(FileOps(), os.fspath(tmp_path / "hashing"))
    checkpoints.save(FILE, 1_280, STATE)
    checkpoints.drop(FILE)
    checkpoints.sweep(time.time_ns())
    assert checkpoints.load(FILE) is None


def test_what_nobody_went_on_with_for_a_month_is_forgotten(checkpoints):
    checkpoints.save(FILE, 1_280, STATE)
    checkpoints.sweep(time.time_ns() + 29 * 86_400 * 10**9)
    assert checkpoints.load(FILE) is not None
    checkpoints.sweep(time.time_ns() + 31 * 86_400 * 10**9)
    assert checkpoints.load(FILE) is None


# -- hashing -----------------------------------------------------------------------------------


class Reader:
    """Hashes one large file, and is stopped after so many bytes."""

    def __init__(self, folder: Path, checkpoints: Checkpoints) -> None:
        self.folder = folder
        self.checkpoints = checkpoints
        self.read = 0

    def hash(self, stop_after: int = 1 << 60, **options: object) -> HashResult:
        self.read = 0
        cancel = CancelToken()
        fs = _Counting(self, cancel, stop_after)
        one = Hasher(
            fs,
            algorithm="sha256",
            margin_ns=0,
            clock=SystemClock(),
            cancel=cancel,
            checkpoints=self.checkpoints,
            **options,  # type: ignore[arg-type]
        )
        (outcome,) = hash_in_root(fs, one, os.fsencode(self.folder), [(b"", [b"large"])])
        return HashResult(0, *outcome)


class _Counting(FileOps):
    def __init__(self, reader: Reader, cancel: CancelToken, stop_after: int) -> None:
        self._reader = reader
        self._cancel = cancel
        self._stop_after = stop_after

    def preadv(self, fd: int, *where: Any) -> int:
        count = super().preadv(fd, *where)
        self._reader.read += count
        if self._reader.read >= self._stop_after:
            self._cancel.cancel()
        return count


@pytest.fixture
def reader(tmp_path, checkpoints, monkeypatch) -> Reader:
    monkeypatch.setattr(hasher, "RESUME_BYTES", 1 << 20)
    monkeypatch.setattr(hasher, "CHECKPOINT_SECONDS", 0.0)
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    # Old enough that its times tell.
    time.sleep(0.02)
    return Reader(folder, checkpoints)


def digest_of(reader: Reader) -> bytes:
    return hashlib.sha256((reader.folder / "large").read_bytes()).digest()


@needs_states
def test_the_hash_of_a_large_file_goes_on_where_it_was_stopped(reader, tmp_path):
    with pytest.raises(CancelledError):
        reader.hash(stop_after=SIZE // 2)
    result = reader.hash()
    assert result.digest == digest_of(reader)
    assert reader.read <= SIZE // 2 + (2 << 20)
    # And nothing is left of it.
    assert list((tmp_path / "hashing").iterdir()) == []
    result = reader.hash()
    assert reader.read == SIZE


@needs_states
@pytest.mark.parametrize("change", ["content", "same size", "replaced"])
def test_a_file_that_changed_since_is_read_from_its_beginning(reader, change):
    with pytest.raises(CancelledError):
        reader.hash(stop_after=SIZE // 2)
    path = reader.folder / "large"
    if change == "content":
        with open(path, "ab") as file:
            file.write(b"more")
    elif change == "same size":
        before = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"other")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        other = reader.folder / "other"
        other.write_bytes(os.urandom(SIZE))
        os.replace(other, path)
    time.sleep(0.02)
    result = reader.hash()
    assert result.digest == digest_of(reader)
    assert reader.read == path.stat().st_size


def test_where_no_state_is_to_be_had_it_is_read_from_its_beginning(reader, monkeypatch):
    monkeypatch.setattr(resumable, "_library", lambda: None)
    with pytest.raises(CancelledError):
        reader.hash(stop_after=SIZE // 2)
    assert reader.hash().digest == digest_of(reader)
    assert reader.read == SIZE


def test_nothing_is_put_down_of_a_file_that_is_still_being_written(reader, tmp_path):
    os.utime(reader.folder / "large", ns=(2**62, 2**62))
    with pytest.raises(CancelledError):
        reader.hash(stop_after=SIZE // 2)
    assert not (tmp_path / "hashing").exists()


# -- a throttle --------------------------------------------------------------------------------


def test_a_throttle_keeps_to_its_rate_and_saves_nothing_up():
    throttle = Throttle(1_000_000, CancelToken())
    time.sleep(0.1)
    begun = time.monotonic()
    for _ in range(10):
        throttle.took(20_000)
    assert time.monotonic() - begun >= 0.19


def test_a_throttle_that_waits_is_stopped_at_once():
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        Throttle(1, cancel).took(1_000_000)


def test_hashing_keeps_to_its_rate(reader):
    begun = time.monotonic()
    reader.hash(bytes_per_second=SIZE * 4)
    assert time.monotonic() - begun >= 0.24


# -- beside the others -------------------------------------------------------------------------


def test_a_sparse_file_of_100_gb_keeps_nobody_waiting_and_is_stopped_at_once(tmp_path):
    watched = Watched(tmp_path)
    watched.write("before", "before")
    with watched.following():
        with open(watched.path("sparse"), "wb") as file:
            file.truncate(100 << 30)
        past = time.time_ns() - 10**10
        os.utime(watched.path("sparse"), ns=(past, past))
        until(lambda: b"sparse" in oracle.records(watched.engine))
        # While it is read, others come and are hashed.
        watched.write("after", "after")
        until(lambda: hashed(watched, b"after"))
        assert not hashed(watched, b"sparse")
        begun = time.monotonic()
    # Leaving it ends all of it, within a second or so.
    assert time.monotonic() - begun < 10
    watched.engine.close()


def hashed(watched: Watched, path: bytes) -> bool:
    record = oracle.records(watched.engine).get(path)
    return record is not None and record.checksum is not None
