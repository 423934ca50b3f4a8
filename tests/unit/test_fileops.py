from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lifecycle_sync import fileops
from lifecycle_sync.fileops import FileOps, NotRegularFileError
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail

OLD, NEW = b"the old bytes", b"the new bytes, and more of them"
WRITE_FILE_STEPS = ["create", "write", "fsync", "close", "rename", "fsync"]


@pytest.fixture
def ops() -> FileOps:
    return FileOps()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open():
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(before)


# -- write_file ----------------------------------------------------------------------------------


def test_write_file_makes_a_file_that_only_its_owner_may_read(tmp_path, root_fd, ops):
    ops.write_file("name", NEW, root_fd)
    assert (tmp_path / "name").read_bytes() == NEW
    assert (tmp_path / "name").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["name"]


def test_write_file_replaces_a_file_and_not_what_its_symlink_points_to(tmp_path, root_fd, ops):
    (tmp_path / "target").write_bytes(OLD)
    (tmp_path / "name").symlink_to("target")
    ops.write_file(b"name", NEW, root_fd)
    assert (tmp_path / "target").read_bytes() == OLD
    assert not (tmp_path / "name").is_symlink()


def test_write_file_takes_the_longest_name_there_is(tmp_path, root_fd, ops):
    name = b"\xff" * 255
    ops.write_file(name, NEW, root_fd)
    assert os.listdir(os.fsencode(tmp_path)) == [name]


def write_file_with(fault: Fault, root_fd: int) -> FaultyFileOps:
    faulty = FaultyFileOps(FileOps(), fault)
    with pytest.raises(OSError, match=f"Errno {errno.EIO}]"):
        faulty.write_file(b"name", NEW, root_fd)
    return faulty


# The first call is `write_file` itself.
@pytest.mark.parametrize("nth", range(1, len(WRITE_FILE_STEPS) + 2))
@pytest.mark.parametrize("exists", [True, False], ids=["replacing", "making"])
def test_a_write_file_that_fails_at_any_step_leaves_old_or_new_and_nothing_else(
    tmp_path, root_fd, nth, exists
):
    if exists:
        (tmp_path / "name").write_bytes(OLD)
    write_file_with(Fault(fail(errno.EIO), nth=nth), root_fd)
    renamed = nth == len(WRITE_FILE_STEPS) + 1
    assert os.listdir(tmp_path) == (["name"] if exists or renamed else [])
    if exists or renamed:
        assert (tmp_path / "name").read_bytes() == (NEW if renamed else OLD)


@pytest.mark.parametrize("step", ["write", "fsync", "close", "rename"])
def test_a_write_file_that_fails_right_after_a_step_leaves_old_or_new_and_nothing_else(
    tmp_path, root_fd, step
):
    (tmp_path / "name").write_bytes(OLD)
    write_file_with(Fault(fail(errno.EIO), method=step, after=True), root_fd)
    assert os.listdir(tmp_path) == ["name"]
    assert (tmp_path / "name").read_bytes() == (NEW if step == "rename" else OLD)


@pytest.mark.parametrize("keep", [0, 1, len(NEW) - 1])
def test_a_disk_that_fills_while_a_file_is_written_leaves_the_old_bytes(tmp_path, root_fd, keep):
    (tmp_path / "name").write_bytes(OLD)
    write_file_with(Fault(fail(errno.EIO), method="write", keep_bytes=keep), root_fd)
    assert os.listdir(tmp_path) == ["name"]
    assert (tmp_path / "name").read_bytes() == OLD


def test_the_first_error_is_told_when_the_temporary_file_cannot_be_removed_either(root_fd):
    faulty = FaultyFileOps(
        FileOps(),
        Fault(fail(errno.ENOSPC), method="write"),
        Fault(fail(errno.EROFS), method="unlink"),
    )
    with pytest.raises(OSError, match="No space"):
        faulty.write_file(b"name", NEW, root_fd)


