"""Looking for damage: every file against the SHA-256 that names it, every claim against the files.

What is found is set down, never mended. Contents found damaged are forgotten by the index, so that
a backup which still has them stores them anew. The index remembers when each file was last read and
whole: what was read the longest ago comes first, so that one who is cut off goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault.contents import names_of
from lifecycle_sync.vault.examination import HERE, Examination
from lifecycle_sync.vault.findings import Finding, Problem, VerifyReport
from lifecycle_sync.vault.format import (
    FORMAT_NAME,
    MANIFESTS,
    OBJECTS,
    PACKS,
    QUARANTINE,
    RESTORE_NAME,
    SUMS_NAME,
    UPLOAD_FOLDERS,
)
from lifecycle_sync.vault.hashing import hash_file
from lifecycle_sync.vault.verify_front import check_front
from lifecycle_sync.vault.verify_manifests import check_manifests
from lifecycle_sync.vault.verify_sample import hash_stored
from lifecycle_sync.vault.verify_stored import check_objects, check_packs

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

__all__ = ["Finding", "Problem", "VerifyReport", "verify"]

_LOOKS_MAX = 10
_FRONT = (FORMAT_NAME, RESTORE_NAME, SUMS_NAME)


def verify(
    vault: Vault,
    *,
    contents: bool = False,
    share: float = 0.0,
    before_ns: int | None = None,
    pace: Callable[[int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> VerifyReport:
    """See `Vault.verify`."""
    look = Examination(vault, contents=contents, progress=progress, cancel=cancel)
    report = look.report
    # What was damaged when the vault was opened may have been mended since.
    vault.catalogue.damaged.clear()
    vault.refresh()
    cut_off = True
    try:
        _examine(look)
        look_again(look)
        vault.index.forget_unmet(HERE, look.round_ns)
        report.quarantined = [f"{QUARANTINE}/{it}" for it in look.set_aside]
        report.litter = vault.storage.litter(UPLOAD_FOLDERS)
        if share and not contents:
            hash_stored(look, share, before_ns, pace)
        cut_off = False
    finally:
        # What was found by one who is cut off is found.
        _look_elsewhere(look, cut_off=cut_off)
    if look.gone and not look.lacks:
        # Manifests that could not be read are asked by the next one anyway.
        vault.index.note_gone(look.gone)
    return report


def _look_elsewhere(look: Examination, *, cut_off: bool) -> None:
    """Let what is lost count where it is whole, be it in a file of which other bytes are damaged;
    the rest is forgotten, to be stored anew."""
    damaged: dict[str, bool] = {}
    lost = [
        key
        for it in look.report.findings
        for key in it.lost
        if _is_looked_for(look.vault, it, key, damaged)
    ]
    left = set(lost)
    try:
        for key in () if cut_off else lost:
            counts = look.vault.index.place(key)
            if look.probe.is_whole(key, counts) or look.probe.turn(key):
                left.discard(key)
                look.report.elsewhere.add(key)
    finally:
        if left:
            look.vault.index.forget(left)


def _is_looked_for(vault: Vault, it: Finding, key: ContentKey, damaged: dict[str, bool]) -> bool:
    """Whether a lost content has not been healed meanwhile by somebody else: the same file, or by
    one elsewhere that the index knows of. `damaged` says of which files it is known by now."""
    place = vault.index.place(key)
    if place is None or not it.subject.startswith((f"{PACKS}/", f"{OBJECTS}/")):
        return True
    here = it.subject in names_of(place)
    if not here or it.problem is Problem.CONTRADICTORY:
        return here
    if it.subject not in damaged:
        damaged[it.subject] = bool(hash_file(vault.storage, it.subject).fault)
    return damaged[it.subject]


def _examine(look: Examination) -> None:
    check_front(look)
    check_manifests(look)
    check_packs(look)
    check_objects(look)


def look_again(look: Examination) -> None:
    """Leave out what only looked like damage, because a prune deleted it, and told so, while this
    went over the rest: what is missing or contradictory is so twice in turn."""
    report, vault = look.report, look.vault
    doubtful = {it for it in report.findings if _may_have_gone(look, it)}
    for _ in range(_LOOKS_MAX):
        if not doubtful:
            return
        vault.catalogue.damaged.clear()
        vault.refresh()
        again = Examination(vault, contents=False, round_ns=look.round_ns, cancel=look.cancel)
        _examine(again)
        look.lacks |= again.lacks
        certain = [it for it in report.findings if it not in doubtful]
        seen = {it.subject for it in certain}
        more = [it for it in again.report.findings if it.subject not in seen]
        report.findings = certain + more
        before, doubtful = doubtful, {it for it in more if _may_have_gone(look, it)}
        if doubtful == before:
            return


def _may_have_gone(look: Examination, it: Finding) -> bool:
    if it.problem is Problem.CONTRADICTORY:
        return it.subject.startswith(f"{MANIFESTS}/")
    if it.problem is Problem.MISSING or it.subject in _FRONT:
        return True
    # Read when it had just been deleted.
    return look.storage.size(it.subject) is None
