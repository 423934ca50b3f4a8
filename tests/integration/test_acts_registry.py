"""The journal of acts on SQLite: several processes, processes that die, and what it costs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.model.act import ActFile, ActOutcome, Intent, RecordChange, VersionRow
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.model.ids import IdSource, to_text
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.registry_contract_base import House, RegistryContractBase
from tests.support.statements import watched

_HERE = Path(__file__).resolve().parents[2]
_STORE = b"store 0123456789"


class _OnSqlite(RegistryContractBase):
    def make_registry(self, folder: Path, clock: FixedClock) -> Registry:
        return SqliteRegistry.open(folder / "registry.db", clock=clock)


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    with closing(House(_OnSqlite(), tmp_path)) as house:
        yield house


def due(house: House) -> list[ActFile]:
    return house.registry.to_back_up(house.root, 0, 100_000)


# What every child begins with.
_PROLOGUE = """
import os, sys, time
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.model.act import ActOutcome, Intent, RecordChange
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.model.ids import IdSource
from lifecycle_sync.registry.sqlite import SqliteRegistry
registry = SqliteRegistry.open(sys.argv[1])
root = bytes.fromhex(sys.argv[2])
ids = IdSource(SystemClock().now_ns)
files = registry.to_back_up(root, 0, 1000)
print("ready", flush=True)
sys.stdin.readline()
"""


def start(code: str, folder: Path, root: bytes) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROLOGUE + code, str(folder / "registry.db"), root.hex()],
        cwd=_HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


_TAKE_ALL = """
act = registry.begin_act(root, "delete", 1)
for file in files:
    operation = ids.one()
    if not registry.begin_operations(
        act, [Intent(operation, file.file_id, "delete")], 1, unless_held=True
    ):
        print(file.file_id.hex())
"""


def test_of_processes_that_want_one_file_at_once_one_gets_it(house, tmp_path):
    house.settled(*(b"%d" % number for number in range(60)))
    children = [start(_TAKE_ALL, tmp_path, house.root) for _ in range(3)]
    go(*children)
    taken = []
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        taken += out.split()
    assert sorted(taken) == sorted(file.file_id.hex() for file in due(house))
    pending = house.registry.pending_operations(None)
    assert sorted(row.file_id.hex() for row in pending) == sorted(taken)


def test_a_file_is_either_held_first_or_begun_first(house, tmp_path):
    house.settled(*(b"%d" % number for number in range(60)))
    holding = start(
        """
for file in reversed(files):
    registry.add_hold(Hold(ids.one(), file.file_id, None, "audit", "me", time.time_ns()))
    print(file.file_id.hex(), flush=True)
""",
        tmp_path,
        house.root,
    )
    files = due(house)
    act = house.registry.begin_act(house.root, "delete", house.tick())
    go(holding)
    begun = set()
    for file in files:
        # Whatever was held when an intent was asked for stops it.
        held_before = house.registry.held([file.file_id], house.now_ns)
        intent = Intent(house.ids.one(), file.file_id, "delete")
        refused = house.registry.begin_operations(act, [intent], house.now_ns, unless_held=True)
        assert refused or not held_before
        if refused:
            assert refused == {intent.operation_id: "held: audit"}
        else:
            begun.add(file.file_id)
    out, _ = holding.communicate(timeout=60)
    assert len(out.split()) == 60
    assert {row.file_id for row in house.registry.pending_operations(None)} == begun


def test_no_hold_comes_between_the_check_and_the_intent(house):
    """As the statement that writes the intents sees it: it is one with its check."""
    house.settled(b"one")
    (file,) = due(house)
    with watched("operations") as work:
        house.reopen()
        act = house.registry.begin_act(house.root, "delete", house.tick())
        intent = Intent(house.ids.one(), file.file_id, "delete")
        house.registry.begin_operations(act, [intent], house.now_ns, unless_held=True)
    (insert,) = [sql for sql in work.steps if "INSERT INTO operations" in sql]
    assert "FROM holds" in insert
    assert not [sql for sql in work.steps if sql.lstrip().startswith("SELECT")]


def test_what_a_killed_process_began_is_pending_still(house, tmp_path):
    house.settled(*(b"%d" % number for number in range(5)))
    child = start(
        """
