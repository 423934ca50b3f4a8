"""Both walks keep the contract: the one in Python in blocks of any size, the one in C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle_sync.model.observation import Listing
from lifecycle_sync.observe import listing as listing_module
from lifecycle_sync.observe import native_walker
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.native_walker import walk_native
from lifecycle_sync.observe.walker import walk
from lifecycle_sync.testing.walker_contract import WalkerContract, WalkerFaultContract
from lifecycle_sync.testing.walker_contract_listing import IgnoreContract, ListingContract
from lifecycle_sync.testing.walker_contract_signature import RacyContract
from tests.support.native import needs_native


class TestWalk(WalkerContract, WalkerFaultContract):
    def walk(self, root: bytes, rules: IgnoreRules, **options: Any) -> Iterator[Listing]:
        return walk(root, rules, **options)


class TestWalkInSmallBlocks(ListingContract, IgnoreContract, RacyContract):
    """Every directory of more than two entries is a large one."""

    def walk(self, root: bytes, rules: IgnoreRules, **options: Any) -> Iterator[Listing]:
        return walk(root, rules, **options)

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing_module, "BLOCK", 2)


@needs_native
class TestNativeWalk(WalkerContract, WalkerFaultContract):
    def walk(self, root: bytes, rules: IgnoreRules, **options: Any) -> Iterator[Listing]:
        return walk_native(root, rules, **options)


@needs_native
class TestNativeWalkReadAhead(WalkerContract):
    """Several threads read from the first directory on."""

    def walk(self, root: bytes, rules: IgnoreRules, **options: Any) -> Iterator[Listing]:
        return walk_native(root, rules, **options)

    @pytest.fixture(autouse=True)
    def many_readers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native_walker, "READERS", 3)
        monkeypatch.setattr(native_walker, "ALONE_DIRECTORIES", 0)
