"""Random changes by several processes, with everything that can happen to a watcher meanwhile.

One seed again, as it was: `make torture TORTURE_ARGS="-k test_whatever --seed 17"`.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.repository import Repository, RepositoryStatus
from tests.support import oracle
from tests.support.watched import Watched

pytestmark = pytest.mark.torture

_HERE = Path(__file__).resolve().parents[2]
_MEDDLERS = 3
_SECONDS = 60.0
_FOLLOWER = """
import sys, time
from pathlib import Path
from lifecycle_sync.service.watching import Watching
from lifecycle_sync.service.watch_keeper import FollowOptions
from tests.support.watched import Watched
watched = Watched(Path(sys.argv[1]))
with Watching(watched.engine, FollowOptions(debounce_seconds=0.05)) as watching:
    for root in watched.engine.roots.all():
        watching.follow(root)
    time.sleep(3600)
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        one = metafunc.config.getoption("--seed", default=None)
        many = metafunc.config.getoption("--seeds", default=None) or 2
        metafunc.parametrize("seed", [one] if one is not None else range(many))


def test_whatever_happens_the_registry_is_the_disk_when_it_has_settled(tmp_path, seed):
    print(f'again: make torture TORTURE_ARGS="-k test_whatever --seed {seed}"')
    operations = 400 if seed < 2 else 1_500
    chance = random.Random(seed)
    watched = Watched(tmp_path)
    other = tmp_path / "other"
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(300):
        for root in (watched.root, other):
            (root / f"still/{number % 15}").mkdir(parents=True, exist_ok=True)
            (root / f"still/{number % 15}/{number}").write_text(str(number))
    roots = (watched.add(), watched.engine.add_root(other).repository)
    if chance.random() < 0.3:
        watched.faults.watch_limit = chance.randint(1, 40)
    killed = chance.random() < 0.5
    meddlers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.meddler",
                str(seed * 100 + number),
                str(operations),
                str(outside),
                str(watched.root),
                str(other),
            ],
            cwd=_HERE,
        )
        for number in range(_MEDDLERS)
    ]
    try:
        if killed:
            _follow_and_be_killed(watched, chance)
        with watched.following(*roots) as watching:
            while any(meddler.poll() is None for meddler in meddlers):
                time.sleep(0.05 + chance.random() / 5)
                if chance.random() < 0.15:
                    _suspend(watched, chance)
            # One that stores into a mapping dies when another cuts the file short.
            assert {meddler.returncode for meddler in meddlers} <= {0, -signal.SIGBUS}
            watched.faults.watch_limit = None
            if not _becomes_equal(watched, roots):
                print([it.health() for it in map(watching.follower, watching.followed()) if it])
            for root in roots:
                oracle.assert_equal_to_disk(watched.engine, root)
        # And again from the start: nothing is left over that only the watcher knew.
        reports = watched.engine.sync()
        assert [report.error for report in reports] == [None, None]
        for root in roots:
            oracle.assert_equal_to_disk(watched.engine, root)
    finally:
        for meddler in meddlers:
            meddler.kill()
            meddler.wait()
        watched.engine.close()


def _follow_and_be_killed(watched: Watched, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 2)):
        follower = subprocess.Popen([sys.executable, "-c", _FOLLOWER, str(watched.base)], cwd=_HERE)
        time.sleep(0.4 + chance.random())
        follower.kill()
        follower.wait()


def _suspend(watched: Watched, chance: random.Random) -> None:
    """Long enough for some events, or for more than the queue holds."""
    watched.faults.suspend()
    if chance.random() < 0.5:
        files = [watched.path(f"still/0/{number}") for number in (0, 15)]
        code = "import os, sys\nfor n in range(17000): os.utime(sys.argv[1 + n % 2])"
        subprocess.run([sys.executable, "-c", code, *files], check=True)
    else:
        time.sleep(chance.random() / 2)
    watched.faults.resume()


def _becomes_equal(watched: Watched, roots: tuple[Repository, ...]) -> bool:
    deadline = time.monotonic() + _SECONDS
    while not _equal(watched, roots):
        if time.monotonic() > deadline:
            return False
    return True


def _equal(watched: Watched, roots: tuple[Repository, ...]) -> bool:
    """Whether it is; what a guard holds is accepted, as a person would who knows."""
    watched.settle()
    for root in roots:
        known = watched.engine.registry.repository(root.repository_id)
        if known is not None and known.status is RepositoryStatus.HELD:
            watched.engine.accept(root.path.decode())
        assert watched.watching is not None
        follower = watched.watching.follower(root.repository_id)
        assert follower is not None
        follower.look_soon()
    watched.settle()
    try:
        for root in roots:
            oracle.assert_equal_to_disk(watched.engine, root)
    except (AssertionError, LifecycleError):
        # A directory that was polled, or what was held until now.
        time.sleep(0.2)
        return False
    return True
