from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock, SystemClock
from lifecycle_sync.errors import CancelledError, OfflineError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.record import HashResult, HashTask
from lifecycle_sync.observe.hasher import (
    Hasher,
    Outcome,
    hash_file,
    hash_in_directory,
    hash_in_root,
)
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, fail

OLD_NS = 1_600_000_000_000_000_000
MARGIN_NS = 20_000_000
SMALL = 64 << 10
CHUNK = 1 << 20


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def make_old(path, data: bytes) -> None:
    """A file whose mtime any later write moves, however coarse the filesystem's clock."""
    path.write_bytes(data)
    os.utime(path, ns=(OLD_NS, OLD_NS))


def make_sparse(path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def hash_names(
    dir_fd: int, *names: bytes, fs: FileOps | None = None, **changes: Any
) -> list[HashResult]:
    options: dict[str, Any] = {
        "algorithm": "sha256",
        "margin_ns": MARGIN_NS,
        "clock": SystemClock(),
        "on_bytes": None,
        "cancel": CancelToken(),
    } | changes
    tasks = [HashTask(100 + n, b"", name, 0, 0, 0, 0) for n, name in enumerate(names)]
    return hash_in_directory(fs or FileOps(), dir_fd, tasks, **options)


def hash_name(dir_fd: int, name: bytes = b"f", **changes: Any) -> HashResult:
    (result,) = hash_names(dir_fd, name, **changes)
    return result


def hasher(fs: FileOps) -> Hasher:
    return Hasher(
        fs,
        algorithm="sha256",
        margin_ns=MARGIN_NS,
        clock=SystemClock(),
        cancel=CancelToken(),
    )


def while_reading(hook, size: int) -> FaultyFileOps:
    """File operations in which `hook` runs once the first bytes of a file have been read."""
    method = "pread" if size <= SMALL else "preadv"
    return FaultyFileOps(FileOps(), Fault(hook, method=method, after=True))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open(root_fd):
    before = open_descriptors()
    yield
    assert open_descriptors() == before


# -- digests -------------------------------------------------------------------------------------


def test_a_result_has_the_digest_and_the_tuple_that_the_disk_shows(tmp_path, root_fd):
    make_old(tmp_path / "f", b"some bytes")
    status = os.lstat(tmp_path / "f")
    assert hash_name(root_fd) == HashResult(
        row_id=100,
        status="ok",
        digest=sha256(b"some bytes"),
        size=10,
        mtime_ns=OLD_NS,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        racy=True,
        error=None,
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.one_of(
        st.integers(0, 2000),
        st.builds(
            lambda border, delta: border + delta,
            st.sampled_from([SMALL, CHUNK, 2 * CHUNK]),
            st.integers(-2, 2),
        ),
    ),
    seed=st.integers(0, 2**32),
    algorithm=st.sampled_from(["sha256", "blake3"]),
)
def test_the_digest_is_that_of_the_whole_content_whatever_its_size(
    tmp_path, root_fd, size, seed, algorithm
):
    data = random.Random(seed).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    read: list[int] = []
    result = hash_name(root_fd, algorithm=algorithm, on_bytes=read.append)
    expected = sha256(data) if algorithm == "sha256" else blake3.blake3(data).digest()
    assert (result.status, result.digest, result.size) == ("ok", expected, size)
    assert sum(read) == size


def test_results_come_in_the_order_of_the_tasks_however_many_there_are(tmp_path, root_fd):
    names = [f"{number:03}".encode() for number in range(200)]
    for name in names:
        (tmp_path / name.decode()).write_bytes(name)
    (tmp_path / "100").write_bytes(bytes(CHUNK + 1))
    (tmp_path / "150").unlink()
    results = hash_names(root_fd, *names)
    assert [result.row_id for result in results] == list(range(100, 300))
    expected: list[bytes | None] = [sha256(name) for name in names]
    expected[100] = sha256(bytes(CHUNK + 1))
    expected[150] = None
    assert [result.digest for result in results] == expected


def test_holes_of_a_sparse_file_count_as_the_zeros_they_read_as(tmp_path, root_fd):
    with (tmp_path / "f").open("wb") as file:
        file.seek(3 * CHUNK)
        file.write(b"end")
        file.truncate(5 * CHUNK)
    expected = sha256(bytes(3 * CHUNK) + b"end" + bytes(2 * CHUNK - 3))
    assert hash_name(root_fd).digest == expected


@pytest.mark.parametrize("size", [1000, 3 * CHUNK])
def test_a_read_that_returns_less_than_asked_for_is_not_taken_for_the_end(tmp_path, root_fd, size):
    class Stingy(FileOps):
        def pread(self, fd, count, offset):
            return os.pread(fd, max(count // 2, 1), offset)

        def preadv(self, fd, buffers, offset, flags=0, /):
            return os.preadv(fd, [buffers[0][: max(len(buffers[0]) // 2, 1)]], offset)

    data = random.Random(1).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    result = hash_name(root_fd, fs=Stingy())
    assert (result.status, result.digest) == ("ok", sha256(data))


def test_a_missing_blake3_package_is_an_error_that_names_the_remedy(root_fd, monkeypatch):
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(UsageError, match="pip install blake3"):
        hash_names(root_fd, algorithm="blake3")


def test_an_unknown_algorithm_is_an_error_that_names_those_there_are(root_fd):
    with pytest.raises(UsageError, match=r"md5: .*sha256 or blake3"):
        hash_names(root_fd, algorithm="md5")


# -- files that change ---------------------------------------------------------------------------

SIZES = pytest.mark.parametrize("size", [0, 1000, 3 * CHUNK])


@SIZES
def test_a_file_written_while_it_is_read_is_unstable(tmp_path, root_fd, size):
    make_old(tmp_path / "f", bytes(size))
    fs = while_reading(lambda: (tmp_path / "f").write_bytes(b"x" * size), size)
    assert hash_name(root_fd, fs=fs)[:3] == (100, "unstable", None)
    assert fs.fired == 1


@SIZES
def test_a_file_that_gets_its_old_times_back_after_a_write_is_unstable(tmp_path, root_fd, size):
    path = tmp_path / "f"
    make_old(path, bytes(size))
    ctime_ns = os.stat(path).st_ctime_ns

    def rewrite():
        # The clock of the filesystem may have a coarse grain.
        while os.stat(path).st_ctime_ns == ctime_ns:
            make_old(path, b"x" * size)

    assert hash_name(root_fd, fs=while_reading(rewrite, size)).status == "unstable"


@SIZES
def test_a_file_replaced_by_a_rename_while_it_is_read_is_unstable(tmp_path, root_fd, size):
    make_old(tmp_path / "f", bytes(size))
    make_old(tmp_path / "new", bytes(size))
    fs = while_reading(lambda: os.replace(tmp_path / "new", tmp_path / "f"), size)
    assert hash_name(root_fd, fs=fs).status == "unstable"


def replace_by_symlink(path):
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_dangling_symlink(path):
    path.unlink()
    path.symlink_to("nowhere")


def replace_by_fifo(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_socket(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(path.parent, os.O_PATH)
        # A short name for a path that may be longer than an address can be.
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)


def replace_by_directory(path):
    path.unlink()
    path.mkdir()


OTHER_KINDS = pytest.mark.parametrize(
    "replace",
    [
        replace_by_symlink,
        replace_by_dangling_symlink,
        replace_by_fifo,
        replace_by_socket,
        replace_by_directory,
    ],
)


@OTHER_KINDS
def test_something_else_than_a_file_is_not_read(tmp_path, root_fd, replace):
    (tmp_path / "f").touch()
    replace(tmp_path / "f")
    assert hash_name(root_fd) == HashResult(100, "not_regular")


@OTHER_KINDS
def test_a_file_that_becomes_something_else_while_it_is_read_is_unstable(
    tmp_path, root_fd, replace
):
    make_old(tmp_path / "f", b"bytes")
    fs = while_reading(lambda: replace(tmp_path / "f"), 5)
    assert hash_name(root_fd, fs=fs).status == "unstable"


@pytest.mark.parametrize("size", [1000, 3 * CHUNK])
def test_a_file_truncated_before_it_is_read_is_unstable(tmp_path, root_fd, size):
    make_old(tmp_path / "f", bytes(size))
    fault = Fault(lambda: os.truncate(tmp_path / "f", size // 2), "open_read_stat", after=True)
    assert hash_name(root_fd, fs=FaultyFileOps(FileOps(), fault)).status == "unstable"


@pytest.mark.parametrize("size", [1000, 3 * CHUNK])
def test_a_file_that_never_stops_growing_is_read_to_one_byte_past_its_size(tmp_path, root_fd, size):
    path = tmp_path / "f"
    make_old(path, bytes(size))

    def grow():
        os.truncate(path, os.stat(path).st_size + 4 * CHUNK)

    faults = [Fault(grow, method, lasting=True) for method in ("pread", "preadv")]
    read: list[int] = []
    result = hash_name(root_fd, fs=FaultyFileOps(FileOps(), *faults), on_bytes=read.append)
    assert result.status == "unstable"
    assert sum(read) <= size + 1


def test_a_size_that_is_not_that_of_the_content_is_unstable():
    # As in /proc, where every size is 0.
    fd = os.open("/proc/self", os.O_RDONLY)
    try:
        assert hash_name(fd, b"status").status == "unstable"
    finally:
        os.close(fd)


@pytest.mark.parametrize("method", ["open_read_stat", "pread", "stat"])
def test_a_file_that_goes_has_vanished_whenever_it_does(tmp_path, root_fd, method):
    (tmp_path / "f").write_bytes(b"bytes")
    fs = FaultyFileOps(FileOps(), Fault((tmp_path / "f").unlink, method))
    assert hash_name(root_fd, fs=fs) == HashResult(100, "vanished")


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("open_read_stat", errno.EACCES),
        ("fstat", errno.ESTALE),
        ("pread", errno.EIO),
        ("preadv", errno.EIO),
        ("stat", errno.EACCES),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_the_others_are_hashed(
    tmp_path, root_fd, method, code
):
    size = 2 * SMALL if method == "preadv" else 10
    for name in "abc":
        make_old(tmp_path / name, bytes(size))
    fs = FaultyFileOps(FileOps(), Fault(fail(code), method, nth=2))
    results = hash_names(root_fd, b"a", b"b", b"c", fs=fs)
    bad = [result for result in results if result.status != "ok"]
    assert [result.error for result in bad] == [os.strerror(code)]
    assert [result.status for result in bad] == ["unreadable"]
    assert {result.digest for result in results if result.status == "ok"} == {sha256(bytes(size))}


# -- the tuple -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("late_ns", "racy"), [(-1, True), (0, False)])
@pytest.mark.parametrize("newer_ns", [-5_000_000_000, 5_000_000_000])
@pytest.mark.parametrize("size", [10, 2 * CHUNK])
def test_a_tuple_is_racy_unless_its_newest_time_is_older_than_the_look_by_the_margin(
    tmp_path, root_fd, late_ns, racy, newer_ns, size
):
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    ctime_ns = os.stat(path).st_ctime_ns
    os.utime(path, ns=(0, ctime_ns + newer_ns))
    status = os.stat(path)
    newest_ns = max(status.st_mtime_ns, status.st_ctime_ns)
    result = hash_name(root_fd, clock=FixedClock(newest_ns + MARGIN_NS + late_ns))
    assert (result.status, result.racy) == ("ok", racy)


def test_the_look_of_a_large_file_does_not_make_the_next_one_racy(tmp_path, root_fd):
    make_old(tmp_path / "b", b"small")
    make_old(tmp_path / "a", bytes(2 * CHUNK))
    clock = FixedClock(os.stat(tmp_path / "a").st_ctime_ns)
    fs = FaultyFileOps(FileOps(), Fault(lambda: clock.advance(1), "preadv"))
    assert [result.racy for result in hash_names(root_fd, b"a", b"b", fs=fs, clock=clock)] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [((2**63, 2**63, 2**63 + 5), (2**63 - 1, 2**63 - 1, 5 - 2**63)),
     ((-(2**63) - 1, 0, 2**63 - 1), (-(2**63), 0, 2**63 - 1))],
)  # fmt: skip
def test_times_and_inodes_fit_into_64_bits_with_sign(tmp_path, root_fd, given, expected):
    mtime_ns, ctime_ns, inode = given

    class Odd(FileOps):
        seen = SimpleNamespace(
            st_dev=1, st_ino=inode, st_size=5, st_mtime_ns=mtime_ns, st_ctime_ns=ctime_ns
        )

        def open_read_stat(self, name, dir_fd=None):
            return super().open_read_stat(name, dir_fd)[0], self.seen

        def stat(self, path, *, dir_fd=None, follow_symlinks=True):
            return self.seen

    (tmp_path / "f").write_bytes(b"bytes")
    result = hash_name(root_fd, fs=Odd())
    assert (result.status, *result[4:7]) == ("ok", *expected)


def test_reading_leaves_the_access_time_alone(tmp_path, root_fd):
    # Older than the change, so that a mount with relatime would move it at the first read.
    for name in ("f", "control"):
        make_old(tmp_path / name, b"bytes")
        os.utime(tmp_path / name, ns=(OLD_NS - 10**9, OLD_NS))
    (tmp_path / "control").read_bytes()
    if os.stat(tmp_path / "control").st_atime_ns == OLD_NS - 10**9:
        pytest.skip("this mount keeps no access times (noatime)")
    assert hash_name(root_fd).status == "ok"
    assert os.stat(tmp_path / "f").st_atime_ns == OLD_NS - 10**9


# -- the page cache, progress, cancellation ------------------------------------------------------


def is_cached(fd: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError as error:
        pytest.skip(f"this filesystem does not say what is cached: {error}")


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux says what is cached")
def test_a_dropped_cache_leaves_nothing_to_read_but_the_disk(tmp_path, root_fd):
    path = tmp_path / "f"
    cached: list[bool] = []

    class Asking(FileOps):
        def pread(self, fd, count, offset):
            cached.append(is_cached(fd))
            return os.pread(fd, count, offset)

    def write_through() -> None:
        with path.open("wb") as file:
            file.write(bytes(8 << 10))
            file.flush()
            os.fsync(file.fileno())

    write_through()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if is_cached(file.fileno()):
            pytest.skip("this filesystem has no disk behind its pages (tmpfs)")
    write_through()
    results = [hash_name(root_fd, fs=Asking(), drop_cache=drop) for drop in (False, True)]
    assert cached == [True, False]
    assert {result.digest for result in results} == {sha256(bytes(8 << 10))}


def test_progress_is_told_while_a_large_file_is_read(tmp_path, root_fd):
    make_sparse(tmp_path / "f", 10 * CHUNK)
    read: list[int] = []
    hash_name(root_fd, on_bytes=read.append)
    assert len(read) == 10
    assert sum(read) == 10 * CHUNK


def test_a_cancellation_is_noticed_in_the_middle_of_a_file(tmp_path, root_fd):
    make_sparse(tmp_path / "f", 100 * CHUNK)
    cancel = CancelToken()
    read: list[int] = []
    fs = FaultyFileOps(FileOps(), Fault(cancel.cancel, "preadv", nth=3))
    with pytest.raises(CancelledError):
        hash_name(root_fd, fs=fs, cancel=cancel, on_bytes=read.append)
    assert sum(read) == 3 * CHUNK


def test_a_cancellation_is_noticed_between_small_files(tmp_path, root_fd):
    cancel = CancelToken()
    names = [b"%d" % number for number in range(1000)]
    opened = []

    def look():
        opened.append(1)
        cancel.cancel()

    fs = FaultyFileOps(FileOps(), Fault(look, "open_read_stat", lasting=True))
    with pytest.raises(CancelledError):
        hash_names(root_fd, *names, fs=fs, cancel=cancel)
    assert len(opened) < 200


# -- directories below a root --------------------------------------------------------------------


def in_root(
    root: Path, *groups: tuple[bytes, list[bytes]], fs: FileOps | None = None
) -> list[Outcome]:
    fs = fs or FileOps()
    return hash_in_root(fs, hasher(fs), os.fsencode(root), groups)


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome[0] for outcome in outcomes]


def test_directories_are_visited_in_any_order(tmp_path):
    paths = [b"", b"a/b/c", b"a/b", b"a", b"a/b/c", b"x/y", b"a/y", b""]
    for path in set(paths):
        os.makedirs(os.fsencode(tmp_path) + b"/" + path, exist_ok=True)
        with open(os.fsencode(tmp_path) + b"/" + path + b"/f", "wb") as file:
            file.write(path)
    outcomes = in_root(tmp_path, *((path, [b"f"]) for path in paths))
    assert [outcome[1] for outcome in outcomes] == [sha256(path) for path in paths]


def test_a_path_may_be_deeper_than_any_limit_on_paths_and_open_directories(tmp_path, root_fd):
    # 300 levels of 20 bytes: past PATH_MAX.
    name = b"d" * 20
    fds = [os.dup(root_fd)]
    for level in range(300):
        os.mkdir(name, dir_fd=fds[-1])
        fds.append(os.open(name, os.O_RDONLY, dir_fd=fds[-1]))
        fd = os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fds[-1])
        os.write(fd, b"%d" % level)
        os.close(fd)
    for fd in fds:
        os.close(fd)
    levels = [299, 298, 250, 299, 5, 280, 100, 299]
    before = open_descriptors()
    most = 0

    class Counting(FileOps):
        def pread(self, fd, count, offset):
            nonlocal most
            most = max(most, open_descriptors() - before)
            return os.pread(fd, count, offset)

    groups = [(b"/".join([name] * (level + 1)), [b"f"]) for level in levels]
    outcomes = in_root(tmp_path, *groups, fs=Counting())
    assert [outcome[1] for outcome in outcomes] == [sha256(b"%d" % level) for level in levels]
    assert most < 50


def test_a_directory_that_is_now_a_symlink_yields_nothing_from_where_it_points(tmp_path):
    for place in ("root/a/b", "outside/b"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "f").write_bytes(b"secret")
    os.rename(tmp_path / "root/a", tmp_path / "root/old")
    (tmp_path / "root/a").symlink_to(tmp_path / "outside")
    outcomes = in_root(tmp_path / "root", (b"a", [b"f"]), (b"a/b", [b"f"]), (b"old/b", [b"f"]))
    assert statuses(outcomes) == ["vanished", "vanished", "ok"]


@pytest.mark.parametrize("path", [b"..", b"a/..", b"a/../..", b"/etc", b"a//b", b"a/./b", b"a\0b"])
def test_a_path_that_is_not_plainly_below_the_root_is_refused(tmp_path, path):
    (tmp_path / "f").touch()
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/f").touch()
    outcomes = in_root(tmp_path / "root", (path, [b"f", b"passwd"]), (b"a/b", [b"f"]))
    assert statuses(outcomes) == ["unreadable", "unreadable", "ok"]


@pytest.mark.parametrize("name", [b"../f", b"/etc/passwd", b"a/f", b"a\0"])
def test_a_name_of_more_than_one_component_is_refused(tmp_path, name):
    (tmp_path / "f").touch()
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/a/f").touch()
    outcomes = in_root(tmp_path / "root", (b"", [name]), (b"a", [b"f"]))
    assert statuses(outcomes) == ["unreadable", "ok"]


def test_a_directory_on_another_filesystem_is_not_read(tmp_path):
    for place in ("here", "mounted/below"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "f").touch()

    class Mounted(FileOps):
        inode = os.stat(tmp_path / "mounted").st_ino

        def fstat(self, fd):
            status = os.fstat(fd)
            if status.st_ino != self.inode:
                return status
            return SimpleNamespace(st_dev=status.st_dev + 1)

    groups = [(b"mounted", [b"f"]), (b"mounted/below", [b"f"]), (b"here", [b"f"])]
    outcomes = in_root(tmp_path, *groups, fs=Mounted())
    assert statuses(outcomes) == ["unreadable", "unreadable", "ok"]
    assert outcomes[0][7] == os.strerror(errno.EXDEV)


def test_a_directory_that_cannot_be_opened_makes_its_files_unreadable(tmp_path):
    for place in "ab":
        (tmp_path / place).mkdir()
        (tmp_path / place / "f").touch()
    # The first opening is that of the root.
    fs = FaultyFileOps(FileOps(), Fault(fail(errno.EACCES), "open_directory", nth=2))
    outcomes = in_root(tmp_path, (b"a", [b"f", b"g"]), (b"b", [b"f"]), fs=fs)
    assert statuses(outcomes) == ["unreadable", "unreadable", "ok"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.touch()])
def test_a_root_that_is_not_there_is_offline(tmp_path, make):
    make(tmp_path / "root")
    with pytest.raises(OfflineError, match="root"):
        in_root(tmp_path / "root", (b"", [b"f"]))


def test_one_file_is_hashed_by_its_path_below_the_root(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for path in (b"f", b"a/b/f"):
        (tmp_path / os.fsdecode(path)).write_bytes(path)
        result = hash_file(
            FileOps(),
            os.fsencode(tmp_path),
            path,
            algorithm="sha256",
            margin_ns=MARGIN_NS,
            clock=SystemClock(),
            cancel=CancelToken(),
            row_id=7,
        )
        assert (result.row_id, result.status, result.digest) == (7, "ok", sha256(path))
