"""Seeded trees of files: made once in the scratch place, continued if interrupted, then kept.

Every directory has its own generator, so a tree is the same however often its making was cut off.
Beside a tree stands its stamp: the seed, the shape and how far it has come; another shape makes
another tree.
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

SEED = 7
FILES_PER_DIRECTORY = 50
DIRECTORIES_PER_TOP = 200
_VERSION = 1
_LARGE_VERSION = 2
_BLOB_BYTES = 1 << 20
_STAMP_EVERY = 1000
# 2021-01-01; the dates of directories are spread over the four years from then.
FIRST_NS = 1_609_459_200 * 10**9
SPAN_NS = 4 * 365 * 86_400 * 10**9
_DAY_NS = 86_400 * 10**9
# No sound: a question for it finds nothing.
_SUFFIXES = [b"txt"] * 50 + [b"jpg"] * 20 + [b"pdf"] * 10 + [b"log"] * 8
_SUFFIXES += [b"py"] * 5 + [b"json"] * 4 + [b"zip"] * 2 + [b"mp4"]
# One in so many files is of 64 to 256 KiB, one in so many has another file's content.
_BIG_EVERY = 5000
_COPY_EVERY = 50
_GROUPS = 400


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree that is there: `files` of `bytes` in all, in `directories` of their own."""

    path: Path
    files: int
    directories: int
    bytes: int


class NoRoomError(Exception):
    """The scratch place has too little room."""


def small_files(scratch: Path, files: int) -> Tree:
    """`files` of about 700 bytes, 50 a directory."""
    directories = -(-files // FILES_PER_DIRECTORY)
    shape = {
        "version": _VERSION,
        "seed": SEED,
        "kind": "small",
        "files": files,
        "per_directory": FILES_PER_DIRECTORY,
    }
    need_room(scratch, files * 5000 + (1 << 26))
    stamp = _Stamp(scratch / f"small-{files}", shape)
    if not stamp.complete:
        blob = random.Random(SEED).randbytes(_BLOB_BYTES)
        for number in range(stamp.done, directories):
            if number % _STAMP_EVERY == 0:
                stamp.save(number)
                _tell(f"making {stamp.tree}: {number * FILES_PER_DIRECTORY:,} of {files:,} files")
            first = number * FILES_PER_DIRECTORY
            count = min(FILES_PER_DIRECTORY, files - first)
            stamp.bytes += _fill(stamp.tree, number, first, count, blob)
        stamp.finish(directories)
    return Tree(stamp.tree, files, directories, stamp.bytes)


def large_files(scratch: Path, count: int, mebibytes: int) -> Tree:
    """`count` files of `mebibytes` MiB each, in one directory; no part of them like another, or who
    looks for parts that are alike would have next to nothing to keep."""
    shape = {
        "version": _LARGE_VERSION,
        "seed": SEED,
        "kind": "large",
        "files": count,
        "mebibytes": mebibytes,
    }
    size = mebibytes << 20
    need_room(scratch, count * size + (1 << 26))
    stamp = _Stamp(scratch / f"large-{count}x{mebibytes}", shape)
    if not stamp.complete:
        stamp.tree.mkdir(parents=True, exist_ok=True)
        for number in range(stamp.done, count):
            stamp.save(number)
            _tell(f"making {stamp.tree}: {number} of {count} files")
            with open(stamp.tree / f"large_{number:02d}.bin", "wb") as file:
                chance = random.Random(f"{SEED}/large/{number}")
                file.writelines(chance.randbytes(_BLOB_BYTES) for _ in range(mebibytes))
            stamp.bytes += size
        stamp.finish(count)
    return Tree(stamp.tree, count, 1, stamp.bytes)


def directory_path(number: int) -> bytes:
    """Of the directory with that number, relative to its tree."""
    top, rest = divmod(number, DIRECTORIES_PER_TOP)
    return b"%03d/%03d" % (top, rest)


def _fill(tree: Path, number: int, first: int, count: int, blob: bytes) -> int:
    """Make a directory with its files; the bytes in them."""
    chance = random.Random(f"{SEED}/{number}")
    # Files of one directory were mostly made on one day.
    day_ns = FIRST_NS + chance.randrange(SPAN_NS)
    path = os.path.join(os.fsencode(tree), directory_path(number))
    os.makedirs(path, exist_ok=True)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    total = 0
    try:
        for index in range(first, first + count):
            content = _content(chance, index, blob)
            name = b"file_%07d.%b" % (index, chance.choice(_SUFFIXES))
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory)
            try:
                os.write(fd, content)
                made_ns = day_ns + chance.randrange(_DAY_NS)
                os.utime(fd, ns=(made_ns, made_ns))
            finally:
                os.close(fd)
            total += len(content)
    finally:
        os.close(directory)
    return total


def _content(chance: random.Random, index: int, blob: bytes) -> bytes:
    if index % _BIG_EVERY == _BIG_EVERY - 1:
        size = chance.randrange(64 << 10, 256 << 10)
        return index.to_bytes(8, "big") + blob[: size - 8]
    if index % _COPY_EVERY == _COPY_EVERY - 1:
        group = chance.randrange(_GROUPS)
        return group.to_bytes(8, "little") + blob[group : group + 400 + group]
    size, offset = chance.randrange(400, 1000), chance.randrange(_BLOB_BYTES - 1000)
    return index.to_bytes(8, "big") + blob[offset : offset + size - 8]


class _Stamp:
    """How far a tree has come, in a file beside it."""

    def __init__(self, tree: Path, shape: dict[str, object]) -> None:
        self.tree = tree
        self._path = tree.with_suffix(".json")
        self._shape = shape
        self.done, self.bytes, self.complete = 0, 0, False
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return
        if found.get("shape") == shape and tree.is_dir():
            self.done, self.bytes = int(found["done"]), int(found["bytes"])
            self.complete = bool(found["complete"])

    def save(self, done: int, *, complete: bool = False) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = {"shape": self._shape, "done": done, "bytes": self.bytes, "complete": complete}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(text, indent=2) + "\n")
        os.replace(temporary, self._path)

    def finish(self, done: int) -> None:
        # What is still to be written back would be measured with the first benchmark.
        os.sync()
        self.save(done, complete=True)
        _tell(f"made {self.tree}")


def need_room(scratch: Path, size: int) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    room = os.statvfs(scratch)
    if room.f_bavail * room.f_frsize < size:
        raise NoRoomError(
            f"{scratch}: {room.f_bavail * room.f_frsize >> 20} MiB free, {size >> 20} MiB needed"
            " (choose another place with --scratch)"
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def shape_of(tree: Tree) -> dict[str, object]:
    """The tree as the JSON report names it."""
    return asdict(tree) | {"path": str(tree.path)}
