"""A file that changes while a vault reads it is no version, whatever was read of it by then."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import FileFlag
from lifecycle_sync.service import act_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.vault.vault import VaultKind
from tests.support.house import House

SIZES = [10, 1_300_000]


class Meanwhile(FileOps):
    """Lets something happen once, just after the first bytes of the root were read."""

    def __init__(self, root: Path, deed: Callable[[], object]) -> None:
        self.root, self.deed = os.fspath(root) + "/a", deed
        self.done = False

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        data = os.pread(fd, length, offset)
        if not self.done and os.readlink(f"/proc/self/fd/{fd}") == self.root:
            self.done = True
            self.deed()
        return data


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.engine.close()


def _same_size(path: Path) -> None:
    path.write_bytes(b"y" * path.stat().st_size)


def _grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _shorter(path: Path) -> None:
    os.truncate(path, 5)


def _replaced(path: Path) -> None:
    """What was read is whole, but no longer what has the name."""
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.replace(new, path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("deed", [_same_size, _grown, _shorter, _replaced])
@pytest.mark.parametrize("verb", ["backup", "archive"])
def test_what_changes_while_it_is_read_is_left_to_the_next_scan(house, deed, size, verb):
    path = house.root / "a"
    house.write("a", b"x" * size)
    house.write("b", b"other")
    house.sync()
    fs = Meanwhile(house.root, lambda: deed(path))
    house.reopen(fs=fs)
    act = {"backup": act_orders.back_up, "archive": act_orders.archive}[verb]
    (outcome,) = act(house.engine, [os.fspath(house.root / it) for it in "ab"], How())
    assert fs.done
    assert (outcome.report.completed, outcome.report.skipped) == (1, 1)
    assert outcome.report.done[0].reason == "changed while it was read"
    assert path.exists()
    vault = house.engine.vaults.get(VaultKind(verb), create=False)
    kept = vault.all_versions(house.repository.repository_id)
    assert [event.path for event in kept] == [b"b"]


@pytest.mark.parametrize("verb", ["back_up", "archive"])
def test_what_changed_since_its_record_is_left_to_the_next_scan(house, verb):
    house.write("a", b"as it was")
    house.sync()
    files = house.engine.registry.files_under(house.repository.repository_id, b"", None, 9)
    house.write("a", b"another")
    report = getattr(house.engine.acts, verb)(house.repository, files)
    assert (report.completed, report.skipped) == (0, 1)
    assert "changed since it was last looked at" in report.done[0].reason
    assert (house.root / "a").read_bytes() == b"another"
    for kind in VaultKind:
        if house.engine.vaults.is_there(kind):
            vault = house.engine.vaults.get(kind, create=False)
            assert list(vault.all_versions(house.repository.repository_id)) == []


class Rotten(FileOps):
    """A disk that gives other bytes of one file than were written, and says nothing."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        data = os.pread(fd, length, offset)
        rots = os.readlink(f"/proc/self/fd/{fd}") == self.path
        return bytes(byte ^ 1 for byte in data) if rots else data


@pytest.mark.parametrize("verb", ["backup", "archive"])
def test_what_rots_is_no_version_and_is_not_archived(house, verb):
    house.write("a", b"whole")
    house.sync()
    house.reopen(fs=Rotten(house.root / "a"))
    act = {"backup": act_orders.back_up, "archive": act_orders.archive}[verb]
    (outcome,) = act(house.engine, [os.fspath(house.root / "a")], How())
    assert (outcome.report.completed, outcome.report.skipped) == (0, 1)
    assert "suspect" in outcome.report.done[0].reason
    assert FileFlag.SUSPECT in house.record("a").flags
    assert (house.root / "a").exists()
    vault = house.engine.vaults.get(VaultKind(verb), create=False)
    assert list(vault.all_versions(house.repository.repository_id)) == []