def test_write_file_syncs_the_bytes_before_the_rename_and_the_directory_after_it(tmp_path, root_fd):
    synced = []

    def note(method, arguments):
        if method in {"fsync", "rename"}:
            synced.append((method, arguments.get("fd") == root_fd))
        return False

    FaultyFileOps(FileOps(), Fault(fail(0), where=note)).write_file(b"name", NEW, root_fd)
    assert synced == [("fsync", False), ("rename", False), ("fsync", True)]


KILLED_WRITER = """
import os, sys
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, kill
root, nth, keep = os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2]), int(sys.argv[3])
fault = Fault(kill, nth=nth) if nth else Fault(kill, method="write", keep_bytes=keep)
FaultyFileOps(FileOps(), fault).write_file(b"name", sys.stdin.buffer.read(), root)
"""


def kill_a_writer(folder: Path, *, nth: int = 0, keep_bytes: int = -1) -> int:
    argv = [str(folder), str(nth), str(keep_bytes)]
    return subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, *argv], input=NEW, timeout=60, check=False
    ).returncode


@pytest.mark.parametrize("nth", range(2, len(WRITE_FILE_STEPS) + 2))
def test_a_writer_that_is_killed_before_any_step_leaves_the_old_or_the_new_bytes(tmp_path, nth):
    (tmp_path / "name").write_bytes(OLD)
    assert kill_a_writer(tmp_path, nth=nth) == -signal.SIGKILL
    renamed = nth == len(WRITE_FILE_STEPS) + 1
    assert (tmp_path / "name").read_bytes() == (NEW if renamed else OLD)


def test_a_writer_that_is_killed_amid_the_write_leaves_the_old_bytes(tmp_path):
    (tmp_path / "name").write_bytes(OLD)
    assert kill_a_writer(tmp_path, keep_bytes=5) == -signal.SIGKILL
    assert (tmp_path / "name").read_bytes() == OLD
    (torn,) = (path for path in tmp_path.iterdir() if path.name != "name")
    assert torn.read_bytes() == NEW[:5]
    assert torn.name.startswith(".name.")


# -- reading -------------------------------------------------------------------------------------


def within_seconds(work: Callable[[], object], seconds: float = 10) -> BaseException | None:
    """Run what might hang in a thread; its error, or None."""
    caught: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            caught.append(error)
        else:
            caught.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert caught, "it hangs"
    return caught[0]


def test_open_read_refuses_a_symlink_even_to_a_file(tmp_path, root_fd, ops):
    (tmp_path / "target").write_bytes(OLD)
    (tmp_path / "name").symlink_to("target")
    with pytest.raises(OSError, match=f"Errno {errno.ELOOP}]"):
        ops.open_read(b"name", root_fd)


def test_open_read_refuses_a_fifo_and_does_not_wait_for_a_writer(tmp_path, root_fd, ops):
    os.mkfifo(tmp_path / "name")
    error = within_seconds(lambda: ops.open_read(b"name", root_fd))
    assert isinstance(error, NotRegularFileError)


def test_open_read_refuses_a_directory_and_a_device(tmp_path, root_fd, ops):
    (tmp_path / "name").mkdir()
    with pytest.raises(NotRegularFileError, match="name"):
        ops.open_read(b"name", root_fd)
    with pytest.raises(NotRegularFileError):
        ops.open_read("/dev/null")


