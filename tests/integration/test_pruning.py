"""Pruning as an order on a registry: guards, the journal, and what others learn of it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import BusyError, GuardError, StorageFullError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.event import PrunedEvent
from lifecycle_sync.model.operation import Operation
from lifecycle_sync.model.policy import KeepRules
from lifecycle_sync.service import pruning, retaining
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.guarding import set_enforcement
from lifecycle_sync.service.pruning import EMPTY, PruneOutcome, Pruning, prune_vault
from lifecycle_sync.service.tending import prune_due
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import needed, reserve
from lifecycle_sync.vault.vault import VaultKind
from tests.support.house import House, backed_up

_FEW = 3


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_800_000_000_000_000_000)


@pytest.fixture
def house(tmp_path, clock):
    rounds = [
        {"a": b"content %d" % number * 100, "b": b"the other %d" % number * 100}
        for number in range(_FEW)
    ]
    with backed_up(tmp_path, clock, rounds) as house:
        yield house


def rules(house: House, *, allow_empty: bool = False, **fields: Any) -> None:
    statements = house.engine.statements
    for policy in statements.policies():
        statements.put_policy(replace(policy, **fields), allow_empty=allow_empty)


def prune(house: House, **fields: object) -> PruneOutcome:
    return prune_vault(house.engine, Pruning(grace_days=0, **fields), How())  # type: ignore[arg-type]


def numbers(house: House) -> dict[bytes, list[int]]:
    """The versions of each file, by registry and vault, which say the same."""
    registry, vault = house.engine.registry, house.engine.vaults.get(VaultKind.BACKUP)
    found = {}
    for file in registry.files_under(house.repository.repository_id, b"", None, 10):
        found[file.path] = [row.number for row in registry.versions(file.file_id)]
        assert [it.number for it in vault.versions_of(file.file_id)] == found[file.path]
    return found


def journal(house: House) -> list[Operation]:
    return house.engine.registry.journal(None, 1000, types=["prune"])


def test_what_no_rule_keeps_goes_and_the_journal_says_why(house):
    rules(house, max_versions=1)
    outcome = prune(house)
    assert (outcome.files, outcome.versions, outcome.exit_code) == (2, 4, 0)
    assert numbers(house) == {b"a": [3], b"b": [3]}
    for operation in journal(house):
        assert operation.status == "completed"
        assert '"versions":[2,1]' in (operation.details or "")
        assert "1 version is kept" in (operation.details or "")
    assert house.engine.registry.pending_operations(None) == []
    assert prune(house).versions == 0


def test_of_many_versions_some_are_judged_at_a_time(house, monkeypatch):
    for number in range(6):
        house.write(f"more {number}", b"whatever")
    house.sync()
    house.engine.acts.back_up(house.repository)
    monkeypatch.setattr(retaining, "VERSIONS_MAX", 4)
    monkeypatch.setattr(pruning, "_VERSIONS", 3)
    registry = house.engine.registry
    asked: list[int] = []
    right = registry.kept_versions

    def kept(file_ids):
        found = right(file_ids)
        asked.append(sum(map(len, found.values())))
        return found

    monkeypatch.setattr(registry, "kept_versions", kept)
    rules(house, max_versions=0, allow_empty=True)
    dry = prune_vault(house.engine, Pruning(allow_empty=True), How(dry_run=True))
    assert (dry.files, dry.versions) == (8, 12)
    outcome = prune(house, allow_empty=True)
    assert (outcome.files, outcome.versions, outcome.size) == (8, 12, dry.size)
    assert max(asked) <= 4
    assert len(journal(house)) == 8
    assert not any(numbers(house).values())


def test_what_is_held_when_it_is_to_go_stays_however_many(house, monkeypatch):
    """A hold that came after the judging is seen by the statement that writes the intent."""
    rules(house, max_versions=1)
    monkeypatch.setattr(house.engine.registry, "held", lambda file_ids, at_ns: {})
    file = house.record("a")
    house.engine.statements.hold(file_id=file.file_id, reason="audit", owner="me")
    outcome = prune(house)
    assert (outcome.files, outcome.versions, outcome.waits) == (1, 2, {"hold": 2})
    assert numbers(house) == {b"a": [3, 2, 1], b"b": [3]}
    assert house.engine.registry.pending_operations(None) == []


@pytest.fixture(params=["in turn", "beside"])
def threads(request, monkeypatch):
    """A little is done in turn, much by several threads."""
    monkeypatch.setattr(pruning, "_MARKED", 4)
    if request.param == "beside":
        monkeypatch.setattr(needed, "_AHEAD_BYTES", 0)
    return request.param


def test_page_by_page_all_goes_that_one_rule_does_not_keep(house, clock, threads, monkeypatch):
    for number in range(12):
        house.write(f"more {number}", b"whatever %d" % number)
    house.sync()
    house.engine.acts.back_up(house.repository)
    for number in range(12):
        house.write(f"more {number}", b"something else %d" % number)
    clock.advance(3600)
    house.sync()
    house.engine.acts.back_up(house.repository)
    rules(house, max_versions=1)
    foreseen = prune_vault(house.engine, Pruning(grace_days=0), How(dry_run=True))
    one_by_one: list[object] = []
    monkeypatch.setattr(pruning, "prune_versions", one_by_one.append)
    outcome = prune(house)
    assert one_by_one == []
    assert (outcome.files, outcome.versions, outcome.exit_code) == (14, 16, 0)
    assert outcome.size == foreseen.size
    assert len(numbers(house)) == 10
    assert {len(it) for it in numbers(house).values()} == {1}
    told = journal(house)
    assert len({it.file_id for it in told}) == len(told) == 14
    assert {it.status for it in told} == {"completed"}
    assert house.engine.registry.pending_operations(None) == []
    # Nothing is left for another one, and all that is kept is there.
    again = prune(house)
    assert (again.versions, again.vault.condemned, again.vault.deleted) == (0, 0, 0)
    assert house.engine.vaults.get(VaultKind.BACKUP).verify(contents=True, share=1.0).ok


def test_what_is_judged_file_by_file_goes_in_the_same_prune(house, threads):
    """The vault was told of the others by then, and may have been looked through."""
    policies = {it.name: it for it in house.engine.statements.policies()}
    chosen = replace(policies["media"], max_versions=1, keep=KeepRules(last=1))
    house.engine.statements.put_policy(chosen)
    house.engine.statements.assign(house.record("a").file_id, "media")
    house.engine.statements.put_policy(replace(policies["default"], max_versions=1))
    house.engine.statements.put_policy(replace(policies["documents"], max_versions=1))
    outcome = prune(house)
    assert (outcome.files, outcome.versions) == (2, 4)
    assert numbers(house) == {b"a": [3], b"b": [3]}
    again = prune(house)
    assert (again.versions, again.vault.condemned, again.vault.deleted) == (0, 0, 0)


def test_an_error_while_the_registry_forgets_leaves_nothing_pending(house, threads, monkeypatch):
    rules(house, max_versions=1)
    house.engine.decisions.settle()
    registry = house.engine.registry
    right = registry.finish_marked

    def full(*arguments: object, **fields: object) -> int:
        monkeypatch.setattr(registry, "finish_marked", right)
        raise BusyError("locked", operation="use the registry", subject="it", remedy="wait")

    monkeypatch.setattr(registry, "finish_marked", full)
    outcome = prune(house)
    assert [str(error.cause) for _path, error in outcome.errors] == ["locked"]
    assert registry.pending_operations(None) == []
    # The vault was told, and the next one learns of that.
    assert prune(house).exit_code == 0
    assert numbers(house) == {b"a": [3], b"b": [3]}


_DIES = """
import os, sys
from pathlib import Path
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service import pruning
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.vault import needed
from tests.support.house import settings_in

