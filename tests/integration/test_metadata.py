from __future__ import annotations

import errno
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle_sync.act import metadata as metadata_module
from lifecycle_sync.act.metadata import apply, capture, capture_symlink
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import Metadata
from lifecycle_sync.model.file import Kind
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail

OLD_NS = 1_234_567_890_123_456_789
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


def look(path: Path, fs: FileOps | None = None) -> Metadata:
    fs = fs or FileOps()
    if path.is_symlink():
        fd = fs.open_directory(os.fsencode(path.parent))
        try:
            return capture_symlink(fs, fd, os.fsencode(path.name), path.lstat())
        finally:
            fs.close(fd)
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        return capture(fs, fd, os.fstat(fd))
    finally:
        os.close(fd)


def put(path: Path, metadata: Metadata, *, owner: bool = True, fs: FileOps | None = None):
    """Apply to an existing file; what was missed."""
    fs = fs or FileOps()
    dir_fd = os.open(path.parent, os.O_RDONLY)
    fd = None if path.is_symlink() else os.open(path, os.O_RDONLY)
    try:
        return apply(fs, dir_fd, os.fsencode(path.name), fd, metadata, owner=owner)
    finally:
        os.close(dir_fd)
        if fd is not None:
            os.close(fd)


def same(one: Metadata, other: Metadata) -> bool:
    """But for what no copy can have."""
    unlike = {"inode": 0, "ctime_ns": 0, "btime_ns": None}
    return replace(one, **unlike) == replace(other, **unlike)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path) -> Path:
    path: Path = tmp_path / "source"
    path.write_bytes(b"bytes")
    path.chmod(0o640)
    os.utime(path, ns=(OLD_NS + 1, OLD_NS))
    return path


@pytest.fixture
def copy(tmp_path) -> Path:
    path: Path = tmp_path / "copy"
    path.write_bytes(b"bytes")
    return path


def test_a_file_is_captured_with_all_that_belongs_to_it(source):
    found = look(source)
    status = source.stat()
    assert (found.kind, found.size, found.mode) == (Kind.REGULAR, 5, 0o640)
    assert (found.mtime_ns, found.atime_ns) == (OLD_NS, OLD_NS + 1)
    assert (found.inode, found.nlink, found.ctime_ns) == (
        status.st_ino,
        1,
        status.st_ctime_ns,
    )
    assert found.btime_ns is None or found.btime_ns > OLD_NS
    assert (found.user, found.group) == (source.owner(), source.group())
    assert found.extents is None and found.target is None


def test_metadata_goes_from_one_file_to_another(source, copy):
    assert put(copy, look(source)) == []
    assert same(look(copy), look(source))


def test_owners_that_have_no_name_keep_their_numbers(source, copy):
    metadata = replace(look(source), uid=os.getuid(), user="nobody-of-this-name", group="")
    assert put(copy, metadata) == []
    assert copy.stat().st_uid == os.getuid()


@as_root
def test_an_owner_is_found_by_name_where_the_machine_knows_it(source, copy):
    metadata = replace(look(source), uid=4_000_000, user="daemon", gid=4_000_001, group="nameless")
    assert put(copy, metadata) == []
    assert (copy.owner(), copy.stat().st_gid) == ("daemon", 4_000_001)


def test_the_owner_is_left_alone_unless_asked_for(source, copy):
    fs = RecordingFileOps(FileOps())
    assert put(copy, look(source), owner=False, fs=fs) == []
    assert not {"chown", "chown_fd"} & set(fs.methods)
    assert copy.stat().st_mode & 0o7777 == 0o640


def test_who_may_not_give_files_away_is_told_and_the_rest_is_applied(source, copy):
    refused = FaultyFileOps(FileOps(), Fault(fail(errno.EPERM), method="chown_fd", lasting=True))
    missed = put(copy, look(source), fs=refused)
    assert [line.split()[0] for line in missed] == ["owner", "group"]
    assert "not permitted" in missed[0]
    assert same(look(copy), look(source))


@pytest.mark.parametrize("method", ["chmod_fd", "set_times_fd", "fstat"])
def test_what_cannot_be_applied_is_told_and_stops_nothing(source, copy, method):
    broken = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method=method))
    (line,) = put(copy, look(source), fs=broken)
    assert "Input/output" in line
    found = look(copy)
    assert (found.mode == 0o640) == (method == "set_times_fd")
    assert (found.mtime_ns == OLD_NS) == (method != "set_times_fd")


def test_times_that_no_clock_knows_are_told(copy, source):
    (line,) = put(copy, replace(look(source), mtime_ns=2**200))
    assert line.startswith("times: ")


# -- set-id bits ---------------------------------------------------------------------------------