def test_open_read_works_where_only_the_owner_may_leave_the_atime(tmp_path, root_fd, ops):
    (tmp_path / "name").write_bytes(OLD)
    refused = []
    real_open = os.open

    def no_noatime(path, flags, *args, **kwargs):
        if flags & os.O_NOATIME:
            refused.append(path)
            raise PermissionError(errno.EPERM, "not the owner")
        return real_open(path, flags, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", no_noatime)
        fd = ops.open_read(b"name", root_fd)
    assert refused and ops.pread(fd, 100, 0) == OLD
    ops.close(fd)


def test_reading_a_file_leaves_its_access_time_alone(tmp_path, root_fd, ops):
    (tmp_path / "name").write_bytes(OLD)
    os.utime(tmp_path / "name", ns=(10**18, 10**18))
    assert ops.read_file(b"name", root_fd) == OLD
    assert (tmp_path / "name").stat().st_atime_ns == 10**18


def test_read_file_gives_at_most_its_limit_and_closes_what_it_cannot_read(tmp_path, root_fd, ops):
    (tmp_path / "name").write_bytes(OLD)
    assert ops.read_file(b"name", root_fd, limit=3) == OLD[:3]
    faulty = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="pread"))
    with pytest.raises(OSError, match="Input/output"):
        faulty.read_file(b"name", root_fd)


def test_open_directory_refuses_a_symlink_and_a_file(tmp_path, root_fd, ops):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").touch()
    fd = ops.open_directory(b"folder", root_fd)
    assert os.path.samestat(ops.fstat(fd), os.stat(tmp_path / "folder"))
    ops.close(fd)
    for name in (b"link", b"file"):
        with pytest.raises(OSError, match=f"Errno ({errno.ENOTDIR}|{errno.ELOOP})]"):
            ops.open_directory(name, root_fd)


# -- changing ------------------------------------------------------------------------------------


def test_create_refuses_a_taken_name_and_a_dangling_symlink(tmp_path, root_fd, ops):
    (tmp_path / "taken").write_bytes(OLD)
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in (b"taken", b"dangling"):
        with pytest.raises(FileExistsError):
            ops.create(name, root_fd)
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "taken").read_bytes() == OLD


def test_rename_noreplace_moves_a_file_between_directories(tmp_path, root_fd, ops):
    (tmp_path / "folder").mkdir()
    (tmp_path / "name").write_bytes(OLD)
    folder = ops.open_directory("folder", root_fd)
    ops.rename_noreplace("name", b"other\xff", root_fd, folder)
    ops.close(folder)
    assert os.listdir(os.fsencode(tmp_path)) == [b"folder"]
    assert os.listdir(os.fsencode(tmp_path / "folder")) == [b"other\xff"]


@pytest.mark.parametrize("kind", ["file", "directory", "dangling symlink"])
def test_rename_noreplace_refuses_a_taken_target(tmp_path, root_fd, ops, kind):
    (tmp_path / "name").write_bytes(NEW)
    taken = tmp_path / "taken"
    if kind == "file":
        taken.write_bytes(OLD)
    elif kind == "directory":
        taken.mkdir()
    else:
        taken.symlink_to("nowhere")
    inode = taken.lstat().st_ino
    with pytest.raises(FileExistsError) as caught:
        ops.rename_noreplace(b"name", b"taken", root_fd, root_fd)
    assert (caught.value.filename, caught.value.filename2) == ("name", "taken")
    assert (tmp_path / "name").read_bytes() == NEW
    assert taken.lstat().st_ino == inode


def test_rename_noreplace_tells_what_is_missing(root_fd, ops):
    with pytest.raises(FileNotFoundError):
        ops.rename_noreplace(b"missing", b"target", root_fd, root_fd)


def test_link_makes_a_second_name_of_a_symlink_not_of_its_target(tmp_path, root_fd, ops):
    (tmp_path / "target").write_bytes(OLD)
    (tmp_path / "link").symlink_to("target")
    ops.link(b"link", b"second", root_fd, root_fd)
    assert (tmp_path / "second").is_symlink()


def test_write_writes_all_however_little_the_kernel_takes_at_once(tmp_path, root_fd, ops):
    fd = ops.create(b"name", root_fd)
    real_write = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real_write(fd, bytes(data[:4])))
        ops.write(fd, NEW)
        ops.write(fd, memoryview(OLD))
    ops.truncate(fd, len(NEW) + 2)
    ops.close(fd)
    assert (tmp_path / "name").read_bytes() == NEW + OLD[:2]


