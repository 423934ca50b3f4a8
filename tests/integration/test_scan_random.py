"""The registry converges to the disk, whatever happened to it between two passes."""

from __future__ import annotations

import errno

import pytest

from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.testing.fileops import fail
from tests.support import chaos, oracle
from tests.support.chaos import Chaos
from tests.support.house import House

_ROUNDS = 20
_OPERATIONS = 24


class _Cut(BaseException):
    """As if the process had been killed."""


def _cut() -> None:
    raise _Cut


class _Rounds:
    """Random changes in batches, and what was known before each."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.changes = Chaos(house.path(b""), seed)
        self.random = self.changes.random
        self.before: dict[bytes, chaos.Known] = {}
        self.ever: set[bytes] = set()

    def settle(self) -> None:
        """A whole pass, with what it holds accepted."""
        house = self.house
        if house.pass_over().verdict is not None:
            house.engine.accept(house.root)
            report = house.pass_over()
            assert report.verdict is None and report.error is None
        house.check()

    def judge(self, *, seen_whole: bool = True) -> None:
        """Every file has the id that the rules give it; an id without a file is DELETED."""
        after = chaos.known(self.house.records(), oracle.disk(self.house.root))
        chaos.assert_ids_follow_the_rules(self.before, after, self.ever, seen_whole=seen_whole)
        alive = {item.file_id for item in after.values()}
        for file_id in self.ever - alive:
            assert self.house.by_id(file_id).state is LifecycleState.DELETED, self.changes.log
        self.before, self.ever = after, self.ever | alive


@pytest.mark.parametrize("seed", range(5))
def test_after_any_changes_one_pass_makes_the_registry_equal_the_disk(house: House, seed: int):
    rounds = _Rounds(house, seed)
    for _ in range(_ROUNDS):
        rounds.changes.do(rounds.random.randrange(1, _OPERATIONS))
        rounds.settle()
        rounds.judge()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_hashed_only_now_and_then_equals_the_disk_when_it_is(house: House, seed: int):
    rounds = _Rounds(house, 100 + seed)
    for _ in range(_ROUNDS):
        for _ in range(rounds.random.randrange(3)):
            rounds.changes.do(rounds.random.randrange(1, _OPERATIONS // 3))
            if house.pass_over(hashes=False).verdict is None:
                house.check(hashes=False)
        rounds.changes.do(rounds.random.randrange(1, _OPERATIONS // 3))
        rounds.settle()


@pytest.mark.parametrize("what", ["cut short", "an error"])
@pytest.mark.parametrize("seed", range(2))
def test_a_pass_that_ends_anywhere_leaves_nothing_that_the_next_does_not_mend(
    wired, seed: int, what: str
):
    house, wire = wired
    rounds = _Rounds(house, 200 + seed)
    for _ in range(_ROUNDS):
        rounds.changes.do(rounds.random.randrange(1, _OPERATIONS))
        house.add()
        for _ in range(rounds.random.randrange(1, 3)):
            wire.arm(
                _cut if what == "cut short" else fail(errno.EIO), rounds.random.randrange(1, 120)
            )
            try:
                house.engine.sync([house.repository])
            except _Cut:
                pass
            except OSError:
                # From the registry it would be one of ours.
                assert what == "an error"
            wire.arm()
        rounds.settle()
        # A folder that could not be read may have hidden where a file had gone.
        rounds.judge(seen_whole=what == "cut short")
