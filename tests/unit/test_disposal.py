"""Files of one folder unlinked as they were judged: by Python, and by the part in C, the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lifecycle_sync.act.disposal import discard_judged
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import FileOpsWrapper


class Through(FileOpsWrapper):
    """Below a wrapper each step is Python's."""

    def around(self, method, proceed, args, kwargs):
        return proceed(*args, **kwargs)


@pytest.fixture(params=["python", "c"])
def fs(request):
    if request.param == "python":
        return Through(FileOps())
    if FileOps().unlink_judged(-1, ()) is None:
        pytest.skip("the part in C is not built")
    return FileOps()


@pytest.fixture
def folder(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def judged(path: Path) -> tuple[bytes, tuple[int, int, int, int]]:
    found = path.lstat()
    return os.fsencode(path.name), (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
    )


def write(path: Path, text: str = "content") -> Path:
    path.write_text(text)
    return path


def test_what_still_is_what_was_judged_goes_and_the_rest_stays_with_its_reason(
    fs, folder, tmp_path
):
    names = "plain empty linked grew touched replaced written symlink fifo gone last".split()
    paths = {name: write(tmp_path / name) for name in names}
    write(paths["empty"], "")
    os.link(paths["linked"], tmp_path / "other-name")
    precious = write(tmp_path / "precious")
    files = [judged(paths[name]) for name in names]
    write(paths["grew"], "more content").touch()
    os.utime(paths["grew"], ns=(0, files[names.index("grew")][1][3]))
    os.utime(paths["touched"], ns=(0, 0))
    write(tmp_path / "new").rename(paths["replaced"])
    for name in ("symlink", "fifo", "gone"):
        paths[name].unlink()
    paths["symlink"].symlink_to(precious)
    os.mkfifo(paths["fifo"])
    with paths["written"].open("ab"):
        done = list(discard_judged(fs, folder, files))
    came = dict(zip(names, done, strict=True))
    assert [name for name in names if came[name].removed] == ["plain", "empty", "linked", "last"]
    assert came["plain"].size == 7
    assert came["plain"].freed > 0
    assert (came["empty"].size, came["linked"].freed) == (0, 0)
    assert {name: it.reason for name, it in came.items() if it.reason} == {
        "grew": "it changed",
        "touched": "it changed",
        "replaced": "another file has its name by now",
        "written": "somebody has it open for writing",
        "symlink": "a symlink has its name",
        "fifo": "it is no regular file",
        "gone": "it is not there",
    }
    assert came["gone"].missing
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names, "other-name", "precious"} - {"plain", "empty", "linked", "last", "gone"}


def test_many_names_are_looked_at_as_each_is(fs, folder, tmp_path):
    write(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    names = [b"file", b"link", b"gone", b"folder"]
    seen = fs.look(folder, names)
    assert seen[2] == errno.ENOENT
    for name, it in zip(names, seen, strict=True):
        if name != b"gone":
            found = os.lstat(os.path.join(os.fsencode(tmp_path), name))
            assert it == (
                found.st_mode,
                found.st_size,
                found.st_blocks * 512,
                found.st_mtime_ns,
                found.st_dev,
                found.st_ino,
                found.st_nlink,
            )
    assert fs.look(folder, []) == []


def test_a_name_is_one_of_the_folder(folder, tmp_path):
    fs = FileOps()
    if fs.unlink_judged(folder, []) is None:
        pytest.skip("the part in C is not built")
    below = tmp_path / "below"
    below.mkdir()
    _, this = judged(write(below / "x"))
    for name in (b"below/x", b"x\0y"):
        with pytest.raises(ValueError, match="name"):
            fs.unlink_judged(folder, [(name, this)])
        with pytest.raises(ValueError, match="name"):
            fs.look(folder, [name])
    assert (below / "x").exists()


def test_the_part_in_c_gives_the_interpreter_and_all_descriptors_back(fs, folder, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    files = [judged(write(tmp_path / str(number))) for number in range(300)]
    done = list(discard_judged(fs, folder, files))
    assert all(it.removed for it in done)
    again = list(discard_judged(fs, folder, files))
    assert all(it.missing for it in again)
    assert len(os.listdir("/proc/self/fd")) == before
