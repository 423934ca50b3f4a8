"""What others do to files while an act is at work on them: at one of its steps, once.

Each is prepared before the act begins and written down when it happens, so that whoever looks
afterwards knows what must have survived.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.service import order as order_module
from tests.support import vault_orders
from tests.support.estate import GOING, ODD, SETTINGS, Estate, Ledger, Look
from tests.support.forks import in_child

_PATH = b"d/sparse"
_LATE = b" and what came late"
_NEW = b"another content altogether"


@dataclass
class Deed:
    """What was done: contents that are there now, and paths whose old ones may be gone."""

    made: dict[bytes, bytes] = field(default_factory=dict)
    ended: set[bytes] = field(default_factory=set)
    outside: dict[str, tuple[object, ...]] = field(default_factory=dict)
    # What a person wrote into the settings.
    setting: str = ""

    def tell(self, ledger: Ledger) -> None:
        """What must survive from now on."""
        for path in self.ended:
            ledger.sources.pop(path, None)
        for path, content in self.made.items():
            digest = hashlib.sha256(content).hexdigest()
            ledger.sources.setdefault(path, set()).add(digest)
            ledger.looks.setdefault(path, set()).add(Look("file", digest, 0, 0, ()))


# Those that another process does with the same vault; and all that it does with the same registry,
# which no one may hold meanwhile.
WITH_VAULT = frozenset({"back-up", "heal", "prune", "give-up", "add-key", "edit"})
BESIDE = frozenset({"scan", "delete", "archive", "undelete", "recall"}) | WITH_VAULT
Meddler = Callable[[Estate], Callable[[], Deed]]


def late_writer(estate: Estate) -> Callable[[], Deed]:
    """Somebody has a file open, wherever it goes, and writes at its end."""
    path = estate.root / "d/sparse"
    if not path.exists():
        path = next(file for name, file in estate.in_trash() if name == _PATH)
    before = path.read_bytes()
    fd = os.open(path, os.O_RDWR)

    def write() -> Deed:
        os.pwrite(fd, _LATE, len(before))
        return Deed({_PATH: before + _LATE}, {_PATH})

    return write


def change(estate: Estate) -> Callable[[], Deed]:
    """Somebody writes a file anew, in place, if it is there."""

    def write() -> Deed:
        try:
            with open(estate.root / "d/sparse", "r+b") as file:
                file.truncate()
                file.write(_NEW)
        except FileNotFoundError:
            return Deed()
        return Deed({_PATH: _NEW}, {_PATH})

    return write


def replace(estate: Estate) -> Callable[[], Deed]:
    """Somebody saves a file as editors do, whether it is there or not."""

    def save() -> Deed:
        there = (estate.root / "d/sparse").exists()
        (estate.base / "outside").mkdir(exist_ok=True)
        new = estate.base / "outside/new"
        new.write_bytes(_NEW)
        os.replace(new, estate.root / "d/sparse")
        return Deed({_PATH: _NEW}, {_PATH} if there else set())

    return save


def swap(estate: Estate) -> Callable[[], Deed]:
    """A folder is renamed, and a symlink that leads out of the root gets its name."""
    outside = estate.base / "outside"
    for name in ("hard.txt", "large", "sparse", os.fsdecode(ODD.removeprefix(b"d/"))):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_bytes(b"not of this root: " + os.fsencode(name))
    os.symlink("hard.txt", outside / "link")

    def do() -> Deed:
        os.rename(estate.root / "d", estate.root / "renamed")
        os.symlink(outside, estate.root / "d")
        return Deed(outside=inventory(outside))

    return do


def _by_another(estate: Estate, work: Callable[[Estate], object]) -> Callable[[], Deed]:
    """Another process does something with the same registry, to its end."""

    def do() -> Deed:
        def other() -> None:
            mine = Estate(estate.base, ledger=estate.ledger)
            work(mine)
            mine.close()

        status = in_child(other, estate.base)
        assert status == 0, (estate.base / "error").read_text()
        return Deed()

    return do


def scan(estate: Estate) -> Callable[[], Deed]:
    """Another process scans the root: nothing has vanished."""

    def look(other: Estate) -> None:
        report = other.house.pass_over()
        assert report.error is None and report.verdict is None, report
        assert report.removed == 0, f"{report.removed} files had vanished"

    return _by_another(estate, look)


def edit(estate: Estate) -> Callable[[], Deed]:
    """A person saves the settings file."""
    path, words = estate.base / SETTINGS, "# a person's own\n"

    def save() -> Deed:
        path.write_text(path.read_text() + words)
        return Deed(setting=words)

    return save


def inventory(top: Path) -> dict[str, tuple[object, ...]]:
    """All below a folder, with all that a change of it would move."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(top):
        for name in [*folders, *names]:
            path = Path(folder, name)
            it = path.lstat()
            found[str(path.relative_to(top))] = (
                it.st_ino,
                it.st_mode,
                it.st_nlink,
                it.st_size,
                it.st_mtime_ns,
                it.st_ctime_ns,
            )
    return found


def _acting(order: Callable[[Estate], object]) -> Meddler:
    return lambda estate: _by_another(estate, order)


def _trying(order: Callable[[Estate], object]) -> Meddler:
    """It may be refused, with a reason; it waits for nobody for long."""

    def attempt(estate: Estate) -> None:
        try:
            with patch.object(order_module, "_WAIT_SECONDS", 0.05):
                order(estate)
        except LifecycleError as error:
            assert error.cause, "it does not say why"  # noqa: PT017

    return _acting(attempt)


# What is done with files; and what lies beside an act or a scan in another process.
MEDDLERS: dict[str, Meddler] = {
    "scan": scan,
    "delete": _acting(lambda it: it.delete(*GOING)),
    "archive": _acting(lambda it: it.archive(*GOING)),
    "undelete": _acting(Estate.undelete),
    "recall": _acting(Estate.recall),
    "back-up": _trying(Estate.back_up),
    "heal": _trying(Estate.heal),
    "prune": _trying(Estate.prune),
    "give-up": _trying(vault_orders.give_up),
    "add-key": _trying(vault_orders.add_second),
    "edit": edit,
    "late-writer": late_writer,
    "change": change,
    "replace": replace,
    "swap": swap,
}


def deed_in(base: Path) -> Deed | None:
    """What was done, if it came to that."""
    try:
        deed: Deed = pickle.loads((base / "deed").read_bytes())
    except FileNotFoundError:
        return None
    return deed


def recorded(base: Path, do: Callable[[], Deed]) -> Callable[[], None]:
    """`do`, written down."""

    def act() -> None:
        (base / "deed").write_bytes(pickle.dumps(do()))

    return act
