"""A vault copied to a second place, and mended from there.

All files of a vault are named by the SHA-256 of their bytes and never change, so a copy is of those
that are not there yet; it can be cut off anywhere and goes on. Manifests go last, in order, so that
at any moment the copy is a whole vault: as the first one was when the last of them was written.

Of what was set aside as damaged only manifests go along: by them the copy knows, as the vault does,
that nobody looks for them any more. What packs and objects had lies elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import StorageError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.copy_choice import CopyChoice
from lifecycle_sync.vault.format import (
    MANIFESTS,
    OBJECTS,
    PACKS,
    QUARANTINE,
    manifest_path,
    split_manifest_name,
)
from lifecycle_sync.vault.hashing import digest_named, hash_files
from lifecycle_sync.vault.salvage import stored_files

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault


@dataclass
class CopyReport:
    """What a copy came to: files (and bytes) copied, of them `replaced` were there and were not
    what they should be; `there` were whole already, and `left_out` need not be there. `damaged`
    cannot be copied: the name of each, and why."""

    copied: int = 0
    bytes: int = 0
    replaced: int = 0
    there: int = 0
    left_out: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)


def copy_files(
    source: Storage,
    target: Storage | None,
    *,
    check: bool,
    dry_run: bool = False,
    choice: CopyChoice | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> CopyReport:
    """Bring all packs, objects and manifests of `source` into `target`, a vault of the same store.

    With `check` what is there is read, too, and replaced where it is damaged; without, its size has
    to be right. What is not there and `choice` leaves out is not brought. `target` is None where a
    dry run found nothing. Raises what concerns the target as a whole (full, read-only), and
    `CancelledError`; what was copied by then stays.
    """
    report = CopyReport()
    for name, sha256 in _files(source):
        if cancel is not None:
            cancel.check()
        size = source.size(name)
        if size is None or (target is not None and sha256 is None and _is_known(target, name)):
            # Taken away since it was listed; or set aside there, too, or whole there still.
            continue
        there = None if target is None else target.size(name)
        if there is None and choice is not None and _leaves_out(choice, name):
            report.left_out += 1
            size = 0
        elif target is not None and there == size and _is_right(target, name, sha256, check=check):
            report.there += 1
            size = 0
        elif dry_run or target is None or _copy(source, target, name, sha256, report):
            report.copied += 1
            report.bytes += size
            report.replaced += there is not None
        if progress is not None:
            progress(1, size)
    return report


@dataclass
class CopyCheck:
    """What a look at a copy saw. `behind` are files that are not there yet, `left_out` such as need
    not be; `damaged` are not what
    they should be: the name of each, and why. `hashed` were read whole, so many `bytes`."""

    files: int = 0
    hashed: int = 0
    bytes: int = 0
    behind: int = 0
    left_out: int = 0
    mended: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)


def _leaves_out(choice: CopyChoice, name: str) -> bool:
    # All manifests go everywhere: a copy knows of all versions, wherever their contents are.
    return not name.startswith((MANIFESTS, QUARANTINE)) and choice.leaves_out(name)


def check_copy(
    vault: Vault,
    copy: Storage,
    place: str,
    *,
    share: float,
    before_ns: int | None = None,
    mend: bool = False,
    choice: CopyChoice | None = None,
    pace: Callable[[int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> CopyCheck:
    """Compare a copy, known as `place`, with what `Vault.verify` has just met in the vault, and
    read a `share` of its bytes as that does. With `mend` what is damaged is written anew from the
    vault, where that has it whole. Raises `CancelledError`; what was read by then counts."""
    index, round_ns = vault.index, vault.now_ns()
    before = round_ns if before_ns is None else min(before_ns, round_ns)
    index.meet_as(place, "", round_ns)
    report = CopyCheck()
    left = share * index.check_totals(place).bytes if share < 1 else float("inf")
    for page in index.to_check(place, round_ns):
        wanted = []
        for name, size in page:
            there = copy.size(name)
            if there is None and choice is not None and _leaves_out(choice, name):
                report.left_out += 1
                index.forget_met(place, [name])
                continue
            report.files += 1
            if there is None:
                report.behind += 1
            elif there != size:
                report.damaged.append((name, f"has {there} bytes, not {size}"))
            elif left > 0 and index.checked_ns(place, [name]).get(name, 0) < before:
                left -= size
                wanted.append(name)
                continue
            else:
                continue
            index.note_checked(place, [name], 0)
        for it in hash_files(copy, wanted, pace=pace, cancel=cancel):
            report.hashed += 1
            report.bytes += it.size
            if it.fault:
                report.damaged.append((it.name, it.fault))
            index.note_checked(place, [it.name], 0 if it.fault else vault.now_ns())
            if progress is not None:
                progress(1, it.size)
    if mend:
        found = CopyReport()
        for name, _ in report.damaged:
            sha256 = digest_named(name)
            if sha256 is not None and _copy(vault.storage, copy, name, sha256, found):
                report.mended += 1
    return report


def _files(source: Storage) -> Iterator[tuple[str, bytes | None]]:
    """What is to be brought, and its SHA-256; of what is damaged there is none to be had."""
    # Listed first: whatever these speak of lies in the folders that are listed after them.
    manifests = [
        (number, name, sha256)
        for name in source.names(MANIFESTS)
        for number, sha256 in [split_manifest_name(name) or (0, b"")]
        if sha256
    ]
    for folder in (PACKS, OBJECTS):
        for name, sha256 in stored_files(source, folder):
            if sha256 is not None:
                yield name, sha256
    for _, name, sha256 in sorted(manifests):
        yield f"{MANIFESTS}/{name}", sha256
    # Nobody may take it for dealt with before what was told anew of it is there.
    there = {name for _, name, _ in manifests}
    for name in sorted(source.names(QUARANTINE)):
        if split_manifest_name(name) is not None and name not in there:
            yield f"{QUARANTINE}/{name}", None


def _is_known(target: Storage, aside: str) -> bool:
    """Whether a vault has a manifest that another one has set aside."""
    whole = manifest_path(aside.rpartition("/")[2])
    return target.size(aside) is not None or target.size(whole) is not None


def _copy(
    source: Storage, target: Storage, name: str, sha256: bytes | None, report: CopyReport
) -> bool:
    upload = target.upload(name.partition("/")[0])
    try:
        digest = hashlib.sha256()
        pieces = source.pieces(name)
        while True:
            try:
                piece = next(pieces, None)
            except StorageError as error:
                if sha256 is None:
                    # It was damaged before; that it was set aside is what has to be known.
                    break
                report.damaged.append((name, error.cause))
                return False
            if piece is None:
                break
            digest.update(piece)
            upload.write(piece)
        if sha256 is not None and digest.digest() != sha256:
            report.damaged.append((name, "is not what its name says"))
            return False
        upload.publish(name, digest.digest(), replace=True)
    finally:
        upload.discard()
    return True


def _is_right(storage: Storage, name: str, sha256: bytes | None, *, check: bool) -> bool:
    if not check or sha256 is None:
        return True
    digest = hashlib.sha256()
    try:
        for piece in storage.pieces(name):
            digest.update(piece)
    except StorageError:
        # A sector that cannot be read: it is written anew.
        return False
    return digest.digest() == sha256
