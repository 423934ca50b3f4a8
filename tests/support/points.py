"""One workload, one point: a process is killed there (or an error comes back), and what is left of
it is looked at by another one.

A point is twice the number of a step, and one more for the moment after it. Every point begins
at the same estate, to the inode (see `ground`).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.testing.fileops import fail, kill
from lifecycle_sync.testing.steps import CHANGES, READS, SteppedFileOps, Steps, step_commits
from tests.support import invariants
from tests.support.estate import SETTINGS, Estate, Look, make_key
from tests.support.forks import Forker, frozen, in_child
from tests.support.ground import ready
from tests.support.meddling import BESIDE, MEDDLERS, WITH_VAULT, deed_in, inventory, recorded
from tests.support.workloads import Workload

End = dict[bytes, Look | LifecycleState]
ERRORS = {"eio": errno.EIO, "enospc": errno.ENOSPC}
# What `make faults` cuts the longest tests into, so that its processes end together.
PARTS = 4
T = TypeVar("T")


class PointError(AssertionError):
    """A point at which something does not hold."""


def _raise_child(base: Path, status: int) -> None:
    error = base / "error"
    text = error.read_text() if error.exists() else f"wait status {status}"
    raise PointError(f"in the process itself: {text}")


@dataclass(frozen=True)
class Case:
    """What happens at the points of a workload: "kill", one of `ERRORS` or of `MEDDLERS`."""

    workload: Workload
    fault: str = "kill"

    @property
    def methods(self) -> frozenset[str]:
        few = self.fault in ("kill", "enospc") or self.fault in WITH_VAULT
        return CHANGES if few else CHANGES | READS

    def steps(self, point: int | None) -> Steps:
        action = fail(ERRORS[self.fault]) if self.fault in ERRORS else kill
        return Steps(
            None if point is None else point // 2,
            action,
            after=bool((point or 0) % 2),
            methods=self.methods,
            commits=self.fault not in ERRORS and self.fault not in BESIDE,
        )

    # -- the one who is killed -------------------------------------------------------------

    def run(self, base: Path, steps: Steps) -> None:
        """In the child: the order with its steps counted."""
        estate = Estate.reopen(base, fs=SteppedFileOps(self.workload.fs(), steps))
        step_commits(estate.engine.registry, steps)
        if self.fault in MEDDLERS:
            steps.action = recorded(base, MEDDLERS[self.fault](estate))
        steps.armed = True
        try:
            report = self.workload.order(estate)
        except LifecycleError as error:
            if self.fault == "kill":
                raise
            outcome = error.cause
        else:
            outcome = str(report)
        assert outcome
        steps.armed = False
        (base / "steps").write_text(json.dumps([*steps.names, outcome]))
        if self.fault != "kill":
            # The same process goes on.
            estate.recover()
            invariants.nothing_pending(estate)
        estate.close()

    def count(self) -> list[str]:
        """The steps of an undisturbed run, and what it comes to."""
        with prepared(self.workload) as base:
            status = in_child(lambda: self.run(base, self.steps(None)), base)
            if status:
                _raise_child(base, status)
            return list(json.loads((base / "steps").read_text()))[:-1]

    def points(self) -> list[int]:
        names = self.count()
        steps: Sequence[int] = range(len(names))
        if self.fault == "edit":
            # Who saves between the last look and the rename is not seen by anybody.
            steps = [it for it in steps if not names[it].startswith("rename")]
        if self.fault == "kill":
            return [2 * step + after for step in steps for after in (0, 1)]
        return [2 * step for step in steps]

    def point_at(self, words: str, nth: int = 1, *, after: bool = False) -> int:
        """The point before (or after) the nth step whose words begin so."""
        steps = [number for number, it in enumerate(self.count()) if it.startswith(words)]
        return 2 * steps[nth - 1] + after

    # -- the one who comes after -----------------------------------------------------------

    def run_to(self, base: Path, point: int) -> None:
        """In the child: the order, up to a point or through it."""
        self.run(base, self.steps(point))

    def try_point(self, point: int, end: End | None = None, forker: Forker | None = None) -> None:
        """Raises `PointError` with what does not hold."""
        with prepared(self.workload) as base:
            if forker is None:
                status = in_child(lambda: self.run_to(base, point), base)
            else:
                status = forker.run(base, point)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            if self.fault == "kill" and not killed and status:
                _raise_child(base, status)
            if self.fault != "kill" and status:
                _raise_child(base, status)
            try:
                if self.fault in MEDDLERS:
                    after_meddling(base, self.workload, beside=self.fault in BESIDE)
                else:
                    after(base, self.workload, end, exact=self.fault == "kill")
            except PointError:
                raise
            except Exception as error:
                raise PointError(
                    f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
                ) from error

    def end(self) -> End | None:
        """What the workload comes to when nothing happens, if it always comes to that."""
        if not self.workload.converges or self.fault in MEDDLERS:
            return None
        with prepared(self.workload) as base:
            estate = Estate.reopen(base)
            self.workload.order(estate)
            found = invariants.end_of(estate)
            estate.close()
        return found


@contextmanager
def prepared(workload: Workload) -> Iterator[Path]:
    """A folder with an estate on which the order may be given, closed."""
    if workload.killed is not None:
        _steps_of(workload.killed)  # counted now: there is one place for all of them
    with ready(workload, lambda base: _prepare(base, workload)) as base:
        yield base


def _prepare(base: Path, workload: Workload) -> None:
    if workload.keys:
        make_key(base, workload.keys)
    estate = Estate(base)
    estate.fill()
    workload.prepare(estate)
    estate.arm()
    estate.close()
    if workload.killed is not None:
        _kill(base, workload.killed, workload.killed_at)


@cache
def _steps_of(workload: Workload) -> int:
    return len(Case(workload).count())


def _kill(base: Path, workload: Workload, part: float) -> None:
    """Leave what a process leaves that is killed in an order."""
    steps = Steps(int(_steps_of(workload) * part), kill)

    def order() -> None:
        estate = Estate.reopen(base, fs=SteppedFileOps(workload.fs(), steps))
        step_commits(estate.engine.registry, steps)
        steps.armed = True
        workload.order(estate)

    status = in_child(order, base)
    assert os.WIFSIGNALED(status), "it was not killed"


def after(base: Path, workload: Workload, end: End | None, *, exact: bool = True) -> None:
    """Recover, twice; see that all is right; give the order again."""
    (base / "error").unlink(missing_ok=True)
    estate = Estate.reopen(base)
    try:
        _take_up(estate)
        first = invariants.snapshot(estate)
    finally:
        estate.close()
    estate = Estate.reopen(base)
    try:
        assert _take_up(estate) == 0, "the second recovery found something"
        changed = invariants.differing(first, invariants.snapshot(estate))
        assert not changed, f"the second recovery changed {changed}"
        if workload.settle is not None:
            workload.settle(estate)
        invariants.check(estate, adds=workload.adds, exact=exact)
        if workload.converges:
            workload.order(estate)
            if end is not None:
                changed = invariants.same_end(invariants.end_of(estate), end, exact=exact)
                assert not changed, f"given again, it came to another end: {changed}"
            if workload.beside:
                invariants.stands_for_the_vault(estate, workload.beside)
            if workload.holds is not None:
                workload.holds(estate)
            invariants.check(estate, adds=workload.adds, exact=exact)
    finally:
        estate.close()


def after_meddling(base: Path, workload: Workload, *, beside: bool) -> None:
    """What others did has survived, and nothing else was touched."""
    deed = deed_in(base)
    estate = Estate.reopen(base)
    try:
        _take_up(estate)
        if deed is not None:
            deed.tell(estate.ledger)
            there = inventory(base / "outside") if deed.outside else {}
            assert there == deed.outside, "something outside the root was touched"
            told = (base / SETTINGS).read_text() if deed.setting else ""
            assert deed.setting in told, "what a person wrote into the settings is gone"
        if beside:
            if workload.settle is not None:
                workload.settle(estate)
            invariants.check(estate, adds=workload.adds)
            if workload.holds is not None:
                workload.holds(estate)
                invariants.check(estate, adds=workload.adds)
            return
        invariants.check_meddled(estate)
        # The last check before the end sees it, too. (What was put aside as it was, is not late.)
        if deed is not None and deed.made and workload.name != "restore-replace":
            estate.purge()
            estate.ledger.sources = {}
            deed.tell(estate.ledger)
            invariants.no_source_is_lost(estate, exact=False)
    finally:
        estate.close()


def _take_up(estate: Estate) -> int:
    """Recover, as the next order does before it begins."""
    judged = estate.recover()
    return judged + estate.purge(days=0).recovered


def of_part(points: Sequence[T], part: int | None) -> list[T]:
    """Every so manieth, beginning with one of the first; all where there are no parts."""
    return list(points if part is None else points[part::PARTS])


def try_points(case: Case, points: Sequence[int]) -> tuple[int, list[str]]:
    """Try these points; how many, and what failed, with how to try it again."""
    end = case.end()
    failures = []
    with frozen(), Forker(case.run_to) as forker:
        for point in points:
            try:
                case.try_point(point, end, forker)
            except PointError as error:
                failures.append(
                    f"make faults FAULTS_ARGS='--fault {case.fault} --workload {case.workload.name}"
                    f" --point {point}': {error}"
                )
    return len(points), failures
