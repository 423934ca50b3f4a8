"""What is kept is tended: read again within some days, healed, restored for a trial."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.service.named_copies import update_copies
from lifecycle_sync.service.tending import (
    DRILLING,
    VERIFYING,
    Tending,
    drill_due,
    verify_slice,
)
from lifecycle_sync.vault.vault import VaultKind
from tests.integration.test_policies import Estate, backed_up
from tests.support.vaults import flip

SLICES_A_DAY = 4


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path)
    estate.reopen(verify_days=10, drill_days=3, calculate_hashes=True)
    for number in range(12):
        # Each in a vault of its own object, so that there is something to take turns.
        estate.write(f"{number}.bin", random.Random(number).randbytes((1 << 20) + number))
    estate.ready()
    backed_up(estate)
    yield estate
    estate.engine.close()


def vault(estate: Estate) -> Path:
    return Path(estate.engine.vaults.path(VaultKind.BACKUP))


def a_slice(estate: Estate):
    estate.later(1 / SLICES_A_DAY)
    return verify_slice(estate.engine, VaultKind.BACKUP, CancelToken())


def test_every_byte_is_read_within_the_days_and_damage_is_healed(estate):
    damaged = sorted((vault(estate) / "objects").rglob("*.zst"))[7]
    flip(damaged, 5_000)
    outcomes = [a_slice(estate) for _ in range(10 * SLICES_A_DAY)]
    assert all(outcome.ok for outcome in outcomes)
    (found,) = [outcome for outcome in outcomes if outcome.damage]
    assert found.damage[0].healed
    # In turns, not all at once.
    assert max(outcome.report.hashed for outcome in outcomes) <= 2
    assert sum(outcome.report.hashed for outcome in outcomes) >= 12
    (note,) = [it for it in estate.engine.registry.checks() if it.what == "verify"]
    assert estate.clock.now_ns() - note.since_ns < 10 * 86_400 * 10**9
    assert estate.engine.vaults.backup().verify(contents=True).ok


def test_what_has_just_been_verified_is_not_read_again_at_once(estate):
    assert a_slice(estate) is not None
    assert verify_slice(estate.engine, VaultKind.BACKUP, CancelToken()) is None
    # There is no archive.
    assert verify_slice(estate.engine, VaultKind.ARCHIVE, CancelToken()) is None


def test_a_drill_is_due_again_after_so_many_days(estate):
    roots, cancel = [estate.repository], CancelToken()
    (outcome,) = drill_due(estate.engine, roots, cancel)
    assert (outcome.ok, outcome.versions) == (True, 12)
    estate.later(2.9)
    assert drill_due(estate.engine, roots, cancel) == []
    estate.later(0.2)
    flip(sorted((vault(estate) / "objects").rglob("*.zst"))[3], 5_000)
    (outcome,) = drill_due(estate.engine, roots, cancel)
    assert [failure.number for failure in outcome.failures] == [1]
    note = next(it for it in estate.engine.registry.checks() if it.what == "drill")
    assert (note.faults, note.files, note.since_ns < note.ended_ns) == (1, 12, True)


def test_the_thread_tells_damage_that_nobody_can_heal(estate):
    flip(sorted((vault(estate) / "objects").rglob("*.zst"))[3], 5_000)
    for file in estate.root.glob("*.bin"):
        file.write_bytes(b"changed")
    estate.reopen(verify_days=1, drill_days=3, calculate_hashes=True)
    estate.later(5)
    told: list[LifecycleError] = []
    done = threading.Event()

    def on_trouble(error: LifecycleError) -> None:
        told.append(error)
        if len(told) == 2:
            done.set()

    # A day is a whole round of it.
    tending = Tending(
        estate.engine,
        lambda: [estate.repository],
        on_trouble,
        first_seconds=0,
        interval_seconds=86_400,
    )
    tending.start()
    try:
        assert done.wait(60)
    finally:
        tending.stop()
    assert {error.operation for error in told} == {"verify", "drill"}
    loops = {loop.name: loop.status for loop in estate.engine.registry.loops()}
    assert loops == {VERIFYING: "failed", DRILLING: "failed"}


def test_a_copy_that_is_away_keeps_no_other_from_being_brought_up_to_date(estate, tmp_path):
    copies = [tmp_path / "away", tmp_path / "there"]
    estate.reopen(backup_copies=copies, calculate_hashes=True)
    trouble = update_copies(estate.engine, CancelToken())
    assert trouble is not None
    assert str(copies[0]) in str(trouble)
    assert not any(path.exists() for path in copies)