def test_set_id_bits_survive_the_change_of_owner(source, copy):
    source.chmod(0o6755)
    assert put(copy, look(source)) == []
    assert copy.stat().st_mode & 0o7777 == 0o6755


@as_root
@pytest.mark.parametrize("owner", [True, False])
def test_set_id_bits_are_never_lent_to_another_owner(source, copy, owner):
    """A set-user-id file of somebody must not come back as one of root."""
    metadata = replace(look(source), mode=0o6755, uid=4_000_000, gid=4_000_000, user="", group="")
    refused = Fault(fail(errno.EPERM), method="chown_fd", lasting=True)
    missed = put(copy, metadata, owner=owner, fs=FaultyFileOps(FileOps(), refused))
    assert copy.stat().st_mode & 0o7777 == 0o755
    assert "mode 6755: its set-id bits are another owner's" in missed


def test_the_set_group_id_bit_of_a_directory_is_kept(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir(mode=0o700)
    one.chmod(0o2775)
    metadata = replace(look(one), gid=4_000_000, group="")
    assert metadata.kind == Kind.DIRECTORY
    assert put(other, metadata, owner=False) == []
    assert other.stat().st_mode & 0o7777 == 0o2775


# -- extended attributes and ACLs ----------------------------------------------------------------


def set_attribute(path: Path, name: bytes, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")


def test_extended_attributes_go_with_a_file_even_a_read_only_one(source, copy):
    set_attribute(source, b"user.b", b"\x00\xff")
    set_attribute(source, b"user.a\xff", b"")
    source.chmod(0o400)
    metadata = look(source)
    assert [it for it in metadata.xattrs if it[0].startswith(b"user.")] == [
        (b"user.a\xff", b""),
        (b"user.b", b"\x00\xff"),
    ]
    fs = RecordingFileOps(FileOps())
    assert put(copy, metadata, fs=fs) == []
    assert same(look(copy), metadata)
    # Without write permission nobody but root could set them.
    assert fs.methods.index("set_xattr") < fs.methods.index("chmod_fd")


def test_acls_go_with_a_file(source, copy):
    if shutil.which("setfacl") is None:
        pytest.skip("no setfacl")
    done = subprocess.run(
        ["setfacl", "-m", "u:12345:rwx", source], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"no ACLs here: {done.stderr.decode()}")
    metadata = look(source)
    assert b"system.posix_acl_access" in dict(metadata.xattrs)
    assert put(copy, metadata) == []
    assert same(look(copy), metadata)


def test_an_attribute_that_is_gone_or_not_for_us_is_passed_over_and_a_broken_disk_is_not(source):
    set_attribute(source, b"user.a", b"1")
    for code in (errno.ENODATA, errno.EPERM):
        gone = FaultyFileOps(FileOps(), Fault(fail(code), method="get_xattr"))
        assert b"user.a" not in dict(look(source, gone).xattrs)
    broken = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="get_xattr"))
    with pytest.raises(OSError, match="Input/output"):
        look(source, broken)


def test_attributes_that_cannot_be_set_are_told_by_name(source, copy):
    odd = ((b"nonsense.a\xff", b"1"), (b"user.\0", b"1"))
    first, second = put(copy, replace(look(source), xattrs=odd))
    assert first.startswith("attribute nonsense.a\\xff: ")
    assert second.startswith("attribute user.\0: ")


# -- symlinks, names, holes ----------------------------------------------------------------------


def test_a_symlink_is_captured_and_dated_itself(tmp_path, source):
    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(os.fsdecode(b"target\xff"))
    other.symlink_to("source")
    os.utime(one, ns=(1, 2), follow_symlinks=False)
    before = source.stat()
    metadata = look(one)
    assert (metadata.kind, metadata.target) == (Kind.SYMLINK, b"target\xff")
    assert put(other, metadata) == []
    assert other.lstat().st_mtime_ns == 2
    assert source.stat() == before


@as_root
def test_a_symlink_is_given_away_itself(tmp_path, source):
    (tmp_path / "link").symlink_to("source")
    metadata = replace(look(tmp_path / "link"), uid=12, gid=34, user="", group="")
    assert put(tmp_path / "link", metadata) == []
    link = (tmp_path / "link").lstat()
    assert (link.st_uid, link.st_gid) == (12, 34)
    assert source.stat().st_uid == os.getuid()


def test_holes_are_captured_and_a_file_without_them_has_no_extents(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(1 << 22)
    extents = look(path).extents
    if extents is None:
        pytest.skip("this filesystem does not tell of holes")
    assert extents == ((1 << 20, 4096),)
    path.write_bytes(b"x" * 10_000)
    assert look(path).extents is None


def test_an_owner_without_a_name_has_an_empty_one():
    assert metadata_module.user_name(4_000_000) == ""
    assert metadata_module.group_name(4_000_000) == ""
    assert metadata_module.user_name(2**70) == ""
