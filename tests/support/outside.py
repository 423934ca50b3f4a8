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
from lifecycle_sync.vault.vault import VaultKind
from tests.support import invariants, vault_orders
from tests.support.estate import KEY, ODD, REWRITTEN, SECOND, SETTINGS, Estate, Look, make_key
from tests.support.workloads import (
    beyond,
    damaged,
    kept_and_changed,
    pruned_and_beyond,
    spoil,
    spoil_files,
)

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


# A word of an order, or where on the estate it stands.
Word = str | bytes | Callable[[Path], str]


@dataclass(frozen=True)
class Deed:
    """An order, and what must hold once it was acknowledged; `undone` by one that comes later."""

    name: str
    words: Sequence[Word]
    holds: Callable[[Estate], object]
    undone: frozenset[str] = frozenset()
    # What has to come before, when it is given by itself.
    prepare: Callable[[Estate], object] = lambda _: None
    # What befalls the estate right before it.
    befalls: Callable[[Path], object] = lambda _: None
    # As a `Workload` has them.
    keys: str = ""
    settle: Callable[[Estate], object] | None = None


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
    # Where nothing can be unlinked any more, what was begun stays until the next one.
    invariants.stands_for_the_vault(estate, "outside/copy", tidy=False)


def _is_pruned(estate: Estate) -> None:
    vault = estate.engine.vaults.get(VaultKind.BACKUP, create=False)
    left = estate.versions() & estate.ledger.beyond
    assert not left, f"what was said to be pruned is there: {left}"
    report = vault.verify(contents=True)
    assert report.ok, report.findings


def _is_healed(estate: Estate) -> None:
    report = estate.engine.vaults.get(VaultKind.BACKUP, create=False).verify(contents=True)
    assert report.ok, report.findings


def _is_written_anew(estate: Estate) -> None:
    invariants.stands_for_the_vault(estate, f"outside/{REWRITTEN}", tidy=False)


def _is_for_the_second(estate: Estate) -> None:
    vault_orders.is_written_to(SECOND)(estate)
    _is_written_anew(estate)


def _public(name: str) -> Word:
    return lambda base: vault_orders.public_key(base, name)


def _copied_and_damaged(estate: Estate) -> None:
    estate.back_up()
    estate.copy_vault("outside/copy")
    spoil(estate, "packs", "objects", "manifests")


def beyond_and_changed(estate: Estate) -> None:
    """Something to prune, and after it something to back up."""
    beyond(estate)
    estate.change("a.txt", b"alpha, not kept yet")
    estate.sync()


def _kept_and_deleted(estate: Estate) -> None:
    estate.back_up()
    estate.delete(b"d/sparse")


def _spoil_contents(base: Path) -> None:
    """Every pack and object has a flipped bit, on the disk, too."""
    spoil_files(base, "packs", "objects")
    fd = os.open(base, os.O_RDONLY)
    try:
        FileOps().syncfs(fd)
    finally:
        os.close(fd)


