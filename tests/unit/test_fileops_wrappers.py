from __future__ import annotations

import errno
import inspect
import os
import signal
import subprocess
import sys

import pytest

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import (
    Fault,
    FaultyFileOps,
    FileOpsWrapper,
    RecordingFileOps,
    fail,
)

# As the class shows them, not as the wrapper counts them.
PUBLIC = sorted(name for name in vars(FileOps) if not name.startswith("_"))


class Refusing(FileOpsWrapper):
    """Lets nothing through, and says what came."""

    def __init__(self, inner: FileOps) -> None:
        self.seen: list[str] = []

    def around(self, method, proceed, args, kwargs):
        self.seen.append(method)


@pytest.mark.parametrize("method", PUBLIC)
def test_every_public_name_of_fileops_goes_through_a_wrapper(method):
    assert callable(getattr(FileOps, method)), "a wrapper cannot intercept what is not called"
    ops = Refusing(FileOps())
    getattr(ops, method)()
    assert ops.seen == [method]


def test_there_are_methods_to_go_through():
    assert {"listdir", "stat", "fstat", "pread", "preadv", "close", "open_read", "write_file"} <= {
        *PUBLIC
    }


def test_a_method_that_a_subclass_adds_is_intercepted_too():
    class Longer(FileOps):
        def allocate(self, fd: int, size: int) -> None:
            raise AssertionError("not intercepted")

    ops = Refusing(Longer())
    ops.allocate(3, 4)
    assert ops.seen == ["allocate"]


def test_a_wrapper_is_a_fileops_and_leaves_others_alone(tmp_path):
    first, second = RecordingFileOps(FileOps()), RecordingFileOps(FileOps())
    assert isinstance(first, FileOps)
    first.stat(tmp_path)
    FileOps().stat(tmp_path)
    assert (first.methods, second.methods) == (["stat"], [])


def test_what_the_wrapped_operations_keep_on_themselves_is_theirs():
    class Counting(FileOps):
        def __init__(self) -> None:
            self.limit = 7

    assert RecordingFileOps(Counting()).limit == 7
    with pytest.raises(AttributeError):
        _ = RecordingFileOps(Counting()).nothing


# -- recording -----------------------------------------------------------------------------------


def test_a_composed_method_is_recorded_with_all_its_steps(tmp_path, root_fd):
    ops = RecordingFileOps(FileOps())
    ops.write_file(b"name", b"bytes", root_fd)
    steps = ["create", "write", "fsync", "close", "rename", "fsync"]
    assert ops.methods == ["write_file", *steps]
    assert (tmp_path / "name").read_bytes() == b"bytes"


def test_reading_a_file_is_recorded_with_its_steps(tmp_path, root_fd):
    (tmp_path / "name").write_bytes(b"bytes")
    ops = RecordingFileOps(FileOps())
    assert ops.read_file(b"name", root_fd) == b"bytes"
    assert ops.methods[0] == "read_file"
    assert [step for step in ops.methods if not step.startswith("open_")][1:] == [
        "fstat",
        "pread",
        "close",
    ]


def test_arguments_are_recorded_by_parameter_and_descriptors_as_paths(tmp_path, root_fd):
    ops = RecordingFileOps(FileOps())
    ops.mkdir(b"caf\xc3\xa9", root_fd)
    fd = ops.create("new", dir_fd=root_fd)
    ops.write(fd, b"12345")
    ops.close(fd)
    assert [str(call) for call in ops.calls] == [
        f"mkdir(name=café, dir_fd={tmp_path})",
        f"create(name=new, dir_fd={tmp_path})",
        f"write(fd={tmp_path}/new, data=5 bytes)",
        f"close(fd={tmp_path}/new)",
    ]


def test_a_call_that_fails_is_recorded(tmp_path):
    ops = RecordingFileOps(FileOps())
    with pytest.raises(FileNotFoundError):
        ops.stat(tmp_path / "missing")
    assert ops.methods == ["stat"]


def test_every_parameter_is_known_by_name():
    ops = RecordingFileOps(FileOps())
    for name in PUBLIC:
        names = list(inspect.signature(getattr(FileOps(), name)).parameters)
        assert list(ops.arguments(name, tuple(range(len(names))), {})) == names


# -- failing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_a_fault_before_a_call_raises_and_makes_no_call(tmp_path, root_fd, code):
    ops = FaultyFileOps(FileOps(), Fault(fail(code), method="mkdir"))
    with pytest.raises(OSError, match=f"Errno {code}]"):
        ops.mkdir(b"new", root_fd)
    assert os.listdir(tmp_path) == []


