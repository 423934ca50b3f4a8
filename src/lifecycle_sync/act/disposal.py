"""Files that were declared disposable, unlinked at once: no trash, no grace, no way back.

Every file is looked at once more at the moment it goes: by the descriptor of its folder, never
through a symlink, on the folder's own filesystem, and where it is known which file is meant, only
that one. A sweep (`Care`) also leaves what is younger than its limit, what bears a time in the
future, and what anybody has open for writing; an order that names a file does not ask for these.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import OfflineError
from lifecycle_sync.fileops import FileOps, Judged, NotRegularFileError

_BLOCK = 512
_NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST}
_REASONS = {
    errno.ENOENT: "it is not there",
    errno.ENOTDIR: "its folder is not there: something else has that name",
    errno.ELOOP: "a symlink has its name",
    errno.EXDEV: "it lies on another filesystem",
    errno.EACCES: "no permission",
    errno.EPERM: "not permitted (immutable, or in a folder where only its owner may remove it)",
    errno.EROFS: "the filesystem is read-only",
}


class Discarded(NamedTuple):
    """What came of one file. `size` is its length, `freed` the space that its end gives back (0
    where it has another name). Not removed: `missing` says that it was gone already, `failed` that
    it should have gone and could not; otherwise it was left on purpose, and `reason` says why."""

    removed: bool
    reason: str = ""
    size: int = 0
    freed: int = 0
    missing: bool = False
    failed: bool = False


class Care(NamedTuple):
    """What a sweep leaves alone: files modified at `older_than_ns` or later, those open for
    writing, and, unless `writers_unknown` is set, those of which nobody can say."""

    older_than_ns: int
    writers: bool = True
    writers_unknown: bool = False


# (st_dev, st_ino): which file is meant.
Identity = tuple[int, int]
# Why something must stay, by its path below the folder and what `stat` says; empty where it may go.
Keep = Callable[[bytes, os.stat_result], str]


class Folders(StrEnum):
    """Which folders go when they are empty: all, those that were emptied by this, or none."""

    ALL = "all"
    EMPTIED = "emptied"
    NONE = "none"


def discard(
    fs: FileOps,
    dir_fd: int | None,
    name: str | bytes,
    *,
    expected: Identity | None = None,
    care: Care | None = None,
    regular: bool = False,
    device: int | None = None,
    dry_run: bool = False,
) -> Discarded:
    """Unlink one name in an open folder (or an absolute path), if it still is what is meant.

    A symlink goes itself, never what it points to; with `regular` everything but a regular file is
    left. A folder is never unlinked. `device` is the only filesystem it may lie on. Raises nothing.
    """
    try:
        found = fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        reason = _objection(found, expected, care, regular, device)
        if not reason and care is not None and care.writers and stat.S_ISREG(found.st_mode):
            reason = _writers(fs, dir_fd, name, found, care)
        if reason:
            return Discarded(False, reason, found.st_size)
        if not dry_run:
            fs.unlink(name, dir_fd)
    except OSError as error:
        return failure(error)
    freed = found.st_blocks * _BLOCK if found.st_nlink == 1 else 0
    return Discarded(True, "", found.st_size, freed)


def discard_judged(
    fs: FileOps,
    dir_fd: int,
    files: Sequence[Judged],
    *,
    writers_unknown: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Discarded]:
    """Unlink regular files of one folder, each if it still is what was judged.

    The careful `discard` of a sweep, for many files: each is opened first, so that one look tells
    all of it, and from then until it is gone nobody can open it for writing. Raises nothing. Ends
    early once `cancel` is set; what has no answer then was not touched.
    """
    all_freed = fs.unlink_judged(dir_fd, files)
    if all_freed is None:
        for name, judged in files:
            if cancel is not None and cancel.cancelled:
                return
            yield _discard_judged(fs, dir_fd, name, judged, writers_unknown)
        return
    for (name, judged), freed in zip(files, all_freed, strict=True):
        if freed >= 0:
            yield Discarded(True, "", judged[2], freed)
        else:
            # It is not what it was, or something is in its way: this finds out what.
            yield _discard_judged(fs, dir_fd, name, judged, writers_unknown)


def _discard_judged(
    fs: FileOps,
    dir_fd: int,
    name: bytes,
    judged: tuple[int, int, int, int],
    writers_unknown: bool,
) -> Discarded:
    try:
        fd, found = fs.open_read_stat(name, dir_fd)
    except PermissionError as error:
        if not writers_unknown:
            return Discarded(False, "writers unknown: it cannot be opened")
        if error.errno != errno.EACCES:
            return failure(error)
        care = Care(judged[3] + 1, writers=False)
        return discard(fs, dir_fd, name, expected=judged[:2], care=care, regular=True)
    except OSError as error:
        return failure(error)
    try:
        if (found.st_dev, found.st_ino) != judged[:2]:
            return Discarded(False, "another file has its name by now")
        if (found.st_size, found.st_mtime_ns) != judged[2:]:
            return Discarded(False, "it changed")
        barred = fs.bar_writers(fd)
        if barred is False:
            return Discarded(False, "somebody has it open for writing")
        if barred is None and not writers_unknown:
            return Discarded(False, "writers unknown: no read lease is given here")
        fs.unlink(name, dir_fd)
    except OSError as error:
        return failure(error)
    finally:
        fs.close(fd)
    freed = found.st_blocks * _BLOCK if found.st_nlink == 1 else 0
    return Discarded(True, "", found.st_size, freed)


def discard_tree(
    fs: FileOps,
    dir_fd: int | None,
    name: str | bytes,
    *,
    expected: Identity | None = None,
    care: Care | None = None,
    recursive: bool = True,
    keep: Keep | None = None,
    folders: Folders = Folders.ALL,
    itself: bool = True,
) -> Iterator[tuple[bytes, Discarded]]:
    """Unlink all in a folder: (path below it, what came of it) of each file.

    Then its folders go as `folders` says, and last it, under the path `b""`, if `itself` is set and
    it is empty. Without `recursive` only what is right in it goes. Whatever lies on another
    filesystem stays. A folder that is a symlink is not entered. Raises what `keep` raises.
    """
    try:
        descent = Descent(fs, os.fsencode(name), dir_fd)
    except OfflineError as error:
        cause = error.__cause__
        yield b"", failure(cause) if isinstance(cause, OSError) else Discarded(False, error.cause)
        return
    with descent:
        root = fs.fstat(descent.root_fd)
        if expected is not None and (root.st_dev, root.st_ino) != expected:
            yield b"", Discarded(False, "another folder has its name by now")
            return
        visited: list[bytes] = []
        emptied: set[bytes] = set()
        waiting = [b""]
        while waiting:
            folder = waiting.pop()
            try:
                fd = descent.open(folder)
                names = [os.fsencode(it) for it in fs.listdir(fd)]
            except OSError as error:
                yield folder, failure(error)
                continue
            visited.append(folder)
            for entry in names:
                path = folder + b"/" + entry if folder else entry
                try:
                    found = fs.stat(entry, dir_fd=fd, follow_symlinks=False)
                except OSError as error:
                    yield path, failure(error)
                    continue
                reason = "" if keep is None else keep(path, found)
                if reason:
                    yield path, Discarded(False, reason, found.st_size)
                elif not stat.S_ISDIR(found.st_mode):
                    this = (found.st_dev, found.st_ino)
                    done = discard(fs, fd, entry, expected=this, care=care)
                    if done.removed:
                        emptied.add(folder)
                    yield path, done
                elif recursive:
                    waiting.append(path)
        if folders is not Folders.NONE:
            yield from _remove_folders(fs, descent, visited[1:], emptied, folders)
    if itself:
        yield b"", _remove_folder(fs, dir_fd, name, (root.st_dev, root.st_ino))


def _remove_folders(
    fs: FileOps, descent: Descent, visited: list[bytes], emptied: set[bytes], which: Folders
) -> Iterator[tuple[bytes, Discarded]]:
    """The deeper ones first, which were found later. Only failures are told."""
    for folder in reversed(visited):
        if which is Folders.EMPTIED and folder not in emptied:
            continue
        above, _, entry = folder.rpartition(b"/")
        try:
            fs.rmdir(entry, descent.open(above))
            emptied.add(above)
        except OSError as error:
            if error.errno not in _NOT_EMPTY and error.errno != errno.ENOENT:
                yield folder, failure(error)


def _remove_folder(
    fs: FileOps, dir_fd: int | None, name: str | bytes, expected: Identity
) -> Discarded:
    try:
        found = fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if (found.st_dev, found.st_ino) != expected:
            return Discarded(False, "another folder has its name by now")
        fs.rmdir(name, dir_fd)
    except OSError as error:
        if error.errno in _NOT_EMPTY:
            return Discarded(False, "it is not empty")
        return failure(error)
    return Discarded(True)


def failure(error: OSError) -> Discarded:
    """What an error of the system comes to."""
    if isinstance(error, NotRegularFileError):
        return Discarded(False, "it is no regular file")
    code = error.errno or 0
    reason = _REASONS.get(code) or os.strerror(code).lower()
    return Discarded(False, reason, missing=code == errno.ENOENT, failed=code != errno.ENOENT)


def _objection(
    found: os.stat_result,
    expected: Identity | None,
    care: Care | None,
    regular: bool,
    device: int | None,
) -> str:
    if stat.S_ISDIR(found.st_mode):
        return "it is a folder"
    if regular and not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if device is not None and found.st_dev != device:
        return _REASONS[errno.EXDEV]
    if expected is not None and (found.st_dev, found.st_ino) != expected:
        return "another file has its name by now"
    if care is not None and found.st_mtime_ns >= care.older_than_ns:
        return "it is younger"
    return ""


def _writers(
    fs: FileOps, dir_fd: int | None, name: str | bytes, found: os.stat_result, care: Care
) -> str:
    try:
        fd, opened = fs.open_read_stat(name, dir_fd)
    except PermissionError:
        return "" if care.writers_unknown else "writers unknown: it cannot be opened"
    try:
        if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
            return "another file has its name by now"
        writers = fs.has_writers(fd)
    finally:
        fs.close(fd)
    if writers:
        return "somebody has it open for writing"
    if writers is None and not care.writers_unknown:
        return "writers unknown: no read lease is given here"
    return ""
