"""What a registry promises. Callers ask for the narrowest of these protocols.

For all of them: a call that returns has committed, a call that raises has changed nothing, reads
see every write of the same process that returned before, and no write transaction lasts long (the
caller keeps batches to some thousand rows). Every method may be called from any thread. Errors are
`BusyError` (the database is held elsewhere), `StorageFullError`, `RegistryCorruptError`.
"""

from __future__ import annotations

from typing import Protocol

from lifecycle_sync.registry.protocol_acts import (
    ActStore,
    DueStore,
    HoldStore,
    Journal,
    PolicyStore,
    ReplayStore,
)
from lifecycle_sync.registry.protocol_files import (
    FileStore,
    HashStore,
    QueryStore,
    RepositoryStore,
    ScanStore,
)
from lifecycle_sync.registry.protocol_following import ConflictStore, JobStore, WatchStore

__all__ = [
    "ActStore",
    "ConflictStore",
    "DueStore",
    "FileStore",
    "HashStore",
    "HoldStore",
    "JobStore",
    "Journal",
    "PolicyStore",
    "QueryStore",
    "Registry",
    "ReplayStore",
    "RepositoryStore",
    "ScanStore",
    "WatchStore",
]


class Registry(
    RepositoryStore,
    ScanStore,
    HashStore,
    FileStore,
    QueryStore,
    Journal,
    ActStore,
    HoldStore,
    PolicyStore,
    DueStore,
    ReplayStore,
    WatchStore,
    ConflictStore,
    JobStore,
    Protocol,
):
    """All of it."""

    def close(self) -> None:
        """Release connections and locks. Idempotent; any other call afterwards is an error."""
        ...
