"""One workload, one moment, one way in which the disk remembers it: the power goes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lifecycle_sync.service.rebuild import rebuild
from lifecycle_sync.testing.fileops import kill
from lifecycle_sync.testing.power import ALL, Disk, VolatileFileOps
from lifecycle_sync.testing.steps import SteppedFileOps, Steps, step_commits
from tests.support import invariants
from tests.support.estate import AheadClock, Estate, further_settings
from tests.support.forks import Forker, frozen, in_child
from tests.support.house import settings_in
from tests.support.points import PointError, prepared
from tests.support.workloads import Workload

_DATABASE = ("registry.db", "registry.db-wal", "registry.db-shm")
CURRENT, OLDER, NONE = "current", "older", "none"


class Moment(NamedTuple):
    """After a step; how the disk remembers it; which database there is."""

    step: int
    variant: str
    database: str

    def __str__(self) -> str:
        return f"{self.step}/{self.variant}/{self.database}"


@dataclass(frozen=True)
class PowerCut:
    """The moments of a workload. `deaf`: syncs that do nothing (see `VolatileFileOps`)."""

    workload: Workload
    deaf: Callable[[str, str], bool] | None = None

    def moments(self) -> list[Moment]:
        """All of them. An older database, and none, where the disk forgets all that it may."""
        with prepared(self.workload) as base:
            status = in_child(lambda: self.run(base, None), base)
            assert status == 0, (base / "error").read_text()
            seen: list[list[str]] = json.loads((base / "steps").read_text())
        found = []
        for step, variants in enumerate(seen):
            found += [Moment(step, variant, CURRENT) for variant in variants]
            last = variants[-1] if variants else ALL
            found += [Moment(step, last, database) for database in (OLDER, NONE)]
        return found

    def run(self, base: Path, moment: Moment | None) -> None:
        for name in _DATABASE:
            if (base / name).exists():
                (base / "before").mkdir(exist_ok=True)
                shutil.copyfile(base / name, base / "before" / name)
        tops = [str(base / name) for name in ("root", "vault", "archive")]
        disk = Disk(tops, str(base / "graveyard"))
        seen: list[list[str]] = []

        def look() -> None:
            step = len(seen)
            with disk.lock:
                seen.append(disk.variants())
            if moment is not None and step == moment.step:
                with disk.lock:
                    # Threads do not always come in the same order: there may be less to forget.
                    if moment.variant in disk.variants():
                        disk.cut(moment.variant)
                    kill()

        steps = _EachStep(look)
        volatile = VolatileFileOps(self.workload.fs(), disk, self.deaf)
        estate = Estate.reopen(base, fs=SteppedFileOps(volatile, steps))
        step_commits(estate.engine.registry, steps)
        steps.armed = True
        self.workload.order(estate)
        steps.armed = False
        estate.close()
        (base / "steps").write_text(json.dumps(seen))

    def try_moment(self, moment: Moment, run: Callable[[Path], int] | None = None) -> None:
        """Raises `PointError`. `run` is what forks."""
        with prepared(self.workload) as base:
            status = run(base) if run else in_child(lambda: self.run(base, moment), base)
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                assert status == 0, (base / "error").read_text()
            (base / "error").unlink(missing_ok=True)
            try:
                _after(base, moment.database)
            except Exception as error:
                raise PointError(
                    f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
                ) from error


class _EachStep(Steps):
    """Calls something after every step."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def end(self, due: bool) -> None:
        if self.armed:
            self._look()


def _after(base: Path, database: str) -> None:
    if database != CURRENT:
        for name in _DATABASE:
            (base / name).unlink(missing_ok=True)
    if database == OLDER:
        for file in (base / "before").iterdir():
            shutil.copyfile(file, base / file.name)
    shutil.rmtree(base / "before")
    shutil.rmtree(base / "graveyard", ignore_errors=True)
    if database == NONE:
        rebuild(settings_in(base, **further_settings(base)), [base / "root"], clock=AheadClock())
    estate = Estate.reopen(base)
    try:
        estate.recover()
        estate.purge(days=0)
        invariants.check_durable(estate)
    finally:
        estate.close()


def try_moments(case: PowerCut, moments: Sequence[Moment]) -> tuple[int, list[str]]:
    """Try these; how many, and what failed."""
    failures = []
    with frozen(), Forker(lambda base, number: case.run(base, moments[number])) as forker:
        for number, moment in enumerate(moments):
            try:
                case.try_moment(moment, partial(forker.run, number=number))
            except PointError as error:
                failures.append(
                    "make faults FAULTS_ARGS='-k power"
                    f" --workload {case.workload.name} --moment {moment}': {error}"
                )
    return len(moments), failures
