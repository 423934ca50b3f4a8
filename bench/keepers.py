"""Programs that keep copies of a tree, ours and its peers, each behind the same face.

A keeper has a place of its own in the run. `fresh` makes an empty vault or repository there, which
nobody times; what is timed checks its result before it counts, by what the program says and by
looking. Passwords and caches are the run's own, too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeVar

from bench.lab import Grown, copy_registry
from bench.measure import FailedError, Sample, ours, program, settle, warm
from bench.sameness import PRIVATE, check_copy, names_below, size_of
from bench.trees import need_room
from lifecycle_sync.vault.age import generate

PROGRAMS = ("restic", "borg")
_VERSION_WORDS = 2
# So many files at least are deleted with the run, and not before the next measurement.
_MANY_FILES = 1_000

_K = TypeVar("_K", bound="Keeper")


def version_of(name: str) -> str:
    """A program as it names itself; empty where it is not installed."""
    if shutil.which(name) is None:
        return ""
    flag = "version" if name == "restic" else "--version"
    done = subprocess.run([name, flag], check=False, capture_output=True, text=True)
    return " ".join(done.stdout.split()[:_VERSION_WORDS])


class Keeper(ABC):
    """One program with one vault or repository of one tree."""

    name: str
    label: str

    def __init__(self, grown: Grown) -> None:
        self.grown = grown
        self.place = grown.place / "keep" / self.name.replace(" ", "")
        self.backups: list[Sample] = []
        self.restores: list[Sample] = []

    @property
    def tree(self) -> Path:
        return self.grown.tree.path

    @property
    def files(self) -> int:
        return self.grown.tree.files

    # -- what is done ----------------------------------------------------------------------

    def fresh(self) -> None:
        """An empty vault or repository in place of the one that is there."""
        shutil.rmtree(self.place, ignore_errors=True)
        need_room(self.grown.place, self.grown.tree.bytes + self.files * 1000 + (1 << 26))
        self.place.mkdir(parents=True)
        self.backups.clear()
        self._make()
        settle(self.grown.place)

    def back_up(self) -> Sample:
        """A backup of the whole tree into the fresh place; the same again, and nothing is new."""
        warm(self.tree)
        sample = self._back_up(first=not self.backups)
        if not self.backups:
            self._check()
        self.backups.append(sample)
        settle(self.grown.place)
        return sample

    def ready(self) -> None:
        """Have a backup, whoever made it."""
        if not self.backups:
            self.fresh()
            self.back_up()

    def restore(self) -> Sample:
        """Everything into an empty folder, which goes again; of many files with the run."""
        self.ready()
        place = self.grown.place
        need_room(place, self.grown.tree.bytes + self.files * 4096 + (1 << 26))
        target = place / f"restored-{len(list(place.glob('restored-*')))}"
        target.mkdir()
        settle(place)
        try:
            sample, copy = self._restore(target)
            check_copy(self.tree, copy, self.files)
        finally:
            # ext4 passes over the numbers of files that were deleted some minutes ago for each
            # file that is made: 100,000 of them make the next restore three times as long.
            if self.files < _MANY_FILES:
                shutil.rmtree(target)
            settle(place)
        self.restores.append(sample)
        return sample

    @abstractmethod
    def size(self) -> int:
        """Bytes of the vault or repository."""

    # -- what a program has to know --------------------------------------------------------

    @abstractmethod
    def _make(self) -> None: ...

    @abstractmethod
    def _back_up(self, *, first: bool) -> Sample: ...

    @abstractmethod
    def _check(self) -> None: ...

    @abstractmethod
    def _restore(self, target: Path) -> tuple[Sample, Path]: ...

    def _demand(self, right: bool, told: object) -> None:
        if not right:
            raise FailedError(f"{self.name} did not keep {self.files} files: {told}")


class Ours(Keeper):
    """A vault, through the engine."""

    name = "ours"
    label = "ours"
    profile = ""  # the action that is to be profiled

    @property
    def vault(self) -> Path:
        return self.place / "vault"

    @property
    def _arguments(self) -> dict[str, Any]:
        return self.grown.arguments(self.place / "registry.db")

    def _make(self) -> None:
        copy_registry(self.grown.empty(), self.place / "registry.db")

    def _back_up(self, *, first: bool) -> Sample:
        sample = ours("backup", profile=self.profile == "backup", **self._arguments)
        self._demand(sample.data["completed"] == (self.files if first else 0), sample.data)
        return sample

    def _check(self) -> None:
        found = ours("inspect", **self._arguments).data
        self._demand(found["versions"] == self.files and found["compared"] > 0, found)

    def _restore(self, target: Path) -> tuple[Sample, Path]:
        sample = ours(
            "restore", profile=self.profile == "restore", target=str(target), **self._arguments
        )
        self._demand(sample.data["completed"] == self.files, sample.data)
        return sample, target / self.tree.name

    def verify(self, *, contents: bool = False) -> Sample:
        """Every byte of the vault read and compared; with `contents` unpacked, too."""
        self.ready()
        profile = self.profile == "verify"
        sample = ours("verify", profile=profile, contents=contents, **self._arguments)
        self._demand(sample.data["versions"] == self.files, sample.data)
        return sample

    def size(self) -> int:
        return size_of(self.vault)


class Encrypted(Ours):
    """The same, encrypted; the key is used to restore alone."""

    name = "ours, encrypted"

    @property
    def _key(self) -> Path:
        return self.place / "key"

    @property
    def _arguments(self) -> dict[str, Any]:
        public = (self.place / "key.public").read_text()
        return super()._arguments | {"recipients": [public], "identity": str(self._key)}

    def _make(self) -> None:
        super()._make()
        public, text = generate()
        self._key.write_text(text)
        self._key.chmod(0o600)
        (self.place / "key.public").write_text(public)


class _Peer(Keeper):
    program: str

    @property
    def repository(self) -> Path:
        return self.place / "repository"

    @property
    @abstractmethod
    def _environment(self) -> dict[str, str]: ...

    def _run(self, *argv: str, directory: Path | None = None) -> tuple[Sample, bytes]:
        return program(
            [self.program, *argv],
            environment=self._environment,
            directory=directory or self.place,
        )

    def _check(self) -> None:
        first = self.tree / min(names_below(self.tree))
        _, content = self._dump(first)
        self._demand(content == first.read_bytes(), first)

    @abstractmethod
    def _dump(self, path: Path) -> tuple[Sample, bytes]: ...

    def size(self) -> int:
        return size_of(self.repository)


class Restic(_Peer):
    """With a cache, as it comes."""

    name = "restic"
    label = "restic"
    program = "restic"
    options: tuple[str, ...] = ()

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self.place / "cache"),
            # Its progress goes to where we read the summary.
            "RESTIC_PROGRESS_FPS": "0.001",
        }

    def _make(self) -> None:
        self._run("init", "--quiet", "--repository-version", "2", *self.options)

    def _back_up(self, *, first: bool) -> Sample:
        argv = ("backup", "--json", "--exclude", PRIVATE, *self.options, str(self.tree))
        sample, told = self._run(*argv)
        summary = json.loads(told.splitlines()[-1])
        counted = summary["files_new" if first else "files_unmodified"]
        right = counted == summary["total_files_processed"] == self.files
        self._demand(right, summary)
        return sample

    def _dump(self, path: Path) -> tuple[Sample, bytes]:
        return self._run("dump", "--quiet", *self.options, "latest", str(path))

    def _restore(self, target: Path) -> tuple[Sample, Path]:
        argv = ("restore", "--quiet", *self.options, "latest", "--target", str(target))
        sample, _ = self._run(*argv)
        return sample, target / self.tree.relative_to("/")

    def opening(self) -> Sample:
        """What every command of it begins with: the key is made of the password."""
        sample, _ = self._run("cat", "config", "--quiet", *self.options)
        return sample


class ResticUncached(Restic):
    name = "restic --no-cache"
    label = "restic --no-cache"
    options = ("--no-cache",)


class Borg(_Peer):
    """Unencrypted, with the compression that ours has."""

    name = "borg"
    label = "borg -e none -C zstd"
    program = "borg"

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "BORG_REPO": str(self.repository),
            "BORG_BASE_DIR": str(self.place / "home"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def _make(self) -> None:
        self._run("init", "--encryption", "none")

    def _back_up(self, *, first: bool) -> Sample:
        archive = f"::{len(self.backups)}"
        argv = ("create", "--compression", "zstd", "--json", "--exclude", f"*/{PRIVATE}")
        sample, told = self._run(*argv, archive, str(self.tree))
        stats = json.loads(told)["archive"]["stats"]
        # It does not say what was new; of what was not, its list of files is all it adds.
        right = stats["nfiles"] == self.files
        right = right and (first or stats["deduplicated_size"] < self.backups[0].data["added"])
        self._demand(right, stats)
        return Sample(sample.whole, sample.cpu, {"added": stats["deduplicated_size"]})

    def _dump(self, path: Path) -> tuple[Sample, bytes]:
        return self._run("extract", "--stdout", "::0", str(path.relative_to("/")))

    def _restore(self, target: Path) -> tuple[Sample, Path]:
        sample, _ = self._run("extract", "::0", directory=target)
        return sample, target / self.tree.relative_to("/")


def of(grown: Grown, kind: type[_K]) -> _K:
    """The keeper of that kind for a tree: one in a run, so that what one row made others use."""
    if kind.name not in grown.keepers:
        grown.keepers[kind.name] = kind(grown)
    found = grown.keepers[kind.name]
    assert isinstance(found, kind)
    return found


def peers(grown: Grown, *kinds: type[_Peer]) -> list[_Peer]:
    """Those of the peers that are installed."""
    return [of(grown, kind) for kind in kinds if shutil.which(kind.program) is not None]
