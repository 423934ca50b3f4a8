"""Manifests compacted: a checkpoint without what is kept no longer, and older manifests taken away.

A manifest goes only when two checkpoints repeat it, so that the damage of one file never takes away
all that is known. Whoever lists the manifests at any moment finds all that counts: checkpoints come
before what they repeat goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lifecycle_sync.vault.format import object_name, pack_name
from lifecycle_sync.vault.held import VERSION, told
from lifecycle_sync.vault.index_live import Lines
from lifecycle_sync.vault.passing import OBJECT, PACK, PRUNED, Facts, Passing, pack_of, parts_of

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

# Before every time there is.
_NEVER = -(2**64)
# For so long it is remembered which versions were pruned, for databases that were rolled back.
_REMEMBERED_NS = 400 * 24 * 3600 * 10**9


class _At(msgspec.Struct):
    at: int = 0


_at = msgspec.json.Decoder(_At).decode


class Known(NamedTuple):
    """What is known of lines beforehand: of which all versions that they tell of are kept, or none;
    what frames say beside their versions, and which packs and objects (SHA-256) have something that
    is needed, and may come back, though they are condemned and not there."""

    stay: Mapping[Lines, bool]
    frames: Mapping[Lines, Facts]
    awaited: Set[bytes]


def compact(vault: Vault, now_ns: int, known: Known, written: Callable[[str], None]) -> int:
    """Write such a checkpoint, and take away what two repeat by now; how many manifests that were.
    `written` is told the name of the checkpoint before."""
    choosing = _Choosing(vault, now_ns, known)
    passing = choosing.passing(known.frames)
    written(vault.catalogue.write_checkpoint(choosing.choose, passing))
    superseded = vault.catalogue.superseded()
    vault.catalogue.remove(superseded)
    return len(superseded)


class _Choosing:
    def __init__(self, vault: Vault, now_ns: int, known: Known) -> None:
        self._vault = vault
        self._stay = known.stay
        self._awaited = known.awaited
        self._now_ns = now_ns
        # What was condemned, and whether it has gone.
        self._gone: dict[bytes, bool] = {}

    def choose(self, name: str, number: int, lines: list[bytes]) -> list[bytes]:
        """Of a batch of lines of a manifest those that say something that still counts."""
        stay = self._stay.get((name, number))
        if stay is not None:
            # What was kept no longer then is kept no longer now; what is pruned later goes later.
            return [
                line for line in lines if (stay if line.startswith(VERSION) else self._counts(line))
            ]
        versions = told(lines)
        until = self._vault.index.pruned_at([it[0] for it in versions if it is not None])
        return [
            line
            for line, it in zip(lines, versions, strict=True)
            if (self._counts(line) if it is None else it[1] > until.get(it[0], _NEVER))
        ]

    def passing(self, frames: Mapping[Lines, Facts]) -> dict[str, dict[int, Passing]]:
        """Of these frames those of which every line would be chosen, or of those of versions and
        places none, by manifest."""
        found: dict[str, dict[int, Passing]] = {}
        for (name, number), it in frames.items():
            stays = self._stay.get((name, number))
            gone = {self._has_gone(sha256, pack_name) for sha256 in it.packs}
            gone |= {self._has_gone(sha256, object_name) for sha256 in it.objects}
            if (stays is True and True not in gone) or (stays is False and False not in gone):
                found.setdefault(name, {})[number] = Passing(it.inner, stays, it.lines)
        return found

    def _counts(self, raw: bytes) -> bool:
        if raw.startswith(PACK):
            return not self._has_gone(pack_of(raw), pack_name)
        if raw.startswith(OBJECT):
            return not any(self._has_gone(name, object_name) for name in parts_of(raw))
        if raw.startswith(PRUNED):
            return _at(raw).at > self._now_ns - _REMEMBERED_NS
        return True

    def _has_gone(self, sha256: bytes, name_of: Callable[[bytes], str]) -> bool:
        if sha256 in self._awaited:
            return False
        gone = self._gone.get(sha256)
        if gone is None:
            condemned = self._vault.index.are_condemned([sha256])
            gone = bool(condemned) and self._vault.storage.size(name_of(sha256)) is None
            self._gone[sha256] = gone
        return gone
