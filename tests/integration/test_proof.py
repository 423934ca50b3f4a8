"""Proof before delete: a file goes only when enough places hold it, verified a short time ago."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.plan import Action, Verb
from lifecycle_sync.model.policy import LifecyclePolicy, Match
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.vault_copies import copy_vault
from lifecycle_sync.service.verifying import Manner, verify_vaults
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.integration.test_policies import Estate, backed_up, trusted

_S = LifecycleState


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path)
    estate.file("small.txt")
    estate.write("large.bin", b"0123456789" * 200_000)
    (tmp_path / "second").mkdir()
    estate.reopen(backup_copies=[tmp_path / "second" / "vault"], calculate_hashes=True)
    estate.ready()
    rules = LifecyclePolicy(
        "gone",
        match=Match(paths=["*"]),
        delete_after_days=100,
        auto_delete=True,
        verified_copies=2,
        verified_within_days=10,
    )
    estate.engine.statements.put_policy(rules)
    estate.sync()
    estate.engine.decisions.settle()
    backed_up(estate)
    yield estate
    estate.engine.close()


def old(estate: Estate) -> None:
    estate.later(150)
    trusted(estate)


def copied(estate: Estate) -> None:
    (place,) = estate.engine.settings.backup_copies
    copy_vault(
        estate.engine,
        str(place),
        archive=False,
        check=False,
        dry_run=False,
        progress=NoProgress(),
        cancel=CancelToken(),
    )


def verified(estate: Estate) -> None:
    outcomes = verify_vaults(
        estate.engine, Manner(share=1.0), progress=NoProgress(), cancel=CancelToken()
    )
    assert all(outcome.ok for outcome in outcomes)


def verdict(estate: Estate, name: str = "small.txt") -> Action:
    found = estate.engine.decisions.explain(estate.id(name)).verdict
    assert isinstance(found, Action)
    assert found.verb is Verb.DELETE
    return found


def test_a_file_goes_only_with_so_many_verified_copies(estate):
    old(estate)
    # One place has it, and nobody has read it there since.
    assert (verdict(estate).guard, estate.due()) == ("proof", {})
    assert "there are 0" in verdict(estate).waits
    verified(estate)
    assert "there are 1 (another place has to hold it" in verdict(estate).waits
    # A copy that nobody has read proves nothing.
    copied(estate)
    assert verdict(estate).guard == "proof"
    assert estate.apply()["completed"] == 0
    verified(estate)
    assert verdict(estate).guard == ""
    # What was verified too long ago, neither.
    estate.later(11)
    trusted(estate)
    assert verdict(estate, "large.bin").guard == "proof"
    verified(estate)
    assert estate.due() == dict.fromkeys(("small.txt", "large.bin"), Verb.DELETE)
    assert estate.apply()["completed"] == 2
    assert estate.state("large.bin") is _S.DELETED


def test_with_the_index_the_evidence_is_lost(estate):
    old(estate)
    copied(estate)
    verified(estate)
    assert verdict(estate).guard == ""
    estate.engine.close()
    for path in Path(f"{estate.engine.registry.path}.index").iterdir():
        path.unlink()
    estate.reopen(backup_copies=estate.engine.settings.backup_copies)
    assert verdict(estate).guard == "proof"


@pytest.mark.parametrize("how", ["away", "lost", "short"])
def test_a_place_that_is_away_at_the_moment_of_use_proves_nothing(estate, tmp_path, how):
    old(estate)
    copied(estate)
    verified(estate)
    plan = estate.plan()
    assert len([it for it in plan.actions if not it.guard]) == 2
    place = tmp_path / "second" / "vault"
    if how == "away":
        place.rename(tmp_path / "second" / "unmounted")
    elif how == "lost":
        for path in [*place.rglob("*.zip"), *place.rglob("*.zst")]:
            path.unlink()
    else:
        for path in [*place.rglob("*.zip"), *place.rglob("*.zst")]:
            path.write_bytes(path.read_bytes()[:-1])
    assert estate.apply(plan) == {"completed": 0, "skipped": 2, "failed": 0}
    assert (estate.root / "small.txt").exists()


def test_damage_that_verify_has_found_is_no_proof(estate, tmp_path):
    old(estate)
    copied(estate)
    verified(estate)
    (pack,) = (tmp_path / "second" / "vault" / "packs").rglob("*.zip")
    pack.write_bytes(bytes(pack.stat().st_size))
    estate.later(0.1)
    verify_vaults(estate.engine, Manner(share=1.0), progress=NoProgress(), cancel=CancelToken())
    assert verdict(estate).guard == "proof"
    assert verdict(estate, "large.bin").guard == ""


def test_a_person_is_not_held_by_it(estate):
    old(estate)
    record = estate.engine.registry.act_files([estate.id("small.txt")])
    assert estate.engine.acts.delete(estate.repository, list(record.values())).completed == 1


def test_what_was_archived_is_purged_only_with_proof(estate):
    record = estate.engine.registry.act_files([estate.id("small.txt")])
    assert estate.engine.acts.archive(estate.repository, list(record.values())).completed == 1
    estate.later(2)
    trusted(estate)
    report = estate.engine.acts.purge(estate.repository)
    # The archive was read just now; the vault has not been verified.
    assert (report.completed, report.skipped) == (0, 1)
    assert "there are 1" in report.done[0].reason
    verified(estate)
    assert estate.engine.acts.purge(estate.repository).completed == 1


def test_asking_for_proof_changes_nothing(estate):
    old(estate)
    copied(estate)
    verified(estate)
    estate.reopen(backup_copies=estate.engine.settings.backup_copies)
    registry = estate.engine.registry
    # A vault that is newer than the registry: somebody else has told it something.
    with Vault.open(
        estate.engine.vaults.path(VaultKind.BACKUP),
        VaultKind.BACKUP,
        index_path="",
        fs=FileOps(),
        clock=estate.clock,
    ) as vault:
        vault.checkpoint()
        with vault.writer() as writer:
            writer.commit(estate.engine.registry.statements())
    before = registry.last_seq(), registry.checks()
    query = "SELECT * FROM manifests_applied"
    rows = registry.query(query)
    registry_path = Path(registry.path)
    stamp = registry_path.read_bytes()
    assert estate.due() == dict.fromkeys(("small.txt", "large.bin"), Verb.DELETE)
    assert (registry.last_seq(), registry.checks()) == before
    assert registry.query(query) == rows
    assert registry_path.read_bytes() == stamp
