"""Whether a copy of a tree is one: every file there with its size and time, some of their bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from bench.measure import FailedError
from bench.trees import SEED

# What of the bytes is compared: so many files, and of a large one so many pieces.
_FILES = 200
_PIECES = 8
_PIECE_BYTES = 1 << 20
PRIVATE = ".lifecycle"


def check_copy(tree: Path, copy: Path, files: int) -> None:
    """Raises `FailedError` where `copy` is not the same as `tree`, as far as is looked."""
    names = sorted(names_below(tree))
    if len(names) != files or sorted(names_below(copy)) != names:
        raise FailedError(f"{copy} does not have the {files} files of {tree}")
    for name in names:
        one, other = (tree / name).stat(), (copy / name).stat()
        if (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns):
            raise FailedError(f"{copy / name} has another size or time than in {tree}")
    chance = random.Random(SEED)
    for name in chance.sample(names, min(_FILES, len(names))):
        if list(_pieces(tree / name)) != list(_pieces(copy / name)):
            raise FailedError(f"{copy / name} has other bytes than in {tree}")


def names_below(tree: Path) -> Iterator[str]:
    """The files of a tree, by their paths in it."""
    for folder, folders, names in os.walk(tree):
        if PRIVATE in folders:
            folders.remove(PRIVATE)
        below = os.path.relpath(folder, tree)
        yield from (os.path.join(below, name) for name in names)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(
        os.lstat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(folder)
        for name in names
    )


def read_all(tree: Path) -> None:
    """Read every file, so that the cache is warm for whoever comes first."""
    for folder, _, names in os.walk(tree):
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while file.read(_PIECE_BYTES):
                    pass


def _pieces(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    chance = random.Random(size)
    with open(path, "rb") as file:
        if size <= _PIECES * _PIECE_BYTES:
            yield file.read()
            return
        for _ in range(_PIECES):
            file.seek(chance.randrange(size - _PIECE_BYTES))
            yield file.read(_PIECE_BYTES)