act = registry.begin_act(root, "delete", 7)
intents = [Intent(ids.one(), file.file_id, "delete", "{}") for file in files]
registry.begin_operations(act, intents, 8, unless_held=True)
outcome = ActOutcome(
    intents[0].operation_id,
    "completed",
    None,
    RecordChange(files[0].file_id, LifecycleState.DELETED),
)
registry.finish_operations(act, [outcome], 9)
print(act.act_id, *(intent.operation_id.hex() for intent in intents), flush=True)
os.kill(os.getpid(), 9)
""",
        tmp_path,
        house.root,
    )
    files = due(house)
    go(child)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == -9
    act_id, *operations = out.split()
    pending = house.registry.pending_operations(house.root)
    assert [row.operation_id.hex() for row in pending] == operations[1:]
    assert {(row.run_id, row.status, row.timestamp_ns) for row in pending} == {
        (int(act_id), "pending", 8)
    }
    act = house.registry.act(int(act_id))
    assert act is not None
    assert (act.status, act.verb) == ("running", "delete")
    assert house.file(files[0].file_id).state is LifecycleState.DELETED


_COMMITS = """
from lifecycle_sync.registry import sqlite_finishing
act = registry.begin_act(root, "backup", 7)
intents = [Intent(ids.one(), file.file_id, "backup") for file in files]
registry.begin_operations(act, intents, 8, unless_held=True)
print("begun", flush=True)
inside = sqlite_finishing.Finishing._insert_versions
def die(self, changes):
    inside(self, changes)
    os.kill(os.getpid(), 9)
