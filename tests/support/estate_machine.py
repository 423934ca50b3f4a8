"""An estate led through random lives, beside a dictionary of what must survive of it: a hypothesis
state machine.

People write and remove files, orders keep them and take them away; a process is killed in the
middle of one, its disk is full, it sleeps while others give orders of their own; a bit in a vault
flips, and is healed; the database is lost or an older one. After every step the next process
recovers, and what the dictionary (`Ledger`) has is there: each file as it was, every version that
was told, every content that was anywhere.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from lifecycle_sync.act.occupied import Conflict
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import BusyError, LifecycleError, VaultMissingError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.service import order
from lifecycle_sync.service.rebuild import rebuild
from lifecycle_sync.testing.fileops import fail, kill
from lifecycle_sync.testing.steps import SteppedFileOps, Steps, step_commits
from lifecycle_sync.vault.format import QUARANTINE, RECIPIENTS_NAME, RESERVE_NAME
from tests.support import invariants
from tests.support.estate import (
    COPY,
    OLD_NS,
    AheadClock,
    Estate,
    Look,
    Order,
    further_settings,
    make_key,
)
from tests.support.forks import begin_child, end_child, in_child
from tests.support.ground import folder as empty_folder
from tests.support.house import settings_in
from tests.support.vaults import flip

_DATABASE = ("registry.db", "registry.db-wal", "registry.db-shm")
PATHS = st.sampled_from([b"a.txt", b"d/large", b"d/sparse", b"new", b"d/new\xff", b"f/g/deep"])
CONTENTS = st.sampled_from([b"", b"one", b"two", b"x" * 5_000, b"y" * 1_200_000])
# At which step of an order something happens; one that ends before is left alone.
STEPS = st.integers(0, 90)
# How many there were of everything, for whoever counts.
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


def _prune(estate: Estate) -> None:
    if (estate.base / "vault").exists():
        estate.prune()


def _heal(estate: Estate) -> None:
    if (estate.base / "vault").exists():
        estate.heal()


def _copy(estate: Estate) -> None:
    if (estate.base / "vault").exists():
        estate.copy_vault()


ORDERS: dict[str, Order] = {
    "backup": Estate.back_up,
    "delete": _delete,
    "archive": _archive,
    "undelete": Estate.undelete,
    "recall": Estate.recall,
    "restore": _restore,
    "replace": _replace,
    "prune": _prune,
    "heal": _heal,
    "copy": _copy,
}
NAMES = st.sampled_from(sorted(ORDERS))


def _allow(estate: Estate, *orders: str) -> None:
    """Where a prune was among the orders, versions that have a newer one may be gone."""
    ledger = estate.ledger
    ledger.beyond = set()
    if "prune" in orders:
        newest: dict[bytes, int] = {}
        for file_id, number, _ in estate.versions():
            newest[file_id] = max(number, newest.get(file_id, 0))
        ledger.beyond = {it for it in ledger.versions if it[1] < newest.get(it[0], 0)}


def _sleep() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class _From(Steps):
    """Something happens at a step and at each one after it."""

    def begin(self, name: str) -> bool:
        super().begin(name)
        if self.armed and self._at is not None and len(self.names) > self._at:
            self.action()
        return False


class EstateMachine(RuleBasedStateMachine):
    """Each step is one of the rules; what must hold is looked at in each."""

    # As a `Workload` has them.
    keys = ""

    def __init__(self) -> None:
        super().__init__()
        self._folder = empty_folder()
        self.base = self._folder.__enter__()
        if self.keys:
            make_key(self.base, self.keys)
        (self.base / "outside").mkdir()
        estate = Estate(self.base)
        for policy in estate.engine.statements.policies():
            # So that prunes find something.
            estate.engine.statements.put_policy(replace(policy, max_versions=1))
        estate.fill()
        estate.arm()
        estate.close()
        self._number = self._steps = 0

    def teardown(self) -> None:
        self._folder.__exit__(None, None, None)

    @contextmanager
    def _opened(self, what: str) -> Iterator[Estate]:
        """The estate; afterwards what it has by then must survive."""
        TALLY[what] += 1
        self._steps += 1
        estate = Estate.reopen(self.base)
        try:
            yield estate
            estate.arm()
        finally:
            estate.close()

    # -- people ----------------------------------------------------------------------------

    @rule(path=PATHS, content=CONTENTS)
    def write(self, path: bytes, content: bytes) -> None:
        with self._opened("write") as estate:
            place = estate.house.write(path, content)
            self._number += 1
            later = OLD_NS + self._number * 10**9
            os.utime(place, ns=(later, later))
            estate.sync()

    @rule(path=PATHS)
    def remove(self, path: bytes) -> None:
        with self._opened("remove") as estate:
            if os.path.lexists(estate.house.path(path)):
                estate.house.remove(path)
                estate.sync()

    # -- orders ----------------------------------------------------------------------------

    @rule(name=NAMES)
    def give(self, name: str) -> None:
        with self._opened(name) as estate:
            with suppress(VaultMissingError):
                ORDERS[name](estate)
            _allow(estate, name)
            invariants.check_durable(estate)

    @rule(emptied=st.booleans())
    def copied_anew(self, emptied: bool) -> None:
        """The first copy is a vault of its own, whatever was healed before, also where nobody keeps
        what was set aside of packs and objects."""
        if not (self.base / "vault/FORMAT").exists():
            return
        with self._opened("copied anew") as estate:
            shutil.rmtree(self.base / COPY, ignore_errors=True)
            for path in (self.base / "vault" / QUARANTINE).glob("*") if emptied else ():
                if ".jsonl" not in path.name:
                    path.unlink()
            estate.copy_vault()
            invariants.stands_for_the_vault(estate, COPY)
            invariants.check_durable(estate)

    @rule(days=st.sampled_from([0, 2, 40]))
    def purge(self, days: int) -> None:
        with self._opened("purge") as estate:
            # What no vault has is ended on purpose: the dictionary lets go of it.
            kept = {content for _, _, content in estate.versions()}
            for path, file in estate.in_trash():
                content = Look.at(file).content
                if content not in kept:
                    estate.ledger.sources[path].discard(content)
            estate.purge(days)
            invariants.check_durable(estate)

    # -- what goes wrong -------------------------------------------------------------------

    @rule(name=NAMES, at=STEPS, after=st.booleans())
    def killed(self, name: str, at: int, after: bool) -> None:
        """In the middle of an order, and recovered from."""
        status = in_child(lambda: self._run(name, Steps(at, kill, after=after)), self.base)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert was_killed or status == 0, (self.base / "error").read_text()
        self._recover("killed" if was_killed else "ended before the kill", name)

    @rule(name=NAMES, at=STEPS)
    def full(self, name: str, at: int) -> None:
        """From some step on nothing can be written any more."""
        steps = _From(at, fail(errno.ENOSPC), commits=False)
        status = in_child(lambda: self._run(name, steps), self.base)
        assert status == 0, (self.base / "error").read_text()
        self._recover("full disk", name)

    @rule(name=NAMES, at=STEPS, others=st.lists(NAMES, max_size=2))
    def suspended(self, name: str, at: int, others: list[str]) -> None:
        """It sleeps in the middle of an order while others give theirs."""
        steps = Steps(at, _sleep, commits=False)
        child = begin_child(lambda: self._run(name, steps), self.base)
        status = os.waitpid(child, os.WUNTRACED)[1]
        if os.WIFSTOPPED(status):
            try:
                for other in others:
                    self._beside(other)
            finally:
                os.kill(child, signal.SIGCONT)
                status = end_child(child)
        assert status == 0, (self.base / "error").read_text()
        self._recover("suspended", name, *others)

    def _beside(self, name: str) -> None:
        estate = Estate.reopen(self.base)
        try:
            # Nobody waits long for one who sleeps.
            with patch.object(order, "_WAIT_SECONDS", 0.05):
                ORDERS[name](estate)
            TALLY["beside one who sleeps"] += 1
        except BusyError:
            TALLY["busy beside one who sleeps"] += 1
        except LifecycleError as error:
            assert error.cause, "it does not say why"  # noqa: PT017
        finally:
            estate.close()

    @rule(which=st.integers(0, 10**6), at=st.integers(0, 10**9), bit=st.integers(0, 7))
    def flipped(self, which: int, at: int, bit: int) -> None:
        """A bit in a vault: verify names it. Flipped back, as from a copy, all is well."""
        files = sorted(
            it
            for top in ("vault", "archive")
            for it in (self.base / top).rglob("*")
            if it.is_file() and it.stat().st_size and (self.base / top / "FORMAT").exists()
            # Of what lies there to make room one byte is as good as another, and so of what was
            # set aside; and who opens a vault writes anew to whom it is encrypted.
            if it.name not in (RESERVE_NAME, RECIPIENTS_NAME) and it.parent.name != QUARANTINE
        )
        if not files:
            return
        path = files[which % len(files)]
        place = at % path.stat().st_size
        flip(path, place, bit)
        estate = Estate.reopen(self.base)
        try:
            damaged = not all(vault.verify(contents=True).ok for vault in estate.vaults())
        except LifecycleError:
            damaged = True
        finally:
            estate.close()
            flip(path, place, bit)
        assert damaged, f"verify misses {path}:{place}:{bit}"
        # The index has forgotten what was damaged.
        shutil.rmtree(self.base / "registry.db.index")
        self._recover("flip")

    @rule(
        which=st.integers(0, 10**6),
        at=st.integers(0, 10**9),
        bit=st.integers(0, 7),
        step=STEPS,
        after=st.booleans(),
    )
    def healed(self, which: int, at: int, bit: int, step: int, after: bool) -> None:
        """A bit in a vault that has a copy; healing is killed, and comes to its end."""
        if not (self.base / "vault/FORMAT").exists():
            return
        estate = Estate.reopen(self.base)
        estate.copy_vault()
        estate.close()
        files = sorted(
            it
            for top in ("packs", "objects", "manifests")
            for it in (self.base / "vault" / top).rglob("*")
            if it.is_file() and not it.name.startswith(".")
        )
        if not files:
            return
        path = files[which % len(files)]
        flip(path, at % path.stat().st_size, bit)
        status = in_child(lambda: self._run("heal", Steps(step, kill, after=after)), self.base)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert was_killed or status == 0, (self.base / "error").read_text()
        estate = Estate.reopen(self.base)
        # What no manifest tells of is looked at only with all contents.
        estate.heal(contents=True)
        estate.close()
        self._recover("healed, killed before" if was_killed else "healed")

    @rule()
    def remember(self) -> None:
        """The database as it is comes back later."""
        estate = Estate.reopen(self.base)
        estate.close()
        shutil.copyfile(self.base / _DATABASE[0], self.base / "outside/before")

    @precondition(lambda self: (self.base / "outside/before").exists())
    @rule()
    def older(self) -> None:
        self._lose_database()
        shutil.copyfile(self.base / "outside/before", self.base / _DATABASE[0])
        self._recover("older database")

    @precondition(lambda self: self._steps % 4 == 0)
    @rule()
    def lost(self) -> None:
        self._lose_database()
        (self.base / "outside/before").unlink(missing_ok=True)
        rebuild(self._settings(), [self.base / "root"], clock=AheadClock())
        self._recover("no database")

    def _settings(self) -> Settings:
        return settings_in(self.base, **further_settings(self.base))

    def _lose_database(self) -> None:
        for name in _DATABASE:
            (self.base / name).unlink(missing_ok=True)

    # -- and after it ----------------------------------------------------------------------

    def _run(self, name: str, steps: Steps) -> None:
        estate = Estate.reopen(self.base, fs=SteppedFileOps(FileOps(), steps))
        step_commits(estate.engine.registry, steps)
        steps.armed = True
        try:
            ORDERS[name](estate)
        except LifecycleError as error:
            assert error.cause, "it does not say why"  # noqa: PT017
        steps.armed = False
        estate.close()

    def _recover(self, what: str, *orders: str) -> None:
        (self.base / "error").unlink(missing_ok=True)
        with self._opened(what) as estate:
            _allow(estate, *orders)
            estate.recover()
            estate.purge(days=0)
            invariants.check_durable(estate)


class EncryptedMachine(EstateMachine):
    """The same with vaults that are encrypted."""

    keys = "there"
