"""Of many files several parts are under way at once: each is kept, or the journal says why not."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.act import ahead
from lifecycle_sync.act.ahead import Wanted
from lifecycle_sync.act.keeping import Keeping
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.children import PIPE_BYTES
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import CancelledError, LifecycleError, StorageFullError
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service import act_runs, acts, applying
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.order import Order
from lifecycle_sync.vault.vault import Vault, VaultKind

_FILES, _PART = 70, 10
_OLD = (1_600_000_000, 1_600_000_000)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for number in range(_FILES):
        path = tmp_path / "root" / f"{number % 5}" / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Every content twice, in parts far from each other.
        path.write_bytes(b"content %d" % (number % (_FILES // 2)))
        os.utime(path, _OLD)
    return tmp_path


@pytest.fixture(params=["here", "ahead"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "_PART_FILES", _PART)
    monkeypatch.setattr(act_runs, "_MANY_FILES", 1 if request.param == "ahead" else 10**9)


def _engine(base: Path) -> Engine:
    return Engine.open(
        Settings(
            database_path=base / "registry.db",
            local_storage_path=None,
            backup_path=base / "vault",
            archive_path=base / "archive",
            min_age_seconds=0,
        )
    )


def _root(engine: Engine, base: Path) -> Repository:
    repository = engine.add_root(base / "root", adopt=True).repository
    engine.sync(hashes=False)
    return repository


def _vault(engine: Engine) -> Vault:
    return engine.vaults.get(VaultKind.BACKUP)


def _statuses(engine: Engine, repository: Repository) -> Counter[str]:
    files = engine.registry.files_under(repository.repository_id, b"", None, _FILES + 1)
    rows: list[Operation] = []
    for file in files:
        rows += engine.registry.operations(file.file_id, 100)
    assert not engine.registry.pending_operations(None)
    return Counter(row.status for row in rows if row.operation_type == "backup")


def _all_kept(engine: Engine, repository: Repository) -> None:
    vault = _vault(engine)
    assert vault.verify(contents=True).ok
    versions = list(vault.all_versions(repository.repository_id))
    assert len({event.path for event in versions}) == _FILES
    for event in versions:
        assert event.content is not None
        assert vault.read_small(event.content) == b"content %d" % (
            int(event.path[-7:-4]) % (_FILES // 2)
        )
    files = engine.registry.files_under(repository.repository_id, b"", None, _FILES + 1)
    assert {file.state for file in files} == {LifecycleState.BACKUP_COMPLETE}


@pytest.mark.usefixtures("parts")
def test_every_part_has_a_manifest_and_a_content_of_two_parts_is_stored_once(base: Path):
    with _engine(base) as engine:
        repository = _root(engine, base)
        assert engine.acts.back_up(repository).completed == _FILES
        _all_kept(engine, repository)
        assert _statuses(engine, repository) == {"completed": _FILES}
        assert len(_vault(engine).manifests()) == _FILES // _PART
        stored = sum(
            len(_vault(engine).index.members(place)) for place, *_ in _vault(engine).index.packs()
        )
        assert stored == _FILES // 2
        assert engine.acts.back_up(repository).completed == 0


def _failing(
    monkeypatch: pytest.MonkeyPatch, name: str, at: int, error: Exception
) -> Callable[[], int]:
    """Let the call number `at` of a method of `Keeping` fail; how many there were."""
    told = getattr(Keeping, name)
    calls = [0]
    mutex = threading.Lock()

    def fail(self: Keeping, *arguments: Any) -> Any:
        with mutex:
            calls[0] += 1
            now = calls[0] == at
        if now:
            raise error
        return told(self, *arguments)

    monkeypatch.setattr(Keeping, name, fail)
    return lambda: calls[0]


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("name", ["read", "commit"])
@pytest.mark.parametrize("at", [1, 2, 4, _FILES // _PART])
def test_where_a_part_fails_those_before_are_kept_and_none_after(
    base: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
):
    with _engine(base) as engine:
        repository = _root(engine, base)
        full = StorageFullError("no space", operation="write", subject="vault", remedy="make some")
        with monkeypatch.context() as patch:
            calls = _failing(patch, name, at, full)
            with pytest.raises(StorageFullError):
                engine.acts.back_up(repository)
        assert calls() <= at + (name == "read")
        statuses = _statuses(engine, repository)
        assert statuses["completed"] == (at - 1) * _PART
        assert statuses["failed"] >= _PART
        assert len(_vault(engine).manifests()) == at - 1
        # And the next one does what is left.
        assert engine.acts.back_up(repository).completed == _FILES - (at - 1) * _PART
        _all_kept(engine, repository)


@pytest.mark.usefixtures("parts")
def test_what_policies_ask_to_back_up_is_one_order_which_tells_what_it_did_before_it_failed(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(applying, "_BATCH", _PART // 2)
    with _engine(base) as engine:
        repository = _root(engine, base)
        full = StorageFullError("no space", operation="write", subject="vault", remedy="make some")
        with monkeypatch.context() as patch:
            _failing(patch, "commit", 5, full)
            (outcome,) = applying.apply(engine, engine.decisions.plan([repository]), How())
        assert outcome.error is full
        # The last one was written down when it was over.
        assert outcome.report.completed >= 3 * _PART
        assert _statuses(engine, repository)["completed"] == 4 * _PART
        (outcome,) = applying.apply(engine, engine.decisions.plan([repository]), How())
        assert outcome.report.completed == _FILES - 4 * _PART
        assert [it.verb for it in engine.registry.acts(repository.repository_id, 9)] == [
            "backup",
            "backup",
        ]
        _all_kept(engine, repository)


@pytest.mark.usefixtures("parts")
def test_the_journal_that_fails_once_is_told_by_recovery(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    with _engine(base) as engine:
        repository = _root(engine, base)
        told = engine.registry.finish_operations
        calls = [0]

        def finish(*arguments: Any, **names: Any) -> Any:
            calls[0] += 1
            if calls[0] == 3:
                raise LifecycleError("it is busy", operation="write", subject="registry")
            return told(*arguments, **names)

        with monkeypatch.context() as patch:
            patch.setattr(engine.registry, "finish_operations", finish)
            with pytest.raises(LifecycleError, match="busy"):
                engine.acts.back_up(repository)
        kept = len(_vault(engine).manifests()) * _PART
        assert kept >= 3 * _PART
        assert _statuses(engine, repository)["completed"] == kept
        # What the registry had not taken up when they were chosen is looked at again.
        assert engine.acts.back_up(repository).completed >= _FILES - kept
        _all_kept(engine, repository)


@pytest.mark.usefixtures("parts")
def test_a_backup_that_is_stopped_begins_no_further_part(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    with _engine(base) as engine:
        repository = _root(engine, base)
        cancel = CancelToken()
        told = Keeping.read

        def read(self: Keeping, ordered: Sequence[Wanted]) -> None:
            told(self, ordered)
            cancel.cancel()

        with monkeypatch.context() as patch:
            patch.setattr(Keeping, "read", read)
            with pytest.raises(CancelledError):
                engine.acts.back_up(repository, cancel=cancel)
        # The first was read, the second begun.
        statuses = _statuses(engine, repository)
        assert statuses == {"completed": _PART, "skipped": _PART}
        assert engine.acts.back_up(repository).completed == _FILES - _PART
        _all_kept(engine, repository)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("hashed", [True, False])
def test_one_that_rotted_among_many_new_ones_is_no_version(base: Path, *, hashed: bool):
    with _engine(base) as engine:
        repository = _root(engine, base)
        if hashed:
            engine.sync()
        with engine.registry._db.write() as connection:
            # The disk cannot be made to rot, so the registry remembers something else.
            connection.execute(
                "UPDATE files SET checksum = zeroblob(32), hash_due = 0 WHERE name = ?",
                (b"033.txt",),
            )
        report = engine.acts.back_up(repository)
        assert (report.completed, report.skipped) == (_FILES - 1, 1)
        assert report.done[0].path == b"3/033.txt"
        assert "suspect" in report.done[0].reason
        kept = {event.path for event in _vault(engine).all_versions(repository.repository_id)}
        assert len(kept) == _FILES - 1
        assert b"3/033.txt" not in kept


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(
    ("limit", "turns"), [(("_TURN_SECONDS", 0.0), 7), (("_TURN_FILES", 2 * _PART), 4)]
)
def test_others_get_a_turn_at_the_root_between(
    base: Path, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, float], turns: int
):
    monkeypatch.setattr(acts, *limit)
    taken = []
    told = Order.batch

    def batch(order: Order) -> Any:
        taken.append(order)
        return told(order)

    monkeypatch.setattr(Order, "batch", batch)
    with _engine(base) as engine:
        repository = _root(engine, base)
        assert engine.acts.back_up(repository).completed == _FILES
        assert len(taken) == turns
        _all_kept(engine, repository)


# -- windows ----------------------------------------------------------------------------------


def _wanted(size: int, name: bytes = b"name", kind: Kind = Kind.REGULAR) -> Wanted:
    values: dict[str, Any] = dict.fromkeys(ActFile._fields)
    return b"o" * 16, ActFile(**(values | {"path": name, "size": size, "kind": kind}))


def test_what_is_asked_for_at_once_has_an_answer_that_fits_into_the_pipe():
    files = [
        *[_wanted(700) for _ in range(1000)],
        *[_wanted(60_000) for _ in range(50)],
        *[_wanted(1, b"d/" * 2000) for _ in range(100)],
        *[_wanted(10**9) for _ in range(30)],
        _wanted(5, kind=Kind.SYMLINK),
    ]
    found = list(ahead.windows(files))
    assert [it for window in found for it in window] == files
    assert [len(window) for window in found[:2]] == [400, 400]
    for window in found:
        assert len(window) <= 400
        # A frame is the content and a little, a line has the path escaped.
        small = [it for _, it in window if it.kind is Kind.REGULAR and it.size <= 65_536]
        assert sum(it.size + 800 + 7 * len(it.path) for it in small) <= PIPE_BYTES
    assert list(ahead.windows([])) == []
    alone = [_wanted(1, b"d/" * 200_000)]
    assert list(ahead.windows(alone)) == [alone]


@pytest.mark.usefixtures("parts")
def test_a_narrow_pipe_has_one_window_at_a_time(base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ahead, "_WINDOW_FILES", 2)
    monkeypatch.setattr(ahead, "pipe_size", lambda pipe: 4096)
    with _engine(base) as engine:
        repository = _root(engine, base)
        assert engine.acts.back_up(repository).completed == _FILES
        _all_kept(engine, repository)
