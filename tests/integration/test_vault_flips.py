"""One flipped bit anywhere in a vault: it is found, told, and costs only what lies on it."""

from __future__ import annotations

import pytest

from lifecycle_sync.vault import verify_stored
from lifecycle_sync.vault.index import Index
from tests.support.flips import INDEXES, VAULTS, FlippedVault, MissedError


@pytest.mark.parametrize("kind", VAULTS)
@pytest.mark.parametrize("index", INDEXES)
def test_a_flipped_bit_is_found_and_only_what_lies_there_is_lost(tmp_path, index, kind):
    vault = FlippedVault(tmp_path, index, kind)
    flips = vault.sample(20 if kind == "made" else 8, seed=20261129)
    assert len({flip.file for flip in flips}) >= 10
    lost = {flip.file.partition("/")[0] for flip in flips if vault.check(flip)}
    # The front of a vault says nothing of contents; all else does. (What an encrypted one has told
    # this machine is kept here in the clear, too, beside the index.)
    assert lost >= {"packs", "objects"}
    assert "manifests" in lost or (kind == "encrypted" and index != "none")


# -- controls ------------------------------------------------------------------------------


def missed(vault: FlippedVault, folder: str) -> None:
    flips = [flip for flip in vault.sample(40, seed=1) if flip.file.startswith(folder)]
    with pytest.raises(MissedError):
        list(map(vault.check, flips))


def test_a_verify_that_believes_the_lengths_of_packs_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(verify_stored, "check_pack", lambda *_: None)
    missed(FlippedVault(tmp_path), "packs")


def test_versions_that_stay_with_a_damaged_manifest_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Index, "lose_frame", lambda *_: None)
    missed(FlippedVault(tmp_path, "asked"), "manifests")


def test_versions_that_only_a_checkpoint_still_tells_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(Index, "ask_all", lambda *_: None)
    missed(FlippedVault(tmp_path, "known"), "manifests")
