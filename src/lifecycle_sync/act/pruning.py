"""Takes versions out of the backup vault that no rule keeps any more.

intent -> the vault is told, the commit point -> the registry forgets -> outcome. What the versions
held is deleted later, and only by who has read all that the vault tells: see `vault/prune.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from lifecycle_sync.act.site import SKIPPED, Done, Site, begin
from lifecycle_sync.model.act import Intent
from lifecycle_sync.model.plan import Unkept
from lifecycle_sync.vault.prune import withdraw

_REASON = "no rule keeps it"


class Withdrawn(NamedTuple):
    """What came of some files: how many were done, of how many versions, with how many bytes; and
    those that were left as they are, each with the reason."""

    files: int
    versions: int
    size: int
    left: list[tuple[Unkept, Done]]


class _Details(msgspec.Struct):
    """What the journal says of a file."""

    versions: list[int]
    bytes: int
    rule: str
    reason: str


_encode = msgspec.json.Encoder().encode


def prune_versions(site: Site, files: Sequence[Unkept]) -> Withdrawn:
    """Keep these versions no longer; those of a file that somebody holds stay."""
    vault = site.vaults.backup()
    intents = [
        Intent(operation_id, it.file_id, "prune", _details(it))
        for operation_id, it in zip(site.ids.take(len(files)), files, strict=True)
    ]
    refused = begin(site, intents, unless_held=True)
    left = []
    if refused:
        by_id = {it.file_id: it for it in files}
        for intent in intents:
            if intent.operation_id in refused:
                it = by_id.pop(intent.file_id)
                reason = refused[intent.operation_id]
                left.append((it, Done(it.file_id, it.path, SKIPPED, reason, it.size)))
        files = list(by_id.values())
    going = [version.version_id for it in files for version in it.versions]
    if not going:
        return Withdrawn(0, 0, 0, left)
    newest_ns = max([version.kept_ns for it in files for version in it.versions])
    at_ns = max(site.now_ns(), newest_ns)
    manifest = withdraw(vault, going, at_ns, _REASON)
    site.registry.drop_versions(
        [(it.file_id, version.version_id) for it in files for version in it.versions], at_ns
    )
    site.registry.complete_operations(
        site.act, site.now_ns(), manifests=[(vault.store_id, manifest)]
    )
    size = sum([it.size for it in files])
    site.told.advance(len(files), size)
    return Withdrawn(len(files), len(going), size, left)


def _details(it: Unkept) -> str:
    numbers = [version.number for version in it.versions]
    return _encode(_Details(numbers, it.size, it.policy_name, it.reason)).decode()
