"""Random operations on trees, from a seed, as a process: `... SEED OPERATIONS OUTSIDE ROOT...`.

Every kind of change that a tree can see, over and over on few names, so that they meet. What fails
because another process was there first is passed over. Imports nothing of the project.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import sys
import time
from collections.abc import Callable

_FOLDERS = ["a", "b", "c", "a/x", "b/x", "c/x", "a/x/deep", "b/x/deep", "d"]
_NAMES = ["1", "2", "3", "4", "data.bin", "note.txt", "in\udcffvalid", "new\nline"]
_WHOLE_TREES = ["b/x", "c/x", "d", "c"]


class Meddler:
    """Meddles with `roots` and with `outside`, a folder that nobody watches."""

    def __init__(self, seed: int, roots: list[str], outside: str) -> None:
        self._random = random.Random(seed)
        self._roots = roots
        self._outside = outside
        self._serial = 0

    def run(self, operations: int) -> None:
        """So many operations, now and then a short rest."""
        kinds: list[Callable[[], None]] = [
            *[self.create] * 6,
            *[self.append] * 4,
            self.truncate,
            *[self.save] * 4,
            *[self.rename] * 5,
            self.rename_folder,
            self.move_out_and_in,
            self.link,
            self.chmod,
            self.make_tree,
            self.remove_tree,
            self.swap,
            self.store,
            self.symlink,
            *[self.remove] * 3,
            self.restore_time,
        ]
        for _ in range(operations):
            kind = self._random.choice(kinds)
            try:
                kind()
            except (OSError, ValueError):
                pass  # gone, in the way, or too short to be mapped
            if self._random.random() < 0.03:
                time.sleep(self._random.random() * 0.05)

    def _content(self) -> bytes:
        self._serial += 1
        return b"%d %d " % (os.getpid(), self._serial) * self._random.randint(1, 60)

    def _folder(self) -> str:
        folder = os.path.join(self._random.choice(self._roots), self._random.choice(_FOLDERS))
        if self._random.random() < 0.5:
            os.makedirs(folder, exist_ok=True)
        return folder

    def _path(self) -> str:
        return os.path.join(self._folder(), self._random.choice(_NAMES))

    def create(self) -> None:
        with open(self._path(), "wb") as file:
            file.write(self._content())

    def append(self) -> None:
        with open(self._path(), "ab") as file:
            file.write(self._content())

    def truncate(self) -> None:
        os.truncate(self._path(), self._random.randint(0, 100))

    def save(self) -> None:
        path = self._path()
        with open(f"{path}.{os.getpid()}.tmp", "wb") as file:
            file.write(self._content())
        os.replace(file.name, path)

    def rename(self) -> None:
        os.rename(self._path(), self._path())

    def rename_folder(self) -> None:
        os.rename(self._folder(), self._folder() + self._random.choice(["", "-moved", "/into"]))

    def move_out_and_in(self) -> None:
        outside = os.path.join(self._outside, str(self._random.randint(0, 3)))
        if os.path.lexists(outside):
            os.rename(outside, self._folder())
        else:
            os.rename(self._folder(), outside)
            if self._random.random() < 0.5:
                with open(os.path.join(outside, "from outside"), "wb") as file:
                    file.write(self._content())

    def link(self) -> None:
        os.link(self._path(), self._path())

    def symlink(self) -> None:
        os.symlink(self._random.choice(_NAMES), self._path())

    def chmod(self) -> None:
        os.chmod(self._path(), self._random.choice([0o600, 0o644, 0o444]))

    def make_tree(self) -> None:
        top = os.path.join(self._random.choice(self._roots), self._random.choice(_WHOLE_TREES))
        for number in range(self._random.randint(1, 5)):
            folder = os.path.join(top, f"t{number}/u/v")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, "leaf"), "wb") as file:
                file.write(self._content())

    def remove_tree(self) -> None:
        top = os.path.join(self._random.choice(self._roots), self._random.choice(_WHOLE_TREES))
        shutil.rmtree(top, ignore_errors=True)

    def swap(self) -> None:
        one, other = self._path(), self._path()
        aside = os.path.join(self._outside, f"aside-{os.getpid()}")
        os.rename(one, aside)
        os.rename(other, one)
        os.rename(aside, other)

    def store(self) -> None:
        with open(self._path(), "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[self._random.randrange(len(view))] = self._random.randrange(256)

    def remove(self) -> None:
        os.unlink(self._path())

    def restore_time(self) -> None:
        path = self._path()
        before = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"#")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


if __name__ == "__main__":
    Meddler(int(sys.argv[1]), sys.argv[4:], sys.argv[3]).run(int(sys.argv[2]))
