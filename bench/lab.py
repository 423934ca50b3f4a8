"""The place where one run measures: its trees, its registries, and what is made of them only once.

Registries are made in a directory of the run's own, which goes with it; one that a killed run left
is removed by the next. A fresh registry is a copy of one that knows the root and no file, so that
all of them carry the id that the root's marker names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import trees
from bench.measure import ChildrenMemory, Sample, ours

_SUFFIXES = ("", "-wal", "-shm", ".lock")
# As many workers as the peer has processes (`xargs -P2`).
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Built:
    """How an index with all hashes came to be: the process and the peaks of its children."""

    sample: Sample
    children: list[int]


@dataclass
class Options:
    """What a run was asked for."""

    scratch: Path
    files: int
    repeat: int = 5
    hash_files: int = 100_000
    act_files: int = 100_000
    large_count: int = 8
    large_mebibytes: int = 256
    page: int = 100
    questions: int = 30
    profile: bool = False


@dataclass
class Grown:
    """A tree with the registries that have been made of it."""

    tree: trees.Tree
    place: Path
    states: dict[str, Path] = field(default_factory=dict)
    keepers: dict[str, Any] = field(default_factory=dict)  # see `bench.keepers.of`

    def arguments(self, database: Path | None = None) -> dict[str, Any]:
        """What every action on this tree is told."""
        common = {"root": str(self.tree.path), "files": self.tree.files, "workers": WORKERS}
        return common if database is None else common | {"database": str(database)}

    def empty(self) -> Path:
        """A registry that knows the root and no file."""
        return self._state("empty")

    def indexed(self) -> Path:
        """A registry of all files, none of them hashed."""
        return self._state("indexed")

    def _state(self, name: str) -> Path:
        if name not in self.states:
            self.place.mkdir(parents=True, exist_ok=True)
            path = self.place / f"{name}.db"
            if name == "empty":
                ours("add", **self.arguments(path))
            else:
                copy_registry(self.empty(), path)
                ours("sync", hashes=False, **self.arguments(path))
            self.states[name] = path
        return self.states[name]

    @cached_property
    def built(self) -> Built:
        """Index and hash everything once; the registry is `hashed`."""
        path = self.place / "hashed.db"
        copy_registry(self.empty(), path)
        memory = ChildrenMemory()
        sample = ours("sync", watch=memory, hashes=True, **self.arguments(path))
        return Built(sample, memory.most())

    def hashed(self) -> Path:
        """A registry of all files with their hashes."""
        assert self.built is not None
        return self.place / "hashed.db"

    @contextmanager
    def copy(self, source: Path) -> Iterator[Path]:
        """A copy of a registry, for one measurement."""
        path = self.place / "copy.db"
        copy_registry(source, path)
        try:
            yield path
        finally:
            remove_registry(path)

    def close(self) -> None:
        """Take the marker out of the tree."""
        if "empty" in self.states:
            ours("remove", **self.arguments(self.states["empty"]))


class Lab:
    """One run; a context manager that leaves only the trees."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._place = options.scratch / f"run-{os.getpid()}"
        self._grown: dict[str, Grown] = {}

    def __enter__(self) -> Lab:
        self.options.scratch.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(self.options.scratch)
        self._place.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for grown in self._grown.values():
                    grown.close()
        finally:
            shutil.rmtree(self._place, ignore_errors=True)

    def files(self) -> Grown:
        """All files asked for."""
        return self._tree(f"small-{self.options.files}")

    def files_to_hash(self) -> Grown:
        """The small files that are hashed against `sha256sum`."""
        return self._tree(f"small-{min(self.options.files, self.options.hash_files)}")

    def files_to_act_on(self) -> Grown:
        """The small files that are backed up, restored and deleted beside the peers."""
        return self._tree(f"small-{min(self.options.files, self.options.act_files)}")

    def files_to_prune(self) -> Grown:
        """Small files of which two versions each are as many as files are acted on elsewhere: the
        budget is one of versions."""
        return self._tree(f"small-{min(self.options.files, self.options.act_files) // 2}")

    def large(self) -> Grown:
        """The large files."""
        return self._tree("large")

    def _tree(self, name: str) -> Grown:
        if name not in self._grown:
            options = self.options
            if name == "large":
                tree = trees.large_files(
                    options.scratch, options.large_count, options.large_mebibytes
                )
            else:
                tree = trees.small_files(options.scratch, int(name.partition("-")[2]))
            self._grown[name] = Grown(tree, self._place / name)
        return self._grown[name]


def copy_registry(source: Path, target: Path) -> None:
    """The closed registry `source` under another name, written back to the disk: what is still on
    its way there would be measured too."""
    remove_registry(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    log = source.with_name(source.name + "-wal")
    if log.exists() and log.stat().st_size:
        shutil.copyfile(log, target.with_name(target.name + "-wal"))
    shutil.copyfile(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def remove_registry(path: Path) -> None:
    """A registry with all that lies beside it."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    for suffix in (".locks", ".index"):
        shutil.rmtree(path.with_name(path.name + suffix), ignore_errors=True)


def _remove_leftovers(scratch: Path) -> None:
    for place in scratch.glob("run-*"):
        number = place.name.partition("-")[2]
        if number.isdigit() and not os.path.exists(f"/proc/{number}"):
            shutil.rmtree(place, ignore_errors=True)
