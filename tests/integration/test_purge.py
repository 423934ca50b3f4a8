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


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [Path.unlink, _flip])
def test_an_archived_file_stays_in_the_trash_when_the_archive_has_no_whole_copy(base: Path, harm):
    (base / "root" / "a").write_bytes(os.urandom(1_200_000))
    with _engine(base) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        engine.acts.archive(repository, _files(engine))
        lost = 0
        for path in (base / "archive" / "objects").rglob("*.zst"):
            harm(path)
            lost += 1
        assert lost
        report = engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER)
        assert (report.completed, report.skipped) == (2, 1)
        assert "the archive has no whole copy of it" in report.done[0].reason
        assert [path.stat().st_size for path in _in_trash(base)] == [1_200_000]


def test_archived_bytes_that_changed_under_the_same_size_and_time_stay(base: Path):
    with _engine(base) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        engine.acts.archive(repository, _files(engine))
        changed = min(_in_trash(base))
        before = changed.stat()
        changed.write_bytes(b"x" * before.st_size)
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
        report = engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER)
        assert (report.completed, report.skipped) == (2, 1)
        assert "its content is not what it was taken for" in report.done[0].reason
        assert _in_trash(base) == [changed]


def test_archived_files_stay_in_the_trash_while_the_archive_is_not_mounted(base: Path):
    (base / "root" / "link").symlink_to("a")
    with _engine(base) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        engine.acts.archive(repository, _files(engine))
    (base / "archive").rename(base / "unplugged")
    with _engine(base) as engine:
        report = engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER)
        assert (report.completed, report.skipped) == (0, 4)
        assert "the archive cannot be read" in report.done[0].reason
        (base / "unplugged").rename(base / "archive")
        assert engine.acts.purge(repository, now_ns=engine.now_ns() + _LATER).completed == 4


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


def test_an_act_ends_when_what_it_took_is_durable_in_the_trash(base: Path):
    fs = RecordingFileOps(FileOps())
    with _engine(base, fs) as engine:
        repository = engine.add_root(base / "root").repository
        engine.sync()
        for act in (engine.acts.delete, engine.acts.archive):
            (file, *_) = _files(engine)
            fs.calls.clear()
            assert act(repository, [file]).completed == 1
            calls = [it for it in map(str, fs.calls) if "/trash/" in it]
            last = max(n for n, it in enumerate(calls) if it.startswith("rename_noreplace"))
            assert any(it.startswith("syncfs") for it in calls[last:]), calls[last:]