def test_a_fault_after_a_call_raises_when_it_was_made(tmp_path, root_fd):
    ops = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="mkdir", after=True))
    with pytest.raises(OSError, match="Input/output"):
        ops.mkdir(b"new", root_fd)
    assert os.listdir(tmp_path) == ["new"]


def test_a_fault_strikes_once_at_the_nth_call_of_its_method(tmp_path, root_fd):
    ops = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="mkdir", nth=2))
    ops.stat(tmp_path)
    ops.mkdir(b"1", root_fd)
    with pytest.raises(OSError, match="Input/output"):
        ops.mkdir(b"2", root_fd)
    ops.mkdir(b"3", root_fd)
    assert sorted(os.listdir(tmp_path)) == ["1", "3"]
    assert ops.fired == 1


def test_a_fault_without_a_method_counts_all_calls(tmp_path, root_fd):
    ops = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), nth=2))
    ops.mkdir(b"1", root_fd)
    with pytest.raises(OSError, match="Input/output"):
        ops.stat(tmp_path)


def test_a_lasting_fault_strikes_from_the_nth_call_on(root_fd):
    ops = FaultyFileOps(FileOps(), Fault(fail(errno.ENOSPC), method="mkdir", nth=2, lasting=True))
    ops.mkdir(b"1", root_fd)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            ops.mkdir(b"2", root_fd)
    assert ops.fired == 3


def test_a_fault_can_ask_for_the_arguments(root_fd):
    def about_b(method, arguments):
        return arguments.get("name") == b"b"

    ops = FaultyFileOps(FileOps(), Fault(fail(errno.EACCES), where=about_b))
    ops.mkdir(b"a", root_fd)
    with pytest.raises(PermissionError):
        ops.mkdir(b"b", root_fd)
    with pytest.raises(ValueError, match="no method"):
        FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="remove"))


def test_a_fault_strikes_inside_a_composed_method(tmp_path, root_fd):
    ops = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="fsync"))
    with pytest.raises(OSError, match="Input/output"):
        ops.write_file(b"name", b"bytes", root_fd)
    assert os.listdir(tmp_path) == []


def test_a_close_that_fails_has_closed(tmp_path, root_fd):
    ops = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="close"))
    fd = ops.create(b"new", root_fd)
    with pytest.raises(OSError, match="Input/output"):
        ops.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("keep", [0, 3, 5])
def test_a_torn_write_leaves_its_first_bytes(tmp_path, root_fd, keep):
    ops = FaultyFileOps(FileOps(), Fault(fail(errno.ENOSPC), method="write", keep_bytes=keep))
    fd = ops.create(b"new", root_fd)
    with pytest.raises(OSError, match="No space"):
        ops.write(fd, b"12345")
    ops.close(fd)
    assert (tmp_path / "new").read_bytes() == b"12345"[:keep]


def test_only_a_write_can_be_torn():
    for wrong in ({"method": "rename"}, {"method": "write", "after": True}, {}):
        with pytest.raises(ValueError, match="torn"):
            Fault(fail(errno.EIO), keep_bytes=1, **wrong)


def test_a_hook_changes_the_world_at_that_moment_and_the_call_goes_on(tmp_path, root_fd):
    (tmp_path / "folder").mkdir()

    def swap() -> None:
        (tmp_path / "folder").rmdir()
        (tmp_path / "folder").symlink_to("/etc")

    ops = FaultyFileOps(FileOps(), Fault(swap, method="open_directory"))
    with pytest.raises(OSError, match=f"Errno ({errno.ENOTDIR}|{errno.ELOOP})]"):
        ops.open_directory(b"folder", root_fd)


def test_the_outer_wrapper_sees_a_call_first_and_the_inner_one_its_steps(root_fd):
    inner = RecordingFileOps(FileOps())
    faulty = FaultyFileOps(inner, Fault(fail(errno.EIO), method="rename"))
    outer = RecordingFileOps(faulty)
    assert isinstance(outer, FileOps)
    with pytest.raises(OSError, match="Input/output"):
        outer.write_file(b"name", b"bytes", root_fd)
    assert outer.methods == ["write_file", "create", "write", "fsync", "close", "rename", "unlink"]
    assert inner.methods == ["write_file", "create", "write", "fsync", "close", "unlink"]
    assert faulty.fired == 1


KILLED = """
import os, sys
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, kill
ops = FaultyFileOps(FileOps(), Fault(kill, method="write", keep_bytes=3))
root = os.open(sys.argv[1], os.O_RDONLY)
try:
    ops.write_file(b"name", b"12345", root)
finally:
    print("cleaned up")
"""


def test_a_kill_ends_the_process_on_the_spot(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"123"
