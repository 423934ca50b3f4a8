"""A root in a test's own folder with an engine on it, and short words for what tests do there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from lifecycle_sync.clock import Clock, FixedClock
from lifecycle_sync.config import Settings
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import FileRecord
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from tests.support import oracle
from tests.support.tripwire import RegistryTripwire

# A little over the margin within which an equal tuple proves nothing.
GRAIN_SECONDS = 0.025


def settings_in(base: Path, **changes: Any) -> Settings:
    """Settings whose places all lie in one folder."""
    given = {
        "database_path": base / "registry.db",
        "local_storage_path": None,
        "archive_path": base / "archive",
        "backup_path": base / "vault",
    }
    return Settings(**{**given, **changes})


class House:
    """One root, `root`, and one engine. Paths are relative to the root, `str` or bytes."""

    def __init__(
        self,
        base: Path,
        *,
        fs: FileOps | None = None,
        clock: Clock | None = None,
        root: Path | None = None,
        **settings: Any,
    ) -> None:
        self.base = base
        self.root = root or base / "root"
        self.root.mkdir(exist_ok=True)
        self.settings = settings_in(base, **settings)
        self.engine = Engine.open(self.settings, fs=fs, clock=clock)
        self._clock = clock

    def reopen(
        self, *, fs: FileOps | None = None, clock: Clock | None = None, **settings: Any
    ) -> None:
        """The same registry in a new engine, perhaps with other settings or file operations."""
        self.engine.close()
        self.settings = settings_in(self.base, **settings) if settings else self.settings
        self.engine = Engine.open(self.settings, fs=fs, clock=clock or self._clock)

    def wire_registry(self) -> RegistryTripwire:
        """Put a tripwire between the engine and its registry."""
        wire = RegistryTripwire(self.engine.registry)
        self.engine = Engine(cast(SqliteRegistry, wire), self.settings, clock=self._clock)
        return wire

    # -- the tree --------------------------------------------------------------------------

    def path(self, path: str | bytes) -> bytes:
        return os.path.join(os.fsencode(self.root), os.fsencode(path))

    def write(self, path: str | bytes, content: bytes | str = b"content") -> bytes:
        """Make or overwrite a file in place, with the folders above it."""
        where = self.path(path)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return where

    def save(self, path: str | bytes, content: bytes | str) -> None:
        """As editors save: a new file that is renamed over the old one."""
        temporary = self.write(os.fsencode(path) + b".tmp", content)
        os.replace(temporary, self.path(path))

    def rename(self, old: str | bytes, new: str | bytes) -> None:
        os.makedirs(os.path.dirname(self.path(new)), exist_ok=True)
        os.rename(self.path(old), self.path(new))

    def remove(self, path: str | bytes) -> None:
        os.remove(self.path(path))

    def keep_times(self, path: str | bytes, before: os.stat_result) -> None:
        os.utime(self.path(path), ns=(before.st_atime_ns, before.st_mtime_ns))

    def stat(self, path: str | bytes) -> os.stat_result:
        return os.lstat(self.path(path))

    # -- the registry ----------------------------------------------------------------------

    @property
    def repository(self) -> Repository:
        return self.engine.roots.get(self.root)

    def add(self, **options: Any) -> Repository:
        return self.engine.add_root(self.root, **options).repository

    def pass_over(self, **options: Any) -> SyncReport:
        """One pass, whatever comes of it; the root is added by the first."""
        (report,) = self.engine.sync([self.add()], **options)
        return report

    def sync(self, *, wait: bool = True, **options: Any) -> SyncReport:
        """One pass that must go through, once nothing in the tree is fresh any more."""
        if wait:
            time.sleep(GRAIN_SECONDS)
        report = self.pass_over(**options)
        assert report.error is None, report.error
        assert report.verdict is None, report.verdict
        assert report.scanned
        return report

    def records(self) -> dict[bytes, FileRecord]:
        return oracle.records(self.engine, self.repository)

    def record(self, path: str | bytes) -> FileRecord:
        """The live tracked record at a path."""
        return self.records()[os.fsencode(path)]

    def ids(self) -> dict[bytes, bytes]:
        return {path: record.file_id for path, record in self.records().items()}

    def by_id(self, file_id: bytes) -> FileRecord:
        record = self.engine.registry.file(file_id)
        assert record is not None
        return record

    def check(self, **options: Any) -> None:
        """The registry equals the disk."""
        oracle.assert_equal_to_disk(self.engine, self.repository, **options)


@contextmanager
def backed_up(
    base: Path, clock: FixedClock, rounds: Iterable[Mapping[str, bytes]]
) -> Iterator[House]:
    """A house in which these files were written and backed up, one round an hour."""
    house = House(base, clock=clock)
    with closing(house.engine):
        house.add()
        for files in rounds:
            for path, content in files.items():
                house.write(path, content)
            clock.advance(3600)
            house.sync()
            house.engine.acts.back_up(house.repository)
        yield house
