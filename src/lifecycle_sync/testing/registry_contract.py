"""The contract of `Registry`: a suite for every implementation.

    class TestMine(RegistryContract):
        def make_registry(self, folder, clock):
            return MyRegistry(folder / "registry", clock=clock)

Each test gets an empty folder, a clock that stands still and a registry with one root. Set
`persistent = False` where a registry does not outlive its closing; those that reopen it then go on
with the one they have.
"""

from __future__ import annotations

from lifecycle_sync.testing.registry_contract_acts import (
    ActFileContract,
    ActRunContract,
    IntentContract,
)
from lifecycle_sync.testing.registry_contract_beside import ScanBesideActContract
from lifecycle_sync.testing.registry_contract_conflicts import ConflictContract
from lifecycle_sync.testing.registry_contract_directories import DirectoryContract
from lifecycle_sync.testing.registry_contract_due import DueContract
from lifecycle_sync.testing.registry_contract_files import FileContract
from lifecycle_sync.testing.registry_contract_hashes import HashContract
from lifecycle_sync.testing.registry_contract_holds import HoldContract, PolicyContract
from lifecycle_sync.testing.registry_contract_jobs import JobContract
from lifecycle_sync.testing.registry_contract_loose import LooseContract
from lifecycle_sync.testing.registry_contract_marked import MarkedContract
from lifecycle_sync.testing.registry_contract_outcomes import OutcomeContract
from lifecycle_sync.testing.registry_contract_queries import FindContract
from lifecycle_sync.testing.registry_contract_replay import ReplayContract
from lifecycle_sync.testing.registry_contract_repositories import (
    JournalContract,
    RepositoryContract,
    RunContract,
    WholeContract,
)
from lifecycle_sync.testing.registry_contract_scans import ScanContract
from lifecycle_sync.testing.registry_contract_settling import SettleContract
from lifecycle_sync.testing.registry_contract_states import StateContract
from lifecycle_sync.testing.registry_contract_sums import SumContract
from lifecycle_sync.testing.registry_contract_watching import WatchContract


class RegistryContract(
    RepositoryContract,
    LooseContract,
    RunContract,
    ScanContract,
    DirectoryContract,
    SettleContract,
    HashContract,
    FileContract,
    StateContract,
    FindContract,
    SumContract,
    JournalContract,
    ActRunContract,
    IntentContract,
    OutcomeContract,
    ScanBesideActContract,
    ActFileContract,
    HoldContract,
    PolicyContract,
    DueContract,
    MarkedContract,
    ReplayContract,
    WatchContract,
    ConflictContract,
    JobContract,
    WholeContract,
):
    """Every method of the protocol. Derive from it and say how a registry is made."""
