"""Purging: only what is past its grace and still what was taken; erased where that was asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.config import Settings
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.testing.fileops import RecordingFileOps

_LATER = 40 * NS_PER_DAY


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        path = tmp_path / "root" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * 5000)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return tmp_path


def _engine(base: Path, fs: FileOps | None = None) -> Engine:
    settings = Settings(
        database_path=base / "registry.db",
        local_storage_path=None,
        backup_path=base / "vault",
        archive_path=base / "archive",
    )
    return Engine.open(settings, fs=fs)


def _files(engine: Engine) -> list[ActFile]:
    (repository,) = engine.roots.all()
    return engine.registry.files_under(repository.repository_id, b"", None, 100)


def _in_trash(base: Path) -> list[Path]:
    trash = base / "root" / ".lifecycle" / "trash"
    return [path for path in trash.rglob("*") if path.is_file() and path.name != "batch.jsonl"]


def test_nothing_goes_before_its_grace_has_ended(base: Path):
    with _engine(base) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        engine.acts.delete(repository, _files(engine))
        report = engine.acts.purge(repository, now_ns=engine.now_ns() + 29 * NS_PER_DAY)
        assert report.completed == 0
        assert len(_in_trash(base)) == 3
        assert engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER).completed == 3
        assert _in_trash(base) == []


def test_every_batch_is_looked_at_though_the_first_must_stay(base: Path):
    with _engine(base) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        for file in _files(engine):
            engine.acts.delete(repository, [file])
        first = min(_in_trash(base), key=lambda path: path.parent.name)
        first.write_bytes(b"a late writer")
        report = engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER)
        assert (report.completed, report.skipped) == (2, 1)
        assert _in_trash(base) == [first]


def test_erased_files_are_overwritten_and_synced_before_they_are_unlinked(base: Path):
    fs = RecordingFileOps(FileOps())
    with _engine(base, fs) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        engine.acts.delete(repository, _files(engine)[:1])
        fs.calls.clear()
        report = engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER, erase=True)
        assert report.completed == 1
        writes = [
            number
            for number, call in enumerate(fs.calls)
            if call.method == "write_at" and "trash" in call.arguments["fd"]
        ]
        unlinks = [
            number
            for number, call in enumerate(fs.calls)
            if call.method == "unlink" and call.arguments["name"] == "0"
        ]
        assert writes and unlinks
        between = fs.methods[writes[-1] : unlinks[0]]
        assert "fsync" in between
        assert any("snapshots" in limit for limit in engine.acts.erase_limits(repository))


def test_a_file_with_several_links_is_not_erased_and_stays(base: Path):
    os.link(base / "root" / "a", base / "elsewhere")
    with _engine(base) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        engine.acts.delete(repository, [it for it in _files(engine) if it.path == b"a"])
        report = engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER, erase=True)
        assert (report.completed, report.skipped) == (0, 1)
        assert "hard links" in report.done[0].reason
        assert (base / "elsewhere").read_bytes() == b"a" * 5000
