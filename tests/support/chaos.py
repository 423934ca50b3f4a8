"""Random changes to a tree, and what the rules of identity say must have become of its files."""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lifecycle_sync.model.file import FileRecord
from tests.support.oracle import Seen

_NAMES = [b"a", b"b.txt", b"c.jpg", b"d.pdf", b"e e", b"f\n", b"g\xff\xfe", "ü".encode(), b"E E"]
_HIDDEN = [b".h", b"x.tmp", b"y.bak", b"z~", b"Thumbs.db"]


class Chaos:
    """Does random things below `root`, the same for the same seed."""

    def __init__(self, root: bytes, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self._count = 0
        self.log: list[str] = []

    def do(self, operations: int) -> None:
        for _ in range(operations):
            operation = self.random.choice(_OPERATIONS)
            self.log.append(operation.__name__)
            try:
                operation(self)
            except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
                # It asked for what is not possible just now.
                pass
            except OSError as error:
                if os.strerror(error.errno or 0) not in {
                    "Directory not empty",
                    "Invalid argument",  # a folder moved into itself
                    "Too many levels of symbolic links",
                    "No such device or address",  # a FIFO that nobody reads
                }:
                    raise

    # -- choosing --------------------------------------------------------------------------

    def _entries(self, folders: bool) -> list[bytes]:
        found = []
        for folder, inner, _names in os.walk(self.root):
            inner[:] = sorted(name for name in inner if name != b".lifecycle")
            with os.scandir(folder) as entries:
                found += [
                    entry.path
                    for entry in sorted(entries, key=lambda entry: entry.name)
                    if entry.is_dir(follow_symlinks=False) is folders
                    and entry.name != b".lifecycle"
                ]
        return found

    def _file(self) -> bytes:
        """A path of something that is no folder."""
        found = self._entries(folders=False)
        if not found:
            raise FileNotFoundError
        return self.random.choice(found)

    def _regular(self) -> bytes:
        found = [
            path for path in self._entries(folders=False) if stat.S_ISREG(os.lstat(path).st_mode)
        ]
        if not found:
            raise FileNotFoundError
        return self.random.choice(found)

    def _folder(self) -> bytes:
        return self.random.choice([self.root, *self._entries(folders=True)])

    def _below(self) -> bytes:
        """A folder that is not the root."""
        found = self._entries(folders=True)
        if not found:
            raise FileNotFoundError
        return self.random.choice(found)

    def _place(self) -> bytes:
        names = _HIDDEN if self.random.random() < 0.08 else _NAMES
        name = self.random.choice(names)
        if self.random.random() < 0.5:
            self._count += 1
            name = b"%d-" % self._count + name
        return os.path.join(self._folder(), name)

    def _bytes(self, size: int | None = None) -> bytes:
        return self.random.randbytes(self.random.randrange(200) if size is None else size)

    # -- doing -----------------------------------------------------------------------------

    def create(self) -> None:
        with open(self._place(), "xb") as file:
            file.write(self._bytes())

    def create_some(self) -> None:
        folder = self._folder()
        for number in range(self.random.randrange(2, 12)):
            path = os.path.join(folder, b"s%d.txt" % number)
            # To open a FIFO would wait for ever, and a symlink may lead out of the tree.
            if not os.path.lexists(path) or stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "wb") as file:
                    file.write(self._bytes())

    def append(self) -> None:
        with open(self._regular(), "ab") as file:
            file.write(self._bytes() + b"+")

    def rewrite(self) -> None:
        """The same size and the same mtime."""
        path = self._regular()
        before = os.lstat(path)
        with open(path, "r+b") as file:
            file.write(self._bytes(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def truncate(self) -> None:
        os.truncate(self._regular(), self.random.randrange(50))

    def save(self) -> None:
        path = self._regular()
        temporary = path + b".tmp"
        with open(temporary, "xb") as file:
            file.write(self._bytes())
        os.replace(temporary, path)

    def chmod(self) -> None:
        os.chmod(self._regular(), self.random.choice([0o600, 0o644, 0o755]))

    def touch(self) -> None:
        moment = 1_700_000_000_000_000_000 + self.random.randrange(10**17)
        os.utime(self._file(), ns=(moment, moment), follow_symlinks=False)

    def remove(self) -> None:
        os.remove(self._file())

    def rename(self) -> None:
        old, new = self._file(), self._place()
        if not os.path.lexists(new):
            os.rename(old, new)

    def rename_over(self) -> None:
        os.replace(self._file(), self._file())

    def swap(self) -> None:
        one, other = self._file(), self._file()
        if one != other:
            os.rename(one, self.root + b"/swap.tmp")
            os.rename(other, one)
            os.rename(self.root + b"/swap.tmp", other)

    def hide_or_show(self) -> None:
        path = self._file()
        os.rename(path, path[:-4] if path.endswith(b".tmp") else path + b".tmp")

    def link(self) -> None:
        os.link(self._file(), self._place(), follow_symlinks=False)

    def symlink(self) -> None:
        target = self.random.choice([b".", b"..", b"a", b"no such thing", self._folder()])
        os.symlink(target, self._place())

    def make_folder(self) -> None:
        os.mkdir(self._place())

    def rename_folder(self) -> None:
        new = self._place()
        if not os.path.lexists(new):
            os.rename(self._below(), new)

    def remove_folder(self) -> None:
        if self.random.random() < 0.3:
            shutil.rmtree(self._below())

    def renew_folder(self) -> None:
        """`rm -rf d; mkdir d`, and other files in it."""
        if self.random.random() < 0.3:
            folder = self._below()
            shutil.rmtree(folder)
            os.mkdir(folder)
            for name in (b"a", b"b.txt", b"s1.txt"):
                with open(os.path.join(folder, name), "xb") as file:
                    file.write(self._bytes())

    def replace_by_folder(self) -> None:
        path = self._file()
        os.remove(path)
        os.mkdir(path)

    def replace_by_fifo(self) -> None:
        path = self._file()
        os.remove(path)
        os.mkfifo(path)

    def replace_by_file(self) -> None:
        """Something that is no regular file, a folder too, becomes one."""
        others = [
            path
            for path in self._entries(folders=False) + self._entries(folders=True)
            if not stat.S_ISREG(os.lstat(path).st_mode)
        ]
        if not others:
            return
        path = self.random.choice(others)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.remove(path)
        with open(path, "xb") as file:
            file.write(self._bytes())


_OPERATIONS = [
    operation
    for name, operation in vars(Chaos).items()
    if callable(operation) and not name.startswith("_") and name != "do"
]


@dataclass(frozen=True)
class Known:
    """A record before a batch of changes, and what was on the disk there at the time."""

    file_id: bytes
    seen: Seen


def known(records: dict[bytes, FileRecord], disk: dict[bytes, Seen]) -> dict[bytes, Known]:
    return {path: Known(record.file_id, disk[path]) for path, record in records.items()}


def assert_ids_follow_the_rules(
    before: dict[bytes, Known],
    after: dict[bytes, Known],
    ever: Iterable[bytes] = (),
    *,
    seen_whole: bool = True,
) -> None:
    """Same path: same id. A new path with the inode, size, mtime and content of one path that went,
    and of one only: its id. With the inode, size and mtime alone: that id or a new one, by what was
    known of the content. Any other new path: an id that was never seen. A pass that did not see the
    whole root may take a renamed file for another."""
    gone: dict[tuple[int, ...], list[Known]] = defaultdict(list)
    for path, item in before.items():
        if path not in after:
            gone[_identity(item.seen)].append(item)
    come: dict[tuple[int, ...], list[bytes]] = defaultdict(list)
    for path, item in after.items():
        if path not in before:
            come[_identity(item.seen)].append(path)
    used = set(ever)
    for path, item in after.items():
        if path in before:
            assert item.file_id == before[path].file_id, f"{path!r} has another id"
            continue
        candidates = gone[_identity(item.seen)]
        allowed = {each.file_id for each in candidates}
        alike = [each for each in candidates if each.seen.checksum == item.seen.checksum]
        if (
            seen_whole
            and len(alike) == len(candidates) == 1
            and len(come[_identity(item.seen)]) == 1
        ):
            assert item.file_id in allowed, f"{path!r} was renamed and lost its id"
        else:
            assert item.file_id in allowed or item.file_id not in used, f"{path!r} took an id"


def _identity(seen: Seen) -> tuple[int, ...]:
    return seen.kind, seen.inode, seen.size, seen.mtime_ns
