from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from lifecycle_sync import mounts
from lifecycle_sync.act.erase import Erased, erase, limits_of
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail
from tests.support.trashing import entry_of

SECRET = b"secret " * 1000


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open():
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(before)


@pytest.fixture
def path(tmp_path) -> Path:
    made: Path = tmp_path / "name"
    made.write_bytes(SECRET)
    return made


def run(path: Path, root_fd: int, fs: FileOps | None = None) -> Erased:
    expected = entry_of(path, b"name").fingerprint
    return erase(fs or FileOps(), root_fd, os.fsencode(path.name), expected, limits=("limit",))


def when(path: Path, root_fd: int, fault: Fault) -> Erased:
    faulty = FaultyFileOps(FileOps(), fault)
    outcome = run(path, root_fd, faulty)
    assert faulty.fired
    return outcome


def test_the_bytes_are_overwritten_durably_before_the_name_goes(path, root_fd):
    reader = os.open(path, os.O_RDONLY)
    seen: list[bytes] = []
    look = Fault(lambda: seen.append(os.pread(reader, 10_000, 0)), method="truncate")
    fs = RecordingFileOps(FaultyFileOps(FileOps(), look))
    assert run(path, root_fd, fs) == Erased(True, begun=True, limits=("limit",))
    assert os.pread(reader, 10_000, 0) == b""
    os.close(reader)
    assert not path.exists()
    assert len(seen[0]) == len(SECRET) and b"secret" not in seen[0]
    changes = [it for it in fs.methods if it in {"write_at", "fsync", "truncate", "unlink"}]
    assert changes == ["write_at", "fsync", "truncate", "fsync", "unlink", "fsync"]


def test_a_large_file_is_overwritten_to_its_last_byte(tmp_path, root_fd):
    path = tmp_path / "name"
    path.write_bytes(b"\0" * (2 * (1 << 20) + 5))
    reader = os.open(path, os.O_RDONLY)
    seen: list[bytes] = []
    look = Fault(lambda: seen.append(os.pread(reader, 1 << 23, 0)), method="truncate")
    assert when(path, root_fd, look).ok
    os.close(reader)
    assert len(seen[0]) == 2 * (1 << 20) + 5
    assert all(any(seen[0][at : at + 64]) for at in range(0, len(seen[0]) - 64, 4096))
    assert any(seen[0][-64:-5]) and any(seen[0][-5:])


def test_holes_stay_holes(tmp_path, root_fd):
    path = tmp_path / "name"
    with path.open("wb") as file:
        file.truncate(1 << 34)
        file.seek(1 << 33)
        file.write(b"secret")
    fs = RecordingFileOps(FileOps())
    assert run(path, root_fd, fs).ok
    assert fs.methods.count("write_at") < 10


def test_a_file_with_several_names_is_refused_untouched(tmp_path, path, root_fd):
    os.link(path, tmp_path / "other")
    outcome = run(path, root_fd)
    assert (outcome.ok, outcome.begun) == (False, False)
    assert "2 names" in outcome.reason
    assert (tmp_path / "other").read_bytes() == path.read_bytes() == SECRET


def test_what_is_no_regular_file_is_refused_untouched(tmp_path, path, root_fd):
    (tmp_path / "link").symlink_to("name")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        outcome = run(tmp_path / name, root_fd)
        assert (outcome.ok, outcome.begun) == (False, False)
    assert path.read_bytes() == SECRET


@pytest.mark.parametrize("method", ["open_read_stat", "open_write"])
def test_what_changed_or_took_its_place_is_refused_untouched(tmp_path, path, root_fd, method):
    def replace() -> None:
        (tmp_path / "new").write_bytes(b"another's")
        os.replace(tmp_path / "new", path)

    outcome = when(path, root_fd, Fault(replace, method=method))
    assert (outcome.ok, outcome.begun) == (False, False)
    assert "it changed" in outcome.reason
    assert path.read_bytes() == b"another's"


def test_a_file_that_is_open_for_writing_is_refused_untouched(path, root_fd):
    with path.open("ab") as writer:
        fd = os.open(path, os.O_RDONLY)
        known = FileOps().has_writers(fd)
        os.close(fd)
        if known is None:
            pytest.skip("leases are refused here")
        outcome = run(path, root_fd)
        writer.write(b"more")
    assert (outcome.ok, outcome.begun) == (False, False)
    assert path.read_bytes() == SECRET + b"more"


def test_another_file_under_the_name_is_not_unlinked(tmp_path, path, root_fd):
    def replace() -> None:
        (tmp_path / "new").write_bytes(b"another's")
        os.replace(tmp_path / "new", path)

    outcome = when(path, root_fd, Fault(replace, method="fsync"))
    assert (outcome.ok, outcome.begun) == (False, True)
    assert path.read_bytes() == b"another's"


def test_a_name_that_it_got_meanwhile_is_told(tmp_path, path, root_fd):
    link: Callable[[], None] = lambda: os.link(path, tmp_path / "other")  # noqa: E731
    outcome = when(path, root_fd, Fault(link, method="fsync"))
    assert (outcome.ok, outcome.begun) == (False, True)
    assert path.exists() and (tmp_path / "other").exists()


def test_an_error_of_any_operation_is_told_and_says_whether_the_content_is_gone(tmp_path):
    for nth in count(1):
        place = tmp_path / str(nth)
        place.mkdir()
        path = place / "name"
        path.write_bytes(SECRET)
        root_fd = os.open(place, os.O_RDONLY)
        faulty = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), nth=nth))
        outcome = run(path, root_fd, faulty)
        os.close(root_fd)
        if not faulty.fired:
            assert nth > 12
            return
        if not outcome.ok:
            assert "Input/output" in outcome.reason
            assert outcome.begun or path.read_bytes() == SECRET


def test_it_says_what_it_cannot_reach():
    def words(filesystem: str, *, spinning: bool | None = True, network: bool = False) -> str:
        return " / ".join(limits_of(filesystem, spinning=spinning, network=network))

    for filesystem in ("btrfs", "zfs", "bcachefs"):
        assert "leaves the old ones" in words(filesystem)
    assert "log" in words("f2fs")
    assert "layer" in words("overlay")
    assert "reflinks" in words("xfs")
    assert "data=journal" in words("ext4")
    assert "swap" in words("tmpfs", spinning=None)
    assert "flash" not in words("tmpfs", spinning=None)
    assert "another machine" in words("nfs4", network=True)
    assert "another machine" in words("fuse.sshfs")
    assert "not known" in words("")
    assert "drive's own erase" in words("ext4", spinning=False)
    assert "disk is not known" in words("ext4", spinning=None)
    assert "flash" not in words("ext4")
    # Nowhere is it silent about copies.
    for filesystem in ("ext2", "tmpfs", "btrfs", ""):
        assert "backups" in limits_of(filesystem, spinning=True)[-1]


def test_whether_a_disk_spins_is_told_or_unknown(tmp_path):
    assert mounts.spins(tmp_path.stat().st_dev) in (True, False, None)
    assert mounts.spins(os.makedev(0, 12345)) is None
