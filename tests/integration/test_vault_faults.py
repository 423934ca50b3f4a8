"""Every operation fails once, or is the last one: what was committed stays, and nothing is left."""

from __future__ import annotations

import errno
import random
import subprocess
import sys

import pytest

from lifecycle_sync.errors import LifecycleError, StorageFullError, VaultError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail
from tests.support.vaults import VaultHouse, key_of, read

BIG = random.Random(5).randbytes((2 << 20) + 7)
BEFORE = {b"before": b"what was committed before"}
CONTENTS = {b"a": b"one", b"b": b"two" * 1000, b"big": BIG}


def session(house: VaultHouse) -> None:
    """What a backup does: two commits, with packs, an object and a checkpoint."""
    with house.open() as vault:
        house.store(vault, CONTENTS)
        vault.checkpoint()
        house.store(vault, {b"c": b"three"})


@pytest.fixture
def house(tmp_path):
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        house.store(vault, BEFORE)
    return house


def check(house: VaultHouse, committed: set[bytes]) -> None:
    """What was committed is there, from manifests and index alike; nothing temporary is left."""
    house.fs = FileOps()
    for lose in (False, True):
        if lose:
            house.lose_index()
        with house.open() as vault:
            for data in committed:
                assert read(vault, key_of(data)) == data
            report = vault.verify(contents=True)
            assert report.ok, report.findings
            assert report.litter == []
            # Whatever a manifest tells of is there.
            for event in vault.events(vault.manifests()):
                assert read(vault, event.content)  # type: ignore[union-attr,arg-type]


def count(house: VaultHouse) -> int:
    fs = house.fs = RecordingFileOps(FileOps())
    session(house)
    return len(fs.calls)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_an_operation_that_fails_loses_nothing(tmp_path, code, lasting):
    house = VaultHouse(tmp_path / "count")
    with house.open() as vault:
        house.store(vault, BEFORE)
    total = count(house)
    assert total > 100
    chooser = random.Random(total)
    # All of them take a while: `make torture` runs them.
    for nth in sorted(chooser.sample(range(1, total + 1), 25)):
        run_with_fault(VaultHouse(tmp_path / f"{nth}"), Fault(fail(code), nth=nth, lasting=lasting))


def run_with_fault(house: VaultHouse, fault: Fault) -> None:
    with house.open() as vault:
        house.store(vault, BEFORE)
    house.fs = FaultyFileOps(FileOps(), fault)
    committed = set(BEFORE.values())
    try:
        with house.open() as vault:
            house.store(vault, CONTENTS)
            committed |= set(CONTENTS.values())
            vault.checkpoint()
            house.store(vault, {b"c": b"three"})
            committed.add(b"three")
    except LifecycleError:
        pass
    check(house, committed)


def test_a_write_that_is_torn_by_a_full_disk_says_so_and_leaves_nothing(house):
    for keep in (0, 1, 1000):
        full = Fault(fail(errno.ENOSPC), "write", keep_bytes=keep, lasting=True)
        with house.open() as vault:
            vault.storage._fs = FaultyFileOps(FileOps(), full)
            with pytest.raises(StorageFullError) as caught:
                house.store(vault, CONTENTS)
            assert caught.value.remedy
            assert vault.verify(contents=True).litter == []
    check(house, set(BEFORE.values()))


def test_a_session_is_over_after_an_error_and_says_so(house):
    with house.open() as vault:
        full = Fault(fail(errno.EIO), "fsync")
        vault.storage._fs = FaultyFileOps(FileOps(), full)
        with vault.writer() as writer:
            writer.add(key_of(b"one"), b"one")
            with pytest.raises(LifecycleError):
                writer.commit([])
            # The pack is lost: a second commit must not speak of it.
            with pytest.raises(VaultError, match="session ended"):
                writer.add(key_of(b"two"), b"two")
            with pytest.raises(VaultError, match="session ended"):
                writer.commit([])
            with pytest.raises(VaultError, match="session ended"):
                writer.open_object("sha256")
        assert vault.contains([key_of(b"one")]) == set()
        house.store(vault, {b"a": b"one"})
    check(house, {b"one", *BEFORE.values()})


def test_what_was_written_is_read_back_before_it_counts(house):
    class Lying(FileOps):
        """A disk, or memory, that flips a bit on the way."""

        def write(self, fd, data):
            changed = bytearray(data)
            changed[len(changed) // 2] ^= 1
            super().write(fd, bytes(changed))

    with house.open() as vault:
        vault.storage._fs = Lying()
        for contents in ({b"a": b"one"}, {b"big": BIG}):
            with pytest.raises(LifecycleError, match="read back"):
                house.store(vault, contents)
    check(house, set(BEFORE.values()))


def test_an_index_that_cannot_be_written_does_not_undo_a_commit(house, monkeypatch):
    with house.open() as vault:

        def full(*_: object) -> None:
            raise StorageFullError("no space left for the index")

        monkeypatch.setattr(vault.index, "add_contents", full)
        name, _ = house.store(vault, {b"a": b"one"})
        monkeypatch.undo()
        assert name not in vault.manifests()
        vault.refresh()
        assert name in vault.manifests()
        assert vault.read_small(key_of(b"one")) == b"one"
    check(house, {b"one"})


KILLED = """
import sys
from pathlib import Path
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, kill
from tests.integration.test_vault_faults import session
from tests.support.vaults import VaultHouse

nth, after = int(sys.argv[2]), sys.argv[3] == "after"
fs = FaultyFileOps(FileOps(), Fault(kill, nth=nth, after=after))
session(VaultHouse(Path(sys.argv[1]), fs=fs))
"""


def test_a_killed_writer_leaves_what_was_committed(tmp_path):
    house = VaultHouse(tmp_path / "count")
    with house.open() as vault:
        house.store(vault, BEFORE)
    total = count(house)
    chooser = random.Random(1)
    for nth in sorted(chooser.sample(range(1, total), 6)):
        one = VaultHouse(tmp_path / f"{nth}")
        with one.open() as vault:
            one.store(vault, BEFORE)
        when = chooser.choice(["before", "after"])
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(one.folder), str(nth), when],
            check=False,
            timeout=60,
        )
        assert done.returncode == -9
        check(one, set(BEFORE.values()))
