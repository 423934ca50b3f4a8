"""A policy chooses which copies of the vault its versions go to; nothing is out of reach by it."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.model.policy import LifecyclePolicy, Match, faults_of
from lifecycle_sync.service.doctor_vaults import examine_vaults
from lifecycle_sync.service.named_copies import update_copies
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.rebuild import rebuild
from lifecycle_sync.service.vault_copies import copy_vault
from lifecycle_sync.service.verifying import Manner, verify_vaults
from lifecycle_sync.vault.copy_choice import CopyChoice
from lifecycle_sync.vault.copying import CopyReport
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.house import House

BIG = 2 << 20


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_800_000_000_000_000_000)


@pytest.fixture
def house(tmp_path, clock):
    """Raw films stay on this disk; all else goes to both copies. What is large lies by itself, and
    small ones are backed up one by one, so that each has a pack."""
    near, far = tmp_path / "near", tmp_path / "far"
    house = House(tmp_path, clock=clock, backup_copies=(near, far))
    with closing(house.engine):
        house.add()
        raw = LifecyclePolicy("raw", match=Match(paths=["*.raw"]), copies=[str(near)])
        house.engine.statements.put_policy(raw)
        for name, data in FILES.items():
            keep(house, clock, name, data)
        yield house


FILES = {
    "film.raw": random.Random(1).randbytes(BIG),
    "cut.mp4": random.Random(2).randbytes(BIG),
    "small.raw": b"a small raw one",
    "small.txt": b"a small text",
}


def keep(house: House, clock: FixedClock, name: str, data: bytes) -> None:
    house.write(name, data)
    clock.advance(3600)
    house.sync()
    house.engine.decisions.settle()
    house.engine.acts.back_up(house.repository)


def copy(house: House, place: str) -> CopyReport:
    return copy_vault(
        house.engine,
        str(house.base / place),
        archive=False,
        check=False,
        dry_run=False,
        progress=NoProgress(),
        cancel=CancelToken(),
    )


def can_be_read(house: House, place: str) -> set[str]:
    """The files of which a vault in that place gives a version, whoever reads it."""
    found = set()
    with Vault.open(
        house.base / place,
        VaultKind.BACKUP,
        index_path="",
        fs=house.engine.fs,
        clock=house.engine.clock,
        read_only=True,
    ) as vault:
        for it in vault.all_versions(house.repository.repository_id):
            assert it.content is not None
            if vault.contains([it.content]):
                assert b"".join(vault.read(it.content))
                found.add(it.path.decode())
    return found


def policy(house: House, **changes: object) -> None:
    found = house.engine.statements.policy("raw")
    house.engine.statements.put_policy(replace(found, **changes))  # type: ignore[arg-type]
    house.engine.decisions.settle()


def test_versions_go_to_the_copies_that_their_policy_names(house):
    assert (copy(house, "near").left_out, copy(house, "far").left_out) == (0, 2)
    assert can_be_read(house, "near") == set(FILES)
    assert can_be_read(house, "far") == {"cut.mp4", "small.txt"}
    # The vault itself always has all of them.
    assert can_be_read(house, "vault") == set(FILES)
    # And what is kept by `run` goes the same way.
    keep(house, house.engine.clock, "more.raw", random.Random(3).randbytes(BIG))
    assert update_copies(house.engine, CancelToken()) is None
    assert "more.raw" in can_be_read(house, "near")
    assert "more.raw" not in can_be_read(house, "far")


def test_a_change_of_policy_takes_nothing_away_and_brings_what_is_wanted_now(house):
    for place in ("near", "far"):
        copy(house, place)
    policy(house, copies=[])
    copy(house, "near")
    assert can_be_read(house, "near") == set(FILES)
    policy(house, copies=None)
    assert (copy(house, "far").left_out, can_be_read(house, "far")) == (0, set(FILES))
    house.engine.statements.remove_policy("raw")
    assert can_be_read(house, "far") == can_be_read(house, "vault") == set(FILES)


def test_a_content_that_any_file_wants_there_goes_there(house):
    keep(house, house.engine.clock, "same.mp4", FILES["film.raw"])
    assert copy(house, "far").left_out == 1
    assert can_be_read(house, "far") == set(FILES) - {"small.raw"} | {"same.mp4"}


def test_what_is_held_goes_everywhere(house):
    file_id = house.record("film.raw").file_id
    hold = Hold(bytes(16), file_id, None, "a court wants it", "me", 1)
    house.engine.registry.add_hold(hold)
    copy(house, "far")
    assert "film.raw" in can_be_read(house, "far")


def test_what_this_registry_does_not_know_goes_everywhere(house):
    records = house.engine.registry.act_files([house.record("film.raw").file_id])
    versions = [
        (file_id, row.version_id)
        for file_id in records
        for row in house.engine.registry.versions(file_id)
    ]
    house.engine.registry.drop_versions(versions, house.engine.now_ns())
    copy(house, "far")
    assert "film.raw" in can_be_read(house, "far")


def test_a_pack_goes_whole_where_anything_in_it_is_wanted(house):
    for name in ("one.raw", "two.txt"):
        house.write(name, f"content of {name}")
    house.engine.clock.advance(3600)
    house.sync()
    house.engine.decisions.settle()
    house.engine.acts.back_up(house.repository)
    copy(house, "far")
    assert {"one.raw", "two.txt"} <= can_be_read(house, "far")


def test_a_place_that_the_settings_do_not_name_gets_everything(house):
    assert copy(house, "elsewhere").left_out == 0
    assert can_be_read(house, "elsewhere") == set(FILES)


def test_what_is_left_out_is_neither_behind_nor_unverified(house):
    for place in ("near", "far"):
        copy(house, place)
    (outcome, _) = verify_vaults(
        house.engine, Manner(share=1.0), progress=NoProgress(), cancel=CancelToken()
    )
    found = {Path(it.path).name: it.check for it in outcome.copies}
    assert outcome.ok
    assert all(it is not None and it.behind == 0 for it in found.values())
    assert found["far"] is not None
    assert found["far"].left_out == 2
    index = house.engine.vaults.get(VaultKind.BACKUP).index
    assert index.check_totals(str(house.base / "far")).oldest_ns > 0


def test_it_outlives_the_database(house):
    house.engine.close()
    rebuild(house.settings, force=True, clock=house.engine.clock)
    house.reopen()
    assert house.engine.statements.policy("raw").copies == [str(house.base / "near")]
    house.engine.decisions.settle()
    assert copy(house, "far").left_out == 2


def test_explain_says_where_a_file_goes_and_why(house):
    near, far = (str(house.base / it) for it in ("near", "far"))
    found = house.engine.decisions.explain(house.record("film.raw").file_id).copies
    assert [tuple(it) for it in found] == [
        (near, True, "raw names it"),
        (far, False, "raw does not name it"),
    ]
    found = house.engine.decisions.explain(house.record("small.txt").file_id).copies
    assert {(it.goes, it.why) for it in found} == {
        (True, "documents names no copies, so it goes to all")
    }


def test_copies_that_have_a_part_each_come_together_when_the_vault_is_lost(house):
    """Each policy has a place of its own, and so all have what is not in the other."""
    near, far = (house.base / it for it in ("near", "far"))
    for name, paths in (("text", ["*.txt"]), ("cuts", ["*.mp4"])):
        found = LifecyclePolicy(name, match=Match(paths=paths), copies=[str(far)])
        house.engine.statements.put_policy(found)
    house.engine.decisions.settle()
    for place in (near, far):
        copy(house, place.name)
    assert can_be_read(house, "near") == {"film.raw", "small.raw"}
    assert can_be_read(house, "far") == {"cut.mp4", "small.txt"}
    shutil.rmtree(house.base / "vault")
    for name in FILES:
        (house.root / name).unlink()
    house.reopen(backup_path=near, backup_copies=(far,))
    (outcome, _) = verify_vaults(
        house.engine, Manner(share=1.0, heal=True), progress=NoProgress(), cancel=CancelToken()
    )
    assert outcome.ok
    assert can_be_read(house, "near") == set(FILES)


# -- bad input -----------------------------------------------------------------------------


def test_a_place_that_is_no_copy_is_refused_by_name(house):
    with pytest.raises(UsageError) as refused:
        policy(house, copies=["/mnt/nowhere"])
    said = str(refused.value)
    assert "raw" in said
    assert "/mnt/nowhere" in said
    assert "backup_copies" in said
    assert str(house.base / "far") in said


def test_a_copy_that_the_settings_have_given_up_is_told(house):
    house.reopen(backup_copies=(house.base / "far",))
    found = house.engine.decisions.explain(house.record("film.raw").file_id).copies
    assert [it.goes for it in found] == [False, False]
    assert found[1].why == "raw names it, and the settings do not"
    settings: Settings = house.settings
    told = examine_vaults(house.engine.registry, settings, house.engine.clock, house.engine.fs)
    (finding,) = [it for it in told if it.check == "copies"]
    assert "raw" in finding.message
    # Nothing is lost by it.
    assert can_be_read(house, "vault") == set(FILES)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"copies": ["relative"]}, "absolute path"),
        ({"copies": ["/a", "/a"]}, "twice"),
        ({"copies": ["/a"], "verified_copies": 4}, "3 places at most"),
        ({"copies": [], "verified_copies": 3}, "2 places at most"),
    ],
)
def test_faults_of_the_choice(fields, words):
    (fault,) = faults_of(LifecyclePolicy("p", **fields))
    assert words in fault
    assert faults_of(LifecyclePolicy("p", copies=["/a"], verified_copies=3)) == []


# -- controls ------------------------------------------------------------------------------


def test_without_what_is_wanted_a_content_would_be_missing(house, monkeypatch):
    keep(house, house.engine.clock, "same.mp4", FILES["film.raw"])
    add = CopyChoice.add
    monkeypatch.setattr(CopyChoice, "add", lambda it, spared, wanted: add(it, spared, []))
    copy(house, "far")
    assert "same.mp4" not in can_be_read(house, "far")
