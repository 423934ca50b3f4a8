"""Outcomes written together are what they are written one by one, whatever they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.model.act import UNSET, ActOutcome, Intent, RecordChange, VersionRow
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.registry import sqlite_alike, sqlite_finishing
from lifecycle_sync.registry.codes import STATE_CODE
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.registry.schema import statements
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.registry_contract_acts import tuple_of
from lifecycle_sync.testing.registry_contract_base import House, RegistryContractBase

_S = LifecycleState
_PATHS = [b"a", b"b", b"c/d", b"c/e"]


class _Suite(RegistryContractBase):
    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return SqliteRegistry.open(folder / "registry.db", clock=clock)


def _house(folder: Path) -> House:
    folder.mkdir(exist_ok=True, parents=True)
    house = House(_Suite(), folder)
    house.write(*_PATHS)
    house.scan()
    return house


def _outcomes(house: House, intents: list[Intent]) -> list[ActOutcome]:
    """What a backup makes of these files."""
    outcomes = []
    for path, intent in zip(_PATHS, intents, strict=True):
        print_ = tuple_of(house.record(path))
        digest = path * 16
        version = VersionRow(
            b"v" * 15 + path[-1:], 1, "sha256", digest, print_.size, print_.mtime_ns, 7, "ab/m"
        )
        change = RecordChange(
            intent.file_id,
            _S.BACKUP_COMPLETE,
            print_,
            checksum=digest,
            backup_path=f"ab/sha256:{digest.hex()}",
            version=version,
        )
        outcomes.append(ActOutcome(intent.operation_id, "completed", '{"version":1}', change))
    return outcomes


def _told(folder: Path) -> list[Any]:
    """All that the registry knows of files, acts and versions."""
    tables = "files operations versions commits locations missing directories".split()
    with sqlite3.connect(folder / "registry.db") as connection:
        return [
            sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in tables
        ]


def _odd(number: int, outcome: ActOutcome) -> ActOutcome:
    """An outcome that is not like the others, in one of many ways."""
    change = outcome.change
    assert change is not None and change.version is not None and change.expected is not None
    other = change.expected._replace(size=change.expected.size + 1)
    longer = change.version._replace(size=change.version.size + 1)
    odd: list[ActOutcome] = [
        outcome,
        outcome._replace(change=None),
        outcome._replace(status="skipped"),
        outcome._replace(details=None),
        outcome._replace(operation_id=b"never begun 0123"),
        *(
            outcome._replace(change=change._replace(**fields))
            for fields in (
                {"state": None},
                {"state": _S.ARCHIVED},
                {"state": _S.PROCESSING},
                {"expected": None},
                {"expected": other},
                {"expected": change.expected._replace(inode=1)},
                {"expected": change.expected._replace(ctime_ns=1)},
                {"fingerprint": other},
                {"checksum": None},
                {"algorithm": "blake3"},
                {"backup_path": None},
                {"backup_path": UNSET},
                {"checksum": None, "version": change.version._replace(checksum=None)},
                {"archive_path": "ab/elsewhere"},
                {"version": None},
                {"version": longer},
                {"version": change.version._replace(location=None)},
                {"version": change.version._replace(checksum=b"other" * 6 + b"xx")},
                {"set_flags": 2},
                {"clear_flags": 2},
                {"path": b"moved"},
            )
        ),
    ]
    return odd[number % len(odd)]


_ODD_ONES = 26


def _written(
    folder: Path,
    choose: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    fast: bool,
    state: LifecycleState | None = None,
) -> Any:
    """What comes of it, and of how many calls the fast way took part."""
    took: list[bool] = []
    real = sqlite_alike.finish_alike

    def finish(*args: Any) -> bool:
        took.append(real(*args) if fast else False)
        return took[-1]

    monkeypatch.setattr(sqlite_finishing, "finish_alike", finish)
    monkeypatch.setattr("os.urandom", lambda count: b"\1" * count)
    house = _house(folder)
    act = house.registry.begin_act(house.root, "backup", house.tick())
    intents = [Intent(house.ids.one(), house.record(path).file_id, "backup") for path in _PATHS]
    house.registry.begin_operations(act, intents, house.now_ns, unless_held=False)
    if state is not None:
        with closing(sqlite3.connect(folder / "registry.db")) as connection, connection:
            connection.execute(
                "UPDATE files SET state = ? WHERE name = ?", (STATE_CODE[state], b"b")
            )
    outcomes = choose(_outcomes(house, intents))
    refused = house.registry.finish_operations(act, outcomes[:2], house.tick())
    refused |= house.registry.finish_operations(
        act, outcomes[2:], house.now_ns, manifests=[(b"s" * 16, "m")]
    )
    again = house.registry.finish_operations(act, outcomes, house.tick())
    house.close()
    monkeypatch.undo()
    return (list(refused.values()), again, _told(folder)), took


def test_a_backup_of_many_is_written_together(tmp_path, monkeypatch):
    slow, _ = _written(tmp_path / "slow", list, monkeypatch, fast=False)
    fast, took = _written(tmp_path / "fast", list, monkeypatch, fast=True)
    # Told again they are pending no more, and nothing is written.
    assert took == [True, True, False]
    assert fast == slow


@pytest.mark.parametrize("number", range(1, _ODD_ONES))
@pytest.mark.parametrize("alone", [False, True])
def test_one_that_is_not_like_the_others_comes_out_the_same(tmp_path, monkeypatch, number, alone):
    def choose(outcomes: list[ActOutcome]) -> list[ActOutcome]:
        some = outcomes[2:3] if alone else outcomes
        return [_odd(number, it) if it is outcomes[2] else it for it in some]

    slow, _ = _written(tmp_path / "slow", choose, monkeypatch, fast=False)
    fast, _ = _written(tmp_path / "fast", choose, monkeypatch, fast=True)
    assert fast == slow


def test_one_that_is_told_twice_counts_once(tmp_path, monkeypatch):
    def choose(outcomes: list[ActOutcome]) -> list[ActOutcome]:
        return [outcomes[0], outcomes[0], outcomes[1]]

    slow, _ = _written(tmp_path / "slow", choose, monkeypatch, fast=False)
    fast, _ = _written(tmp_path / "fast", choose, monkeypatch, fast=True)
    assert fast == slow


def test_an_error_in_the_middle_is_told_as_what_it_is(tmp_path, monkeypatch):
    """What it leaves behind, of which SQLite may have taken back a part, is in nobody's way."""
    house = _house(tmp_path / "house")
    act = house.registry.begin_act(house.root, "backup", house.tick())
    intents = [Intent(house.ids.one(), house.record(path).file_id, "backup") for path in _PATHS]
    house.registry.begin_operations(act, intents, house.now_ns, unless_held=False)
    outcomes = _outcomes(house, intents)
    before = _told(tmp_path / "house")
    with monkeypatch.context() as context:
        broken = {
            **statements("acts"),
            "insert_alike": "ROLLBACK; INSERT INTO nowhere VALUES (?, ?)",
        }
        context.setattr("lifecycle_sync.registry.sqlite_alike.ACTS", broken)
        with pytest.raises(apsw.SQLError, match="nowhere"):
            house.registry.finish_operations(act, outcomes, house.tick())
    assert _told(tmp_path / "house") == before
    assert house.registry.finish_operations(act, outcomes, house.tick()) == {}
    house.close()
    assert _told(tmp_path / "house") != before


@pytest.mark.parametrize("state", LifecycleState)
def test_one_whose_record_has_become_something_else_comes_out_the_same(
    tmp_path, monkeypatch, state
):
    slow, _ = _written(tmp_path / "slow", list, monkeypatch, fast=False, state=state)
    fast, _ = _written(tmp_path / "fast", list, monkeypatch, fast=True, state=state)
    assert fast == slow


@settings(max_examples=25)
@given(
    numbers=st.lists(st.integers(0, _ODD_ONES), min_size=4, max_size=4),
    order=st.permutations(range(4)),
)
def test_any_mixture_comes_out_the_same(tmp_path_factory, numbers, order):
    def choose(outcomes: list[ActOutcome]) -> list[ActOutcome]:
        return [_odd(numbers[at], outcomes[at]) for at in order]

    folder = tmp_path_factory.mktemp("alike")
    with pytest.MonkeyPatch.context() as monkeypatch:
        slow, _ = _written(folder / "slow", choose, monkeypatch, fast=False)
        fast, _ = _written(folder / "fast", choose, monkeypatch, fast=True)
    assert fast == slow
