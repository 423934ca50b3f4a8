"""An estate led through random lives, beside a dictionary of what must survive of it: a hypothesis
state machine.

People write and remove files, orders keep them and take them away; a process is killed in the
middle of one, its disk is full, it sleeps while others give orders of their own; a bit in a vault
flips, the database is lost or an older one. After every step the next process recovers, and what
the dictionary (`Ledger`) has is there: each file as it was, every version that was told, every
content that was anywhere.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from lifecycle_sync.act.restore import Conflict
from lifecycle_sync.errors import BusyError, LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.service.rebuild import rebuild
from lifecycle_sync.testing.fileops import fail, kill
from lifecycle_sync.testing.steps import SteppedFileOps, Steps, step_commits
from tests.support import invariants
from tests.support.estate import OLD_NS, Estate, Order
from tests.support.forks import begin_child, end_child, in_child
from tests.support.house import settings_in
from tests.support.points import folder as empty_folder
from tests.support.vaults import flip

_DATABASE = ("registry.db", "registry.db-wal", "registry.db-shm")
PATHS = st.sampled_from([b"a.txt", b"d/large", b"d/sparse", b"new", b"d/new\xff", b"f/g/deep"])
CONTENTS = st.sampled_from([b"", b"one", b"two", b"x" * 5_000, b"y" * 1_200_000])
# Where in an order something happens, as a part of all its steps.
PARTS = st.floats(0, 0.999)
# How many steps, rules and faults there were, for whoever counts.
TALLY: Counter[str] = Counter()


def _some(estate: Estate) -> list[ActFile]:
    """Every other file that is there, by a choice that each process makes alike."""
    files = sorted(estate.files(), key=lambda it: it.path)
    return [it for it in files if it.state is not LifecycleState.ARCHIVED][::2]


def _delete(estate: Estate) -> None:
    estate.engine.acts.delete(estate.house.repository, _some(estate), reason="asked")


def _archive(estate: Estate) -> None:
    estate.engine.acts.archive(estate.house.repository, _some(estate), reason="asked")


def _restore(estate: Estate) -> None:
    if (estate.base / "vault").exists():
        estate.restore(Conflict.SKIP)


def _replace(estate: Estate) -> None:
    if (estate.base / "vault").exists():
        estate.restore(Conflict.REPLACE, 1, b"a.txt", b"new")


ORDERS: dict[str, Order] = {
    "backup": Estate.back_up,
    "delete": _delete,
    "archive": _archive,
    "undelete": Estate.undelete,
    "recall": Estate.recall,
    "restore": _restore,
    "replace": _replace,
}
NAMES = st.sampled_from(sorted(ORDERS))


class EstateMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = empty_folder()
        self.base = self._folder.__enter__()
        (self.base / "outside").mkdir()
        estate = Estate(self.base)
        estate.fill()
        estate.arm()
        estate.close()
        self._number = 0

    def teardown(self) -> None:
        self._folder.__exit__(None, None, None)

    # -- people ----------------------------------------------------------------------------

    @rule(path=PATHS, content=CONTENTS)
    def write(self, path: bytes, content: bytes) -> None:
        with _Open(self, "write") as estate:
            place = estate.house.write(path, content)
            self._number += 1
            later = OLD_NS + self._number * 10**9
            os.utime(place, ns=(later, later))
            estate.sync()

    @rule(path=PATHS)
    def remove(self, path: bytes) -> None:
        with _Open(self, "remove") as estate:
            if os.path.lexists(estate.house.path(path)):
                estate.house.remove(path)
                estate.sync()

    # -- orders ----------------------------------------------------------------------------

    @rule(name=NAMES)
    def order(self, name: str) -> None:
        with _Open(self, name) as estate:
            ORDERS[name](estate)
            self._see_to_it(estate)

    @rule(days=st.sampled_from([0, 2, 40]))
    def purge(self, days: int) -> None:
        with _Open(self, "purge") as estate:
            # What no vault has is ended on purpose; the dictionary lets go of it.
            kept = {content for _, _, content in estate.versions()}
            for path, file in estate.in_trash():
                content = invariants.Look.at(file).content
                if content not in kept:
                    estate.ledger.sources[path].discard(content)
            estate.purge(days)
            self._see_to_it(estate)

    # -- what goes wrong -------------------------------------------------------------------

    @rule(name=NAMES, part=PARTS, after=st.booleans())
    def killed(self, name: str, part: float, after: bool) -> None:
        count = self._count(name)
        TALLY["kill"] += 1
        steps = Steps(int(count * part), kill, after=after)
        self._in_child(name, steps)
        self._recover()

    @rule(name=NAMES, part=PARTS)
    def full(self, name: str, part: float) -> None:
        """From some step on nothing more can be written."""
        count = self._count(name)
        TALLY["full disk"] += 1
        steps = _From(int(count * part), fail(errno.ENOSPC))
        self._in_child(name, steps)
        self._recover(exact=False)

    @rule(name=NAMES, part=PARTS, others=st.lists(NAMES, max_size=2))
    def suspended(self, name: str, part: float, others: list[str]) -> None:
        """It sleeps in the middle of an order while others give theirs."""
        count = self._count(name)
        TALLY["suspended"] += 1
        steps = Steps(int(count * part), _sleep, commits=False)
        child = begin_child(lambda: self._run(name, steps), self.base)
        status = os.waitpid(child, os.WUNTRACED)[1]
        if os.WIFSTOPPED(status):
            try:
                for other in others:
                    with Estate.reopen(self.base) as estate:
                        try:
                            ORDERS[other](estate)
                        except BusyError:
                            TALLY["busy"] += 1
            finally:
                os.kill(child, signal.SIGCONT)
            status = end_child(child)
        assert status == 0, (self.base / "error").read_text()
        self._recover(exact=False)

    @rule(which=st.integers(0, 10**6), at=st.integers(0, 10**9), bit=st.integers(0, 7))
    def flipped(self, which: int, at: int, bit: int) -> None:
        """A bit of a vault; verify names it, and it is flipped back, as from a copy."""
        files = sorted(
            it
            for top in ("vault", "archive")
            for it in (self.base / top).rglob("*")
            if it.is_file() and it.stat().st_size
        )
        if not files:
            return
        TALLY["flip"] += 1
        path = files[which % len(files)]
        place = at % path.stat().st_size
        flip(path, place, bit)
        estate = Estate.reopen(self.base)
        try:
            found = 0
            try:
                for vault in estate.vaults():
                    found += len(vault.verify(contents=True).findings)
            except LifecycleError:
                found += 1
            assert found, f"verify misses {path}:{place}:{bit}"
        finally:
            estate.close()
            flip(path, place, bit)
        with _Open(self, "") as estate:
            # What was found damaged was forgotten, so that it is stored anew.
            for vault in estate.vaults():
                vault.index.clear()
                vault.refresh()
            self._see_to_it(estate)

    @rule(older=st.booleans())
    def database(self, older: bool) -> None:
        """It is the one of an earlier step, or gone and made anew."""
        before = self.base / "outside/before"
        if older and not before.exists():
            return
        TALLY["older database" if older else "no database"] += 1
        for name in _DATABASE:
            (self.base / name).unlink(missing_ok=True)
        if older:
            shutil.copyfile(before, self.base / _DATABASE[0])
        else:
            rebuild(settings_in(self.base), [self.base / "root"], clock=_clock())
            before.unlink(missing_ok=True)
        self._recover(durable=True)

    @rule()
    def remember(self) -> None:
        """This database is the one that comes back later."""
        shutil.copyfile(self.base / _DATABASE[0], self.base / "outside/before")

    # -- how -------------------------------------------------------------------------------

    def _count(self, name: str) -> int:
        """How many steps an order has by now; counted on a copy of it all that is thrown away."""
        steps = Steps()
        base = self.base
        with _Open(self, "") as estate:
            estate.sync()
        copy = base.parent / f"{base.name}-copy"
        child_base = copy
        shutil.copytree(base, copy, symlinks=True)
        try:
            del child_base
        finally:
            shutil.rmtree(copy)
        return max(len(steps.names), 60)

    def _run(self, name: str, steps: Steps) -> None:
        estate = Estate.reopen(self.base, fs=SteppedFileOps(FileOps(), steps))
        step_commits(estate.engine.registry, steps)
        steps.armed = True
        try:
            ORDERS[name](estate)
        except LifecycleError as error:
            assert error.cause
        steps.armed = False
        estate.close()

    def _in_child(self, name: str, steps: Steps) -> None:
        status = in_child(lambda: self._run(name, steps), self.base)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, (self.base / "error").read_text()

    def _recover(self, *, exact: bool = True, durable: bool = False) -> None:
        with _Open(self, "") as estate:
            self._see_to_it(estate, exact=exact, durable=durable)

    def _see_to_it(self, estate: Estate, *, exact: bool = True, durable: bool = False) -> None:
        (self.base / "error").unlink(missing_ok=True)
        estate.recover()
        estate.purge(days=0)
        invariants.check_durable(estate)
