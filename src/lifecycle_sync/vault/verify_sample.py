"""Packs and objects read whole, what was read the longest ago first: all of them, or a share.

Bytes against names alone, in threads: what such a file holds is looked at only where it is not what
its name says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lifecycle_sync.vault.examination import HERE, Examination
from lifecycle_sync.vault.findings import Problem
from lifecycle_sync.vault.format import MANIFESTS, PACKS
from lifecycle_sync.vault.hashing import digest_named, hash_files
from lifecycle_sync.vault.verify_stored import check_pack

# So many files are read between two notes of it.
_NOTED = 64


def hash_stored(
    look: Examination, share: float, before_ns: int | None, pace: Callable[[int], None] | None
) -> None:
    """Read packs and objects whole, what was read the longest ago first, until that is the
    wanted share of their bytes."""
    index = look.vault.index
    before = look.round_ns if before_ns is None else min(before_ns, look.round_ns)
    left = share * index.check_totals(HERE).bytes if share < 1 else float("inf")
    sizes: dict[str, int] = {}

    def wanted() -> Iterator[str]:
        nonlocal left
        for page in index.to_check(HERE, before):
            for name, size in page:
                if left <= 0:
                    return
                if name in look.bad or name.startswith(MANIFESTS):
                    continue
                if look.is_quarantined(name) and look.storage.size(name) is None:
                    # What it held was stored anew, or was said to be lost.
                    continue
                left -= size
                sizes[name] = size
                yield name

    whole: list[str] = []
    read = 0
    try:
        for it in hash_files(look.storage, wanted(), pace=pace, cancel=look.cancel):
            size = sizes.pop(it.name)
            if it.fault:
                _explain(look, it.name, size, it.fault, unreadable=it.error)
            else:
                look.report.hashed += 1
                look.report.hashed_bytes += it.size
                whole.append(it.name)
            if len(whole) >= _NOTED:
                index.note_checked(HERE, whole, look.vault.now_ns())
                whole.clear()
            read += it.size
            if look.progress is not None:
                look.progress(look.report.files, look.report.bytes + read)
    finally:
        index.note_checked(HERE, whole, look.vault.now_ns())


def _explain(look: Examination, name: str, size: int, fault: str, *, unreadable: bool) -> None:
    """What is lost by a file that is not what its name says."""
    sha256 = digest_named(name)
    assert sha256 is not None, "only such files are met"
    if unreadable:
        look.found(Problem.UNREADABLE, name, fault)
        return
    if name.startswith(PACKS):
        place = look.vault.index.pack_number(sha256)
        if place is not None:
            check_pack(look, place, name, sha256)
            return
    lost = look.vault.index.keys_of_part(sha256)
    look.found(Problem.DAMAGED, name, f"{fault} ({size} bytes)", tuple(lost))
