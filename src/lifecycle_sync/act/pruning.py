"""Takes versions out of the backup vault that no rule keeps any more.

intent -> the vault is told, the commit point -> the registry forgets -> outcome. What the versions
held is deleted later, and only by who has read all that the vault tells: see `vault/prune.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lifecycle_sync.act.site import COMPLETED, Done, Results, Site, intend
from lifecycle_sync.model.act import ActFile, ActOutcome
from lifecycle_sync.model.plan import Beyond
from lifecycle_sync.vault.prune import withdraw

_REASON = "no rule keeps it"


class Pruned(NamedTuple):
    """A file, and those of its versions that go."""

    file: ActFile
    versions: Sequence[Beyond]


def prune_versions(site: Site, pruned: Sequence[Pruned]) -> list[Done]:
    """Keep these versions no longer; those of a file that somebody holds stay. The size of what is
    done is that of the versions."""
    vault = site.vaults.backup()
    of = {it.file.file_id: it.versions for it in pruned}

    def details(file: ActFile) -> dict[str, object]:
        first = of[file.file_id][0]
        return {
            "versions": [it.number for it in of[file.file_id]],
            "bytes": sum(it.size for it in of[file.file_id]),
            "rule": first.policy_name,
            "reason": first.reason,
        }

    files = [it.file for it in pruned]
    ordered = intend(site, "prune", files, unless_held=True, details=details)
    results = Results(ordered.refused)
    going = [it for _, file in ordered.files for it in of[file.file_id]]
    if not going:
        return results.finish(site, [])
    at_ns = max(site.now_ns(), *(it.kept_ns for it in going))
    manifest = withdraw(vault, [it.version_id for it in going], at_ns, _REASON)
    site.registry.drop_versions([(it.file_id, it.version_id) for it in going], at_ns)
    for operation_id, file in ordered.files:
        size = sum(it.size for it in of[file.file_id])
        results.add(file._replace(size=size), ActOutcome(operation_id, COMPLETED))
        site.told.advance(1, size)
    return results.finish(site, [(vault.store_id, manifest)])
