"""kill -9 in the middle of an index, again and again: the registry ends right every time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lifecycle_sync.model.operation import RunStatus
from tests.support import oracle
from tests.support.house import House


class _Victim:
    """`lifecycle run --once` on a tree, killed at random moments."""

    def __init__(self, base: Path, files: int, seed: int) -> None:
        self.house = House(base)
        self.files = files
        self.random = random.Random(seed)
        self.serial = files
        for number in range(files):
            self._write(number)
        self.house.engine.close()
        begun = time.monotonic()
        self.run()
        # How long one takes, from the interpreter's start; all moments of it are of interest.
        self.seconds = time.monotonic() - begun
        self._forget()

    def _write(self, number: int) -> None:
        self.house.write(f"{number % 97}/{number}.txt", b"content %d" % number)

    def _forget(self) -> None:
        """A first index again: the registry and the marker go."""
        for path in self.house.base.glob("registry.db*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.rmtree(self.house.root / ".lifecycle", ignore_errors=True)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lifecycle_sync", "run", str(self.house.root), "--once"]
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith("LIFECYCLE_")
        }
        return subprocess.Popen(
            [*command, "--database", str(self.house.settings.database_path)],
            cwd=self.house.base,
            env=environment | {"HOME": str(self.house.base)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self) -> None:
        process = self.start()
        _out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()

    def kill(self) -> None:
        process = self.start()
        time.sleep(self.random.uniform(0.05, self.seconds))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)

    def change(self) -> None:
        """Some of everything; less than the shrink guard minds."""
        house, rng = self.house, self.random
        some = rng.sample(range(self.files), 30)
        for number in some[:10]:
            path = f"{number % 97}/{number}.txt"
            if os.path.lexists(house.path(path)):
                house.write(path, b"changed %d" % rng.randrange(10**9))
        for number in some[10:15]:
            path = f"{number % 97}/{number}.txt"
            if os.path.lexists(house.path(path)):
                house.remove(path)
        for number in some[15:]:
            path = f"{number % 97}/{number}.txt"
            if os.path.lexists(house.path(path)):
                house.rename(path, f"moved/{rng.randrange(5)}/{number}.txt")
        for _ in range(20):
            self.serial += 1
            self._write(self.serial)
        folder = f"{rng.randrange(97)}"
        if os.path.isdir(house.path(folder)):
            house.rename(folder, f"folders/{self.serial}")

    def check(self, *, hashes: bool) -> None:
        self.house.reopen()
        engine = self.house.engine
        self.house.check(hashes=hashes)
        (last, *earlier) = engine.registry.runs(None, 1_000)
        assert last.status is RunStatus.COMPLETED
        assert all(run.status is not RunStatus.RUNNING for run in earlier)
        assert all(record.checksum for record in self.house.records().values())
        engine.close()


def _torture(base: Path, files: int, kills: int, seed: int) -> None:
    victim = _Victim(base, files, seed)
    for number in range(kills):
        if number % 4 == 0:
            victim._forget()
        else:
            victim.change()
        for _ in range(victim.random.choice([1, 1, 2])):
            victim.kill()
        victim.run()
        # Reading everything each time would be most of the work.
        victim.check(hashes=number % 20 == kills % 20)
    victim.check(hashes=True)


def test_a_few_kills_in_the_middle_of_an_index(tmp_path):
    _torture(tmp_path, files=2_000, kills=5, seed=1)


@pytest.fixture
def on_demand(request) -> None:
    """For what takes minutes: runs only with `-m torture`."""
    if "torture" not in (request.config.getoption("markexpr") or ""):
        pytest.skip("takes minutes: pytest -m torture")


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills_in_the_middle_of_an_index(tmp_path, on_demand: None, seed: int):
    _torture(tmp_path, files=20_000, kills=10, seed=100 + seed)


def test_a_killed_index_leaves_what_it_recorded(tmp_path):
    """Resuming is not beginning anew: what was committed keeps its ids."""
    victim = _Victim(tmp_path, files=4_000, seed=7)
    before: dict[bytes, bytes] = {}
    for _ in range(40):
        victim.kill()
        victim.house.reopen()
        known = {
            repository.path: oracle.records(victim.house.engine, repository)
            for repository in victim.house.engine.roots.all()
        }
        for records in known.values():
            ids = {path: record.file_id for path, record in records.items()}
            assert {path: ids.get(path) for path in before} == before
            before = ids
        victim.house.engine.close()
        if before:
            break
    victim.run()
    victim.check(hashes=True)
    victim.house.reopen()
    ids = victim.house.ids()
    assert {path: ids[path] for path in before} == before
    victim.house.engine.close()