def test_directories_are_made_with_their_parents_and_removed_one_by_one(tmp_path, root_fd, ops):
    ops.make_directories(tmp_path / "a" / "b")
    ops.make_directories(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match="not empty"):
        ops.rmdir(b"a", root_fd)
    ops.rmdir(b"a/b", root_fd)
    ops.rmdir(b"a", root_fd)
    (tmp_path / "file").touch()
    ops.unlink("file", root_fd)
    assert os.listdir(tmp_path) == []


# -- locks ---------------------------------------------------------------------------------------

HOLDER = """
import os, sys
from lifecycle_sync.fileops import FileOps
ops = FileOps()
fd = ops.open_lock_file(sys.argv[1])
assert ops.lock(fd, wait=False, shared=sys.argv[2] == "shared")
print("held", flush=True)
sys.stdin.readline()
ops.unlock(fd)
print("free", flush=True)
sys.stdin.readline()
"""


class Holder:
    """Another process that holds a lock until it is told to let go, or killed."""

    def __init__(self, path: Path, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, path, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "free\n"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_lock_keeps_another_process_out_until_it_is_let_go(tmp_path, ops):
    fd = ops.open_lock_file(tmp_path / "lock")
    with closing(Holder(tmp_path / "lock", "exclusive")) as holder:
        assert not ops.lock(fd, wait=False)
        assert not ops.lock(fd, wait=False, shared=True)
        holder.let_go()
        assert ops.lock(fd, wait=False)
    ops.close(fd)


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path, ops):
    fd = ops.open_lock_file(tmp_path / "lock")
    holder = Holder(tmp_path / "lock", "exclusive")
    assert not ops.lock(fd, wait=False)
    holder.close()
    assert within_seconds(lambda: ops.lock(fd, wait=True)) is None
    ops.close(fd)


def test_waiting_for_a_lock_ends_when_the_other_process_lets_go(tmp_path, ops):
    fd = ops.open_lock_file(tmp_path / "lock")
    with closing(Holder(tmp_path / "lock", "exclusive")) as holder:
        taken = threading.Event()

        def wait() -> None:
            assert ops.lock(fd, wait=True)
            taken.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        assert not taken.wait(0.05)
        holder.let_go()
        assert taken.wait(10)
        thread.join()
    ops.close(fd)


def test_shared_locks_live_together_and_keep_an_exclusive_one_out(tmp_path, ops):
    fd = ops.open_lock_file(tmp_path / "lock")
    with closing(Holder(tmp_path / "lock", "shared")):
        assert ops.lock(fd, wait=False, shared=True)
        assert not ops.lock(fd, wait=False)
    ops.close(fd)


def test_a_lock_outlives_the_closing_of_another_descriptor_of_its_file(tmp_path, ops):
    fd, other = (ops.open_lock_file(tmp_path / "lock") for _ in range(2))
    assert ops.lock(fd, wait=False)
    ops.close(other)
    again = ops.open_lock_file(tmp_path / "lock")
    assert not ops.lock(again, wait=False)
    ops.unlock(fd)
    assert ops.lock(again, wait=False)
    ops.close(again)
    ops.close(fd)


def test_a_lock_file_keeps_its_bytes_and_is_no_symlink(tmp_path, ops):
    (tmp_path / "lock").write_bytes(OLD)
    ops.close(ops.open_lock_file(tmp_path / "lock"))
    assert (tmp_path / "lock").read_bytes() == OLD
    (tmp_path / "link").symlink_to("lock")
    with pytest.raises(OSError, match=f"Errno {errno.ELOOP}]"):
        ops.open_lock_file(tmp_path / "link")


# -- the whole filesystem ------------------------------------------------------------------------


def test_syncfs_makes_a_whole_filesystem_durable(root_fd, ops):
    assert ops.syncfs(root_fd) is True


