"""Writers, a prune, a verify and a reader take turns at single operations of one storage."""

from __future__ import annotations

import pytest

from lifecycle_sync.vault import verify
from lifecycle_sync.vault.manifest import ManifestWriter
from lifecycle_sync.vault.prune import prune, withdraw
from lifecycle_sync.vault.writer import VaultWriter
from tests.support.interleaving import Interleaving
from tests.support.vaults import REPOSITORY, START_NS, VaultHouse

# Of `make interleavings`, which has 1,000: some that have found something once, and others.
SEEDS = [16, 32, 48, 49, 71, 80, 87, 172, 187, 453, *range(1_000, 1_008)]


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_the_order_nothing_that_was_acknowledged_is_lost(seed):
    assert Interleaving(seed).run() > 50


# -- controls ------------------------------------------------------------------------------


def finds(words: str, seeds: range) -> None:
    with pytest.raises(Exception, match=words):
        list(map(_run, seeds))


def _run(seed: int) -> None:
    Interleaving(seed).run()


def test_a_writer_that_does_not_look_again_is_found(monkeypatch):
    monkeypatch.setattr(VaultWriter, "_look_again", lambda *_: None)
    finds("read from vault", range(120, 180))


def test_a_verify_that_takes_a_prune_for_damage_is_found(monkeypatch):
    monkeypatch.setattr(verify, "look_again", lambda _: None)
    finds("verify finds", range(20))


# -- one by one ----------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True])
def test_a_reader_finds_all_versions_though_their_manifests_were_compacted(tmp_path, asked):
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        stored = [house.store(vault, {b"%d" % it: b"content %d" % it})[1][0] for it in range(6)]
        with house.open(index_path=str(tmp_path / "reader")) as reader:
            if asked:
                assert len(list(reader.all_versions(REPOSITORY))) == 6
            for it in (0, 1):
                withdraw(vault, [stored[it].version_id], START_NS, "asked")
                prune(vault, now_ns=START_NS + it, grace_ns=0)
            assert not {it.name for it in house.files("manifests")} & set(reader.manifests())
            # Of what was pruned meanwhile it may still have heard, or not.
            found = {it.path for it in reader.all_versions(REPOSITORY)}
            assert {b"2", b"3", b"4", b"5"} <= found
            assert [it.path for it in reader.versions_of(stored[3].file_id)] == [b"3"]
            assert not reader.damaged_manifests


def test_a_manifest_that_follows_a_compacted_one_misses_nothing(tmp_path):
    """Its writer slept while so many prunes went by that their checkpoints have gone, too."""
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        stored = [house.store(vault, {b"%d" % it: b"content %d" % it})[1][0] for it in range(7)]
        with house.open(index_path=str(tmp_path / "sleeper")) as sleeper:
            header = sleeper.next_header()
            for it in range(6):
                withdraw(vault, [stored[it].version_id], START_NS, "asked")
                prune(vault, now_ns=START_NS + it, grace_ns=0)
            manifest = ManifestWriter(sleeper.storage, header)
            manifest.publish()
        assert not {it.name for it in house.files("manifests")} & set(header.previous)
        report = vault.verify(contents=True)
        assert report.ok, report.findings
        # And the next prune is not kept from its work by that.
        withdraw(vault, [stored[6].version_id], START_NS, "asked")
        assert prune(vault, now_ns=START_NS + 9, grace_ns=0).deleted
