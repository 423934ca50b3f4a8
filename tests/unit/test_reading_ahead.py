"""Small files of one folder read ahead: by Python, and by the part in C, the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle_sync.act import ahead_worker
from lifecycle_sync.act.ahead_worker import Recorded

_OLD_NS = 1_600_000_000_000_000_000
_NOW_NS = 1 << 62


@pytest.fixture(params=["python", "c"])
def read(request, tmp_path):
    """What is read of files of the folder, as they are recorded."""
    native = ahead_worker._native()
    if request.param == "c" and native is None:
        pytest.skip("the part in C is not built")
    reading = ahead_worker._Reading("sha256", 0)
    folder = os.open(tmp_path, os.O_RDONLY)

    def read(*files: Recorded, trusted_ns: int = _NOW_NS):
        if request.param == "c":
            return native.read_plain(folder, list(files), trusted_ns)
        return [reading._read(folder, file, trusted_ns) for file in files]

    yield read
    os.close(folder)


def recorded(path: Path) -> Recorded:
    it = path.lstat()
    return os.fsencode(path.name), it.st_size, it.st_mtime_ns, it.st_ctime_ns, it.st_ino


def write(path: Path, data: bytes = b"content") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(_OLD_NS, _OLD_NS))
    return path


def test_a_plain_file_comes_with_its_bytes_and_what_is_said_of_it(read, tmp_path):
    paths = [write(tmp_path / name) for name in ("plain", "linked", "odd \udcff\n")]
    paths += [write(tmp_path / "empty", b""), write(tmp_path / "large", os.urandom(64 << 10))]
    os.link(paths[1], tmp_path / "other name")
    paths[0].chmod(0o4751)
    os.utime(paths[0], ns=(_OLD_NS + 5, _OLD_NS))
    os.utime(paths[1], ns=(-1_500_000_000, -1))
    for path, found in zip(paths, read(*map(recorded, paths)), strict=True):
        it = path.stat()
        mode, owner = it.st_mode & 0o7777, (it.st_uid, it.st_gid)
        assert found == (path.read_bytes(), mode, it.st_atime_ns, it.st_nlink, *owner)


def test_to_read_it_does_not_move_its_atime(read, tmp_path):
    path = write(tmp_path / "file")
    assert read(recorded(path)) != [None]
    assert path.stat().st_atime_ns == _OLD_NS


@pytest.mark.parametrize("field", range(1, 5))
@pytest.mark.parametrize("by", [-1, 1])
def test_one_that_is_not_as_it_was_recorded_is_left_out(read, tmp_path, field, by):
    path = write(tmp_path / "file")
    other = list(recorded(path))
    other[field] += by
    assert read(tuple(other)) == [None]
    assert read(recorded(path)) != [None]


def test_one_written_a_moment_ago_is_left_out(read, tmp_path):
    path = write(tmp_path / "file")
    changed_ns = path.stat().st_ctime_ns
    assert read(recorded(path), trusted_ns=changed_ns - 1) == [None]
    assert read(recorded(path), trusted_ns=changed_ns) != [None]
    os.utime(path, ns=(_OLD_NS, _NOW_NS // 2))
    assert read(recorded(path), trusted_ns=_NOW_NS // 2 - 1) == [None]


def test_what_is_special_is_left_out_and_the_others_are_read(read, tmp_path):
    names = "sparse attributes replaced symlink fifo folder gone plain".split()
    paths = {name: write(tmp_path / name) for name in names}
    paths["sparse"].write_bytes(b"")
    os.truncate(paths["sparse"], 60_000)
    os.setxattr(paths["attributes"], "user.note", b"kept")
    for name in ("symlink", "fifo", "folder", "gone"):
        paths[name].unlink()
    paths["symlink"].symlink_to("plain")
    os.mkfifo(paths["fifo"])
    paths["folder"].mkdir()
    files = [recorded(path) for name, path in paths.items() if name != "gone"]
    files.append((b"gone", 7, _OLD_NS, _OLD_NS, 1))
    paths["replaced"].rename(tmp_path / "aside")
    write(paths["replaced"])
    for name in ("symlink", "fifo", "folder"):
        at = names.index(name)
        # As a scan would have it that took it for a file.
        assert files[at][0] == os.fsencode(name)
    found = dict(zip([file[0] for file in files], read(*files), strict=True))
    assert [name for name, it in found.items() if it] == [b"plain"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_one_that_may_not_be_read_is_left_out(read, tmp_path):
    path = write(tmp_path / "file")
    path.chmod(0)
    assert read(recorded(path)) == [None]


def test_the_part_in_c_takes_names_of_the_folder_only(tmp_path):
    native = ahead_worker._native()
    if native is None:
        pytest.skip("the part in C is not built")
    for name in (b"../file", b"a/b", b"nul\0"):
        with pytest.raises(ValueError, match="not the name of a file in a folder"):
            native.read_plain(-1, [(name, 1, 1, 1, 1)], 0)
    with pytest.raises(TypeError):
        native.read_plain(-1, [(b"name", 1)], 0)
    with pytest.raises(TypeError):
        native.read_plain(-1, [("name", 1, 1, 1, 1)], 0)
    with pytest.raises(OverflowError):
        native.read_plain(-1, [(b"name", 1 << 70, 1, 1, 1)], 0)
    assert native.read_plain(-1, [(b"name", 1 << 40, 1, 1, 1)], _NOW_NS) == [None]
    assert native.read_plain(-1, [], 0) == []


def test_without_the_part_in_c_what_is_answered_is_the_same(tmp_path, monkeypatch):
    for number in range(20):
        write(tmp_path / "a" / str(number) if number % 3 else tmp_path / str(number))
    answers = []
    for native in (ahead_worker._native(), None):
        monkeypatch.setattr(ahead_worker, "_native", lambda native=native: native)
        paths = [*tmp_path.glob("*[0-9]"), *tmp_path.glob("a/*")]
        rows = []
        for number, path in enumerate(paths):
            name = os.fsencode(path.relative_to(tmp_path))
            ids = (b"f%015d" % number, b"o%015d" % number)
            rows.append((name, *recorded(path)[1:], *ids, 0, None, "default", False, "uploaded"))
        request = (os.fsencode(tmp_path), b"r" * 16, 5, tuple(zip(*rows, strict=True)))
        answers.append(ahead_worker._Reading("sha256", 0).answer(request))
    assert answers[0] == answers[1]
    assert answers[0][0] == [] and len(answers[0][1][0]) == 20


def test_one_that_is_written_or_replaced_while_it_is_read_is_left_out(tmp_path, monkeypatch):
    reading = ahead_worker._Reading("sha256", 0)
    path = write(tmp_path / "file")
    folder = os.open(tmp_path, os.O_RDONLY)
    pread = reading._fs.pread

    def written(fd, size, offset):
        data = pread(fd, size, offset)
        write(path, b"CONTENT")
        return data

    def replaced(fd, size, offset):
        path.rename(tmp_path / "aside")
        write(path)
        return pread(fd, size, offset)

    for change in (written, replaced):
        file = recorded(path)
        assert reading._read(folder, file, _NOW_NS) is not None
        monkeypatch.setattr(reading._fs, "pread", change)
        assert reading._read(folder, file, _NOW_NS) is None
        monkeypatch.undo()
    os.close(folder)
