"""Files read ahead by another process come out as if they had been read by this one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.act.ahead import Ahead
from lifecycle_sync.config import Settings
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service import act_runs
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.vault.vault import VaultKind

_OLD = (1_600_000_000, 1_600_000_000)


def _fill(root: Path) -> None:
    for number in range(900):
        path = root / f"{number % 7}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number}".encode() * (number % 50))
        path.chmod(0o600 | number % 8)
    (root / "large").write_bytes(os.urandom(200_000))
    (root / "0" / "link").symlink_to("0.txt")
    os.link(root / "0" / "7.txt", root / "0" / "other name")
    with open(root / "sparse", "wb") as file:
        file.truncate(60_000)
    (root / os.fsdecode(b"odd \xff\n")).write_bytes(b"odd")
    os.setxattr(root / "0" / "14.txt", "user.note", b"kept")
    for path in root.rglob("*"):
        os.utime(path, _OLD, follow_symlinks=False)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    _fill(tmp_path / "root")
    return tmp_path


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act_runs, "_MANY_FILES", 10)


def _engine(base: Path, name: str, **settings: Any) -> Engine:
    return Engine.open(
        Settings(
            database_path=base / name / "registry.db",
            local_storage_path=None,
            backup_path=base / name / "vault",
            archive_path=base / name / "archive",
            **settings,
        )
    )


def _root(engine: Engine, base: Path) -> Repository:
    repository = engine.add_root(base / "root", adopt=True).repository
    engine.sync(hashes=False)
    return repository


def _kept(engine: Engine, repository: Repository) -> dict[bytes, Any]:
    vault = engine.vaults.get(VaultKind.BACKUP)
    assert vault.verify(contents=True).ok
    return {
        event.path: (
            event.content,
            # To read a symlink moves its atime.
            replace(event.metadata, atime_ns=0),
            vault.read_small(event.content) if event.content else None,
        )
        for event in vault.all_versions(repository.repository_id)
    }


def test_what_is_kept_is_the_same_with_and_without_it(base: Path, monkeypatch: pytest.MonkeyPatch):
    found = []
    answers: list[int] = []
    for name, least in (("alone", 10**9), ("ahead", 10)):
        monkeypatch.setattr(act_runs, "_MANY_FILES", least)
        told = Ahead.answer

        def answer(self: Ahead, told: Any = told) -> Any:
            given = told(self)
            answers.append(sum(item is not None for item in given))
            return given

        monkeypatch.setattr(Ahead, "answer", answer)
        with _engine(base, name) as engine:
            repository = _root(engine, base)
            assert engine.acts.back_up(repository).completed == 905
            found.append(_kept(engine, repository))
        monkeypatch.setattr(Ahead, "answer", told)
    # Most came from the other process, the odd ones did not.
    assert 850 < sum(answers) < 905
    assert found[0] == found[1]


@pytest.mark.usefixtures("many")
def test_with_one_worker_nothing_is_read_in_another_process(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    def answer(_: Ahead) -> Any:
        raise AssertionError("it was asked")

    monkeypatch.setattr(Ahead, "answer", answer)
    with _engine(base, "one", worker_threads=1) as engine:
        assert engine.acts.back_up(_root(engine, base)).completed == 905


@pytest.mark.usefixtures("many")
def test_a_file_that_changes_before_it_is_read_ahead_is_left_to_the_next_scan(base: Path):
    with _engine(base, "one") as engine:
        repository = _root(engine, base)
        (base / "root" / "3" / "3.txt").write_bytes(b"changed")
        report = engine.acts.back_up(repository)
        assert (report.completed, report.skipped) == (904, 1)
        assert report.done[0].path == b"3/3.txt"


def _reader_of(process: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lifecycle_sync.act.ahead_worker" in words and str(process).encode() in words:
            yield int(entry.name)


@pytest.mark.usefixtures("many")
def test_a_reader_that_is_killed_costs_time_and_nothing_else(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    told = Ahead.answer

    def answer(self: Ahead) -> Any:
        for process in _reader_of(os.getpid()):
            os.kill(process, signal.SIGKILL)
        return told(self)

    monkeypatch.setattr(Ahead, "answer", answer)
    with _engine(base, "one") as engine:
        repository = _root(engine, base)
        assert engine.acts.back_up(repository).completed == 905
        assert len(_kept(engine, repository)) == 905


@pytest.mark.usefixtures("many")
def test_no_reader_is_left_when_an_order_has_ended(base: Path):
    with _engine(base, "one") as engine:
        repository = _root(engine, base)
        engine.acts.back_up(repository)
        assert list(_reader_of(os.getpid())) == []