sqlite_finishing.Finishing._insert_versions = die
from lifecycle_sync.model.act import VersionRow
registry.finish_operations(act, [
    ActOutcome(
        intent.operation_id,
        "completed",
        None,
        RecordChange(
            intent.file_id,
            LifecycleState.BACKUP_COMPLETE,
            version=VersionRow(ids.one(), 1, "sha256", b"c" * 32, 1, 1, 1, "a/b"),
        ),
    )
    for intent in intents
], 9, manifests=[(b"s", "m")])
"""


def test_outcomes_are_written_whole_or_not_at_all(house, tmp_path):
    house.settled(*(b"%d" % number for number in range(5)))
    before = due(house)
    child = start(_COMMITS, tmp_path, house.root)
    go(child)
    child.communicate(timeout=60)
    assert child.returncode == -9
    assert len(house.registry.pending_operations(None)) == 5
    assert due(house) == before
    assert all(house.registry.versions(file.file_id) == [] for file in before)
    assert house.registry.applied_manifests(b"s") == set()


def test_what_cannot_be_written_leaves_all_as_it_was(house):
    house.settled(b"one", b"two")
    files = due(house)
    act = house.registry.begin_act(house.root, "backup", house.tick())
    intents = [Intent(house.ids.one(), file.file_id, "backup") for file in files]
    house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)
    before = house.everything()
    odd = VersionRow(house.ids.one(), 1, "md5", b"c" * 16, 1, 1, 1)
    changes = [
        RecordChange(files[0].file_id, LifecycleState.DELETED),
        RecordChange(files[1].file_id, version=odd),
    ]
    outcomes = [
        ActOutcome(intent.operation_id, "completed", None, change)
        for intent, change in zip(intents, changes, strict=True)
    ]
    with pytest.raises(KeyError):
        house.registry.finish_operations(act, outcomes, house.now_ns, manifests=[(_STORE, "m")])
    assert house.everything() == before
    assert len(house.registry.pending_operations(None)) == 2
    assert house.registry.applied_manifests(_STORE) == set()


def test_the_documented_journal_shows_acts_as_any_operation(house):
    house.settled(b"one")
    (file,) = due(house)
    act = house.registry.begin_act(house.root, "backup", house.tick())
    intent = Intent(house.ids.one(), file.file_id, "backup", '{"why":1}')
    house.registry.begin_operations(act, [intent], house.now_ns, unless_held=True)
    columns, rows = house.registry.query(
        "SELECT * FROM sync_operations WHERE operation_type = 'backup'"
    )
    assert columns == [
        "operation_id",
        "file_id",
        "operation_type",
        "timestamp",
        "status",
        "details",
    ]
    assert [row[:3] + row[4:] for row in rows] == [
        (
            to_text(intent.operation_id),
            to_text(file.file_id),
            "backup",
            "pending",
            '{"why":1}',
        )
    ]


# -- what it costs -------------------------------------------------------------------------


def fill(house: House, count: int) -> None:
    suffixes = ["txt", "jpg", "mp4", "mp3", "zip", "xyz"]
    for number in range(count):
        suffix = suffixes[number % 6].encode()
        house.tree.write(b"%d/%d.%s" % (number % 20, number, suffix), b"%d" % number)
    house.scan()


def test_a_page_of_what_is_to_be_backed_up_costs_what_is_on_it(house):
    fill(house, 3000)
    costs = []
    for after in (0, 1500):
        with watched("files") as work:
            house.reopen()
            assert len(house.registry.to_back_up(house.root, after, 50)) == 50
        costs.append(work.total_steps)
    # About a hundred and fifty steps a file; a sort of what is due would take a hundred thousand.
    assert max(costs) < 15_000, costs
    for file in due(house):
        house.registry.set_state(file.file_id, LifecycleState.DELETED, house.now_ns)
    with watched("files") as work:
        house.reopen()
        assert house.registry.to_back_up(house.root, 0, 50) == []
    assert work.total_steps < 1000


def test_a_page_of_a_folder_costs_what_is_on_it(house):
    fill(house, 3000)
    with watched("files") as work:
        house.reopen()
        page = house.registry.files_under(house.root, b"7", b"7/1567.txt", 20)
    assert len(page) == 20
    assert work.total_steps < 6_000, work.steps


def test_intents_and_outcomes_are_found_by_their_ids(house):
    """Whatever SQLite's planner knows of the tables: nothing is looked at but what is asked for."""
    fill(house, 2000)
    files = due(house)
    steps = []
    for some in (files[:50], files[50:1950], files[1950:]):
        with watched("operations") as work:
            house.reopen()
            act = house.registry.begin_act(house.root, "backup", house.tick())
            intents = [Intent(house.ids.one(), file.file_id, "backup") for file in some]
            house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)
            if len(some) == 50:
                changed = LifecycleState.BACKUP_COMPLETE
                outcomes = [
                    ActOutcome(i.operation_id, "completed", None, RecordChange(i.file_id, changed))
                    for i in intents
                ]
                house.registry.finish_operations(act, outcomes, house.now_ns)
        if len(some) == 50:
            steps.append(work.total_steps)
    # The second time two thousand others are pending.
    assert steps[1] < 1.2 * steps[0], steps


def test_readers_see_outcomes_all_at_once(house):
    fill(house, 300)
    files = due(house)
    act = house.registry.begin_act(house.root, "backup", house.tick())
    intents = [Intent(house.ids.one(), file.file_id, "backup") for file in files]
    house.registry.begin_operations(act, intents, house.now_ns, unless_held=True)
    done, seen = threading.Event(), set[int]()

    def look() -> None:
        while not done.is_set():
            seen.add(len(house.registry.pending_operations(None)))

    reader = threading.Thread(target=look)
    reader.start()
    outcomes = [
        ActOutcome(i.operation_id, "completed", None, RecordChange(i.file_id)) for i in intents
    ]
    house.registry.finish_operations(act, outcomes, house.now_ns)
    done.set()
    reader.join()
    assert seen <= {0, 300}


def test_holds_by_query_and_by_file_are_found_among_many(house):
    fill(house, 100)
    files = due(house)
    ids = IdSource(house.clock.now_ns)
    for file in files[:50]:
        house.registry.add_hold(Hold(ids.one(), file.file_id, None, "one", "me", 1))
    house.registry.add_hold(Hold(ids.one(), None, "/srv/files/3", "folder", "me", 2))
    held = house.registry.held([file.file_id for file in files], house.now_ns)
    assert set(held) == {file.file_id for file in files[:50]} | {
        file.file_id for file in files if file.path.startswith(b"3/")
    }
