"""Damage in a vault healed: from copies of it, and with contents that are whole elsewhere.

A file found damaged is set aside into quarantine/, by one rename, and never deleted. Before that
whatever can be had of it lies in the vault anew and is committed: first the same file from a copy,
byte for byte; else, content by content, what is whole in it still, and what somebody else has. So
who is cut off anywhere leaves the damage as it was, or less of it, and may begin again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import (
    LifecycleError,
    StorageError,
    StorageMissingError,
    VaultCorruptError,
    VaultKeyError,
)
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.storage.protocol import Storage, Upload
from lifecycle_sync.vault.copying_out import put_again
from lifecycle_sync.vault.findings import Finding, Problem
from lifecycle_sync.vault.format import MANIFESTS, OBJECTS, PACKS, SMALL_SIZE_MAX
from lifecycle_sync.vault.frames import FrameError, key_of, unpack_frame
from lifecycle_sync.vault.hashing import Hashed, digest_named, hash_file
from lifecycle_sync.vault.index import key_blob, key_of_blob
from lifecycle_sync.vault.quarantine import keep_aside, set_aside
from lifecycle_sync.vault.salvage import find_lost, salvage_manifest, whole_members
from lifecycle_sync.vault.sealing import SealedStorage

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault, VaultWriter

_log = logging.getLogger("lifecycle_sync.vault")


class Contents(Protocol):
    """Somebody who may have contents that a vault has lost."""

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        """The content in pieces, which are compared with the key; None where it is not there.
        Raises `LifecycleError`, `OSError`."""
        ...


class Source(NamedTuple):
    """Where something may be healed from, and what it is called."""

    name: str
    contents: Contents


class Copy(NamedTuple):
    """A copy of the vault: its storage, and the folder that it lies in."""

    name: str
    storage: Storage


class Healed(NamedTuple):
    """One file of the vault, or some contents of one, and where they were had from."""

    subject: str
    source: str
    contents: int


@dataclass
class HealReport:
    """What healing came to. `quarantined` are the files that were set aside, under their new names;
    `lost` the contents that nobody has; `untold` counts lines of manifests that nobody tells any
    more; `failed` are files that could not be dealt with, and why."""

    healed: list[Healed] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    lost: list[ContentKey] = field(default_factory=list)
    untold: dict[str, int] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def join(self, later: HealReport) -> None:
        """Add what came of what was found after this."""
        self.healed += later.healed
        self.quarantined += later.quarantined
        self.lost = list(dict.fromkeys((*self.lost, *later.lost)))
        self.untold |= later.untold
        self.failed = list(dict.fromkeys((*self.failed, *later.failed)))


def heal(
    vault: Vault,
    findings: Sequence[Finding],
    *,
    copies: Sequence[Copy] = (),
    away: Sequence[str] = (),
    sources: Sequence[Source] = (),
    retell: Callable[[Sequence[str]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> HealReport:
    """Heal what `Vault.verify` found just now. Of copies that are `away` nobody can tell what they
    have. `retell` is called before manifests go, with their names: who knows what they told may
    tell it again. Raises what concerns the vault as a whole (full, read-only), and
    `CancelledError`; what was healed by then stays."""
    healing = _Healing(
        vault, copies, sources, away=away, retell=retell, progress=progress, cancel=cancel
    )
    return healing.run(findings)


class _Healing:
    def __init__(
        self,
        vault: Vault,
        copies: Sequence[Copy],
        sources: Sequence[Source],
        *,
        away: Sequence[str],
        retell: Callable[[Sequence[str]], None] | None,
        progress: Callable[[int, int], None] | None,
        cancel: CancelToken | None,
    ) -> None:
        self._vault = vault
        self._storage = vault.storage
        self._copies = copies
        self._away = away
        self._sources = sources
        self._retell = retell
        self._progress = progress
        self._cancel = cancel
        self._report = HealReport()
        # Why the last file was not had from a copy that may have it.
        self._unread = ""
        # Whether files came back as they were, so that what was forgotten is to be known again.
        self._anew = False
        # Manifests that nobody has. They go last: whoever is cut off before finds them again.
        self._gone: list[str] = []

    def run(self, findings: Sequence[Finding]) -> HealReport:
        by_file: dict[str, list[Finding]] = {}
        for finding in findings:
            by_file.setdefault(finding.subject, []).append(finding)

        def turn(name: str) -> tuple[bool, bool, str]:
            # Manifests first: what they place, the others may be healed with. What asks for
            # contents that are not there comes last: they may have come back by then.
            claims = all(it.problem is Problem.CONTRADICTORY for it in by_file[name])
            return claims, not name.startswith(MANIFESTS), name

        for name in sorted(by_file, key=turn):
            if self._cancel is not None:
                self._cancel.check()
            if digest_named(name) is not None:
                # FORMAT and the like were written anew before: see `front.py`.
                self._heal_file(name, by_file[name])
            if self._progress is not None:
                self._progress(1, 0)
        if self._anew:
            self._vault.index.clear()
            self._vault.refresh()
        if self._gone:
            if self._retell is not None:
                self._retell(self._gone)
            for name in self._gone:
                self._set_aside(name)
            self._vault.refresh()
        lost = {key for finding in findings for key in finding.lost}
        self._report.lost = [key for key in lost if not self._gives(key)]
        # Wherever they lie, they are not whole there.
        self._vault.index.forget(self._report.lost)
        return self._report

    def _heal_file(self, name: str, findings: Sequence[Finding]) -> None:
        lost = tuple(dict.fromkeys(key for finding in findings for key in finding.lost))
        now = hash_file(self._storage, name, cancel=self._cancel)
        if not now.fault:
            # Its bytes are right, and were perhaps read wrong before; or a manifest asks for a
            # content that is not, or not where it says.
            self._vault.index.clear()
            self._vault.refresh()
            if name.rpartition("/")[2] in self._vault.catalogue.damaged:
                self._report.failed.append((name, "is no manifest of this vault: move it away"))
            self._restore_contents(name, [key for key in lost if not self._gives(key)], {})
        elif self._from_copy(name, lost):
            self._anew = True
        elif name.startswith(MANIFESTS):
            if self._unread:
                # It may be whole there, and nothing else tells all that it told: another time.
                self._report.failed.append((name, self._unread))
            else:
                self._heal_manifest(name, missing=now.missing)
        else:
            self._heal_stored(name, lost, now)

    def _heal_stored(self, name: str, lost: tuple[ContentKey, ...], now: Hashed) -> None:
        """A pack, or a part of an object, that no copy has."""
        known = self._contents_of(name)
        # What is looked for elsewhere and is not whole there may be whole here.
        beside = map(key_of_blob, self._vault.index.blobs_beside(_sha256(name)))
        missed = (key for key in beside if not self._gives(key))
        wanted = dict.fromkeys((*(known if now.error else lost), *missed))
        try:
            kept = {} if now.missing else self._whole_members(name)
        except VaultKeyError as error:
            # What is whole in it nobody can tell without: it stays where it is.
            self._report.failed.append((name, error.cause))
            self._restore_contents(name, wanted, {})
            return
        self._restore_contents(name, wanted, kept)
        if not hash_file(self._storage, name).fault:
            # The very same bytes stand there again.
            return
        if self._unread and not (known and all(map(self._gives, known))):
            # It stays: a copy may have it whole, and where the manifest that names it is damaged,
            # too, nobody would find it missing.
            self._report.failed.append((name, self._unread))
        elif now.error and self._contents_of(name):
            # Perhaps it can be read again one day: it stays, while anything is only there.
            self._report.failed.append((name, now.fault))
        else:
            self._set_aside(name)

    def _contents_of(self, name: str) -> list[ContentKey]:
        """The contents that are looked for in a file."""
        sha256, index = _sha256(name), self._vault.index
        if not name.startswith(PACKS):
            return index.keys_of_part(sha256)
        place = index.pack_number(sha256)
        return [] if place is None else [member.key for member in index.members(place)]

    def _gives(self, key: ContentKey) -> bool:
        """Whether the vault has a content and gives it whole."""
        try:
            self._vault.check(key)
        except (LifecycleError, FrameError):
            return False
        return True

    def _is_relied_on(self, key: ContentKey) -> bool:
        """Whether the vault gives it whole, and not from what is condemned."""
        return bool(self._vault.contains([key])) and self._gives(key)

    # -- whole files -----------------------------------------------------------------------

    def _from_copy(self, name: str, lost: tuple[ContentKey, ...]) -> bool:
        sha256 = _sha256(name)
        self._unread = ""
        if self._away:
            self._unread = f"may be whole in the copy {self._away[0]}, which cannot be used now"
        for copy in self._copies:
            upload = self._storage.upload(name.partition("/")[0])
            try:
                try:
                    if not _fetch(copy, name, sha256, upload):
                        continue
                except _UnreadError as error:
                    self._unread = f"the copy in {copy.name} cannot be read: {error}"
                    continue
                to = keep_aside(self._storage, name)
                if to:
                    self._report.quarantined.append(to)
                upload.publish(name, sha256)
            finally:
                upload.discard()
            self._report.healed.append(Healed(name, copy.name, len(lost)))
            return True
        return False

    def _set_aside(self, name: str) -> None:
        to = set_aside(self._storage, name)
        if to:
            self._report.quarantined.append(to)

    # -- contents --------------------------------------------------------------------------

    def _whole_members(self, name: str) -> dict[ContentKey, bytes]:
        """What is still right in a damaged pack."""
        sha256 = digest_named(name)
        index = self._vault.index
        if sha256 is None or not name.startswith(PACKS):
            return {}
        place = index.pack_number(sha256)
        if place is None or isinstance(self._storage, SealedStorage):
            return self._own_members(name, place)
        found = {}
        for key, offset, stored, size in index.members(place):
            try:
                # One by one: a sector that cannot be read loses what lies in it alone.
                content = unpack_frame(self._storage.read(name, offset, stored), size)
            except (FrameError, StorageError):
                content = b""
            if key_of(key.algorithm, content).digest == key.digest:
                found[key] = content
        return found

    def _own_members(self, name: str, place: int | None) -> dict[ContentKey, bytes]:
        """The same by what they say themselves, where no manifest tells of the pack, perhaps
        because that one is damaged, too; or where it is encrypted, and was forgotten as a whole."""
        try:
            found = whole_members(self._storage, name)
        except (FrameError, StorageError):
            return {}
        places = self._vault.index.places([key_blob(key) for key in found])
        # What lies elsewhere, and is whole there, is looked for there.
        return {
            key: it
            for key, it in found.items()
            if places.get(key_blob(key), place) == place or not self._gives(key)
        }

    def _restore_contents(
        self, name: str, lost: Iterable[ContentKey], kept: dict[ContentKey, bytes]
    ) -> None:
        """Store anew what is kept, and of what is lost all that somebody has."""
        there = set(self._contents_of(name)) if name.startswith((PACKS, OBJECTS)) else set()
        with self._vault.writer() as writer:
            for key, content in kept.items():
                writer.add(key, content, again=True)
            counts: dict[str, int] = {}
            for key in lost:
                if key in kept or (key not in there and self._is_relied_on(key)):
                    continue
                if put_again(self._vault, writer, [key_blob(key)]):
                    source = restore_from(self._sources, writer, key)
                else:
                    source = "another place in the vault"
                if source:
                    counts[source] = counts.get(source, 0) + 1
            writer.commit([])
        if kept:
            self._report.healed.append(Healed(name, "what was whole in it", len(kept)))
        for source, count in counts.items():
            self._report.healed.append(Healed(name, source, count))

    # -- manifests -------------------------------------------------------------------------

    def _heal_manifest(self, name: str, *, missing: bool) -> None:
        """Tell anew what can be read of it; a checkpoint, or another that repeats it, tells it."""
        leaf = name.rpartition("/")[2]
        # What it told counts no more, though it was read before.
        self._vault.index.clear()
        self._vault.refresh()
        # Nobody waits for it, and whoever said so was cut off before it was set aside.
        given_up = leaf in self._vault.index.given_up()
        if not missing and not given_up:
            try:
                told, untold = salvage_manifest(self._vault, leaf)
            except (VaultCorruptError, VaultKeyError) as error:
                self._report.failed.append((name, error.cause))
                return
            self._report.healed.append(Healed(name, "what could be read of it", told))
            if untold:
                self._report.untold[leaf] = untold
        unread: set[str] = set()
        found = find_lost(self._vault, partly=True, unread=unread)
        if found:
            self._report.healed.append(Healed(name, "what packs and objects say themselves", found))
        for other in sorted(unread):
            # Perhaps it alone told of this one, so that nobody would look into it later.
            if other.startswith(PACKS) and self._vault.has_key:
                self._restore_contents(other, (), self._whole_members(other))
        # All that can be had of it is told by others now.
        self._gone.append(name)


def _sha256(name: str) -> bytes:
    sha256 = digest_named(name)
    assert sha256 is not None, "only such names come here"
    return sha256


def restore_from(sources: Iterable[Source], writer: VaultWriter, key: ContentKey) -> str:
    """Store a content from the first that has it, and who that was; empty where nobody has."""
    for source in sources:
        try:
            pieces = source.contents.read(key)
            if pieces is not None and _store(writer, key, pieces):
                return source.name
        except (LifecycleError, OSError) as error:
            # Not the fault of who was asked, but of the vault itself.
            writer.check()
            _log.info("%s: %s", source.name, error)
    return ""


class _UnreadError(Exception):
    """A copy did not let itself be read."""


def _fetch(copy: Copy, name: str, sha256: bytes, upload: Upload) -> bool:
    """Bring a file of a copy; False where it is not whole there. Raises `_UnreadError` where nobody
    can tell, and as an upload does."""
    digest = hashlib.sha256()
    pieces = copy.storage.pieces(name)
    while True:
        try:
            piece = next(pieces, None)
        except StorageMissingError:
            return False
        except StorageError as error:
            _log.info("%s: %s", copy.name, error)
            raise _UnreadError(error.cause) from error
        if piece is None:
            return digest.digest() == sha256
        digest.update(piece)
        upload.write(piece)


def _store(writer: VaultWriter, key: ContentKey, pieces: Iterator[bytes]) -> bool:
    """Store a content that comes in pieces; False where it is another than its key names."""
    start = b""
    for piece in pieces:
        start += piece
        if len(start) > SMALL_SIZE_MAX:
            break
    if len(start) <= SMALL_SIZE_MAX:
        if key_of(key.algorithm, start).digest != key.digest:
            return False
        return writer.add(key, start, again=True)
    upload = writer.open_object(key.algorithm)
    try:
        upload.write(start)
        for piece in pieces:
            upload.write(piece)
        # Another content is kept under its own name, and does no harm.
        return upload.finish() == key
    except BaseException:
        upload.abort()
        raise
