"""A disk that is too full: what has a verified copy goes early from the trash, and nothing else."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps, Name
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.plan import VersionMark
from lifecycle_sync.model.temp import Usage
from lifecycle_sync.service.daemon import SPACE, Daemon
from lifecycle_sync.service.plan_file import read_plan, write_plan
from lifecycle_sync.service.space import Relief
from lifecycle_sync.service.temp.cleanup import TempStorageCleanupService
from lifecycle_sync.service.temp.holds import RegistryHolds
from lifecycle_sync.service.temp.trash_first import TrashFirst
from tests.integration.test_policies import Estate
from tests.support.temp_jobs import Storage

_BLOCK = 4_096
_SIZE = 50_000


class SmallDisk(FileOps):
    """Below `folder` lies all that is on a disk of `blocks`, beside what others have there."""

    def __init__(self, folder: Path, blocks: int) -> None:
        self.folder = folder
        self.blocks = blocks
        self.others = 0

    def statvfs(self, path: Name) -> os.statvfs_result:
        used = self.others + sum(
            it.stat().st_blocks * 512 // _BLOCK for it in self.folder.rglob("*") if it.is_file()
        )
        free = self.blocks - used
        return os.statvfs_result((_BLOCK, _BLOCK, self.blocks, free, free, 0, 0, 0, 0, 255))


class Full(Estate):
    """Ten files in the trash, deleted one a day, on a disk that is too full from then on."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.disk = SmallDisk(self.root, 4_000)
        self.reopen(fs=self.disk, min_free_space_gb=0, calculate_hashes=True)
        for n in range(10):
            self.write(f"{n}.bin", bytes([65 + n]) + random.Random(n).randbytes(_SIZE - 1))
        self.write("stays.bin", b"s" * _SIZE)
        self.ready()

    def deleted(self, *, kept: bool = True) -> None:
        self.later(0.1)
        if kept:
            assert self.apply()["completed"] == 11
        for n in range(10):
            record = self.engine.registry.act_files([self.id(f"{n}.bin")])
            self.engine.acts.delete(self.repository, list(record.values()))
            self.later(0.5)
        assert len(self.trash()) == 10

    def trash(self) -> set[str]:
        """The letters of what lies there, by which the files are told apart."""
        top = self.root / ".lifecycle" / "trash"
        found = {p.read_bytes() for p in top.rglob("*") if p.is_file() and p.name != "batch.jsonl"}
        return {text[:1].decode() for text in found}

    def fill(self, percent: float) -> None:
        """Others write something."""
        self.disk.others = 0
        mine = self.disk.blocks - self.disk.statvfs(b"").f_bfree
        self.disk.others = math.ceil(self.disk.blocks * percent / 100) - mine

    def relieve(self) -> Relief | None:
        return self.engine.making_room.relieve(self.repository)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Full]:
    estate = Full(tmp_path)
    yield estate
    estate.engine.close()


def test_a_disk_with_room_is_left_alone(full: Full):
    full.deleted()
    full.fill(94)
    assert full.relieve() is None
    assert len(full.trash()) == 10


def test_the_oldest_of_what_has_copies_goes_and_no_more_than_is_needed(full: Full):
    full.deleted()
    full.fill(96)
    # A file is 13 of 4,000 blocks, so three of them have to go.
    full.reopen(fs=full.disk, space_low_percent=95.2, space_high_percent=96, min_free_space_gb=0)
    relief = full.relieve()
    assert relief is not None
    assert relief.error is None
    assert full.trash() == set("DEFGHIJ")
    assert relief.files == 3
    row = full.engine.registry.journal(None, 1_000, types=["purge"])[-1]
    details = json.loads(row.details or "")
    assert details["reason"] == "its disk is 96.0 % full"
    backup = full.engine.vaults.backup()
    assert details["copy"].startswith(backup.store_id.hex())
    # It can still be had.
    version = next(backup.versions_of(row.file_id))
    assert version.content is not None
    assert backup.read_small(version.content)[:1] == b"C"
    assert (full.root / "stays.bin").exists()
    assert full.relieve() is None


def test_what_no_vault_has_stays_and_that_is_an_alarm(full: Full):
    full.deleted(kept=False)
    full.fill(96)
    relief = full.relieve()
    assert relief is not None
    assert relief.error is not None
    assert "freed 0" in str(relief.error)
    assert len(full.trash()) == 10
    assert (full.root / "stays.bin").exists()


def test_a_copy_that_is_damaged_is_none(full: Full):
    full.deleted()
    packs = list(Path(full.settings.backup_path).rglob("*.zip"))
    assert packs
    for path in packs:
        os.chmod(path, 0o600)
        data = bytearray(path.read_bytes())
        data[200:-5_000] = bytes(len(data) - 5_200)
        path.write_bytes(data)
    full.fill(96)
    relief = full.relieve()
    assert relief is not None
    assert relief.files == 0
    assert len(full.trash()) == 10


def test_a_copy_that_may_be_pruned_is_none(full: Full):
    full.deleted()
    file_id = next(
        it.file_id
        for it in full.engine.registry.journal(None, 1_000, types=["delete"])
        if it.status == "completed"
    )
    (version,) = full.engine.registry.kept_versions([file_id])[file_id]
    full.engine.registry.write_decided([], None, [VersionMark(file_id, version.version_id, 1)])
    full.fill(96)
    full.relieve()
    assert full.trash() == {"A"}


def test_what_was_changed_in_the_trash_stays(full: Full):
    full.deleted()
    first = min((full.root / ".lifecycle" / "trash").rglob("0"), key=os.fspath)
    before = first.stat()
    first.write_bytes(b"Z" * _SIZE)
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    full.fill(96)
    full.relieve()
    assert full.trash() == {"Z"}


