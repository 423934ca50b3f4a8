"""Packs and objects read whole, what was read the longest ago first: all of them, or a share.

Bytes against names alone, in threads: what such a file holds is looked at only where it is not what
its name says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lifecycle_sync.vault.examination import HERE, Examination
from lifecycle_sync.vault.format import MANIFESTS
from lifecycle_sync.vault.hashing import digest_named, hash_files
from lifecycle_sync.vault.verify_stored import explain

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
                if not (it.missing and _has_gone(look, it.name)):
                    explain(look, it, size)
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


def _has_gone(look: Examination, name: str) -> bool:
    """Whether a file that is missing is one that a prune has deleted, and told so."""
    look.vault.refresh()
    sha256 = digest_named(name)
    return sha256 is not None and bool(look.vault.index.are_condemned([sha256]))
