"""Several processes on one registry: a daemon, commands and applications at once."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from lifecycle_sync import LifecycleSync
from lifecycle_sync.errors import BusyError
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.ids import to_text
from tests.support import children, oracle
from tests.support.house import House


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    made.engine.close()


def _fill(house: House, count: int) -> None:
    for number in range(count):
        house.write(f"{number % 10}/{number}.txt", b"%d" % number)


def test_two_processes_that_sync_one_root_wait_for_each_other(house: House):
    _fill(house, 1_500)
    both = [children.start(children.SYNC_ONCE, house.base, wait=False) for _ in range(2)]
    for process in both:
        children.finish(process)
    house.check()
    runs = house.engine.registry.runs(None, 10)
    assert [run.status.value for run in runs] == ["completed", "completed"]
    assert sorted(run.files_added for run in runs) == [0, 1_500]
    assert len(house.engine.roots.all()) == 1


def test_a_root_that_another_process_scans_is_busy_for_who_does_not_wait(house: House):
    house.write("f")
    repository = house.add()
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with house.engine.locks.hold("scan", repository.repository_id, repository.path):
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    try:
        (report,) = house.engine.sync([repository], wait_seconds=0.1)
        assert isinstance(report.error, BusyError)
        assert report.error.exit_code == 5 and str(os.getpid()) in str(report.error)
        assert house.ids() == {}
    finally:
        done.set()
        holder.join()
    house.sync()


def test_many_processes_may_add_one_root_at_once(house: House):
    house.write("f")
    house.engine.close()
    together = [children.start(children.SYNC_ONCE, house.base, wait=False) for _ in range(5)]
    for process in together:
        children.finish(process)
    house.reopen()
    assert len(house.engine.roots.all()) == 1
    house.sync()
    house.check()


def test_many_processes_may_register_the_first_files_of_a_folder_at_once(house: House):
    folder = house.base / "loose"
    folder.mkdir()
    code = """
record = engine.register_file(base / "loose" / arguments[0])
print(record.file_id.hex())
"""
    names = [f"{number}.txt" for number in range(5)]
    for name in names:
        (folder / name).write_text(name)
    together = [children.start(code, house.base, name, wait=False) for name in names]
    given = {children.finish(process).split()[-1] for process in together}
    assert len(house.engine.roots.all()) == 1
    assert {record.file_id.hex() for record in oracle.records(house.engine).values()} == given


def test_files_registered_beside_a_scan_in_another_process_keep_their_ids(house: House):
    count = 900
    _fill(house, count)
    house.add()
    daemon = children.start(children.SYNC_FOR_EVER, house.base)
    together = [
        children.start(children.REGISTER_NUMBERED, house.base, first, first + count // 3)
        for first in range(0, count, count // 3)
    ]
    given: dict[bytes, str] = {}
    for process in together:
        for line in children.finish(process).splitlines():
            number, file_id = line.split()
            given[b"%d/%d.txt" % (int(number) % 10, int(number))] = file_id
    children.stop(daemon)
    assert len(given) == count
    house.sync()
    house.check()
    assert {path: file_id.hex() for path, file_id in house.ids().items()} == given


def test_a_daemon_a_command_and_an_application_get_along(house: House):
    """The daemon follows the root, the command changes and syncs it, the application registers."""
    count = 300
    _fill(house, count)
    daemon = children.start(children.SYNC_FOR_EVER, house.base)
    command = children.start(
        """
root = base / "root"
for turn in range(12):
    for number in range(turn, 300, 12):
        path = root / f"{number % 10}" / f"{number}.txt"
        if turn % 3 == 0:
            path.write_text(f"changed in turn {turn}")
        elif turn % 3 == 1:
            path.rename(path.with_name(f"renamed {number}.txt"))
        else:
            path.unlink()
    engine.sync()
""",
        house.base,
    )

    async def application() -> list[str]:
        given = []
        async with LifecycleSync(house.settings) as lifecycle:
            for number in range(150):
                house.write(f"uploads/{number}.bin", b"upload %d" % number)
                path = os.fsdecode(house.path(f"uploads/{number}.bin"))
                given.append(await lifecycle.register_file(path))
            files = await lifecycle.get_files_by_state(LifecycleState.UPLOADED)
            assert set(given) <= {item.file_id for item in files}
            await lifecycle.sync_now()
        return given

    given = asyncio.run(application())
    children.finish(command)
    children.stop(daemon)
    house.sync()
    house.check()
    uploads = {
        path: record for path, record in house.records().items() if path.startswith(b"uploads/")
    }
    assert {to_text(record.file_id) for record in uploads.values()} == set(given)
    assert len(house.engine.roots.all()) == 1


def test_a_reader_misses_no_file_while_others_write(house: House):
    _fill(house, 400)
    house.sync()
    daemon = children.start(children.SYNC_FOR_EVER, house.base)
    try:
        for old, new in (("3", "moved"), ("moved", "3")) * 3:
            house.rename(old, new)
            deadline = time.monotonic() + 60
            arrived = 0
            while arrived < 40:
                paths = house.ids()
                # Until a pass has settled the move, a file may be in two places, but never in none.
                assert len({path.rpartition(b"/")[2] for path in paths}) == 400
                arrived = sum(path.startswith(new.encode() + b"/") for path in paths)
                assert time.monotonic() < deadline
    finally:
        children.stop(daemon)
    house.sync()
    house.check()