_PRUNE = ["vault", "prune", "--grace", "0", "--yes"]
# In this order they can be given one after the other, on an estate that is `beyond_and_changed`.
DEEDS = [
    Deed("prune", _PRUNE, _is_pruned, prepare=beyond),
    Deed("backup", ["backup"], _all_is_kept),
    Deed("prune-again", _PRUNE, _is_pruned, prepare=pruned_and_beyond),
    Deed("copy", ["vault", "copy", "outside/copy"], _is_copied, prepare=Estate.back_up),
    Deed(
        "heal",
        ["verify", "--heal"],
        _is_healed,
        prepare=Estate.back_up,
        befalls=_spoil_contents,
        settle=Estate.heal,
    ),
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
# Each on an estate of its own.
ALONE = [
    Deed(
        "mend",
        ["vault", "mend", "outside/copy"],
        _is_healed,
        prepare=_copied_and_damaged,
        settle=lambda it: it.mend("outside/copy"),
    ),
    Deed("backup-encrypted", ["backup"], _all_is_kept, prepare=kept_and_changed, keys="away"),
    Deed("prune-encrypted", _PRUNE, _is_pruned, prepare=pruned_and_beyond, keys="there"),
    Deed(
        "heal-encrypted",
        ["verify", "--heal"],
        _is_healed,
        prepare=damaged,
        settle=Estate.heal,
        keys="there",
    ),
    Deed(
        "restore-encrypted",
        ["restore", "root/d/sparse"],
        _is_restored,
        prepare=_kept_and_deleted,
        keys="there",
    ),
    Deed(
        "rewrite",
        ["vault", "rewrite", f"outside/{REWRITTEN}"],
        _is_written_anew,
        prepare=Estate.back_up,
        keys="there",
    ),
    Deed(
        "give-up",
        ["vault", "give-up", vault_orders.lost_name, "--yes"],
        vault_orders.waits_for_nothing,
        prepare=vault_orders.lost,
        settle=vault_orders.give_up_and_heal,
    ),
    Deed(
        "give-up-encrypted",
        ["vault", "give-up", vault_orders.lost_name, "--yes"],
        vault_orders.waits_for_nothing,
        prepare=vault_orders.half_legible,
        settle=vault_orders.give_up_and_heal,
        keys="there",
    ),
    Deed(
        "recipients-add",
        ["vault", "recipients", "add", _public(SECOND)],
        vault_orders.is_written_to(KEY, SECOND),
        prepare=vault_orders.one_key,
        settle=vault_orders.add_second,
        keys="there",
    ),
    Deed(
        "recipients-remove",
        ["vault", "recipients", "remove", _public(KEY), "--rewrite", f"outside/{REWRITTEN}"],
        _is_for_the_second,
        prepare=vault_orders.two_keys,
        settle=vault_orders.remove_first,
        keys="there",
    ),
]
# What the second prune of those in turn ends: they were changed and kept again.
_SUPERSEDED = (b"a.txt", b"d/hard.txt")


class Outside:
    """An estate in `base`, on which the command works; its home lies in `home`. `control`: what is
    done to the command first."""

    def __init__(self, base: Path, home: Path, *, control: str = "") -> None:
        self.base, self.home, self._control = base, home, control
        home.mkdir(exist_ok=True)
        self._settings = home / "lifecycle.toml"

    def fill(self, prepare: Callable[[Estate], object] = lambda _: None, *, keys: str = "") -> None:
        """Files, and a registry that knows them; vaults are encrypted where there are `keys`."""
        self._settings.write_text(
            f'database_path = "{self.base}/registry.db"\n'
            f'backup_path = "{self.base}/vault"\n'
            f'archive_path = "{self.base}/archive"\n'
        )
        if keys:
            public = make_key(self.base, keys)
            with open(self._settings, "a", encoding="utf-8") as settings:
                settings.write(f'backup_recipients = ["{public}"]\n')
                settings.write(f'archive_recipients = ["{public}"]\n')
                if keys == "there":
                    settings.write(f'identity_path = "{self.base}/{KEY}"\n')
        estate = Estate(self.base, clock=SystemClock())
        try:
            (self.base / "outside").mkdir()
            estate.fill()
            estate.house.sync()
            prepare(estate)
            self._take_settings()
            estate.arm()
            # What is known of it must not lie on the disk that forgets.
            shutil.move(self.base / "ledger", self.home / "ledger")
        finally:
            estate.close()

    def _take_settings(self) -> None:
        """Where the estate has a settings file of its own, the command is to change that one."""
        own = self.base / SETTINGS
        if own.exists():
            lines = self._settings.read_text().splitlines(keepends=True)
            others = "".join(it for it in lines if not it.startswith("backup_recipients"))
            own.write_text(own.read_text().replace("\n", f"\n{others}", 1))
            self._settings.unlink()
            self._settings.symlink_to(own)

    def start(self, words: Sequence[Word], *before: str) -> subprocess.Popen[bytes]:
        """Begin an order; `before` is what runs it."""
        given = [it(self.base) if callable(it) else it for it in words]
        program = ["-c", self._control + _RUN] if self._control else ["-m", "lifecycle_sync"]
        environment = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("LIFECYCLE_", "XDG_"))
        }
        return subprocess.Popen(
            [*before, sys.executable, *program, "--config", str(self._settings), *given],
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
        """Give an order that has to be acknowledged, after what befalls."""
        deed.befalls(self.base)
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
            ids = {estate.ledger.ids[path] for path in _SUPERSEDED}
            beyond = set(estate.ledger.beyond)
            if {"backup", "prune-again"} <= {*acknowledged, begun}:
                estate.ledger.beyond |= {it for it in estate.ledger.versions if it[0] in ids}
            estate.recover()
            estate.purge(days=0)
            for deed in [*DEEDS, *ALONE]:
                if deed.settle and deed.name == begun and deed.name not in acknowledged:
                    deed.settle(estate)
            invariants.check_durable(estate)
            if "prune-again" not in acknowledged:
                # They may have gone, and need not.
                estate.ledger.beyond = beyond
            for deed in [*DEEDS, *ALONE]:
                if deed.name in acknowledged and not deed.undone & {*acknowledged, begun}:
                    deed.holds(estate)
        finally:
            estate.close()
            ledger.unlink()
