"""Room on the disks of roots: how full they are, and made where they are too full.

What goes is what lies in a trash and has a copy in a vault, which is read whole before: an undelete
becomes a restore, and no file goes from its place earlier than its policy says. Where that does not
suffice, it says so, with what was wanted and what was freed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.config import Settings
from lifecycle_sync.decide.pressure import Limits, excess, is_emergency
from lifecycle_sync.errors import LifecycleError, StorageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.temp import Usage
from lifecycle_sync.model.trash import TrashBatch, TrashEntry
from lifecycle_sync.registry.protocol import Registry
from lifecycle_sync.service.act_report import Report
from lifecycle_sync.service.acts import Acts
from lifecycle_sync.service.temp.provider import usage_from
from lifecycle_sync.vault.vault import Vault

_log = logging.getLogger(__name__)
_GB = 1 << 30


@dataclass(frozen=True)
class Relief:
    """What making room on the disk of a root came to. `wanted` and `freed` are bytes, `files` went;
    `error` says that it was not enough."""

    repository: Repository
    reason: str
    wanted: int
    freed: int
    files: int
    error: StorageError | None


class Space:
    """How full the disks of roots are."""

    def __init__(self, fs: FileOps, settings: Settings) -> None:
        self._fs = fs
        self.limits = Limits(
            settings.space_high_percent,
            settings.space_low_percent,
            int(settings.min_free_space_gb * _GB),
        )

    def usage(self, repository: Repository) -> Usage:
        """Raises `OSError`."""
        return usage_from(self._fs.statvfs(repository.path))

    def shortage(self, repository: Repository) -> str:
        """Why room is needed on the disk of a root, in words; empty where it is not, or where it
        cannot be asked."""
        try:
            usage = self.usage(repository)
        except OSError:
            return ""
        if not is_emergency(usage, self.limits):
            return ""
        if usage.percent >= self.limits.high:
            return f"its disk is {usage.percent:.1f} % full"
        return f"its disk has {_amount(usage.available_bytes)} free"

    def lacking(self, repository: Repository) -> tuple[int, int]:
        """(bytes, inodes) that have to go. Raises `OSError`."""
        return excess(self.usage(repository), self.limits)


class MakingRoom:
    """Purges what has a verified copy, on one registry."""

    def __init__(self, space: Space, registry: Registry, acts: Acts) -> None:
        self._space = space
        self._registry = registry
        self._acts = acts

    def relieve(self, repository: Repository, cancel: CancelToken | None = None) -> Relief | None:
        """Make room on the disk of a root, if it needs any. Raises `LifecycleError` for what keeps
        anything from being purged: a pause, a root that is not what it was, a vault."""
        reason = self._space.shortage(repository)
        if not reason:
            return None
        wanted, wanted_inodes = self._space.lacking(repository)
        report = self.purge(
            repository,
            enough=lambda: self._space.lacking(repository) == (0, 0),
            reason=reason,
            cancel=cancel,
        )
        left, left_inodes = self._space.lacking(repository)
        error = None
        if left or left_inodes:
            what = f"wanted {_amount(wanted)}, freed {_amount(report.size)}"
            if not wanted:
                what = f"wanted {wanted_inodes:,} files, purged {report.completed:,}"
            error = StorageError(
                f"{reason}, and what the trash has verified copies of did not suffice: {what}",
                operation="make room",
                subject=repository.path,
                remedy="free some, or move something to another disk: no retention is shortened",
            )
        _log.info("%s: %s: purged early: %s", os.fsdecode(repository.path), reason, report.counts())
        return Relief(repository, reason, wanted, report.size, report.completed, error)

    def purge(
        self,
        repository: Repository,
        *,
        enough: Callable[[], bool],
        reason: str,
        cancel: CancelToken | None = None,
    ) -> Report:
        """Purge from the trash of a root what has a verified copy, the oldest first, until it is
        `enough`. Raises as `relieve`."""
        vaults = self._acts.vaults.existing()
        return self._acts.purge_early(
            repository,
            copy=lambda entry: self.copy_of(vaults, entry),
            enough=enough,
            reason=reason,
            cancel=cancel,
        )

    def candidates(self, repository: Repository, now_ns: int) -> Iterator[TrashEntry]:
        """What `purge` would take, one by one: each has a copy that was just read, and no hold."""
        vaults = self._acts.vaults.existing()
        with self._acts.trash(repository) as trash:
            for batch in trash.batches():
                if not isinstance(batch, TrashBatch):
                    continue
                left = trash.left(batch)
                held = self._registry.held([it.file_id for it in left], now_ns)
                for entry in left:
                    if entry.file_id not in held and self.copy_of(vaults, entry):
                        yield entry

    def copy_of(self, vaults: Sequence[Vault], entry: TrashEntry) -> str:
        """Where a copy lies that was just read, and is right; empty where there is none."""
        if entry.checksum is None or entry.fingerprint.kind != Kind.REGULAR:
            return ""
        beyond = {
            version.version_id
            for version in self._registry.kept_versions([entry.file_id]).get(entry.file_id, ())
            if version.beyond_ns is not None
        }
        for row in self._registry.versions(entry.file_id):
            same = row.algorithm == entry.algorithm and row.checksum == entry.checksum
            # What may be pruned any moment is no copy.
            if not same or row.version_id in beyond or row.location is None:
                continue
            for vault in vaults:
                if row.location.startswith(vault.store_id.hex()) and _reads(
                    vault, ContentKey(entry.algorithm, entry.checksum), entry.fingerprint.size
                ):
                    return row.location
        return ""


def _reads(vault: Vault, key: ContentKey, size: int) -> bool:
    """Whether a vault gives a content whole; it compares what it gives with the key. Of one whose
    key is not at hand the stored bytes are compared with their names."""
    try:
        if not vault.has_key:
            vault.check(key)
            return True
        return sum(len(piece) for piece in vault.read(key)) == size
    except (LifecycleError, OSError) as error:
        _log.warning("%s: %s", key, error)
        return False


def _amount(count: int) -> str:
    if count >= _GB:
        return f"{count / _GB:.1f} GB"
    return f"{count / (1 << 20):.1f} MB" if count else "0"