base, now_ns, name, at = sys.argv[1:]
pruning._MARKED, needed._AHEAD_BYTES = 2, 0
right, calls = getattr(SqliteRegistry, name), []

def dying(*arguments, **fields):
    calls.append(name)
    return os._exit(9) if len(calls) == int(at) else right(*arguments, **fields)

setattr(SqliteRegistry, name, dying)
engine = Engine.open(settings_in(Path(base)), clock=FixedClock(int(now_ns)))
pruning.prune_vault(engine, pruning.Pruning(grace_days=0), How())
"""


@pytest.mark.parametrize("died", ["begin_marked 2", "finish_marked 1", "finish_marked 2"])
def test_one_who_was_killed_with_the_registry_beside_is_followed_by_another(house, clock, died):
    """Before the intents of the second page stand, and before the first or the second page is
    forgotten: the vault was told of one, or of both."""
    rules(house, max_versions=1)
    house.engine.decisions.settle()
    house.engine.close()
    child = [sys.executable, "-c", _DIES, str(house.base), str(clock.now_ns()), *died.split()]
    assert subprocess.run(child, check=False, timeout=60).returncode == 9
    house.reopen(clock=clock)
    assert prune(house).exit_code == 0
    assert numbers(house) == {b"a": [3], b"b": [3]}
    house.engine.acts.recover(house.repository)
    assert house.engine.registry.pending_operations(None) == []
    again = prune(house)
    assert (again.versions, again.vault.condemned, again.vault.deleted) == (0, 0, 0)
    assert house.engine.vaults.get(VaultKind.BACKUP).verify(contents=True, share=1.0).ok


def test_the_last_version_goes_only_when_that_is_meant(house, clock):
    rules(house, max_versions=0, allow_empty=True)
    outcome = prune(house)
    assert (outcome.versions, outcome.waits) == (0, {EMPTY: 6})
    assert numbers(house) == {b"a": [3, 2, 1], b"b": [3, 2, 1]}
    assert prune(house, allow_empty=True).versions == 6
    assert numbers(house) == {b"a": [], b"b": []}
    # And what is kept again after that is kept.
    house.write("a", b"content 0" * 100)
    clock.advance(3600)
    house.sync()
    house.engine.acts.back_up(house.repository)
    assert numbers(house)[b"a"] == [1]


def test_while_the_clock_is_in_doubt_nothing_goes(house, clock):
    rules(house, max_versions=1)
    clock.advance(400 * 86_400)
    with pytest.raises(GuardError, match="nothing is pruned"):
        prune(house)
    assert numbers(house) == {b"a": [3, 2, 1], b"b": [3, 2, 1]}
    assert prune_vault(house.engine, Pruning(), How(dry_run=True)).versions == 4


def test_the_loop_prunes_what_is_due_and_leaves_roots_that_only_advise(house, clock):
    rules(house, max_versions=1)
    engine = house.engine
    assert prune_due(engine, How().cancel) is None, "nobody asked for it"
    engine.settings = replace_settings(engine.settings, prune_days=7)
    first = prune_due(engine, How().cancel)
    assert first is not None
    assert (first.versions, first.waits) == (0, {"advice": 4})
    assert prune_due(engine, How().cancel) is None, "not twice a week"
    set_enforcement(engine, house.repository, enforce=True)
    for _ in range(7):
        clock.advance(86_400)
        house.sync()
    second = prune_due(engine, How().cancel)
    assert second is not None
    assert second.versions == 4


def test_a_registry_that_is_made_anew_learns_what_was_pruned(house, tmp_path):
    rules(house, max_versions=1)
    registry = house.engine.registry
    vault = house.engine.vaults.get(VaultKind.BACKUP)
    prune(house)
    registry.apply_events(list(vault.events(vault.manifests())), house.engine.now_ns())
    assert numbers(house) == {b"a": [3], b"b": [3]}
    told = [it for it in vault.events(vault.manifests()) if isinstance(it, PrunedEvent)]
    assert sum(len(it.version_ids) for it in told) == 4


def test_a_checkpoint_of_ones_own_is_not_taken_up(house):
    rules(house, max_versions=1)
    prune(house)
    vault = house.engine.vaults.get(VaultKind.BACKUP)
    applied = house.engine.registry.applied_manifests(vault.store_id)
    assert set(vault.catalogue.known()) <= applied


class FullDisk(FileOps):
    """A disk on which nothing can be written while a file takes its last room."""

    def __init__(self) -> None:
        self.last: str | None = None

    def write(self, fd: int, data: bytes | memoryview) -> None:
        if self.last is not None and os.path.exists(self.last):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(fd, data)


def test_on_a_full_disk_the_reserve_is_given_up_and_made_anew(house, monkeypatch):
    monkeypatch.setattr("lifecycle_sync.vault.reserve.RESERVE_BYTES", 4096)
    prune(house)
    fs = FullDisk()
    house.reopen(fs=fs)
    rules(house, max_versions=1)
    laid_by = house.base / "vault" / "RESERVE"
    assert laid_by.stat().st_size == 4096
    fs.last = os.fspath(laid_by)
    house.engine.decisions.settle()
    with pytest.raises(StorageFullError):
        house.engine.vaults.backup().checkpoint()
    # It comes back in the end, where there is room.
    monkeypatch.setattr(fs, "write", room_after(fs, laid_by))
    assert prune(house).versions == 4
    assert laid_by.exists()
    monkeypatch.undo()
    house.reopen()
    assert numbers(house) == {b"a": [3], b"b": [3]}


def room_after(fs: FullDisk, laid_by: Path) -> Callable[..., None]:
    """Full until the reserve has gone, and never again."""

    def write(fd: int, data: bytes | memoryview) -> None:
        FullDisk.write(fs, fd, data)
        fs.last = None

    return write


def replace_settings(settings: Settings, **fields: Any) -> Settings:
    return msgspec.structs.replace(settings, **fields)


def test_room_is_laid_by_only_when_all_has_gone_that_goes(house, threads, monkeypatch):
    """A reserve made before would take the room that pruning needs."""
    packs = house.base / "vault" / "packs"
    before = set(packs.rglob("*.zip"))
    there: list[int] = []
    made = reserve.make_reserve

    def lay_by(storage: Storage) -> bool:
        there.append(len(before & set(packs.rglob("*.zip"))))
        return made(storage)

    monkeypatch.setattr(pruning, "make_reserve", lay_by)
    rules(house, max_versions=1)
    outcome = prune(house)
    gone = len(before) - len(before & set(packs.rglob("*.zip")))
    assert outcome.vault.deleted == gone > 0
    assert set(there) == {len(before) - gone}
    # With threads first beside the checkpoint, and again to see whether it is there.
    assert len(there) == (2 if threads == "beside" else 1)
    assert outcome.reserve and (house.base / "vault" / "RESERVE").exists()