def test_a_hold_keeps_what_lies_in_the_trash(full: Full):
    full.deleted()
    full.engine.statements.hold(query=f"{full.root}/3.bin", reason="a lawsuit")
    full.fill(96)
    full.relieve()
    assert full.trash() == {"D"}


def test_a_plan_says_that_room_is_needed(full: Full):
    full.fill(97)
    plan = full.plan()
    assert plan.roots[0].space == "its disk is 97.0 % full"
    assert read_plan(write_plan(plan)) == plan


def test_no_retention_is_shortened_for_it(full: Full):
    full.fill(99)
    relief = full.relieve()
    assert relief is not None
    assert relief.error is not None
    assert full.state("stays.bin") is not LifecycleState.DELETED
    assert full.due(at_ns=full.clock.now_ns() + NS_PER_DAY).keys() >= {"stays.bin"}
    assert len([it for it in full.root.iterdir() if it.suffix == ".bin"]) == 11


def follow(full: Full) -> list[LifecycleError]:
    """The loops, until room was made or is told to be impossible, and a pass more."""
    cancel, troubles = CancelToken(), list[LifecycleError]()

    def on_trouble(error: LifecycleError) -> None:
        troubles.append(error)

    daemon = Daemon(
        full.engine,
        cancel=cancel,
        on_report=lambda _: None,
        on_trouble=on_trouble,
    )

    deadline = time.monotonic() + 120

    def enough() -> bool:
        assert time.monotonic() < deadline, "nothing was told of it"
        return SPACE in {it.name for it in full.engine.registry.loops()}

    with daemon:
        daemon.follow(3_600, enough)
    return troubles


def test_the_loops_of_run_make_room_and_status_tells_of_it(full: Full):
    full.deleted()
    full.fill(96)
    full.reopen(fs=full.disk, space_low_percent=95.2, space_high_percent=96, min_free_space_gb=0)
    assert follow(full) == []
    assert full.trash() == set("DEFGHIJ")
    noted = {it.name: it for it in full.engine.registry.loops()}
    assert noted[SPACE].status == "completed"


def test_the_loops_raise_an_alarm_where_that_does_not_suffice(full: Full):
    full.deleted(kept=False)
    full.fill(98)
    (trouble,) = follow(full)
    assert "wanted" in str(trouble)
    noted = {it.name: it for it in full.engine.registry.loops()}
    assert (noted[SPACE].status, noted[SPACE].message) == ("failed", str(trouble))


# -- for temporary files on the same disk ------------------------------------------------------


class Shared:
    """Temporary files beside a root, on one disk; how full it is is what the root's says."""

    def __init__(self, full: Full) -> None:
        self.storage = Storage(full.base / "temp")
        self._full = full
        self.trash = TrashFirst(full.engine)

    def usage(self) -> Usage:
        mine = sum(it.stat().st_size for it in self.storage.base.rglob("*") if it.is_file())
        told = self._full.engine.space.usage(self._full.repository)
        return told._replace(
            used_bytes=told.used_bytes + mine, available_bytes=told.available_bytes - mine
        )

    def emergency(self, **settings: object) -> dict[str, Any]:
        for name, value in settings.items():
            setattr(self.storage.settings, name, value)
        held = RegistryHolds(self._full.engine.registry)
        cleanup = self.storage.cleanup(provider=self, trash=self.trash, held=held)
        return cleanup.emergency()


def test_trash_that_has_a_copy_goes_before_temporary_files_and_no_more_than_needed(full: Full):
    full.deleted()
    shared = Shared(full)
    shared.storage.put("old", size=_SIZE)
    full.fill(85.0 + 100 * 3 * 13 / 4_000)
    shown = shared.emergency(cleanup_dry_run=True)
    assert shown["files_deleted"] == 0
    assert len(full.trash()) == 10
    done = shared.emergency(cleanup_dry_run=False)
    # What the temporary file takes is too much as well.
    assert done["files_deleted"] == 4
    assert full.trash() == set("EFGHIJ")
    assert shared.storage.left() == {"old"}
    assert done["errors"] == []


def test_trash_without_a_copy_stays_and_temporary_files_go(full: Full):
    full.deleted(kept=False)
    shared = Shared(full)
    shared.storage.put("old", size=_SIZE)
    full.fill(96)
    done = shared.emergency()
    assert len(full.trash()) == 10
    assert shared.storage.left() == set()
    assert "did not reach its target" in str(done["errors"])


def test_held_trash_stays_and_no_more_goes_than_one_clean_up_may(full: Full):
    full.deleted()
    full.engine.statements.hold(query=f"{full.root}/0.bin", reason="evidence")
    shared = Shared(full)
    full.fill(99)
    shared.emergency(max_files_per_cleanup=3)
    assert "A" in full.trash()
    assert len(full.trash()) >= 7


def test_the_service_hands_it_on(full: Full):
    full.deleted()
    shared = Shared(full)
    full.fill(85.0 + 100 * 3 * 13 / 4_000)
    service = TempStorageCleanupService(shared, None, shared.storage.settings, trash=shared.trash)
    full.disk.others += 400
    assert asyncio.run(service.emergency_cleanup())["files_deleted"] == 10
    assert full.trash() == set()


def test_a_pause_stops_that_too_and_the_loops_say_so(full: Full):
    full.deleted()
    full.fill(96)
    full.engine.statements.pause("moving house", "me")
    (trouble,) = follow(full)
    assert "moving house" in str(trouble)
    assert len(full.trash()) == 10
