"""The real command, given orders on an estate from outside, and what each has promised by its 0.

An order that ended with 0 is acknowledged: whatever happens to the machine from then on, what it
said is so. One that was cut off may have come to anything, as long as nothing is lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifecycle_sync.clock import SystemClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support import invariants
from tests.support.estate import ODD, Estate, Look
from tests.support.workloads import beyond

_HERE = Path(__file__).resolve().parents[2]
# Controls, which have to lose something: the command with every sync of files taken out, and with
# renames whose errors it does not mind.
DEAF = """
from lifecycle_sync.fileops import FileOps
FileOps.fsync = lambda self, fd: None
FileOps.syncfs = lambda self, fd: True
"""
CARELESS = """
import contextlib
from lifecycle_sync.fileops import FileOps
rename = FileOps.rename
def careless(self, *arguments):
    with contextlib.suppress(OSError):
        rename(self, *arguments)
FileOps.rename = careless
"""
_RUN = """
from lifecycle_sync.cli import main
raise SystemExit(main())
"""


@dataclass(frozen=True)
class Deed:
    """An order, and what must hold once it was acknowledged; `undone` by one that comes later."""

    name: str
    words: Sequence[str | bytes]
    holds: Callable[[Estate], None]
    undone: frozenset[str] = frozenset()
    # What has to come before, when it is given by itself.
    prepare: Callable[[Estate], object] = lambda _: None


def _all_is_kept(estate: Estate) -> None:
    kept = dict(_kept(estate, VaultKind.BACKUP))
    for path, contents in estate.ledger.sources.items():
        assert kept.get(path) in contents, f"{path!r} was said to be backed up"


def _kept(estate: Estate, kind: VaultKind) -> list[tuple[bytes, str]]:
    vault = estate.engine.vaults.get(kind, create=False)
    return [
        (it.path, it.content.digest.hex() if it.content else os.fsdecode(it.metadata.target or b""))
        for it in vault.all_versions(estate.house.repository.repository_id)
    ]


def _is_archived(estate: Estate) -> None:
    kept = dict(_kept(estate, VaultKind.ARCHIVE))
    for path in (b"a.txt", b"d/large"):
        assert not os.path.lexists(estate.house.path(path)), f"{path!r} was said to be archived"
        assert kept.get(path) in estate.ledger.sources[path], f"{path!r} was said to be archived"


def _is_deleted(*paths: bytes) -> Callable[[Estate], None]:
    def holds(estate: Estate) -> None:
        in_trash = {path for path, _ in estate.in_trash()}
        for path in paths:
            there = os.path.lexists(estate.house.path(path))
            assert path in in_trash and not there, f"{path!r} was said to be deleted"

    return holds


def _is_restored(estate: Estate) -> None:
    look = Look.at(estate.house.path(b"d/sparse"))
    right = any(look.is_as(it, exact=True) for it in estate.ledger.looks[b"d/sparse"])
    assert right, f"what was said to be restored is {look}"


def _is_copied(estate: Estate) -> None:
    ours = estate.engine.vaults.get(VaultKind.BACKUP, create=False)
    with Vault.open(
        estate.base / "outside/copy",
        VaultKind.BACKUP,
        index_path="",
        fs=FileOps(),
        clock=SystemClock(),
        read_only=True,
    ) as copy:
        report = copy.verify(contents=True)
        assert report.ok, report.findings
        repository = estate.house.repository.repository_id
        versions = {it.version_id for it in ours.all_versions(repository)}
        assert {it.version_id for it in copy.all_versions(repository)} == versions


def _is_pruned(estate: Estate) -> None:
    vault = estate.engine.vaults.get(VaultKind.BACKUP, create=False)
    left = estate.versions() & estate.ledger.beyond
    assert not left, f"what was said to be pruned is there: {left}"
    report = vault.verify(contents=True)
    assert report.ok, report.findings


def beyond_and_changed(estate: Estate) -> None:
    """Something to prune, and after it something to back up."""
    beyond(estate)
    estate.change("a.txt", b"alpha, not kept yet")
    estate.sync()


def _kept_and_deleted(estate: Estate) -> None:
    estate.back_up()
    estate.delete(b"d/sparse")


# In this order they can be given one after the other, on an estate that is `beyond_and_changed`.
DEEDS = [
    Deed("prune", ["vault", "prune", "--grace", "0", "--yes"], _is_pruned, prepare=beyond),
    Deed("backup", ["backup"], _all_is_kept),
    Deed("copy", ["vault", "copy", "outside/copy"], _is_copied, prepare=Estate.back_up),
    Deed("archive", ["archive", "root/a.txt", "root/d/large"], _is_archived),
    Deed("delete", ["delete", b"root/" + ODD, "root/d/link"], _is_deleted(ODD, b"d/link")),
    Deed(
        "delete-other",
        ["delete", "root/d/sparse"],
        _is_deleted(b"d/sparse"),
        frozenset({"restore"}),
    ),
    Deed("restore", ["restore", "root/d/sparse"], _is_restored, prepare=_kept_and_deleted),
]


class Outside:
    """An estate in `base`, on which the command works; its home lies in `home`. `control`: what is
    done to the command first."""

    def __init__(self, base: Path, home: Path, *, control: str = "") -> None:
        self.base, self.home, self._control = base, home, control
        home.mkdir(exist_ok=True)
        self._settings = home / "lifecycle.toml"

    def fill(self, prepare: Callable[[Estate], object] = lambda _: None) -> None:
        """Files, and a registry that knows them."""
        self._settings.write_text(
            f'database_path = "{self.base}/registry.db"\n'
            f'backup_path = "{self.base}/vault"\n'
            f'archive_path = "{self.base}/archive"\n'
        )
        estate = Estate(self.base, clock=SystemClock())
        try:
            (self.base / "outside").mkdir()
            estate.fill()
            estate.house.sync()
            prepare(estate)
            estate.arm()
            # What is known of it must not lie on the disk that forgets.
            shutil.move(self.base / "ledger", self.home / "ledger")
        finally:
            estate.close()

    def start(self, words: Sequence[str | bytes], *before: str) -> subprocess.Popen[bytes]:
        """Begin an order; `before` is what runs it."""
        program = ["-c", self._control + _RUN] if self._control else ["-m", "lifecycle_sync"]
        environment = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("LIFECYCLE_", "XDG_"))
        }
        return subprocess.Popen(
            [*before, sys.executable, *program, "--config", str(self._settings), *words],
            cwd=self.base,
            env=environment | {"HOME": str(self.home), "PYTHONPATH": str(_HERE)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def sizes(self) -> list[int]:
        """What changes as soon as an order does anything."""
        names = ("registry.db-wal", "vault", "archive", "outside", "root/.lifecycle")
        paths = [self.base / name for name in names]
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]

    def give(self, deed: Deed) -> None:
        """Give an order that has to be acknowledged."""
        process = self.start(deed.words)
        _out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{deed.name}: {err.decode(errors='replace')}"

    def check(self, acknowledged: Sequence[str], begun: str = "") -> None:
        """Recover, and see that nothing is lost and every promise is kept. `begun`: the order that
        was cut off."""
        ledger = self.base / "ledger"
        ledger.write_bytes((self.home / "ledger").read_bytes())
        estate = Estate.reopen(self.base, clock=SystemClock())
        try:
            estate.recover()
            estate.purge(days=0)
            invariants.check_durable(estate)
            for deed in DEEDS:
                if deed.name in acknowledged and not deed.undone & {*acknowledged, begun}:
                    deed.holds(estate)
        finally:
            estate.close()
            ledger.unlink()
