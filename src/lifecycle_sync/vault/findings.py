"""What an examination of a vault finds: pieces of damage, and what is no damage."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lifecycle_sync.model.content import ContentKey


class Problem(StrEnum):
    DAMAGED = "damaged"  # other bytes than there should be
    MISSING = "missing"
    UNREADABLE = "unreadable"  # the storage gave an error
    CONTRADICTORY = "contradictory"  # what it says cannot be right


class Finding(NamedTuple):
    """One piece of damage: which file of the vault (or content, or manifest), and what is wrong.

    `lost` are the contents that cannot be read because of it.
    """

    problem: Problem
    subject: str
    detail: str
    lost: tuple[ContentKey, ...] = ()


@dataclass(slots=True)
class VerifyReport:
    """What `verify` saw. `condemned` are files that wait to be deleted, `unreferenced` files that
    no manifest tells of (of sessions that were never committed, or of manifests that are lost),
    `foreign` what is not the vault's, `litter` temporary files, `quarantined` what was found
    damaged and set aside; none of these is damage. `elsewhere` are lost contents that are whole in
    another place, or in spite of the damage. `versions` that are kept, as all manifests together
    tell. `unknown` counts events of a newer program. `hashed`
    files, of so many bytes, were read whole and compared with their names."""

    findings: list[Finding] = field(default_factory=list)
    condemned: list[str] = field(default_factory=list)
    unreferenced: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    elsewhere: set[ContentKey] = field(default_factory=set)
    manifests: int = 0
    versions: int = 0
    unknown: int = 0
    files: int = 0
    bytes: int = 0
    contents_read: int = 0
    hashed: int = 0
    hashed_bytes: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings
