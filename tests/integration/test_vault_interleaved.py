"""Writers, a prune, a verify and a reader take turns at single operations of one storage."""

from __future__ import annotations

import pytest

from lifecycle_sync.vault.verify import _Verification
from lifecycle_sync.vault.versions import Versions
from lifecycle_sync.vault.writer import VaultWriter
from tests.support.interleaving import Interleaving

# Of `make interleavings`, which has 1,000: some that have found something once, and others.
SEEDS = [7, 9, 13, 23, 32, 48, 93, 118, 198, *range(1_000, 1_011)]


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
    finds("gone|cannot be read|not stored|missing|contradictory", range(200))


def test_a_verify_that_takes_a_prune_for_damage_is_found(monkeypatch):
    monkeypatch.setattr(_Verification, "_look_again", lambda _: None)
    finds("verify finds", range(20))


def test_a_reader_that_does_not_know_of_compacted_manifests_is_found(monkeypatch):
    monkeypatch.setattr(Versions, "_take_up_compacted", lambda *_: None)
    finds("is gone", range(200))
