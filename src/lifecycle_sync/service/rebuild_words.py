"""What a rebuild could not make again, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lifecycle_sync.registry.salvage import Salvage, TableSalvage

# What the rows of a table are to a person, and what follows from their loss.
_ROWS = {
    "policies": ("policies", "the shipped ones are there as they came"),
    "commits": ("times of changes", "those of the records near them stand for them"),
    "repositories": ("roots", "those with a marker keep their id when they are named"),
    "directories": ("folders", "the records of the files in them are lost with them"),
    "files": ("records of files", "their files get new ids, and their history begins anew"),
    "provisional_moves": ("unconfirmed renames", "they count as confirmed"),
    "runs": ("past runs", ""),
    "operations": ("entries of the journal", "the vaults tell of acts that were completed"),
    "act_runs": ("past runs of acts", ""),
    "locations": ("places of versions", "the vaults know where they lie"),
    "versions": ("entries of versions", ""),
    "holds": ("holds", "set them again"),
    "confirmations": ("confirmations", "the guards ask again"),
    "policy_changes": ("times of changes of policies", ""),
    "assignments": ("policies chosen for files", ""),
}


_IDS = "ids and history of files"
_STATES = "states, claims, holds, and policies that were chosen for single files"
_ENFORCED = "which roots were enforced: all of them only advise until they are enforced again"


def all_lost(why: str) -> tuple[str, ...]:
    """What is lost where nothing of the old database could be used; `why` says why."""
    return (
        f"{_IDS}: {why}",
        _STATES,
        "registrations by name outside every root, and orders not to follow a file",
        _ENFORCED,
        "of the journal what no vault tells of, and past runs",
    )


def but_for_the_vault(lost: Iterable[str]) -> Iterator[str]:
    """The same, where the backup vault was read whole: it tells of much of that."""
    for line in lost:
        if line.startswith(_IDS):
            yield line.replace(_IDS, f"{_IDS} that no vault tells of", 1)
        elif line == _STATES:
            yield "claims"
        elif line != _ENFORCED:
            yield line


def lost_of(found: Salvage) -> tuple[str, ...]:
    """What is lost of a database that could be read in part; empty when nothing is."""
    lost = []
    for table, (rows, effect) in _ROWS.items():
        fate = found.tables[table]
        if not fate.whole:
            lost.append(f"{_count(fate)} {rows}" + (f": {effect}" if effect else ""))
    return tuple(lost)


def _count(fate: TableSalvage) -> str:
    if fate.lost is None:
        return "an unknown number of"
    total = fate.lost + fate.refused
    return f"up to {total:,}" if fate.lost else f"{total:,}"
