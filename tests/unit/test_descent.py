from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail

NO_DIRECTORY = f"Errno ({errno.ENOTDIR}|{errno.ELOOP})]"


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open():
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def descend(root: Path, fs: FileOps | None = None) -> Descent:
    return Descent(fs or FileOps(), os.fsencode(root))


def place(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def test_directories_are_opened_and_those_on_the_way_are_kept(root):
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/b/d").mkdir()
    fs = RecordingFileOps(FileOps())
    with descend(root, fs) as descent:
        assert place(descent.open(b"a/b/c")) == str(root / "a/b/c")
        opened = fs.methods.count("open_directory")
        assert place(descent.open(b"a/b/d")) == str(root / "a/b/d")
        assert fs.methods.count("open_directory") == opened + 1
        assert descent.open(b"") == descent.root_fd
        assert descent.device == root.stat().st_dev


def test_a_path_of_many_components_is_opened_with_few_descriptors(root):
    deep = b"/".join([b"d"] * 200)
    with descend(root) as descent:
        before = len(os.listdir("/proc/self/fd"))
        descent.make(deep)
        assert len(os.listdir("/proc/self/fd")) - before <= 33
        assert place(descent.open(deep[:-4])) == str(root / os.fsdecode(deep[:-4]))


@pytest.mark.parametrize("path", [b"/", b"/a", b"a/", b"a//b", b".", b"a/..", b"../root"])
@pytest.mark.parametrize("verb", ["open", "make"])
def test_what_is_no_path_below_the_root_is_refused(root, path, verb):
    (root / "a").mkdir()
    with descend(root) as descent, pytest.raises(ValueError, match="not a path"):
        getattr(descent, verb)(path)
    assert os.listdir(root) == ["a"]


@pytest.mark.parametrize("verb", ["open", "make"])
def test_a_symlink_is_not_followed_wherever_it_stands(root, tmp_path, verb):
    (tmp_path / "outside").mkdir()
    (root / "a").mkdir()
    (root / "a/link").symlink_to(tmp_path / "outside")
    with descend(root) as descent:
        for path in (b"a/link", b"a/link/deeper"):
            with pytest.raises(OSError, match=NO_DIRECTORY):
                getattr(descent, verb)(path)
        # It is still good for others.
        assert place(descent.open(b"a")) == str(root / "a")
    assert os.listdir(tmp_path / "outside") == []


def test_another_filesystem_is_refused(root):
    (root / "a/b").mkdir(parents=True)
    fs = FileOps()
    with descend(root, fs) as descent:
        descent._device += 1
        with pytest.raises(OSError, match=f"Errno {errno.EXDEV}]"):
            descent.open(b"a/b")


def test_a_root_that_is_not_there_is_offline(root):
    with pytest.raises(OfflineError, match="mounted"):
        descend(root / "missing")


def test_a_root_that_cannot_be_looked_at_is_closed_again(root):
    with pytest.raises(OSError, match="Input/output"):
        descend(root, FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method="fstat")))


# -- make ----------------------------------------------------------------------------------------


def test_make_makes_what_is_missing_and_tells_of_it(root):
    (root / "a").mkdir()
    told = []
    with descend(root) as descent:
        fd = descent.make(b"a/b/c", mode=0o750, made=lambda path, fd: told.append((path, fd)))
        assert place(fd) == str(root / "a/b/c")
        assert [path for path, _ in told] == [b"a/b", b"a/b/c"]
        assert told[-1][1] == fd
        descent.make(b"a/b/c", made=lambda *_: pytest.fail("it was there"))
    assert (root / "a/b").stat().st_mode & 0o777 == 0o750


def test_make_takes_a_directory_that_somebody_made_meanwhile_as_it_is(root):
    made = Fault(lambda: (root / "a").mkdir(mode=0o711), method="mkdir")
    told: list[bytes] = []
    with descend(root, FaultyFileOps(FileOps(), made)) as descent:
        descent.make(b"a/b", made=lambda path, _: told.append(path))
    assert told == [b"a/b"]
    assert (root / "a").stat().st_mode & 0o777 == 0o711


def test_make_does_not_go_through_a_symlink_that_took_the_place_meanwhile(root, tmp_path):
    (tmp_path / "outside").mkdir()
    swap = Fault(lambda: (root / "a").symlink_to(tmp_path / "outside"), method="mkdir")
    with (
        descend(root, FaultyFileOps(FileOps(), swap)) as descent,
        pytest.raises(OSError, match=NO_DIRECTORY),
    ):
        descent.make(b"a/b")
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("method", ["open_directory", "mkdir", "fstat"])
def test_a_make_that_fails_leaves_the_descent_usable(root, method):
    # The root itself takes the first open and the first fstat.
    nth = 1 if method == "mkdir" else 2
    fs = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), method=method, nth=nth))
    with descend(root, fs) as descent:
        with pytest.raises(OSError, match="Input/output"):
            descent.make(b"a/b")
        assert place(descent.make(b"a/b")) == str(root / "a/b")
