"""Acts under a clock that is wrong: what they keep is ordered by what happened, not by the time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lifecycle_sync.clock import NS_PER_DAY, FixedClock, SystemClock
from lifecycle_sync.config import Settings
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.rebuild import rebuild
from lifecycle_sync.vault.vault import VaultKind

_YEAR_NS = 365 * NS_PER_DAY


def _settings(base: Path) -> Settings:
    return Settings(
        database_path=base / "state" / "registry.db",
        local_storage_path=None,
        backup_path=base / "vault",
        archive_path=base / "archive",
    )


def _back_up(base: Path, content: str, *, shift_ns: int) -> None:
    path = base / "root" / "a"
    path.write_text(content)
    os.utime(path, (1_600_000_000, 1_600_000_000 + len(content)))
    clock = FixedClock(SystemClock().now_ns() + shift_ns)
    with Engine.open(_settings(base), clock=clock) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        assert engine.acts.back_up(repository).completed == 1


def _versions(base: Path) -> list[bytes]:
    """Contents of the versions of the file, by number."""
    with Engine.open(_settings(base)) as engine:
        record = engine.find_record(os.fspath(base / "root" / "a"))
        vault = engine.vaults.get(VaultKind.BACKUP)
        events = sorted(vault.versions_of(record.file_id), key=lambda event: event.number)
        numbers = [row.number for row in engine.registry.versions(record.file_id)]
        assert sorted(numbers) == [event.number for event in events]
        return [vault.read_small(event.content) for event in events if event.content]


def test_versions_keep_their_order_whatever_the_clock_says(tmp_path: Path):
    (tmp_path / "root").mkdir()
    _back_up(tmp_path, "first", shift_ns=0)
    _back_up(tmp_path, "second, a year ahead", shift_ns=_YEAR_NS)
    _back_up(tmp_path, "third, a year behind!", shift_ns=-_YEAR_NS)
    wanted = [b"first", b"second, a year ahead", b"third, a year behind!"]
    assert _versions(tmp_path) == wanted
    shutil.rmtree(tmp_path / "state")
    rebuild(_settings(tmp_path))
    assert _versions(tmp_path) == wanted
