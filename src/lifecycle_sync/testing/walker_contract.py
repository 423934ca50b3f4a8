"""The contract of the walk: a suite for every implementation.

    class TestMine(WalkerContract):
        def walk(self, root, rules, **options):
            return my_walk(root, rules, **options)

`WalkerContract` needs nothing but a disk. `WalkerFaultContract` lets the file operations fail, lie,
or change the tree in the middle of a walk; it is for those that reach the disk through `FileOps`.
"""

from __future__ import annotations

from lifecycle_sync.testing.walker_contract_faults import FaultContract, SwapContract
from lifecycle_sync.testing.walker_contract_listing import IgnoreContract, ListingContract
from lifecycle_sync.testing.walker_contract_signature import RacyContract, SignatureContract
from lifecycle_sync.testing.walker_contract_tree import DescriptorContract, TreeContract


class WalkerContract(
    ListingContract,
    IgnoreContract,
    SignatureContract,
    RacyContract,
    TreeContract,
    DescriptorContract,
):
    """What a walk shows of a tree that nobody touches meanwhile."""


class WalkerFaultContract(FaultContract, SwapContract):
    """What a walk makes of errors, and of a tree that changes under it."""