def test_syncfs_tells_of_an_error(ops):
    with pytest.raises(OSError, match=f"Errno {errno.EBADF}]"):
        ops.syncfs(-1)


def without_call(patch: pytest.MonkeyPatch, name: str, code: int = 0) -> None:
    """A C library that has no such call, or (with `code`) one that always fails."""
    real = ctypes.CDLL(None, use_errno=True)

    def failing(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    class Library:
        def __getattr__(self, wanted):
            if wanted == name:
                if code:
                    return failing
                raise AttributeError(wanted)
            return getattr(real, wanted)

    patch.setattr(fileops, "_libc", Library)
    for cached in (fileops._renameat2, fileops._statx):
        patch.setattr(fileops, cached.__name__, cached.__wrapped__)


@pytest.mark.parametrize("code", [0, errno.ENOSYS])
def test_syncfs_syncs_one_file_where_there_is_no_such_call_and_says_so(
    root_fd, ops, monkeypatch, code
):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    without_call(monkeypatch, "syncfs", code)
    assert ops.syncfs(root_fd) is False
    assert synced == [root_fd]


class Function:
    """Stands for a call of the C library that fails."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, *_: object) -> int:
        ctypes.set_errno(self.code)
        return -1


@pytest.mark.parametrize("code", [0, errno.EINVAL, errno.ENOSYS])
@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_rename_noreplace_does_without_the_system_call(
    tmp_path, root_fd, ops, monkeypatch, code, kind
):
    monkeypatch.setattr(fileops, "_renameat2", lambda: Function(code) if code else None)
    (tmp_path / "taken").write_bytes(OLD)
    if kind == "file":
        (tmp_path / "name").write_bytes(NEW)
    else:
        (tmp_path / "name").symlink_to("nowhere")
    inode = (tmp_path / "name").lstat().st_ino
    with pytest.raises(FileExistsError):
        ops.rename_noreplace(b"name", b"taken", root_fd, root_fd)
    assert (tmp_path / "name").lstat().st_ino == inode
    ops.rename_noreplace(b"name", "free", root_fd, root_fd)
    assert sorted(os.listdir(tmp_path)) == ["free", "taken"]
    assert (tmp_path / "free").lstat().st_ino == inode
    assert (tmp_path / "taken").read_bytes() == OLD


def test_rename_noreplace_refuses_another_filesystem(tmp_path, root_fd, ops):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second filesystem")
    (tmp_path / "name").write_bytes(OLD)
    other_fd = ops.open_directory(os.fsencode(other))
    try:
        with pytest.raises(OSError, match=f"Errno {errno.EXDEV}]"):
            ops.rename_noreplace(b"name", b"lifecycle-sync-test", root_fd, other_fd)
    finally:
        ops.close(other_fd)
    assert (tmp_path / "name").read_bytes() == OLD


# -- attributes ----------------------------------------------------------------------------------


def test_symlinks_are_made_read_dated_and_given_away_themselves(tmp_path, root_fd, ops):
    (tmp_path / "target").write_bytes(OLD)
    before = (tmp_path / "target").stat()
    ops.symlink(b"target", "link", root_fd)
    ops.symlink(b"\xff", b"odd", root_fd)
    assert ops.readlink("link", root_fd) == b"target"
    assert ops.readlink(b"odd", root_fd) == b"\xff"
    ops.set_times(b"link", 1, 2, root_fd)
    ops.chown(b"link", os.getuid(), os.getgid(), root_fd)
    link = (tmp_path / "link").lstat()
    assert (link.st_atime_ns, link.st_mtime_ns) == (1, 2)
    assert (tmp_path / "target").stat() == before
    with pytest.raises(FileExistsError):
        ops.symlink(b"target", b"target", root_fd)


def test_attributes_of_an_open_file_are_set(tmp_path, root_fd, ops):
    fd = ops.create(b"name", root_fd)
    ops.chmod_fd(fd, 0o4751)
    ops.chown_fd(fd, os.getuid(), os.getgid())
    ops.set_times_fd(fd, 1, -1)
    ops.close(fd)
    found = (tmp_path / "name").stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1, -1)
    assert found.st_mode & 0o777 == 0o751


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_owners_are_set_and_a_symlinks_target_keeps_its_own(tmp_path, root_fd, ops):
    fd = ops.create(b"name", root_fd)
    ops.chown_fd(fd, 12, 34)
    ops.close(fd)
    ops.symlink(b"name", b"link", root_fd)
    ops.chown(b"link", 56, 78, root_fd)
    for name, owner in (("name", (12, 34)), ("link", (56, 78))):
        found = (tmp_path / name).lstat()
        assert (found.st_uid, found.st_gid) == owner


def test_extended_attributes_are_listed_read_and_set(tmp_path, root_fd, ops):
    fd = ops.create(b"name", root_fd)
    try:
        ops.set_xattr(fd, b"user.colour\xff", b"\x00red")
    except OSError as error:
        ops.close(fd)
        pytest.skip(f"no extended attributes here: {error}")
    assert ops.list_xattrs(fd) == [b"user.colour\xff"]
    assert ops.get_xattr(fd, b"user.colour\xff") == b"\x00red"
    with pytest.raises(OSError, match=f"Errno {errno.ENODATA}]"):
        ops.get_xattr(fd, b"user.other")
    assert ops.list_xattrs(b"name", root_fd) == [b"user.colour\xff"]
    ops.symlink(b"name", b"link", root_fd)
    assert ops.list_xattrs(b"link", root_fd) == []
    with pytest.raises(PermissionError):
        # The kernel allows no user attributes on a symlink; on the target it would.
        ops.set_xattr(b"link", b"user.size", b"1", root_fd)
    assert ops.list_xattrs(fd) == [b"user.colour\xff"]
    ops.close(fd)


def test_there_are_no_extended_attributes_where_the_filesystem_has_none(root_fd, ops, monkeypatch):
    def refuse(*_: object, **__: object) -> list[str]:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "listxattr", refuse)
    assert ops.list_xattrs(root_fd) == []
    monkeypatch.delattr(os, "listxattr")
    assert ops.list_xattrs(root_fd) == []


def test_the_time_of_birth_is_told_or_none(tmp_path, root_fd, ops, monkeypatch):
    before = time.time_ns() - 10**9
    fd = ops.create(b"name", root_fd)
    ops.set_times_fd(fd, 1, 1)
    born = ops.birth_time_ns(fd)
    assert born is None or before <= born <= time.time_ns()
    without_call(monkeypatch, "statx")
    assert ops.birth_time_ns(fd) is None
    monkeypatch.setattr(fileops, "_statx", lambda: Function(errno.ENOSYS))
    assert ops.birth_time_ns(fd) is None
    ops.close(fd)


# -- holes ---------------------------------------------------------------------------------------


def test_the_extents_of_a_file_with_holes_are_its_data(tmp_path, root_fd, ops):
    fd = ops.create(b"name", root_fd)
    piece = 1 << 20
    ops.write_at(fd, b"x" * 4096, piece)
    ops.write_at(fd, b"y" * 4096, 3 * piece)
    ops.truncate(fd, 5 * piece)
    found = ops.extents(fd, 5 * piece)
    if found == [(0, 5 * piece)]:
        ops.close(fd)
        pytest.skip("this filesystem does not tell of holes")
    assert found == [(piece, 4096), (3 * piece, 4096)]
    assert ops.extents(fd, 3 * piece + 10) == [(piece, 4096), (3 * piece, 10)]
    assert ops.extents(fd, 0) == []
    ops.truncate(fd, 0)
    ops.truncate(fd, piece)
    assert ops.extents(fd, piece) == []
    ops.close(fd)


def test_a_file_without_holes_is_one_extent(tmp_path, root_fd, ops):
    fd = ops.create(b"name", root_fd)
    ops.write(fd, OLD)
    assert ops.extents(fd, len(OLD)) == [(0, len(OLD))]
    ops.close(fd)


def test_extents_are_one_piece_where_the_filesystem_does_not_tell(root_fd, ops, monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "no such whence")

    monkeypatch.setattr(os, "lseek", refuse)
    assert ops.extents(root_fd, 100) == [(0, 100)]
    assert ops.extents(root_fd, 0) == []


def test_a_file_in_very_many_pieces_counts_as_data_from_some_point_on(root_fd, ops, monkeypatch):
    monkeypatch.setattr(fileops, "_EXTENTS_MAX", 3)
    # Data at every even offset.
    monkeypatch.setattr(os, "lseek", lambda fd, at, how: at + (at % 2 == (how == os.SEEK_DATA)))
    assert ops.extents(root_fd, 100) == [(0, 1), (2, 1), (4, 96)]


def test_write_at_writes_all_and_open_write_truncates_nothing(tmp_path, root_fd, ops, monkeypatch):
    (tmp_path / "name").write_bytes(OLD)
    fd, status = ops.open_write(b"name", root_fd)
    assert status.st_size == len(OLD)
    real_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real_pwrite(fd, bytes(data[:3]), at))
    ops.write_at(fd, b"NEWER", 4)
    assert ops.pread(fd, 100, 0) == OLD[:4] + b"NEWER" + OLD[9:]
    ops.close(fd)


def test_open_write_takes_regular_files_only_and_makes_none(tmp_path, root_fd, ops):
    (tmp_path / "target").write_bytes(OLD)
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=f"Errno {errno.ELOOP}]"):
        ops.open_write(b"link", root_fd)
    assert isinstance(within_seconds(lambda: ops.open_write(b"pipe", root_fd)), NotRegularFileError)
    with pytest.raises(FileNotFoundError):
        ops.open_write(b"missing", root_fd)


# -- writers -------------------------------------------------------------------------------------


def test_an_open_writer_is_noticed_and_a_reader_is_not(tmp_path, root_fd, ops):
    (tmp_path / "name").write_bytes(OLD)
    fd = ops.open_read(b"name", root_fd)
    if ops.has_writers(fd) is None:
        ops.close(fd)
        pytest.skip("leases are refused here")
    with open(tmp_path / "name", "rb"):
        assert ops.has_writers(fd) is False
    with open(tmp_path / "name", "ab"):
        assert ops.has_writers(fd) is True
    assert ops.has_writers(fd) is False
    ops.close(fd)


def test_nobody_can_say_who_writes_where_leases_are_refused(root_fd, ops, monkeypatch):
    assert ops.has_writers(root_fd) is None
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    assert ops.has_writers(root_fd) is None


def test_a_writer_that_comes_while_the_lease_is_held_does_not_end_the_process(tmp_path, root_fd):
    (tmp_path / "name").write_bytes(OLD)
    asker = """
import fcntl, os, sys
from lifecycle_sync.fileops import FileOps
real = fcntl.fcntl
def slow(fd, what, value=0):
    if what == fcntl.F_SETLEASE and value == fcntl.F_UNLCK:
        print("held", flush=True)
        sys.stdin.readline()
    return real(fd, what, value)
fcntl.fcntl = slow
fd = os.open(sys.argv[1], os.O_RDONLY)
print(FileOps().has_writers(fd), flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", asker, str(tmp_path / "name")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    held = process.stdout.readline()
    if held == "None\n":
        process.communicate(timeout=30)
        pytest.skip("leases are refused here")
    with pytest.raises(BlockingIOError):
        os.open(tmp_path / "name", os.O_WRONLY | os.O_NONBLOCK)
    output, _ = process.communicate("go\n", timeout=30)
    assert (held, output, process.returncode) == ("held\n", "False\n", 0)
