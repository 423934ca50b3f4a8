"""Which places hold what a file has, and when each was verified: asked before a file goes.

The places are the backup vault, the archive, and the copies of both that the settings name. What a
place was last found to hold whole is in the index of the vault, beside the registry; where that was
lost nothing counts, until it was verified again. At the moment of use each file of the vault is
looked for once more: a disk that is away proves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from lifecycle_sync.clock import Clock
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.dates import dates_of
from lifecycle_sync.decide.proof import HeldAt, lacking
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.plan import Subject
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.vaults import Vaults
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.format import object_name, pack_name
from lifecycle_sync.vault.index import PackPlace
from lifecycle_sync.vault.vault import Vault, VaultKind


class Proof:
    """Asks the vaults of one registry. Thread-safe."""

    def __init__(
        self, registry: Registry, vaults: Vaults, settings: Settings, fs: FileOps, clock: Clock
    ) -> None:
        self._registry = registry
        self._vaults = vaults
        self._settings = settings
        self._fs = fs
        self._clock = clock

    # -- when a plan is made ---------------------------------------------------------------

    def unproven(self, files: Iterable[Subject], rules: Rules, at_ns: int) -> dict[bytes, str]:
        """Why files that are due to go may not, by what their policies demand of copies, by their
        ids; those that may are left out. Reads the indexes alone."""
        demanding = {}
        for file in files:
            policy = rules.choose(file, at_ns)
            if not policy.verified_copies or file.state is LifecycleState.ARCHIVED:
                continue
            delete_ns = dates_of(file, policy).delete_ns
            if delete_ns is not None and delete_ns <= at_ns:
                demanding[file.file_id] = policy
        if not demanding:
            return {}
        return self._lacking(self._registry.act_files(list(demanding)), demanding, at_use=False)

    # -- when a file goes ------------------------------------------------------------------

    def against(self, file: ActFile, policy: LifecyclePolicy) -> str:
        """Why a file may not go now; empty where nothing stands against it."""
        if not policy.verified_copies or file.state is LifecycleState.ARCHIVED:
            return ""
        found = self._lacking({file.file_id: file}, {file.file_id: policy}, at_use=True)
        return found.get(file.file_id, "")

    def against_content(self, file_id: bytes, key: ContentKey) -> str:
        """Why the last other bytes of an archived file may not go, by the policy that governs it
        now; the archive's own copy was read right before."""
        policies = self._registry.policies()
        if not any(it.verified_copies for it in policies):
            return ""
        subject = self._registry.subjects([file_id]).get(file_id)
        if subject is None:
            return ""
        now_ns = self._clock.now_ns()
        policy = Rules(policies).choose(subject, now_ns)
        places = [
            it._replace(checked_ns=now_ns) if it.place == self._path(VaultKind.ARCHIVE) else it
            for it in self._places(key, at_use=True)
        ]
        return lacking(places, policy, now_ns)

    def _lacking(
        self,
        files: Mapping[bytes, ActFile],
        policies: Mapping[bytes, LifecyclePolicy],
        *,
        at_use: bool,
    ) -> dict[bytes, str]:
        found = {}
        for file_id, file in files.items():
            if file.kind is not Kind.REGULAR:
                # Where a symlink points is in the manifests, which every look at a vault reads.
                continue
            if file.checksum is None or file.hash_due:
                found[file_id] = "its content is not hashed yet, so nobody can say who holds it"
                continue
            places = self._places(ContentKey(file.algorithm, file.checksum), at_use=at_use)
            reason = lacking(places, policies[file_id], self._clock.now_ns())
            if reason:
                found[file_id] = reason
        return found

    # -- places ----------------------------------------------------------------------------

    def _path(self, kind: VaultKind) -> str:
        return self._vaults.path(kind)

    def _places(self, key: ContentKey, *, at_use: bool) -> list[HeldAt]:
        """The places that hold a content, by what was read there; `at_use` its files are looked for
        there now."""
        found = []
        for kind in VaultKind:
            if not self._vaults.is_there(kind):
                continue
            try:
                vault = self._vaults.seen(kind)
                if vault.contains([key]):
                    found += self._held(vault, key, at_use=at_use)
            except LifecycleError:
                # A vault that cannot be opened proves nothing.
                continue
        return found

    def _held(self, vault: Vault, key: ContentKey, *, at_use: bool) -> list[HeldAt]:
        place = vault.index.place(key)
        if place is None:
            return []
        sizes = (
            {pack_name(place.sha256): place.length}
            if isinstance(place, PackPlace)
            else {object_name(part.sha256): part.stored for part in place.parts}
        )
        names = list(sizes)
        checked = vault.index.checked_ns("", names)
        found = [HeldAt(vault.path, min((checked.get(it, 0) for it in names), default=0))]
        for copy in self._copies(vault.kind):
            checked = vault.index.checked_ns(copy, names)
            # Only what was read there is known to be there.
            if len(checked) == len(names) and (not at_use or self._is_there(vault, copy, sizes)):
                found.append(HeldAt(copy, min(checked.values())))
        return found

    def _copies(self, kind: VaultKind) -> tuple[str, ...]:
        settings = self._settings
        chosen = settings.backup_copies if kind is VaultKind.BACKUP else settings.archive_copies
        return tuple(map(os.fspath, chosen))

    def _is_there(self, vault: Vault, path: str, sizes: Mapping[str, int]) -> bool:
        with ExitStack() as held:
            try:
                below = held.enter_context(opening.open_storage(path, self._fs, create=False))
                it = opening.read_format(below, path, vault.kind, vault.store_id, write=False)
                if it is None:
                    return False
                storage: Storage = opening.seal_storage(below, path, it, self._fs, write=False)
                return all(storage.size(name) == size for name, size in sizes.items())
            except LifecycleError:
                return False
